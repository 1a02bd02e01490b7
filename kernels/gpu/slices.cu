// The second pass of a long sum: a first kernel has cut the terms into slices and written one partial result a slice,
// here the slices are added in a fixed order. No atomics: the same bits on every run.
//
// A block takes 32 neighbouring elements: lane x of each warp reads element x, so that a warp reads 32 neighbours at
// once, and warp y adds the slices y, y + WARPS, y + 2 * WARPS, ... The warps' sums meet in shared memory. Bound by
// memory, so adding in double costs nothing.
// defines: REAL=float|double
// minimum: sm_75
#include "common.cuh"

constexpr int LANES = 32;
constexpr int WARPS = 8;

// partial (S, count) -> sum (count,); blocks of (LANES, WARPS) threads.
extern "C" __global__ void sum_slices(const real* __restrict__ partial, real* __restrict__ sum, long long count,
                                      int slices) {
    __shared__ double sums[WARPS][LANES];
    const long long element = (long long)blockIdx.x * LANES + threadIdx.x;
    double mine = 0;
    if (element < count) {
#pragma unroll 4
        for (int s = threadIdx.y; s < slices; s += WARPS) mine += partial[s * count + element];
    }
    sums[threadIdx.y][threadIdx.x] = mine;
    __syncthreads();
    if (threadIdx.y == 0 && element < count) {
        double total = 0;
        for (int warp = 0; warp < WARPS; ++warp) total += sums[warp][threadIdx.x];
        sum[element] = real(total);
    }
}
