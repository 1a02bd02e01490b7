// Local response normalization: each number is divided by the energy of the channels around it. Neighbours of a number
// are neighbours in memory, and a warp's 32 windows overlap: all but the first read of a number is served by the L1
// cache, or on the way back by shared memory.
//
// On the way back each number needs, from every channel whose window it is in, a term that takes a window of its own
// and a power. So a block works these terms out once, for its own stretch of numbers and a window's width on both
// sides, and keeps them in shared memory; then each thread adds up those it needs.
// defines: REAL=float|double
// minimum: sm_75
#include "common.cuh"

constexpr int THREADS = 256;
constexpr int PIECE = 2 * THREADS;  // terms in shared memory at a time

struct Response {
    long long count;       // numbers in all
    int c, before, after;  // a window is channels c - before to c + after; both below C
    real alpha, beta, k;
};

// The channel of number i.
__device__ __forceinline__ int channel_of(long long i, int c) {
    return i <= 0xffffffffLL ? static_cast<unsigned>(i) % c : i % c;
}

// k + alpha * energy of the window around number i, a channel of x.
__device__ __forceinline__ real response(const real* x, long long i, int channel, const Response& r) {
    const int last = min(r.after, r.c - 1 - channel);
    real energy = 0;
    for (int j = -min(r.before, channel); j <= last; ++j) energy += x[i + j] * x[i + j];
    return r.k + r.alpha * energy;
}

// s^-beta. The beta of Krizhevsky et al., 0.75, takes two roots, which a GPU does faster than a power.
__device__ __forceinline__ real shrunk(real s, real beta) {
    if (beta != real(0.75)) return pow(s, -beta);
    const real root = 1 / sqrt(s);
    return root * sqrt(root);
}

extern "C" __global__ void local_response_norm(const real* __restrict__ x, real* __restrict__ y, Response r) {
    GRID_STRIDE_LOOP(i, r.count) y[i] = x[i] * shrunk(response(x, i, channel_of(i, r.c), r), r.beta);
}

// gx[j] = gy[j] * s[j]^-beta - 2 * alpha * beta * x[j] * sum of gy[c] * x[c] * s[c]^(-beta - 1) over the channels c
// whose window holds j. Blocks of THREADS threads, one number each.
extern "C" __global__ void local_response_norm_backward(const real* __restrict__ gy, const real* __restrict__ x,
                                                        real* __restrict__ gx, Response r) {
    __shared__ real terms[PIECE], powers[PIECE];
    for (long long start = (long long)blockIdx.x * THREADS; start < r.count; start += (long long)gridDim.x * THREADS) {
        const long long i = start + threadIdx.x;
        const int channel = channel_of(i, r.c);
        const long long first = i - min(r.after, channel), last = i + min(r.before, r.c - 1 - channel);
        const long long end = min(start + THREADS + r.before, r.count);
        real sum = 0, power = 0;
        for (long long piece = max(start - r.after, 0LL); piece < end; piece += PIECE) {
            const int size = static_cast<int>(min((long long)PIECE, end - piece));
            for (int e = threadIdx.x; e < size; e += THREADS) {
                const long long at = piece + e;
                const real s = response(x, at, channel_of(at, r.c), r);
                powers[e] = shrunk(s, r.beta);
                terms[e] = gy[at] * x[at] * powers[e] / s;
            }
            __syncthreads();
            const int to = static_cast<int>(min(last - piece, size - 1LL));
            for (int e = static_cast<int>(max(first - piece, 0LL)); e <= to; ++e) sum += terms[e];
            if (i >= piece && i < piece + size) power = powers[i - piece];
            __syncthreads();
        }
        if (i < r.count) gx[i] = gy[i] * power - 2 * r.alpha * r.beta * x[i] * sum;
    }
}
