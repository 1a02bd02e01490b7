// Fibers: stacks of their own, and the switch from one to another.
//
// On x86-64 the switch is eight instructions; elsewhere, or with -DEMULATOR_UCONTEXT, it is POSIX swapcontext, which
// is ten times slower because it saves the signal mask by a system call.
#pragma once

#include "machine.h"

#include <sys/mman.h>
#include <unistd.h>

#if !defined(EMULATOR_UCONTEXT) && !defined(__x86_64__)
#  define EMULATOR_UCONTEXT
#endif
#ifdef EMULATOR_UCONTEXT
#  include <ucontext.h>
#endif

namespace emulator {

static void fiber_main();  // scheduler.h

constexpr size_t STACK_BYTES = 256 * 1024;  // address space; only the pages that are touched cost memory
constexpr size_t FIBERS_KEPT = 256;  // between launches, by each library: a process may not have 65,536 mappings

// A stack whose lowest page may not be touched: an overflow is a segmentation fault, not a silent overwrite.
static inline char* new_stack() {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* memory = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) {
        std::perror("emulator: no memory for a fiber's stack");
        std::abort();
    }
    mprotect(memory, sysconf(_SC_PAGESIZE), PROT_NONE);
    return static_cast<char*>(memory);
}

#ifdef EMULATOR_UCONTEXT

struct Context {
    ucontext_t registers;
};

static inline void switch_context(Context& from, Context& to) { swapcontext(&from.registers, &to.registers); }

static inline void prepare(Context& context, char* stack) {
    getcontext(&context.registers);
    context.registers.uc_stack.ss_sp = stack;
    context.registers.uc_stack.ss_size = STACK_BYTES;
    context.registers.uc_link = nullptr;  // fiber_main never returns
    makecontext(&context.registers, fiber_main, 0);
}

#else

struct Context {
    void* stack_pointer;
};

// Push the registers that a function must preserve, exchange stack pointers, pop the other side's registers. `ret` then
// continues where the other side called; everything else was saved by the compiler, as around any call.
extern "C" void emulator_switch(void** save, void* load) __attribute__((visibility("hidden")));
asm(R"(
    .text
    .hidden emulator_switch
    .globl emulator_switch
    .type emulator_switch, @function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulator_switch, . - emulator_switch
)");

static inline void switch_context(Context& from, Context& to) {
    emulator_switch(&from.stack_pointer, to.stack_pointer);
}

static inline void prepare(Context& context, char* stack) {
    void** top = reinterpret_cast<void**>(stack + STACK_BYTES);
    *--top = nullptr;  // a function expects the stack 8 bytes off a multiple of 16, as a call leaves it
    *--top = reinterpret_cast<void*>(&fiber_main);  // where `ret` goes the first time
    for (int saved_register = 0; saved_register < 6; ++saved_register) *--top = nullptr;
    context.stack_pointer = top;
}

#endif

struct Fiber {
    Context* context;  // on the heap: ucontext_t holds pointers into itself, so it may not move
    char* stack;
};

struct Fibers {
    std::vector<Fiber> all;
    std::vector<int> idle;
    int current = -1;
    Context scheduler{};

    int take() {
        if (!idle.empty()) {
            const int fiber = idle.back();
            idle.pop_back();
            return fiber;
        }
        all.push_back({new Context{}, new_stack()});
        prepare(*all.back().context, all.back().stack);
        return static_cast<int>(all.size()) - 1;
    }

    void run(int fiber) {
        current = fiber;
        ++machine.statistics.switches;
        switch_context(scheduler, *all[fiber].context);
    }

    // After a failure most fibers stand in the middle of a kernel; none of them can be used again.
    void forget_all() {
        for (Fiber& fiber : all) {
            munmap(fiber.stack, STACK_BYTES);
            delete fiber.context;
        }
        all.clear();
        idle.clear();
    }
};

static Fibers fibers;

// Let others run; returns when the scheduler resumes this thread.
static inline void give_way() {
    const int me = fibers.current;
    ++machine.statistics.switches;
    switch_context(*fibers.all[me].context, fibers.scheduler);
}

[[noreturn]] static void leave_for_good() {
    give_way();
    __builtin_unreachable();
}

}  // namespace emulator
