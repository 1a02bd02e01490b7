// Pooling: a thread makes one pack of channels of one pixel. Neighbouring threads take neighbouring channels, then
// neighbouring pixels: a warp reads whole stretches of memory, and what windows share is found in the L1 or L2 cache.
//
// N batch, H W image, C channels, KH KW window, OH OW output. `where` holds flat pixel indices h*W + w.
//
// The ways back gather: each pixel of the image looks for the outputs that it went into, so that no two threads write
// to one place and the order of each sum is fixed. For an average these are known. For a maximum (scatter2d) the window
// is not known, and `where` may be anything. So a first kernel notes, for each row and column of the image, the first
// and the last row and column of the output that read from it; the second searches between these. For any pooling that
// is as few outputs as windows overlap; for any other `where` it is more of them, and still right.
// defines: REAL=float|double
// minimum: sm_75
#include "divide.cuh"
#include "packs.cuh"

struct Window {
    int h, w, c, oh, ow, kh, kw, sh, sw, top, left;
};

struct Bins {
    int h, w, c, oh, ow;
};

// Place of a pack in (N, rows, columns, C): its image, pixel and first channel.
struct Place {
    long long n;
    int row, column, c;
};

template <int V>
__device__ __forceinline__ Place place_of(long long i, int rows, int columns, int c) {
    Place at;
    const long long pixel = divide(i, c / V, &at.c);
    at.c *= V;
    at.n = divide(divide(pixel, columns, &at.column), rows, &at.row);
    return at;
}

// Pixels [top, bottom) x [left, right) of an image.
struct Box {
    int top, bottom, left, right;
};

// The part of an output's window that lies in the image.
__device__ __forceinline__ Box window_of(const Window& g, int row, int column) {
    const int top = row * g.sh - g.top, left = column * g.sw - g.left;
    return {max(top, 0), min(top + g.kh, g.h), max(left, 0), min(left + g.kw, g.w)};
}

// Bin i of `count` spans floor(i * size / count) to ceil((i + 1) * size / count).
__device__ __forceinline__ Box bin_of(const Bins& g, int row, int column) {
    const long long h = g.h, w = g.w;
    return {static_cast<int>(row * h / g.oh), static_cast<int>(((row + 1) * h + g.oh - 1) / g.oh),
            static_cast<int>(column * w / g.ow), static_cast<int>(((column + 1) * w + g.ow - 1) / g.ow)};
}

// ------------------------------------------------------------------------------------------------------- maximum

// Keeps the larger of `best` and x, and its index; the first of equals, and NaN before all.
template <int V>
__device__ __forceinline__ void keep_larger(Pack<V>& best, Pack<V, int>& index, const Pack<V>& x, int pixel) {
#pragma unroll
    for (int v = 0; v < V; ++v)
        if (!(x.lane[v] <= best.lane[v]) && best.lane[v] == best.lane[v]) {  // larger, or the first NaN
            best.lane[v] = x.lane[v];
            index.lane[v] = pixel;
        }
}

// The largest pixel of a box and its index. `image` is at the pack's first channel.
template <int V>
__device__ __forceinline__ void max_of_box(const real* image, int w, int c, const Box& box, real* y, int* where) {
    const int first = box.top * w + box.left;
    Pack<V> best = load_pack<V>(image + (long long)first * c);
    Pack<V, int> index = filled_pack<V>(first);
    for (int row = box.top; row < box.bottom; ++row) {
        const int stop = row * w + box.right;
        for (int pixel = row * w + box.left; pixel < stop; ++pixel)
            keep_larger<V>(best, index, load_pack<V>(image + (long long)pixel * c), pixel);
    }
    store_pack(y, best);
    store_pack(where, index);
}

// The same for SIDE x SIDE pixels from `first` on: all are asked for before the first is looked at, so that a thread
// waits for memory once.
template <int V, int SIDE>
__device__ __forceinline__ void max_of_square(const real* image, int w, int c, int first, real* y, int* where) {
    Pack<V> pixels[SIDE][SIDE];
#pragma unroll
    for (int row = 0; row < SIDE; ++row)
#pragma unroll
        for (int column = 0; column < SIDE; ++column)
            pixels[row][column] = load_pack<V>(image + (long long)(first + row * w + column) * c);
    Pack<V> best = pixels[0][0];
    Pack<V, int> index = filled_pack<V>(first);
#pragma unroll
    for (int k = 1; k < SIDE * SIDE; ++k)
        keep_larger<V>(best, index, pixels[k / SIDE][k % SIDE], first + k / SIDE * w + k % SIDE);
    store_pack(y, best);
    store_pack(where, index);
}

template <int V>
__device__ __forceinline__ void max_windows(const real* x, real* y, int* where, const Window& g, long long packs) {
    GRID_STRIDE_LOOP(i, packs) {
        const Place at = place_of<V>(i, g.oh, g.ow, g.c);
        const real* image = x + at.n * g.h * g.w * g.c + at.c;
        const Box box = window_of(g, at.row, at.column);
        const int first = box.top * g.w + box.left, down = box.bottom - box.top, across = box.right - box.left;
        if (down == 2 && across == 2) max_of_square<V, 2>(image, g.w, g.c, first, y + i * V, where + i * V);
        else if (down == 3 && across == 3) max_of_square<V, 3>(image, g.w, g.c, first, y + i * V, where + i * V);
        else max_of_box<V>(image, g.w, g.c, box, y + i * V, where + i * V);
    }
}

extern "C" __global__ void max_pool2d(const real* __restrict__ x, real* __restrict__ y, int* __restrict__ where,
                                      Window g, long long packs, int lanes) {
    if (lanes == 1) max_windows<1>(x, y, where, g, packs);
    else max_windows<LANES>(x, y, where, g, packs);
}

template <int V>
__device__ __forceinline__ void max_bins(const real* x, real* y, int* where, const Bins& g, long long packs) {
    GRID_STRIDE_LOOP(i, packs) {
        const Place at = place_of<V>(i, g.oh, g.ow, g.c);
        const real* image = x + at.n * g.h * g.w * g.c + at.c;
        max_of_box<V>(image, g.w, g.c, bin_of(g, at.row, at.column), y + i * V, where + i * V);
    }
}

extern "C" __global__ void adaptive_max_pool2d(const real* __restrict__ x, real* __restrict__ y,
                                               int* __restrict__ where, Bins g, long long packs, int lanes) {
    if (lanes == 1) max_bins<1>(x, y, where, g, packs);
    else max_bins<LANES>(x, y, where, g, packs);
}

// ------------------------------------------------------------------------------------------------- gather, scatter

// y[n, i, j, c] = x[n, where[n, i, j, c], c]. Where all channels take one pixel, a warp reads neighbours.
extern "C" __global__ void gather2d(const real* __restrict__ x, const int* __restrict__ where, real* __restrict__ y,
                                    Bins g, long long count) {
    GRID_STRIDE_LOOP(i, count) {
        const Place at = place_of<1>(i, g.oh, g.ow, g.c);
        y[i] = x[(at.n * g.h * g.w + where[i]) * g.c + at.c];
    }
}

// For a row or column of the image: `before` is their number less the first output row or column that reads from it,
// `stop` is one past the last. 0 is none, both only grow, and so the order of the updates does not matter.
__device__ __forceinline__ void widen(int* reach, int first, int last, int output, int outputs) {
    for (int k = first + threadIdx.x % 32; k <= last; k += 32) {
        if (reach[2 * k] < outputs - output) atomicMax(&reach[2 * k], outputs - output);
        if (reach[2 * k + 1] < output + 1) atomicMax(&reach[2 * k + 1], output + 1);
    }
}

__device__ __forceinline__ int warp_min(int value) {
    for (int step = 16; step > 0; step /= 2) value = min(value, __shfl_xor_sync(FULL_WARP, value, step));
    return value;
}

// One output pixel in `images` images from `start` on, by one warp.
template <int V>
__device__ __forceinline__ void reach_of_pixel(const int* where, int* reach, const Bins& g, int row, int column,
                                               long long start, int images, unsigned long long w_inverse, int w_shift) {
    int first_pixel = g.h * g.w, last_pixel = -1, first_column = g.w, last_column = -1;
    for (int e = threadIdx.x % 32; e < images * (g.c / V); e += 32) {
        int pack;
        const long long image = start + divide(e, g.c / V, &pack);
        const Pack<V, int> from = load_pack<V>(where + ((image * g.oh + row) * g.ow + column) * g.c + pack * V);
#pragma unroll
        for (int v = 0; v < V; ++v) {
            const int pixel = from.lane[v], from_row = static_cast<int>((unsigned)pixel * w_inverse >> w_shift);
            first_pixel = min(first_pixel, pixel), last_pixel = max(last_pixel, pixel);
            first_column = min(first_column, pixel - from_row * g.w);
            last_column = max(last_column, pixel - from_row * g.w);
        }
    }
    first_pixel = warp_min(first_pixel), last_pixel = -warp_min(-last_pixel);
    first_column = warp_min(first_column), last_column = -warp_min(-last_column);
    widen(reach, first_pixel / g.w, last_pixel / g.w, row, g.oh);
    widen(reach + 2 * g.h, first_column, last_column, column, g.ow);
}

// reach (H + W, 2), zeros before: see `widen`. pixel / W = pixel * w_inverse >> w_shift, for all pixels.
extern "C" __global__ void scatter2d_reach(const int* __restrict__ where, int* __restrict__ reach, Bins g, int n,
                                           int images, unsigned long long w_inverse, int w_shift, int lanes) {
    const int pixels = g.oh * g.ow, warps = blockDim.x / 32;
    const long long tasks = (long long)((n + images - 1) / images) * pixels;
    for (long long t = (long long)blockIdx.x * warps + threadIdx.x / 32; t < tasks; t += (long long)gridDim.x * warps) {
        int pixel;
        const int start = static_cast<int>(divide(t, pixels, &pixel)) * images, count = min(images, n - start);
        const int row = pixel / g.ow, column = pixel % g.ow;
        if (lanes == 1) reach_of_pixel<1>(where, reach, g, row, column, start, count, w_inverse, w_shift);
        else reach_of_pixel<LANES>(where, reach, g, row, column, start, count, w_inverse, w_shift);
    }
}

template <int V>
__device__ __forceinline__ void scatter(const real* gy, const int* where, const int* reach, real* gx, const Bins& g,
                                        long long packs) {
    GRID_STRIDE_LOOP(i, packs) {
        const Place at = place_of<V>(i, g.h, g.w, g.c);
        const int pixel = at.row * g.w + at.column;
        const int *rows = reach + 2 * at.row, *columns = reach + 2 * (g.h + at.column);
        const int stop_row = rows[1], first_column = g.ow - columns[0], stop_column = columns[1];
        Pack<V> sum = filled_pack<V>(real(0));
        for (int row = g.oh - rows[0]; row < stop_row; ++row)
            for (int column = first_column; column < stop_column; ++column) {
                const long long output = ((at.n * g.oh + row) * g.ow + column) * g.c + at.c;
                const Pack<V, int> from = load_pack<V>(where + output);
                const Pack<V> gradient = load_pack<V>(gy + output);
#pragma unroll
                for (int v = 0; v < V; ++v) sum.lane[v] += from.lane[v] == pixel ? gradient.lane[v] : real(0);
            }
        store_pack(gx + i * V, sum);
    }
}

extern "C" __global__ void scatter2d(const real* __restrict__ gy, const int* __restrict__ where,
                                     const int* __restrict__ reach, real* __restrict__ gx, Bins g, long long packs,
                                     int lanes) {
    if (lanes == 1) scatter<1>(gy, where, reach, gx, g, packs);
    else scatter<LANES>(gy, where, reach, gx, g, packs);
}

// ------------------------------------------------------------------------------------------------------- average

template <int V>
__device__ __forceinline__ void average(const real* x, real* y, const Window& g, long long packs) {
    GRID_STRIDE_LOOP(i, packs) {
        const Place at = place_of<V>(i, g.oh, g.ow, g.c);
        const real* image = x + at.n * g.h * g.w * g.c + at.c;
        const Box box = window_of(g, at.row, at.column);
        Pack<V> total = filled_pack<V>(real(0));
        for (int row = box.top; row < box.bottom; ++row) {
            Pack<V> sum = filled_pack<V>(real(0));  // a sum of sums loses less than one long sum
            for (int column = box.left; column < box.right; ++column) {
                const Pack<V> pixel = load_pack<V>(image + (long long)(row * g.w + column) * g.c);
#pragma unroll
                for (int v = 0; v < V; ++v) sum.lane[v] += pixel.lane[v];
            }
#pragma unroll
            for (int v = 0; v < V; ++v) total.lane[v] += sum.lane[v];
        }
        const int pixels = max(box.bottom - box.top, 0) * max(box.right - box.left, 0);
#pragma unroll
        for (int v = 0; v < V; ++v) total.lane[v] /= max(pixels, 1);
        store_pack(y + i * V, total);
    }
}

extern "C" __global__ void avg_pool2d(const real* __restrict__ x, real* __restrict__ y, Window g, long long packs,
                                      int lanes) {
    if (lanes == 1) average<1>(x, y, g, packs);
    else average<LANES>(x, y, g, packs);
}

// The windows [first, stop) of a side that cover `padded`, a row or column counted from the padding's edge.
__device__ __forceinline__ int first_window(int padded, int size, int stride) {
    return padded < size ? 0 : (padded - size) / stride + 1;
}

__device__ __forceinline__ int stop_window(int padded, int stride, int windows) {
    return padded < 0 ? 0 : min(padded / stride + 1, windows);
}

template <int V>
__device__ __forceinline__ void average_backward(const real* gy, real* gx, const Window& g, long long packs) {
    GRID_STRIDE_LOOP(i, packs) {
        const Place at = place_of<V>(i, g.h, g.w, g.c);
        const int stop_row = stop_window(at.row + g.top, g.sh, g.oh);
        const int first_column = first_window(at.column + g.left, g.kw, g.sw);
        const int stop_column = stop_window(at.column + g.left, g.sw, g.ow);
        Pack<V> total = filled_pack<V>(real(0));
        for (int row = first_window(at.row + g.top, g.kh, g.sh); row < stop_row; ++row) {
            Pack<V> sum = filled_pack<V>(real(0));
            for (int column = first_column; column < stop_column; ++column) {
                const Box box = window_of(g, row, column);
                const real share = real(1) / ((box.bottom - box.top) * (box.right - box.left));
                const Pack<V> gradient =
                    load_pack<V>(gy + ((at.n * g.oh + row) * g.ow + column) * g.c + at.c);
#pragma unroll
                for (int v = 0; v < V; ++v) sum.lane[v] += gradient.lane[v] * share;
            }
#pragma unroll
            for (int v = 0; v < V; ++v) total.lane[v] += sum.lane[v];
        }
        store_pack(gx + i * V, total);
    }
}

extern "C" __global__ void avg_pool2d_backward(const real* __restrict__ gy, real* __restrict__ gx, Window g,
                                               long long packs, int lanes) {
    if (lanes == 1) average_backward<1>(gy, gx, g, packs);
    else average_backward<LANES>(gy, gx, g, packs);
}
