// Convolutions on tensor cores, in tf32 or bf16 with sums in float: products of matrices that are never written out.
//
// Forward and input gradient are one kernel. Both gather: a pixel of the result reads pixels of a source under taps, x
// forward and gy backwards (conv_axes.cuh), and only the axes differ. Row p of the matrix A is what pixel p reads, its
// terms side by side in memory; the matrix B is the weights, which a small kernel beforehand has rounded and turned so
// that their terms lie side by side too, in the order in which A walks, and padded so that no edge has to be checked.
// For the gradient with a stride, pixels fall into classes by their place modulo the stride: a class was read under the
// same taps, and a block walks only these.
//
// The walk. Terms are ordered by (chunk of channels, tap, channel of the chunk), a chunk being 128 bytes or so. Taps of
// one chunk follow each other and overlap nearly everywhere: the multiprocessor's cache still holds what they share, so
// that the second-level cache is asked for a pixel once or twice, not KH * KW times. A thread copies one pack of
// several pixels. It walks by additions alone, and all its pixels share the walk; where a tap leaves the image it
// copies zeros.
// defines: REAL=float PRECISION=tf32|bf16
// minimum: sm_80
#include "common.cuh"
#include "conv_axes.cuh"
#include "conv_geometry.cuh"
#include "mma_tile.cuh"

// What the source and the weights look like in words (mma_words.cu).
struct TensorConv {
    int backward;              // whether the result is x's gradient
    int words, pitch;          // of a pixel of the source: of one group, of all
    int chunk;                 // words of a group that are walked together; divides them
    int columns, depth;        // of the prepared weights of a group: columns with padding, words from one to the next
    int slices, slice_steps;   // the depth is cut into so many slices, each of so many steps
    int pairs;                 // whether the result may be written two numbers at a time
};

// What all threads of a block share: the axes, where the tile's pixels begin to read, and where they lie in the result.
template <class T>
struct Gathered {
    Axis down, across;
    int pixels[T::ROWS], rows[T::ROWS], columns[T::ROWS];
    long long places[T::ROWS];
};

__device__ __forceinline__ Axis down_axis(const ConvGeometry& g, bool backward, int phase) {
    return backward ? gradient_axis(g.h, g.oh, g.kh, g.sh, g.top, g.dh, phase)
                    : forward_axis(g.oh, g.h, g.kh, g.sh, g.top, g.dh);
}

__device__ __forceinline__ Axis across_axis(const ConvGeometry& g, bool backward, int phase) {
    return backward ? gradient_axis(g.w, g.ow, g.kw, g.sw, g.left, g.dw, phase)
                    : forward_axis(g.ow, g.w, g.kw, g.sw, g.left, g.dw);
}

// The matrix A of a gather.
template <class T>
struct GatheredRows {
    typedef Along<T::ROWS> Panel;
    static constexpr bool IS_ROUNDED = PER_WORD == 2;
    static constexpr int STRIDE = T::THREADS / STEP_PACKS, COUNT = T::ROWS / STRIDE;

    const real* source;
    const Axis &down, &across;
    const int words, pitch, chunk;
    int first, word, tap_row, tap_column;  // where the walk stands: chunk, word in the chunk, tap
    int row_shift, column_shift;           // what the tap adds to a pixel's place
    int pixels[COUNT], rows[COUNT], columns[COUNT];

    // source (N, down.source, across.source, pitch) from the group's first word.
    __device__ GatheredRows(const real* source, const TensorConv& c, const Gathered<T>& shared, int first_step)
        : source(source), down(shared.down), across(shared.across), words(c.words), pitch(c.pitch), chunk(c.chunk),
          first(0), word(0), tap_row(0), tap_column(0), row_shift(0), column_shift(0) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const int line = threadIdx.x / STEP_PACKS + i * STRIDE;
            pixels[i] = shared.pixels[line];
            rows[i] = shared.rows[line];
            columns[i] = shared.columns[line];
        }
        advance(first_step * STEP_WORDS + threadIdx.x % STEP_PACKS * PACK_WORDS);
    }

    __device__ void advance(int count) {
        word += count;
        while (word >= chunk) {
            word -= chunk;
            column_shift += across.step;
            if (++tap_column < across.taps) continue;
            tap_column = column_shift = 0;
            row_shift += down.step;
            if (++tap_row < down.taps) continue;
            tap_row = row_shift = 0;
            first += chunk;
        }
    }

    __device__ void copy(unsigned* panel) {
        const int shift = row_shift * across.source + column_shift;
        const real* from = source + first + word;
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const bool inside = first < words && (unsigned)(rows[i] + row_shift) < (unsigned)down.source &&
                                (unsigned)(columns[i] + column_shift) < (unsigned)across.source;
            unsigned* to = panel + Panel::place(threadIdx.x / STEP_PACKS + i * STRIDE, threadIdx.x % STEP_PACKS);
            copy_async_cached(to, inside ? from + (long long)(pixels[i] + shift) * pitch : source, inside ? 16 : 0);
        }
        advance(STEP_WORDS);
    }
};

// The matrix B of a gather: the prepared weights.
template <class T>
struct PreparedColumns {
    typedef Along<T::COLUMNS> Panel;
    static constexpr bool IS_ROUNDED = true;
    static constexpr int STRIDE = T::THREADS / STEP_PACKS, COUNT = T::COLUMNS / STRIDE;

    const real* next;
    const long long stride;

    // weights (columns, depth) from the tile's first column.
    __device__ PreparedColumns(const real* weights, int depth, int first_step) : stride((long long)STRIDE * depth) {
        next = weights + (long long)(threadIdx.x / STEP_PACKS) * depth + first_step * STEP_WORDS +
               threadIdx.x % STEP_PACKS * PACK_WORDS;
    }

    __device__ void copy(unsigned* panel) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
            copy_async(panel + Panel::place(threadIdx.x / STEP_PACKS + i * STRIDE, threadIdx.x % STEP_PACKS),
                       next + i * stride, 16);
        next += STEP_WORDS;
    }
};

// Blocks: x = (tile of pixels, tile of columns), y = group, z = (class of pixels, slice of the depth).
template <class T>
__device__ __forceinline__ void gather(Gathered<T>& shared, const real* source, const real* weights, const real* b,
                                       real* out, const ConvGeometry& g, const TensorConv& c, float low, float high) {
    const int group = blockIdx.y, kind = blockIdx.z / c.slices, slice = blockIdx.z - kind * c.slices;
    const int row_phase = kind / g.sw, column_phase = kind - row_phase * g.sw;
    if (threadIdx.x == 0) shared.down = down_axis(g, c.backward, row_phase);
    if (threadIdx.x == 1) shared.across = across_axis(g, c.backward, column_phase);
    __syncthreads();
    const Axis &down = shared.down, &across = shared.across;
    const int tiles_across = c.columns / T::COLUMNS;
    const int tile_row = blockIdx.x / tiles_across, tile_column = blockIdx.x - tile_row * tiles_across;
    const int all_columns = c.backward ? g.c : g.f, columns = all_columns / g.groups;
    if (tile_row * T::ROWS >= g.n * down.size * across.size) return;  // classes differ by a row or a column of pixels

    if (threadIdx.x < T::ROWS) {
        const Pixel mine = pixel_at(tile_row * T::ROWS + threadIdx.x, g.n, down.size, across.size);
        const int row = mine.row * down.stride + down.start, column = mine.column * across.stride + across.start;
        shared.pixels[threadIdx.x] = (mine.image * down.source + row) * across.source + column;
        shared.rows[threadIdx.x] = mine.exists ? row : -(1 << 30);  // above every image
        shared.columns[threadIdx.x] = column;
        const long long line = c.backward ? (long long)mine.image * g.h + row_phase + mine.row * g.sh
                                          : (long long)mine.image * g.oh + mine.row;
        const long long place = c.backward ? line * g.w + column_phase + mine.column * g.sw : line * g.ow + mine.column;
        shared.places[threadIdx.x] = mine.exists ? place * all_columns : -1;
    }
    __syncthreads();

    const int all_steps = (down.taps * across.taps * c.words + STEP_WORDS - 1) / STEP_WORDS;
    const int first_step = slice * c.slice_steps, steps = min(c.slice_steps, all_steps - first_step);
    GatheredRows<T> rows(source + group * c.words, c, shared, first_step);
    const int line = (kind * g.groups + group) * c.columns + tile_column * T::COLUMNS;
    PreparedColumns<T> prepared(weights + (long long)line * c.depth, c.depth, first_step);
    typename T::Sums sums;
    DYNAMIC_SHARED(unsigned, memory);
    multiply_steps<T>(memory, rows, prepared, steps, sums);

    out += (long long)slice * g.n * g.oh * g.ow * g.f + group * columns;
    const auto line_of = [&](int row) { return shared.places[row] < 0 ? nullptr : out + shared.places[row]; };
    const Finishing finishing = {b == nullptr ? nullptr : b + group * columns, 0, low, high, c.pairs != 0};
    store_tile<T>(sums, line_of, tile_column * T::COLUMNS, columns, finishing);
}

// source x (or gy) in words, prepared weights, b (F,) or null -> out y (S, N, OH, OW, F) (or gx (N, H, W, C)), clamped.

extern "C" __global__ void __launch_bounds__(256, LARGE_TILES)
    conv2d_tc_large(const real* __restrict__ source, const real* __restrict__ weights, const real* __restrict__ b,
                    real* __restrict__ out, const ConvGeometry g, const TensorConv c, float low, float high) {
    __shared__ Gathered<LargeTile> shared;
    gather<LargeTile>(shared, source, weights, b, out, g, c, low, high);
}

extern "C" __global__ void __launch_bounds__(128, MEDIUM_TILES)
    conv2d_tc_medium(const real* __restrict__ source, const real* __restrict__ weights, const real* __restrict__ b,
                     real* __restrict__ out, const ConvGeometry g, const TensorConv c, float low, float high) {
    __shared__ Gathered<MediumTile> shared;
    gather<MediumTile>(shared, source, weights, b, out, g, c, low, high);
}

extern "C" __global__ void __launch_bounds__(128, SMALL_TILES)
    conv2d_tc_small(const real* __restrict__ source, const real* __restrict__ weights, const real* __restrict__ b,
                    real* __restrict__ out, const ConvGeometry g, const TensorConv c, float low, float high) {
    __shared__ Gathered<SmallTile> shared;
    gather<SmallTile>(shared, source, weights, b, out, g, c, low, high);
}

constexpr int PREPARED_COLUMNS = 32, PREPARED_THREADS = 256;

// w (KH, KW, C/G, F) -> prepared (classes, G, columns, depth) in words, a square of 32 columns and one step for each
// block. It is read along the filters, written along the depth, and turned in shared memory where these differ.
// Blocks: x = step, y = columns, z = (class, group).
extern "C" __global__ void __launch_bounds__(PREPARED_THREADS)
    conv2d_tc_weights(const real* __restrict__ w, real* __restrict__ prepared, const ConvGeometry g,
                      const TensorConv c) {
    __shared__ float square[PREPARED_COLUMNS][STEP_DEPTH + 1];
    const int kind = blockIdx.z / g.groups, group = blockIdx.z % g.groups;
    const Axis down = down_axis(g, c.backward, kind / g.sw), across = across_axis(g, c.backward, kind % g.sw);
    const int channels = g.c / g.groups, filters = g.f / g.groups, chunk = c.chunk * PER_WORD;
    const int taps = down.taps * across.taps, depth = taps * c.words * PER_WORD;
    if ((int)blockIdx.x * STEP_DEPTH >= depth) return;
    for (int i = threadIdx.x; i < PREPARED_COLUMNS * STEP_DEPTH; i += PREPARED_THREADS) {
        const int across_square = c.backward ? i / STEP_DEPTH : i % PREPARED_COLUMNS;
        const int down_square = c.backward ? i % STEP_DEPTH : i / PREPARED_COLUMNS;
        const int term = blockIdx.x * STEP_DEPTH + down_square;  // chunk, tap, place in the chunk
        const int turn = term / chunk, tap = turn % taps, inner = turn / taps * chunk + term % chunk;
        const int column = blockIdx.y * PREPARED_COLUMNS + across_square;
        const int channel = c.backward ? column : inner, filter = c.backward ? inner : column;
        const int kernel_row = down.first_tap + tap / across.taps * down.tap_stride;
        const int kernel_column = across.first_tap + tap % across.taps * across.tap_stride;
        const long long line = (long long)(kernel_row * g.kw + kernel_column) * channels + channel;
        const bool exists = term < depth && channel < channels && filter < filters;
        square[across_square][down_square] = exists ? w[line * g.f + group * filters + filter] : real(0);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < PREPARED_COLUMNS * STEP_WORDS; i += PREPARED_THREADS) {
        const long long line = ((long long)blockIdx.z * c.columns) + blockIdx.y * PREPARED_COLUMNS + i / STEP_WORDS;
        const unsigned word = Format::pack(&square[i / STEP_WORDS][i % STEP_WORDS * PER_WORD]);
        prepared[line * c.depth + blockIdx.x * STEP_WORDS + i % STEP_WORDS] = __uint_as_float(word);
    }
}
