"""What a worker says to the runner: one line of JSON for each it is sent, on the pipe that was its standard output.

A worker is a `Worker` subclass with a `build` method; `serve` does the talking. Commands and replies:

    hello                      -> name, versions, backend, threads
    choose {case}              -> choice: the framework's faster form for the case, to be sent along with it; or null
    prepare {case}             -> first_call_s, outputs (a digest of each array), peak_bytes; or {"unsupported": reason}
    first_batch {case}         -> seconds: build a network and train one batch, nothing else
    run {iterations}           -> seconds, and faults and allocations an iteration
    limits {repeats}           -> gemm_flops, copy_bytes a second
    release, quit
"""

from __future__ import annotations

import abc
import gc
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TextIO

import numpy as np

from benchmarks.workers import data, memory

Case = dict[str, Any]
Arrays = dict[str, Any]

SAMPLED = 4096
"""Elements of an array that are compared."""


class Unsupported(Exception):
    """This framework cannot run the case; the reason is shown."""


@dataclass
class Work:
    """A case made ready. `call` runs it once; `outputs` tells, after one call, the arrays to compare."""

    call: Callable[[], Any]
    outputs: Callable[[], Arrays] = field(default=dict)


class Worker(abc.ABC):
    """One framework."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Versions and settings."""

    @abc.abstractmethod
    def kernel(self, case: Case) -> Work:
        """A single operation, on `data.kernel_inputs(case)`."""

    @abc.abstractmethod
    def train(self, case: Case) -> Callable[[], float]:
        """A function that makes one training step and returns the loss before it."""

    @abc.abstractmethod
    def predict(self, case: Case) -> Callable[[], Any]:
        """A function that returns the network's outputs for one batch, as an array."""

    def gradients(self, case: Case) -> Callable[[], Any]:
        """A function that runs a network forward and backward, without an optimizer."""
        raise Unsupported("not measured")

    def limits(self, repeats: int) -> dict[str, float]:
        """Rates that this framework reaches on large arrays, the best of several tries."""
        return {}

    def allocated_blocks(self) -> int | None:
        """Blocks that the framework's own buffer pool has obtained so far; None where nobody counts."""
        return None

    def choose(self, case: Case) -> str | None:
        """Try the forms that this framework has for a case, and name the fastest."""
        return None

    def build(self, case: Case) -> Work:
        if case["op"] == "train":
            step = self.train(case)
            losses: list[float] = []

            def recorded() -> None:
                losses.append(float(step()))

            recorded()
            recorded()
            return Work(step, lambda: {"losses": np.array(losses)})
        if case["op"] == "predict":
            predict = self.predict(case)
            return Work(predict, lambda: {"outputs": np.asarray(predict())})
        if case["op"] == "gradients":
            return Work(self.gradients(case))
        return self.kernel(case)


# --------------------------------------------------------------------------------------------------- commands


class Session:
    """The state between commands: the case made ready."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.work: Work | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        command: Callable[..., dict[str, Any]] = getattr(self, f"do_{request.pop('command')}")
        return command(**request)

    def do_hello(self) -> dict[str, Any]:
        return {**self.worker.describe(), "numpy": np.__version__, "python": sys.version.split()[0]}

    def do_choose(self, case: Case) -> dict[str, Any]:
        self.do_release()
        return {"choice": self.worker.choose(case)}

    def do_prepare(self, case: Case) -> dict[str, Any]:
        self.do_release()
        origin = memory.start_peak()
        start = time.perf_counter()
        self.work = self.worker.build(case)
        if case["op"] != "train":  # which has made two steps already
            self.work.call()
        first = time.perf_counter() - start
        outputs = {name: digest(np.asarray(array)) for name, array in self.work.outputs().items()}
        if case["op"] == "train":
            self.work.call()
        return {"first_call_s": first, "peak_bytes": memory.peak_since(origin), "outputs": outputs}

    def do_first_batch(self, case: Case) -> dict[str, Any]:
        start = time.perf_counter()
        self.worker.train(case)()
        return {"seconds": time.perf_counter() - start}

    def do_run(self, iterations: int) -> dict[str, Any]:
        assert self.work is not None, "run comes after prepare"
        call = self.work.call
        if iterations > 1:  # the caches and threads went to sleep while others worked
            call()
        blocks, before = self.worker.allocated_blocks(), resource.getrusage(resource.RUSAGE_SELF)
        start = time.perf_counter()
        for _ in range(iterations):
            call()
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF)
        blocks_after = self.worker.allocated_blocks()
        counted = blocks is not None and blocks_after is not None
        return {
            "seconds": seconds / iterations,
            "minor_faults": (after.ru_minflt - before.ru_minflt) / iterations,
            "system_s": (after.ru_stime - before.ru_stime) / iterations,
            "allocations": (blocks_after - blocks) / iterations if counted else None,  # type: ignore[operator]
        }

    def do_limits(self, repeats: int) -> dict[str, Any]:
        return self.worker.limits(repeats)

    def do_release(self) -> dict[str, Any]:
        self.work = None
        gc.collect()
        return {}


def digest(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Shape, largest magnitude, and the same few thousand elements of it in every worker."""
    flat = np.ascontiguousarray(array, np.float64).reshape(-1)
    where = slice(None) if flat.size <= SAMPLED else np.random.default_rng(flat.size).integers(0, flat.size, SAMPLED)
    return {
        "shape": list(array.shape),
        "scale": float(np.abs(flat).max(initial=0.0)),
        "finite": bool(np.isfinite(flat).all()),
        "values": flat[where].tolist(),
    }


def measure_limits(
    repeats: int, matmul: Callable[[Any, Any], Any], copy: Callable[[Any, Any], Any], as_array: Callable[[Any], Any]
) -> dict[str, float]:
    """GEMM FLOP/s and copied bytes (read + written) a second: the best of several."""
    size, length = 2048, 32 * 2**20
    a, b = (as_array(data.normal(np.random.default_rng(i), (size, size))) for i in (1, 2))
    source, target = as_array(np.ones(length, np.float32)), as_array(np.zeros(length, np.float32))
    return {
        "gemm_flops": 2 * size**3 / least_seconds(repeats, lambda: matmul(a, b)),
        "copy_bytes": 8 * length / least_seconds(repeats, lambda: copy(target, source)),
    }


def warm_seconds(call: Callable[[], Any]) -> float:
    """The least of three calls, after one more: to choose between forms."""
    call()
    return least_seconds(3, call)


def least_seconds(repeats: int, call: Callable[[], Any]) -> float:
    """Seconds of the fastest call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


# --------------------------------------------------------------------------------------------------- the talk


def serve(make: Callable[[int], Worker]) -> None:
    """Answer requests until there are no more. Whatever a framework prints goes to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    session = Session(make(int(os.environ.get("OMP_NUM_THREADS", "1"))))
    for line in sys.stdin:
        request = json.loads(line)
        if request["command"] == "quit":
            return
        _reply(replies, session, request)


def _reply(replies: TextIO, session: Session, request: dict[str, Any]) -> None:
    try:
        reply = session.answer(request)
    except Unsupported as reason:
        reply = {"unsupported": str(reason)}
    except Exception as error:  # the runner must hear of it and go on with the others
        traceback.print_exc()
        reply = {"error": f"{type(error).__name__}: {error}"}
    replies.write(json.dumps(reply) + "\n")
    replies.flush()
