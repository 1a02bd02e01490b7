"""The accuracy family: how often a prediction is right. Functions give 1 or 0 a sample, classes their mean."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.functional.arguments import check_integer, check_number
from minicnn.metrics.base import FunctionMetric, NDArray, as_array, matched


def accuracy(y_true: Any, y_pred: Any) -> NDArray:
    """Whether predicted labels equal the true ones, elementwise."""
    t, y = matched(y_true, y_pred, "accuracy")
    return (t == y).astype(np.float64)


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> NDArray:
    """Whether outputs are above the threshold where the label is 1, and not where it is 0, elementwise."""
    t, y = matched(y_true, y_pred, "binary_accuracy")
    return (t == (y > threshold)).astype(np.float64)


def categorical_accuracy(y_true: Any, y_pred: Any) -> NDArray:
    """Whether the largest output is that of the true class; one-hot labels and outputs (..., C) -> (...)."""
    t, y = _one_hot_pair(y_true, y_pred, "categorical_accuracy")
    return (t.argmax(axis=-1) == y.argmax(axis=-1)).astype(np.float64)


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> NDArray:
    """Whether the largest output is that of the true class; labels (...) or (..., 1), outputs (..., C) -> (...)."""
    labels, y = _sparse_pair(y_true, y_pred, "sparse_categorical_accuracy")
    return (labels == y.argmax(axis=-1)).astype(np.float64)


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> NDArray:
    """Whether the true class is among the k largest outputs; one-hot labels and outputs (..., C) -> (...)."""
    t, y = _one_hot_pair(y_true, y_pred, "top_k_categorical_accuracy")
    return _in_top_k(t.argmax(axis=-1), y, k)


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> NDArray:
    """Whether the true class is among the k largest outputs; labels (...) or (..., 1), outputs (..., C) -> (...)."""
    labels, y = _sparse_pair(y_true, y_pred, "sparse_top_k_categorical_accuracy")
    classes = y.shape[-1]
    if ((labels < 0) | (labels >= classes)).any():
        raise ValueError(
            f"sparse_top_k_categorical_accuracy: labels must be from 0 to {classes - 1}, for y_pred has {classes} "
            f"classes. Received: labels from {labels.min()} to {labels.max()}"
        )
    return _in_top_k(labels.astype(np.int64), y, k)


def _in_top_k(labels: NDArray, outputs: NDArray, k: int) -> NDArray:
    """Whether fewer than k outputs are larger than that of the label (of equals, all are among the k)."""
    own = np.take_along_axis(outputs, labels[..., None], axis=-1)
    better = (outputs > own).sum(axis=-1)
    return ((better < k) & np.isfinite(own[..., 0])).astype(np.float64)


def _one_hot_pair(y_true: Any, y_pred: Any, caller: str) -> tuple[NDArray, NDArray]:
    t, y = as_array(y_true), as_array(y_pred)
    if t.shape != y.shape or y.ndim == 0:
        raise ValueError(
            f"{caller}: y_true must be one-hot, of y_pred's shape {y.shape}; for integer labels there is "
            f"'sparse_{caller}'. Received: y_true of shape {t.shape}"
        )
    return matched(t, y, caller)


def _sparse_pair(y_true: Any, y_pred: Any, caller: str) -> tuple[NDArray, NDArray]:
    t, y = as_array(y_true), as_array(y_pred)
    if t.shape == (*y.shape[:-1], 1):
        t = t[..., 0]
    if y.ndim == 0 or t.shape != y.shape[:-1]:
        raise ValueError(
            f"{caller}: y_true must hold one integer label a sample, shape {y.shape[:-1]}; for one-hot labels there is "
            f"'{caller.removeprefix('sparse_')}'. Received: y_true of shape {t.shape}"
        )
    return t, y


# --------------------------------------------------------------------------------------------------- classes


class Accuracy(FunctionMetric):
    """How often predicted labels equal the true ones. For a model's outputs name "accuracy" in `compile` instead."""

    function = staticmethod(accuracy)


class BinaryAccuracy(FunctionMetric):
    """How often outputs, each a yes or no, are on the right side of the threshold."""

    function = staticmethod(binary_accuracy)

    def __init__(self, name: str | None = None, dtype: str | None = None, threshold: float = 0.5) -> None:
        check_number(threshold, "BinaryAccuracy: threshold", -np.inf, np.inf, "()")
        super().__init__(name, dtype, threshold=threshold)


class CategoricalAccuracy(FunctionMetric):
    """How often the largest output is that of the true class; one-hot labels."""

    function = staticmethod(categorical_accuracy)


class SparseCategoricalAccuracy(FunctionMetric):
    """How often the largest output is that of the true class; integer labels."""

    function = staticmethod(sparse_categorical_accuracy)


class TopKCategoricalAccuracy(FunctionMetric):
    """How often the true class is among the k largest outputs; one-hot labels."""

    function = staticmethod(top_k_categorical_accuracy)

    def __init__(self, k: int = 5, name: str | None = "top_k_categorical_accuracy", dtype: str | None = None) -> None:
        check_integer(k, "TopKCategoricalAccuracy: k")
        super().__init__(name, dtype, k=k)


class SparseTopKCategoricalAccuracy(FunctionMetric):
    """How often the true class is among the k largest outputs; integer labels."""

    function = staticmethod(sparse_top_k_categorical_accuracy)

    def __init__(
        self, k: int = 5, name: str | None = "sparse_top_k_categorical_accuracy", dtype: str | None = None
    ) -> None:
        check_integer(k, "SparseTopKCategoricalAccuracy: k")
        super().__init__(name, dtype, k=k)
