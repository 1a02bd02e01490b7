// Division of places in large arrays by the sizes of their axes.
#pragma once
#include "common.cuh"

// i / divisor, with the rest in `remainder`. In 32 bits where i allows: a division of 64 bits takes 100 instructions.
__device__ __forceinline__ long long divide(long long i, int divisor, int* remainder) {
    if (i <= 0xffffffffLL) {
        const unsigned quotient = static_cast<unsigned>(i) / static_cast<unsigned>(divisor);
        *remainder = static_cast<int>(static_cast<unsigned>(i) - quotient * divisor);
        return quotient;
    }
    *remainder = static_cast<int>(i % divisor);
    return i / divisor;
}
