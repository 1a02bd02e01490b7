"""One small check of each family of kernels, in three orders of threads.

    python -m tests.gpu.mutants.checks CHECK [MUTANT]

Exits with FOUND where the check fails, 0 where it passes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

os.environ["MINICNN_CUPY"] = "tests.gpu.standin"

from minicnn.kernels import gpu, reference, settings
from minicnn.kernels.gpu import loader
from minicnn.kernels.gpu.slices import sum_slices
from tests.gpu.comparing import assert_near, in_float64, to_device, to_host
from tests.gpu.emulator import CompileError, EmulatorError, thread_order
from tests.gpu.mutants.table import MUTANTS, Mutant
from tests.gpu.standin import StandinError, check_canaries, cupy

FOUND = 3
ORDERS = ("forward", "reverse", "random")

Results = Iterator[tuple[Any, Any, float]]
"""What the device says, what is right, how far apart they may be."""

CONV: dict[str, Any] = {"strides": (2, 1), "padding": ((1, 1), (0, 2)), "dilation": (1, 1), "groups": 1}


def normal(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def call(name: str, limit: float = 1e-5, /, **given: Any) -> Results:
    """A function of the contract on the device, and the reference's on float64."""
    received = to_host(getattr(gpu, name)(**to_device(given)))
    exact = getattr(reference, name)(**in_float64(given))
    pairs = zip(received, exact, strict=True) if isinstance(exact, tuple) else [(received, exact)]
    yield from ((array, oracle, limit) for array, oracle in pairs)


def softmax() -> Results:
    for classes in (5, 1500):
        yield from call("softmax", x=normal(7, classes))


def cross_entropy() -> Results:
    logits = normal(5, 6)
    logits[2, 1] = -np.inf
    yield from call("softmax_cross_entropy", logits=logits, targets=np.array([0, 1, 2, 3, 4]))


def slices() -> Results:
    for count, parts in ((70, 19), (5, 3)):
        partial, total = normal(parts, count), cupy.empty(count, np.float32)
        sum_slices(to_device(partial), total)
        yield to_host(total), in_float64(partial).sum(axis=0), 1e-5


def batch_norm() -> Results:
    for c in (3, 8):
        yield from call("batch_norm", x=normal(500, c), gamma=normal(c), beta=normal(c), epsilon=1e-3)


def layer_norm() -> Results:
    given: dict[str, Any] = {"gamma": normal(1, 37), "beta": normal(1, 37)}
    yield from call("group_norm", x=normal(6, 1, 37), groups=1, epsilon=1e-3, **given)


def group_norm() -> Results:
    given: dict[str, Any] = {"gamma": normal(1, 64), "beta": normal(1, 64)}
    yield from call("group_norm", x=normal(2, 30, 64), groups=2, epsilon=1e-3, **given)


def max_pool() -> Results:
    x = normal(2, 7, 6, 4)
    x[0, 2, 2, 1] = x[1, 6, 5, 0] = np.nan
    yield from call("max_pool2d", x=x, window=(3, 2), strides=(2, 2), padding=((1, 1), (0, 0)))


def average() -> Results:
    options: dict[str, Any] = {"window": (3, 2), "strides": (2, 1), "padding": ((1, 1), (0, 0))}
    yield from call("avg_pool2d_backward", gy=normal(2, 4, 5, 3), input_size=(7, 6), **options)


def gather() -> Results:
    where = np.random.default_rng(1).integers(0, 42, (3, 2, 5, 3)).astype(np.int32)
    yield from call("gather2d", x=normal(3, 7, 6, 3), where=where)


def im2col() -> Results:
    yield from call(
        "im2col", x=normal(2, 5, 6, 3), window=(3, 2), strides=(1, 2), padding=((1, 1), (0, 1)), dilation=(1, 1)
    )


def conv() -> Results:
    for c, f in ((8, 20), (3, 5)):
        yield from call("conv2d", x=normal(2, 9, 8, c), w=normal(3, 3, c, f), b=normal(f), **CONV)


def conv_input_grad() -> Results:
    yield from call("conv2d_input_grad", gy=normal(2, 5, 8, 20), w=normal(3, 3, 8, 20), input_size=(9, 8), **CONV)


def conv_weight_grad() -> Results:
    yield from call("conv2d_weight_grad", x=normal(3, 9, 8, 8), gy=normal(3, 5, 8, 20), kernel_size=(3, 3), **CONV)


def depthwise() -> Results:
    options = {**CONV, "groups": 8}
    yield from call("conv2d", x=normal(2, 9, 7, 8), w=normal(3, 3, 1, 8), b=normal(8), **options)
    yield from call("conv2d_weight_grad", x=normal(2, 9, 7, 8), gy=normal(2, 5, 7, 8), kernel_size=(3, 3), **options)


def gemm() -> Results:
    for m, k, n in ((67, 50, 65), (6, 3001, 5), (9, 33, 300)):
        yield from call("matmul", a=normal(m, k), b=normal(k, n))


def activation() -> Results:
    x = normal(300)
    x[7] = np.nan
    yield from call("activation", x=x, name="relu")


def local_response() -> Results:
    given: dict[str, Any] = {"gy": normal(60, 10), "x": normal(60, 10)}
    yield from call("local_response_norm_backward", size=5, alpha=0.3, beta=0.75, k=2.0, **given)


def philox() -> Results:
    words = to_host(gpu.philox_words(1023, 2**40 + 3, 2**33 + 5))
    yield words, reference.philox_words(1023, 2**40 + 3, 2**33 + 5), 0


def dropout() -> Results:
    for first in (0, 1):
        x = normal(126)
        exact = reference.dropout(x[first:], 0.3, 7, 5)
        received = to_host(gpu.dropout(to_device(x)[first:], 0.3, 7, 5))
        yield from ((array, oracle, 1e-6) for array, oracle in zip(received, exact, strict=True))


def adam() -> Results:
    drawn = {name: [normal(2050), normal(3, 4)] for name in ("params", "grads", "means")}
    given: dict[str, Any] = {
        **drawn,
        "squares": [np.abs(a) + np.float32(1) for a in drawn["grads"]],
        "max_squares": None,
    }
    given |= {"lr": 0.01, "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-7, "step": 3}
    on_device, exact = to_device(given), in_float64(given)
    gpu.adam_step(**on_device)
    reference.adam_step(**exact)
    for name in ("params", "means", "squares"):
        yield from ((to_host(array), oracle, 1e-5) for array, oracle in zip(on_device[name], exact[name], strict=True))


def tensor_cores() -> Results:
    settings.precision = "tf32"
    yield from call("conv2d", 3e-3, x=normal(1, 9, 8, 40), w=normal(3, 3, 40, 20), b=normal(20), **CONV)


def run(check: str) -> None:
    """Raises what shows that something is wrong."""
    bits = []
    for order in ORDERS:
        with thread_order(order):
            results = list(globals()[check]())
        for received, exact, limit in results:
            assert_near(received, exact, limit)
        bits.append([received.tobytes() for received, _, _ in results])
    check_canaries()
    assert bits[0] == bits[1] == bits[2], "the order of threads shows in the results"


def plant(mutant: Mutant) -> None:
    """From here on the mutant's file is read with its bug."""
    unchanged, spoiled = loader.read_source, mutant.applied_to(loader.read_source(mutant.file))
    loader.read_source = lambda file: spoiled if file == mutant.file else unchanged(file)  # type: ignore[assignment]


def main(check: str, name: str = "") -> int:
    if name:
        plant(next(mutant for mutant in MUTANTS if mutant.name == name))
    try:
        run(check)
    except CompileError:
        raise
    except (AssertionError, EmulatorError, StandinError) as error:
        print(f"{type(error).__name__}: {error}")
        return FOUND
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
