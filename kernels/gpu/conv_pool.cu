// Convolution, bias, activation and the max pooling of 2x2 windows, as one: the map between them, four times the size
// of what is kept, is never written to memory.
//
// The convolution is that of conv.cu with its pixels in another order: the rows of the tile go from window to window,
// the four pixels of a window one after the other. A thread's rows come in runs of four, so it holds whole windows in
// its registers, and takes the largest of each where it would have written all four.
// defines: REAL=float|double
// minimum: sm_75
#include "common.cuh"
#include "conv_geometry.cuh"
#include "conv_patches.cuh"

constexpr int WINDOW = 4;  // pixels: (0, 0), (0, 1), (1, 0), (1, 1)

// The pixel of the convolution in row `row` of the product, for `ph` x `pw` windows an image.
__device__ __forceinline__ Pixel pixel_of_window(int row, int images, int ph, int pw) {
    const Pixel window = pixel_at(row / WINDOW, images, ph, pw);
    const int place = row % WINDOW;
    return {window.image, 2 * window.row + place / 2, 2 * window.column + place % 2, window.exists};
}

// The largest of rows first_row to first_row + 3 of this thread, the first of equals, NaN before all; and its row.
template <class T>
__device__ __forceinline__ void largest_of_window(const typename T::Sums& sums, int first_row, int column,
                                                  real& largest, int& place) {
    largest = sums[first_row][column];
    place = 0;
#pragma unroll
    for (int i = 1; i < WINDOW; ++i) {
        const real number = sums[first_row + i][column];
        if (!(number <= largest) && largest == largest) {
            largest = number;
            place = i;
        }
    }
}

// Blocks: x = (tile of pixels, tile of filters), y = group.
template <class T, int WIDTH>
__device__ __forceinline__ void convolve_and_pool(typename T::Memory& memory, const real* x, const real* w,
                                                  const real* b, real* y, int* where, const ConvGeometry& g,
                                                  const Steps& steps, int activation) {
    const int channels = g.c / g.groups, filters = g.f / g.groups, group = blockIdx.y;
    const int tiles_across = (filters + T::COLUMNS - 1) / T::COLUMNS;
    const int pixel = blockIdx.x / tiles_across * T::ROWS, filter = blockIdx.x % tiles_across * T::COLUMNS;
    const int ph = g.oh / 2, pw = g.ow / 2, windows = g.n * ph * pw, depth = g.kh * g.kw * channels;
    const Axis down = forward_axis(2 * ph, g.h, g.kh, g.sh, g.top, g.dh);
    const Axis across = forward_axis(2 * pw, g.w, g.kw, g.sw, g.left, g.dw);

    const Pixel mine = pixel_of_window(pixel + threadIdx.x % T::ROWS, g.n, ph, pw);
    PatchRows<T, WIDTH> patches(x + group * channels, down, across, steps, channels, g.c, mine, 0);
    MatrixRows<T, WIDTH> kernel(w + group * filters, g.f, filter, filters, 0, depth);
    typename T::Sums sums;
    multiply_tile<T>(memory, patches, kernel, (depth + T::DEPTH - 1) / T::DEPTH, sums);

    if (b != nullptr) b += group * filters;
    finish_sums<T>(sums, b, filter, filters, activation);
#pragma unroll
    for (int i = 0; i < T::EACH; i += WINDOW) {
        const int window = (pixel + T::first_row() + T::row_step(i)) / WINDOW;
        if (window >= windows) continue;
        const Pixel first = pixel_of_window(window * WINDOW, g.n, ph, pw);
        const long long out = (long long)window * g.f + group * filters;
#pragma unroll
        for (int j = 0; j < T::EACH; j += WIDTH) {
            const int column = filter + T::first_column() + T::column_step(j);
            if (column >= filters) continue;
            Pack<WIDTH> largest;
            Pack<WIDTH, int> index;
#pragma unroll
            for (int lane = 0; lane < WIDTH; ++lane) {
                int place;
                largest_of_window<T>(sums, i, j + lane, largest.lane[lane], place);
                index.lane[lane] = (first.row + place / 2) * g.ow + first.column + place % 2;
            }
            store_pack<WIDTH>(y + out + column, largest);
            store_pack<WIDTH>(where + out + column, index);
        }
    }
}

// x (N, H, W, C), w (KH, KW, C/G, F), b (F,) or null -> y and where (N, OH // 2, OW // 2, F); where counts pixels of
// (OH, OW). `activation`: none, relu or relu6. Channels and filters in packs, then any number of them.

extern "C" __global__ void __launch_bounds__(128, MEDIUM_BLOCKS)
    conv2d_pool_medium(const real* __restrict__ x, const real* __restrict__ w, const real* __restrict__ b,
                       real* __restrict__ y, int* __restrict__ where, const ConvGeometry g, const Steps steps,
                       int activation) {
    __shared__ Medium::Memory memory;
    convolve_and_pool<Medium, LANES>(memory, x, w, b, y, where, g, steps, activation);
}

extern "C" __global__ void __launch_bounds__(128, SMALL_BLOCKS)
    conv2d_pool_small(const real* __restrict__ x, const real* __restrict__ w, const real* __restrict__ b,
                      real* __restrict__ y, int* __restrict__ where, const ConvGeometry g, const Steps steps,
                      int activation) {
    __shared__ Small::Memory memory;
    convolve_and_pool<Small, LANES>(memory, x, w, b, y, where, g, steps, activation);
}

extern "C" __global__ void __launch_bounds__(128, MEDIUM_BLOCKS)
    conv2d_pool_medium_any(const real* __restrict__ x, const real* __restrict__ w, const real* __restrict__ b,
                           real* __restrict__ y, int* __restrict__ where, const ConvGeometry g, const Steps steps,
                           int activation) {
    __shared__ Medium::Memory memory;
    convolve_and_pool<Medium, 1>(memory, x, w, b, y, where, g, steps, activation);
}

extern "C" __global__ void __launch_bounds__(128, SMALL_BLOCKS)
    conv2d_pool_small_any(const real* __restrict__ x, const real* __restrict__ w, const real* __restrict__ b,
                          real* __restrict__ y, int* __restrict__ where, const ConvGeometry g, const Steps steps,
                          int activation) {
    __shared__ Small::Memory memory;
    convolve_and_pool<Small, 1>(memory, x, w, b, y, where, g, steps, activation);
}
