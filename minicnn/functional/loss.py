"""Losses under PyTorch's names, on logits where that is the stable way.

Glossary  M rows (all axes before the last), C classes (the last axis; PyTorch has them on axis 1).
          reduction: "mean" of all losses, their "sum", or "none": a loss for each row (classes), or for each element.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import numpy as np

from minicnn.autograd import Function
from minicnn.backend import backend_of, is_kernel_input
from minicnn.functional.activation import log_softmax, relu, softmax, softplus
from minicnn.functional.arguments import as_kernel_input, check_choice, check_number, check_positive
from minicnn.functional.creation import one_hot
from minicnn.functional.elementwise import abs, clip, log, square, where
from minicnn.functional.twin import vjp
from minicnn.kernels.contract import Array
from minicnn.tensor import Tensor

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "hinge_loss",
    "huber_loss",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "squared_hinge_loss",
]

Reduction = Literal["mean", "sum", "none"]
_REDUCTIONS = ("mean", "sum", "none")


def _reduce(loss: Tensor, reduction: Reduction, caller: str) -> Tensor:
    check_choice(reduction, _REDUCTIONS, f"{caller}: reduction")
    if loss.numel() == 0:
        raise ValueError(f"{caller}: an empty batch has no loss. Received: losses of shape {loss.shape}")
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()


# --------------------------------------------------------------------------------------------------- classes


class SoftmaxCrossEntropy(Function):
    """logits (M, C), targets (M,) classes or (M, C) probabilities -> (M,), or () where the rows' losses are reduced.

    The reduction is part of it because a Function of its own would cost as much as this one, on a batch of logits.
    """

    def forward(self, logits: Array, targets: Array, reduction: Reduction) -> Array:
        loss, self.probabilities = self.kernels.softmax_cross_entropy(logits, targets)
        self.divisor = len(loss) if reduction == "mean" else 1
        self.save_for_backward(logits, targets)
        return loss if reduction == "none" else loss.sum() / loss.dtype.type(self.divisor)

    def backward(self, gloss: Tensor) -> Any:
        logits, targets = self.saved_tensors
        glogits = gtargets = None
        if self.needs_input_grad[0]:
            gloss = as_kernel_input(gloss, "cross_entropy: gloss")
            options = {"probabilities": self.probabilities, "divisor": self.divisor}
            glogits = SoftmaxCrossEntropyBackward.apply(gloss, logits, targets, **options)
        if self.needs_input_grad[1]:
            gtargets = -_of_rows(gloss, self.divisor) * log_softmax(logits)
        return glogits, gtargets


class SoftmaxCrossEntropyBackward(Function):
    """gloss (M,), or () where each row's is gloss / divisor -> (M, C)."""

    def forward(self, gloss: Array, logits: Array, targets: Array, probabilities: Array, divisor: int) -> Array:
        self.divisor = divisor
        self.save_for_backward(gloss, logits, targets)
        if gloss.ndim == 0:
            of_rows = self.xp.empty(len(logits), gloss.dtype)
            of_rows[...] = gloss / gloss.dtype.type(divisor)
            gloss = of_rows
        return self.kernels.softmax_cross_entropy_backward(gloss, probabilities, targets)

    def backward(self, *cotangents: Tensor) -> Any:
        return vjp(partial(_cross_entropy_gradient, divisor=self.divisor), self.saved_tensors, cotangents)


def _cross_entropy_gradient(gloss: Tensor, logits: Tensor, targets: Tensor, divisor: int) -> tuple[Tensor]:
    """The twin of kernels.softmax_cross_entropy_backward."""
    if targets.ndim == 1:
        targets = one_hot(targets, logits.shape[1], logits.dtype)
    return (_of_rows(gloss, divisor) * (targets.sum(1, keepdim=True) * softmax(logits) - targets),)


def _of_rows(gloss: Tensor, divisor: int) -> Tensor:
    """The gradient of each row's loss, to be broadcast against (M, C)."""
    return gloss / float(divisor) if gloss.ndim == 0 else gloss.unsqueeze(1)


def cross_entropy(
    logits: Tensor, target: Tensor, label_smoothing: float = 0.0, reduction: Reduction = "mean"
) -> Tensor:
    """-sum_c t_c * log softmax(logits)_c for each row, never NaN for finite logits.

    logits (..., C); target (...) integer classes, or (..., C) floating probabilities, which may have a gradient too.
    label_smoothing s: t becomes (1 - s) * t + s / C (Szegedy et al. 2016).

    Raises ValueError for shapes that do not match and classes outside of [0, C), TypeError for floating class labels.
    """
    logits = as_kernel_input(logits, "cross_entropy: logits")
    check_number(label_smoothing, "cross_entropy: label_smoothing", 0, 1)
    check_choice(reduction, _REDUCTIONS, "cross_entropy: reduction")
    target = target if isinstance(target, Tensor) else Tensor(target)
    rows, classes = _rows(logits, "cross_entropy: logits")
    if target.data.dtype.kind == "f":
        targets = _probabilities(target, logits).reshape(rows, classes)
    else:
        targets = _classes(target, logits, "cross_entropy")
        if label_smoothing:
            targets = one_hot(targets, classes, logits.dtype)
    if label_smoothing:
        targets = targets * (1 - label_smoothing) + label_smoothing / classes
    return checked_cross_entropy(logits, targets, reduction)


def checked_cross_entropy(logits: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
    """`cross_entropy` of checked arguments: targets (M,) int64, or (M, C) of the logits' dtype."""
    shape = logits.data.shape
    if len(shape) == 2:
        return SoftmaxCrossEntropy.apply(logits, targets, reduction=reduction)
    loss: Tensor = SoftmaxCrossEntropy.apply(logits.reshape(-1, shape[-1]), targets, reduction=reduction)
    return loss.reshape(shape[:-1]) if reduction == "none" else loss


def nll_loss(log_probabilities: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """-log_probabilities[..., target]: what cross_entropy is after a log_softmax.

    log_probabilities (..., C), target (...) integer classes. Errors as cross_entropy.
    """
    log_probabilities = as_kernel_input(log_probabilities, "nll_loss: log_probabilities")
    rows, classes = _rows(log_probabilities, "nll_loss: log_probabilities")
    targets = _classes(target if isinstance(target, Tensor) else Tensor(target), log_probabilities, "nll_loss")
    every_row = backend_of(targets.data).xp.arange(rows)
    loss = -log_probabilities.reshape(rows, classes)[every_row, targets]
    return _reduce(loss.reshape(log_probabilities.shape[:-1]), reduction, "nll_loss")


def _rows(logits: Tensor, name: str) -> tuple[int, int]:
    """(M, C). Raises ValueError where there is no class axis or nothing in it."""
    shape, size = logits.data.shape, logits.data.size
    if not shape or not size:
        raise ValueError(f"{name} must be (..., classes), no axis empty. Received: shape {logits.shape}")
    return size // shape[-1], shape[-1]


def _classes(target: Tensor, logits: Tensor, caller: str) -> Tensor:
    """Integer labels as int64 (M,), checked against the logits (..., C)."""
    array, shape = target.data, logits.data.shape
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{caller}: class labels must be integers, one a row: convert with target.to('int64'). Received: dtype "
            f"{target.dtype}"
        )
    if array.shape != shape[:-1]:
        one_hot_hint = " One-hot rows are probabilities: pass them as target.to('float32')."
        raise ValueError(
            f"{caller}: integer target must have one class a row, shape {logits.shape[:-1]} for logits {logits.shape}. "
            f"Received: target of shape {target.shape}.{one_hot_hint if target.shape == logits.shape else ''}"
        )
    as_they_are = array.ndim == 1 and array.dtype == np.int64 and is_kernel_input(array)
    labels = array if as_they_are else array.astype(np.int64).reshape(-1)
    if labels.view(np.uint64).max() >= shape[-1]:  # as unsigned, a negative one is a large one
        given = array.reshape(-1)
        outside = (given < 0) | (given >= shape[-1])
        first = int(outside.argmax())
        raise ValueError(
            f"{caller}: classes must lie in [0, {shape[-1] - 1}], the logits have {shape[-1]}. Received: "
            f"class {given[first]} in row {first} ({int(outside.sum())} of {given.size} labels are outside)"
        )
    return target if as_they_are else Tensor._wrap(labels)


def _probabilities(target: Tensor, logits: Tensor) -> Tensor:
    """Floating targets, in the dtype of the logits and of their shape."""
    if target.shape == logits.shape:
        return as_kernel_input(target.to(logits.dtype), "cross_entropy: target")
    if target.shape == logits.shape[:-1]:
        raise TypeError(
            "cross_entropy: class labels must be integers: convert with target.to('int64'). Received: dtype "
            f"{target.dtype}, one number a row"
        )
    raise ValueError(
        f"cross_entropy: probabilities must have the shape of the logits, {logits.shape}. Received: target of shape "
        f"{target.shape}"
    )


# --------------------------------------------------------------------------------------------------- elementwise


def _matched(x: Any, target: Any, caller: str, name: str = "input") -> tuple[Tensor, Tensor]:
    """Prediction and target of one shape, the target in the prediction's dtype."""
    x = as_kernel_input(x, f"{caller}: {name}")
    target = target if isinstance(target, Tensor) else Tensor(target)
    if target.shape != x.shape:
        hint = " One has an extra axis of length 1: reshape it." if target.numel() == x.numel() else ""
        raise ValueError(
            f"{caller}: {name} and target must have one shape. Received: {x.shape} and {target.shape}.{hint}"
        )
    return x, target.to(x.dtype)


def binary_cross_entropy_with_logits(logits: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """-t * log sigmoid(x) - (1 - t) * log(1 - sigmoid(x)) for logits x and targets t in [0, 1], without overflow.

    Any shape, one for both. Raises ValueError where the shapes differ.
    """
    x, t = _matched(logits, target, "binary_cross_entropy_with_logits", "logits")
    loss = t * softplus(-x) + (1 - t) * softplus(x)  # -log sigmoid(x) is softplus(-x)
    return _reduce(loss, reduction, "binary_cross_entropy_with_logits")


def binary_cross_entropy(
    probabilities: Tensor, target: Tensor, reduction: Reduction = "mean", epsilon: float = 1e-7
) -> Tensor:
    """-t * log p - (1 - t) * log(1 - p) for probabilities p and targets t in [0, 1].

    p is first held within [epsilon, 1 - epsilon], as in Keras, and has no gradient outside; PyTorch cuts the logarithm
    off at -100 instead. On logits, binary_cross_entropy_with_logits loses no digits.
    Raises ValueError where the shapes differ or a p lies outside of [0, 1].
    """
    p, t = _matched(probabilities, target, "binary_cross_entropy", "probabilities")
    check_number(epsilon, "binary_cross_entropy: epsilon", 0, 0.5, "()")
    if ((p.data < 0) | (p.data > 1)).any():
        raise ValueError(
            "binary_cross_entropy: probabilities must lie in [0, 1]; logits go to binary_cross_entropy_with_logits. "
            f"Received: values from {p.data.min()} to {p.data.max()}"
        )
    p = clip(p, epsilon, 1 - epsilon)
    return _reduce(-t * log(p) - (1 - t) * log(1 - p), reduction, "binary_cross_entropy")


def mse_loss(input: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """(input - target)**2. Raises ValueError where the shapes differ."""
    x, t = _matched(input, target, "mse_loss")
    return _reduce(square(x - t), reduction, "mse_loss")


def l1_loss(input: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """|input - target|. Raises ValueError where the shapes differ."""
    x, t = _matched(input, target, "l1_loss")
    return _reduce(abs(x - t), reduction, "l1_loss")


def huber_loss(input: Tensor, target: Tensor, reduction: Reduction = "mean", delta: float = 1.0) -> Tensor:
    """d**2 / 2 where |d| <= delta, delta * (|d| - delta / 2) beyond, d = input - target (Huber 1964).

    Raises ValueError where the shapes differ or delta is not positive.
    """
    x, t = _matched(input, target, "huber_loss")
    check_positive(delta, "huber_loss: delta")
    distance = abs(x - t)
    loss = where(distance <= delta, 0.5 * square(distance), delta * (distance - 0.5 * delta))
    return _reduce(loss, reduction, "huber_loss")


def hinge_loss(input: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """max(1 - target * input, 0) for targets -1 and 1. Raises ValueError where the shapes differ."""
    x, t = _matched(input, target, "hinge_loss")
    return _reduce(relu(1 - t * x), reduction, "hinge_loss")


def squared_hinge_loss(input: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """max(1 - target * input, 0)**2 for targets -1 and 1. Raises ValueError where the shapes differ."""
    x, t = _matched(input, target, "squared_hinge_loss")
    return _reduce(square(relu(1 - t * x)), reduction, "squared_hinge_loss")
