"""The accuracy family, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn import metrics

OUTPUTS = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3], [0.2, 0.3, 0.5], [0.4, 0.35, 0.25]])
LABELS = np.array([1, 0, 0, 2])  # right, right, third best, third best
ONE_HOT = np.eye(3)[LABELS]


def test_accuracy_compares_labels() -> None:
    assert metrics.Accuracy()([1, 2, 3, 4], [1, 2, 0, 4]) == pytest.approx(0.75)


def test_binary_accuracy_counts_every_output_against_the_threshold() -> None:
    y_true, y_pred = [[1, 0], [1, 1]], [[0.6, 0.4], [0.5, 0.7]]  # 0.5 is not above 0.5
    assert metrics.BinaryAccuracy()(y_true, y_pred) == pytest.approx(0.75)
    assert metrics.BinaryAccuracy(threshold=0.3)(y_true, y_pred) == pytest.approx(0.75)
    assert metrics.BinaryAccuracy(threshold=0.45)(y_true, y_pred) == pytest.approx(1.0)
    assert metrics.BinaryAccuracy()([1, 0], [[0.9], [0.8]]) == pytest.approx(0.5)


def test_categorical_accuracy_compares_the_largest_output_with_the_label() -> None:
    assert metrics.CategoricalAccuracy()(ONE_HOT, OUTPUTS) == pytest.approx(0.5)
    assert metrics.SparseCategoricalAccuracy()(LABELS, OUTPUTS) == pytest.approx(0.5)
    assert metrics.SparseCategoricalAccuracy()(LABELS[:, None], OUTPUTS) == pytest.approx(0.5)


def test_weights_count_samples_more_or_not_at_all() -> None:
    weights = [3.0, 0.0, 1.0, 0.0]
    assert metrics.SparseCategoricalAccuracy()(LABELS, OUTPUTS, weights) == pytest.approx(0.75)


def test_every_pixel_of_a_label_picture_counts() -> None:
    pictures = np.stack([OUTPUTS, OUTPUTS])  # (2, 4, 3)
    labels = np.stack([LABELS, [0, 0, 0, 0]])
    assert metrics.SparseCategoricalAccuracy()(labels, pictures) == pytest.approx((2 + 2) / 8)
    assert metrics.SparseCategoricalAccuracy()(labels[..., None], pictures) == pytest.approx((2 + 2) / 8)


def test_top_k_counts_a_label_among_the_k_largest() -> None:
    for k, expected in [(1, 0.5), (2, 0.5), (3, 1.0), (9, 1.0)]:
        assert metrics.TopKCategoricalAccuracy(k)(ONE_HOT, OUTPUTS) == pytest.approx(expected)
        assert metrics.SparseTopKCategoricalAccuracy(k)(LABELS, OUTPUTS) == pytest.approx(expected)


def test_top_k_takes_equals_in_and_nan_not() -> None:
    assert metrics.SparseTopKCategoricalAccuracy(1)([2], [[0.4, 0.2, 0.4]]) == 1.0
    assert metrics.SparseTopKCategoricalAccuracy(1)([1], [[0.4, np.nan, 0.4]]) == 0.0


def test_labels_of_the_other_kind_are_pointed_out() -> None:
    with pytest.raises(ValueError, match="'sparse_categorical_accuracy'"):
        metrics.CategoricalAccuracy()(LABELS, OUTPUTS)
    with pytest.raises(ValueError, match="'categorical_accuracy'"):
        metrics.SparseCategoricalAccuracy()(ONE_HOT, OUTPUTS)
    with pytest.raises(ValueError, match="from 0 to 2"):
        metrics.SparseTopKCategoricalAccuracy(1)([3, 0, 0, 0], OUTPUTS)


def test_options_that_make_no_sense_are_refused() -> None:
    for make in (
        lambda: metrics.TopKCategoricalAccuracy(0),
        lambda: metrics.SparseTopKCategoricalAccuracy(1.5),
        lambda: metrics.BinaryAccuracy(threshold=np.nan),
    ):
        with pytest.raises(ValueError, match="Received"):
            make()
