// The machine that runs a block: its threads, warps and counters, CUDA's qualifiers and built-in variables.
#pragma once

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// All static shared arrays of a kernel's text land in one section of the library, so that each block can be started
// with the section poisoned. One block runs at a time: one copy of a shared array is enough.
#define __shared__ static __attribute__((section("emulator_shared"), aligned(16)))
#define DYNAMIC_SHARED(T, name) T* const name = reinterpret_cast<T*>(::emulator::machine.dynamic_shared)

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

extern "C" {  // set by the linker; absent where no kernel declares shared memory
extern char __start_emulator_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_emulator_shared[] __attribute__((weak, visibility("hidden")));
}

namespace emulator {

constexpr unsigned WARP = 32;
constexpr unsigned char POISON = 0xFF;  // four of them are a NaN, as are two (half precision) and eight (double)

// Where a thread waits: at a line of the kernel's text.
struct Place {
    const char* file = nullptr;
    int line = 0;
    bool operator==(const Place& other) const {
        return line == other.line && (file == other.file || (file && other.file && !std::strcmp(file, other.file)));
    }
};

enum class State : uint8_t { FRESH, READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, DONE };

struct Thread {
    uint3 index;
    unsigned number;  // within the block, x fastest
    int fiber;
    State state;
    Place place;
};

// What one lane brings to a warp operation, and what it takes away.
struct Lane {
    alignas(16) unsigned char value[32];
    alignas(16) unsigned char result[32];
    unsigned mask;
    int source;  // of a shuffle: the lane to read, or -1 to keep one's own value
};

struct Warp;
using Completion = void (*)(Warp& warp, unsigned lanes);

struct Warp {
    unsigned alive;                // lanes that have not returned
    unsigned arrived;              // lanes that wait
    Completion completion[WARP];   // what is done once all lanes of a mask have arrived
    Lane lane[WARP];
};

struct Statistics {
    uint64_t blocks, threads, switches, block_barriers, warp_operations;
};

struct Machine {
    Thread* current = nullptr;
    uint3 block{};
    dim3 block_size, grid_size;

    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::vector<unsigned> order;  // in which threads are started and resumed
    unsigned started = 0, alive = 0;

    unsigned at_barrier = 0;  // threads that wait at the block's barrier, and where
    Place barrier;
    int votes = 0, votes_counted = 0;  // __syncthreads_count: of the barrier being filled, of the last one

    char* dynamic_shared = nullptr;
    size_t dynamic_shared_bytes = 0;
    void (*body)(void*) = nullptr;  // the kernel, with its arguments
    void* body_arguments = nullptr;

    bool failed = false;
    char error[512];
    Statistics statistics{};
};

static Machine machine;

[[noreturn]] static void leave_for_good();  // fibers.h

// Keep the first error and what was running; the scheduler sees it and gives the launch up. As printf.
__attribute__((format(printf, 1, 2), noinline, cold)) static void record_error(const char* format, ...) {
    if (machine.failed) return;
    machine.failed = true;
    std::va_list values;
    va_start(values, format);
    const int written = std::vsnprintf(machine.error, sizeof machine.error, format, values);
    va_end(values);
    const size_t end = std::min<size_t>(written, sizeof machine.error - 1);
    const uint3 block = machine.block, thread = machine.current->index;
    std::snprintf(machine.error + end, sizeof machine.error - end, " [block (%u, %u, %u), thread (%u, %u, %u)]",
                  block.x, block.y, block.z, thread.x, thread.y, thread.z);
}

#define EMULATOR_FAIL(...) (::emulator::record_error(__VA_ARGS__), ::emulator::leave_for_good())

static inline unsigned warp_of(const Thread& thread) { return thread.number / WARP; }
static inline unsigned lane_of(const Thread& thread) { return thread.number % WARP; }

}  // namespace emulator

#define threadIdx (::emulator::machine.current->index)
#define blockIdx (::emulator::machine.block)
#define blockDim (::emulator::machine.block_size)
#define gridDim (::emulator::machine.grid_size)
#define warpSize 32

// The last parameters of a device function that wants to know from where it was called.
#define EMULATOR_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()
