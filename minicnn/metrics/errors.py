"""Losses as metrics: their mean over the samples of an epoch, without reduction by batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.losses import functions
from minicnn.metrics.base import FunctionMetric, Mean, NDArray, as_array, full_weights, matched

# --------------------------------------------------------------------------------------------------- regression


class MeanSquaredError(FunctionMetric):
    """Mean of (y_true - y_pred)**2."""

    function = staticmethod(functions.mean_squared_error)


class RootMeanSquaredError(Mean):
    """Square root of the mean of (y_true - y_pred)**2."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        t, y = matched(y_true, y_pred, self.name)
        super().update_state((y.astype(np.float64) - t) ** 2, sample_weight)

    def result(self) -> float:
        return float(np.sqrt(super().result()))


class MeanAbsoluteError(FunctionMetric):
    """Mean of |y_true - y_pred|."""

    function = staticmethod(functions.mean_absolute_error)


class MeanAbsolutePercentageError(FunctionMetric):
    """Mean of 100 * |y_true - y_pred| / |y_true|."""

    function = staticmethod(functions.mean_absolute_percentage_error)


class MeanSquaredLogarithmicError(FunctionMetric):
    """Mean of (log(1 + y_true) - log(1 + y_pred))**2."""

    function = staticmethod(functions.mean_squared_logarithmic_error)


class LogCoshError(FunctionMetric):
    """Mean of log(cosh(y_pred - y_true))."""

    function = staticmethod(functions.log_cosh)

    def __init__(self, name: str | None = "logcosh", dtype: str | None = None) -> None:
        super().__init__(name, dtype)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> NDArray:
    """Cosine of the angle between the vectors along an axis: 1 is the same direction (the loss has -1)."""
    return -as_array(functions.cosine_similarity(y_true, y_pred, axis))


class CosineSimilarity(FunctionMetric):
    """Mean cosine of the angle between y_true and y_pred: 1 is the same direction (the loss has -1)."""

    function = staticmethod(cosine_similarity)

    def __init__(self, name: str | None = None, dtype: str | None = None, axis: int = -1) -> None:
        super().__init__(name, dtype, axis=axis)


# --------------------------------------------------------------------------------------------------- classification


class CategoricalCrossentropy(FunctionMetric):
    """Cross-entropy for one-hot labels; options as the loss of that name."""

    function = staticmethod(functions.categorical_crossentropy)

    def __init__(
        self,
        name: str | None = None,
        dtype: str | None = None,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
    ) -> None:
        super().__init__(name, dtype, from_logits=from_logits, label_smoothing=label_smoothing, axis=axis)


class SparseCategoricalCrossentropy(FunctionMetric):
    """Cross-entropy for integer labels; options as the loss of that name.

    Samples of ignore_class do not count (in Keras 3 they count as 0 where there are no sample weights).
    """

    function = staticmethod(functions.sparse_categorical_crossentropy)

    def __init__(
        self,
        name: str | None = None,
        dtype: str | None = None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ) -> None:
        super().__init__(name, dtype, from_logits=from_logits, ignore_class=ignore_class, axis=axis)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        if self.options["ignore_class"] is not None:
            counts = as_array(y_true) != self.options["ignore_class"]
            sample_weight = counts * full_weights(sample_weight, counts.shape, self.name)
        super().update_state(y_true, y_pred, sample_weight)


class BinaryCrossentropy(FunctionMetric):
    """Cross-entropy of yes-or-no outputs; options as the loss of that name."""

    function = staticmethod(functions.binary_crossentropy)

    def __init__(
        self,
        name: str | None = None,
        dtype: str | None = None,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(name, dtype, from_logits=from_logits, label_smoothing=label_smoothing)


class KLDivergence(FunctionMetric):
    """Mean distance of predicted from true distributions."""

    function = staticmethod(functions.kl_divergence)


class Poisson(FunctionMetric):
    """Mean of y_pred - y_true * log(y_pred)."""

    function = staticmethod(functions.poisson)


class Hinge(FunctionMetric):
    """Mean of max(1 - y_true * y_pred, 0)."""

    function = staticmethod(functions.hinge)


class SquaredHinge(FunctionMetric):
    """Mean of max(1 - y_true * y_pred, 0)**2."""

    function = staticmethod(functions.squared_hinge)


class CategoricalHinge(FunctionMetric):
    """Mean of max(best wrong output - right output + 1, 0)."""

    function = staticmethod(functions.categorical_hinge)
