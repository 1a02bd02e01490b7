// CUDA's built-in vector types, with their alignment, and memory operations that are plain loads and stores here.
#pragma once

#include "machine.h"

#define EMULATOR_VECTOR2(scalar, name, alignment)                                                                      \
    struct alignas(alignment) name##2 { scalar x, y; };                                                                \
    static inline name##2 make_##name##2(scalar x, scalar y) { return {x, y}; }
#define EMULATOR_VECTOR4(scalar, name, alignment)                                                                      \
    struct alignas(alignment) name##4 { scalar x, y, z, w; };                                                          \
    static inline name##4 make_##name##4(scalar x, scalar y, scalar z, scalar w) { return {x, y, z, w}; }

EMULATOR_VECTOR2(float, float, 8)
EMULATOR_VECTOR4(float, float, 16)
EMULATOR_VECTOR2(double, double, 16)
EMULATOR_VECTOR2(int, int, 8)
EMULATOR_VECTOR4(int, int, 16)
EMULATOR_VECTOR2(unsigned, uint, 8)
EMULATOR_VECTOR4(unsigned, uint, 16)
EMULATOR_VECTOR2(long long, longlong, 16)
EMULATOR_VECTOR2(short, short, 4)
EMULATOR_VECTOR4(short, short, 8)
EMULATOR_VECTOR2(unsigned short, ushort, 4)
EMULATOR_VECTOR4(unsigned short, ushort, 8)
EMULATOR_VECTOR2(unsigned char, uchar, 2)
EMULATOR_VECTOR4(unsigned char, uchar, 4)
EMULATOR_VECTOR4(signed char, char, 4)

struct float3 { float x, y, z; };
static inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
struct int3 { int x, y, z; };
static inline int3 make_int3(int x, int y, int z) { return {x, y, z}; }

namespace emulator {

// A GPU refuses a vector load from an address that is no multiple of the vector's size; x86 would not notice.
template <class T>
static inline const T* checked(const T* address, Place place) {
    if (reinterpret_cast<uintptr_t>(address) % alignof(T))
        EMULATOR_FAIL("misaligned address at %s:%d", place.file, place.line);
    return address;
}

}  // namespace emulator

template <class T> static inline T __ldg(const T* p, EMULATOR_CALLER) { return *::emulator::checked(p, {file, line}); }
template <class T> static inline T __ldcs(const T* p, EMULATOR_CALLER) { return *::emulator::checked(p, {file, line}); }
template <class T> static inline T __ldcg(const T* p, EMULATOR_CALLER) { return *::emulator::checked(p, {file, line}); }
template <class T> static inline T __ldca(const T* p, EMULATOR_CALLER) { return *::emulator::checked(p, {file, line}); }
template <class T> static inline void __stcs(T* p, T value, EMULATOR_CALLER) {
    *const_cast<T*>(::emulator::checked(p, {file, line})) = value;
}
template <class T> static inline void __stcg(T* p, T value, EMULATOR_CALLER) {
    *const_cast<T*>(::emulator::checked(p, {file, line})) = value;
}
