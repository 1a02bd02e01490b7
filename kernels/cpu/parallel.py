"""Threads: run a function for every task on all cores, from within a kernel.

    parallel_for(body, tasks, (x, y))        # body(task, x, y) for task = 0 ... tasks - 1

The tasks are handed to the thread pool that comes with Numba (OpenMP, TBB or its own "workqueue"). Kernels cut their
work into tasks without looking at the number of threads, so results are the same bits for any number. Tasks run one
after another on the calling thread where the setting says one thread, where another Python thread is in a parallel
region already (so the cores are not oversubscribed, and a pool that cannot be shared is not), and in a forked child,
whose copy of the pool has no threads.
"""

from __future__ import annotations

import os
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.ufunc import parallel as numba_pool

_TEAM = np.ones(2, np.int64)
"""The number of threads to use, and whether (0) or not (1) the pool is free: compiled code reads and writes both."""
_THREADS, _FREE = 0, 1

INT1, INT8, INT64 = ir.IntType(1), ir.IntType(8), ir.IntType(64)
POINTER = INT8.as_pointer()


def set_num_threads(count: int) -> None:
    """Use that many threads from the next kernel on.

    Raises ValueError unless 1 <= count <= the number of cores this process may use.
    """
    most = max_threads()
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or not 1 <= count <= most:
        raise ValueError(f"the number of threads must be an integer from 1 to {most}. Received: {count!r}")
    _TEAM[_THREADS] = count


def get_num_threads() -> int:
    """The number of threads that kernels use."""
    return int(_TEAM[_THREADS])


def max_threads() -> int:
    """How many threads the pool has: Numba's NUMBA_NUM_THREADS, which is the number of cores unless set."""
    return int(numba_pool.get_thread_count())


def threading_layer() -> str:
    """Which pool runs the tasks: "omp", "tbb" or "workqueue"."""
    from numba import threading_layer as layer

    return str(layer())


def _start() -> None:
    """Start the pool, tell LLVM where the team's state lies, and read the environment's setting."""
    numba_pool._launch_threads()
    llvm.add_symbol("minicnn_team", _TEAM.ctypes.data)
    named = os.environ.get("MINICNN_NUM_THREADS", "")
    if not named:
        _TEAM[_THREADS] = max_threads()
        return
    try:
        set_num_threads(int(named) if named.isdecimal() else named)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"the environment variable MINICNN_NUM_THREADS: {error}") from None


def _in_forked_child() -> None:
    """The pool's threads stay with the parent: compute on the one thread there is."""
    _TEAM[:] = 1


_start()
os.register_at_fork(after_in_child=_in_forked_child)


# --------------------------------------------------------------------------------------------------- parallel_for


@intrinsic
def parallel_for(typing_context: Any, body: Any, tasks: Any, arguments: Any) -> Any:
    """Call body(task, *arguments) for every task in range(tasks), in any order and on any thread.

    body: a function made with `jit.helper`; it must return nothing and not raise. arguments: a tuple.
    """
    body_arguments = (types.int64, *arguments.types)

    def code(context: Any, b: ir.IRBuilder, signature: Any, values: Any) -> ir.Value:
        dispatcher = body.dispatcher
        dispatcher.compile(body_arguments)
        compiled = dispatcher.overloads[body_arguments]
        context.active_code_library.add_linking_library(compiled.library)
        _, count, packed = values
        parts = [b.extract_value(packed, i) for i in range(len(arguments.types))]
        record_type = ir.LiteralStructType([part.type for part in parts])
        record = cgutils.alloca_once(b, record_type)
        for i, part in enumerate(parts):
            b.store(part, cgutils.gep_inbounds(b, record, 0, i))
        share = _share_function(context, b.module, compiled.fndesc, record_type, body_arguments)
        _run_shares(b, share, count, b.bitcast(record, POINTER))
        return context.get_dummy_value()

    return types.void(body, types.int64, arguments), code


def _share_function(
    context: Any, module: ir.Module, body: Any, record_type: ir.Type, body_arguments: tuple[Any, ...]
) -> ir.Function:
    """One thread's share of the tasks, as the pool calls it: void(char **args, size_t *dims, size_t *steps, void *).

    args[0] points to the arguments. args[1] is no pointer: with a base of 0 and a step of 1 byte a task, which the pool
    adds up for us, it is the number of the first task. dims[0] is how many tasks to run.
    """
    size_pointer = INT64.as_pointer()
    function_type = ir.FunctionType(ir.VoidType(), [POINTER.as_pointer(), size_pointer, size_pointer, POINTER])
    share = ir.Function(module, function_type, name=module.get_unique_name(f"share.{body.mangled_name}"))
    share.linkage = "internal"
    b = ir.IRBuilder(share.append_basic_block("entry"))
    args, dims, _, _ = share.args
    record = b.bitcast(b.load(args), record_type.as_pointer())
    first = b.ptrtoint(b.load(b.gep(args, [INT64(1)])), INT64)
    count = b.load(dims)
    parts = [b.load(cgutils.gep_inbounds(b, record, 0, i)) for i in range(len(record_type.elements))]
    callee = context.declare_function(module, body)
    with cgutils.for_range(b, count) as loop:
        task = b.add(first, loop.index)
        context.call_conv.call_function(b, callee, types.none, body_arguments, [task, *parts])
    b.ret_void()
    return share


def _run_shares(b: ir.IRBuilder, share: ir.Function, count: ir.Value, record: ir.Value) -> None:
    """All shares in parallel if the team is free and worth it; else all tasks here and now."""
    module = b.module
    args, dims, steps = (cgutils.alloca_once(b, t, size=INT64(2)) for t in (POINTER, INT64, INT64))
    b.store(record, args)
    b.store(ir.Constant(POINTER, None), b.gep(args, [INT64(1)]))
    b.store(count, dims)
    b.store(INT64(0), steps)
    b.store(INT64(1), b.gep(steps, [INT64(1)]))

    team = module.globals.get("minicnn_team") or ir.GlobalVariable(module, ir.ArrayType(INT64, 2), "minicnn_team")
    free = b.gep(team, [INT64(0), INT64(_FREE)])
    threads = b.load(b.gep(team, [INT64(0), INT64(_THREADS)]))
    several = b.and_(b.icmp_signed(">", threads, INT64(1)), b.icmp_signed(">", count, INT64(1)))
    claimed = cgutils.alloca_once_value(b, INT64(0))
    with b.if_then(several):
        b.store(b.atomic_rmw("xchg", free, INT64(0), "acquire"), claimed)
    with b.if_else(b.icmp_signed("!=", b.load(claimed), INT64(0))) as (alone, busy):
        with alone:
            pool_type = ir.FunctionType(ir.VoidType(), [POINTER] * 5 + [INT64] * 3)
            pool = cgutils.get_or_insert_function(module, pool_type, "numba_parallel_for")
            pointers = [b.bitcast(value, POINTER) for value in (share, args, dims, steps)]
            b.call(pool, [*pointers, ir.Constant(POINTER, None), INT64(1), INT64(2), threads])
            b.store_atomic(INT64(1), free, "release", 8)
        with busy:
            b.call(share, [args, dims, steps, ir.Constant(POINTER, None)])
