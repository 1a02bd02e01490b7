"""Pooling on the device: packs of channels and single ones, several blocks, ties and NaN, `where` from anywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn.kernels import reference
from minicnn.kernels.contract import Array, Pair
from minicnn.kernels.gpu.pool import (
    _inverse,
    adaptive_max_pool2d,
    avg_pool2d,
    avg_pool2d_backward,
    gather2d,
    max_pool2d,
    scatter2d,
)
from minicnn.kernels.gpu.runtime import cp
from tests.gpu.comparing import assert_near, in_float64, to_device, to_host
from tests.gpu.emulator import thread_order

ALEXNET: dict[str, Any] = {"window": (3, 3), "strides": (2, 2), "padding": ((1, 0), (0, 1))}
CHANNELS = [1, 3, 4, 7, 8, 12, 33]
"""Multiples of a pack of float32, of float64, of neither."""


def normal(rng: np.random.Generator, *shape: int, dtype: str = "float32") -> Array:
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("c", CHANNELS)
def test_every_number_of_channels(c: int, dtype: str, rng: np.random.Generator) -> None:
    x = normal(rng, 2, 9, 8, c, dtype=dtype)
    y, where = to_host(max_pool2d(to_device(x), **ALEXNET))
    expected, expected_where = reference.max_pool2d(x, **ALEXNET)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(where, expected_where)
    gy = normal(rng, *y.shape, dtype=dtype)
    limit = 1e-6 if dtype == "float32" else 1e-14
    gx = to_host(scatter2d(*to_device((gy, where)), (9, 8)))
    assert_near(gx, reference.scatter2d(in_float64(gy), where, (9, 8)), limit)
    np.testing.assert_array_equal(to_host(gather2d(*to_device((x, where)))), expected)
    average = to_host(avg_pool2d(to_device(x), **ALEXNET))
    assert_near(average, reference.avg_pool2d(in_float64(x), **ALEXNET), limit)
    gx = to_host(avg_pool2d_backward(to_device(gy), (9, 8), **ALEXNET))
    assert_near(gx, reference.avg_pool2d_backward(in_float64(gy), (9, 8), **ALEXNET), limit)
    adaptive = to_host(adaptive_max_pool2d(to_device(x), (4, 3)))
    for received, exact in zip(adaptive, reference.adaptive_max_pool2d(x, (4, 3)), strict=True):
        np.testing.assert_array_equal(received, exact)


@pytest.mark.parametrize(("size", "c"), [((33, 47), 8), ((64, 31), 3)])
def test_more_pixels_than_a_block_has_threads(size: Pair, c: int, rng: np.random.Generator) -> None:
    x = normal(rng, 3, *size, c)
    y, where = max_pool2d(to_device(x), **ALEXNET)
    gy = normal(rng, *y.shape)
    expected, expected_where = reference.max_pool2d(x, **ALEXNET)
    np.testing.assert_array_equal(to_host(y), expected)
    exact = reference.scatter2d(in_float64(gy), expected_where, size)
    assert_near(to_host(scatter2d(to_device(gy), where, size)), exact, 1e-6)


def test_an_array_that_does_not_begin_at_a_pack(rng: np.random.Generator) -> None:
    x = normal(rng, 2 * 6 * 4 * 4 + 1)
    shape, options = (2, 6, 4, 4), {"window": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}
    shifted = to_device(x)[1:].reshape(shape)
    expected = reference.max_pool2d(x[1:].reshape(shape), **options)
    for received, exact in zip(to_host(max_pool2d(shifted, **options)), expected, strict=True):
        np.testing.assert_array_equal(received, exact)


@pytest.mark.parametrize("window", [(2, 2), (3, 3), (4, 3)])
def test_the_first_of_equals_and_the_first_nan_win(window: Pair) -> None:
    x = np.zeros((1, 3, 4, 4), np.float32)
    x[0, 1, 2, 1], x[0, 2, 1, 1], x[0, 0, 1, 2], x[0, 0, 0, 3] = np.nan, np.nan, np.inf, -np.inf
    x[0, :, :, 0] = -np.inf
    options: dict[str, Any] = {"window": window, "strides": (1, 1), "padding": ((1, 1), (1, 1))}
    for received, exact in zip(
        to_host(max_pool2d(to_device(x), **options)), reference.max_pool2d(x, **options), strict=True
    ):
        np.testing.assert_array_equal(received, exact)


@pytest.mark.parametrize("c", [3, 4])
@pytest.mark.parametrize("kind", ["anywhere", "one_pixel", "backwards"])
def test_scatter_adds_in_order_wherever_the_outputs_come_from(kind: str, c: int, rng: np.random.Generator) -> None:
    n, h, w, oh, ow = 3, 5, 9, 6, 7
    where = rng.integers(0, h * w, (n, oh, ow, c)).astype(np.int32)
    if kind == "one_pixel":
        where[...] = 23
    if kind == "backwards":
        where[...] = np.linspace(h * w - 1, 0, oh * ow).astype(np.int32).reshape(oh, ow, 1)
    gy = normal(rng, n, oh, ow, c)
    received = to_host(scatter2d(*to_device((gy, where)), (h, w)))
    np.testing.assert_array_equal(received, reference.scatter2d(gy, where, (h, w)))  # the same order, so the same bits


def test_scatter_of_many_images_in_several_tasks(rng: np.random.Generator) -> None:
    n, c = 19, 256  # a task reads 8 images
    where = rng.integers(0, 6, (n, 1, 2, c)).astype(np.int32)
    gy = normal(rng, n, 1, 2, c)
    received = to_host(scatter2d(*to_device((gy, where)), (2, 3)))
    np.testing.assert_array_equal(received, reference.scatter2d(gy, where, (2, 3)))


def test_scatter_of_nothing_is_zeros() -> None:
    gx = scatter2d(cp.zeros((2, 0, 3, 4), cp.float32), cp.zeros((2, 0, 3, 4), cp.int32), (2, 5))
    np.testing.assert_array_equal(to_host(gx), np.zeros((2, 2, 5, 4)))


def test_division_by_multiplication_is_exact() -> None:
    for divisor in [*range(1, 300), 4095, 4096, 4097, 2**30 + 1, 2**31 - 1]:
        inverse, shift = _inverse(divisor)
        edges = {k * divisor + d for k in (1, 2, 3, 1000, (2**31 - 1) // divisor) for d in (-1, 0, 1)}
        for i in {0, 1, 2**31 - 1} | {edge for edge in edges if 0 <= edge < 2**31}:
            assert i * inverse < 2**64
            assert i * inverse >> shift == i // divisor


def test_average_of_a_large_window_keeps_its_digits(rng: np.random.Generator) -> None:
    x = (rng.standard_normal((1, 64, 60, 4)) + 3).astype(np.float32)
    options: dict[str, Any] = {"window": (64, 60), "strides": (1, 1), "padding": ((0, 0), (0, 0))}
    received = to_host(avg_pool2d(to_device(x), **options))
    np.testing.assert_allclose(received, reference.avg_pool2d(in_float64(x), **options), rtol=1e-6)


def test_the_same_bits_in_every_order_of_threads(rng: np.random.Generator) -> None:
    x, gy = to_device((normal(rng, 5, 17, 15, 4), normal(rng, 5, 8, 7, 4)))
    received = []
    for order in ("forward", "reverse", "random"):
        with thread_order(order):
            y, where = max_pool2d(x, (3, 3), (2, 2), ((0, 0), (0, 0)))
            outputs = y, where, scatter2d(gy, where, (17, 15))
            received.append([array.tobytes() for array in to_host(outputs)])
    assert received[0] == received[1] == received[2]
