// Batch normalization, x (rows, C) with the statistics of each column. Three kernels each way, all bound by memory: one
// sums slices of the rows, a small one adds up the slices and works out what is to be known of each channel, one
// writes. Sums are in double, which costs nothing while threads wait for memory, and in a fixed order.
//
// Forward the sums are of x - s and its square, s being the channel's first number: mean = s + sum / rows and var =
// squares / rows - (sum / rows)^2 lose nothing where the mean is far larger than the deviation. The mean as a float has
// lost digits there; `rest` is what it lacks.
//
// The writing kernels go through the rows from the last to the first: what was summed last is still in the L2 cache.
// defines: REAL=float|double
// minimum: sm_75
#include "columns.cuh"

// A block is one of a round of columns (blockIdx.x) and a slice of rows (blockIdx.y).
template <int WIDTH>
__device__ __forceinline__ Share share_of_block(const Columns& s) {
    return share_of<WIDTH>(s, blockIdx.x, blockIdx.y, gridDim.y);
}

// Adds up partial (slices, 2, C) over the slices, to the first member of the channel's team.
__device__ __forceinline__ void total_of_slices(const double* partial, int slices, int c, const Member& member,
                                                double (&sums)[2]) {
    if (member.column < c) {
#pragma unroll 4
        for (int slice = member.number; slice < slices; slice += TEAM_MEMBERS) {
            const double* from = partial + (long long)slice * 2 * c + member.column;
            sums[0] += from[0], sums[1] += from[c];
        }
    }
    add_team(sums, member);
}

// ------------------------------------------------------------------------------------------------------- forward

template <int WIDTH>
__device__ __forceinline__ void sum_deviations(const real* x, double* partial, const Columns& s,
                                               double (*shared)[MOST_THREADS]) {
    const Share share = share_of_block<WIDTH>(s);
    const Pack<WIDTH> shift = s.rows > 0 ? load_pack<WIDTH>(x + share.column) : filled_pack<WIDTH>(real(0));
    double sums[2 * WIDTH] = {};
    add_deviations<WIDTH>(x, shift, s, share, sums);
    write_partial<WIDTH>(sums, shared, partial, blockIdx.y, s, share);
}

// x (rows, C) -> partial (slices, 2, C): sums of x - x[0] and of its square.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, BLOCKS_AT_ONCE)
    batch_norm_sums(const real* __restrict__ x, double* __restrict__ partial, Columns s, int lanes) {
    __shared__ double shared[2 * LANES][MOST_THREADS];
    if (lanes == 1) sum_deviations<1>(x, partial, s, shared);
    else sum_deviations<LANES>(x, partial, s, shared);
}

// partial (slices, 2, C), x (rows, C) for its first row -> mean, rest, var (C,).
extern "C" __global__ void __launch_bounds__(MOST_THREADS, BLOCKS_AT_ONCE)
    batch_norm_statistics(const double* __restrict__ partial, const real* __restrict__ x, real* __restrict__ mean,
                          real* __restrict__ rest, real* __restrict__ var, long long rows, int c, int slices) {
    const Member member = team_member();
    const int channel = member.column;
    double sums[2] = {};
    total_of_slices(partial, slices, c, member, sums);
    if (member.number > 0 || channel >= c) return;
    const double shift = rows > 0 ? x[channel] : real(0), offset = sums[0] / rows;
    const double variance = sums[1] / rows - offset * offset;
    const real rounded = shift + offset;
    mean[channel] = rounded;
    rest[channel] = (shift - rounded) + offset;
    var[channel] = variance < 0 ? 0 : variance;
}

template <int WIDTH>
__device__ __forceinline__ void normalize(const real* x, const real* gamma, const real* beta, const real* mean,
                                          const real* rest, const real* var, real* y, real epsilon, int rectify,
                                          const Columns& s) {
    const Share share = share_of_block<WIDTH>(s);
    if (!share.inside) return;
    const Pack<WIDTH> center = load_pack<WIDTH>(mean + share.column), variance = load_pack<WIDTH>(var + share.column);
    Pack<WIDTH> a = load_pack<WIDTH>(gamma + share.column), b = load_pack<WIDTH>(beta + share.column);
#pragma unroll
    for (int v = 0; v < WIDTH; ++v) {
        a.lane[v] /= sqrt(variance.lane[v] + epsilon);
        if (rest != nullptr) b.lane[v] -= a.lane[v] * rest[share.column + v];
    }
#pragma unroll 4
    for (long long row = share.first; row < s.rows; row += share.step) {
        const long long place = (s.rows - 1 - row) * s.c + share.column;
        Pack<WIDTH> pack = load_pack<WIDTH>(x + place);
#pragma unroll
        for (int v = 0; v < WIDTH; ++v) {
            const real value = (pack.lane[v] - center.lane[v]) * a.lane[v] + b.lane[v];
            pack.lane[v] = rectify && value < 0 ? real(0) : value;
        }
        store_pack<WIDTH>(y + place, pack);
    }
}

// y = act(gamma * (x - mean - rest) / sqrt(var + epsilon) + beta); no `rest` where the mean is given.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, BLOCKS_AT_ONCE)
    batch_norm_normalize(const real* __restrict__ x, const real* __restrict__ gamma, const real* __restrict__ beta,
                         const real* __restrict__ mean, const real* __restrict__ rest, const real* __restrict__ var,
                         real* __restrict__ y, real epsilon, int rectify, Columns s, int lanes) {
    if (lanes == 1) normalize<1>(x, gamma, beta, mean, rest, var, y, epsilon, rectify, s);
    else normalize<LANES>(x, gamma, beta, mean, rest, var, y, epsilon, rectify, s);
}

// ------------------------------------------------------------------------------------------------------ backward

// gy, or 0 where the relu's output y is not above 0. Without a relu there is no y.
template <int WIDTH>
__device__ __forceinline__ Pack<WIDTH> load_gradient(const real* gy, const real* y, long long place) {
    Pack<WIDTH> gradient = load_pack<WIDTH>(gy + place);
    if (y == nullptr) return gradient;
    const Pack<WIDTH> output = load_pack<WIDTH>(y + place);
#pragma unroll
    for (int v = 0; v < WIDTH; ++v)
        if (!(output.lane[v] > 0)) gradient.lane[v] = 0;
    return gradient;
}

template <int WIDTH>
__device__ __forceinline__ void sum_gradients(const real* gy, const real* x, const real* y, const real* mean,
                                              double* partial, const Columns& s, double (*shared)[MOST_THREADS]) {
    const Share share = share_of_block<WIDTH>(s);
    const Pack<WIDTH> center = load_pack<WIDTH>(mean + share.column);
    double sums[2 * WIDTH] = {};
#pragma unroll 2
    for (long long row = share.first; row < s.rows; row += share.step) {
        const long long place = row * s.c + share.column;
        const Pack<WIDTH> gradient = load_gradient<WIDTH>(gy, y, place), pack = load_pack<WIDTH>(x + place);
#pragma unroll
        for (int v = 0; v < WIDTH; ++v) {
            const double g = gradient.lane[v];
            sums[v] += g;
            sums[WIDTH + v] += g * (pack.lane[v] - center.lane[v]);
        }
    }
    write_partial<WIDTH>(sums, shared, partial, blockIdx.y, s, share);
}

// gy, x and perhaps y (rows, C) -> partial (slices, 2, C): sums of gy and of gy * (x - mean).
extern "C" __global__ void __launch_bounds__(MOST_THREADS, BLOCKS_AT_ONCE)
    batch_norm_gradient_sums(const real* __restrict__ gy, const real* __restrict__ x, const real* __restrict__ y,
                             const real* __restrict__ mean, double* __restrict__ partial, Columns s, int lanes) {
    __shared__ double shared[2 * LANES][MOST_THREADS];
    if (lanes == 1) sum_gradients<1>(gy, x, y, mean, partial, s, shared);
    else sum_gradients<LANES>(gy, x, y, mean, partial, s, shared);
}

// partial (slices, 2, C) -> ggamma, gbeta (C,) and factors (3, C): gx = gy * factors[0] + (x - mean) * factors[1] +
// factors[2].
extern "C" __global__ void __launch_bounds__(MOST_THREADS, BLOCKS_AT_ONCE)
    batch_norm_factors(const double* __restrict__ partial, const real* __restrict__ gamma,
                       const real* __restrict__ var, real* __restrict__ ggamma, real* __restrict__ gbeta,
                       real* __restrict__ factors, real epsilon, long long rows, int c, int slices) {
    const Member member = team_member();
    const int channel = member.column;
    double sums[2] = {};
    total_of_slices(partial, slices, c, member, sums);
    if (member.number > 0 || channel >= c) return;
    const double inverse = 1 / sqrt(double(var[channel]) + double(epsilon)), scale = gamma[channel] * inverse;
    gbeta[channel] = sums[0];
    ggamma[channel] = sums[1] * inverse;
    factors[channel] = scale;
    factors[c + channel] = -scale * inverse * inverse * sums[1] / rows;
    factors[2 * c + channel] = -scale * sums[0] / rows;
}

template <int WIDTH>
__device__ __forceinline__ void input_gradient(const real* gy, const real* x, const real* y, const real* mean,
                                               const real* factors, real* gx, const Columns& s) {
    const Share share = share_of_block<WIDTH>(s);
    if (!share.inside) return;
    const real* at = factors + share.column;
    const Pack<WIDTH> center = load_pack<WIDTH>(mean + share.column), a = load_pack<WIDTH>(at),
                      b = load_pack<WIDTH>(at + s.c), c = load_pack<WIDTH>(at + 2 * s.c);
#pragma unroll 2
    for (long long row = share.first; row < s.rows; row += share.step) {
        const long long place = (s.rows - 1 - row) * s.c + share.column;
        Pack<WIDTH> gradient = load_gradient<WIDTH>(gy, y, place);
        const Pack<WIDTH> pack = load_pack<WIDTH>(x + place);
#pragma unroll
        for (int v = 0; v < WIDTH; ++v)
            gradient.lane[v] =
                gradient.lane[v] * a.lane[v] + ((pack.lane[v] - center.lane[v]) * b.lane[v] + c.lane[v]);
        store_pack<WIDTH>(gx + place, gradient);
    }
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS, BLOCKS_AT_ONCE)
    batch_norm_input_gradient(const real* __restrict__ gy, const real* __restrict__ x, const real* __restrict__ y,
                              const real* __restrict__ mean, const real* __restrict__ factors,
                              real* __restrict__ gx, Columns s, int lanes) {
    if (lanes == 1) input_gradient<1>(gy, x, y, mean, factors, gx, s);
    else input_gradient<LANES>(gy, x, y, mean, factors, gx, s);
}
