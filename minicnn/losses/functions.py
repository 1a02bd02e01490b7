"""Losses as functions of y_true and y_pred: one value a sample. Keras' names and formulas.

y_pred is a tensor (..., C) whose last axis holds a sample's outputs, y_true an array or a tensor; all is computed in
y_pred's dtype. Each raises ValueError where the shapes do not fit.

Where y_pred came out of `activations.softmax` or `activations.sigmoid`, the cross-entropies compute from the logits it
remembers: a probability that has been rounded to 0 or 1 would make an infinite loss, or one without a gradient.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import numpy as np

from minicnn import functional as F
from minicnn.backend import as_host, backend_of
from minicnn.functional.arguments import as_kernel_input
from minicnn.functional.elementwise import as_float
from minicnn.functional.loss import checked_cross_entropy
from minicnn.tensor import Tensor

EPSILON = 1e-7
"""Probabilities are kept this far from 0 and 1. As keras.config.epsilon."""

# --------------------------------------------------------------------------------------------------- arguments


def prediction(y_pred: Any, caller: str) -> Tensor:
    """y_pred as a floating tensor. TypeError where that makes no sense."""
    if isinstance(y_pred, Tensor) and y_pred.data.dtype.kind == "f":
        return y_pred
    return as_float(F.as_tensor(y_pred), f"{caller}: y_pred")


def beside(y_true: Any, y_pred: Tensor) -> Tensor:
    """Labels or weights as a tensor; arrays and lists are taken to where the prediction lies, tensors stay."""
    if isinstance(y_true, Tensor):
        return y_true
    return Tensor._wrap(backend_of(y_pred.data).place(F.as_tensor(y_true).data))


def _matched(y_true: Any, y_pred: Any, caller: str) -> tuple[Tensor, Tensor]:
    """Both as tensors of one shape and of y_pred's dtype; (n,) goes with (n, 1).

    Raises ValueError for other shapes that differ.
    """
    y_pred = prediction(y_pred, caller)
    y_true = beside(y_true, y_pred)
    if y_true.ndim == y_pred.ndim - 1 and y_pred.shape[-1] == 1:
        y_true = y_true.unsqueeze(-1)
    elif y_true.ndim - 1 == y_pred.ndim and y_true.shape[-1] == 1:
        y_true, y_pred = (y_true, y_pred.unsqueeze(-1)) if y_pred.ndim == 1 else (y_true.squeeze(-1), y_pred)
    if y_true.shape != y_pred.shape:
        raise ValueError(
            f"{caller}: y_true and y_pred must have one shape. Received: y_true of shape {y_true.shape}, y_pred of "
            f"shape {y_pred.shape}.{_label_hint(y_true, y_pred)}"
        )
    return y_true.to(y_pred.dtype), y_pred


def _label_hint(y_true: Tensor, y_pred: Tensor) -> str:
    """What to do about integer labels where one column an output is needed."""
    one_each = y_true.shape == y_pred.shape[:-1] or y_true.shape == (*y_pred.shape[:-1], 1)
    if not one_each or y_true.ndim == 0:
        return ""
    return (
        f" If y_true holds integer labels, one of {y_pred.shape[-1]} classes a sample, use the loss "
        "'sparse_categorical_crossentropy', or make the labels one-hot: "
        f"minicnn.utils.to_categorical(y_true, num_classes={y_pred.shape[-1]})."
    )


def class_labels(y_true: Any, y_pred: Tensor, ignore_class: int | None, caller: str) -> tuple[Tensor, Tensor | None]:
    """Labels (...) as int64 for predictions (..., C), and which of them count (None: all); ignored ones become 0.

    Raises ValueError for one-hot labels, other shapes, labels that are not whole or outside of [0, C).
    """
    labels = beside(y_true, y_pred).data
    xp = backend_of(labels).xp
    *shape, classes = y_pred.data.shape
    rows = tuple(shape)
    if labels.shape == (*rows, 1):
        labels = labels[..., 0]
    if labels.shape != rows:
        hint = ""
        if labels.shape == y_pred.shape:
            hint = " One-hot labels go to the loss 'categorical_crossentropy'; or pass np.argmax(y_true, axis=-1)."
        raise ValueError(
            f"{caller}: y_true must hold one integer label a sample, shape {rows} for y_pred of shape "
            f"{y_pred.shape}. Received: y_true of shape {labels.shape}.{hint}"
        )
    counts = None if ignore_class is None else labels != ignore_class
    labels = labels if counts is None else xp.where(counts, labels, 0)
    whole = labels.dtype.kind in "iu" or bool((labels == xp.floor(labels)).all())
    numbers = labels.astype(np.int64) if whole else xp.empty(0, np.int64)
    # As unsigned, a negative label is a large one.
    if not whole or (numbers.size and numbers.view(np.uint64).max() >= classes):
        labels = as_host(labels)
        wrong = (labels < 0) | (labels >= classes) | (labels != np.floor(labels))
        raise ValueError(
            f"{caller}: labels must be whole numbers from 0 to {classes - 1}, for y_pred has {classes} classes. "
            f"Received: label {labels[wrong].flat[0]} ({np.count_nonzero(wrong)} of {labels.size} labels are wrong)"
        )
    return Tensor._wrap(numbers), None if counts is None else Tensor._wrap(counts)


def _logits(y_pred: Tensor, activation: Literal["softmax", "sigmoid"], from_logits: bool, caller: str) -> Tensor | None:
    """The logits behind y_pred, if it holds logits or came out of this activation; None for bare probabilities."""
    if y_pred._squashed is None or y_pred._squashed[0] != activation or y_pred._version[0]:  # or edited since
        return y_pred if from_logits else None
    if from_logits:
        warnings.warn(
            f"{caller}: from_logits=True, but y_pred came out of a {activation}. The loss is computed from what went "
            f"into that {activation}; leave out from_logits, or the {activation}.",
            stacklevel=4,
        )
    return y_pred.logits


def classes_last(tensor: Tensor, axis: int) -> Tensor:
    """The class axis moved to the end."""
    if axis == -1 and tensor.ndim:
        return tensor
    axes = list(range(tensor.ndim))
    axes.append(axes.pop(axis))
    return tensor if axes == sorted(axes) else tensor.permute(*axes)


def _log_probabilities(y_pred: Tensor) -> Tensor:
    """Logarithms of probabilities (..., C) that are first made to sum to 1, then kept off 0 and 1."""
    return F.log(F.clip(y_pred / y_pred.sum(-1, keepdim=True), EPSILON, 1 - EPSILON))


# --------------------------------------------------------------------------------------------------- classification


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Tensor:
    """-sum_c t_c * log p_c over the class axis, for one-hot labels (or probabilities) t.

    y_true, y_pred (..., C) -> (...). from_logits: y_pred has not been through a softmax. label_smoothing s: t becomes
    (1 - s) * t + s / C. axis: where the classes are.
    Raises ValueError for integer labels (the message names the ways out), other shapes that differ, a single class.
    """
    caller = "categorical_crossentropy"
    y_pred = prediction(y_pred, caller)
    logits = _logits(y_pred, "softmax", from_logits, caller)
    if y_pred.ndim == 0 or y_pred.shape[axis] == 1:
        raise ValueError(
            f"{caller}: y_pred needs two classes or more; for one sigmoid output use the loss 'binary_crossentropy'. "
            f"Received: y_pred of shape {y_pred.shape}"
        )
    y_true, y_pred = _matched(y_true, y_pred, caller)
    y_true = classes_last(y_true, axis)
    if logits is not None:
        return F.cross_entropy(classes_last(logits, axis), y_true, label_smoothing=label_smoothing, reduction="none")
    y_true = y_true * (1 - label_smoothing) + label_smoothing / y_true.shape[-1]
    return -(y_true * _log_probabilities(classes_last(y_pred, axis))).sum(-1)


def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Tensor:
    """-log p_label, for integer labels: categorical_crossentropy without the one-hot rows.

    y_true (...) or (..., 1), y_pred (..., C) -> (...). ignore_class: samples with this label have loss 0.
    Raises ValueError for shapes that do not fit, one-hot labels, and labels outside of [0, C).
    """
    caller = "sparse_categorical_crossentropy"
    y_pred = prediction(y_pred, caller)
    logits = _logits(y_pred, "softmax", from_logits, caller)
    y_pred = classes_last(y_pred, axis)
    labels, counts = class_labels(y_true, y_pred, ignore_class, caller)
    if logits is not None:
        logits = as_kernel_input(classes_last(logits, axis), f"{caller}: y_pred")
        loss = checked_cross_entropy(logits, Tensor._wrap(labels.data.reshape(-1)), "none")
    else:
        loss = F.nll_loss(_log_probabilities(y_pred), labels, reduction="none")
    return loss if counts is None else F.where(counts, loss, 0.0)


def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Tensor:
    """Mean over an axis of -t * log p - (1 - t) * log(1 - p): every output is a yes or no of its own.

    y_true, y_pred (..., C) -> (...). label_smoothing s: t becomes (1 - s) * t + s / 2.
    Raises ValueError for shapes that differ.
    """
    caller = "binary_crossentropy"
    y_pred = prediction(y_pred, caller)
    logits = _logits(y_pred, "sigmoid", from_logits, caller)
    t, p = _matched(y_true, y_pred, caller)
    t = t * (1 - label_smoothing) + 0.5 * label_smoothing
    if logits is not None:
        return F.binary_cross_entropy_with_logits(logits.reshape(*p.shape), t, reduction="none").mean(axis)
    p = F.clip(p, EPSILON, 1 - EPSILON)
    return -(t * F.log(p) + (1 - t) * F.log(1 - p)).mean(axis)


def _signed(y_true: Tensor) -> Tensor:
    """Labels 0 and 1 as -1 and 1; others as they are."""
    return 2 * y_true - 1 if ((y_true == 0) | (y_true == 1)).all() else y_true


def hinge(y_true: Any, y_pred: Any) -> Tensor:
    """Mean of max(1 - t * y, 0) over the last axis; labels t are -1 and 1 (0 and 1 are converted)."""
    t, y = _matched(y_true, y_pred, "hinge")
    return F.hinge_loss(y, _signed(t), reduction="none").mean(-1)


def squared_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """Mean of max(1 - t * y, 0)**2 over the last axis; labels t are -1 and 1 (0 and 1 are converted)."""
    t, y = _matched(y_true, y_pred, "squared_hinge")
    return F.squared_hinge_loss(y, _signed(t), reduction="none").mean(-1)


def categorical_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """max(best wrong output - right output + 1, 0) for one-hot labels (..., C) -> (...)."""
    t, y = _matched(y_true, y_pred, "categorical_hinge")
    return F.relu(((1 - t) * y).max(-1) - (t * y).sum(-1) + 1)


def kl_divergence(y_true: Any, y_pred: Any) -> Tensor:
    """sum_c t_c * log(t_c / p_c): how far distribution p is from t (Kullback and Leibler 1951). (..., C) -> (...)."""
    t, p = _matched(y_true, y_pred, "kl_divergence")
    t, p = F.clip(t, EPSILON, 1), F.clip(p, EPSILON, 1)
    return (t * F.log(t / p)).sum(-1)


# --------------------------------------------------------------------------------------------------- regression


def mean_squared_error(y_true: Any, y_pred: Any) -> Tensor:
    """Mean of (y_true - y_pred)**2 over the last axis."""
    t, y = _matched(y_true, y_pred, "mean_squared_error")
    return F.mse_loss(y, t, reduction="none").mean(-1)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Tensor:
    """Mean of |y_true - y_pred| over the last axis."""
    t, y = _matched(y_true, y_pred, "mean_absolute_error")
    return F.l1_loss(y, t, reduction="none").mean(-1)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Tensor:
    """Mean of 100 * |y_true - y_pred| / |y_true| over the last axis."""
    t, y = _matched(y_true, y_pred, "mean_absolute_percentage_error")
    return 100 * F.abs((t - y) / F.clip(F.abs(t), min=EPSILON)).mean(-1)


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Tensor:
    """Mean of (log(1 + y_true) - log(1 + y_pred))**2 over the last axis; values below 0 count as 0."""
    t, y = _matched(y_true, y_pred, "mean_squared_logarithmic_error")
    log_t, log_y = (F.log(F.clip(x, min=EPSILON) + 1) for x in (t, y))
    return F.square(log_t - log_y).mean(-1)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Tensor:
    """Mean over the last axis of d**2 / 2 up to |d| = delta, and of the straight line beyond (Huber 1964)."""
    t, y = _matched(y_true, y_pred, "huber")
    return F.huber_loss(y, t, delta=delta, reduction="none").mean(-1)


def log_cosh(y_true: Any, y_pred: Any) -> Tensor:
    """Mean of log(cosh(y_pred - y_true)) over the last axis: like d**2 / 2 near 0, like |d| - log 2 far off."""
    t, y = _matched(y_true, y_pred, "log_cosh")
    d = y - t
    return (d + F.softplus(-2 * d) - math.log(2)).mean(-1)


def poisson(y_true: Any, y_pred: Any) -> Tensor:
    """Mean of y_pred - y_true * log(y_pred) over the last axis: counts y_true of a Poisson rate y_pred."""
    t, y = _matched(y_true, y_pred, "poisson")
    return (y - t * F.log(y + EPSILON)).mean(-1)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """-sum(t * y) of the vectors along an axis scaled to length 1: -1 is the same direction. A zero vector gives 0."""
    t, y = _matched(y_true, y_pred, "cosine_similarity")
    t, y = (x / F.sqrt(F.clip(F.square(x).sum(axis, keepdim=True), min=EPSILON**2)) for x in (t, y))
    return -(t * y).sum(axis)
