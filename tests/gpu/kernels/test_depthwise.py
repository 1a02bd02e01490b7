"""Depthwise convolutions on the device: strips and packs at their edges, every kernel, thread orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn.kernels import reference
from minicnn.kernels.contract import Array
from minicnn.kernels.gpu import conv
from tests.gpu.comparing import assert_near, to_device, to_host
from tests.gpu.emulator import thread_order

LIMITS = {"float32": 1e-5, "float64": 1e-12}
both_dtypes = pytest.mark.parametrize("dtype", list(LIMITS))
SAME: dict[str, Any] = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261125)


def check_all_three(
    rng: np.random.Generator,
    dtype: str,
    x_shape: tuple[int, ...],
    window: tuple[int, int],
    multiplier: int,
    options: dict[str, Any],
) -> None:
    """Forward with bias and relu6, input gradient and weight gradient against the reference in float64."""
    channels = x_shape[3]
    options = {**options, "groups": channels}
    x, w, b = (
        rng.standard_normal(shape).astype(dtype)
        for shape in (x_shape, (*window, 1, channels * multiplier), (channels * multiplier,))
    )
    y = reference.conv2d(*in64(x, w, b), **options, activation="relu6")
    gy = rng.standard_normal(y.shape).astype(dtype)
    gx = reference.conv2d_input_grad(*in64(gy, w), x_shape[1:3], **options)
    gw = reference.conv2d_weight_grad(*in64(x, gy), window, **options)
    on_device = [to_device(array) for array in (x, w, b, gy)]
    limit = LIMITS[dtype]
    assert_near(to_host(conv.conv2d(*on_device[:3], **options, activation="relu6")), y, limit)
    assert_near(to_host(conv.conv2d_input_grad(on_device[3], on_device[1], x_shape[1:3], **options)), gx, limit)
    assert_near(to_host(conv.conv2d_weight_grad(on_device[0], on_device[3], window, **options)), gw, limit)


def in64(*arrays: Array) -> list[Array]:
    return [array.astype(np.float64) for array in arrays]


@both_dtypes
@pytest.mark.parametrize("width", [3, 4, 5, 9])
@pytest.mark.parametrize("channels", [3, 4, 8])
def test_strips_at_their_edges(channels: int, width: int, dtype: str, rng: np.random.Generator) -> None:
    check_all_three(rng, dtype, (2, 4, width, channels), (3, 3), 1, SAME)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 2), (3, 3)], ids=str)
@pytest.mark.parametrize(
    ("window", "dilation"), [((3, 3), (1, 1)), ((2, 3), (2, 1)), ((3, 3), (1, 2)), ((5, 5), (1, 1))], ids=str
)
def test_windows_strides_and_dilation_in_packs(
    window: tuple[int, int], dilation: tuple[int, int], strides: tuple[int, int], rng: np.random.Generator
) -> None:
    options = {"strides": strides, "padding": ((2, 1), (1, 2)), "dilation": dilation}
    check_all_three(rng, "float32", (2, 10, 11, 8), window, 1, options)


@both_dtypes
def test_multiplier_with_channels_that_would_divide_into_packs(dtype: str, rng: np.random.Generator) -> None:
    check_all_three(rng, dtype, (2, 6, 5, 4), (3, 2), 3, {**SAME, "strides": (2, 1)})


@both_dtypes
def test_more_packs_than_a_block_is_wide(dtype: str, rng: np.random.Generator) -> None:
    check_all_three(rng, dtype, (1, 4, 5, 268), (3, 3), 1, SAME)


def test_sums_over_many_pixels_are_cut_into_slices_and_stay_exact(rng: np.random.Generator) -> None:
    x, gy = (1 + rng.standard_normal((8, 112, 112, 2)).astype(np.float32) for _ in range(2))
    received = to_host(conv.conv2d_weight_grad(*to_device((x, gy)), (3, 3), **SAME, groups=2))
    exact = reference.conv2d_weight_grad(*in64(x, gy), (3, 3), **SAME, groups=2)
    np.testing.assert_allclose(received, exact, rtol=1e-5)


@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "tanh"])
def test_activations_in_packs(activation: Any, rng: np.random.Generator) -> None:
    x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 5, 6, 8), (3, 3, 1, 8), (8,)))
    exact = reference.conv2d(*in64(x, w, b), **SAME, groups=8, activation=activation)
    assert_near(to_host(conv.conv2d(*to_device((x, w, b)), **SAME, groups=8, activation=activation)), exact, 1e-5)


@pytest.mark.parametrize("channels", [4, 3])
def test_results_have_the_same_bits_whatever_thread_runs_first(channels: int, rng: np.random.Generator) -> None:
    options = {**SAME, "groups": channels}
    x, w, gy = to_device(
        [
            rng.standard_normal(shape).astype(np.float32)
            for shape in ((3, 9, 11, channels), (3, 3, 1, channels), (3, 9, 11, channels))
        ]
    )

    def results() -> list[bytes]:
        y = conv.conv2d(x, w, None, **options)
        gx = conv.conv2d_input_grad(gy, w, (9, 11), **options)
        gw = conv.conv2d_weight_grad(x, gy, (3, 3), **options)
        return [to_host(array).tobytes() for array in (y, gx, gw)]

    forward = results()
    for order in ("reverse", "random"):
        with thread_order(order):
            assert results() == forward
