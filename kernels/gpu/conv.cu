// Convolution forward and its input gradient in the arithmetic of the arrays, as products of matrices that are never
// written out ("implicit GEMM").
//
// Forward. Row p of the matrix A is the patch under output pixel p, KH * KW * C/G numbers long; the matrix B is w as it
// lies, (KH * KW * C/G, F). A block makes the product for a tile of pixels and filters (conv_tile.cuh) and reads the
// patches straight from the image: a thread stands for one pixel of the tile, whose place in the image it works out
// once; along the depth it walks from tap to tap, by additions alone. No division stands in the loop.
//
// Input gradient. Gathered, not scattered: an input pixel reads every output pixel that has read it, so nothing is
// added from two sides and results are the same on every run. With a stride, the input pixels fall into sh * sw classes
// by their place modulo the stride. All pixels of a class were read under the same taps, and over these taps the
// gradient is an ordinary convolution of gy with stride 1. A block has pixels of one class and walks the taps of that
// class only: none is wasted. Its two axes lie in shared memory, for all threads the same.
//
// Two forms of each: with channels that divide into packs of 16 bytes, and for any number of channels.
// defines: REAL=float|double
// minimum: sm_75
#include "common.cuh"
#include "conv_geometry.cuh"
#include "conv_patches.cuh"

// The matrix B of the input gradient: depth = (tap, filter), column = an input channel. w (KH, KW, C/G, F) is read
// along its filters, and turned on the way to shared memory. A thread has one column.
template <class T, int WIDTH>
struct TurnedFilters {
    static constexpr int STRIDE = T::THREADS / T::COLUMNS * WIDTH;
    static constexpr int COUNT = T::DEPTH / STRIDE;

    const Axis &down, &across;
    const Steps& steps;
    const int filters;                // of a group
    int tap_row, tap_column, filter;  // where the walk stands
    const real* next;
    bool inside;
    Pack<WIDTH> held[COUNT];

    // w from the first filter of the group; columns from `channel`.
    __device__ TurnedFilters(const real* w, const ConvGeometry& g, const Axis& down, const Axis& across,
                             const Steps& steps, int channel)
        : down(down), across(across), steps(steps), filters(g.f / g.groups), tap_row(0), tap_column(0), filter(0) {
        const int channels = g.c / g.groups;
        channel += threadIdx.x % T::COLUMNS;
        inside = channel < channels;
        next = w + ((long long)(down.first_tap * g.kw + across.first_tap) * channels + channel) * g.f;
        advance(threadIdx.x / T::COLUMNS * WIDTH);
    }

    __device__ void advance(int count) {
        next += count;
        filter += count;
        if (filter < filters || filters == 0) return;
        do {
            filter -= filters;
            next += steps.tap;
            if (++tap_column == across.taps) {
                tap_column = 0;
                ++tap_row;
                next += steps.row;
            }
        } while (filter >= filters);
    }

    __device__ void fetch() {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            held[i] = inside && tap_row < down.taps ? load_pack<WIDTH>(next) : Pack<WIDTH>{};
            advance(STRIDE);
        }
    }

    __device__ void store(real (&buffer)[T::DEPTH][T::COLUMNS]) const {
        const int column = threadIdx.x % T::COLUMNS, k = threadIdx.x / T::COLUMNS * WIDTH;
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
#pragma unroll
            for (int lane = 0; lane < WIDTH; ++lane) buffer[k + i * STRIDE + lane][column] = held[i].lane[lane];
    }
};

// Blocks: x = (tile of pixels, tile of filters), filters first, so that blocks which run together read the same
// patches; y = group; z = slice of `slice_depth` terms of each sum. Of several slices each has a y of its own.
template <class T, int WIDTH>
__device__ __forceinline__ void convolve(typename T::Memory& memory, const real* x, const real* w, const real* b,
                                         real* y, const ConvGeometry& g, const Steps& steps, int slice_depth,
                                         int activation) {
    const int channels = g.c / g.groups, filters = g.f / g.groups, group = blockIdx.y;
    const int tiles_across = (filters + T::COLUMNS - 1) / T::COLUMNS;
    const int pixel = blockIdx.x / tiles_across * T::ROWS, filter = blockIdx.x % tiles_across * T::COLUMNS;
    const int pixels = g.n * g.oh * g.ow, depth = g.kh * g.kw * channels;
    const int first = blockIdx.z * slice_depth, end = min(depth, first + slice_depth);
    const Axis down = forward_axis(g.oh, g.h, g.kh, g.sh, g.top, g.dh);
    const Axis across = forward_axis(g.ow, g.w, g.kw, g.sw, g.left, g.dw);

    const Pixel mine = pixel_at(pixel + threadIdx.x % T::ROWS, g.n, g.oh, g.ow);
    PatchRows<T, WIDTH> patches(x + group * channels, down, across, steps, channels, g.c, mine, first);
    MatrixRows<T, WIDTH> kernel(w + group * filters, g.f, filter, filters, first, end);
    typename T::Sums sums;
    multiply_tile<T>(memory, patches, kernel, (end - first + T::DEPTH - 1) / T::DEPTH, sums);

    y += (long long)blockIdx.z * pixels * g.f + group * filters;
    if (b != nullptr) b += group * filters;
    finish_sums<T>(sums, b, filter, filters, activation);
#pragma unroll
    for (int i = 0; i < T::EACH; ++i) {
        const int row = pixel + T::first_row() + T::row_step(i);
        if (row < pixels) store_row<T, WIDTH>(sums[i], y + (long long)row * g.f, filter, filters);
    }
}

// What all threads of a block for the input gradient share.
template <class T>
struct Gradient {
    typename T::Memory tile;
    Axis down, across;
    Steps source_steps, kernel_steps;
    long long places[T::ROWS];  // where the pixels of the tile lie in gx
};

// Blocks: x = (tile of pixels, tile of channels), y = group, z = class of pixels.
template <class T, int WIDTH>
__device__ __forceinline__ void convolve_back(Gradient<T>& shared, const real* gy, const real* w, real* gx,
                                              const ConvGeometry& g) {
    const int channels = g.c / g.groups, filters = g.f / g.groups, group = blockIdx.y;
    const int tiles_across = (channels + T::COLUMNS - 1) / T::COLUMNS;
    const int pixel = blockIdx.x / tiles_across * T::ROWS, channel = blockIdx.x % tiles_across * T::COLUMNS;
    const int row_phase = blockIdx.z / g.sw, column_phase = blockIdx.z % g.sw;
    const Axis &down = shared.down, &across = shared.across;
    if (threadIdx.x == 0) shared.down = gradient_axis(g.h, g.oh, g.kh, g.sh, g.top, g.dh, row_phase);
    if (threadIdx.x == 1) shared.across = gradient_axis(g.w, g.ow, g.kw, g.sw, g.left, g.dw, column_phase);
    __syncthreads();
    if (threadIdx.x == 0) {
        shared.source_steps = {(long long)across.step * g.f - filters,
                               (long long)(down.step * g.ow - across.taps * across.step) * g.f};
        const int to_next_row = down.tap_stride * g.kw - across.taps * across.tap_stride;  // in taps
        shared.kernel_steps = {(long long)(across.tap_stride * channels) * g.f - filters,
                               (long long)(to_next_row * channels) * g.f};
    }
    const int pixels = g.n * down.size * across.size, depth = down.taps * across.taps * filters;
    if (pixel >= pixels) return;  // the classes differ by a row or a column of pixels

    const Pixel mine = pixel_at(pixel + threadIdx.x % T::ROWS, g.n, down.size, across.size);
    if (threadIdx.x < T::ROWS) {
        const int row = row_phase + mine.row * g.sh, column = column_phase + mine.column * g.sw;
        shared.places[threadIdx.x] = (((long long)mine.image * g.h + row) * g.w + column) * g.c;
    }
    __syncthreads();

    PatchRows<T, WIDTH> patches(gy + group * filters, down, across, shared.source_steps, filters, g.f, mine, 0);
    TurnedFilters<T, WIDTH> kernel(w + group * filters, g, down, across, shared.kernel_steps, channel);
    typename T::Sums sums;
    multiply_tile<T>(shared.tile, patches, kernel, (depth + T::DEPTH - 1) / T::DEPTH, sums);

    gx += group * channels;
#pragma unroll
    for (int i = 0; i < T::EACH; ++i) {
        const int row = T::first_row() + T::row_step(i);
        if (pixel + row < pixels) store_row<T, WIDTH>(sums[i], gx + shared.places[row], channel, channels);
    }
}

// ------------------------------------------------------------------------------------------------- forward
// x (N, H, W, C), w (KH, KW, C/G, F), b (F,) or null -> y (N, OH, OW, F). `activation`: none, relu or relu6.
// Several slices: partial sums (S, N, OH, OW, F) for y; b null and no activation.

extern "C" __global__ void __launch_bounds__(256, LARGE_BLOCKS)
    conv2d_large(const real* __restrict__ x, const real* __restrict__ w, const real* __restrict__ b,
                 real* __restrict__ y, const ConvGeometry g, const Steps steps, int slice_depth,
                 int activation) {
    __shared__ Large::Memory memory;
    convolve<Large, LANES>(memory, x, w, b, y, g, steps, slice_depth, activation);
}

extern "C" __global__ void __launch_bounds__(128, MEDIUM_BLOCKS)
    conv2d_medium(const real* __restrict__ x, const real* __restrict__ w, const real* __restrict__ b,
                  real* __restrict__ y, const ConvGeometry g, const Steps steps, int slice_depth,
                  int activation) {
    __shared__ Medium::Memory memory;
    convolve<Medium, LANES>(memory, x, w, b, y, g, steps, slice_depth, activation);
}

extern "C" __global__ void __launch_bounds__(128, SMALL_BLOCKS)
    conv2d_small(const real* __restrict__ x, const real* __restrict__ w, const real* __restrict__ b,
                 real* __restrict__ y, const ConvGeometry g, const Steps steps, int slice_depth,
                 int activation) {
    __shared__ Small::Memory memory;
    convolve<Small, LANES>(memory, x, w, b, y, g, steps, slice_depth, activation);
}

extern "C" __global__ void __launch_bounds__(128, MEDIUM_BLOCKS)
    conv2d_medium_any(const real* __restrict__ x, const real* __restrict__ w, const real* __restrict__ b,
                      real* __restrict__ y, const ConvGeometry g, const Steps steps, int slice_depth,
                      int activation) {
    __shared__ Medium::Memory memory;
    convolve<Medium, 1>(memory, x, w, b, y, g, steps, slice_depth, activation);
}

extern "C" __global__ void __launch_bounds__(128, SMALL_BLOCKS)
    conv2d_small_any(const real* __restrict__ x, const real* __restrict__ w, const real* __restrict__ b,
                     real* __restrict__ y, const ConvGeometry g, const Steps steps, int slice_depth,
                     int activation) {
    __shared__ Small::Memory memory;
    convolve<Small, 1>(memory, x, w, b, y, g, steps, slice_depth, activation);
}

// What the kernels above leave out: y (..., F) = act(the sum of partial (S, ..., F) over the slices + b), one number a
// thread. `partial` may be y itself. Long activations are here only: above, their code would stand once for each number
// of a thread.
extern "C" __global__ void conv2d_finish(const real* partial, const real* __restrict__ b, real* y, long long count,
                                         int slices, int filters, int activation) {
    GRID_STRIDE_LOOP(i, count) {
        double sum = b != nullptr ? b[i % filters] : real(0);
        for (int s = 0; s < slices; ++s) sum += partial[s * count + i];
        y[i] = activate(real(sum), activation, real(0));
    }
}

// ------------------------------------------------------------------------------------------------- input gradient
// gy (N, OH, OW, F), w (KH, KW, C/G, F) -> gx (N, H, W, C).

extern "C" __global__ void __launch_bounds__(256, LARGE_BLOCKS)
    conv2d_input_grad_large(const real* __restrict__ gy, const real* __restrict__ w, real* __restrict__ gx,
                            const ConvGeometry g) {
    __shared__ Gradient<Large> shared;
    convolve_back<Large, LANES>(shared, gy, w, gx, g);
}

extern "C" __global__ void __launch_bounds__(128, MEDIUM_BLOCKS)
    conv2d_input_grad_medium(const real* __restrict__ gy, const real* __restrict__ w, real* __restrict__ gx,
                             const ConvGeometry g) {
    __shared__ Gradient<Medium> shared;
    convolve_back<Medium, LANES>(shared, gy, w, gx, g);
}

extern "C" __global__ void __launch_bounds__(128, SMALL_BLOCKS)
    conv2d_input_grad_small(const real* __restrict__ gy, const real* __restrict__ w, real* __restrict__ gx,
                            const ConvGeometry g) {
    __shared__ Gradient<Small> shared;
    convolve_back<Small, LANES>(shared, gy, w, gx, g);
}

extern "C" __global__ void __launch_bounds__(128, MEDIUM_BLOCKS)
    conv2d_input_grad_medium_any(const real* __restrict__ gy, const real* __restrict__ w, real* __restrict__ gx,
                                 const ConvGeometry g) {
    __shared__ Gradient<Medium> shared;
    convolve_back<Medium, 1>(shared, gy, w, gx, g);
}

extern "C" __global__ void __launch_bounds__(128, SMALL_BLOCKS)
    conv2d_input_grad_small_any(const real* __restrict__ gy, const real* __restrict__ w, real* __restrict__ gx,
                                const ConvGeometry g) {
    __shared__ Gradient<Small> shared;
    convolve_back<Small, 1>(shared, gy, w, gx, g);
}
