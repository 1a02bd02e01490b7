"""Pooling on every path: blocks and overlaps, padding and cropping, channels that fill no vector, several tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

from minicnn.kernels import reference
from minicnn.kernels.cpu.pool import (
    adaptive_max_pool2d,
    avg_pool2d,
    avg_pool2d_backward,
    gather2d,
    max_pool2d,
    scatter2d,
)
from tests.kernels.cpu.comparing import assert_close, assert_same_bits_on_any_number_of_threads, normal

NONE = ((0, 0), (0, 0))

# name: (x shape, window, strides, padding)
SHAPES: dict[str, tuple[Any, ...]] = {
    "blocks_of_two": ((3, 20, 22, 64), (2, 2), (2, 2), NONE),
    "blocks_with_a_rest": ((2, 11, 14, 47), (3, 2), (3, 2), NONE),
    "blocks_in_many_tasks": ((5, 34, 30, 33), (2, 2), (2, 2), NONE),
    "few_channels": ((4, 28, 27, 3), (2, 2), (2, 2), NONE),
    "one_channel": ((2, 31, 29, 1), (2, 3), (2, 3), NONE),
    "overlapping": ((2, 17, 19, 20), (3, 3), (2, 2), NONE),
    "overlapping_with_padding": ((2, 12, 13, 17), (3, 3), (2, 2), ((1, 1), (1, 1))),
    "lopsided_padding": ((2, 9, 8, 129), (3, 2), (1, 3), ((2, 0), (0, 1))),
    "cropping": ((2, 12, 11, 16), (2, 2), (2, 2), ((-1, -2), (0, -3))),
    "gaps_between_windows": ((2, 12, 11, 16), (2, 1), (3, 4), NONE),
    "whole_image": ((3, 7, 7, 70), (7, 7), (7, 7), NONE),
}
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@both_dtypes
@pytest.mark.parametrize("name", SHAPES)
def test_pooling_and_its_way_back_are_the_references(name: str, dtype: str) -> None:
    shape, *options = SHAPES[name]
    x = normal(*shape, dtype=dtype)
    y, where = max_pool2d(x, *options)
    exact, exact_where = reference.max_pool2d(x, *options)
    np.testing.assert_array_equal(y, exact)
    np.testing.assert_array_equal(where, exact_where)
    np.testing.assert_array_equal(gather2d(x, where), y)
    gy, limit = normal(*y.shape, dtype=dtype, seed=1), 1e-6 if dtype == "float32" else 1e-14
    wide = gy.astype("float64")
    assert_close(scatter2d(gy, where, shape[1:3]), reference.scatter2d(wide, where, shape[1:3]), limit)
    assert_close(avg_pool2d(x, *options), reference.avg_pool2d(x.astype("float64"), *options), limit)
    exact = reference.avg_pool2d_backward(wide, shape[1:3], *options)
    assert_close(avg_pool2d_backward(gy, shape[1:3], *options), exact, limit)


def test_ties_go_to_the_first_and_nan_before_all() -> None:
    x = normal(2, 10, 12, 19).round(0)  # many equal numbers
    x[np.random.default_rng(5).random(x.shape) < 0.1] = np.nan
    x[0, :4] = -np.inf
    for strides in ((2, 2), (1, 3)):
        options = ((3, 2), strides, ((1, 0), (1, 1)))
        for received, expected in zip(max_pool2d(x, *options), reference.max_pool2d(x, *options), strict=True):
            np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize("output_size", [(1, 1), (3, 2), (7, 9), (13, 20)])
def test_adaptive_bins_are_the_references(output_size: tuple[int, int]) -> None:
    x = normal(2, 13, 11, 33)
    assert_close(adaptive_max_pool2d(x, output_size), reference.adaptive_max_pool2d(x, output_size), 0)


def test_scattering_starts_again_where_the_last_index_leaves_its_block() -> None:
    gy = normal(2, 4, 5, 32)
    _, where = max_pool2d(normal(2, 8, 10, 32, seed=1), (2, 2), (2, 2), NONE)
    where[1, 3, 4, 31] = 0
    assert_close(scatter2d(gy, where, (8, 10)), reference.scatter2d(gy.astype("float64"), where, (8, 10)), 1e-6)


def test_more_outputs_than_pixels_are_added_up() -> None:
    gy, where = normal(2, 9, 9, 17), np.random.default_rng(3).integers(0, 6, (2, 9, 9, 17)).astype(np.int32)
    assert_close(scatter2d(gy, where, (2, 3)), reference.scatter2d(gy.astype("float64"), where, (2, 3)), 1e-6)


def test_pooling_is_the_same_bits_on_any_number_of_threads() -> None:
    x, options = normal(7, 33, 30, 20), ((3, 3), (2, 2), ((1, 1), (1, 1)))
    y, where = max_pool2d(x, *options)
    assert_same_bits_on_any_number_of_threads(lambda: max_pool2d(x, *options))
    assert_same_bits_on_any_number_of_threads(lambda: scatter2d(y, where, (33, 30)))
    assert_same_bits_on_any_number_of_threads(lambda: avg_pool2d(x, *options))
    assert_same_bits_on_any_number_of_threads(lambda: avg_pool2d_backward(y, (33, 30), *options))
