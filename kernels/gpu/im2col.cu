// Patches of an image laid out as rows of a matrix, and their way back. Both are bound by memory: what matters is that
// neighbouring threads touch neighbouring numbers, and that no thread divides for every number it moves.
//
// Channels are the last axis of both arrays, so a patch is KH*KW runs of C neighbours. `width` threads stand side by
// side over one patch (or one pixel, on the way back), a block holds several such groups for as many pixels, and each
// thread keeps its place in the patch while it walks from pixel to pixel: where the place lies is worked out once, and
// the next pixel's row and column are the last one's, moved on.
//
// The way back is a gather: each pixel of the image collects from the patches that hold it, in the order of the taps.
// Scattering, each patch adding to the pixels it came from, would need atomic additions, whose order, and so whose last
// bits, change from run to run.
// defines: REAL=float|double
// minimum: sm_75
#include "common.cuh"
#include "conv_geometry.cuh"
#include "packs.cuh"

// How the work is cut up: `width` threads over `places` packs (of a patch, or of a pixel's channels), blockIdx.y where
// they are more; a block takes `pixels` pixels of the batch.
struct Walk {
    int places, width, pixels;
};

// A pixel of a batch of images that are `height` x `width`, and the walk over them.
struct Pixel {
    int n, row, column;

    __device__ Pixel(int number, int height, int width) {
        const int rows = number / width;
        column = number - rows * width;
        n = rows / height;
        row = rows - n * height;
    }

    __device__ void advance(int steps, int height, int width) {
        column += steps;
        while (column >= width) {
            column -= width;
            if (++row == height) {
                row = 0;
                ++n;
            }
        }
    }
};

// cols[n, i, j, a, b, :] = x[n, i * sh - top + a * dh, j * sw - left + b * dw, :], zeros outside of the image.
template <int WIDTH>
__device__ __forceinline__ void im2col(const real* x, real* cols, const ConvGeometry& g, const Walk& walk) {
    const int group = threadIdx.x / walk.width, groups = blockDim.x / walk.width;
    const int place = blockIdx.y * walk.width + threadIdx.x % walk.width;
    if (place >= walk.places) return;
    const int packs = g.c / WIDTH, tap = place / packs, channel = (place - tap * packs) * WIDTH;
    const int row_offset = tap / g.kw * g.dh - g.top, column_offset = tap % g.kw * g.dw - g.left;

    const int first = blockIdx.x * walk.pixels, last = min(first + walk.pixels, g.n * g.oh * g.ow);
    Pixel pixel(first + group, g.oh, g.ow);
    for (int number = first + group; number < last; number += groups) {
        const int h = pixel.row * g.sh + row_offset, w = pixel.column * g.sw + column_offset;
        Pack<WIDTH> pack = {};
        if (h >= 0 && h < g.h && w >= 0 && w < g.w)
            pack = load_pack<WIDTH>(x + (((long long)pixel.n * g.h + h) * g.w + w) * g.c + channel);
        store_pack<WIDTH>(cols + ((long long)number * walk.places + place) * WIDTH, pack);
        pixel.advance(groups, g.oh, g.ow);
    }
}

// The output pixel, along one axis, that reads input pixel `at` (padding counted) under a tap; negative where there is
// none.
__device__ __forceinline__ int reader(int at, int stride, int count) {
    const int position = stride == 1 ? at : at / stride;
    return position < count && position * stride == at ? position : -1;
}

// x[n, h, w, :] = the sum of cols[n, i, j, a, b, :] over the taps (a, b) and the output pixels that read x[n, h, w] there.
template <int WIDTH>
__device__ __forceinline__ void col2im(const real* cols, real* x, const ConvGeometry& g, const Walk& walk) {
    const int group = threadIdx.x / walk.width, groups = blockDim.x / walk.width;
    const int place = blockIdx.y * walk.width + threadIdx.x % walk.width;
    if (place >= walk.places) return;

    const int first = blockIdx.x * walk.pixels, last = min(first + walk.pixels, g.n * g.h * g.w);
    Pixel pixel(first + group, g.h, g.w);
    for (int number = first + group; number < last; number += groups) {
        Pack<WIDTH> sum = {};
        for (int a = 0; a < g.kh; ++a) {
            const int i = reader(pixel.row + g.top - a * g.dh, g.sh, g.oh);
            if (i < 0) continue;
            for (int b = 0; b < g.kw; ++b) {
                const int j = reader(pixel.column + g.left - b * g.dw, g.sw, g.ow);
                if (j < 0) continue;
                const long long patch = ((long long)pixel.n * g.oh + i) * g.ow + j;  // then tap, then channel
                const real* run = cols + ((patch * g.kh + a) * g.kw + b) * g.c + place * WIDTH;
                const Pack<WIDTH> term = load_pack<WIDTH>(run);
#pragma unroll
                for (int lane = 0; lane < WIDTH; ++lane) sum.lane[lane] += term.lane[lane];
            }
        }
        store_pack<WIDTH>(x + ((long long)number * walk.places + place) * WIDTH, sum);
        pixel.advance(groups, g.h, g.w);
    }
}

// Number by number, and by packs of 16 bytes, where channels come in whole packs.

extern "C" __global__ void im2col_numbers(const real* __restrict__ x, real* __restrict__ cols, const ConvGeometry g,
                                          const Walk walk) {
    im2col<1>(x, cols, g, walk);
}

extern "C" __global__ void im2col_packs(const real* __restrict__ x, real* __restrict__ cols, const ConvGeometry g,
                                        const Walk walk) {
    im2col<LANES>(x, cols, g, walk);
}

extern "C" __global__ void col2im_numbers(const real* __restrict__ cols, real* __restrict__ x, const ConvGeometry g,
                                          const Walk walk) {
    col2im<1>(cols, x, g, walk);
}

extern "C" __global__ void col2im_packs(const real* __restrict__ cols, real* __restrict__ x, const ConvGeometry g,
                                        const Walk walk) {
    col2im<LANES>(cols, x, g, walk);
}
