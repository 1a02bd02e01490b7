// Matrix products: out = clamp(op(a) @ op(b) + beta * out + bias), one or many at a time.
//
// A product of M x N x K needs M*N*K multiplications but only M*K + K*N numbers: the art is to fetch each number once
// and to use it often. Three levels do that.
//   - A block computes one tile of the result. Of each matrix it needs a panel, and it moves 64 bytes of every row of
//     the two panels to shared memory at a time, where all threads of the block find them.
//   - A thread computes a small square of the tile, 8 x 8 numbers for large products, in registers: for each term it
//     reads 8 + 8 numbers from shared memory and multiplies 64 times. The 32 threads of a warp lie 4 x 8, so that in
//     one read they want few different addresses, and those side by side.
//   - While the block multiplies one pair of panels, the next is on its way from global memory to registers; it is put
//     into a second buffer, so that one barrier a step will do.
// Both panels hold one row for each row (or column) of the tile, and both are stored term by term. A matrix whose terms
// lie side by side in memory (a, or b transposed) is turned over on the way; the other kind (a transposed, or b) is
// copied as it lies. That is all that transposing means here.
//
// Few rows and columns but many terms make few tiles, and most of the GPU would idle: then the terms are cut into
// slices, each with blocks of its own, whose sums go to scratch memory and are added up by a second kernel in a fixed
// order, so that results are the same on every run.
// defines: REAL=float|double
// minimum: sm_75
#include "common.cuh"
#include "packs.cuh"

constexpr int TERMS = 64 / sizeof(real);                  // in shared memory at a time: 64 bytes of a row
constexpr int BLOCKS_OF_LARGE_TILES = 8 / sizeof(real);  // that must fit on a multiprocessor: 2, or 1 of doubles

// Where the numbers of the products lie. Products are numbered in two levels, outer * inner_count + inner, each with a
// step for each array: a step of 0 uses one matrix again and again.
struct Gemm {
    int m, n, k;
    int transpose_a, transpose_b;
    int lda, ldb, ldc;                // numbers from one row in memory to the next
    int packs_a, packs_b, packs_out;  // whether rows may be read or written 16 bytes at a time
    int tiles_n, tiles;               // tiles in a row of tiles, and in a whole result
    int slices, slice_terms;
    int inner_count;
    long long a_inner, a_outer, b_inner, b_outer, out_inner, out_outer, out_slice;
};

// A matrix as a panel sees it: `rows` rows or columns of the result, with terms up to `terms`.
struct Matrix {
    const real* data;
    int ld, rows, terms;
    bool along_terms;  // terms lie side by side in memory, else rows do
    bool packs;
};

// Shared memory of a block: two buffers for each panel. The spare columns keep turned-over writes off a single bank.
template <int ROWS, int COLUMNS>
struct alignas(16) Panels {
    real a[2][TERMS][ROWS + LANES];
    real b[2][TERMS][COLUMNS + LANES];
};

__device__ constexpr int log2_of(int n) { return n > 1 ? 1 + log2_of(n / 2) : 0; }

// What one thread carries of a panel of ROWS rows: every THREADS-th pack of 16 bytes.
template <int ROWS, int THREADS>
struct Carried {
    static constexpr int ALL = ROWS * TERMS / LANES;
    static constexpr int COUNT = (ALL + THREADS - 1) / THREADS;
    Pack<LANES> packs[COUNT];

    // Place of pack i in the panel: line `major` of memory, `minor` numbers along it. Neighbouring threads take
    // neighbouring packs of a line. False where the panel has fewer packs than the block has threads.
    __device__ static bool locate(int i, bool along_terms, int& major, int& minor) {
        const int pack = i * THREADS + threadIdx.x;
        const int shift = along_terms ? log2_of(TERMS / LANES) : log2_of(ROWS / LANES);  // packs of a line: 2^shift
        major = pack >> shift;
        minor = (pack & ((1 << shift) - 1)) * LANES;
        return ALL % THREADS == 0 || pack < ALL;
    }

    // Global memory to registers. What lies beyond the matrix is zero.
    __device__ void fetch(const Matrix& matrix, int first_row, int first_term) {
        const int first_major = matrix.along_terms ? first_row : first_term;
        const int first_minor = matrix.along_terms ? first_term : first_row;
        const int majors = matrix.along_terms ? matrix.rows : matrix.terms;
        const int minors = matrix.along_terms ? matrix.terms : matrix.rows;
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            int major, minor;
            if (!locate(i, matrix.along_terms, major, minor)) continue;
            major += first_major;
            minor += first_minor;
            const real* address = matrix.data + (long long)major * matrix.ld + minor;
            const int inside = major < majors ? minors - minor : 0;
            if (matrix.packs && inside >= LANES) {
                packs[i] = load_pack<LANES>(address);
            } else {
#pragma unroll
                for (int lane = 0; lane < LANES; ++lane) packs[i].lane[lane] = lane < inside ? address[lane] : real(0);
            }
        }
    }

    // Registers to shared memory, term by term.
    __device__ void put(real (&panel)[TERMS][ROWS + LANES], bool along_terms) const {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            int major, minor;
            if (!locate(i, along_terms, major, minor)) continue;
            if (along_terms) {
#pragma unroll
                for (int lane = 0; lane < LANES; ++lane) panel[minor + lane][major] = packs[i].lane[lane];
            } else {
                store_pack<LANES>(&panel[major][minor], packs[i]);
            }
        }
    }
};

// SIZE numbers of one line of a panel, for one thread: runs of WIDTH neighbours, STEP apart.
template <int SIZE, int EXTENT>
struct Share {
    static constexpr int WIDTH = SIZE < LANES ? SIZE : LANES;
    static constexpr int STEP = EXTENT / (SIZE / WIDTH);

    // Where number i of the thread at `place` lies.
    __device__ static constexpr int position(int place, int i) { return i / WIDTH * STEP + place * WIDTH + i % WIDTH; }

    __device__ static void read(const real* line, int place, real (&numbers)[SIZE]) {
#pragma unroll
        for (int i = 0; i < SIZE; i += WIDTH) {
            const Pack<WIDTH> run = load_pack<WIDTH>(line + position(place, i));
#pragma unroll
            for (int lane = 0; lane < WIDTH; ++lane) numbers[i + lane] = run.lane[lane];
        }
    }
};

// Which product, slice and tile the block is for.
struct Task {
    int product_outer, product_inner, slice, tile_row, tile_column;

    __device__ explicit Task(const Gemm& g) {
        unsigned rest = blockIdx.x / g.tiles;
        const int tile = blockIdx.x - rest * g.tiles;
        tile_row = tile / g.tiles_n;
        tile_column = tile - tile_row * g.tiles_n;
        slice = rest % g.slices;
        rest /= g.slices;
        product_outer = rest / g.inner_count;
        product_inner = rest % g.inner_count;
    }
};

// One tile of ROWS x COLUMNS numbers; each thread has HEIGHT x WIDTH of them.
template <int ROWS, int COLUMNS, int HEIGHT, int WIDTH>
struct Tile {
    static constexpr int THREADS_DOWN = ROWS / HEIGHT, THREADS_ACROSS = COLUMNS / WIDTH;
    static constexpr int THREADS = THREADS_DOWN * THREADS_ACROSS;
    static constexpr int WARP_ACROSS = THREADS_ACROSS < 8 ? THREADS_ACROSS : 8, WARP_DOWN = 32 / WARP_ACROSS;
    typedef Share<HEIGHT, ROWS> Down;
    typedef Share<WIDTH, COLUMNS> Across;

    real sum[HEIGHT][WIDTH];
    int down, across;  // place of the thread in the tile

    __device__ Tile() : sum{} {
        constexpr int WARPS_ACROSS = THREADS_ACROSS / WARP_ACROSS;
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        down = warp / WARPS_ACROSS * WARP_DOWN + lane / WARP_ACROSS;
        across = warp % WARPS_ACROSS * WARP_ACROSS + lane % WARP_ACROSS;
    }

    // sum += a (ROWS, TERMS) @ b (TERMS, COLUMNS), both from shared memory.
    __device__ void accumulate(const real (&a)[TERMS][ROWS + LANES], const real (&b)[TERMS][COLUMNS + LANES]) {
#pragma unroll
        for (int term = 0; term < TERMS; ++term) {
            real left[HEIGHT], right[WIDTH];
            Down::read(a[term], down, left);
            Across::read(b[term], across, right);
#pragma unroll
            for (int i = 0; i < HEIGHT; ++i)
#pragma unroll
                for (int j = 0; j < WIDTH; ++j) sum[i][j] += left[i] * right[j];
        }
    }

    // out[row, column] = clamp(sum + beta * out + bias) for the part of the tile that lies in the result.
    __device__ void write(real* out, const real* bias, const Gemm& g, const Task& task, real beta, real low,
                          real high) const {
#pragma unroll
        for (int i = 0; i < HEIGHT; ++i) {
            const int row = task.tile_row * ROWS + Down::position(down, i);
            if (row >= g.m) continue;
#pragma unroll
            for (int j = 0; j < WIDTH; j += Across::WIDTH) {
                const int column = task.tile_column * COLUMNS + Across::position(across, j);
                real* address = out + (long long)row * g.ldc + column;
                Pack<Across::WIDTH> run;
#pragma unroll
                for (int lane = 0; lane < Across::WIDTH; ++lane) {
                    real y = sum[i][j + lane];
                    if (column + lane < g.n) {
                        if (beta != 0) y += beta * address[lane];
                        if (bias != nullptr) y += bias[column + lane];
                    }
                    run.lane[lane] = y < low ? low : y > high ? high : y;  // NaN passes through
                }
                if (g.packs_out && column + Across::WIDTH <= g.n) {
                    store_pack<Across::WIDTH>(address, run);
                } else {
#pragma unroll
                    for (int lane = 0; lane < Across::WIDTH; ++lane)
                        if (column + lane < g.n) address[lane] = run.lane[lane];
                }
            }
        }
    }
};

template <int ROWS, int COLUMNS, int HEIGHT, int WIDTH>
__device__ __forceinline__ void multiply(Panels<ROWS, COLUMNS>& shared, const real* a, const real* b, const real* bias,
                                         real* out, const Gemm& g, real beta, real low, real high) {
    typedef Tile<ROWS, COLUMNS, HEIGHT, WIDTH> Result;
    const Task task(g);
    const int begin = task.slice * g.slice_terms, end = min(g.k, begin + g.slice_terms);
    const int first_row = task.tile_row * ROWS, first_column = task.tile_column * COLUMNS;
    a += task.product_outer * g.a_outer + task.product_inner * g.a_inner;
    b += task.product_outer * g.b_outer + task.product_inner * g.b_inner;
    out += task.product_outer * g.out_outer + task.product_inner * g.out_inner + task.slice * g.out_slice;
    const Matrix left = {a, g.lda, g.m, end, !g.transpose_a, g.packs_a != 0};
    const Matrix right = {b, g.ldb, g.n, end, g.transpose_b != 0, g.packs_b != 0};

    Carried<ROWS, Result::THREADS> carried_a;
    Carried<COLUMNS, Result::THREADS> carried_b;
    Result tile;
    carried_a.fetch(left, first_row, begin);
    carried_b.fetch(right, first_column, begin);
    carried_a.put(shared.a[0], left.along_terms);
    carried_b.put(shared.b[0], right.along_terms);
    __syncthreads();
    for (int term = begin, buffer = 0; term < end; term += TERMS, buffer ^= 1) {
        const bool more = term + TERMS < end;
        if (more) {
            carried_a.fetch(left, first_row, term + TERMS);
            carried_b.fetch(right, first_column, term + TERMS);
        }
        tile.accumulate(shared.a[buffer], shared.b[buffer]);
        if (more) {
            carried_a.put(shared.a[buffer ^ 1], left.along_terms);
            carried_b.put(shared.b[buffer ^ 1], right.along_terms);
            __syncthreads();
        }
    }
    tile.write(out, bias, g, task, beta, low, high);
}

// The same for four shapes of tile: large; small, for more blocks or less waste; and for few rows or few columns, where
// the product is bound by reading the other matrix once.

extern "C" __global__ void __launch_bounds__(256, BLOCKS_OF_LARGE_TILES)
    gemm_128x128(const real* __restrict__ a, const real* __restrict__ b, const real* __restrict__ bias,
                 real* __restrict__ out, const Gemm g, real beta, real low, real high) {
    __shared__ Panels<128, 128> shared;
    multiply<128, 128, 8, 8>(shared, a, b, bias, out, g, beta, low, high);
}

extern "C" __global__ void __launch_bounds__(256)
    gemm_64x64(const real* __restrict__ a, const real* __restrict__ b, const real* __restrict__ bias,
               real* __restrict__ out, const Gemm g, real beta, real low, real high) {
    __shared__ Panels<64, 64> shared;
    multiply<64, 64, 4, 4>(shared, a, b, bias, out, g, beta, low, high);
}

extern "C" __global__ void __launch_bounds__(256)
    gemm_8x256(const real* __restrict__ a, const real* __restrict__ b, const real* __restrict__ bias,
               real* __restrict__ out, const Gemm g, real beta, real low, real high) {
    __shared__ Panels<8, 256> shared;
    multiply<8, 256, 2, 4>(shared, a, b, bias, out, g, beta, low, high);
}

extern "C" __global__ void __launch_bounds__(256)
    gemm_256x8(const real* __restrict__ a, const real* __restrict__ b, const real* __restrict__ bias,
               real* __restrict__ out, const Gemm g, real beta, real low, real high) {
    __shared__ Panels<256, 8> shared;
    multiply<256, 8, 4, 2>(shared, a, b, bias, out, g, beta, low, high);
}

// What comes after a product: the slices' sums added up, and what the kernels above leave out.
struct Finish {
    int n, ldc, slices, sharers;  // sharers: warps that share the slices of the same numbers
    int products, inner_count;
    long long size, out_inner, out_outer;  // size: numbers in one result
};

constexpr int FINISH_WARPS = 8;

// out = act(sum of partial (slices, products, M, N) over the slices + beta * out + bias). No slices and beta = 1: the
// products are in `out` already. A thread takes one number; where there are few of them and many slices, several warps
// share the slices. The sums are made in double: waiting for the numbers takes longer.
extern "C" __global__ void __launch_bounds__(32 * FINISH_WARPS)
    gemm_finish(const real* __restrict__ partial, const real* __restrict__ bias, real* __restrict__ out, const Finish f,
                real beta, int activation) {
    __shared__ double sums[FINISH_WARPS][32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, sharer = warp % f.sharers;
    const long long i = ((long long)blockIdx.x * (FINISH_WARPS / f.sharers) + warp / f.sharers) * 32 + lane;
    const bool inside = i < f.size;
    const int row = inside ? (i >> 31 ? i / f.n : unsigned(i) / f.n) : 0;  // dividing 32 bits is much the faster
    const int column = i - (long long)row * f.n;
    for (int product = blockIdx.y; product < f.products; product += gridDim.y) {
        double sum = 0;
        if (inside) {
#pragma unroll 4
            for (int slice = sharer; slice < f.slices; slice += f.sharers)
                sum += partial[((long long)slice * f.products + product) * f.size + i];
        }
        if (f.sharers > 1) {
            sums[warp][lane] = sum;
            __syncthreads();
            for (int other = 1; sharer == 0 && other < f.sharers; ++other) sum += sums[warp + other][lane];
            __syncthreads();
        }
        if (sharer > 0 || !inside) continue;
        real* address = out + product / f.inner_count * f.out_outer + product % f.inner_count * f.out_inner +
                        (long long)row * f.ldc + column;
        real y = sum;
        if (beta != 0) y += beta * *address;
        if (bias != nullptr) y += bias[column];
        *address = activate(y, activation, real(0));
    }
}

// float32 rounded to bfloat16, its upper half: to the nearest, ties to even. NaN stays NaN.
extern "C" __global__ void gemm_to_bf16(const real* __restrict__ x, unsigned short* __restrict__ y, long long count) {
    GRID_STRIDE_LOOP(i, count) {
        const float number = x[i];
        const unsigned bits = __float_as_uint(number);
        y[i] = number != number ? 0x7fc0 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    }
}
