"""Winograd's convolution against the reference in float64: border tiles, tails of vectors, several blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

from minicnn.kernels import reference
from minicnn.kernels.cpu import winograd, winograd_scatter

SAME, VALID = ((1, 1), (1, 1)), ((0, 0), (0, 0))

CASES = [
    ("one tile of one pixel", (1, 3, 3, 1), 1, VALID),
    ("whole tiles and vectors", (2, 10, 14, 64), 64, VALID),
    ("borders on all sides", (3, 9, 7, 64), 128, SAME),
    ("channels that fill no vector", (2, 11, 13, 17), 47, SAME),
    ("several passes over the terms, one filter", (1, 6, 7, 300), 1, SAME),
    ("one channel, several panels of filters", (2, 7, 6, 1), 129, SAME),
    ("several blocks of tiles", (9, 30, 31, 16), 33, SAME),
    ("lopsided padding", (2, 8, 9, 19), 5, ((0, 3), (2, 0))),
    ("padding wider than the filter", (1, 5, 6, 4), 16, ((5, 2), (7, 9))),
    ("negative padding", (2, 13, 12, 16), 16, ((-1, 0), (2, -3))),
]
IDS = [case[0] for case in CASES]

BOUNDS = {"float32": 2e-5, "float64": 1e-13}
"""Largest error relative to the largest result."""


def arrays(size: tuple[int, ...], f: int, padding: Any, dtype: str) -> tuple[Any, Any, Any, Any]:
    """x, w, b and gy of a convolution."""
    rng = np.random.default_rng(sum(size) + f)
    n, h, w, c = size
    out = (n, h + sum(padding[0]) - 2, w + sum(padding[1]) - 2, f)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in (size, (3, 3, c, f), (f,), out))  # type: ignore[return-value]


def assert_close(result: Any, expected: Any, dtype: str) -> None:
    assert result.shape == expected.shape
    assert result.dtype == dtype
    assert result.flags.c_contiguous
    if expected.size:
        assert np.abs(result - expected).max() <= BOUNDS[dtype] * np.abs(expected).max()


def exact(*values: Any) -> list[Any]:
    return [value.astype("float64") for value in values]


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize(("name", "size", "f", "padding"), CASES, ids=IDS)
def test_all_three_agree_with_the_reference(name: str, size: Any, f: int, padding: Any, dtype: str) -> None:
    x, w, b, gy = arrays(size, f, padding, dtype)
    x8, w8, b8, gy8 = exact(x, w, b, gy)
    rest = ((1, 1), padding, (1, 1), 1)
    y = winograd.winograd_conv2d(x, w, b, padding, -np.inf, np.inf)
    assert_close(y, reference.conv2d(x8, w8, b8, *rest), dtype)
    gx = winograd.winograd_input_grad(gy, w, size[1:3], padding)
    assert_close(gx, reference.conv2d_input_grad(gy8, w8, size[1:3], *rest), dtype)
    gx = winograd_scatter.winograd_scatter_input_grad(gy, w, size[1:3], padding)
    assert_close(gx, reference.conv2d_input_grad(gy8, w8, size[1:3], *rest), dtype)
    gw = winograd.winograd_weight_grad(x, gy, padding)
    assert_close(gw, reference.conv2d_weight_grad(x8, gy8, (3, 3), *rest), dtype)


def test_the_bias_may_be_missing_and_results_are_clamped() -> None:
    x, w, _, _ = arrays((2, 9, 9, 17), 20, SAME, "float32")
    y = winograd.winograd_conv2d(x, w, None, SAME, 0.0, 6.0)
    expected = reference.conv2d(*exact(x, w), None, (1, 1), SAME, (1, 1), 1).clip(0.0, 6.0)
    assert np.abs(y - expected).max() < 1e-4
    assert y.min() == 0.0
    assert y.max() == 6.0


@pytest.mark.parametrize(("c", "f"), [(33, 70), (100, 16), (16, 200)])
def test_any_number_of_threads_gives_the_same_bits(monkeypatch: Any, c: int, f: int) -> None:
    x, w, b, gy = arrays((3, 17, 30, c), f, SAME, "float32")

    def run(threads: int) -> list[Any]:
        for module in (winograd, winograd_scatter):
            monkeypatch.setattr(module, "get_num_threads", lambda: threads)
        return [
            winograd.winograd_conv2d(x, w, b, SAME, 0.0, np.inf),
            winograd.winograd_input_grad(gy, w, (17, 30), SAME),
            winograd_scatter.winograd_scatter_input_grad(gy, w, (17, 30), SAME),
            winograd.winograd_weight_grad(x, gy, SAME),
        ]

    expected = run(1)
    for threads in (2, 3, 5, 8, 200):
        for one, other in zip(expected, run(threads), strict=True):
            np.testing.assert_array_equal(one, other)


def test_nan_in_an_image_stays_in_the_tiles_that_read_it() -> None:
    x, w, b, _ = arrays((2, 12, 12, 17), 18, VALID, "float32")
    clean = winograd.winograd_conv2d(x, w, b, VALID, 0.0, np.inf)
    x[1, 0, 0, 16] = np.nan
    y = winograd.winograd_conv2d(x, w, b, VALID, 0.0, np.inf)
    assert np.isnan(y[1, 0, 0]).all()
    y[1, :4, :4] = clean[1, :4, :4] = 0
    np.testing.assert_array_equal(y, clean)


def test_nan_in_memory_behind_the_last_channel_is_not_read() -> None:
    x, _, _, gy = arrays((1, 10, 10, 19), 21, SAME, "float32")
    expected = winograd.winograd_weight_grad(x, gy, SAME)
    stack = np.full((3, *x.shape), np.nan, "float32")
    stack[1] = x
    np.testing.assert_array_equal(winograd.winograd_weight_grad(stack[1:2].reshape(x.shape), gy, SAME), expected)


def test_an_empty_batch_gives_empty_images_and_zero_gradients() -> None:
    x, w, b, gy = arrays((0, 8, 8, 16), 16, SAME, "float32")
    assert winograd.winograd_conv2d(x, w, b, SAME, -np.inf, np.inf).shape == (0, 8, 8, 16)
    assert winograd.winograd_input_grad(gy, w, (8, 8), SAME).shape == (0, 8, 8, 16)
    assert winograd_scatter.winograd_scatter_input_grad(gy, w, (8, 8), SAME).shape == (0, 8, 8, 16)
    np.testing.assert_array_equal(winograd.winograd_weight_grad(x, gy, SAME), np.zeros((3, 3, 16, 16)))


def test_inputs_are_left_alone() -> None:
    inputs = arrays((2, 7, 7, 18), 19, SAME, "float32")
    x, w, b, gy = inputs
    copies = [value.copy() for value in inputs]
    winograd.winograd_conv2d(x, w, b, SAME, 0.0, np.inf)
    winograd.winograd_input_grad(gy, w, (7, 7), SAME)
    winograd_scatter.winograd_scatter_input_grad(gy, w, (7, 7), SAME)
    winograd.winograd_weight_grad(x, gy, SAME)
    for value, copy in zip(inputs, copies, strict=True):
        np.testing.assert_array_equal(value, copy)


@pytest.mark.parametrize("what", ["forward", "input_grad", "weight_grad"])
def test_it_is_profitable_for_many_channels_and_tiles_only(what: Any) -> None:
    assert winograd.is_profitable(32, 28, 28, 128, 128, what)
    assert winograd.is_profitable(8, 56, 56, 256, 256, what)
    assert not winograd.is_profitable(128, 28, 28, 3, 64, what)
    assert not winograd.is_profitable(1, 4, 4, 512, 512, what)
    assert not winograd.is_profitable(64, 1, 1, 64, 64, what)
    assert not winograd.is_profitable(0, 28, 28, 128, 128, what)


def test_tiles_of_gy_are_added_up_where_they_are_fewer_and_images_many() -> None:
    assert winograd_scatter.scatter_is_profitable(64, (5, 5), (3, 3), 64, 64)
    assert winograd_scatter.scatter_is_profitable(64, (13, 13), (11, 11), 32, 64)
    assert not winograd_scatter.scatter_is_profitable(1, (13, 13), (11, 11), 32, 64)
    assert not winograd_scatter.scatter_is_profitable(32, (28, 28), (28, 28), 128, 128)
    assert not winograd_scatter.scatter_is_profitable(64, (13, 13), (11, 11), 3, 64)


def test_rows_that_no_output_was_computed_from_get_no_gradient() -> None:
    padding = ((-1, -2), (0, -5))  # a crop: the first row, the last two and the last five columns are not read
    _, w, _, gy = arrays((2, 12, 17, 16), 16, padding, "float32")
    gx = winograd_scatter.winograd_scatter_input_grad(gy, w, (12, 17), padding)
    assert not gx[:, 0].any()
    assert not gx[:, 10:].any()
    assert not gx[:, :, 12:].any()
    assert gx[:, 1:10, :12].all()
