// Group normalization of x (N, P, C) over many positions: each sample's group of C / G channels by its own statistics.
//
// A group is a stripe of channels, maybe narrower than what a warp reads at once. So sums are by channel first, as for
// batch normalization but for each sample apart: whole rows are read, by threads that stay in their columns. A small
// kernel, a warp for each group of each sample, then adds up slices and the group's channels. Sums are in double, and
// deviations are counted from the group's first number: nothing is lost where the mean is far larger than the
// deviation.
//
// On the way back the same two sums of each channel, of gy and of gy * (x - mean), serve for the gradients of all three
// arguments.
// defines: REAL=float|double
// minimum: sm_75
#include "columns.cuh"
#include "divide.cuh"

struct Groups {
    long long n;
    int groups, channels;  // G and C / G
    int slices;            // of the positions, in the kernels that sum
};

// A block is one of a round of columns (blockIdx.y) and of a sample's slice (blockIdx.x); s is of one sample.
template <int WIDTH>
__device__ __forceinline__ Share share_of_block(const Columns& s, int slices, long long& sample) {
    int slice;
    sample = divide(blockIdx.x, slices, &slice);
    return share_of<WIDTH>(s, blockIdx.y, slice, slices);
}

// values[sample, the group of each of the columns], values (N, G).
template <int WIDTH>
__device__ __forceinline__ Pack<WIDTH> of_groups(const real* values, const Groups& g, long long sample, int column) {
    Pack<WIDTH> pack;
#pragma unroll
    for (int v = 0; v < WIDTH; ++v) pack.lane[v] = values[sample * g.groups + (column + v) / g.channels];
    return pack;
}

// ------------------------------------------------------------------------------------------------ totals of groups

// A warp's group of a sample; `inside` is false for warps past the last.
struct Team {
    long long sample, index;  // index: sample * G + group
    int group, lane;
    bool inside;
};

__device__ __forceinline__ Team team_of_warp(const Groups& g) {
    Team team;
    team.index = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    team.lane = threadIdx.x % 32;
    team.inside = team.index < g.n * g.groups;
    team.sample = divide(team.index, g.groups, &team.group);
    return team;
}

// partial (N, slices, 2, C): both sums over a group's slices and channels, weighted by gamma (C,) where it is given.
// All lanes get the same.
__device__ __forceinline__ void total_of_group(const double* partial, const real* gamma, const Groups& g,
                                               const Team& team, double (&sums)[2]) {
    const long long c = (long long)g.groups * g.channels;
    for (int e = team.lane; e < g.slices * g.channels; e += 32) {
        const int slice = e / g.channels, channel = team.group * g.channels + e % g.channels;
        const double* from = partial + (team.sample * g.slices + slice) * 2 * c + channel;
        const double weight = gamma == nullptr ? real(1) : gamma[channel];
        sums[0] += weight * from[0], sums[1] += weight * from[c];
    }
    for (int step = 16; step > 0; step /= 2) {
        sums[0] += __shfl_xor_sync(FULL_WARP, sums[0], step);
        sums[1] += __shfl_xor_sync(FULL_WARP, sums[1], step);
    }
}

// ------------------------------------------------------------------------------------------------------- forward

template <int WIDTH>
__device__ __forceinline__ void sum_deviations(const real* x, double* partial, const Columns& s, const Groups& g,
                                               double (*shared)[MOST_THREADS]) {
    long long sample;
    const Share share = share_of_block<WIDTH>(s, g.slices, sample);
    x += sample * s.rows * s.c;
    Pack<WIDTH> shift;
#pragma unroll
    for (int v = 0; v < WIDTH; ++v) shift.lane[v] = x[(share.column + v) / g.channels * g.channels];
    double sums[2 * WIDTH] = {};
    add_deviations<WIDTH>(x, shift, s, share, sums);
    write_partial<WIDTH>(sums, shared, partial, blockIdx.x, s, share);
}

// x (N, P, C) -> partial (N, slices, 2, C): sums of x - (the group's first number) and of its square.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, BLOCKS_AT_ONCE)
    group_norm_sums(const real* __restrict__ x, double* __restrict__ partial, Columns s, Groups g, int lanes) {
    __shared__ double shared[2 * LANES][MOST_THREADS];
    if (lanes == 1) sum_deviations<1>(x, partial, s, g, shared);
    else sum_deviations<LANES>(x, partial, s, g, shared);
}

// partial (N, slices, 2, C), x (N, P, C) for each group's first number -> mean, var and what the rounded mean lacks,
// rest, (N, G). Blocks of whole warps.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, BLOCKS_AT_ONCE)
    group_norm_statistics(const double* __restrict__ partial, const real* __restrict__ x, real* __restrict__ mean,
                          real* __restrict__ rest, real* __restrict__ var, long long positions, Groups g) {
    const Team team = team_of_warp(g);
    if (!team.inside) return;
    double sums[2] = {};
    total_of_group(partial, nullptr, g, team, sums);
    if (team.lane > 0) return;
    const double shift = x[team.sample * positions * g.groups * g.channels + team.group * g.channels];
    const double count = double(positions) * g.channels, offset = sums[0] / count;
    const double variance = sums[1] / count - offset * offset;
    const real rounded = shift + offset;
    mean[team.index] = rounded;
    rest[team.index] = (shift - rounded) + offset;
    var[team.index] = variance < 0 ? 0 : variance;
}

template <int WIDTH>
__device__ __forceinline__ void normalize(const real* x, const real* gamma, const real* beta, const real* mean,
                                          const real* rest, const real* var, real* y, real epsilon, const Columns& s,
                                          const Groups& g, int parts) {
    long long sample;
    const Share share = share_of_block<WIDTH>(s, parts, sample);
    if (!share.inside) return;
    const Pack<WIDTH> center = of_groups<WIDTH>(mean, g, sample, share.column),
                      left = of_groups<WIDTH>(rest, g, sample, share.column),
                      variance = of_groups<WIDTH>(var, g, sample, share.column);
    Pack<WIDTH> a = load_pack<WIDTH>(gamma + share.column), b = load_pack<WIDTH>(beta + share.column);
#pragma unroll
    for (int v = 0; v < WIDTH; ++v) {
        a.lane[v] /= sqrt(variance.lane[v] + epsilon);
        b.lane[v] -= a.lane[v] * left.lane[v];
    }
    const long long image = sample * s.rows * s.c + share.column;
#pragma unroll 4
    for (long long row = share.first; row < s.rows; row += share.step) {
        Pack<WIDTH> pack = load_pack<WIDTH>(x + image + row * s.c);
#pragma unroll
        for (int v = 0; v < WIDTH; ++v) pack.lane[v] = (pack.lane[v] - center.lane[v]) * a.lane[v] + b.lane[v];
        store_pack<WIDTH>(y + image + row * s.c, pack);
    }
}

// y = gamma * (x - mean - rest) / sqrt(var + epsilon) + beta; gamma, beta (C,), statistics (N, G).
extern "C" __global__ void __launch_bounds__(MOST_THREADS, BLOCKS_AT_ONCE)
    group_norm_normalize(const real* __restrict__ x, const real* __restrict__ gamma, const real* __restrict__ beta,
                         const real* __restrict__ mean, const real* __restrict__ rest, const real* __restrict__ var,
                         real* __restrict__ y, real epsilon, Columns s, Groups g, int parts, int lanes) {
    if (lanes == 1) normalize<1>(x, gamma, beta, mean, rest, var, y, epsilon, s, g, parts);
    else normalize<LANES>(x, gamma, beta, mean, rest, var, y, epsilon, s, g, parts);
}

// ------------------------------------------------------------------------------------------------------ backward

template <int WIDTH>
__device__ __forceinline__ void sum_gradients(const real* gy, const real* x, const real* mean, double* partial,
                                              const Columns& s, const Groups& g, double (*shared)[MOST_THREADS]) {
    long long sample;
    const Share share = share_of_block<WIDTH>(s, g.slices, sample);
    const Pack<WIDTH> center = of_groups<WIDTH>(mean, g, sample, share.column);
    const long long image = sample * s.rows * s.c + share.column;
    double sums[2 * WIDTH] = {};
#pragma unroll 2
    for (long long row = share.first; row < s.rows; row += share.step) {
        const Pack<WIDTH> gradient = load_pack<WIDTH>(gy + image + row * s.c),
                          pack = load_pack<WIDTH>(x + image + row * s.c);
#pragma unroll
        for (int v = 0; v < WIDTH; ++v) {
            const double grad = gradient.lane[v];
            sums[v] += grad;
            sums[WIDTH + v] += grad * (pack.lane[v] - center.lane[v]);
        }
    }
    write_partial<WIDTH>(sums, shared, partial, blockIdx.x, s, share);
}

// gy, x (N, P, C) -> partial (N, slices, 2, C): sums of gy and of gy * (x - mean).
extern "C" __global__ void __launch_bounds__(MOST_THREADS, BLOCKS_AT_ONCE)
    group_norm_gradient_sums(const real* __restrict__ gy, const real* __restrict__ x, const real* __restrict__ mean,
                             double* __restrict__ partial, Columns s, Groups g, int lanes) {
    __shared__ double shared[2 * LANES][MOST_THREADS];
    if (lanes == 1) sum_gradients<1>(gy, x, mean, partial, s, g, shared);
    else sum_gradients<LANES>(gy, x, mean, partial, s, g, shared);
}

// partial (N, slices, 2, C) -> factors (3, N, G): gx = gy * gamma * factors[0] + (x - mean) * factors[1] + factors[2].
extern "C" __global__ void __launch_bounds__(MOST_THREADS, BLOCKS_AT_ONCE)
    group_norm_factors(const double* __restrict__ partial, const real* __restrict__ gamma,
                       const real* __restrict__ var, real* __restrict__ factors, real epsilon, long long positions,
                       Groups g) {
    const Team team = team_of_warp(g);
    if (!team.inside) return;
    double sums[2] = {};
    total_of_group(partial, gamma, g, team, sums);
    if (team.lane > 0) return;
    const double count = double(positions) * g.channels, inverse = 1 / sqrt(double(var[team.index]) + double(epsilon));
    const long long all = g.n * g.groups;
    factors[team.index] = inverse;
    factors[all + team.index] = -inverse * inverse * inverse * sums[1] / count;
    factors[2 * all + team.index] = -inverse * sums[0] / count;
}

// partial (N, slices, 2, C) -> ggamma, gbeta (C,). The second sum is multiplied by inverse (N, G) where that is given.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, BLOCKS_AT_ONCE)
    group_norm_parameter_gradients(const double* __restrict__ partial, const real* __restrict__ inverse,
                                   real* __restrict__ ggamma, real* __restrict__ gbeta, Groups g) {
    const Member member = team_member();
    const int c = g.groups * g.channels;
    double sums[2] = {};
    if (member.column < c)
        for (long long entry = member.number; entry < g.n * g.slices; entry += TEAM_MEMBERS) {
            const double* from = partial + entry * 2 * c + member.column;
            int slice;
            const long long sample = divide(entry, g.slices, &slice);
            const real scale = inverse == nullptr ? real(1) : inverse[sample * g.groups + member.column / g.channels];
            sums[0] += from[0], sums[1] += from[c] * scale;
        }
    add_team(sums, member);
    if (member.number > 0 || member.column >= c) return;
    gbeta[member.column] = sums[0];
    ggamma[member.column] = sums[1];
}

template <int WIDTH>
__device__ __forceinline__ void input_gradient(const real* gy, const real* x, const real* gamma, const real* mean,
                                               const real* factors, real* gx, const Columns& s, const Groups& g,
                                               int parts) {
    long long sample;
    const Share share = share_of_block<WIDTH>(s, parts, sample);
    if (!share.inside) return;
    const long long all = g.n * g.groups;
    const Pack<WIDTH> center = of_groups<WIDTH>(mean, g, sample, share.column),
                      b = of_groups<WIDTH>(factors + all, g, sample, share.column),
                      c = of_groups<WIDTH>(factors + 2 * all, g, sample, share.column);
    Pack<WIDTH> a = of_groups<WIDTH>(factors, g, sample, share.column);
#pragma unroll
    for (int v = 0; v < WIDTH; ++v) a.lane[v] *= gamma[share.column + v];
    const long long image = sample * s.rows * s.c + share.column;
#pragma unroll 2
    for (long long row = share.first; row < s.rows; row += share.step) {
        Pack<WIDTH> gradient = load_pack<WIDTH>(gy + image + row * s.c);
        const Pack<WIDTH> pack = load_pack<WIDTH>(x + image + row * s.c);
#pragma unroll
        for (int v = 0; v < WIDTH; ++v)
            gradient.lane[v] =
                gradient.lane[v] * a.lane[v] + ((pack.lane[v] - center.lane[v]) * b.lane[v] + c.lane[v]);
        store_pack<WIDTH>(gx + image + row * s.c, gradient);
    }
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS, BLOCKS_AT_ONCE)
    group_norm_input_gradient(const real* __restrict__ gy, const real* __restrict__ x, const real* __restrict__ gamma,
                              const real* __restrict__ mean, const real* __restrict__ factors, real* __restrict__ gx,
                              Columns s, Groups g, int parts, int lanes) {
    if (lanes == 1) input_gradient<1>(gy, x, gamma, mean, factors, gx, s, g, parts);
    else input_gradient<LANES>(gy, x, gamma, mean, factors, gx, s, g, parts);
}
