"""Gradients of biases on the device: rows of all lengths, one slice and many."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from minicnn.kernels import gpu, reference
from minicnn.kernels.contract import ActivationName
from tests.gpu.comparing import assert_near, in_float64, to_device, to_host
from tests.gpu.emulator import thread_order

LIMITS = {"float32": 1e-6, "float64": 1e-13}
FEATURES = [1, 2, 3, 4, 10, 17, 64, 130, 255, 256, 260, 1028]
"""Less than a warp, odd, whole packs, more than the threads that stand over a row."""


@pytest.mark.parametrize("dtype", list(LIMITS))
@pytest.mark.parametrize("rows", [1, 33, 700])
@pytest.mark.parametrize("features", FEATURES)
def test_rows_of_all_lengths(features: int, rows: int, dtype: str, rng: np.random.Generator) -> None:
    gy, y = (rng.standard_normal((rows, features)).astype(dtype) for _ in range(2))
    assert_near(to_host(gpu.bias_grad(to_device(gy))), reference.bias_grad(in_float64(gy)), LIMITS[dtype])
    gz, gb = to_host(gpu.activation_bias_backward(*to_device((gy, y)), "relu"))
    np.testing.assert_array_equal(gz, np.where(y > 0, gy, 0))
    assert_near(gb, reference.bias_grad(in_float64(gz)), LIMITS[dtype])


@pytest.mark.parametrize("name", get_args(ActivationName))
def test_every_activation_over_many_slices(name: Any, rng: np.random.Generator) -> None:
    gy, y = (rng.standard_normal((3, 50, 40, 5)).astype(np.float32) for _ in range(2))
    received = to_host(gpu.activation_bias_backward(*to_device((gy, y)), name, 0.3))
    for array, expected in zip(
        received, reference.activation_bias_backward(*in_float64((gy, y)), name, 0.3), strict=True
    ):
        assert_near(array, expected, 1e-6)


def test_long_sums_keep_their_digits(rng: np.random.Generator) -> None:
    gy = np.abs(rng.standard_normal((100_003, 1))).astype(np.float32)
    received = to_host(gpu.bias_grad(to_device(gy)))
    np.testing.assert_allclose(received, gy.sum(axis=0, dtype=np.float64), rtol=2e-7)


def test_sums_over_nothing_are_zero() -> None:
    gy = to_device(np.empty((0, 4, 7), np.float32))
    gz, gb = to_host(gpu.activation_bias_backward(gy, gy, "relu"))
    assert gz.shape == (0, 4, 7)
    np.testing.assert_array_equal(gb, np.zeros(7))


def test_arrays_that_are_not_aligned_to_packs(rng: np.random.Generator) -> None:
    whole = to_device(rng.standard_normal(1 + 30 * 8).astype(np.float32))
    gy = whole[1:].reshape(30, 8)
    assert_near(to_host(gpu.bias_grad(gy)), reference.bias_grad(in_float64(to_host(gy))), 1e-6)


@pytest.mark.parametrize("features", [3, 12])
def test_the_same_bits_in_every_order_of_threads(features: int, rng: np.random.Generator) -> None:
    gy = to_device(rng.standard_normal((5000, features)).astype(np.float32))
    received = []
    for order in ("forward", "reverse", "random"):
        with thread_order(order):
            received.append(to_host(gpu.bias_grad(gy)).tobytes())
    assert received[0] == received[1] == received[2]
