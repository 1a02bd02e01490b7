// Activations and their way back, one number a thread. Bound by memory: what matters is that a warp reads and writes
// neighbours, and that nothing is read twice.
// defines: REAL=float|double
// minimum: sm_75
#include "common.cuh"

extern "C" __global__ void activation_forward(const real* __restrict__ x, real* __restrict__ y, long long count,
                                              int kind, real alpha) {
    GRID_STRIDE_LOOP(i, count) y[i] = activate(x[i], kind, alpha);
}

extern "C" __global__ void activation_backward(const real* __restrict__ gy, const real* __restrict__ y,
                                               real* __restrict__ gx, long long count, int kind, real alpha) {
    GRID_STRIDE_LOOP(i, count) gx[i] = activate_backward(gy[i], y[i], kind, alpha);
}
