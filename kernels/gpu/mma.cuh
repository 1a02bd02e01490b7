// Tensor cores and asynchronous copies: the instructions that CUDA C++ has no words for. The only file with PTX; each
// function stands beside what takes its place in the emulator of the tests.
//
// A warp multiplies as one: its 32 threads hold the matrices in their registers, spread as the PTX manual says (section
// "Matrix Fragments for mma"). With group g = lane / 4 and t = lane % 4, and registers of 32 bits, which hold one tf32
// number or two bf16 numbers ("word"), K being 8 words wide:
//   a (16 x K)  a[0]: row g, word t         a[1]: row g + 8, word t
//               a[2]: row g, word 4 + t     a[3]: row g + 8, word 4 + t
//   b (K x 8)   b[0]: word t, column g      b[1]: word 4 + t, column g
//   d (16 x 8)  d[0], d[1]: row g, columns 2 * t and 2 * t + 1     d[2], d[3]: the same of row g + 8
#pragma once
#include "common.cuh"

#ifndef MINICNN_EMULATOR

// d += a b, a (16, 8), b (8, 8), in tf32; sums are float.
__device__ __forceinline__ void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d += a b, a (16, 16), b (16, 8), in bf16; sums are float.
__device__ __forceinline__ void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// x rounded to tf32: 10 bits of mantissa, to the nearest, ties away from zero. mma_tf32 alone would cut the rest off.
__device__ __forceinline__ unsigned round_to_tf32(float x) {
    unsigned word;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(x));
    return word;
}

// Two numbers rounded to bf16, ties to even: the first in the lower half of the word.
__device__ __forceinline__ unsigned pack_bf16(float first, float second) {
    unsigned word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
    return word;
}

__device__ __forceinline__ unsigned shared_address(const void* address) {
    return static_cast<unsigned>(__cvta_generic_to_shared(address));
}

// Four 8 x 8 matrices of 16-bit elements from shared memory. Lane 8 * m + r passes the address of row r of matrix m, 16
// bytes; register m of lane (g, t) receives word t of row g.
__device__ __forceinline__ void load_matrices(unsigned (&words)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(shared_address(row)));
}

// The same, each matrix turned over: register m of lane (g, t) receives elements 2 * t and 2 * t + 1 of column g.
__device__ __forceinline__ void load_matrices_turned(unsigned (&words)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(shared_address(row)));
}

// Start copying 16 bytes from global to shared memory, past the registers; what is beyond `valid` of them is zeros.
// Both addresses are multiples of 16.
__device__ __forceinline__ void copy_async(void* to, const void* from, int valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid));
}

// The same, keeping what was read in the cache of the multiprocessor: for what a block reads several times.
__device__ __forceinline__ void copy_async_cached(void* to, const void* from, int valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid));
}

// The copies that this thread has started since the last call make one group.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;"); }

// Wait until at most the KEEP newest groups of this thread are still on their way.
template <int KEEP>
__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(KEEP) : "memory");
}

#else

static inline void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMULATOR_CALLER) {
    emulator::mma<emulator::Tf32>(d, a, b, {file, line});
}

static inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMULATOR_CALLER) {
    emulator::mma<emulator::Bf16>(d, a, b, {file, line});
}

static inline unsigned round_to_tf32(float x) {
    return x != x ? 0x7fffe000u : (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
}

static inline unsigned bf16_bits(float x) {
    const unsigned bits = __float_as_uint(x);
    return x != x ? 0x7fffu : (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
}

static inline unsigned pack_bf16(float first, float second) { return bf16_bits(first) | bf16_bits(second) << 16; }

static inline void load_matrices(unsigned (&words)[4], const void* row, EMULATOR_CALLER) {
    emulator::ldmatrix_x4(words, row, file, line);
}

static inline void load_matrices_turned(unsigned (&words)[4], const void* row, EMULATOR_CALLER) {
    emulator::ldmatrix_x4_trans(words, row, file, line);
}

static inline void copy_async(void* to, const void* from, int valid, EMULATOR_CALLER) {
    emulator::cp_async16(to, from, valid, file, line);
}

static inline void copy_async_cached(void* to, const void* from, int valid, EMULATOR_CALLER) {
    emulator::cp_async16(to, from, valid, file, line);
}

static inline void commit_copies() { emulator::cp_commit(); }

template <int KEEP>
static inline void wait_for_copies() {
    emulator::cp_wait(KEEP);
}

#endif
