// Group normalization whose gamma has as many positions as x, or x only one: layer normalization above all. A group is
// then one run of neighbours in memory (or, with several positions and groups, some runs), and a team of threads, a
// warp or a block, does it from end to end: it reads the group, adds up in double what its threads found, and reads the
// group again, now from the cache, to write the result.
//
// Deviations are counted from the group's first number, so that nothing is lost where the mean is far larger. The
// gradients of gamma and beta are sums over the samples, by threads that stay in their columns: see columns.cuh.
// defines: REAL=float|double
// minimum: sm_75
#include "columns.cuh"
#include "divide.cuh"

constexpr int LARGEST_TEAM = 512;

// x (N, P, C): a group is `runs` runs of `run` numbers, the next C numbers after the last.
struct Layer {
    long long n, run, size;  // size: P * C
    int groups, channels;    // G and C / G
    int runs;
};

// The group that a team works on: blockDim.y teams of blockDim.x threads, a warp, or all of the block.
__device__ __forceinline__ long long group_of_team() { return (long long)blockIdx.x * blockDim.y + threadIdx.y; }

// Where a group begins in its sample.
__device__ __forceinline__ long long sample_of(long long index, const Layer& l, long long& start) {
    int group;
    const long long sample = divide(index, l.groups, &group);
    start = (long long)group * l.channels;
    return sample;
}

// The sums of all threads of the team, to all of them, always in the same order.
__device__ __forceinline__ void add_team_sums(double (&sums)[2]) {
    __shared__ double shared[2][LARGEST_TEAM / 32];
    for (int step = 16; step > 0; step /= 2) {
        sums[0] += __shfl_xor_sync(FULL_WARP, sums[0], step);
        sums[1] += __shfl_xor_sync(FULL_WARP, sums[1], step);
    }
    if (blockDim.x == 32) return;
    const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
    if (threadIdx.x % 32 == 0) shared[0][warp] = sums[0], shared[1][warp] = sums[1];
    __syncthreads();
    sums[0] = sums[1] = 0;
    for (int i = 0; i < warps; ++i) sums[0] += shared[0][i], sums[1] += shared[1][i];
}

// ------------------------------------------------------------------------------------------------------- forward

template <int WIDTH>
__device__ __forceinline__ void normalize(const real* x, const real* gamma, const real* beta, real* y, real* mean,
                                          real* var, real epsilon, const Layer& l) {
    const long long index = group_of_team();
    if (index >= l.n * l.groups) return;
    long long start;
    const long long image = sample_of(index, l, start) * l.size;
    const real shift = x[image + start];
    double sums[2] = {};
    for (int r = 0; r < l.runs; ++r) {
        const real* run = x + image + start + (long long)r * l.groups * l.channels;
#pragma unroll 4
        for (long long e = threadIdx.x * WIDTH; e < l.run; e += blockDim.x * WIDTH) {
            const Pack<WIDTH> pack = load_pack<WIDTH>(run + e);
#pragma unroll
            for (int v = 0; v < WIDTH; ++v) {
                const double d = pack.lane[v] - shift;
                sums[0] += d, sums[1] += d * d;
            }
        }
    }
    add_team_sums(sums);
    const double count = double(l.run) * l.runs, offset = sums[0] / count;
    const double squares = sums[1] / count - offset * offset, variance = squares < 0 ? 0 : squares;
    const real center = shift + offset, rest = (double(shift) - center) + offset, scale = 1 / sqrt(variance + epsilon);
    if (threadIdx.x == 0) mean[index] = center, var[index] = variance;
    for (int r = 0; r < l.runs; ++r) {
        const long long run = start + (long long)r * l.groups * l.channels;
#pragma unroll 2
        for (long long e = run + threadIdx.x * WIDTH; e < run + l.run; e += blockDim.x * WIDTH) {
            Pack<WIDTH> pack = load_pack<WIDTH>(x + image + e);
            const Pack<WIDTH> a = load_pack<WIDTH>(gamma + e), b = load_pack<WIDTH>(beta + e);
#pragma unroll
            for (int v = 0; v < WIDTH; ++v)
                pack.lane[v] = (pack.lane[v] - center - rest) * scale * a.lane[v] + b.lane[v];
            store_pack<WIDTH>(y + image + e, pack);
        }
    }
}

// x (N, P, C), gamma, beta (P, C) -> y (N, P, C), mean, var (N, G).
extern "C" __global__ void __launch_bounds__(LARGEST_TEAM, 2)
    layer_norm(const real* __restrict__ x, const real* __restrict__ gamma, const real* __restrict__ beta,
               real* __restrict__ y, real* __restrict__ mean, real* __restrict__ var, real epsilon, Layer l,
               int lanes) {
    if (lanes == 1) normalize<1>(x, gamma, beta, y, mean, var, epsilon, l);
    else normalize<LANES>(x, gamma, beta, y, mean, var, epsilon, l);
}

// ------------------------------------------------------------------------------------------------------ backward

template <int WIDTH>
__device__ __forceinline__ void input_gradient(const real* gy, const real* x, const real* gamma, const real* mean,
                                               const real* var, real* gx, real* inverse, real epsilon,
                                               const Layer& l) {
    const long long index = group_of_team();
    if (index >= l.n * l.groups) return;
    long long start;
    const long long image = sample_of(index, l, start) * l.size;
    const real center = mean[index];
    double sums[2] = {};  // of gy * gamma and of gy * gamma * (x - mean)
    for (int r = 0; r < l.runs; ++r) {
        const long long run = start + (long long)r * l.groups * l.channels;
#pragma unroll 2
        for (long long e = run + threadIdx.x * WIDTH; e < run + l.run; e += blockDim.x * WIDTH) {
            const Pack<WIDTH> gradient = load_pack<WIDTH>(gy + image + e), pack = load_pack<WIDTH>(x + image + e),
                              weight = load_pack<WIDTH>(gamma + e);
#pragma unroll
            for (int v = 0; v < WIDTH; ++v) {
                const double gu = gradient.lane[v] * weight.lane[v];
                sums[0] += gu, sums[1] += gu * (pack.lane[v] - center);
            }
        }
    }
    add_team_sums(sums);
    const double count = double(l.run) * l.runs, scale = 1 / sqrt(double(var[index]) + double(epsilon));
    const real a = scale, b = -scale * scale * scale * sums[1] / count, c = -scale * sums[0] / count;
    if (threadIdx.x == 0) inverse[index] = a;
    for (int r = 0; r < l.runs; ++r) {
        const long long run = start + (long long)r * l.groups * l.channels;
#pragma unroll 2
        for (long long e = run + threadIdx.x * WIDTH; e < run + l.run; e += blockDim.x * WIDTH) {
            Pack<WIDTH> gradient = load_pack<WIDTH>(gy + image + e);
            const Pack<WIDTH> pack = load_pack<WIDTH>(x + image + e), weight = load_pack<WIDTH>(gamma + e);
#pragma unroll
            for (int v = 0; v < WIDTH; ++v)
                gradient.lane[v] = gradient.lane[v] * weight.lane[v] * a + ((pack.lane[v] - center) * b + c);
            store_pack<WIDTH>(gx + image + e, gradient);
        }
    }
}

// gy, x (N, P, C), gamma (P, C), mean, var (N, G) -> gx (N, P, C), inverse (N, G) = 1 / sqrt(var + epsilon).
extern "C" __global__ void __launch_bounds__(LARGEST_TEAM, 2)
    layer_norm_backward(const real* __restrict__ gy, const real* __restrict__ x, const real* __restrict__ gamma,
                        const real* __restrict__ mean, const real* __restrict__ var, real* __restrict__ gx,
                        real* __restrict__ inverse, real epsilon, Layer l, int lanes) {
    if (lanes == 1) input_gradient<1>(gy, x, gamma, mean, var, gx, inverse, epsilon, l);
    else input_gradient<LANES>(gy, x, gamma, mean, var, gx, inverse, epsilon, l);
}

// All numbers of a pack are of one group.
template <int WIDTH>
__device__ __forceinline__ void sum_parameter_gradients(const real* gy, const real* x, const real* mean,
                                                        const real* inverse, double* partial, const Columns& s,
                                                        const Layer& l, double (*shared)[MOST_THREADS]) {
    const Share share = share_of<WIDTH>(s, blockIdx.x, blockIdx.y, gridDim.y);
    const int group = share.column % (l.groups * l.channels) / l.channels;
    double sums[2 * WIDTH] = {};
#pragma unroll 2
    for (long long sample = share.first; sample < s.rows; sample += share.step) {
        const long long place = sample * s.c + share.column;
        const Pack<WIDTH> gradient = load_pack<WIDTH>(gy + place), pack = load_pack<WIDTH>(x + place);
        const real center = mean[sample * l.groups + group], scale = inverse[sample * l.groups + group];
#pragma unroll
        for (int v = 0; v < WIDTH; ++v) {
            const double g = gradient.lane[v];
            sums[v] += g;
            sums[WIDTH + v] += g * ((pack.lane[v] - center) * scale);
        }
    }
    write_partial<WIDTH>(sums, shared, partial, blockIdx.y, s, share);
}

// gy, x (N, P * C), mean, inverse (N, G) -> partial (slices, 2, P * C): sums of gy and of gy * (x - mean) * inverse.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, BLOCKS_AT_ONCE)
    layer_norm_parameter_sums(const real* __restrict__ gy, const real* __restrict__ x, const real* __restrict__ mean,
                              const real* __restrict__ inverse, double* __restrict__ partial, Columns s, Layer l,
                              int lanes) {
    __shared__ double shared[2 * LANES][MOST_THREADS];
    if (lanes == 1) sum_parameter_gradients<1>(gy, x, mean, inverse, partial, s, l, shared);
    else sum_parameter_gradients<LANES>(gy, x, mean, inverse, partial, s, l, shared);
}
