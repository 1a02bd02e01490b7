// Barriers of the block and of the warp, and the checks that a GPU does not make.
#pragma once

#include "fibers.h"

namespace emulator {

static inline void release_block() {
    ++machine.statistics.block_barriers;
    machine.votes_counted = machine.votes;
    machine.votes = 0;
    machine.at_barrier = 0;
    for (Thread& thread : machine.threads)
        if (thread.state == State::AT_BLOCK_BARRIER) thread.state = State::READY;
}

// Wait until every thread of the block that has not returned is here. Returns how many of them voted yes.
static inline int block_barrier(bool vote, Place place) {
    Thread& thread = *machine.current;
    if (machine.at_barrier == 0) machine.barrier = place;
    if (!(machine.barrier == place))
        EMULATOR_FAIL("divergent barrier: __syncthreads at %s:%d while other threads of the block wait at %s:%d",
                      place.file, place.line, machine.barrier.file, machine.barrier.line);
    machine.votes += vote;
    thread.place = place;
    if (++machine.at_barrier == machine.alive) {
        release_block();
    } else {
        thread.state = State::AT_BLOCK_BARRIER;
        give_way();
    }
    return machine.votes_counted;
}

// All lanes of `mask` that have not returned wait: do the operation for all of them at once, and let them go.
static inline bool complete_if_all_arrived(unsigned warp_number, unsigned mask, Completion completion) {
    Warp& warp = machine.warps[warp_number];
    const unsigned lanes = mask & warp.alive;
    if ((warp.arrived & lanes) != lanes) return false;
    ++machine.statistics.warp_operations;
    if (completion) completion(warp, lanes);
    warp.arrived &= ~mask;
    for (unsigned rest = lanes; rest; rest &= rest - 1) {
        Thread& thread = machine.threads[warp_number * WARP + __builtin_ctz(rest)];
        if (thread.state == State::AT_WARP_BARRIER) thread.state = State::READY;
    }
    return true;
}

// The one way through every warp operation: the lane has put down what it brings; the last lane to arrive computes for
// all of them; each finds its result in its own `Lane`.
static inline void warp_meet(unsigned mask, Completion completion, Place place) {
    Thread& thread = *machine.current;
    const unsigned lane = lane_of(thread), warp_number = warp_of(thread);
    Warp& warp = machine.warps[warp_number];
    if (!(mask >> lane & 1))
        EMULATOR_FAIL("warp operation at %s:%d: the mask does not name the calling lane", place.file, place.line);
    for (unsigned others = warp.arrived & mask; others; others &= others - 1) {
        const unsigned other = __builtin_ctz(others);
        const Thread& waiting = machine.threads[warp_number * WARP + other];
        if (!(waiting.place == place))
            EMULATOR_FAIL("divergent warp: operations at %s:%d and %s:%d meet", place.file, place.line,
                          waiting.place.file, waiting.place.line);
        if (warp.lane[other].mask != mask)
            EMULATOR_FAIL("warp operation at %s:%d: lanes pass different masks", place.file, place.line);
    }
    warp.lane[lane].mask = mask;
    warp.completion[lane] = completion;
    warp.arrived |= 1u << lane;
    thread.place = place;
    if (complete_if_all_arrived(warp_number, mask, completion)) return;
    thread.state = State::AT_WARP_BARRIER;
    give_way();
}

// A thread returned from the kernel: others may have waited for nobody else.
static inline void finish(Thread& thread) {
    thread.state = State::DONE;
    --machine.alive;
    const unsigned warp_number = warp_of(thread);
    Warp& warp = machine.warps[warp_number];
    warp.alive &= ~(1u << lane_of(thread));
    for (unsigned waiting = warp.arrived; waiting; waiting &= waiting - 1) {
        const unsigned lane = __builtin_ctz(waiting);
        if (warp.arrived >> lane & 1) complete_if_all_arrived(warp_number, warp.lane[lane].mask, warp.completion[lane]);
    }
    if (machine.alive && machine.at_barrier == machine.alive) release_block();
}

}  // namespace emulator

static inline void __syncthreads(EMULATOR_CALLER) { ::emulator::block_barrier(false, {file, line}); }
static inline int __syncthreads_count(int vote, EMULATOR_CALLER) {
    return ::emulator::block_barrier(vote != 0, {file, line});
}
static inline int __syncthreads_or(int vote, EMULATOR_CALLER) {
    return ::emulator::block_barrier(vote != 0, {file, line}) != 0;
}
static inline int __syncthreads_and(int vote, EMULATOR_CALLER) {
    return ::emulator::block_barrier(vote == 0, {file, line}) == 0;  // nobody voted no
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATOR_CALLER) {
    ::emulator::warp_meet(mask, nullptr, {file, line});
}

// One thread runs at a time, and what it wrote is seen by the next: there is nothing to order.
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}
