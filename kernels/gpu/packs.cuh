// Packs: neighbouring numbers that a thread reads or writes as one, 16 bytes of reals (4 floats, 2 doubles).
//
// A warp then moves 512 bytes with one instruction instead of 128, and an index is worked out once for several numbers.
// It takes addresses that are multiples of the pack's size.
#pragma once
#include "common.cuh"

constexpr int LANES = 16 / sizeof(real);

template <int WIDTH, class T = real>
struct alignas(WIDTH * sizeof(T)) Pack {
    T lane[WIDTH];
};

template <int WIDTH, class T>
__device__ __forceinline__ Pack<WIDTH, T> load_pack(const T* from) {
    return *reinterpret_cast<const Pack<WIDTH, T>*>(from);
}

template <int WIDTH, class T>
__device__ __forceinline__ void store_pack(T* to, const Pack<WIDTH, T>& pack) {
    *reinterpret_cast<Pack<WIDTH, T>*>(to) = pack;
}

template <int WIDTH, class T>
__device__ __forceinline__ Pack<WIDTH, T> filled_pack(T value) {
    Pack<WIDTH, T> pack;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) pack.lane[i] = value;
    return pack;
}
