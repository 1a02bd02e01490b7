// Matrix products on tensor cores, in tf32 or bf16 with sums in float: out = clamp(op(a) @ op(b) + beta * out + bias).
//
// A block makes a tile of 128 x 64 (mma_tile.cuh). A matrix whose terms lie side by side in memory (a, or b transposed)
// is copied to shared memory line by line along its terms; the other kind (a transposed, or b) has a line for each
// term, and is turned over on the way to the tensor cores. What lies beyond the matrices is copied as zeros. Few tiles
// with many terms are cut into slices, whose sums gemm_finish (gemm.cu) adds in a fixed order.
// defines: REAL=float PRECISION=tf32|bf16
// minimum: sm_80
#include "common.cuh"
#include "mma_tile.cuh"

// Where the numbers of the products lie, as in gemm.cu. Those of a and b are counted in words (mma_words.cu).
struct TensorGemm {
    int m, n, k, lda, ldb, ldc;
    int tiles_n, tiles, slices, slice_steps, inner_count;
    int pairs;  // whether the result may be written two numbers at a time
    long long a_inner, a_outer, b_inner, b_outer, out_inner, out_outer, out_slice;
};

// A matrix with SIZE of its rows (or columns) from `first` on, and terms from `term` to `terms`.
template <class T, class PANEL>
struct MatrixLines {
    typedef PANEL Panel;
    static constexpr bool IS_ROUNDED = PER_WORD == 2;
    static constexpr int STRIDE = T::THREADS / Panel::PACKS, COUNT = Panel::LINES / STRIDE;

    const real* data;
    const real* next;
    const int ld;
    int lines, numbers;  // from this thread's pack on: lines to the end of the matrix, and numbers to the end of a line

    __device__ MatrixLines(const real* data, int ld, int first, int size, int term, int terms) : data(data), ld(ld) {
        const int line = threadIdx.x / Panel::PACKS, place = threadIdx.x % Panel::PACKS * PACK_WORDS;
        const int first_line = line + (Panel::IS_ALONG ? first : term);
        const int first_word = place + (Panel::IS_ALONG ? term : first) / PER_WORD;
        lines = (Panel::IS_ALONG ? size : terms) - first_line;
        numbers = (Panel::IS_ALONG ? terms : size) - first_word * PER_WORD;
        next = data + (long long)first_line * ld + first_word;
    }

    __device__ void copy(unsigned* panel) {
        constexpr int NUMBERS = PACK_WORDS * PER_WORD;
        const int valid = min(max(numbers, 0), NUMBERS) * (4 / PER_WORD);  // bytes
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const bool inside = i * STRIDE < lines && valid > 0;
            copy_async(panel + Panel::place(threadIdx.x / Panel::PACKS + i * STRIDE, threadIdx.x % Panel::PACKS),
                       inside ? next + (long long)(i * STRIDE) * ld : data, inside ? valid : 0);
        }
        if (Panel::IS_ALONG) {
            next += STEP_WORDS;
            numbers -= STEP_DEPTH;
        } else {
            next += (long long)Panel::LINES * ld;
            lines -= Panel::LINES;
        }
    }
};

// Blocks: (product, slice, tile), the tile fastest.
template <class A, class B>
__device__ __forceinline__ void multiply(const real* a, const real* b, const real* bias, real* out, const TensorGemm& g,
                                         float beta, float low, float high) {
    typedef MediumTile T;
    unsigned rest = blockIdx.x / g.tiles;
    const int tile = blockIdx.x - rest * g.tiles, slice = rest % g.slices;
    rest /= g.slices;
    const int outer = rest / g.inner_count, inner = rest - outer * g.inner_count;
    const int tile_row = tile / g.tiles_n, tile_column = tile - tile_row * g.tiles_n;
    const int first_row = tile_row * T::ROWS, first_column = tile_column * T::COLUMNS;
    const int term = slice * g.slice_steps * STEP_DEPTH, terms = min(g.k, term + g.slice_steps * STEP_DEPTH);

    MatrixLines<T, A> rows(a + outer * g.a_outer + inner * g.a_inner, g.lda, first_row, g.m, term, terms);
    MatrixLines<T, B> columns(b + outer * g.b_outer + inner * g.b_inner, g.ldb, first_column, g.n, term, terms);
    typename T::Sums sums;
    DYNAMIC_SHARED(unsigned, memory);
    multiply_steps<T>(memory, rows, columns, (terms - term + STEP_DEPTH - 1) / STEP_DEPTH, sums);

    out += outer * g.out_outer + inner * g.out_inner + slice * g.out_slice;
    const auto line_of = [&](int row) {
        return first_row + row < g.m ? out + (long long)(first_row + row) * g.ldc : nullptr;
    };
    store_tile<T>(sums, line_of, first_column, g.n, {bias, beta, low, high, g.pairs != 0});
}

// a (M, K) or (K, M) and b (K, N) or (N, K): n as they are, t transposed.

extern "C" __global__ void __launch_bounds__(128, MEDIUM_TILES)
    gemm_tc_nn(const real* __restrict__ a, const real* __restrict__ b, const real* __restrict__ bias, real* out,
               const TensorGemm g, float beta, float low, float high) {
    multiply<Along<128>, Across<64>>(a, b, bias, out, g, beta, low, high);
}

extern "C" __global__ void __launch_bounds__(128, MEDIUM_TILES)
    gemm_tc_nt(const real* __restrict__ a, const real* __restrict__ b, const real* __restrict__ bias, real* out,
               const TensorGemm g, float beta, float low, float high) {
    multiply<Along<128>, Along<64>>(a, b, bias, out, g, beta, low, high);
}

extern "C" __global__ void __launch_bounds__(128, MEDIUM_TILES)
    gemm_tc_tn(const real* __restrict__ a, const real* __restrict__ b, const real* __restrict__ bias, real* out,
               const TensorGemm g, float beta, float low, float high) {
    multiply<Across<128>, Across<64>>(a, b, bias, out, g, beta, low, high);
}

extern "C" __global__ void __launch_bounds__(128, MEDIUM_TILES)
    gemm_tc_tt(const real* __restrict__ a, const real* __restrict__ b, const real* __restrict__ bias, real* out,
               const TensorGemm g, float beta, float low, float high) {
    multiply<Across<128>, Along<64>>(a, b, bias, out, g, beta, low, high);
}
