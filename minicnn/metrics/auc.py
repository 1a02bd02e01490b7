"""AUC: the area under a curve that a threshold draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicnn.functional.arguments import check_choice, check_integer, check_number
from minicnn.metrics.base import Metric, NDArray, as_array
from minicnn.metrics.confusion import count_decisions, divide_no_nan, weighted_scores

_EPSILON = 1e-7


class AUC(Metric):
    """Area under the ROC curve (recall over false alarms) or the PR curve (precision over recall), by Riemann sums.

    num_thresholds: how many points of the curve are computed, evenly spaced; or give the inner ones as `thresholds`.
    curve: "ROC" or "PR". summation_method: "interpolation" joins the points (PR: as Davis and Goadrich 2006),
    "minoring" and "majoring" bound the area from below and above.
    multi_label: one area a column of y_pred, averaged; else all outputs are one set of decisions.
    label_weights: one weight a column. from_logits: y_pred has not been through a sigmoid.
    """

    counts: NDArray | None  # (4, T), with multi_label (4, T, labels)

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: str | None = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Sequence[float] | None = None,
        from_logits: bool = False,
    ) -> None:
        super().__init__(name, dtype)
        check_choice(str(curve).upper(), ("ROC", "PR"), f"{self.name}: curve")
        check_choice(str(summation_method).lower(), ("interpolation", "minoring", "majoring"), "summation_method")
        if thresholds is None:
            check_integer(num_thresholds, f"{self.name}: num_thresholds", at_least=2)
            inner = np.arange(1, num_thresholds - 1) / (num_thresholds - 1)
        else:
            for threshold in thresholds:
                check_number(threshold, f"{self.name}: each threshold", 0, 1)
            inner = np.sort(np.asarray(thresholds, np.float64))
        self.thresholds = np.array([-_EPSILON, *inner, 1 + _EPSILON])  # all decisions positive, and none
        self.given_thresholds = thresholds
        self.curve, self.summation_method = str(curve).upper(), str(summation_method).lower()
        self.multi_label, self.num_labels, self.from_logits = multi_label, num_labels, from_logits
        self.label_weights = None if label_weights is None else np.asarray(label_weights, np.float64)
        self.reset_state()

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        labels, scores, weights = weighted_scores(y_true, y_pred, sample_weight, self.name)
        if self.from_logits:
            scores = 0.5 * (1 + np.tanh(0.5 * scores))  # the sigmoid, without overflow
        scores = scores.clip(0, 1)
        self._check_labels(scores.shape)
        if self.multi_label:
            columns = zip(labels.T, scores.T, weights.T, strict=True)
            counts = np.stack([count_decisions(*column, self.thresholds) for column in columns], axis=-1)
        else:
            if self.label_weights is not None:
                weights = weights * self.label_weights
            counts = count_decisions(labels.ravel(), scores.ravel(), weights.ravel(), self.thresholds)
        self.counts = counts if self.counts is None else self.counts + counts

    def _check_labels(self, shape: tuple[int, ...]) -> None:
        columns = shape[-1] if len(shape) == 2 else None
        weighted = None if self.label_weights is None else len(self.label_weights)
        if self.multi_label and columns is None:
            raise ValueError(f"{self.name}: multi_label=True needs y_pred of shape (n, labels). Received: {shape}")
        if any(expected not in (None, columns) for expected in (self.num_labels, weighted)):
            raise ValueError(
                f"{self.name}: y_pred must have as many columns as num_labels and label_weights say. Received: shape "
                f"{shape}, num_labels={self.num_labels}, {weighted} label_weights"
            )

    def result(self) -> float:
        if self.counts is None:
            return 0.0
        pieces = self._pieces(*self.counts)  # (T - 1,) or (T - 1, labels)
        areas = pieces.sum(axis=0)
        if not self.multi_label:
            return float(areas)
        return float(np.average(areas, weights=self.label_weights))

    def _pieces(self, tp: NDArray, fp: NDArray, tn: NDArray, fn: NDArray) -> NDArray:
        """Area between neighbouring thresholds."""
        recall = divide_no_nan(tp, tp + fn)
        if self.curve == "PR" and self.summation_method == "interpolation":
            return _interpolated_pr(tp, fp, fn)
        x = recall if self.curve == "PR" else divide_no_nan(fp, fp + tn)
        y = divide_no_nan(tp, tp + fp) if self.curve == "PR" else recall
        heights = {"interpolation": (y[:-1] + y[1:]) / 2, "minoring": np.minimum(y[:-1], y[1:])}
        return (x[:-1] - x[1:]) * heights.get(self.summation_method, np.maximum(y[:-1], y[1:]))

    def reset_state(self) -> None:
        self.counts = None

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {
            "num_thresholds": len(self.thresholds),
            "curve": self.curve,
            "summation_method": self.summation_method,
            "multi_label": self.multi_label,
            "num_labels": self.num_labels,
            "label_weights": None if self.label_weights is None else self.label_weights.tolist(),
            "from_logits": self.from_logits,
        }
        inner = {} if self.given_thresholds is None else {"thresholds": as_array(self.given_thresholds).tolist()}
        return config | inner


def _interpolated_pr(tp: NDArray, fp: NDArray, fn: NDArray) -> NDArray:
    """Area under the PR curve between neighbours, true positives growing linearly with positives (Davis and Goadrich).

    With p = tp + fp, slope = dtp / dp and intercept = tp - slope * p, precision is slope + intercept / p, and its
    integral over recall is slope * (dtp + intercept * log(p_before / p_after)) / (tp + fn).
    """
    p = tp + fp
    slope = divide_no_nan(tp[:-1] - tp[1:], p[:-1] - p[1:])
    intercept = tp[1:] - slope * p[1:]
    ratio = np.where((p[:-1] > 0) & (p[1:] > 0), divide_no_nan(p[:-1], p[1:]), 1.0)
    return divide_no_nan(slope * (tp[:-1] - tp[1:] + intercept * np.log(ratio)), (tp + fn)[1:])
