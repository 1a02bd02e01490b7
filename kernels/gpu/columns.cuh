// Threads over a matrix (rows, C) that each stay in their columns: what batch and group normalization share.
//
// In a block, `width` threads stand side by side over a row, and as many groups of them as fit below each other over the
// rows after it: a warp reads one stretch of memory even where a row is short, and what a thread knows of its columns
// stays in registers. Long rows take several rounds of blocks.
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

// Adds up what the groups of a block hold, into group 0, always in the same order. All threads of the block call it.
template <int COUNT>
__device__ __forceinline__ void add_groups(double (&sums)[COUNT], double (*shared)[MOST_THREADS], const Share& share,
                                           int width) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) shared[i][threadIdx.x] = sums[i];
    for (int groups = share.groups; groups > 1;) {
        const int half = (groups + 1) / 2;
        __syncthreads();
        if (share.group < groups - half) {
#pragma unroll
            for (int i = 0; i < COUNT; ++i) shared[i][threadIdx.x] += shared[i][threadIdx.x + half * width];
        }
        groups = half;
    }
#pragma unroll
    for (int i = 0; i < COUNT; ++i) sums[i] = shared[i][threadIdx.x];  // of group 0, each by the thread that wrote it
}
