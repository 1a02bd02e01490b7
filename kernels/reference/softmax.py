"""Softmax and its cross-entropy. M rows, C classes.

exp overflows at 89 in float32; subtracting the largest logit changes no quotient and leaves nothing above exp(0).
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.contract import Array


def softmax(x: Array) -> Array:
    """x (..., C) -> (..., C), each row sums to 1."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def log_softmax(x: Array) -> Array:
    """x (..., C) -> (..., C), exact where softmax itself would round to 0."""
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax_cross_entropy(logits: Array, targets: Array) -> tuple[Array, Array]:
    """logits (M, C), targets (M,) classes or (M, C) probabilities -> loss (M,), softmax(logits) (M, C)."""
    log_probabilities = log_softmax(logits)
    if targets.ndim == 1:
        loss = -log_probabilities[np.arange(len(targets)), targets]
    else:
        # A class of target 0 costs nothing, even where its log-probability is -inf (0 * inf would be NaN).
        loss = -(targets * np.where(targets == 0, 0, log_probabilities)).sum(axis=1)
    return loss, softmax(logits)


def softmax_cross_entropy_backward(gloss: Array, probabilities: Array, targets: Array) -> Array:
    """gloss (M,), probabilities (M, C), targets as above -> the gradient of the logits (M, C)."""
    gloss = gloss[:, None]  # (M, 1)
    if targets.ndim == 1:
        targets = np.equal(targets[:, None], np.arange(probabilities.shape[1])).astype(probabilities.dtype)  # one-hot
    return gloss * (targets.sum(axis=1, keepdims=True) * probabilities - targets)
