"""matmul and dense on the device, at sizes that go different ways through gemm.py, by the plans they really get."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn.kernels import gpu, reference, settings
from minicnn.kernels.gpu.gemm_plan import Plan, plan, products_of
from tests.gpu.comparing import assert_near, in_float64, to_device, to_host
from tests.gpu.emulator import thread_order

SIZES = {
    "one_row": (1, 300, 517),
    "few_rows": (8, 257, 300),
    "a_row_more": (9, 257, 300),
    "few_columns": (3001, 3, 65),
    "classes": (128, 10, 128),
    "square": (130, 129, 131),
    "long_sum": (5, 6, 9_001),
    "outer": (290, 270, 5),
}


def plan_of(m: int, n: int, k: int) -> Plan:
    return plan(products_of((m, k), (k, n), False, False)[1][0], 4)


def test_the_sizes_go_different_ways() -> None:
    plans = {label: plan_of(*size) for label, size in SIZES.items()}
    assert {chosen.tile.rows for chosen in plans.values()} == {8, 64, 256}
    assert plans["one_row"].slices > 1
    assert plans["long_sum"].slices > 1
    assert plans["classes"].slices == plans["outer"].slices == 1


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_dense(size: tuple[int, int, int], activation: Any, rng: np.random.Generator) -> None:
    m, n, k = size
    x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n), (n,)))
    received = to_host(gpu.dense(*to_device((x, w, b)), activation))
    assert_near(received, reference.dense(*in_float64((x, w, b)), activation), 1e-5)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_gradients_of_dense_are_products_with_a_transposed_operand(
    size: tuple[int, int, int], rng: np.random.Generator
) -> None:
    m, n, k = size
    x, w, gy = (rng.standard_normal(shape) for shape in ((m, k), (k, n), (m, n)))
    assert_near(to_host(gpu.matmul(*to_device((gy, w)), transpose_b=True)), gy @ w.T, 1e-12)
    assert_near(to_host(gpu.matmul(*to_device((x, gy)), transpose_a=True)), x.T @ gy, 1e-12)


def test_a_batch_of_matrices_is_one_launch_over_all(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((3, 4, 17, 33)), rng.standard_normal((4, 33, 18))
    assert_near(to_host(gpu.matmul(*to_device((a, b)))), a @ b, 1e-12)
    assert len(products_of(a.shape, b.shape, False, False)[1]) == 1


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_the_same_bits_in_every_order_of_threads(size: tuple[int, int, int], rng: np.random.Generator) -> None:
    m, n, k = size
    a, b = to_device(tuple(rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n))))
    received = []
    for order in ("forward", "reverse", "random"):
        with thread_order(order):
            received.append(to_host(gpu.matmul(a, b)).tobytes())
    assert received[0] == received[1] == received[2]


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_float64_is_exact_at_every_precision(
    precision: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "precision", precision)
    a, b = rng.standard_normal((33, 65)), rng.standard_normal((65, 17))
    assert_near(to_host(gpu.matmul(*to_device((a, b)))), a @ b, 1e-12)
