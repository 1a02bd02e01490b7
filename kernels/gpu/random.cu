// Philox4x32-10 (Salmon et al. 2011) and dropout. Word i of a stream is a function of (seed, stream, i) alone: every
// thread computes its own, no state is read or kept, and the masks are those of the CPU to the bit.
//
// A thread draws two blocks of Philox, four words each, for eight neighbouring elements, which it reads and writes as
// packs of four where the arrays are aligned to it; their bits make one byte, for the way back.
// defines: REAL=float|double
// minimum: sm_75
#include "common.cuh"
#include "packs.cuh"

typedef unsigned long long Word64;

struct Words {
    unsigned lane[4];
};

__device__ __forceinline__ Words philox4x32(Word64 block, Word64 stream, Word64 seed) {
    unsigned c0 = unsigned(block), c1 = unsigned(block >> 32), c2 = unsigned(stream), c3 = unsigned(stream >> 32);
    unsigned k0 = unsigned(seed), k1 = unsigned(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const Word64 product_0 = (Word64)0xD2511F53u * c0, product_1 = (Word64)0xCD9E8D57u * c2;
        c0 = unsigned(product_1 >> 32) ^ c1 ^ k0;
        c1 = unsigned(product_1);
        c2 = unsigned(product_0 >> 32) ^ c3 ^ k1;
        c3 = unsigned(product_0);
        k0 += 0x9E3779B9u;  // the golden ratio and sqrt(3) - 1, as fractions of 2**32
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

extern "C" __global__ void philox_words(unsigned int* __restrict__ words, long long count, unsigned long long seed,
                                        unsigned long long stream) {
    GRID_STRIDE_LOOP(block, (count + 3) / 4) {
        const Words drawn = philox4x32(block, stream, seed);
        for (int i = 0; i < 4; ++i)
            if (4 * block + i < count) words[4 * block + i] = drawn.lane[i];
    }
}

// Elements first to first + 3, where there are so many: times the scale where their bit is set, else 0.
// aligned: whether x and y may be read as packs of four.
__device__ __forceinline__ void scale_kept(const real* __restrict__ x, real* __restrict__ y, long long first,
                                           long long count, int aligned, unsigned bits, real scale) {
    if (aligned && first + 4 <= count) {
        Pack<4> pack = load_pack<4>(x + first);
        for (int i = 0; i < 4; ++i) pack.lane[i] = bits >> i & 1 ? pack.lane[i] * scale : real(0);
        store_pack<4>(y + first, pack);
    } else {
        for (int i = 0; i < 4 && first + i < count; ++i) y[first + i] = bits >> i & 1 ? x[first + i] * scale : real(0);
    }
}

// y = 0 where the element's word lies below `threshold` (rate * 2**32, which may be 2**32), else x * scale; kept: a bit
// an element, 1 where it does not.
// stream_offset: null, or what is added to the stream; a captured step is replayed with another one each time.
extern "C" __global__ void dropout_words(const real* __restrict__ x, real* __restrict__ y,
                                         unsigned char* __restrict__ kept, long long count, int aligned,
                                         unsigned long long threshold, real scale, unsigned long long seed,
                                         unsigned long long stream, const unsigned long long* stream_offset) {
    if (stream_offset) stream += *stream_offset;
    GRID_STRIDE_LOOP(byte, (count + 7) / 8) {
        unsigned bits = 0;
        for (int half = 0; half < 2; ++half) {
            const long long first = 8 * byte + 4 * half;
            const Words drawn = philox4x32(2 * byte + half, stream, seed);
            unsigned own = 0;
            for (int i = 0; i < 4; ++i) own |= unsigned(first + i < count && drawn.lane[i] >= threshold) << i;
            scale_kept(x, y, first, count, aligned, own, scale);
            bits |= own << 4 * half;
        }
        kept[byte] = (unsigned char)bits;
    }
}

// gx = gy * scale where the element's bit of `kept` is set, else 0.
extern "C" __global__ void dropout_backward(const real* __restrict__ gy, const unsigned char* __restrict__ kept,
                                            real* __restrict__ gx, long long count, int aligned, real scale) {
    GRID_STRIDE_LOOP(block, (count + 3) / 4) {
        scale_kept(gy, gx, 4 * block, count, aligned, kept[block / 2] >> block % 2 * 4, scale);
    }
}
