// A tile of a matrix product on tensor cores: what convolutions and products in tf32 and bf16 share.
//
// A block of threads makes one tile of A B. It goes through the terms of the sums ("the depth") in steps of 128 bytes:
// 32 tf32 or 64 bf16 numbers. Words of 32 bits are moved, one tf32 number or two bf16, and a pack is four words: the
// two precisions differ in the instruction that multiplies and in little else.
//
// - Shared memory holds STAGES steps. While the block multiplies one, the copies of the next are on their way, straight
//   from global to shared memory: they take no registers, and one barrier a step is enough.
// - A warp makes WARP_ROWS x WARP_COLUMNS of the tile. It loads fragments, matrices spread over its 32 threads, and
//   multiplies each many times: 64 x 32 numbers take 6 loads for 16 multiplications. The fragments of the next 32 bytes
//   are loaded before the present ones are multiplied, so that the tensor cores need not wait.
// - Packs lie in shared memory in a changed order ("swizzle"): place p of line l holds pack p ^ (l % 8). Eight threads
//   that read the same pack of eight lines, as fragments are loaded, then reach all 32 banks, each once.
#pragma once
#include "mma.cuh"
#include "packs.cuh"

constexpr int STAGES = 3;
constexpr int STEP_WORDS = 32, STEP_PACKS = 8, PACK_WORDS = 4;
constexpr int FRAGMENTS = 4;  // of a step, 8 words each

// The formats. round() makes a word of the array ready to be multiplied, where it is not yet.
struct tf32 {
    static constexpr int PER_WORD = 1;
    __device__ static unsigned pack(const float* numbers) { return round_to_tf32(numbers[0]); }
    __device__ static unsigned round(unsigned word) { return round_to_tf32(__uint_as_float(word)); }
    __device__ static void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
        mma_tf32(d, a, b);
    }
};

struct bf16 {
    static constexpr int PER_WORD = 2;
    __device__ static unsigned pack(const float* numbers) { return pack_bf16(numbers[0], numbers[1]); }
    __device__ static unsigned round(unsigned word) { return word; }
    __device__ static void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
        mma_bf16(d, a, b);
    }
};

typedef PRECISION Format;
constexpr int PER_WORD = Format::PER_WORD;
constexpr int STEP_DEPTH = STEP_WORDS * PER_WORD;  // numbers

// A step of one matrix whose terms lie side by side in memory: a line for each of SIZE rows (of A) or columns (of B).
template <int SIZE>
struct Along {
    static constexpr int LINES = SIZE, PACKS = STEP_PACKS;
    static constexpr bool IS_ALONG = true;

    __device__ static int place(int line, int pack) { return (line * PACKS + (pack ^ (line & 7))) * PACK_WORDS; }

    // The fragment of 16 rows from first + offset on; `first` is a multiple of 32.
    __device__ static void load_rows(unsigned (&words)[4], const unsigned* panel, int first, int offset, int fragment) {
        const int lane = threadIdx.x % 32;
        load_matrices(words, panel + place(first + offset + lane % 16, 2 * fragment + lane / 16));
    }

    // The two fragments of 8 columns each from first + offset on.
    __device__ static void load_columns(unsigned (&words)[4], const unsigned* panel, int first, int offset,
                                        int fragment) {
        const int lane = threadIdx.x % 32;
        load_matrices(words, panel + place(first + offset + lane / 16 * 8 + lane % 8, 2 * fragment + lane / 8 % 2));
    }
};

// A step of one matrix whose terms lie apart: a line for each term. bf16 is turned over as it is loaded; tf32, for
// which there is no such instruction, is loaded word by word.
template <int SIZE>
struct Across {
    static constexpr int LINES = STEP_DEPTH, PACKS = SIZE / PER_WORD / PACK_WORDS;
    static constexpr bool IS_ALONG = false;

    __device__ static int place(int line, int pack) {
        const int swizzle = PER_WORD == 1 ? (line & 3) * 2 : line & 7;  // of tf32, 4 lines and 2 packs are read at once
        return (line * PACKS + (pack ^ swizzle)) * PACK_WORDS;
    }

    // Word `offset` of line `term`, for the lane that begins at `start`; both are known to the compiler, and multiples
    // of 8 and of 4. That what changes stands apart from what does not saves registers: four addresses serve all words.
    __device__ static unsigned word(const unsigned* start, int term, int offset) {
        return start[term * SIZE + (offset ^ threadIdx.x % 4 * 8)];
    }

    __device__ static void load_rows(unsigned (&words)[4], const unsigned* panel, int first, int offset, int fragment) {
        const int lane = threadIdx.x % 32;
        if constexpr (PER_WORD == 2) {
            load_matrices_turned(words, panel + place(16 * fragment + lane / 16 * 8 + lane % 8,
                                                      (first + offset) / 8 + lane / 8 % 2));
        } else {
            const unsigned* start = panel + lane % 4 * SIZE + first + lane / 4;
#pragma unroll
            for (int i = 0; i < 4; ++i) words[i] = word(start, 8 * fragment + i / 2 * 4, offset + i % 2 * 8);
        }
    }

    __device__ static void load_columns(unsigned (&words)[4], const unsigned* panel, int first, int offset,
                                        int fragment) {
        const int lane = threadIdx.x % 32;
        if constexpr (PER_WORD == 2) {
            load_matrices_turned(words, panel + place(16 * fragment + lane % 16, (first + offset) / 8 + lane / 16));
        } else {
            const unsigned* start = panel + lane % 4 * SIZE + first + lane / 4;
#pragma unroll
            for (int i = 0; i < 4; ++i) words[i] = word(start, 8 * fragment + i % 2 * 4, offset + i / 2 * 8);
        }
    }
};

// WARPS_DOWN x WARPS_ACROSS warps make ROWS x COLUMNS numbers.
template <int ROWS_, int COLUMNS_, int WARPS_DOWN, int WARPS_ACROSS>
struct TensorTile {
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_, THREADS = 32 * WARPS_DOWN * WARPS_ACROSS;
    static constexpr int WARP_ROWS = ROWS / WARPS_DOWN, WARP_COLUMNS = COLUMNS / WARPS_ACROSS;
    static constexpr int DOWN = WARP_ROWS / 16, ACROSS = WARP_COLUMNS / 8;  // products of one instruction
    static constexpr int STAGE_WORDS = (ROWS + COLUMNS) * STEP_WORDS;
    typedef float Sums[DOWN][ACROSS][4];

    __device__ static int warp_row() { return threadIdx.x / 32 / WARPS_ACROSS * WARP_ROWS; }
    __device__ static int warp_column() { return threadIdx.x / 32 % WARPS_ACROSS * WARP_COLUMNS; }
};

typedef TensorTile<128, 128, 2, 4> LargeTile;
typedef TensorTile<128, 64, 2, 2> MediumTile;
typedef TensorTile<64, 64, 2, 2> SmallTile;

// Blocks that share a multiprocessor of 228 KB: two large ones (96 KB each), three of 72 KB, or four of 48 KB.
constexpr int LARGE_TILES = 2, MEDIUM_TILES = 3, SMALL_TILES = 4;

// What a warp multiplies at once.
template <class T>
struct Fragments {
    unsigned rows[T::DOWN][4], columns[T::ACROSS][2];

    template <class A, class B>
    __device__ void load(const unsigned* a, const unsigned* b, int fragment) {
#pragma unroll
        for (int i = 0; i < T::DOWN; ++i) {
            A::Panel::load_rows(rows[i], a, T::warp_row(), 16 * i, fragment);
#pragma unroll
            for (int word = 0; word < 4 && !A::IS_ROUNDED; ++word) rows[i][word] = Format::round(rows[i][word]);
        }
#pragma unroll
        for (int j = 0; j < T::ACROSS; j += 2) {
            unsigned words[4];
            B::Panel::load_columns(words, b, T::warp_column(), 8 * j, fragment);
#pragma unroll
            for (int word = 0; word < 4; ++word)
                columns[j + word / 2][word % 2] = B::IS_ROUNDED ? words[word] : Format::round(words[word]);
        }
    }

    __device__ void multiply(typename T::Sums& sums) const {
#pragma unroll
        for (int i = 0; i < T::DOWN; ++i)
#pragma unroll
            for (int j = 0; j < T::ACROSS; ++j) Format::multiply(sums[i][j], rows[i], columns[j]);
    }
};

// sums = the tile of A B over `steps` steps. A and B are sources: Panel says how a step of theirs lies in shared
// memory, IS_ROUNDED whether its words are ready, and copy(panel) starts the copies of this thread for the next step.
template <class T, class A, class B>
__device__ __forceinline__ void multiply_steps(unsigned* memory, A& a, B& b, int steps, typename T::Sums& sums) {
    constexpr int B_PANEL = T::ROWS * STEP_WORDS;
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage) {
        if (stage < steps) {
            a.copy(memory + stage * T::STAGE_WORDS);
            b.copy(memory + stage * T::STAGE_WORDS + B_PANEL);
        }
        commit_copies();
    }
#pragma unroll
    for (int i = 0; i < T::DOWN; ++i)
#pragma unroll
        for (int j = 0; j < T::ACROSS; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) sums[i][j][e] = 0;
    unsigned* now = memory;
    unsigned* free = memory + (STAGES - 1) * T::STAGE_WORDS;
    for (int step = 0; step < steps; ++step) {
        wait_for_copies<STAGES - 2>();
        __syncthreads();  // the copies of all threads are there, and the stage before is no longer read
        if (step + STAGES - 1 < steps) {
            a.copy(free);
            b.copy(free + B_PANEL);
        }
        commit_copies();
        Fragments<T> fragments[2];
        fragments[0].template load<A, B>(now, now + B_PANEL, 0);
#pragma unroll
        for (int k = 0; k < FRAGMENTS; ++k) {
            if (k + 1 < FRAGMENTS) fragments[(k + 1) % 2].template load<A, B>(now, now + B_PANEL, k + 1);
            fragments[k % 2].multiply(sums);
        }
        free = now;
        now = now + T::STAGE_WORDS == memory + STAGES * T::STAGE_WORDS ? memory : now + T::STAGE_WORDS;
    }
}

// How a result is written: out = clamp(sum + beta * out + bias), bias (columns,) or null.
struct Finishing {
    const float* bias;
    float beta, low, high;
    bool pairs;  // whether all even columns lie at multiples of 8 bytes

    // out = sum
    __device__ static Finishing none(bool pairs) {
        return {nullptr, 0, __uint_as_float(0xff800000u), __uint_as_float(0x7f800000u), pairs};  // -inf, inf
    }

    __device__ float finish(float sum, const float* before, int column) const {
        if (beta != 0) sum += beta * *before;
        if (bias != nullptr) sum += bias[column];
        return sum < low ? low : sum > high ? high : sum;  // NaN passes through
    }
};

// The tile's columns from `first_column`, up to `columns`; line(row) is where a row of the tile begins, null for none.
template <class T, class Line>
__device__ __forceinline__ void store_tile(const typename T::Sums& sums, const Line& line, int first_column,
                                           int columns, const Finishing& finishing) {
    const int lane = threadIdx.x % 32;
    const int first_row = T::warp_row() + lane / 4;
    first_column += T::warp_column() + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2 * T::DOWN; ++i) {
        float* row = line(first_row + 8 * i);
        if (row == nullptr) continue;
#pragma unroll
        for (int j = 0; j < T::ACROSS; ++j) {
            const int column = first_column + 8 * j;
            const float* pair = &sums[i / 2][j][i % 2 * 2];
            if (finishing.pairs && column + 1 < columns) {
                store_pack<2>(row + column, Pack<2>{{finishing.finish(pair[0], row + column, column),
                                                     finishing.finish(pair[1], row + column + 1, column + 1)}});
            } else {
#pragma unroll
                for (int e = 0; e < 2; ++e)
                    if (column + e < columns) row[column + e] = finishing.finish(pair[e], row + column + e, column + e);
            }
        }
    }
}
