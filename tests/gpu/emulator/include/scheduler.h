// Runs one block: starts its threads, resumes those that may go on, and notices when none can.
#pragma once

#include "async_copy.h"
#include "barriers.h"

namespace emulator {

// What every fiber does: start the next thread of the block. A thread that never waits costs one call, not a switch.
static void fiber_main() {
    for (;;) {
        while (machine.started < machine.order.size()) {
            Thread& thread = machine.threads[machine.order[machine.started++]];
            thread.fiber = fibers.current;
            thread.state = State::READY;
            machine.current = &thread;
            machine.body(machine.body_arguments);
            finish(thread);
        }
        fibers.idle.push_back(fibers.current);
        give_way();
    }
}

static inline void prepare_block() {
    const unsigned count = static_cast<unsigned>(machine.threads.size());
    uint3 index{0, 0, 0};
    for (unsigned number = 0; number < count; ++number) {
        Thread& thread = machine.threads[number];
        thread.index = index;
        thread.number = number;
        thread.state = State::FRESH;
        if (++index.x == machine.block_size.x) {
            index.x = 0;
            if (++index.y == machine.block_size.y) index.y = 0, ++index.z;
        }
    }
    for (unsigned warp = 0; warp < machine.warps.size(); ++warp) {
        const unsigned lanes = count - warp * WARP;
        machine.warps[warp].alive = lanes >= WARP ? 0xffffffffu : (1u << lanes) - 1;
        machine.warps[warp].arrived = 0;
    }
    machine.alive = count;
    machine.started = machine.at_barrier = 0;
    machine.votes = 0;
    forget_copies();
    ++machine.statistics.blocks;
    machine.statistics.threads += count;
}

// Resume every thread that may go on; false where there is none.
static inline bool resume_ready_threads() {
    bool moved = false;
    for (const unsigned number : machine.order) {
        Thread& thread = machine.threads[number];
        if (thread.state != State::READY) continue;
        machine.current = &thread;
        fibers.run(thread.fiber);
        moved = true;
        if (machine.failed) return true;
    }
    return moved;
}

static inline void report_deadlock() {
    for (Thread& thread : machine.threads) {
        if (thread.state != State::AT_BLOCK_BARRIER && thread.state != State::AT_WARP_BARRIER) continue;
        machine.current = &thread;
        const char* what = thread.state == State::AT_BLOCK_BARRIER ? "__syncthreads" : "the warp operation";
        record_error("deadlock: %s at %s:%d is not reached by every thread that it waits for", what, thread.place.file,
                     thread.place.line);
        return;
    }
}

static inline void run_block() {
    prepare_block();
    while (machine.alive && !machine.failed) {
        if (machine.started < machine.order.size())
            fibers.run(fibers.take());
        else if (!resume_ready_threads())
            report_deadlock();
    }
}

}  // namespace emulator
