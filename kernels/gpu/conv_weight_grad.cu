// Gradient of a convolution's weights as an implicit product of matrices: a long sum for each of few numbers.
//
// gw[(tap, c), f] = sum over the output pixels p of x[under p and the tap, c] * gy[p, f]. Rows of the product are the
// KH * KW * C/G inputs of a filter, columns the filters, and the depth all N * OH * OW pixels. That makes few tiles,
// too few for a GPU, so the pixels are cut into slices, each summed up by blocks of its own; slices.cu adds them. Short
// sums that are added to each other also round less than a single long one.
//
// A thread stands for one row (WIDTH of them side by side): tap and channel are worked out once. Along the depth it
// walks from pixel to pixel, by additions alone. Neighbouring threads read neighbouring channels of one pixel.
// defines: REAL=float|double
// minimum: sm_75
#include "common.cuh"
#include "conv_geometry.cuh"
#include "conv_tile.cuh"

// How far memory is left behind, in numbers, by the last output pixel of a row: to what the first of the next row
// reads, and, on top of that, to the first of the next image.
struct Steps {
    long long row, image;
};

// The matrix A: depth = an output pixel, row = (tap, channel).
template <class T, int WIDTH>
struct PatchColumns {
    static constexpr int ACROSS = T::ROWS / WIDTH;
    static constexpr int STRIDE = T::THREADS / ACROSS;  // pixels from one read of this thread to the next
    static constexpr int COUNT = T::DEPTH / STRIDE;

    const ConvGeometry& g;
    const Steps& steps;
    int row, column, left;          // the output pixel where the walk stands, and how many are left
    int source_row, source_column;  // what the tap reads there
    const real* next;
    Pack<WIDTH> held[COUNT];

    // x (N, H, W, C) from the first channel of the group; rows from `first_row`, pixels from first to end.
    __device__ PatchColumns(const real* x, const ConvGeometry& g, const Steps& steps, int first_row, int first, int end)
        : g(g), steps(steps) {
        const int channels = g.c / g.groups;
        const int k = first_row + threadIdx.x % ACROSS * WIDTH;
        const int tap = k / channels, tap_row = tap / g.kw;
        const int pixel = first + threadIdx.x / ACROSS, line = pixel / g.ow, image = line / g.oh;
        row = line - image * g.oh;
        column = pixel - line * g.ow;
        left = tap_row < g.kh ? end - pixel : 0;  // beyond the last row: no pixels
        source_row = row * g.sh + tap_row * g.dh - g.top;
        source_column = column * g.sw + (tap - tap_row * g.kw) * g.dw - g.left;
        next = x + (((long long)image * g.h + source_row) * g.w + source_column) * g.c + (k - tap * channels);
    }

    __device__ void fetch() {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const bool inside =
                left > 0 && (unsigned)source_row < (unsigned)g.h && (unsigned)source_column < (unsigned)g.w;
            held[i] = inside ? load_pack<WIDTH>(next) : Pack<WIDTH>{};
            advance();
        }
    }

    __device__ void advance() {
        left -= STRIDE;
        column += STRIDE;
        source_column += STRIDE * g.sw;
        next += (long long)(STRIDE * g.sw) * g.c;
        while (column >= g.ow) {  // the next row, or the next image's first
            column -= g.ow;
            source_column -= g.ow * g.sw;
            source_row += g.sh;
            next += steps.row;
            if (++row == g.oh) {
                row = 0;
                source_row -= g.oh * g.sh;
                next += steps.image;
            }
        }
    }

    __device__ void store(real (&buffer)[T::DEPTH][T::ROWS]) const {
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
            store_pack<WIDTH>(&buffer[threadIdx.x / ACROSS + i * STRIDE][threadIdx.x % ACROSS * WIDTH], held[i]);
    }
};

// Blocks: x = (tile of rows, tile of filters), y = group, z = slice of `slice_pixels` pixels.
template <class T, int WIDTH>
__device__ __forceinline__ void correlate(typename T::Memory& memory, const real* x, const real* gy, real* partial,
                                          const ConvGeometry& g, const Steps& steps, int slice_pixels) {
    const int channels = g.c / g.groups, filters = g.f / g.groups, group = blockIdx.y;
    const int tiles_across = (filters + T::COLUMNS - 1) / T::COLUMNS;
    const int tile_row = blockIdx.x / tiles_across * T::ROWS, filter = blockIdx.x % tiles_across * T::COLUMNS;
    const int rows = g.kh * g.kw * channels;
    const int first = blockIdx.z * slice_pixels, end = min(g.n * g.oh * g.ow, first + slice_pixels);

    PatchColumns<T, WIDTH> patches(x + group * channels, g, steps, tile_row, first, end);
    MatrixRows<T, WIDTH> gradient(gy + group * filters, g.f, filter, filters, first, end);
    typename T::Sums sums;
    multiply_tile<T>(memory, patches, gradient, (end - first + T::DEPTH - 1) / T::DEPTH, sums);

    partial += (long long)blockIdx.z * rows * g.f + group * filters;
#pragma unroll
    for (int i = 0; i < T::EACH; ++i) {
        const int row = tile_row + T::first_row() + T::row_step(i);
        if (row < rows) store_row<T, WIDTH>(sums[i], partial + (long long)row * g.f, filter, filters);
    }
}

// x (N, H, W, C), gy (N, OH, OW, F) -> partial (S, KH, KW, C/G, F).

extern "C" __global__ void __launch_bounds__(256, LARGE_BLOCKS)
    conv2d_weight_grad_large(const real* __restrict__ x, const real* __restrict__ gy, real* __restrict__ partial,
                             const ConvGeometry g, const Steps steps, int slice_pixels) {
    __shared__ Large::Memory memory;
    correlate<Large, LANES>(memory, x, gy, partial, g, steps, slice_pixels);
}

extern "C" __global__ void __launch_bounds__(128, MEDIUM_BLOCKS)
    conv2d_weight_grad_medium(const real* __restrict__ x, const real* __restrict__ gy, real* __restrict__ partial,
                              const ConvGeometry g, const Steps steps, int slice_pixels) {
    __shared__ Medium::Memory memory;
    correlate<Medium, LANES>(memory, x, gy, partial, g, steps, slice_pixels);
}

extern "C" __global__ void __launch_bounds__(128, SMALL_BLOCKS)
    conv2d_weight_grad_small(const real* __restrict__ x, const real* __restrict__ gy, real* __restrict__ partial,
                             const ConvGeometry g, const Steps steps, int slice_pixels) {
    __shared__ Small::Memory memory;
    correlate<Small, LANES>(memory, x, gy, partial, g, steps, slice_pixels);
}

extern "C" __global__ void __launch_bounds__(128, MEDIUM_BLOCKS)
    conv2d_weight_grad_medium_any(const real* __restrict__ x, const real* __restrict__ gy, real* __restrict__ partial,
                                  const ConvGeometry g, const Steps steps, int slice_pixels) {
    __shared__ Medium::Memory memory;
    correlate<Medium, 1>(memory, x, gy, partial, g, steps, slice_pixels);
}

extern "C" __global__ void __launch_bounds__(128, SMALL_BLOCKS)
    conv2d_weight_grad_small_any(const real* __restrict__ x, const real* __restrict__ gy, real* __restrict__ partial,
                                 const ConvGeometry g, const Steps steps, int slice_pixels) {
    __shared__ Small::Memory memory;
    correlate<Small, 1>(memory, x, gy, partial, g, steps, slice_pixels);
}
