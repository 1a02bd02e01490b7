"""F-scores: precision and recall in one number, per class or averaged."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.functional.arguments import check_number, check_positive
from minicnn.metrics.base import Metric, NDArray, full_weights, matched

_EPSILON = 1e-7


class FBetaScore(Metric):
    """(1 + beta**2) * precision * recall / (beta**2 * precision + recall) (van Rijsbergen 1979).

    average: None for one score a class, "macro" for their mean, "weighted" for that by true samples, "micro" for the
    score of all decisions together. beta: how many times recall matters as much as precision.
    threshold: outputs above it are positive decisions; None: the largest output of each sample is.
    Takes y_true, y_pred of shape (n, classes); ValueError for others.
    """

    counts: NDArray | None  # (3, classes): true positives, false positives, false negatives

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = "fbeta_score",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name, dtype)
        if average not in (None, "micro", "macro", "weighted"):
            raise ValueError(
                f"{self.name}: average must be None, 'micro', 'macro' or 'weighted'. Received: {average!r}"
            )
        check_positive(beta, f"{self.name}: beta")
        if threshold is not None:
            check_number(threshold, f"{self.name}: threshold", 0, 1, "(]")
        self.average, self.beta, self.threshold = average, beta, threshold
        self.reset_state()

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        t, y = matched(y_true, y_pred, self.name)
        if y.ndim != 2:
            raise ValueError(f"{self.name}: outputs must have shape (n, classes). Received: shape {y.shape}")
        positive = self._decide(y).astype(np.float64)
        weights = full_weights(sample_weight, y.shape[:1], self.name)
        true = t.astype(np.float64)
        batch = np.stack([weights @ x for x in (true * positive, (1 - true) * positive, true * (1 - positive))])
        self.counts = batch if self.counts is None else self.counts + batch

    def _decide(self, outputs: NDArray) -> NDArray:
        """Positive decisions (n, classes): the largest output, if it is not 0; or all above the threshold."""
        if self.threshold is not None:
            return outputs > self.threshold
        return (outputs >= outputs.max(axis=-1, keepdims=True)) & (np.abs(outputs) > 1e-9)

    def result(self) -> Any:
        if self.counts is None:
            return 0.0
        tp, fp, fn = self.counts.sum(axis=-1, keepdims=True) if self.average == "micro" else self.counts
        precision, recall = tp / (tp + fp + _EPSILON), tp / (tp + fn + _EPSILON)
        squared = self.beta**2
        scores = (1 + squared) * precision * recall / (squared * precision + recall + _EPSILON)
        if self.average is None:
            return scores
        if self.average == "weighted":
            return float((scores * (tp + fn)).sum() / ((tp + fn).sum() + _EPSILON))
        return float(scores.mean())

    def reset_state(self) -> None:
        self.counts = None

    def get_config(self) -> dict[str, Any]:
        own = {"average": self.average, "beta": self.beta, "threshold": self.threshold}
        return super().get_config() | own


class F1Score(FBetaScore):
    """The harmonic mean of precision and recall: FBetaScore with beta = 1."""

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str | None = "f1_score",
        dtype: str | None = None,
    ) -> None:
        super().__init__(average, 1.0, threshold, name, dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["beta"]
        return config
