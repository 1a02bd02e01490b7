"""Activations on vectors: every tail, the ends of the number range, and sums for biases that lose no digits."""

from __future__ import annotations

from importlib import import_module
from typing import Any, get_args

import numpy as np
import pytest

pytest.importorskip("numba")

from minicnn.kernels import reference
from minicnn.kernels.contract import ActivationName
from minicnn.kernels.cpu.activation import (
    PIECE,
    activation,
    activation_backward,
    activation_bias_backward,
    activation_in_place,
    bias_grad,
)
from tests.kernels.cpu.comparing import assert_close, assert_same_bits_on_any_number_of_threads, normal

NAMES = get_args(ActivationName)
ALPHA = {"leaky_relu": 0.3, "elu": 1.3}
EDGES = [0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30, 87.9, 88.8, 89.5, -87.2, -87.5, -88.8, -103.9, -104.1, np.inf, -np.inf]
SUMS = [(1, 1), (5, 3), (7, 17), (128, 47), (300, 129), (37, 1001), (70001, 1), (20003, 3), (9001, 16), (3, 2, 70, 64)]


@pytest.mark.parametrize("name", NAMES)
def test_values_are_right_in_all_their_digits_over_the_whole_range(name: Any) -> None:
    x = np.concatenate([normal(1009) * scale for scale in (1e-6, 1e-3, 0.1, 1, 10, 40)] + [EDGES]).astype("float32")
    y = activation(x, name, ALPHA.get(name, 0.0))
    expected = reference.activation(x.astype("float64"), name, ALPHA.get(name, 0.0))
    np.testing.assert_allclose(y, expected, rtol=4e-7, atol=1e-38)


@pytest.mark.parametrize("name", ["elu", "sigmoid", "tanh"])
def test_float64_is_computed_in_float64(name: Any) -> None:
    x = np.concatenate([normal(1009, dtype="float64") * scale for scale in (1e-9, 1e-3, 1, 100)] + [EDGES, [-750, 720]])
    y, exact = (function(x, name, ALPHA.get(name, 0.0)) for function in (activation, reference.activation))
    np.testing.assert_allclose(y, exact, rtol=2e-15, atol=1e-307)


@pytest.mark.parametrize("name", NAMES)
def test_nan_passes(name: Any) -> None:
    x = np.array([np.nan, 1, -1, np.nan, 0], np.float32)
    np.testing.assert_array_equal(np.isnan(activation(x, name, 1.0)), np.isnan(x))


@pytest.mark.parametrize("size", [1, 15, 16, 17, 33, PIECE - 1, PIECE + 1, 3 * PIECE + 5])
def test_vector_tails_and_pieces_leave_nothing_out(size: int) -> None:
    x, gy = normal(size), normal(size, seed=1)
    y = activation(x, "relu")
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    np.testing.assert_array_equal(activation_backward(gy, y, "relu"), np.where(y > 0, gy, 0))


def test_an_array_that_is_not_contiguous_is_read_in_its_order() -> None:
    x = normal(6, 50).T
    np.testing.assert_array_equal(activation(x, "relu"), np.maximum(x, 0))


@pytest.mark.parametrize("name", ["relu", "relu6", "sigmoid", "tanh"])
def test_in_place_equals_the_function(name: Any) -> None:
    x = normal(3, 7, 11)
    expected = activation(x, name)
    activation_in_place(x, name)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("shape", SUMS, ids=str)
def test_bias_gradients_are_sums_over_all_but_the_last_axis(shape: tuple[int, ...]) -> None:
    gy = normal(*shape) + 0.5  # a sum that grows, and with it its error
    assert_close(bias_grad(gy), gy.reshape(-1, shape[-1]).sum(axis=0, dtype="float64"), 5e-7)


@pytest.mark.parametrize("shape", SUMS, ids=str)
def test_activation_and_bias_in_one_pass_equal_two(shape: tuple[int, ...]) -> None:
    gy, y = normal(*shape), np.maximum(normal(*shape, seed=1), 0)
    gz, gb = activation_bias_backward(gy, y, "relu")
    np.testing.assert_array_equal(gz, activation_backward(gy, y, "relu"))
    np.testing.assert_array_equal(gb, bias_grad(gz))


def test_sums_are_the_same_bits_on_any_number_of_threads() -> None:
    gy, y = normal(3001, 47), normal(3001, 47, seed=1)
    assert_same_bits_on_any_number_of_threads(lambda: activation_bias_backward(gy, y, "relu"))
    assert_same_bits_on_any_number_of_threads(lambda: bias_grad(gy))


def test_it_makes_no_difference_whether_outputs_are_written_past_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    x, gy = normal(20003), normal(20003, seed=1)
    y, gx = activation(x, "relu"), activation_backward(gy, x, "relu")
    monkeypatch.setattr(import_module("minicnn.kernels.cpu.activation"), "STREAMING_BYTES", 1)
    np.testing.assert_array_equal(activation(x, "relu"), y)
    np.testing.assert_array_equal(activation_backward(gy, x, "relu"), gx)
