// Gradient of a convolution's weights on tensor cores, in tf32 or bf16 with sums in float.
//
// gw[(tap, c), f] = sum over the output pixels p of x[under p and the tap, c] * gy[p, f]: rows of the product are (tap,
// channel), columns filters, terms pixels. The terms of a sum lie apart in both x and gy: a line in shared memory is
// one pixel, and it is turned over on the way to the tensor cores (Across in mma_tile.cuh). Tiles are few and sums
// long, so pixels are cut into slices, which slices.cu adds in a fixed order.
//
// A thread copies one pack of a line, for which it works out tap and channel once, and walks from pixel to pixel by
// additions alone. Neighbouring threads copy neighbouring channels.
// defines: REAL=float PRECISION=tf32|bf16
// minimum: sm_80
#include "common.cuh"
#include "conv_geometry.cuh"
#include "mma_tile.cuh"

// What x and gy look like in words (mma_words.cu): of a pixel, those of one group, and of all.
struct TensorWeightGrad {
    int words, pitch, gy_words, gy_pitch;
    int slice_pixels;
    int pairs;  // whether the result may be written two numbers at a time
};

// The matrix A: term = an output pixel, row = (tap, channel).
template <class T>
struct PixelRows {
    typedef Across<T::ROWS> Panel;
    static constexpr bool IS_ROUNDED = PER_WORD == 2;
    static constexpr int STRIDE = T::THREADS / Panel::PACKS, COUNT = Panel::LINES / STRIDE;

    const real* source;  // x from the channel of this thread
    const ConvGeometry& g;
    const int pitch;
    int row, column, left;                 // the output pixel where the walk stands, and how many are left
    int source_row, source_column, pixel;  // what the tap reads there

    // x (N, H, W, pitch) from the group's first word; rows from word `first_word`, pixels from first to end.
    __device__ PixelRows(const real* x, const ConvGeometry& g, const TensorWeightGrad& c, int first_word, int first,
                         int end)
        : g(g), pitch(c.pitch) {
        const int word = first_word + threadIdx.x % Panel::PACKS * PACK_WORDS;
        const int tap = word / c.words, tap_row = tap / g.kw;
        const int start = first + threadIdx.x / Panel::PACKS, line = start / g.ow, image = line / g.oh;
        row = line - image * g.oh;
        column = start - line * g.ow;
        left = tap_row < g.kh ? end - start : 0;  // beyond the last row: no pixels
        source_row = row * g.sh + tap_row * g.dh - g.top;
        source_column = column * g.sw + (tap - tap_row * g.kw) * g.dw - g.left;
        pixel = (image * g.h + source_row) * g.w + source_column;
        source = x + (word - tap * c.words);
    }

    __device__ void copy(unsigned* panel) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const bool inside =
                left > 0 && (unsigned)source_row < (unsigned)g.h && (unsigned)source_column < (unsigned)g.w;
            unsigned* to = panel + Panel::place(threadIdx.x / Panel::PACKS + i * STRIDE, threadIdx.x % Panel::PACKS);
            copy_async(to, inside ? source + (long long)pixel * pitch : source, inside ? 16 : 0);
            advance();
        }
    }

    __device__ void advance() {
        left -= STRIDE;
        column += STRIDE;
        source_column += STRIDE * g.sw;
        pixel += STRIDE * g.sw;
        while (column >= g.ow) {  // the next row, or the next image's first
            column -= g.ow;
            source_column -= g.ow * g.sw;
            source_row += g.sh;
            pixel += g.sh * g.w - g.ow * g.sw;
            if (++row == g.oh) {
                row = 0;
                source_row -= g.oh * g.sh;
                pixel += (g.h - g.oh * g.sh) * g.w;
            }
        }
    }
};

// The matrix B: term = an output pixel, column = a filter.
template <class T>
struct PixelColumns {
    typedef Across<T::COLUMNS> Panel;
    static constexpr bool IS_ROUNDED = PER_WORD == 2;
    static constexpr int STRIDE = T::THREADS / Panel::PACKS, COUNT = Panel::LINES / STRIDE;

    const real* next;
    const int pitch;
    int left;

    // gy (N * OH * OW, pitch) from the group's first word; columns from word `first_word`, pixels from first to end.
    __device__ PixelColumns(const real* gy, const TensorWeightGrad& c, int first_word, int first, int end)
        : pitch(c.gy_pitch) {
        const int word = first_word + threadIdx.x % Panel::PACKS * PACK_WORDS;
        const int start = first + threadIdx.x / Panel::PACKS;
        left = word < c.gy_words ? end - start : 0;
        next = gy + (long long)start * c.gy_pitch + word;
    }

    __device__ void copy(unsigned* panel) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            unsigned* to = panel + Panel::place(threadIdx.x / Panel::PACKS + i * STRIDE, threadIdx.x % Panel::PACKS);
            copy_async(to, next, left > 0 ? 16 : 0);  // of no bytes nothing is read, wherever they are
            next += (long long)STRIDE * pitch;
            left -= STRIDE;
        }
    }
};

// Blocks: x = (tile of rows, tile of filters), y = group, z = slice of pixels.
template <class T>
__device__ __forceinline__ void correlate(const real* x, const real* gy, real* partial, const ConvGeometry& g,
                                          const TensorWeightGrad& c) {
    const int channels = g.c / g.groups, filters = g.f / g.groups, group = blockIdx.y;
    const int tiles_across = (filters + T::COLUMNS - 1) / T::COLUMNS;
    const int tile_row = blockIdx.x / tiles_across, tile_column = blockIdx.x - tile_row * tiles_across;
    const int first = blockIdx.z * c.slice_pixels, end = min(g.n * g.oh * g.ow, first + c.slice_pixels);

    PixelRows<T> rows(x + group * c.words, g, c, tile_row * T::ROWS / PER_WORD, first, end);
    PixelColumns<T> columns(gy + group * c.gy_words, c, tile_column * T::COLUMNS / PER_WORD, first, end);
    typename T::Sums sums;
    DYNAMIC_SHARED(unsigned, memory);
    multiply_steps<T>(memory, rows, columns, (end - first + STEP_DEPTH - 1) / STEP_DEPTH, sums);

    const int taps = g.kh * g.kw, line_length = c.words * PER_WORD;  // channels with padding
    partial += (long long)blockIdx.z * taps * channels * g.f + group * filters;
    const auto line_of = [&](int row) -> float* {
        row += tile_row * T::ROWS;
        const int tap = row / line_length, channel = row - tap * line_length;
        return tap < taps && channel < channels ? partial + (long long)(tap * channels + channel) * g.f : nullptr;
    };
    store_tile<T>(sums, line_of, tile_column * T::COLUMNS, filters, Finishing::none(c.pairs));
}

// x (N, H, W, C) and gy (N, OH, OW, F) in words -> partial (S, KH, KW, C/G, F).

extern "C" __global__ void __launch_bounds__(256, LARGE_TILES)
    conv2d_tc_weight_grad_large(const real* __restrict__ x, const real* __restrict__ gy, real* __restrict__ partial,
                                const ConvGeometry g, const TensorWeightGrad c) {
    correlate<LargeTile>(x, gy, partial, g, c);
}

extern "C" __global__ void __launch_bounds__(128, MEDIUM_TILES)
    conv2d_tc_weight_grad_medium(const real* __restrict__ x, const real* __restrict__ gy, real* __restrict__ partial,
                                 const ConvGeometry g, const TensorWeightGrad c) {
    correlate<MediumTile>(x, gy, partial, g, c);
}

extern "C" __global__ void __launch_bounds__(128, SMALL_TILES)
    conv2d_tc_weight_grad_small(const real* __restrict__ x, const real* __restrict__ gy, real* __restrict__ partial,
                                const ConvGeometry g, const TensorWeightGrad c) {
    correlate<SmallTile>(x, gy, partial, g, c);
}
