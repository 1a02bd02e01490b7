// Atomics: one thread runs at a time, so a plain read, change and write is one. Each returns the old value.
#pragma once

#include "machine.h"

namespace emulator {

template <class T>
static inline T exchange(T* address, T value) {
    const T old = *address;
    *address = value;
    return old;
}

}  // namespace emulator

#define EMULATOR_ATOMIC(T)                                                                                             \
    static inline T atomicAdd(T* p, T v) { return ::emulator::exchange(p, static_cast<T>(*p + v)); }                   \
    static inline T atomicExch(T* p, T v) { return ::emulator::exchange(p, v); }
#define EMULATOR_ATOMIC_INTEGER(T)                                                                                     \
    EMULATOR_ATOMIC(T)                                                                                                 \
    static inline T atomicMax(T* p, T v) { return ::emulator::exchange(p, *p > v ? *p : v); }                          \
    static inline T atomicMin(T* p, T v) { return ::emulator::exchange(p, *p < v ? *p : v); }                          \
    static inline T atomicAnd(T* p, T v) { return ::emulator::exchange(p, *p & v); }                                   \
    static inline T atomicOr(T* p, T v) { return ::emulator::exchange(p, *p | v); }                                    \
    static inline T atomicXor(T* p, T v) { return ::emulator::exchange(p, *p ^ v); }                                   \
    static inline T atomicCAS(T* p, T expected, T v) { return ::emulator::exchange(p, *p == expected ? v : *p); }

EMULATOR_ATOMIC(float)
EMULATOR_ATOMIC(double)
EMULATOR_ATOMIC_INTEGER(int)
EMULATOR_ATOMIC_INTEGER(unsigned)
EMULATOR_ATOMIC_INTEGER(unsigned long long)

static inline int atomicSub(int* p, int v) { return ::emulator::exchange(p, *p - v); }
static inline unsigned atomicSub(unsigned* p, unsigned v) { return ::emulator::exchange(p, *p - v); }
// Counters that wrap: at `limit` to 0, from 0 (or beyond the limit) to `limit`.
static inline unsigned atomicInc(unsigned* p, unsigned limit) {
    return ::emulator::exchange(p, *p >= limit ? 0u : *p + 1);
}
static inline unsigned atomicDec(unsigned* p, unsigned limit) {
    return ::emulator::exchange(p, *p == 0 || *p > limit ? limit : *p - 1);
}
