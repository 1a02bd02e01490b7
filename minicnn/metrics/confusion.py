"""Counts of right and wrong decisions, and what is made of them: precision, recall, the confusion matrix.

Glossary  T thresholds. A score above a threshold is a positive decision. Counts come as (4, T): true positives, false
          positives, true negatives, false negatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicnn.functional.arguments import check_integer, check_number
from minicnn.metrics.base import Metric, NDArray, aligned_weights, as_array, full_weights, matched


def divide_no_nan(a: Any, b: Any) -> NDArray:
    """a / b, 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b))), where=np.asarray(b) != 0)


def count_decisions(labels: NDArray, scores: NDArray, weights: NDArray, thresholds: NDArray) -> NDArray:
    """Weighted counts (4, T) of decisions on scores (M,), bool labels (M,), weights (M,), thresholds (T,)."""
    positive, missed = _split(scores[labels], weights[labels], thresholds)
    alarm, negative = _split(scores[~labels], weights[~labels], thresholds)
    return np.stack([positive, alarm, negative, missed])


def _split(scores: NDArray, weights: NDArray, thresholds: NDArray) -> tuple[NDArray, NDArray]:
    """Total weight of the scores above each threshold, and of the rest (NaN too): (T,) each."""
    order = np.argsort(thresholds)
    scores = np.where(np.isnan(scores), -np.inf, scores)
    passed = np.searchsorted(thresholds[order].astype(scores.dtype), scores)  # how many thresholds a score is above
    by_passed = np.bincount(passed, weights, minlength=len(thresholds) + 1)
    above, rest = np.empty(len(thresholds)), np.empty(len(thresholds))
    above[order] = by_passed[::-1].cumsum()[::-1][1:]
    rest[order] = by_passed.cumsum()[:-1]
    return above, rest


def only_top_k(scores: NDArray, k: int) -> NDArray:
    """Scores (..., C) with all but the k largest of each row at -inf."""
    kept = np.full(scores.shape, -np.inf, scores.dtype)
    best = np.argsort(-scores, axis=-1, kind="stable")[..., :k]
    np.put_along_axis(kept, best, np.take_along_axis(scores, best, axis=-1), axis=-1)
    return kept


def weighted_scores(y_true: Any, y_pred: Any, sample_weight: Any, caller: str) -> tuple[NDArray, NDArray, NDArray]:
    """Bool labels, floating scores and weights, all of y_pred's shape."""
    labels, scores = matched(y_true, y_pred, caller)
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)
    return labels.astype(bool), scores, full_weights(sample_weight, scores.shape, caller)


class ThresholdMetric(Metric):
    """Base of the metrics made of counts: subclasses turn the four counts of each threshold into their measure.

    thresholds: a number, or several, in [0, 1]; the result has one value for each. Default 0.5; with top_k none.
    top_k: a decision is positive where the output is among the k largest of its sample.
    class_id: count only decisions about this class.
    """

    def __init__(
        self,
        thresholds: float | Sequence[float] | None = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(name, dtype)
        if top_k is not None:
            check_integer(top_k, f"{self.name}: top_k")
        if class_id is not None:
            check_integer(class_id, f"{self.name}: class_id", at_least=0)
        self.init_thresholds, self.top_k, self.class_id = thresholds, top_k, class_id
        default = 0.5 if top_k is None else -np.inf
        self.thresholds = np.atleast_1d(np.asarray(default if thresholds is None else thresholds, np.float64))
        for threshold in [] if thresholds is None else self.thresholds:
            check_number(threshold, f"{self.name}: each threshold", 0, 1)
        self.reset_state()

    def measure(self, tp: NDArray, fp: NDArray, tn: NDArray, fn: NDArray) -> NDArray:
        """The metric for counts (T,) of true and false positives, true and false negatives."""
        raise TypeError(f"{type(self).__name__} must define measure(self, tp, fp, tn, fn).")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        labels, scores, weights = weighted_scores(y_true, y_pred, sample_weight, self.name)
        if self.top_k is not None:
            scores = only_top_k(scores, self.top_k)
        if self.class_id is not None:
            labels, scores, weights = (self._of_class(array) for array in (labels, scores, weights))
        self.counts += count_decisions(labels.ravel(), scores.ravel(), weights.ravel(), self.thresholds)

    def _of_class(self, array: NDArray) -> NDArray:
        if array.ndim < 2 or array.shape[-1] <= (self.class_id or 0):
            raise ValueError(
                f"{self.name}: class_id={self.class_id} needs outputs of shape (n, classes) with more classes than "
                f"that. Received: shape {array.shape}"
            )
        return array[..., self.class_id]

    def result(self) -> Any:
        values = self.measure(*self.counts)
        return float(values[0]) if len(values) == 1 else values

    def reset_state(self) -> None:
        self.counts = np.zeros((4, len(self.thresholds)))

    def get_config(self) -> dict[str, Any]:
        own = {"thresholds": self.init_thresholds, "top_k": self.top_k, "class_id": self.class_id}
        return super().get_config() | own


class Precision(ThresholdMetric):
    """How many of the positive decisions are right: tp / (tp + fp), 0 where there are none."""

    def measure(self, tp: NDArray, fp: NDArray, tn: NDArray, fn: NDArray) -> NDArray:
        return divide_no_nan(tp, tp + fp)


class Recall(ThresholdMetric):
    """How many of the positive labels are found: tp / (tp + fn), 0 where there are none."""

    def measure(self, tp: NDArray, fp: NDArray, tn: NDArray, fn: NDArray) -> NDArray:
        return divide_no_nan(tp, tp + fn)


class _Count(ThresholdMetric):
    """One of the four counts itself."""

    row: int

    def __init__(
        self, thresholds: float | Sequence[float] | None = None, name: str | None = None, dtype: str | None = None
    ) -> None:
        super().__init__(thresholds, name=name, dtype=dtype)

    def measure(self, *counts: NDArray) -> NDArray:
        return counts[self.row].copy()

    def get_config(self) -> dict[str, Any]:
        return Metric.get_config(self) | {"thresholds": self.init_thresholds}


class TruePositives(_Count):
    """Positive labels that are found."""

    row = 0


class FalsePositives(_Count):
    """Negative labels that are taken for positive."""

    row = 1


class TrueNegatives(_Count):
    """Negative labels that are recognized."""

    row = 2


class FalseNegatives(_Count):
    """Positive labels that are missed."""

    row = 3


class ConfusionMatrix(Metric):
    """How often samples of each class (row) were taken for each class (column): (num_classes, num_classes).

    y_true: integer labels (n,) or (n, 1), or one-hot. y_pred: outputs (n, num_classes), labels, or, of two classes, one
    probability. Whole numbers of samples; with sample weights, sums of weights.
    """

    matrix: NDArray

    def __init__(self, num_classes: int, name: str | None = None, dtype: str | None = None) -> None:
        super().__init__(name, dtype)
        check_integer(num_classes, f"{self.name}: num_classes", at_least=2)
        self.num_classes = num_classes
        self.reset_state()

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        rows, columns = matched(self._labels(y_true, "y_true"), self._labels(y_pred, "y_pred"), self.name)
        weights = None if sample_weight is None else aligned_weights(sample_weight, rows.shape, self.name).ravel()
        cells = np.bincount(rows * self.num_classes + columns, weights, minlength=self.num_classes**2)
        self.matrix = self.matrix + cells.reshape(self.num_classes, self.num_classes)

    def _labels(self, values: Any, argument: str) -> NDArray:
        """Labels (M,): the largest of each row of outputs, a probability above 0.5, or labels as they are."""
        array = as_array(values)
        if array.ndim > 1 and array.shape[-1] == self.num_classes:
            return array.argmax(axis=-1).ravel()
        array = array.ravel()
        if self.num_classes == 2 and array.dtype.kind == "f":
            array = array > 0.5
        labels = array.astype(np.int64)
        wrong = (labels < 0) | (labels >= self.num_classes) | (labels != array)
        if wrong.any():
            raise ValueError(
                f"{self.name}: {argument} must hold labels from 0 to {self.num_classes - 1}, or {self.num_classes} "
                f"columns. Received: {array[wrong][0]}, in an array of shape {as_array(values).shape}"
            )
        return labels

    def result(self) -> NDArray:
        return self.matrix.copy()

    def reset_state(self) -> None:
        self.matrix = np.zeros((self.num_classes, self.num_classes), np.int64)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"num_classes": self.num_classes}
