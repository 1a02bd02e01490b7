// Minimal __half and __nv_bfloat16: storage, conversion with round to nearest even, arithmetic by way of float.
#pragma once

#include "device_math.h"
#include "vectors.h"

namespace emulator {

static inline float bf16_to_float(uint16_t bits) { return same_bits<float>(static_cast<uint32_t>(bits) << 16); }

static inline uint16_t float_to_bf16(float value) {
    const uint32_t bits = same_bits<uint32_t>(value);
    if (value != value) return 0x7FFF;
    return static_cast<uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1)) >> 16);  // the carry rounds up, ties to even
}

static inline float half_to_float(uint16_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float magnitude;
    if (exponent == 31)
        magnitude = fraction ? __builtin_nanf("") : __builtin_huge_valf();
    else if (exponent == 0)
        magnitude = ldexpf(static_cast<float>(fraction), -24);
    else
        magnitude = ldexpf(static_cast<float>(fraction + 1024), exponent - 25);
    return bits >> 15 ? -magnitude : magnitude;
}

static inline uint16_t float_to_half(float value) {
    const uint32_t bits = same_bits<uint32_t>(value);
    const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
    if (value != value) return 0x7FFF;
    const float magnitude = fabsf(value);
    if (magnitude >= 65520.0f) return sign | 0x7C00;  // rounds to infinity
    if (magnitude < 6.103515625e-05f)                 // below the smallest normal number: multiples of 2**-24
        return sign | static_cast<uint16_t>(nearbyintf(ldexpf(magnitude, 24)));
    const uint32_t rounded = (bits & 0x7FFFFFFF) + 0xFFFu + (bits >> 13 & 1);
    return sign | static_cast<uint16_t>((rounded >> 13) - (112 << 10));
}

}  // namespace emulator

#define EMULATOR_SHORT_FLOAT(type, from_float, to_float)                                                               \
    struct alignas(2) type {                                                                                           \
        uint16_t bits;                                                                                                 \
        type() = default;                                                                                              \
        type(float value) : bits(::emulator::from_float(value)) {}                                                     \
        type(double value) : type(static_cast<float>(value)) {}                                                        \
        type(int value) : type(static_cast<float>(value)) {}                                                           \
        operator float() const { return ::emulator::to_float(bits); }                                                  \
        type& operator+=(type other) { return *this = type(float(*this) + float(other)); }                             \
        type& operator-=(type other) { return *this = type(float(*this) - float(other)); }                             \
        type& operator*=(type other) { return *this = type(float(*this) * float(other)); }                             \
    };                                                                                                                 \
    static inline type operator+(type a, type b) { return type(float(a) + float(b)); }                                 \
    static inline type operator-(type a, type b) { return type(float(a) - float(b)); }                                 \
    static inline type operator*(type a, type b) { return type(float(a) * float(b)); }                                 \
    static inline type operator/(type a, type b) { return type(float(a) / float(b)); }                                 \
    struct alignas(4) type##2 { type x, y; };

EMULATOR_SHORT_FLOAT(__half, float_to_half, half_to_float)
EMULATOR_SHORT_FLOAT(__nv_bfloat16, float_to_bf16, bf16_to_float)
using half = __half;
using half2 = __half2;
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

static inline __half __float2half(float x) { return __half(x); }
static inline __half __float2half_rn(float x) { return __half(x); }
static inline float __half2float(__half x) { return x; }
static inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
static inline float2 __half22float2(__half2 v) { return {v.x, v.y}; }
static inline unsigned short __half_as_ushort(__half x) { return x.bits; }
static inline __half __ushort_as_half(unsigned short bits) { return ::emulator::same_bits<__half>(bits); }

static inline __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16(x); }
static inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __nv_bfloat16(x); }
static inline float __bfloat162float(__nv_bfloat16 x) { return x; }
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__nv_bfloat16(x), __nv_bfloat16(y)}; }
static inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {v.x, v.y}; }
static inline float __low2float(__nv_bfloat162 v) { return v.x; }
static inline float __high2float(__nv_bfloat162 v) { return v.y; }
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
    return ::emulator::same_bits<__nv_bfloat16>(bits);
}
