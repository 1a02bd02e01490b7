// Tensor cores: mma.sync and ldmatrix, with the lane layouts of the PTX manual (sections "Matrix Fragments for mma").
//
// With group g = lane / 4 and t = lane % 4, registers of 32 bits, and R elements a register (1 for tf32, 2 for bf16):
//   A (16 x K)  a0: row g,     columns t*R...           a1: row g + 8, the same columns
//               a2: row g,     columns K/2 + t*R...     a3: row g + 8, the same columns
//   B (K x 8)   b0: rows t*R..., column g               b1: rows K/2 + t*R..., column g
//   D (16 x 8)  d0, d1: row g, columns 2*t, 2*t + 1     d2, d3: row g + 8
// The last lane to arrive gathers the fragments of all lanes, multiplies once, and deals the product out.
#pragma once

#include "async_copy.h"
#include "half_types.h"
#include "shuffles.h"

namespace emulator {

struct Tf32 {
    static constexpr int K = 8, PER_REGISTER = 1;
    static float element(uint32_t word, int) { return same_bits<float>(word & 0xFFFFE000u); }  // the unit drops 13 bits
};

struct Bf16 {
    static constexpr int K = 16, PER_REGISTER = 2;
    static float element(uint32_t word, int i) { return bf16_to_float(static_cast<uint16_t>(word >> (16 * i))); }
};

static inline uint32_t word_of(const Lane& lane, int number) {
    uint32_t word;
    std::memcpy(&word, lane.value + 4 * number, sizeof word);
    return word;
}

template <class Format>
static void complete_mma(Warp& warp, unsigned lanes) {
    if (lanes != 0xffffffffu) EMULATOR_FAIL("mma.sync by a warp of fewer than 32 threads");
    constexpr int K = Format::K, R = Format::PER_REGISTER;
    float a[16][K], b[K][8], d[16][8];
    for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < R; ++i) {
            const int k = t * R + i;
            a[g][k] = Format::element(word_of(warp.lane[lane], 0), i);
            a[g + 8][k] = Format::element(word_of(warp.lane[lane], 1), i);
            a[g][K / 2 + k] = Format::element(word_of(warp.lane[lane], 2), i);
            a[g + 8][K / 2 + k] = Format::element(word_of(warp.lane[lane], 3), i);
            b[k][g] = Format::element(word_of(warp.lane[lane], 4), i);
            b[K / 2 + k][g] = Format::element(word_of(warp.lane[lane], 5), i);
        }
    }
    for (int row = 0; row < 16; ++row) {
        float sum[8] = {};
        for (int k = 0; k < K; ++k)
            for (int column = 0; column < 8; ++column) sum[column] += a[row][k] * b[k][column];
        std::memcpy(d[row], sum, sizeof sum);
    }
    for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = lane % 4;
        const float mine[4] = {d[g][2 * t], d[g][2 * t + 1], d[g + 8][2 * t], d[g + 8][2 * t + 1]};
        std::memcpy(warp.lane[lane].result, mine, sizeof mine);
    }
}

template <class Format>
static inline void mma(float* d, const uint32_t* a, const uint32_t* b, Place place) {
    Lane& lane = my_lane();
    std::memcpy(lane.value, a, 16);
    std::memcpy(lane.value + 16, b, 8);
    warp_meet(0xffffffffu, complete_mma<Format>, place);
    float product[4];
    std::memcpy(product, lane.result, sizeof product);
    for (int i = 0; i < 4; ++i) d[i] += product[i];
}

// d (4 registers) += a (4) @ b (2)
static inline void mma_m16n8k8_tf32(float* d, const uint32_t* a, const uint32_t* b, EMULATOR_CALLER) {
    mma<Tf32>(d, a, b, {file, line});
}
static inline void mma_m16n8k16_bf16(float* d, const uint32_t* a, const uint32_t* b, EMULATOR_CALLER) {
    mma<Bf16>(d, a, b, {file, line});
}

// ldmatrix: lane 8*m + r passes the address of row r of matrix m, eight 16-bit elements; register m of lane 4*g + t
// receives elements 2*t and 2*t + 1 of row g (transposed: of column g).
template <int MATRICES, bool TRANSPOSED>
static void complete_ldmatrix(Warp& warp, unsigned lanes) {
    if (lanes != 0xffffffffu) EMULATOR_FAIL("ldmatrix by a warp of fewer than 32 threads");
    for (int m = 0; m < MATRICES; ++m) {
        uint16_t matrix[8][8];
        for (int row = 0; row < 8; ++row) {
            const void* address;
            std::memcpy(&address, warp.lane[8 * m + row].value, sizeof address);
            std::memcpy(matrix[row], address, sizeof matrix[row]);
        }
        for (int lane = 0; lane < 32; ++lane) {
            const int g = lane / 4, t = lane % 4;
            const uint16_t pair[2] = {TRANSPOSED ? matrix[2 * t][g] : matrix[g][2 * t],
                                      TRANSPOSED ? matrix[2 * t + 1][g] : matrix[g][2 * t + 1]};
            std::memcpy(warp.lane[lane].result + 4 * m, pair, sizeof pair);
        }
    }
}

template <int MATRICES, bool TRANSPOSED>
static inline void ldmatrix(uint32_t* registers, const void* row, Place place) {
    const unsigned number = lane_of(*machine.current);
    if (number < 8 * MATRICES) {  // the other lanes' addresses are not looked at
        if (reinterpret_cast<uintptr_t>(row) % 16)
            EMULATOR_FAIL("misaligned ldmatrix row at %s:%d", place.file, place.line);
        if (!is_shared(row, 16))
            EMULATOR_FAIL("ldmatrix from an address that is not shared memory at %s:%d", place.file, place.line);
    }
    Lane& lane = my_lane();
    std::memcpy(lane.value, &row, sizeof row);
    warp_meet(0xffffffffu, complete_ldmatrix<MATRICES, TRANSPOSED>, place);
    std::memcpy(registers, lane.result, 4 * MATRICES);
}

static inline void ldmatrix_x4(uint32_t* registers, const void* row, EMULATOR_CALLER) {
    ldmatrix<4, false>(registers, row, {file, line});
}
static inline void ldmatrix_x4_trans(uint32_t* registers, const void* row, EMULATOR_CALLER) {
    ldmatrix<4, true>(registers, row, {file, line});
}
static inline void ldmatrix_x2(uint32_t* registers, const void* row, EMULATOR_CALLER) {
    ldmatrix<2, false>(registers, row, {file, line});
}
static inline void ldmatrix_x2_trans(uint32_t* registers, const void* row, EMULATOR_CALLER) {
    ldmatrix<2, true>(registers, row, {file, line});
}

}  // namespace emulator
