"""Softmax on vectors: rows of any length, numbers of any size, one task and many."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from minicnn.kernels import reference
from minicnn.kernels.contract import Array
from minicnn.kernels.cpu.softmax import (
    log_softmax,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)
from tests.kernels.cpu.comparing import assert_close, assert_same_bits_on_any_number_of_threads, normal

SHAPES = [(1, 1), (5, 10), (128, 47), (3, 16), (2, 129), (700, 33), (2, 20011)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def logits_of(shape: tuple[int, int]) -> Array:
    return 5 * normal(*shape) + 100


@shapes
def test_rows_are_the_references(shape: tuple[int, int]) -> None:
    x = logits_of(shape)
    assert_close(softmax(x), reference.softmax(x.astype("float64")), 2e-6)
    assert_close(log_softmax(x), reference.log_softmax(x.astype("float64")), 2e-6)


@shapes
@pytest.mark.parametrize("kind", ["classes", "probabilities"])
def test_cross_entropy_and_its_gradient_are_the_references(shape: tuple[int, int], kind: str) -> None:
    x, gloss = logits_of(shape), normal(shape[0], seed=2)
    targets: Array = np.random.default_rng(1).integers(0, shape[1], shape[0]).astype(np.int32)
    wide = targets
    if kind == "probabilities":
        targets = reference.softmax(normal(*shape, seed=3))
        wide = targets.astype("float64")
    loss, p = softmax_cross_entropy(x, targets)
    exact_loss, exact_p = reference.softmax_cross_entropy(x.astype("float64"), wide)
    assert_close([loss, p], [exact_loss, exact_p], 2e-6)
    gradient = softmax_cross_entropy_backward(gloss, p, targets)
    assert_close(gradient, reference.softmax_cross_entropy_backward(gloss.astype("float64"), exact_p, wide), 3e-6)


def test_nan_and_infinite_logits_spread_over_their_rows_only() -> None:
    x = np.array([[np.nan, 1, 2], [np.inf, 1, 2], [-np.inf, 1, 2], [-np.inf] * 3, [3e38, -3e38, 0]], np.float32)
    for ours, theirs in ((softmax, reference.softmax), (log_softmax, reference.log_softmax)):
        with np.errstate(invalid="ignore", over="ignore"):
            expected = theirs(x)
        np.testing.assert_allclose(ours(x), expected, rtol=1e-6)
    long = normal(2, 333)
    long[0, 320] = np.nan
    np.testing.assert_array_equal(np.isnan(softmax(long)).all(axis=1), [True, False])


def test_a_class_that_is_not_wanted_may_be_impossible() -> None:
    loss, _ = softmax_cross_entropy(np.array([[-np.inf, 0, 1]], np.float32), np.array([[0, 0.5, 0.5]], np.float32))
    assert loss[0] == pytest.approx(np.log(1 + np.e) - 0.5)


def test_many_rows_are_the_same_bits_on_any_number_of_threads() -> None:
    x, targets = logits_of((700, 47)), np.arange(700) % 47
    assert_same_bits_on_any_number_of_threads(lambda: softmax_cross_entropy(x, targets))
