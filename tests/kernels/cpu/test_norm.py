"""Normalization: statistics that keep their digits, few channels and many, rows that fill no vector, several slices."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from minicnn.kernels import reference
from minicnn.kernels.contract import Array
from minicnn.kernels.cpu import norm
from minicnn.kernels.cpu.group_norm import group_norm, group_norm_backward
from minicnn.kernels.cpu.local_response import local_response_norm, local_response_norm_backward
from minicnn.kernels.cpu.norm import batch_norm, batch_norm_backward, batch_norm_inference
from tests.kernels.cpu.comparing import assert_close, assert_same_bits_on_any_number_of_threads, normal

SHAPES = [(2, 1), (5, 3), (70001, 1), (20003, 3), (9001, 16), (129, 47), (64, 129), (2, 40, 30, 64), (37, 1001)]
SHAPES += [(210, 640), (1500, 640)]  # tasks side by side, and one below the other too
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
relu_or_not = pytest.mark.parametrize("activation", [None, "relu"])
EPSILON = 1e-3


def wide(*arrays: Array) -> list[Array]:
    return [array.astype("float64") for array in arrays]


def scale_and_offset(c: int) -> tuple[Array, Array]:
    return normal(c, seed=1) + 1, normal(c, seed=2)


# ---------------------------------------------------------------------------------------------------- batch norm


@shapes
@relu_or_not
def test_batch_norm_is_the_references(shape: tuple[int, ...], activation: None) -> None:
    x, (gamma, beta) = normal(*shape) + 1, scale_and_offset(shape[-1])
    exact = reference.batch_norm(*wide(x, gamma, beta), EPSILON, activation)
    assert_close(batch_norm(x, gamma, beta, EPSILON, activation), exact, 2e-6)
    mean, var = (statistic.astype("float32") for statistic in exact[1:])
    given = (x, gamma, beta, mean, var)
    exact_y = reference.batch_norm_inference(*wide(*given), EPSILON, activation)
    assert_close(batch_norm_inference(*given, EPSILON, activation), exact_y, 2e-6)


@shapes
@relu_or_not
def test_batch_norm_backward_is_the_references(shape: tuple[int, ...], activation: None) -> None:
    x, gy, (gamma, beta) = normal(*shape) + 1, normal(*shape, seed=3), scale_and_offset(shape[-1])
    y, mean, var = batch_norm(x, gamma, beta, EPSILON, activation)
    y_if_relu = y if activation else None
    exact = reference.batch_norm_backward(*wide(gy, x, gamma, mean, var), EPSILON, y_if_relu)
    assert_close(batch_norm_backward(gy, x, gamma, mean, var, EPSILON, y_if_relu), exact, 5e-6)


@pytest.mark.parametrize("shape", [(20003, 3), (3000, 64)], ids=str)
@pytest.mark.parametrize("mean", [0.0, 100.0, -1e4])
def test_statistics_keep_their_digits_far_from_zero(shape: tuple[int, int], mean: float) -> None:
    x, ones = (normal(*shape) + mean).astype("float32"), np.ones(shape[1], np.float32)
    y, received_mean, var = batch_norm(x, ones, ones, 0.0)
    x = x.astype("float64")
    np.testing.assert_allclose(var, x.var(axis=0), rtol=2e-6)
    np.testing.assert_allclose(received_mean, x.mean(axis=0), rtol=2e-7, atol=1e-7)
    np.testing.assert_allclose(y, (x - x.mean(axis=0)) / x.std(axis=0) + 1, atol=2e-6)


def test_float64_statistics_are_exact_in_float64() -> None:
    x, gamma, beta = normal(3001, 5, dtype="float64") + 100, *wide(*scale_and_offset(5))
    assert_close(batch_norm(x, gamma, beta, EPSILON), reference.batch_norm(x, gamma, beta, EPSILON), 1e-12)


def test_nan_stays_in_its_channel() -> None:
    x, (gamma, beta) = normal(50, 3), scale_and_offset(3)
    x[20, 1] = np.nan
    y, mean, var = batch_norm(x, gamma, beta, EPSILON)
    for result in (y[0], mean, var):
        np.testing.assert_array_equal(np.isnan(result), [False, True, False])


def test_equal_numbers_have_no_variance() -> None:
    y, _, var = batch_norm(np.full((100, 2), 1.1, np.float32), *scale_and_offset(2), EPSILON)
    assert (var < 1e-12).all()
    assert_close(y, np.broadcast_to(scale_and_offset(2)[1], (100, 2)), 1e-5)


def test_batch_norm_is_the_same_bits_on_any_number_of_threads() -> None:
    x, (gamma, beta) = normal(4001, 47), scale_and_offset(47)
    y, mean, var = batch_norm(x, gamma, beta, EPSILON, "relu")
    assert_same_bits_on_any_number_of_threads(lambda: batch_norm(x, gamma, beta, EPSILON, "relu"))
    assert_same_bits_on_any_number_of_threads(lambda: batch_norm_backward(y, x, gamma, mean, var, EPSILON, y))


@pytest.mark.parametrize("shape", [(4001, 17), (3001, 96)], ids=str)
def test_it_makes_no_difference_whether_outputs_are_written_past_the_caches(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, (gamma, beta) = normal(*shape), scale_and_offset(shape[1])
    y, mean, var = batch_norm(x, gamma, beta, EPSILON, "relu")
    gx = batch_norm_backward(y, x, gamma, mean, var, EPSILON, y)[0]
    monkeypatch.setattr(norm, "_STREAMING_BYTES", 1)
    np.testing.assert_array_equal(batch_norm(x, gamma, beta, EPSILON, "relu")[0], y)
    np.testing.assert_array_equal(batch_norm_backward(y, x, gamma, mean, var, EPSILON, y)[0], gx)


# ---------------------------------------------------------------------------------------------------- group norm

# (N, P, C), groups, gamma's first axis
GROUPS = [
    ((700, 1, 129), 1, 1),
    ((3, 1, 48), 4, 1),
    ((3, 150, 24), 3, 1),
    ((2, 70, 40), 40, 1),
    ((2, 70, 33), 1, 1),
    ((300, 7, 11), 1, 7),
    ((3, 5, 12), 3, 5),
    ((2, 9, 1), 1, 1),
]


@pytest.mark.parametrize(("shape", "groups", "positions"), GROUPS, ids=str)
def test_group_norm_and_its_backward_are_the_references(
    shape: tuple[int, int, int], groups: int, positions: int
) -> None:
    x, gy = normal(*shape) + 10, normal(*shape, seed=3)
    gamma, beta = normal(positions, shape[2], seed=1) + 1, normal(positions, shape[2], seed=2)
    exact = reference.group_norm(*wide(x, gamma, beta), groups, EPSILON)
    assert_close(group_norm(x, gamma, beta, groups, EPSILON), exact, 4e-6)
    mean, var = (statistic.astype("float32") for statistic in exact[1:])
    given = (gy, x, gamma, mean, var)
    exact = reference.group_norm_backward(*wide(*given), groups, EPSILON)
    assert_close(group_norm_backward(*given, groups, EPSILON), exact, 5e-6)


@pytest.mark.parametrize("shape", [(900, 1, 65), (5, 200, 64)], ids=str)
def test_group_norm_is_the_same_bits_on_any_number_of_threads(shape: tuple[int, int, int]) -> None:
    x, gamma = normal(*shape), normal(1, shape[2])
    _, mean, var = group_norm(x, gamma, gamma, 1, EPSILON)
    assert_same_bits_on_any_number_of_threads(lambda: group_norm(x, gamma, gamma, 1, EPSILON))
    assert_same_bits_on_any_number_of_threads(lambda: group_norm_backward(x, x, gamma, mean, var, 1, EPSILON))


# ---------------------------------------------------------------------------------------------------- local response


@pytest.mark.parametrize("shape", [(3, 11, 10, 96), (70, 7), (2, 1), (3, 129)], ids=str)
@pytest.mark.parametrize(("size", "beta"), [(5, 0.75), (4, 0.5), (9, 0.6), (1, 1.0)])
def test_local_response_norm_and_its_backward_are_the_references(
    shape: tuple[int, ...], size: int, beta: float
) -> None:
    x, gy, options = normal(*shape), normal(*shape, seed=1), (size, 0.3, beta, 2.0)
    exact = reference.local_response_norm(*wide(x), *options)
    assert_close(local_response_norm(x, *options), exact, 2e-6)
    exact = reference.local_response_norm_backward(*wide(gy, x), *options)
    assert_close(local_response_norm_backward(gy, x, *options), exact, 2e-6)


def test_local_response_norm_is_the_same_bits_on_any_number_of_threads() -> None:
    x = normal(2000, 33)
    assert_same_bits_on_any_number_of_threads(lambda: local_response_norm_backward(x, x, 5, 0.3, 0.75, 2.0))
