// What every kernel file of this folder begins with.
//
// `real` is the type of the arrays: float, or double with -DREAL=double. Kernels are compiled by NVRTC through CuPy; the
// tests compile the same text with g++ and run it on the CPU (MINICNN_EMULATOR).
#pragma once

#ifndef MINICNN_EMULATOR
// Shared memory whose size the launch decides: T* const name.
#define DYNAMIC_SHARED(T, name)                                    \
    extern __shared__ __align__(16) unsigned char name##_bytes[]; \
    T* const name = reinterpret_cast<T*>(name##_bytes)
#endif

#ifndef REAL
#define REAL float
#endif
typedef REAL real;

#define FULL_WARP 0xffffffffu

// Each thread takes the elements i, i + (all threads), i + 2 * (all threads), ...: neighbours in a warp take neighbours
// in memory, and any grid will do for any count.
#define GRID_STRIDE_LOOP(i, count)                                                      \
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < (count); \
         i += (long long)gridDim.x * blockDim.x)

// The activations that need nothing but the number, and those of the epilogues. Numbered as in activation_codes.py.
enum Activation { LINEAR = 0, RELU = 1, RELU6 = 2, LEAKY_RELU = 3, ELU = 4, SIGMOID = 5, TANH = 6 };

// act(x); NaN passes through. `kind` is the same for all threads: the branch costs nothing.
__device__ __forceinline__ real activate(real x, int kind, real alpha) {
    switch (kind) {
        case RELU: return x < 0 ? real(0) : x;
        case RELU6: return x < 0 ? real(0) : x > 6 ? real(6) : x;
        case LEAKY_RELU: return x > 0 ? x : alpha * x;
        case ELU: return x > 0 ? x : alpha * expm1(x);
        case SIGMOID: {  // of -|x|, so that exp cannot overflow
            const real e = exp(-fabs(x));
            return x < 0 ? e / (1 + e) : 1 / (1 + e);
        }
        case TANH: return tanh(x);
        default: return x;
    }
}

// gy times the derivative of the activation, told from its output y.
__device__ __forceinline__ real activate_backward(real gy, real y, int kind, real alpha) {
    switch (kind) {
        case RELU: return y > 0 ? gy : real(0);
        case RELU6: return y > 0 && y < 6 ? gy : real(0);
        case LEAKY_RELU: return y > 0 ? gy : alpha * gy;
        case ELU: return y > 0 ? gy : gy * (y + alpha);
        case SIGMOID: return gy * y * (1 - y);
        case TANH: return gy * (1 - y * y);
        default: return gy;
    }
}
