// Softmax and its cross-entropy. M rows, C classes; one team of threads a row.
//
// A team is a warp where rows are short, a block where they are long (TEAM threads: blockDim.x; blockDim.y teams). Lane l
// takes the classes l, l + TEAM, l + 2 * TEAM, ...: neighbours in a warp read neighbours in memory. Largest logit and sum
// are found by halving: 16 lanes take the numbers of 16 others, 8 of 8, ... (shuffles need no memory); the warps of a
// block meet in shared memory. Everything between is in registers or, on the second reading, in the cache.
// defines: REAL=float|double
// minimum: sm_75
#include "common.cuh"

constexpr int WARP = 32;
constexpr int MOST_WARPS = 32;

struct Sum {
    __device__ static real of(real a, real b) { return a + b; }
};
struct Largest {  // NaN wins: a row with a NaN is a row of NaN
    __device__ static real of(real a, real b) { return a > b || a != a ? a : b; }
};

// The team's numbers as one, known to all its lanes. Every thread of the block calls it.
template <class Operation>
__device__ real across_team(real value) {
    __shared__ real of_warp[MOST_WARPS];
    for (int offset = WARP / 2; offset > 0; offset /= 2)
        value = Operation::of(value, __shfl_xor_sync(FULL_WARP, value, offset));
    if (blockDim.x == WARP) return value;
    const int warps = blockDim.x / WARP;
    __syncthreads();  // the reading of an earlier call is over
    if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = value;
    __syncthreads();
    value = of_warp[0];
    for (int warp = 1; warp < warps; ++warp) value = Operation::of(value, of_warp[warp]);
    return value;
}

// The row of this team; a team beyond the last row works on the last one and stores nothing.
__device__ __forceinline__ long long team_row() { return (long long)blockIdx.x * blockDim.y + threadIdx.y; }

// log(sum(exp(x))) in two parts: the largest x, and the sum of exp(x - largest).
__device__ __forceinline__ void log_sum_exp(const real* __restrict__ x, int classes, real& largest, real& sum) {
    real most = x[0];
    for (int c = threadIdx.x; c < classes; c += blockDim.x) most = Largest::of(x[c], most);
    largest = across_team<Largest>(most);
    real mine = 0;
    for (int c = threadIdx.x; c < classes; c += blockDim.x) mine += exp(x[c] - largest);
    sum = across_team<Sum>(mine);
}

// x (M, C) -> y (M, C): softmax, or its logarithm.
extern "C" __global__ void softmax_rows(const real* __restrict__ x, real* __restrict__ y, long long rows, int classes,
                                        int logarithm) {
    const long long row = team_row();
    const real* const given = x + min(row, rows - 1) * classes;
    real largest, sum;
    log_sum_exp(given, classes, largest, sum);
    if (row >= rows) return;
    const real shift = logarithm ? log(sum) : real(0);
    const real scale = 1 / sum;
    for (int c = threadIdx.x; c < classes; c += blockDim.x) {
        const real shifted = given[c] - largest;
        y[row * classes + c] = logarithm ? shifted - shift : exp(shifted) * scale;
    }
}

// logits (M, C), and labels (M,) or targets (M, C), the other null -> loss (M,), probabilities (M, C)
extern "C" __global__ void cross_entropy_rows(const real* __restrict__ logits, const long long* __restrict__ labels,
                                              const real* __restrict__ targets, real* __restrict__ loss,
                                              real* __restrict__ probabilities, long long rows, int classes) {
    const long long row = team_row(), read = min(row, rows - 1);
    const real* const given = logits + read * classes;
    real largest, sum;
    log_sum_exp(given, classes, largest, sum);
    const real shift = log(sum), scale = 1 / sum;
    real mine = 0;
    for (int c = threadIdx.x; c < classes; c += blockDim.x) {
        const real shifted = given[c] - largest;
        const real target = labels ? real(labels[read] == c) : targets[read * classes + c];
        if (target != 0) mine -= target * (shifted - shift);  // a class of target 0 costs nothing, even at -inf
        if (row < rows) probabilities[row * classes + c] = exp(shifted) * scale;
    }
    mine = across_team<Sum>(mine);
    if (row < rows && threadIdx.x == 0) loss[row] = mine;
}

// gloss (M,), probabilities (M, C), labels or targets as above -> gx (M, C) = gloss * (sum(t) * p - t)
extern "C" __global__ void cross_entropy_backward_rows(const real* __restrict__ gloss,
                                                       const real* __restrict__ probabilities,
                                                       const long long* __restrict__ labels,
                                                       const real* __restrict__ targets, real* __restrict__ gx,
                                                       long long rows, int classes) {
    const long long row = team_row(), read = min(row, rows - 1);
    real total = 1;
    if (targets) {
        real mine = 0;
        for (int c = threadIdx.x; c < classes; c += blockDim.x) mine += targets[read * classes + c];
        total = across_team<Sum>(mine);
    }
    if (row >= rows) return;
    for (int c = threadIdx.x; c < classes; c += blockDim.x) {
        const real target = labels ? real(labels[row] == c) : targets[row * classes + c];
        gx[row * classes + c] = gloss[row] * (total * probabilities[row * classes + c] - target);
    }
}
