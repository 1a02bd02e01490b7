// What a compiled library offers to Python: a launcher and a signature for each kernel.
#pragma once

#include "scheduler.h"
#include "half_types.h"
#include "vectors.h"

#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#  include <xmmintrin.h>
#endif

namespace emulator {

enum class Order : int { FORWARD = 0, REVERSE = 1, RANDOM = 2 };

// Laid out as the ctypes.Structure of the same name in library.py.
struct Launch {
    unsigned grid[3], block[3];
    size_t dynamic_shared_bytes;
    void** arguments;
    Order order;
    unsigned seed;
    int flush_denormals;
    uint64_t first_block, last_block;  // a range of a huge grid: last_block is not run
    char* error;
    size_t error_bytes;
    Statistics statistics;
};

// Flush float denormals to zero for as long as this lives: CuPy always compiles with -ftz=true. (The processor's
// switch also flushes doubles, which a GPU does not.)
class FlushDenormals {
#if defined(__x86_64__)
    unsigned before = _mm_getcsr();
public:
    explicit FlushDenormals(bool wanted) { if (wanted) _mm_setcsr(before | 0x8040); }
    ~FlushDenormals() { _mm_setcsr(before); }
#elif defined(__aarch64__)
    uint64_t before;
public:
    explicit FlushDenormals(bool wanted) {
        asm volatile("mrs %0, fpcr" : "=r"(before));
        if (wanted) asm volatile("msr fpcr, %0" ::"r"(before | 1u << 24));
    }
    ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(before)); }
#else
public:
    explicit FlushDenormals(bool) {}
#endif
};

// A small generator (PCG's multiplier): the same order for the same seed everywhere, unlike std::shuffle.
struct Shuffler {
    uint64_t state;
    explicit Shuffler(uint64_t seed) : state(seed * 6364136223846793005u + 1442695040888963407u) {}
    uint64_t below(uint64_t bound) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return (state >> 33) % bound;
    }
    template <class T> void shuffle(std::vector<T>& items) {
        for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
    }
};

template <class T>
static inline void arrange(std::vector<T>& items, T first, size_t count, Order order, Shuffler& shuffler) {
    items.resize(count);
    for (size_t i = 0; i < count; ++i) items[i] = static_cast<T>(first + (order == Order::REVERSE ? count - 1 - i : i));
    if (order == Order::RANDOM) shuffler.shuffle(items);
}

static inline void poison_shared_memory() {
    if (__start_emulator_shared)
        std::memset(__start_emulator_shared, POISON, size_t(__stop_emulator_shared - __start_emulator_shared));
    if (machine.dynamic_shared_bytes) std::memset(machine.dynamic_shared, POISON, machine.dynamic_shared_bytes);
}

static inline void run_grid(Launch& launch) {
    const uint64_t width = machine.grid_size.x, height = machine.grid_size.y;
    const uint64_t last = launch.last_block ? launch.last_block : width * height * machine.grid_size.z;
    Shuffler shuffler(launch.seed);
    std::vector<uint64_t> blocks;
    arrange<uint64_t>(blocks, launch.first_block, last - launch.first_block, launch.order, shuffler);
    arrange<unsigned>(machine.order, 0, machine.threads.size(), launch.order, shuffler);
    for (const uint64_t number : blocks) {
        machine.block = {static_cast<unsigned>(number % width), static_cast<unsigned>(number / width % height),
                         static_cast<unsigned>(number / (width * height))};
        if (launch.order == Order::RANDOM) shuffler.shuffle(machine.order);
        poison_shared_memory();
        run_block();
        if (machine.failed) return;
    }
}

// swapcontext also exchanges the floating-point mode: fibers of another mode are of no use.
static inline void renew_fibers_of_another_mode(int flush_denormals) {
    static int mode = -1;
    if (mode != flush_denormals) fibers.forget_all();
    mode = flush_denormals;
}

// Run a kernel over its grid. Returns 0, or 1 with a text in launch.error.
static inline int run(void (*body)(void*), void* body_arguments, Launch& launch) {
    machine.body = body;
    machine.body_arguments = body_arguments;
    machine.grid_size = dim3(launch.grid[0], launch.grid[1], launch.grid[2]);
    machine.block_size = dim3(launch.block[0], launch.block[1], launch.block[2]);
    const size_t threads = size_t(launch.block[0]) * launch.block[1] * launch.block[2];
    machine.threads.resize(threads);
    machine.warps.resize((threads + WARP - 1) / WARP);
    machine.failed = false;
    machine.statistics = Statistics{};

    std::vector<char> memory(launch.dynamic_shared_bytes + 128);
    const uintptr_t aligned = (reinterpret_cast<uintptr_t>(memory.data()) + 127) & ~uintptr_t(127);
    machine.dynamic_shared = reinterpret_cast<char*>(aligned);
    machine.dynamic_shared_bytes = launch.dynamic_shared_bytes;
    renew_fibers_of_another_mode(launch.flush_denormals);
    {
        FlushDenormals flush(launch.flush_denormals);
        run_grid(launch);
    }
    launch.statistics = machine.statistics;
    if (machine.failed) std::snprintf(launch.error, launch.error_bytes, "%s", machine.error);
    if (machine.failed || fibers.all.size() > FIBERS_KEPT) fibers.forget_all();
    return machine.failed;
}

// From the untyped argument list to the kernel's typed call.
template <class... Parameters>
struct Call {
    void (*kernel)(Parameters...);
    void** arguments;

    template <size_t... I>
    void operator()(std::index_sequence<I...>) const {
        kernel(*static_cast<std::remove_cv_t<Parameters>*>(arguments[I])...);
    }
    static void body(void* self) { (*static_cast<Call*>(self))(std::index_sequence_for<Parameters...>{}); }
};

template <class... Parameters>
static int launch_kernel(void (*kernel)(Parameters...), Launch* launch) {
    Call<Parameters...> call{kernel, launch->arguments};
    return run(&Call<Parameters...>::body, &call, *launch);
}

// --------------------------------------------------------------------------------------------- signatures as text
//
// One item a parameter, `kind dtype size alignment`: "in f4 16 16" is a const float4*, "out f4 4 4" a float*,
// "value i4 4 4" an int, "value struct 56 8" a struct passed by value. Letters of the dtypes are NumPy's.

template <class T> struct Scalar { using type = T; };  // what a vector is made of
#define EMULATOR_SCALAR_OF(vector, scalar) template <> struct Scalar<vector> { using type = scalar; };
EMULATOR_SCALAR_OF(float2, float) EMULATOR_SCALAR_OF(float3, float) EMULATOR_SCALAR_OF(float4, float)
EMULATOR_SCALAR_OF(double2, double) EMULATOR_SCALAR_OF(longlong2, long long)
EMULATOR_SCALAR_OF(int2, int) EMULATOR_SCALAR_OF(int3, int) EMULATOR_SCALAR_OF(int4, int)
EMULATOR_SCALAR_OF(uint2, unsigned) EMULATOR_SCALAR_OF(uint3, unsigned) EMULATOR_SCALAR_OF(uint4, unsigned)
EMULATOR_SCALAR_OF(uchar2, unsigned char) EMULATOR_SCALAR_OF(uchar4, unsigned char)
EMULATOR_SCALAR_OF(char4, signed char)
EMULATOR_SCALAR_OF(short2, short) EMULATOR_SCALAR_OF(short4, short)
EMULATOR_SCALAR_OF(ushort2, unsigned short) EMULATOR_SCALAR_OF(ushort4, unsigned short)
EMULATOR_SCALAR_OF(__half2, __half) EMULATOR_SCALAR_OF(__nv_bfloat162, __nv_bfloat16)

template <class T>
static constexpr const char* dtype_name() {
    constexpr int size = sizeof(std::conditional_t<std::is_void_v<T>, char, T>);
    constexpr int log = size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3;
    constexpr const char *floats[] = {"", "f2", "f4", "f8"}, *signeds[] = {"i1", "i2", "i4", "i8"},
                         *unsigneds[] = {"u1", "u2", "u4", "u8"};
    if (std::is_same_v<T, bool>) return "b1";
    if (std::is_same_v<T, __half>) return "f2";
    if (std::is_same_v<T, __nv_bfloat16>) return "bf16";
    if (std::is_pointer_v<T>) return "u8";  // an array of addresses
    if (std::is_floating_point_v<T>) return floats[log];
    if (std::is_integral_v<T>) return std::is_signed_v<T> ? signeds[log] : unsigneds[log];
    return std::is_void_v<T> ? "void" : "struct";
}

struct Text {
    char data[4096];
    size_t length = 0;
    void add(const char* kind, const char* dtype, size_t size, size_t alignment) {
        length += std::snprintf(data + length, sizeof data - length, "%s %s %zu %zu;", kind, dtype, size, alignment);
    }
};

template <class T>
static void describe_parameter(Text& text) {
    if constexpr (std::is_pointer_v<T>) {
        using Pointee = std::remove_pointer_t<T>;
        using Element = std::remove_cv_t<Pointee>;
        using Sized = std::conditional_t<std::is_void_v<Element>, char, Element>;
        text.add(std::is_const_v<Pointee> ? "in" : "out", dtype_name<typename Scalar<Element>::type>(), sizeof(Sized),
                 alignof(Sized));
    } else {
        constexpr bool is_vector = !std::is_same_v<typename Scalar<T>::type, T>;
        text.add("value", is_vector ? "struct" : dtype_name<T>(), sizeof(T), alignof(T));
    }
}

template <class... Parameters>
static const char* signature(void (*)(Parameters...)) {
    static Text text;
    text.length = text.data[0] = 0;
    (describe_parameter<std::remove_cv_t<Parameters>>(text), ...);
    return text.data;
}

// Of `__launch_bounds__(threads, blocks)`, the threads.
template <class... Rest>
static constexpr int first(int threads, Rest...) { return threads; }

}  // namespace emulator

// A name for ctypes to find, a kernel, and the limit of its __launch_bounds__ (0: none).
#define EMULATOR_EXPORT(name, bound, ...)                                                                              \
    extern "C" __attribute__((visibility("default"))) int emulator_launch_##name(::emulator::Launch* launch) {         \
        return ::emulator::launch_kernel(&__VA_ARGS__, launch);                                                        \
    }                                                                                                                  \
    extern "C" __attribute__((visibility("default"))) const char* emulator_signature_##name() {                        \
        return ::emulator::signature(&__VA_ARGS__);                                                                    \
    }                                                                                                                  \
    extern "C" __attribute__((visibility("default"))) int emulator_bound_##name() { return bound; }
