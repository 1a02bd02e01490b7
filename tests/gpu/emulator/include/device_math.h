// The mathematics of a device: what <math.h> lacks. Fast versions (`__expf`) are the exact ones here.
#pragma once

#include "machine.h"

#include <math.h>

#ifndef CUDART_INF_F
#  define CUDART_INF_F __builtin_huge_valf()
#  define CUDART_NAN_F __builtin_nanf("")
#  define CUDART_INF __builtin_huge_val()
#endif

#undef assert
#define assert(condition)                                                                                              \
    ((condition) ? void() : EMULATOR_FAIL("assertion failed: %s at line %d", #condition, __LINE__))
[[noreturn]] static inline void __trap() { EMULATOR_FAIL("__trap()"); }

#define EMULATOR_MIN_MAX(T)                                                                                            \
    static inline T min(T a, T b) { return b < a ? b : a; }                                                            \
    static inline T max(T a, T b) { return a < b ? b : a; }
EMULATOR_MIN_MAX(int)
EMULATOR_MIN_MAX(unsigned)
EMULATOR_MIN_MAX(long)
EMULATOR_MIN_MAX(unsigned long)
EMULATOR_MIN_MAX(long long)
EMULATOR_MIN_MAX(unsigned long long)
// Of numbers and NaN, the number: as fminf.
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

// As macros: the C library of the host declares functions of these names for its own use.
#define __expf(x) expf(x)
#define __exp10f(x) powf(10.0f, x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __log10f(x) log10f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanhf(x) tanhf(x)
#define rsqrtf(x) ::emulator::reciprocal_root(static_cast<float>(x))
#define rsqrt(x) ::emulator::reciprocal_root(x)
#define sinpif(x) static_cast<float>(sin(M_PI * (x)))
#define cospif(x) static_cast<float>(cos(M_PI * (x)))

namespace emulator {

static inline float reciprocal_root(float x) { return 1.0f / sqrtf(x); }
static inline double reciprocal_root(double x) { return 1.0 / sqrt(x); }

}  // namespace emulator

static inline float __fdividef(float a, float b) { return a / b; }
static inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }

// Operations that are rounded one by one. Not inlined: the compiler may fuse `a * b + c` of inlined ones into an FMA.
static __noinline__ float __fadd_rn(float a, float b) { return a + b; }
static __noinline__ float __fsub_rn(float a, float b) { return a - b; }
static __noinline__ float __fmul_rn(float a, float b) { return a * b; }
static __noinline__ double __dadd_rn(double a, double b) { return a + b; }
static __noinline__ double __dsub_rn(double a, double b) { return a - b; }
static __noinline__ double __dmul_rn(double a, double b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline double __dsqrt_rn(double x) { return sqrt(x); }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __frsqrt_rn(float x) { return static_cast<float>(1.0 / sqrt(static_cast<double>(x))); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

namespace emulator {

template <class To, class From>
static inline To same_bits(From value) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To result;
    std::memcpy(&result, &value, sizeof(To));
    return result;
}

}  // namespace emulator

static inline unsigned __float_as_uint(float x) { return ::emulator::same_bits<unsigned>(x); }
static inline int __float_as_int(float x) { return ::emulator::same_bits<int>(x); }
static inline float __uint_as_float(unsigned x) { return ::emulator::same_bits<float>(x); }
static inline float __int_as_float(int x) { return ::emulator::same_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return ::emulator::same_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return ::emulator::same_bits<double>(x); }

static inline int __float2int_rn(float x) { return static_cast<int>(nearbyintf(x)); }
static inline int __float2int_rz(float x) { return static_cast<int>(x); }
static inline int __float2int_rd(float x) { return static_cast<int>(floorf(x)); }
static inline int __float2int_ru(float x) { return static_cast<int>(ceilf(x)); }
static inline unsigned __float2uint_rn(float x) { return static_cast<unsigned>(nearbyintf(x)); }
static inline unsigned __float2uint_rz(float x) { return static_cast<unsigned>(x); }
static inline float __int2float_rn(int x) { return static_cast<float>(x); }
static inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
static inline double __uint2double_rn(unsigned x) { return static_cast<double>(x); }
static inline double __ull2double_rn(unsigned long long x) { return static_cast<double>(x); }
static inline float __double2float_rn(double x) { return static_cast<float>(x); }

static inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
static inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<long long>(a) * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline unsigned __brev(unsigned x) {
    unsigned reversed = 0;
    for (int bit = 0; bit < 32; ++bit) reversed |= (x >> bit & 1u) << (31 - bit);
    return reversed;
}
// The bits that a 64-bit word (high, low), shifted, shows in its upper (left) or lower (right) half.
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    const unsigned long long word = static_cast<unsigned long long>(high) << 32 | low;
    return static_cast<unsigned>(word << (shift & 31) >> 32);
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    const unsigned long long word = static_cast<unsigned long long>(high) << 32 | low;
    return static_cast<unsigned>(word >> (shift & 31));
}
