"""Metrics, under Keras' names; `resolve` chooses what "accuracy" means for a model's output."""

from __future__ import annotations

from typing import Any

from minicnn import losses
from minicnn.metrics.accuracy import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from minicnn.metrics.auc import AUC
from minicnn.metrics.base import FunctionMetric, Mean, MeanMetricWrapper, Metric
from minicnn.metrics.confusion import (
    ConfusionMatrix,
    FalseNegatives,
    FalsePositives,
    Precision,
    Recall,
    TrueNegatives,
    TruePositives,
)
from minicnn.metrics.errors import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    KLDivergence,
    LogCoshError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    RootMeanSquaredError,
    SparseCategoricalCrossentropy,
    SquaredHinge,
)
from minicnn.metrics.fscore import F1Score, FBetaScore
from minicnn.registry import Registry

_MEMBERS: tuple[type[Metric], ...] = (
    AUC,
    Accuracy,
    BinaryAccuracy,
    BinaryCrossentropy,
    CategoricalAccuracy,
    CategoricalCrossentropy,
    CategoricalHinge,
    ConfusionMatrix,
    CosineSimilarity,
    F1Score,
    FBetaScore,
    FalseNegatives,
    FalsePositives,
    Hinge,
    KLDivergence,
    LogCoshError,
    Mean,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    Precision,
    Recall,
    RootMeanSquaredError,
    SparseCategoricalAccuracy,
    SparseCategoricalCrossentropy,
    SparseTopKCategoricalAccuracy,
    SquaredHinge,
    TopKCategoricalAccuracy,
    TrueNegatives,
    TruePositives,
)
_ALIASES: dict[str, type[Metric]] = {
    "bce": BinaryCrossentropy,
    "logcosh": LogCoshError,
    "mae": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError,
    "mse": MeanSquaredError,
    "msle": MeanSquaredLogarithmicError,
    "rmse": RootMeanSquaredError,
}
_ALIASES |= {name.upper(): metric for name, metric in _ALIASES.items() if len(name) <= 4}
_registry = Registry("metric", "keras.metrics", _MEMBERS, _ALIASES)


def get(identifier: Any) -> Metric | None:
    """The metric for a name ("auc", "mse"), a config dict, a class, an instance or a function; None for None.

    A function of y_true and y_pred becomes the mean of its values.
    Raises ValueError for an unknown name, with a suggestion; TypeError for what is no metric.
    """
    if isinstance(identifier, str) and identifier.lower() == "confusion_matrix":
        raise ValueError("pass minicnn.metrics.ConfusionMatrix(num_classes=...): the name alone does not say how many.")
    found = _registry.get(identifier)
    return found if found is None or isinstance(found, Metric) else MeanMetricWrapper(found)


def resolve(identifier: Any, loss: Any, y_true_shape: tuple[int, ...], y_pred_shape: tuple[int, ...]) -> Metric:
    """The metric for what stands in `compile(metrics=[...])`, for labels and outputs of these shapes.

    "accuracy" and "acc" become BinaryAccuracy, SparseCategoricalAccuracy or CategoricalAccuracy: by the shapes as in
    Keras 3, and BinaryAccuracy for all outputs under a binary cross-entropy (Keras 3 takes the largest output there).
    A metric given by its name is logged under that very name.
    loss: the output's loss, in any form that `losses.get` takes.

    Raises ValueError for an unknown name and for None.
    """
    if isinstance(identifier, str) and identifier.lower() in ("accuracy", "acc"):
        return _accuracy_for(loss, tuple(y_true_shape), tuple(y_pred_shape))(name=identifier)
    metric = get(identifier)
    if metric is None:
        raise ValueError("metrics must be names, functions or Metric objects. Received: None")
    if isinstance(identifier, str):
        metric.name = identifier
    return metric


def _accuracy_for(loss: Any, y_true_shape: tuple[int, ...], y_pred_shape: tuple[int, ...]) -> type[FunctionMetric]:
    classes = y_pred_shape[-1] if len(y_pred_shape) > 1 else 1
    if classes == 1:
        return BinaryAccuracy
    if len(y_true_shape) < len(y_pred_shape) or y_true_shape[-1] == 1:
        return SparseCategoricalAccuracy
    return BinaryAccuracy if isinstance(losses.get(loss), losses.BinaryCrossentropy) else CategoricalAccuracy


def serialize(metric: Any) -> Any:
    """The metric, in any form that `get` takes, as plain data: as Keras writes it.

    Raises TypeError for a plain function.
    """
    return _registry.serialize(get(metric))


def deserialize(config: dict[str, Any]) -> Any:
    """The metric that `serialize`, or Keras, wrote down."""
    return _registry.deserialize(config)


__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "ConfusionMatrix",
    "CosineSimilarity",
    "F1Score",
    "FBetaScore",
    "FalseNegatives",
    "FalsePositives",
    "FunctionMetric",
    "Hinge",
    "KLDivergence",
    "LogCoshError",
    "Mean",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanMetricWrapper",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Metric",
    "Poisson",
    "Precision",
    "Recall",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "SquaredHinge",
    "TopKCategoricalAccuracy",
    "TrueNegatives",
    "TruePositives",
    "binary_accuracy",
    "categorical_accuracy",
    "deserialize",
    "get",
    "resolve",
    "serialize",
    "sparse_categorical_accuracy",
    "sparse_top_k_categorical_accuracy",
    "top_k_categorical_accuracy",
]
