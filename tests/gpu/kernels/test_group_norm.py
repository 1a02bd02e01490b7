"""Group and layer normalization on the device: teams of a warp and of a block, stripes of channels, far means."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.kernels import reference
from minicnn.kernels.contract import Array
from minicnn.kernels.gpu.group_norm import group_norm, group_norm_backward
from tests.gpu.comparing import assert_near, in_float64, to_device, to_host
from tests.gpu.emulator import thread_order

LIMITS = {"float32": 2e-6, "float64": 1e-12}

LAYERS = [  # N, P, C, G with gamma (P, C): teams of a warp, of 256 and of 512 threads
    (9, 1, 8, 1),
    (70, 1, 31, 1),
    (17, 1, 1024, 1),
    (2, 1, 1025, 1),
    (3, 1, 1028, 1),
    (2, 41, 400, 1),
    (3, 2, 3, 1),
    (5, 1, 24, 3),
    (3, 4, 24, 2),
    (530, 1, 4, 1),
]
STRIPES = [  # gamma (1, C): layer, group and instance normalization over positions
    (2, 90, 16, 1),
    (3, 25, 24, 3),
    (2, 70, 12, 6),
    (2, 33, 8, 8),
    (2, 19, 7, 7),
    (1, 300, 9, 3),
    (2, 7, 300, 2),
    (40, 3, 4, 2),
]


def assert_equals_the_reference(shape: tuple[int, int, int, int], positions: int, dtype: str) -> None:
    n, p, c, groups = shape
    rng = np.random.default_rng(n * p * c)
    x, gy = (rng.standard_normal((n, p, c)).astype(dtype) for _ in range(2))
    gamma, beta = (rng.uniform(0.5, 2.0, (positions, c)).astype(dtype) for _ in range(2))
    received = to_host(group_norm(*to_device((x, gamma, beta)), groups, 1e-3))
    exact = reference.group_norm(*in_float64((x, gamma, beta)), groups, 1e-3)
    for array, oracle in zip(received, exact, strict=True):
        assert_near(array, oracle, LIMITS[dtype])
    way_back = (gy, x, gamma, *received[1:])
    gradients = to_host(group_norm_backward(*to_device(way_back), groups, 1e-3))
    exact = reference.group_norm_backward(*in_float64(way_back), groups, 1e-3)
    for array, oracle in zip(gradients, exact, strict=True):
        assert_near(array, oracle, LIMITS[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", LAYERS, ids=str)
def test_parameters_of_each_position(shape: tuple[int, int, int, int], dtype: str) -> None:
    assert_equals_the_reference(shape, shape[1], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", STRIPES, ids=str)
def test_parameters_of_all_positions(shape: tuple[int, int, int, int], dtype: str) -> None:
    assert_equals_the_reference(shape, 1, dtype)


@pytest.mark.parametrize(("positions", "groups"), [(1, 2), (1, 8), (1, 1), (60, 1)])
def test_statistics_keep_their_digits_far_from_zero(positions: int, groups: int, rng: np.random.Generator) -> None:
    x = (rng.standard_normal((2, 60, 8)) + 1e4).astype(np.float32)
    gamma, beta = np.ones((positions, 8), np.float32), np.zeros((positions, 8), np.float32)
    y, mean, var = to_host(group_norm(*to_device((x, gamma, beta)), groups, 1e-3))
    exact = reference.group_norm(*in_float64((x, gamma, beta)), groups, 1e-3)
    np.testing.assert_allclose(mean, exact[1], rtol=2e-6)
    np.testing.assert_allclose(var, exact[2], rtol=2e-6)
    assert_near(y, exact[0], 2e-6)  # with a mean rounded to float32 it would be 2e-4


def test_a_nan_spoils_its_group_and_no_other(rng: np.random.Generator) -> None:
    x: Array = rng.standard_normal((2, 40, 6)).astype(np.float32)
    x[1, 33, 2] = np.nan
    y, mean, var = to_host(
        group_norm(*to_device((x, np.ones((1, 6), np.float32), np.ones((1, 6), np.float32))), 3, 1e-3)
    )
    expected = np.array([[False, False, False], [False, True, False]])
    np.testing.assert_array_equal(np.isnan(mean), expected)
    np.testing.assert_array_equal(np.isnan(var), expected)
    np.testing.assert_array_equal(np.isnan(y).all(axis=1), expected.repeat(2, axis=1))
    np.testing.assert_array_equal(np.isnan(y).any(axis=1), expected.repeat(2, axis=1))


@pytest.mark.parametrize(("shape", "positions"), [((3, 0, 4), 1), ((3, 0, 4), 0), ((0, 5, 4), 1), ((0, 1, 4), 1)])
def test_nothing_to_normalize(shape: tuple[int, int, int], positions: int) -> None:
    x, gamma = np.zeros(shape, np.float32), np.ones((positions, 4), np.float32)
    y, mean, var = group_norm(*to_device((x, gamma, gamma)), 2, 1e-3)
    gx, ggamma, gbeta = group_norm_backward(*to_device((x, x, gamma)), mean, var, 2, 1e-3)
    assert y.shape == gx.shape == shape
    assert mean.shape == var.shape == (shape[0], 2)
    for gradient in to_host((ggamma, gbeta)):
        np.testing.assert_array_equal(gradient, np.zeros_like(gamma))


@pytest.mark.parametrize(("shape", "groups"), [((2, 200, 12), 3), ((37, 1, 40), 1), ((3, 1, 1200), 1)])
def test_the_same_bits_in_every_order_of_threads(
    shape: tuple[int, int, int], groups: int, rng: np.random.Generator
) -> None:
    x = to_device(rng.standard_normal(shape).astype(np.float32))
    gamma = to_device(rng.standard_normal((1, shape[-1])).astype(np.float32))
    received = []
    for order in ("forward", "reverse", "random"):
        with thread_order(order):
            y, mean, var = group_norm(x, gamma, gamma, groups, 1e-3)
            gradients = group_norm_backward(y, x, gamma, mean, var, groups, 1e-3)
            received.append([array.tobytes() for array in to_host((y, mean, var, *gradients))])
    assert received[0] == received[1] == received[2]
