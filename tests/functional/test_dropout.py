"""Dropout: how much falls, that backward drops the same, what repeats, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn.autograd import grad
from minicnn.random import Generator
from minicnn.tensor import Tensor
from tests import loops

X = Tensor(np.arange(1.0, 41).reshape(5, 8))


def test_what_is_kept_is_scaled_and_the_rest_is_zero() -> None:
    y = F.dropout(X, 0.2, seed=3).numpy()
    kept = y != 0
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(y[kept], X.numpy()[kept] / 0.8, rtol=1e-15)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.75])
def test_the_fraction_dropped_is_the_rate_and_the_mean_stays(rate: float) -> None:
    n = 200_000
    y = F.dropout(Tensor(np.ones(n)), rate, seed=1).numpy()
    five_sigma = 5 * math.sqrt(rate * (1 - rate) / n)
    assert abs((y == 0).mean() - rate) < five_sigma
    assert abs(y.mean() - 1) < five_sigma / (1 - rate)


def test_the_mask_is_that_of_the_philox_stream() -> None:
    want, _ = loops.dropout(X.numpy(), 0.4, seed=7, stream=1)
    np.testing.assert_array_equal(F.dropout(X, 0.4, seed=7).numpy() == 0, want == 0)


def test_backward_drops_exactly_what_forward_dropped(rng: np.random.Generator) -> None:
    x = Tensor(rng.standard_normal((6, 5, 7)), requires_grad=True)
    y = F.dropout(x, 0.3, seed=2)
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    kept = y.numpy() != 0
    np.testing.assert_array_equal(x.grad.numpy(), np.where(kept, gy * (1 / 0.7), 0))


def test_the_gradient_of_the_gradient_drops_the_same_again(rng: np.random.Generator) -> None:
    x = Tensor(rng.standard_normal(50), requires_grad=True)
    gy = Tensor(rng.standard_normal(50), requires_grad=True)
    y = F.dropout(x, 0.5, seed=2)
    (gx,) = grad(y, x, gy, create_graph=True)
    (ggy,) = grad(gx, gy, np.ones(50))
    np.testing.assert_array_equal(ggy.numpy(), np.where(y.numpy() != 0, 2.0, 0.0))


def test_one_seed_gives_one_mask_and_a_generator_a_new_one_each_call() -> None:
    np.testing.assert_array_equal(F.dropout(X, seed=5).numpy(), F.dropout(X, seed=5).numpy())
    generator = Generator(5)
    first, second = F.dropout(X, seed=generator).numpy(), F.dropout(X, seed=generator).numpy()
    np.testing.assert_array_equal(first, F.dropout(X, seed=5).numpy())
    assert (first != second).any()


def test_manual_seed_repeats_the_masks_that_follow() -> None:
    runs = []
    for _ in range(2):
        minicnn.manual_seed(11)
        runs.append([F.dropout(X).numpy(), F.dropout(X).numpy()])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0][0] != runs[0][1]).any()


@pytest.mark.parametrize("options", [{"training": False}, {"rate": 0.0}])
@pytest.mark.parametrize("function", [F.dropout, F.spatial_dropout2d])
def test_outside_of_training_and_at_rate_0_nothing_falls_and_no_stream_is_used(
    function: Any, options: dict[str, Any]
) -> None:
    x, generator = X.reshape(1, 5, 4, 2), Generator(5)
    np.testing.assert_array_equal(function(x, **options, seed=generator).numpy(), x.numpy())
    assert generator.get_state() == (5, 0)


def test_spatial_dropout_keeps_or_drops_whole_maps() -> None:
    x = Tensor(np.arange(1.0, 481).reshape(4, 3, 5, 8), requires_grad=True)
    y = F.spatial_dropout2d(x, 0.4, seed=3)
    y.backward(np.ones(y.shape))
    maps = y.numpy().transpose(0, 3, 1, 2).reshape(32, 15)
    dropped = (maps == 0).all(axis=1)
    assert 0 < dropped.sum() < 32
    want = x.numpy().transpose(0, 3, 1, 2).reshape(32, 15) / 0.6
    np.testing.assert_allclose(maps, np.where(dropped[:, None], 0, want), rtol=1e-15)
    np.testing.assert_array_equal(x.grad.numpy() == 0, y.numpy() == 0)


@pytest.mark.parametrize("rate", [1, -0.1, math.nan, "0.5", True, None])
def test_a_rate_outside_of_0_to_1_is_refused(rate: Any) -> None:
    with pytest.raises(ValueError, match=r"dropout: rate must be a number in \[0, 1\). Received: "):
        F.dropout(X, rate)


def test_dropout_refuses_integers_and_spatial_dropout_other_ranks() -> None:
    with pytest.raises(TypeError, match=r"dropout: x must be float32 or float64.*Received: int64"):
        F.dropout(X.long())
    with pytest.raises(ValueError, match=r"spatial_dropout2d: x must have four axes .*Received: shape \(5, 8\)"):
        F.spatial_dropout2d(X)
