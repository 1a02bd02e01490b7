"""Batch normalization on the device: every number of channels, many blocks, far means, thread orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn.kernels import reference
from minicnn.kernels.contract import Array
from minicnn.kernels.gpu.norm import batch_norm, batch_norm_backward, batch_norm_inference
from tests.gpu.comparing import assert_near, in_float64, to_device, to_host
from tests.gpu.emulator import thread_order

LIMITS = {"float32": 2e-6, "float64": 1e-12}
SHAPES = [(5, 1), (700, 1), (37, 3), (530, 4), (9, 255), (6, 256), (5, 257), (3, 260), (2, 2048), (4, 3, 5, 96)]
"""Rows of one number, of several rounds of blocks and one more, of packs and not; slices of one row and of many."""


def drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, mean: float = 0.0) -> dict[str, Array]:
    c = shape[-1]
    arrays = {
        "x": rng.standard_normal(shape) + mean,
        "gamma": rng.uniform(0.5, 2.0, c),
        "beta": rng.standard_normal(c),
    }
    return {name: array.astype(dtype) for name, array in arrays.items()}


def assert_all_near(received: Any, expected: Any, limit: float) -> None:
    for array, exact in zip(to_host(received), expected, strict=True):
        assert_near(array, exact, limit)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape(shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> None:
    given = drawn(rng, shape, dtype)
    options: dict[str, Any] = {"epsilon": 1e-3, "activation": "relu"}
    exact = reference.batch_norm(**in_float64(given), **options)
    received = batch_norm(**to_device(given), **options)
    assert_all_near(received, exact, LIMITS[dtype])

    y, mean, var = to_host(received)
    inferred = batch_norm_inference(**to_device({**given, "mean": mean, "var": var}), **options)
    assert_near(to_host(inferred), exact[0], LIMITS[dtype])

    gy = rng.standard_normal(shape).astype(dtype)
    way_back: dict[str, Any] = {"gy": gy, "x": given["x"], "gamma": given["gamma"], "mean": mean, "var": var}
    for output in (None, y):
        way_back["y"] = output
        exact = reference.batch_norm_backward(**in_float64(way_back), epsilon=1e-3)
        assert_all_near(batch_norm_backward(**to_device(way_back), epsilon=1e-3), exact, LIMITS[dtype])


@pytest.mark.parametrize("c", [3, 8])
def test_statistics_keep_their_digits_far_from_zero(c: int, rng: np.random.Generator) -> None:
    given = drawn(rng, (2000, c), "float32", mean=1e4)
    given["x"][0] = 0  # the first row, from which deviations are counted, is no help
    y, mean, var = to_host(batch_norm(**to_device(given), epsilon=1e-3))
    exact = reference.batch_norm(**in_float64(given), epsilon=1e-3)
    np.testing.assert_allclose(mean, exact[1], rtol=2e-6)
    np.testing.assert_allclose(var, exact[2], rtol=2e-6)
    assert_near(y, exact[0], 1e-5)


def test_the_mean_is_subtracted_to_its_last_digit(rng: np.random.Generator) -> None:
    given = drawn(rng, (500, 4), "float32", mean=1e4)
    y, _, var = to_host(batch_norm(**to_device(given), epsilon=1e-3))
    exact = reference.batch_norm(**in_float64(given), epsilon=1e-3)
    np.testing.assert_allclose(var, exact[2], rtol=2e-6)
    assert_near(y, exact[0], 2e-6)  # with a mean rounded to float32 it would be 2e-4


def test_a_constant_channel_has_no_variance() -> None:
    x = np.full((77, 5), 0.1, np.float32)
    y, mean, var = to_host(batch_norm(*to_device((x, np.ones(5, np.float32), np.full(5, 2, np.float32))), 1e-3))
    np.testing.assert_array_equal(mean, x[0])
    np.testing.assert_array_equal(var, np.zeros(5))
    np.testing.assert_array_equal(y, np.full_like(x, 2))


def test_a_nan_spoils_its_channel_and_no_other(rng: np.random.Generator) -> None:
    given = drawn(rng, (90, 4), "float32")
    given["x"][41, 2] = np.nan
    y, mean, var = to_host(batch_norm(**to_device(given), epsilon=1e-3, activation="relu"))
    np.testing.assert_array_equal(np.isnan(y).all(axis=0), [False, False, True, False])
    np.testing.assert_array_equal(np.isnan(mean), [False, False, True, False])
    np.testing.assert_array_equal(np.isnan(var), [False, False, True, False])


@pytest.mark.parametrize("c", [3, 4])
def test_rows_that_many_slices_share_give_the_same_bits_twice(c: int, rng: np.random.Generator) -> None:
    given = to_device(drawn(rng, (9001, c), "float32"))
    first, second = (to_host(batch_norm(**given, epsilon=1e-3)) for _ in range(2))
    assert [a.tobytes() for a in first] == [a.tobytes() for a in second]
    assert_all_near(first, reference.batch_norm(**in_float64(to_host(given)), epsilon=1e-3), 2e-6)


@pytest.mark.parametrize("c", [3, 12])
def test_the_same_bits_in_every_order_of_threads(c: int, rng: np.random.Generator) -> None:
    given = to_device(drawn(rng, (1500, c), "float32"))
    received = []
    for order in ("forward", "reverse", "random"):
        with thread_order(order):
            y, mean, var = batch_norm(**given, epsilon=1e-3, activation="relu")
            gradients = batch_norm_backward(y, given["x"], given["gamma"], mean, var, 1e-3, y)
            received.append([array.tobytes() for array in to_host((y, mean, var, *gradients))])
    assert received[0] == received[1] == received[2]
