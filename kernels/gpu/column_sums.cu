// Sums of the columns of a matrix: the gradient of a bias, and on the same pass that of the activation before it. Bound
// by memory: each number is read once.
//
// The matrix (rows, F) is cut into slices of rows. In a block, `width` threads stand side by side over a row, as many
// groups of them as fit below each other over the rows after it: neighbouring threads read neighbouring numbers even
// where a row is short. A thread adds up every groups-th row of its slice, in double, which costs nothing while it
// waits for memory; then the block halves its groups until one is left. A second kernel adds up the slices, in a fixed
// order: the same bits on every run, and no atomic additions.
// defines: REAL=float|double
// minimum: sm_75
#include "common.cuh"
#include "packs.cuh"

constexpr int MOST_THREADS = 256;

struct ColumnSums {
    long long rows, slice_rows;
    int features;  // F
    int places;    // packs (or numbers) of a row
    int width;     // threads over a row; blockIdx.x where there are more places
};

// Adds up what `groups` groups of `width` threads hold, into group 0. All threads of the block call it.
template <int COUNT>
__device__ __forceinline__ void add_groups(double (&sum)[COUNT], double (&shared)[COUNT][MOST_THREADS], int group,
                                           int groups, int width) {
#pragma unroll
    for (int lane = 0; lane < COUNT; ++lane) shared[lane][threadIdx.x] = sum[lane];
    while (groups > 1) {
        const int half = (groups + 1) / 2;
        __syncthreads();
        if (group < groups - half) {
#pragma unroll
            for (int lane = 0; lane < COUNT; ++lane)
                shared[lane][threadIdx.x] += shared[lane][threadIdx.x + half * width];
        }
        groups = half;
    }
#pragma unroll
    for (int lane = 0; lane < COUNT; ++lane) sum[lane] = shared[lane][threadIdx.x];
}

// partial[slice, f] = the sum over the slice's rows of gy, or, given y, of gz = gy times the activation's derivative,
// which is written too. A single slice goes to `total` at once.
template <int WIDTH>
__device__ __forceinline__ void column_sums(const real* gy, const real* y, real* gz, double* partial, real* total,
                                            const ColumnSums& s, int activation, real alpha) {
    __shared__ double shared[WIDTH][MOST_THREADS];
    const int group = threadIdx.x / s.width, groups = blockDim.x / s.width;
    const int place = blockIdx.x * s.width + threadIdx.x % s.width;
    const bool inside = place < s.places;
    double sum[WIDTH] = {};
    if (inside) {
        const long long first = blockIdx.y * s.slice_rows, last = min(first + s.slice_rows, s.rows);
#pragma unroll 4
        for (long long row = first + group; row < last; row += groups) {
            const long long offset = row * s.features + place * WIDTH;
            Pack<WIDTH> pack = load_pack<WIDTH>(gy + offset);
            if (y != nullptr) {
                const Pack<WIDTH> output = load_pack<WIDTH>(y + offset);
#pragma unroll
                for (int lane = 0; lane < WIDTH; ++lane)
                    pack.lane[lane] = activate_backward(pack.lane[lane], output.lane[lane], activation, alpha);
                store_pack<WIDTH>(gz + offset, pack);
            }
#pragma unroll
            for (int lane = 0; lane < WIDTH; ++lane) sum[lane] += pack.lane[lane];
        }
    }
    add_groups(sum, shared, group, groups, s.width);
    if (group > 0 || !inside) return;
#pragma unroll
    for (int lane = 0; lane < WIDTH; ++lane) {
        const int feature = place * WIDTH + lane;
        if (total != nullptr)
            total[feature] = sum[lane];
        else
            partial[(long long)blockIdx.y * s.features + feature] = sum[lane];
    }
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS)
    column_sums_numbers(const real* __restrict__ gy, const real* __restrict__ y, real* __restrict__ gz,
                        double* __restrict__ partial, real* __restrict__ total, const ColumnSums s, int activation,
                        real alpha) {
    column_sums<1>(gy, y, gz, partial, total, s, activation, alpha);
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS)
    column_sums_packs(const real* __restrict__ gy, const real* __restrict__ y, real* __restrict__ gz,
                      double* __restrict__ partial, real* __restrict__ total, const ColumnSums s, int activation,
                      real alpha) {
    column_sums<LANES>(gy, y, gz, partial, total, s, activation, alpha);
}

// total[f] = the sum over the slices of partial[slice, f]. A block takes 32 features: its warps share the slices.
extern "C" __global__ void __launch_bounds__(MOST_THREADS)
    column_sums_finish(const double* __restrict__ partial, real* __restrict__ total, int features, int slices) {
    __shared__ double shared[1][MOST_THREADS];
    const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const int feature = blockIdx.x * 32 + threadIdx.x % 32;
    double sum[1] = {};
    if (feature < features)
        for (int slice = warp; slice < slices; slice += warps) sum[0] += partial[(long long)slice * features + feature];
    add_groups(sum, shared, warp, warps, 32);
    if (warp == 0 && feature < features) total[feature] = sum[0];
}
