// Threads over a matrix (rows, C) that each stay in their columns: what batch and group normalization share.
//
// In a block, `width` threads stand side by side over a row, and as many groups of them as fit below each other over
// the rows after it: a warp reads one stretch of memory even where a row is short, and what a thread knows of its
// columns stays in registers. Long rows take several rounds of blocks.
#pragma once
#include "packs.cuh"

constexpr int MOST_THREADS = 256;
constexpr int BLOCKS_AT_ONCE = 4;  // that a multiprocessor has registers for

struct Columns {
    long long rows;
    int c;       // numbers of a row
    int places;  // packs (or numbers) of a row
    int width;   // threads side by side
};

// What one thread does: rows first, first + step, ... of WIDTH columns from `column` on.
struct Share {
    int column, group, groups;
    long long first, step;
    bool inside;  // false beyond the last column: such a thread has no rows
};

// The share of slice `slice` of the rows, in round `round` of the columns.
template <int WIDTH>
__device__ __forceinline__ Share share_of(const Columns& s, int round, long long slice, long long slices) {
    Share share;
    const int place = round * s.width + threadIdx.x % s.width;
    share.inside = place < s.places;
    share.column = share.inside ? place * WIDTH : 0;
    share.group = threadIdx.x / s.width;
    share.groups = blockDim.x / s.width;
    share.first = share.inside ? slice * share.groups + share.group : s.rows;
    share.step = slices * share.groups;
    return share;
}

// Adds up what `groups` groups of `width` threads hold, into group 0, always in the same order. All threads of the
// block call it.
template <int COUNT>
__device__ __forceinline__ void add_groups(double (&sums)[COUNT], double (*shared)[MOST_THREADS], int group, int groups,
                                           int width) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) shared[i][threadIdx.x] = sums[i];
    while (groups > 1) {
        const int half = (groups + 1) / 2;
        __syncthreads();
        if (group < groups - half) {
#pragma unroll
            for (int i = 0; i < COUNT; ++i) shared[i][threadIdx.x] += shared[i][threadIdx.x + half * width];
        }
        groups = half;
    }
#pragma unroll
    for (int i = 0; i < COUNT; ++i) sums[i] = shared[i][threadIdx.x];  // of group 0, each by the thread that wrote it
}

// Adds what this thread's rows of x (rows, C) deviate from `shift`, and the squares of that, to the two halves of sums.
template <int WIDTH>
__device__ __forceinline__ void add_deviations(const real* x, const Pack<WIDTH>& shift, const Columns& s,
                                               const Share& share, double (&sums)[2 * WIDTH]) {
#pragma unroll 4
    for (long long row = share.first; row < s.rows; row += share.step) {
        const Pack<WIDTH> pack = load_pack<WIDTH>(x + row * s.c + share.column);
#pragma unroll
        for (int v = 0; v < WIDTH; ++v) {
            const double d = pack.lane[v] - shift.lane[v];
            sums[v] += d;
            sums[WIDTH + v] += d * d;
        }
    }
}

// What a block found, two sums a column, to partial (entries, 2, C).
template <int WIDTH>
__device__ __forceinline__ void write_partial(double (&sums)[2 * WIDTH], double (*shared)[MOST_THREADS],
                                              double* partial, long long entry, const Columns& s, const Share& share) {
    add_groups(sums, shared, share.group, share.groups, s.width);
    if (share.group > 0 || !share.inside) return;
    double* to = partial + entry * 2 * s.c + share.column;
#pragma unroll
    for (int v = 0; v < WIDTH; ++v) to[v] = sums[v], to[s.c + v] = sums[WIDTH + v];
}

// The kernels that add up partial sums: a block takes 8 columns, with a team of 32 threads for each.
constexpr int TEAMS = 8, TEAM_MEMBERS = MOST_THREADS / TEAMS;

struct Member {
    int column, number;
};

__device__ __forceinline__ Member team_member() {
    return {static_cast<int>(blockIdx.x * TEAMS + threadIdx.x % TEAMS), static_cast<int>(threadIdx.x / TEAMS)};
}

// Adds up what the members of each team hold, to member 0. All threads of the block call it.
__device__ __forceinline__ void add_team(double (&sums)[2], const Member& member) {
    __shared__ double shared[2][MOST_THREADS];
    add_groups(sums, shared, member.number, TEAM_MEMBERS, TEAMS);
}
