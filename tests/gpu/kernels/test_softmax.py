"""Softmax and cross-entropy on the device: rows at the edges of a team, extreme logits, labels of both widths."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.kernels import gpu, reference
from tests.gpu.comparing import assert_near, in_float64, to_device, to_host

ROWS_AND_CLASSES = [(1, 31), (9, 32), (8, 33), (3, 1024), (3, 1025), (2, 3001)]
"""A warp's lanes and one more or less, rows that do not fill a block, the last row of a warp, rows of a block."""


@pytest.mark.parametrize(("rows", "classes"), ROWS_AND_CLASSES)
def test_rows_of_all_lengths(rows: int, classes: int, rng: np.random.Generator) -> None:
    x = (5 * rng.standard_normal((rows, classes))).astype(np.float32)
    for name in ("softmax", "log_softmax"):
        received = to_host(getattr(gpu, name)(to_device(x)))
        assert_near(received, getattr(reference, name)(in_float64(x)), 1e-6)


@pytest.mark.parametrize(("rows", "classes"), ROWS_AND_CLASSES)
def test_cross_entropy_and_its_gradient(rows: int, classes: int, rng: np.random.Generator) -> None:
    logits = (5 * rng.standard_normal((rows, classes))).astype(np.float32)
    labels = rng.integers(0, classes, rows)
    gloss = rng.standard_normal(rows).astype(np.float32)
    loss, probabilities = gpu.softmax_cross_entropy(to_device(logits), to_device(labels))
    exact_loss, exact_probabilities = reference.softmax_cross_entropy(in_float64(logits), labels)
    assert_near(to_host(loss), exact_loss, 1e-6)
    assert_near(to_host(probabilities), exact_probabilities, 1e-6)
    gradient = gpu.softmax_cross_entropy_backward(to_device(gloss), probabilities, to_device(labels))
    exact = reference.softmax_cross_entropy_backward(in_float64(gloss), exact_probabilities, labels)
    assert_near(to_host(gradient), exact, 1e-6)


def test_labels_may_be_of_either_width(rng: np.random.Generator) -> None:
    logits = to_device(rng.standard_normal((5, 7)))
    labels = rng.integers(0, 7, 5)
    of_64, _ = gpu.softmax_cross_entropy(logits, to_device(labels.astype(np.int64)))
    of_32, _ = gpu.softmax_cross_entropy(logits, to_device(labels.astype(np.int32)))
    np.testing.assert_array_equal(to_host(of_64), to_host(of_32))


def test_large_logits_neither_overflow_nor_lose_a_class_of_no_weight() -> None:
    logits = np.array([[1e4, 0.0, -1e4], [-3e38, 3e38, 0.0]], np.float32)
    targets = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], np.float32)
    loss, probabilities = gpu.softmax_cross_entropy(to_device(logits), to_device(targets))
    np.testing.assert_array_equal(to_host(loss), [0, 0])
    np.testing.assert_array_equal(to_host(probabilities), targets)


def test_a_nan_spoils_its_row_and_no_other() -> None:
    x = np.zeros((3, 40), np.float32)
    x[1, 37] = np.nan
    received = to_host(gpu.softmax(to_device(x)))
    np.testing.assert_array_equal(np.isnan(received).all(axis=1), [False, True, False])
    assert not np.isnan(received[[0, 2]]).any()
