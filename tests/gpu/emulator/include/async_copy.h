// cp.async: copies to shared memory that are not there until they are waited for.
//
// The destination is poisoned when a copy is issued and written only by the wait that covers it, in the thread that
// issued it: as late as the hardware may. A kernel that reads too early reads NaN.
#pragma once

#include "machine.h"

namespace emulator {

struct AsyncCopy {
    void* destination;
    const void* source;
    unsigned bytes, valid_bytes;
};

struct CopyQueue {
    std::vector<AsyncCopy> open;                    // issued, not committed
    std::vector<std::vector<AsyncCopy>> committed;  // groups, oldest first
};

static std::vector<CopyQueue> copy_queues;  // one a thread of the block; empty where a kernel never copies

static inline void forget_copies() { copy_queues.clear(); }

static inline CopyQueue& my_copies() {
    if (copy_queues.empty()) copy_queues.resize(machine.threads.size());
    return copy_queues[machine.current->number];
}

static inline bool is_shared(const void* address, unsigned bytes) {
    const char* first = static_cast<const char*>(address);
    const auto lies_in = [=](const char* begin, const char* end) { return first >= begin && first + bytes <= end; };
    return (__start_emulator_shared && lies_in(__start_emulator_shared, __stop_emulator_shared)) ||
           lies_in(machine.dynamic_shared, machine.dynamic_shared + machine.dynamic_shared_bytes);
}

template <unsigned BYTES>
static inline void cp_async(void* destination, const void* source, unsigned valid_bytes, Place place) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
    const char* mistake = nullptr;
    if (reinterpret_cast<uintptr_t>(destination) % BYTES) mistake = "misaligned cp.async destination";
    else if (reinterpret_cast<uintptr_t>(source) % BYTES) mistake = "misaligned cp.async source";
    else if (!is_shared(destination, BYTES)) mistake = "cp.async to an address that is not shared memory";
    else if (valid_bytes > BYTES) mistake = "cp.async of more valid bytes than it copies";
    if (mistake) EMULATOR_FAIL("%s at %s:%d", mistake, place.file, place.line);
    std::memset(destination, POISON, BYTES);
    my_copies().open.push_back({destination, source, BYTES, valid_bytes});
}

// Copy the first `valid_bytes` bytes, zero the rest of the 16 (or of the 4).
static inline void cp_async16(void* destination, const void* source, unsigned valid_bytes = 16, EMULATOR_CALLER) {
    cp_async<16>(destination, source, valid_bytes, {file, line});
}
static inline void cp_async8(void* destination, const void* source, unsigned valid_bytes = 8, EMULATOR_CALLER) {
    cp_async<8>(destination, source, valid_bytes, {file, line});
}
static inline void cp_async4(void* destination, const void* source, unsigned valid_bytes = 4, EMULATOR_CALLER) {
    cp_async<4>(destination, source, valid_bytes, {file, line});
}

static inline void cp_commit() {
    CopyQueue& copies = my_copies();
    copies.committed.push_back(std::move(copies.open));
    copies.open.clear();
}

// Wait until at most `keep` of the newest groups are still on their way.
static inline void cp_wait(unsigned keep) {
    std::vector<std::vector<AsyncCopy>>& groups = my_copies().committed;
    while (groups.size() > keep) {
        for (const AsyncCopy& copy : groups.front()) {
            std::memset(copy.destination, 0, copy.bytes);
            if (copy.valid_bytes) std::memcpy(copy.destination, copy.source, copy.valid_bytes);
        }
        groups.erase(groups.begin());
    }
}

}  // namespace emulator
