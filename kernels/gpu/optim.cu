// Optimizer steps: one launch for many parameters. The formulas are Keras 3's.
//
// A network has dozens of parameters, most of them small: a launch for each would cost more than its work. A table of
// addresses (struct Tensors) travels with the launch, by value; every block takes CHUNK neighbouring numbers of one
// tensor, and finds out of which by looking through the tensors' first blocks. Bound by memory: each array is read once
// and written once.
//
// p parameter, g its gradient, m mean of g, s mean (or sum) of g squared, v velocity. The numbers that change from step
// to step come by value, or from device memory (`live`: see live.py) when a captured step is replayed.
// defines: REAL=float|double
// minimum: sm_75
#include "common.cuh"

constexpr int MOST_TENSORS = 32;  // as in optim.py
constexpr int CHUNK = 2048;       // numbers of a block; as in optim.py

// Addresses as numbers: 0 where an optimizer keeps no such array.
struct Tensors {
    unsigned long long param[32], grad[32], first[32], second[32], third[32];
    long long size[32];
    int first_block[32], count;
};

struct Schedule {
    double lr, step, momentum_now, momentum_next, momentum_product;
};

__device__ __forceinline__ Schedule current(const Schedule& given, const double* live) {
    return live ? Schedule{live[0], live[1], live[2], live[3], live[4]} : given;
}

__device__ __forceinline__ real* array_at(unsigned long long address) { return reinterpret_cast<real*>(address); }

// Call update(p, g, a, b, c) for every number of this block's chunk, with references to the three state arrays'
// numbers; to a number of its own where there is no such array.
template <class Update>
__device__ __forceinline__ void for_each_number(const Tensors& tensors, Update update) {
    int t = 0;
    while (t + 1 < tensors.count && int(blockIdx.x) >= tensors.first_block[t + 1]) ++t;
    real* const param = array_at(tensors.param[t]);
    const real* const grad = array_at(tensors.grad[t]);
    real *const first = array_at(tensors.first[t]), *const second = array_at(tensors.second[t]),
         *const third = array_at(tensors.third[t]);
    const long long start = (long long)(blockIdx.x - tensors.first_block[t]) * CHUNK;
    const long long stop = min(start + CHUNK, tensors.size[t]);
    for (long long i = start + threadIdx.x; i < stop; i += blockDim.x) {
        real p = param[i], a = first ? first[i] : real(0), b = second ? second[i] : real(0),
             c = third ? third[i] : real(0);
        update(p, grad[i], a, b, c);
        param[i] = p;
        if (first) first[i] = a;
        if (second) second[i] = b;
        if (third) third[i] = c;
    }
}

// a: v, where the optimizer has momentum.
extern "C" __global__ void sgd_step(Tensors tensors, Schedule given, const double* live, int has_momentum,
                                    real momentum, int nesterov) {
    const real lr = current(given, live).lr;
    for_each_number(tensors, [=](real& p, real g, real& v, real&, real&) {
        if (!has_momentum) {
            p -= lr * g;
            return;
        }
        v = momentum * v - lr * g;
        p += nesterov ? momentum * v - lr * g : v;
    });
}

// a: s, b: m where the optimizer is centered, c: v where it has momentum.
extern "C" __global__ void rmsprop_step(Tensors tensors, Schedule given, const double* live, int centered,
                                        int has_momentum, real rho, real momentum, real epsilon) {
    const real lr = current(given, live).lr;
    for_each_number(tensors, [=](real& p, real g, real& s, real& m, real& v) {
        s = rho * s + (1 - rho) * g * g;
        if (centered) m = rho * m + (1 - rho) * g;
        const real variance = centered ? s - m * m : s;
        real step = lr * g / sqrt(variance + epsilon);
        if (has_momentum) step = v = momentum * v + step;
        p -= step;
    });
}

// a: m, b: s, c: the largest s, for amsgrad.
extern "C" __global__ void adam_step(Tensors tensors, Schedule given, const double* live, int amsgrad, double beta_1,
                                     double beta_2, real epsilon) {
    __shared__ real shared_rate;
    if (threadIdx.x == 0) {
        const Schedule now = current(given, live);
        shared_rate = now.lr * sqrt(1 - pow(beta_2, now.step)) / (1 - pow(beta_1, now.step));
    }
    __syncthreads();
    const real rate = shared_rate, mean_weight = 1 - beta_1, square_weight = 1 - beta_2;
    for_each_number(tensors, [=](real& p, real g, real& m, real& s, real& largest) {
        m += (g - m) * mean_weight;
        s += (g * g - s) * square_weight;
        if (amsgrad) largest = largest > s ? largest : s;
        p -= rate * m / (sqrt(amsgrad ? largest : s) + epsilon);
    });
}

// a: m, b: u, the largest recent |g|.
extern "C" __global__ void adamax_step(Tensors tensors, Schedule given, const double* live, double beta_1, real beta_2,
                                       real epsilon) {
    __shared__ real shared_rate;
    if (threadIdx.x == 0) {
        const Schedule now = current(given, live);
        shared_rate = now.lr / (1 - pow(beta_1, now.step));
    }
    __syncthreads();
    const real rate = shared_rate, mean_weight = 1 - beta_1;
    for_each_number(tensors, [=](real& p, real g, real& m, real& u, real&) {
        m += (g - m) * mean_weight;
        const real decayed = beta_2 * u, size = fabs(g);
        u = decayed > size ? decayed : size;
        p -= rate * m / (u + epsilon);
    });
}

// a: m, b: s.
extern "C" __global__ void nadam_step(Tensors tensors, Schedule given, const double* live, double beta_1, double beta_2,
                                      real epsilon) {
    __shared__ real of_mean, of_grad, correction;
    if (threadIdx.x == 0) {
        const Schedule now = current(given, live);
        of_mean = now.lr * now.momentum_next / (1 - now.momentum_product * now.momentum_next);
        of_grad = now.lr * (1 - now.momentum_now) / (1 - now.momentum_product);
        correction = 1 / (1 - pow(beta_2, now.step));
    }
    __syncthreads();
    const real mean_rate = of_mean, grad_rate = of_grad, unbias = correction;
    const real mean_weight = 1 - beta_1, square_weight = 1 - beta_2;
    for_each_number(tensors, [=](real& p, real g, real& m, real& s, real&) {
        m += (g - m) * mean_weight;
        s += (g * g - s) * square_weight;
        p -= (mean_rate * m + grad_rate * g) / (sqrt(s * unbias) + epsilon);
    });
}

// a: s.
extern "C" __global__ void adagrad_step(Tensors tensors, Schedule given, const double* live, real epsilon) {
    const real lr = current(given, live).lr;
    for_each_number(tensors, [=](real& p, real g, real& s, real&, real&) {
        s += g * g;
        p -= lr * g / sqrt(s + epsilon);
    });
}

// a: s, b: the mean of the steps' squares.
extern "C" __global__ void adadelta_step(Tensors tensors, Schedule given, const double* live, real rho, real epsilon) {
    const real lr = current(given, live).lr;
    for_each_number(tensors, [=](real& p, real g, real& s, real& d, real&) {
        s = rho * s + (1 - rho) * g * g;
        const real delta = -sqrt(d + epsilon) / sqrt(s + epsilon) * g;
        d = rho * d + (1 - rho) * delta * delta;
        p += lr * delta;
    });
}
