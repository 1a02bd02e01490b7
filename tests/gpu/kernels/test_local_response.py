"""Local response normalization on the device: windows at the edges of blocks and of pieces, and wider than them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn.kernels import reference
from minicnn.kernels.gpu.local_response import local_response_norm, local_response_norm_backward
from tests.gpu.comparing import assert_near, in_float64, to_device, to_host
from tests.gpu.emulator import thread_order

LIMITS = {"float32": 2e-6, "float64": 1e-13}
SHAPES_AND_SIZES = [((97, 8), 5), ((256, 3), 5), ((3, 255), 4), ((3, 257), 5), ((2, 600), 1199), ((300, 1), 3)]
"""Rows that end within a block, blocks that end within a row; a window that two pieces of shared memory do not hold."""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("beta", [0.75, 0.6])
@pytest.mark.parametrize(("shape", "size"), SHAPES_AND_SIZES, ids=str)
def test_every_window(shape: tuple[int, ...], size: int, beta: float, dtype: str, rng: np.random.Generator) -> None:
    x, gy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    options: dict[str, Any] = {"size": size, "alpha": 0.1, "beta": beta, "k": 1.5}
    y = to_host(local_response_norm(to_device(x), **options))
    assert_near(y, reference.local_response_norm(in_float64(x), **options), LIMITS[dtype])
    gx = to_host(local_response_norm_backward(*to_device((gy, x)), **options))
    assert_near(gx, reference.local_response_norm_backward(*in_float64((gy, x)), **options), LIMITS[dtype])


def test_a_nan_spoils_the_channels_around_it(rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 9)).astype(np.float32)
    x[2, 4] = np.nan
    options: dict[str, Any] = {"size": 4, "alpha": 0.1, "beta": 0.75, "k": 1.0}
    y = to_host(local_response_norm(to_device(x), **options))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(reference.local_response_norm(x, **options)))
    gx = to_host(local_response_norm_backward(*to_device((np.ones_like(x), x)), **options))
    exact = reference.local_response_norm_backward(np.ones_like(x), x, **options)
    np.testing.assert_array_equal(np.isnan(gx), np.isnan(exact))


def test_the_same_bits_in_every_order_of_threads(rng: np.random.Generator) -> None:
    gy, x = to_device(tuple(rng.standard_normal((90, 7)).astype(np.float32) for _ in range(2)))
    received = []
    for order in ("forward", "reverse", "random"):
        with thread_order(order):
            received.append(to_host(local_response_norm_backward(gy, x, 5, 0.1, 0.75, 1.0)).tobytes())
    assert received[0] == received[1] == received[2]
