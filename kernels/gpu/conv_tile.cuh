// A tile of a matrix product in shared memory and registers: what the convolutions as implicit matrix products share.
//
// A block of threads makes one tile, ROWS x COLUMNS, of product = A B. It goes through the terms of the sums ("the
// depth") DEPTH at a time: the block fetches DEPTH columns of A and DEPTH rows of B from global memory once, puts them
// in shared memory, and from there each thread reads them again and again. A thread makes EACH x EACH numbers of the
// tile in registers: for 2 * EACH numbers read it does EACH * EACH multiplications, which is what makes a product of
// matrices fast.
//
// Two buffers: while the block multiplies from one, the next step is already on its way from global memory into
// registers, and goes to the other buffer afterwards. So the latency of memory is hidden behind arithmetic, and one
// barrier a step is enough.
#pragma once
#include "packs.cuh"

// The 32 threads of a warp lie 4 x 8 over their part of the tile, and a thread's rows and columns come in runs of 4:
// what the warp reads from shared memory in one instruction are then few different numbers, side by side.
template <int ROWS_, int COLUMNS_, int DEPTH_, int EACH_>
struct Tile {
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_, DEPTH = DEPTH_, EACH = EACH_;
    static constexpr int RUN = 4;
    static constexpr int TOGETHER = ROWS * COLUMNS > 8192 ? 2 : DEPTH;  // terms unrolled: more want too many registers
    static constexpr int WARP_ROWS = 4 * EACH, WARP_COLUMNS = 8 * EACH;
    static constexpr int WARPS_ACROSS = COLUMNS / WARP_COLUMNS;
    static constexpr int THREADS = 32 * (ROWS / WARP_ROWS) * WARPS_ACROSS;

    struct alignas(16) Memory {
        real a[2][DEPTH][ROWS];
        real b[2][DEPTH][COLUMNS];
    };
    typedef real Sums[EACH][EACH];

    // The first row and column of this thread; its row i lies row_step(i) further down.
    __device__ static int first_row() {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        return warp / WARPS_ACROSS * WARP_ROWS + lane / 8 * RUN;
    }
    __device__ static int first_column() {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        return warp % WARPS_ACROSS * WARP_COLUMNS + lane % 8 * RUN;
    }
    __device__ static constexpr int row_step(int i) { return i / RUN * (4 * RUN) + i % RUN; }
    __device__ static constexpr int column_step(int j) { return j / RUN * (8 * RUN) + j % RUN; }
};

typedef Tile<128, 128, 8, 8> Large;
typedef Tile<128, 64, 8, 8> Medium;
typedef Tile<64, 32, 16, 4> Small;

// Blocks that share a multiprocessor: that leaves each thread 128, 168 or 96 registers, more where sums are doubles.
constexpr int LARGE_BLOCKS = sizeof(real) == 4 ? 2 : 1;
constexpr int MEDIUM_BLOCKS = sizeof(real) == 4 ? 3 : 2;
constexpr int SMALL_BLOCKS = sizeof(real) == 4 ? 5 : 3;

// sums += a.T b, a (DEPTH, ROWS), b (DEPTH, COLUMNS) in shared memory.
template <class T>
__device__ __forceinline__ void multiply_step(const real (&a)[T::DEPTH][T::ROWS], const real (&b)[T::DEPTH][T::COLUMNS],
                                              typename T::Sums& sums) {
    const int first_row = T::first_row(), first_column = T::first_column();
#pragma unroll T::TOGETHER
    for (int k = 0; k < T::DEPTH; ++k) {
        real left[T::EACH], right[T::EACH];
#pragma unroll
        for (int i = 0; i < T::EACH; i += LANES) {
            const Pack<LANES> rows = load_pack<LANES>(&a[k][first_row + T::row_step(i)]);
            const Pack<LANES> columns = load_pack<LANES>(&b[k][first_column + T::column_step(i)]);
#pragma unroll
            for (int lane = 0; lane < LANES; ++lane) {
                left[i + lane] = rows.lane[lane];
                right[i + lane] = columns.lane[lane];
            }
        }
#pragma unroll
        for (int i = 0; i < T::EACH; ++i)
#pragma unroll
            for (int j = 0; j < T::EACH; ++j) sums[i][j] += left[i] * right[j];
    }
}

// sums = the tile of A B. A and B are sources: fetch() reads this thread's part of the next DEPTH terms into registers,
// store(buffer) puts it in shared memory.
template <class T, class A, class B>
__device__ __forceinline__ void multiply_tile(typename T::Memory& memory, A& a, B& b, int steps,
                                              typename T::Sums& sums) {
#pragma unroll
    for (int i = 0; i < T::EACH; ++i)
#pragma unroll
        for (int j = 0; j < T::EACH; ++j) sums[i][j] = 0;
    if (steps <= 0) return;
    a.fetch();
    b.fetch();
    a.store(memory.a[0]);
    b.store(memory.b[0]);
    __syncthreads();
    for (int step = 0; step < steps; ++step) {
        const int now = step & 1;
        const bool more = step + 1 < steps;
        if (more) {
            a.fetch();
            b.fetch();
        }
        multiply_step<T>(memory.a[now], memory.b[now], sums);
        if (more) {
            a.store(memory.a[now ^ 1]);
            b.store(memory.b[now ^ 1]);
        }
        __syncthreads();
    }
}

// sums = act(sums + b), b (columns,) or null; the activation none, relu or relu6.
template <class T>
__device__ __forceinline__ void finish_sums(typename T::Sums& sums, const real* b, int tile_column, int columns,
                                            int activation) {
    const bool rectify = activation == RELU || activation == RELU6, cap = activation == RELU6;
#pragma unroll
    for (int j = 0; j < T::EACH; ++j) {
        const int column = tile_column + T::first_column() + T::column_step(j);
        const real bias = b != nullptr && column < columns ? b[column] : real(0);
#pragma unroll
        for (int i = 0; i < T::EACH; ++i) {
            real& sum = sums[i][j];
            sum += bias;
            if (rectify && sum < 0) sum = 0;  // NaN passes
            if (cap && sum > 6) sum = 6;
        }
    }
}

// Row i of this thread's part of the tile to row[column], column < columns; WIDTH numbers at a time.
template <class T, int WIDTH>
__device__ __forceinline__ void store_row(const real (&sums)[T::EACH], real* row, int tile_column, int columns) {
#pragma unroll
    for (int j = 0; j < T::EACH; j += WIDTH) {
        const int column = tile_column + T::first_column() + T::column_step(j);
        if (column >= columns) continue;
        Pack<WIDTH> run;
#pragma unroll
        for (int lane = 0; lane < WIDTH; ++lane) run.lane[lane] = sums[j + lane];
        store_pack<WIDTH>(row + column, run);
    }
}

// Rows of a matrix that lie in memory as shared memory wants them, (depth, COLUMNS): w for the convolution, gy for the
// gradient of the weights. Neighbouring threads read neighbouring columns.
template <class T, int WIDTH>
struct MatrixRows {
    static constexpr int ACROSS = T::COLUMNS / WIDTH;
    static constexpr int STRIDE = T::THREADS / ACROSS;  // rows from one read of this thread to the next
    static constexpr int COUNT = T::DEPTH / STRIDE;

    const real* next;
    int pitch, left;  // rows that are left from `next`
    Pack<WIDTH> held[COUNT];

    // source (rows, pitch); this tile has the columns from tile_column, of `columns`, and the rows from first to end.
    __device__ MatrixRows(const real* source, int pitch, int tile_column, int columns, int first, int end)
        : pitch(pitch) {
        const int column = tile_column + threadIdx.x % ACROSS * WIDTH;
        const int row = first + threadIdx.x / ACROSS;
        left = column < columns ? end - row : 0;
        next = source + (long long)row * pitch + column;
    }

    __device__ void fetch() {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            held[i] = left > 0 ? load_pack<WIDTH>(next) : Pack<WIDTH>{};
            next += (long long)STRIDE * pitch;
            left -= STRIDE;
        }
    }

    __device__ void store(real (&buffer)[T::DEPTH][T::COLUMNS]) const {
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
            store_pack<WIDTH>(&buffer[threadIdx.x / ACROSS + i * STRIDE][threadIdx.x % ACROSS * WIDTH], held[i]);
    }
};
