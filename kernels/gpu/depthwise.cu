// Depthwise convolution: each channel by itself, nothing is summed over channels. A handful of multiplications for each
// number read, so memory is the bound, and no matrix product would help.
//
// A thread has one pack of neighbouring channels (16 bytes where they divide) at STRIP neighbouring output pixels.
// Neighbouring threads have neighbouring packs, so a warp reads whole lines of memory; each weight is read once for the
// strip, and where the width of the kernel is known (3), the windows of the strip, which overlap, are read once too.
//
// With stride 1 the input gradient is a convolution as well: of gy with the kernel turned by half a turn. The gradient
// of the weights is a sum over all pixels for each of few numbers: a block sums up a slice of the pixels in its
// threads' registers, then across its threads; slices.cu adds the slices.
// defines: REAL=float|double
// minimum: sm_75
#include "common.cuh"
#include "conv_geometry.cuh"
#include "packs.cuh"

constexpr int STRIP = 4;    // output pixels of a thread
constexpr int TAPS = 9;     // whose sums a thread of the weight gradient keeps: a 3x3 kernel in one go
constexpr int THREADS = 256;

template <int WIDTH>
__device__ __forceinline__ void add_product(Pack<WIDTH>& sum, const Pack<WIDTH>& a, const Pack<WIDTH>& b) {
#pragma unroll
    for (int lane = 0; lane < WIDTH; ++lane) sum.lane[lane] += a.lane[lane] * b.lane[lane];
}

// One row of the kernel over one row of the image. The first window starts at column `start`; KW and SW are the width
// of the kernel and the stride, or 0 where they are not known before.
template <int WIDTH, int KW, int SW>
__device__ __forceinline__ void add_row(Pack<WIDTH> (&sums)[STRIP], const real* image_row, const real* w, int w_step,
                                        int start, const ConvGeometry& g) {
    if constexpr (KW > 0) {
        Pack<WIDTH> window[(STRIP - 1) * SW + KW];
#pragma unroll
        for (int i = 0; i < (STRIP - 1) * SW + KW; ++i) {
            const bool inside = (unsigned)(start + i) < (unsigned)g.w;
            window[i] = inside ? load_pack<WIDTH>(image_row + (long long)(start + i) * g.c) : Pack<WIDTH>{};
        }
#pragma unroll
        for (int l = 0; l < KW; ++l) {
            const Pack<WIDTH> weight = load_pack<WIDTH>(w + l * w_step);
#pragma unroll
            for (int s = 0; s < STRIP; ++s) add_product(sums[s], window[s * SW + l], weight);
        }
    } else {
        for (int l = 0; l < g.kw; ++l) {
            const Pack<WIDTH> weight = load_pack<WIDTH>(w + (long long)l * w_step);
#pragma unroll
            for (int s = 0; s < STRIP; ++s) {
                const int column = start + s * g.sw + l * g.dw;
                if ((unsigned)column < (unsigned)g.w)
                    add_product(sums[s], load_pack<WIDTH>(image_row + (long long)column * g.c), weight);
            }
        }
    }
}

// Blocks of (packs, strips) threads; grid x = strips, y = packs. `turned`: the kernel is read from its last tap to its
// first. Filter f reads channel f / multiplier; packs of more than one number need a multiplier of 1.
template <int WIDTH, int KW, int SW>
__device__ __forceinline__ void convolve_strip(const real* x, const real* w, const real* b, real* y,
                                               const ConvGeometry& g, int turned, int activation) {
    const int filter = (blockIdx.y * blockDim.x + threadIdx.x) * WIDTH;
    const int strip = blockIdx.x * blockDim.y + threadIdx.y;
    const int strips = (g.ow + STRIP - 1) / STRIP;
    const int line = strip / strips, image = line / g.oh;
    if (filter >= g.f || image >= g.n) return;
    const int i = line - image * g.oh, j = (strip - line * strips) * STRIP;

    Pack<WIDTH> sums[STRIP] = {};
    const real* channel = x + filter / (g.f / g.c);
    const real* first_weight = w + filter + (turned ? (long long)(g.kh * g.kw - 1) * g.f : 0);
    const int step = turned ? -g.f : g.f;
    for (int k = 0; k < g.kh; ++k) {
        const int row = i * g.sh - g.top + k * g.dh;
        if ((unsigned)row >= (unsigned)g.h) continue;
        add_row<WIDTH, KW, SW>(sums, channel + ((long long)image * g.h + row) * g.w * g.c,
                               first_weight + (long long)k * g.kw * step, step, j * g.sw - g.left, g);
    }
    const Pack<WIDTH> bias = b != nullptr ? load_pack<WIDTH>(b + filter) : Pack<WIDTH>{};
    real* out = y + ((long long)line * g.ow + j) * g.f + filter;
#pragma unroll 1
    for (int s = 0; s < STRIP; ++s) {
        if (j + s >= g.ow) break;
        Pack<WIDTH> sum = sums[0];  // the strip moves up a place each time: registers have no indices
#pragma unroll
        for (int later = 1; later < STRIP; ++later) sums[later - 1] = sums[later];
#pragma unroll
        for (int lane = 0; lane < WIDTH; ++lane)
            sum.lane[lane] = activate(sum.lane[lane] + bias.lane[lane], activation, real(0));
        store_pack<WIDTH>(out + (long long)s * g.f, sum);
    }
}

// x (N, H, W, C), w (KH, KW, 1, F), b (F,) or null -> y (N, OH, OW, F); packs, F = C, 3 columns, stride 1 and dilation
// 1 across. The others: stride 2; any kernel; any number of channels and filters.

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    depthwise_3_columns(const real* __restrict__ x, const real* __restrict__ w, const real* __restrict__ b,
                        real* __restrict__ y, const ConvGeometry g, int turned, int activation) {
    convolve_strip<LANES, 3, 1>(x, w, b, y, g, turned, activation);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    depthwise_3_columns_stride_2(const real* __restrict__ x, const real* __restrict__ w, const real* __restrict__ b,
                                 real* __restrict__ y, const ConvGeometry g, int turned, int activation) {
    convolve_strip<LANES, 3, 2>(x, w, b, y, g, turned, activation);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    depthwise_packed(const real* __restrict__ x, const real* __restrict__ w, const real* __restrict__ b,
                     real* __restrict__ y, const ConvGeometry g, int turned, int activation) {
    convolve_strip<LANES, 0, 0>(x, w, b, y, g, turned, activation);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    depthwise_any(const real* __restrict__ x, const real* __restrict__ w, const real* __restrict__ b,
                  real* __restrict__ y, const ConvGeometry g, int turned, int activation) {
    convolve_strip<1, 0, 0>(x, w, b, y, g, turned, activation);
}

// ------------------------------------------------------------------------------------------------- input gradient

// A thread gathers one pack of channels of one input pixel. Output row o has read row h under tap k where
// o * sh = h + top - k * dh. Blocks of (packs, pixels) threads; grid x = pixels, y = packs.
template <int WIDTH>
__device__ __forceinline__ void gather_pixel(const real* gy, const real* w, real* gx, const ConvGeometry& g) {
    const int c = (blockIdx.y * blockDim.x + threadIdx.x) * WIDTH;
    const int pixel = blockIdx.x * blockDim.y + threadIdx.y;
    const int line = pixel / g.w, image = line / g.h;
    const int multiplier = WIDTH > 1 ? 1 : g.f / g.c;
    if (c >= g.c || image >= g.n) return;
    Pack<WIDTH> sum = {};
    for (int k = 0; k < g.kh; ++k) {
        const int below = line - image * g.h + g.top - k * g.dh, i = below / g.sh;
        if (below < 0 || i * g.sh != below || i >= g.oh) continue;
        for (int l = 0; l < g.kw; ++l) {
            const int beside = pixel - line * g.w + g.left - l * g.dw, j = beside / g.sw;
            if (beside < 0 || j * g.sw != beside || j >= g.ow) continue;
            const real* gradient = gy + (((long long)image * g.oh + i) * g.ow + j) * g.f + c * multiplier;
            const real* weight = w + (long long)(k * g.kw + l) * g.f + c * multiplier;
            for (int m = 0; m < multiplier; ++m)
                add_product(sum, load_pack<WIDTH>(gradient + m), load_pack<WIDTH>(weight + m));
        }
    }
    store_pack<WIDTH>(gx + (long long)pixel * g.c + c, sum);
}

// gy (N, OH, OW, F), w (KH, KW, 1, F) -> gx (N, H, W, C); packs and F = C, then any numbers.

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    depthwise_input_grad_packed(const real* __restrict__ gy, const real* __restrict__ w, real* __restrict__ gx,
                                const ConvGeometry g) {
    gather_pixel<LANES>(gy, w, gx, g);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    depthwise_input_grad_any(const real* __restrict__ gy, const real* __restrict__ w, real* __restrict__ gx,
                             const ConvGeometry g) {
    gather_pixel<1>(gy, w, gx, g);
}

// ------------------------------------------------------------------------------------------------- weight gradient

// Blocks of (packs, pixels) threads; grid x = slice of `slice_pixels` output pixels, y = packs, z = TAPS of the taps.
template <int WIDTH>
__device__ __forceinline__ void correlate_slice(Pack<WIDTH> (&shared)[THREADS], const real* x, const real* gy,
                                                real* partial, const ConvGeometry& g, int slice_pixels) {
    const int filter = (blockIdx.y * blockDim.x + threadIdx.x) * WIDTH;
    const int first_tap = blockIdx.z * TAPS, taps = g.kh * g.kw;
    const int first = blockIdx.x * slice_pixels, end = min(g.n * g.oh * g.ow, first + slice_pixels);
    int row_offsets[TAPS], column_offsets[TAPS];
#pragma unroll
    for (int t = 0; t < TAPS; ++t) {
        const int row = (first_tap + t) / g.kw;
        row_offsets[t] = first_tap + t < taps ? row * g.dh - g.top : -(1 << 30);  // no tap: above every image
        column_offsets[t] = (first_tap + t - row * g.kw) * g.dw - g.left;
    }

    Pack<WIDTH> sums[TAPS] = {};
    if (filter < g.f) {
        const real* channel = x + filter / (g.f / g.c);
        for (int pixel = first + threadIdx.y; pixel < end; pixel += blockDim.y) {
            const int line = pixel / g.ow, image = line / g.oh;
            const int top = (line - image * g.oh) * g.sh, left = (pixel - line * g.ow) * g.sw;
            const Pack<WIDTH> gradient = load_pack<WIDTH>(gy + (long long)pixel * g.f + filter);
#pragma unroll
            for (int t = 0; t < TAPS; ++t) {
                const int h = top + row_offsets[t], w = left + column_offsets[t];
                if ((unsigned)h < (unsigned)g.h && (unsigned)w < (unsigned)g.w) {
                    const long long place = (long long)((image * g.h + h) * g.w + w) * g.c;
                    add_product(sums[t], load_pack<WIDTH>(channel + place), gradient);
                }
            }
        }
    }

    partial += ((long long)blockIdx.x * taps + first_tap) * g.f + filter;
#pragma unroll
    for (int t = 0; t < TAPS; ++t) {
        shared[threadIdx.y * blockDim.x + threadIdx.x] = sums[t];
        __syncthreads();
        if (threadIdx.y == 0 && filter < g.f && first_tap + t < taps) {
            Pack<WIDTH> total = sums[t];
            for (int other = 1; other < blockDim.y; ++other)
#pragma unroll
                for (int lane = 0; lane < WIDTH; ++lane)
                    total.lane[lane] += shared[other * blockDim.x + threadIdx.x].lane[lane];
            store_pack<WIDTH>(partial + (long long)t * g.f, total);
        }
        __syncthreads();
    }
}

// x (N, H, W, C), gy (N, OH, OW, F) -> partial (S, KH, KW, 1, F); packs and F = C, then any numbers.

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    depthwise_weight_grad_packed(const real* __restrict__ x, const real* __restrict__ gy, real* __restrict__ partial,
                                 const ConvGeometry g, int slice_pixels) {
    __shared__ Pack<LANES> shared[THREADS];
    correlate_slice<LANES>(shared, x, gy, partial, g, slice_pixels);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    depthwise_weight_grad_any(const real* __restrict__ x, const real* __restrict__ gy, real* __restrict__ partial,
                              const ConvGeometry g, int slice_pixels) {
    __shared__ Pack<1> shared[THREADS];
    correlate_slice<1>(shared, x, gy, partial, g, slice_pixels);
}
