// float32 numbers made ready for tensor cores: rounded to tf32 or bf16, in lines that are multiples of 16 bytes.
//
// bf16 could be rounded later, as each fragment is loaded. But then every number would pass through the second-level
// cache and through shared memory at twice its size, as often as tiles and taps read it, and shared memory would keep
// the tensor cores waiting: by count, a tile of 128 x 128 takes 768 cycles to read in float32 and 384 in bf16, for 400
// cycles of multiplications. A pass of its own reads and writes the array once. tf32 arrays stay as they are, where
// their lines are such multiples: nothing would be saved.
//
// A word has one tf32 number or two bf16; arrays of words are passed as arrays of float, whose bits they are.
// defines: REAL=float PRECISION=tf32|bf16
// minimum: sm_80
#include "common.cuh"
#include "divide.cuh"
#include "mma_tile.cuh"

// x (lines, length) -> words (lines, line_words), the rest of each line zeros; a thread makes one word.
extern "C" __global__ void padded_words(const real* __restrict__ x, real* __restrict__ words, long long count,
                                        int length, int line_words) {
    GRID_STRIDE_LOOP(i, count) {
        int word;
        const long long line = divide(i, line_words, &word);
        float numbers[PER_WORD];
#pragma unroll
        for (int e = 0; e < PER_WORD; ++e) {
            const int place = word * PER_WORD + e;
            numbers[e] = place < length ? x[line * length + place] : 0;
        }
        words[i] = __uint_as_float(Format::pack(numbers));
    }
}

// x -> words, `count` packs of 4 words; a thread makes one.
extern "C" __global__ void packed_words(const real* __restrict__ x, real* __restrict__ words, long long count) {
    constexpr int NUMBERS = PACK_WORDS * PER_WORD;
    GRID_STRIDE_LOOP(i, count) {
        Pack<PACK_WORDS> read[PER_WORD], made;
#pragma unroll
        for (int part = 0; part < PER_WORD; ++part)
            read[part] = load_pack<PACK_WORDS>(x + i * NUMBERS + part * PACK_WORDS);
#pragma unroll
        for (int word = 0; word < PACK_WORDS; ++word)
            made.lane[word] =
                __uint_as_float(Format::pack(&read[word * PER_WORD / PACK_WORDS].lane[word * PER_WORD % PACK_WORDS]));
        store_pack<PACK_WORDS>(words + i * PACK_WORDS, made);
    }
}
