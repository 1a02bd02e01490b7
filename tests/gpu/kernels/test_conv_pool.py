"""Convolution with max pooling on the device: windows in the tile, what is left over, thread orders, ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn.kernels import reference, settings
from minicnn.kernels.contract import Array
from minicnn.kernels.gpu import conv_pool
from minicnn.kernels.gpu.conv_geometry import convolution_sizes
from tests.gpu.comparing import assert_near, to_device, to_host
from tests.gpu.emulator import thread_order

LIMITS = {"float32": 1e-5, "float64": 1e-12}
both_dtypes = pytest.mark.parametrize("dtype", list(LIMITS))
SAME: dict[str, Any] = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
TWO: dict[str, Any] = {"window": (2, 2), "pool_strides": (2, 2), "pool_padding": ((0, 0), (0, 0))}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261125)


def check(rng: np.random.Generator, dtype: str, x_shape: tuple[int, ...], filters: int, **options: Any) -> None:
    """Both outputs against the reference in float64."""
    channels = x_shape[3] // options.get("groups", 1)
    shapes = (x_shape, (3, 2, channels, filters), (filters,))
    x, w, b = (rng.standard_normal(shape).astype(dtype) / 4 for shape in shapes)  # tanh must not round to 1
    options = {**SAME, **TWO, "activation": "relu", **options}
    exact, exact_where = reference.conv2d_max_pool2d(*in64(x, w, b), **options)
    y, where = to_host(conv_pool.conv2d_max_pool2d(*to_device((x, w, b)), **options))
    assert_near(y, exact, LIMITS[dtype])
    assert_near(where, exact_where, 0)


def in64(*arrays: Array) -> list[Array]:
    return [array.astype(np.float64) for array in arrays]


@both_dtypes
@pytest.mark.parametrize("width", [7, 8, 9, 33])
@pytest.mark.parametrize(("channels", "filters"), [(4, 36), (3, 33), (8, 68), (1, 65)])
def test_windows_and_what_is_left_over(
    channels: int, filters: int, width: int, dtype: str, rng: np.random.Generator
) -> None:
    check(rng, dtype, (2, 5, width, channels), filters)


@pytest.mark.parametrize("activation", [None, "relu", "relu6", "sigmoid", "tanh"])
def test_activations(activation: Any, rng: np.random.Generator) -> None:
    check(rng, "float32", (2, 6, 7, 4), 8, activation=activation)


@pytest.mark.parametrize("groups", [2, 4])
def test_strides_dilation_and_groups(groups: int, rng: np.random.Generator) -> None:
    """Four groups of one channel are depthwise, and pooled on their own."""
    options = {"strides": (2, 1), "padding": ((1, 2), (0, 3)), "dilation": (1, 2), "groups": groups}
    check(rng, "float32", (2, 13, 10, 4), 8, **options)


def test_many_windows_take_the_larger_tile(rng: np.random.Generator) -> None:
    sizes = convolution_sizes((2, 150, 128, 4), (3, 2, 4, 64), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    assert conv_pool._plan(sizes, True, "float32").kernel == "conv2d_pool_medium"
    check(rng, "float32", (2, 150, 128, 4), 64)


def test_many_windows_of_any_channels_take_the_larger_tile(rng: np.random.Generator) -> None:
    sizes = convolution_sizes((2, 150, 128, 3), (3, 2, 3, 63), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    assert conv_pool._plan(sizes, False, "float32").kernel == "conv2d_pool_medium_any"
    check(rng, "float32", (2, 150, 128, 3), 63)


def test_first_of_equals_and_nan_before_all() -> None:
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 2, 3] = np.nan
    options = {**SAME, **TWO, "padding": ((0, 0), (0, 0)), "activation": None}
    y, where = to_host(conv_pool.conv2d_max_pool2d(*to_device((x, np.ones((1, 1, 1, 1), np.float32))), None, **options))
    np.testing.assert_array_equal(where[0, :, :, 0], [[0, 2], [8, 11]])
    np.testing.assert_array_equal(y[0, :, :, 0], [[0, 0], [0, np.nan]])


def test_map_smaller_than_a_window_gives_no_windows(rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((2, 3, 1, 4)).astype(np.float32), rng.standard_normal((1, 1, 4, 4)).astype(np.float32)
    options = {**SAME, **TWO, "padding": ((0, 0), (0, 0)), "activation": None}
    y, where = conv_pool.conv2d_max_pool2d(*to_device((x, w)), None, **options)
    assert y.shape == where.shape == (2, 1, 0, 4)


def test_results_have_the_same_bits_whatever_thread_runs_first(rng: np.random.Generator) -> None:
    shapes = ((3, 9, 11, 4), (3, 3, 4, 36))
    x, w = to_device([rng.standard_normal(shape).astype(np.float32) for shape in shapes])

    def results() -> list[bytes]:
        outputs = conv_pool.conv2d_max_pool2d(x, w, None, **SAME, activation="relu", **TWO)
        return [array.tobytes() for array in to_host(outputs)]

    forward = results()
    for order in ("reverse", "random"):
        with thread_order(order):
            assert results() == forward


def test_only_float32_goes_to_tensor_cores(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.setattr(settings, "precision", "tf32")
    x32, x64 = to_device([rng.standard_normal((1, 2, 2, 1)).astype(dtype) for dtype in LIMITS])
    assert not conv_pool._in_full_precision(x32)
    assert conv_pool._in_full_precision(x64)
