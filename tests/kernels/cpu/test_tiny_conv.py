"""Tiny convolutions against nested loops, and the bits of the direct way; where the line between the two is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn.kernels import cpu
from minicnn.kernels.contract import Array
from minicnn.kernels.cpu import tiny_conv
from minicnn.kernels.cpu.direct import direct_conv2d
from minicnn.kernels.cpu.tiny_conv import is_tiny, tiny_conv2d, tiny_input_grad, tiny_weight_grad
from tests import loops

# name: (x shape, kernel, filters, strides, padding, dilation)
SHAPES: dict[str, tuple[Any, ...]] = {
    "as_in_a_small_network": ((2, 4, 4, 4), (3, 3), 4, (1, 1), ((1, 1), (1, 1)), (1, 1)),
    "nothing_alike": ((2, 6, 5, 3), (3, 2), 5, (2, 1), ((1, 0), (0, 2)), (1, 1)),
    "dilated": ((1, 7, 8, 2), (2, 3), 3, (1, 2), ((0, 1), (2, 1)), (3, 2)),
    "more_filters_than_a_vector": ((1, 3, 2, 2), (2, 2), 37, (1, 1), ((0, 0), (1, 0)), (1, 1)),
    "cropping": ((1, 6, 7, 2), (2, 2), 3, (1, 1), ((-2, 1), (0, -1)), (1, 1)),
    "pointwise": ((2, 3, 4, 5), (1, 1), 6, (1, 1), ((0, 0), (0, 0)), (1, 1)),
    "one_number": ((1, 1, 1, 1), (1, 1), 1, (1, 1), ((0, 0), (0, 0)), (1, 1)),
    "no_image": ((0, 4, 4, 3), (3, 3), 2, (1, 1), ((1, 1), (1, 1)), (1, 1)),
}
cases = pytest.mark.parametrize("name", SHAPES)
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def draw(name: str, dtype: str) -> tuple[Array, Array, Array, Array, tuple[Any, ...]]:
    """x, w, b, gy and the options of a shape."""
    x_shape, kernel_size, filters, *options = SHAPES[name]
    rng = np.random.default_rng(len(name))
    x = rng.standard_normal(x_shape).astype(dtype)
    w = rng.standard_normal((*kernel_size, x_shape[3], filters)).astype(dtype)
    b = rng.standard_normal(filters).astype(dtype)
    gy = rng.standard_normal(loops.conv2d(x, w, None, *options, 1).shape).astype(dtype)
    return x, w, b, gy, tuple(options)


def assert_near(received: Array, expected: Array, dtype: str) -> None:
    assert received.dtype == dtype
    assert received.shape == expected.shape
    limit = (1e-5 if dtype == "float32" else 1e-13) * np.abs(expected).max(initial=0)
    np.testing.assert_allclose(received, expected, rtol=0, atol=limit)


@both_dtypes
@cases
def test_tiny_convolutions_and_gradients_equal_nested_loops(name: str, dtype: str) -> None:
    x, w, b, gy, options = draw(name, dtype)
    size, kernel_size = x.shape[1:3], w.shape[:2]
    y = tiny_conv2d(x, w, b, *options, -np.inf, np.inf)
    assert_near(y, loops.conv2d(x, w, b, *options, 1), dtype)
    assert_near(tiny_input_grad(gy, w, size, *options), loops.conv2d_input_grad(gy, w, size, *options, 1), dtype)
    gw = tiny_weight_grad(x, gy, kernel_size, *options)
    assert_near(gw, loops.conv2d_weight_grad(x, gy, kernel_size, *options, 1), dtype)


@cases
def test_without_a_bias_and_between_limits(name: str) -> None:
    x, w, _, _, options = draw(name, "float32")
    expected = np.clip(loops.conv2d(x, w, None, *options, 1), 0, 2)
    assert_near(tiny_conv2d(x, w, None, *options, 0.0, 2.0), expected, "float32")


@both_dtypes
@cases
def test_the_bits_are_those_of_the_direct_way(name: str, dtype: str) -> None:
    x, w, b, _, options = draw(name, dtype)
    direct = direct_conv2d(x, w, b, *options, 1, -np.inf, np.inf)
    np.testing.assert_array_equal(tiny_conv2d(x, w, b, *options, -np.inf, np.inf), direct)


def test_nan_passes_through_the_limits() -> None:
    x, w, b, _, options = draw("pointwise", "float32")
    x[0, 1, 2, 3] = np.nan
    y = tiny_conv2d(x, w, b, *options, 0.0, 6.0)
    assert np.isnan(y[0, 1, 2]).all()
    assert np.isnan(y).sum() == 6


def test_only_tiny_convolutions_of_one_group_are_done_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_tiny(tiny_conv.PRODUCTS // 64, 64, 1)
    assert not is_tiny(tiny_conv.PRODUCTS // 64 + 1, 64, 1)
    assert not is_tiny(1, 1, 2)
    x, w, b, gy, options = draw("as_in_a_small_network", "float32")
    called = []
    for function in (tiny_conv2d, tiny_input_grad, tiny_weight_grad):

        def remember(*arguments: Any, _run: Any = function) -> Array:
            called.append(_run.__name__)
            return _run(*arguments)

        monkeypatch.setattr(cpu.conv, function.__name__, remember)
    cpu.conv2d(x, w, b, *options, 1, "tanh")
    cpu.conv2d_input_grad(gy, w, (4, 4), *options, 1)
    cpu.conv2d_weight_grad(x, gy, (3, 3), *options, 1)
    assert called == ["tiny_conv2d", "tiny_input_grad", "tiny_weight_grad"]
