// Sums of the columns of a matrix (rows, F): the gradient of a bias, and on the same pass that of the activation before
// it. Bound by memory: each number is read once, by threads that stay in their columns (columns.cuh).
//
// Every block sums a part of the rows, in double, which costs nothing while threads wait for memory. Then slices.cu adds
// up what the blocks found, in a fixed order: the same bits on every run, and no atomic additions.
// defines: REAL=float|double
// minimum: sm_75
#include "columns.cuh"

// partial[blockIdx.x, f] = the block's sum of gy, or, given y, of gz = gy times the activation's derivative, which is
// written too.
template <int WIDTH>
__device__ __forceinline__ void sum_columns(const real* gy, const real* y, real* gz, real* partial, const Columns& s,
                                            int activation, real alpha, double (*shared)[MOST_THREADS]) {
    const Share share = share_of<WIDTH>(s, blockIdx.y, blockIdx.x, gridDim.x);
    double sums[WIDTH] = {};
#pragma unroll 4
    for (long long row = share.first; row < s.rows; row += share.step) {
        const long long offset = row * s.c + share.column;
        Pack<WIDTH> pack = load_pack<WIDTH>(gy + offset);
        if (y != nullptr) {
            const Pack<WIDTH> output = load_pack<WIDTH>(y + offset);
#pragma unroll
            for (int v = 0; v < WIDTH; ++v)
                pack.lane[v] = activate_backward(pack.lane[v], output.lane[v], activation, alpha);
            store_pack<WIDTH>(gz + offset, pack);
        }
#pragma unroll
        for (int v = 0; v < WIDTH; ++v) sums[v] += pack.lane[v];
    }
    add_groups(sums, shared, share.group, share.groups, s.width);
    if (share.group > 0 || !share.inside) return;
#pragma unroll
    for (int v = 0; v < WIDTH; ++v) partial[(long long)blockIdx.x * s.c + share.column + v] = sums[v];
}

// gy, y, gz (rows, F), the last two null for a plain sum -> partial (blocks along x, F).
extern "C" __global__ void __launch_bounds__(MOST_THREADS, BLOCKS_AT_ONCE)
    column_sums(const real* __restrict__ gy, const real* __restrict__ y, real* __restrict__ gz,
                real* __restrict__ partial, const Columns s, int lanes, int activation, real alpha) {
    __shared__ double shared[LANES][MOST_THREADS];
    if (lanes == 1)
        sum_columns<1>(gy, y, gz, partial, s, activation, alpha, shared);
    else
        sum_columns<LANES>(gy, y, gz, partial, s, activation, alpha, shared);
}
