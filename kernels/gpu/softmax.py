"""Softmax and its cross-entropy on the device: see softmax.cu. M rows, C classes."""

from __future__ import annotations

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.gpu.launch import THREADS
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.runtime import cp

_FILE = "softmax.cu"
_WARP = 32
_LONGEST_ROW_OF_A_WARP = 1024
"""Classes up to which a warp takes a row; longer ones are taken by a block."""


def _teams(rows: int, classes: int) -> tuple[tuple[int], tuple[int, int]]:
    """Grid and block: (threads of a team, teams of a block)."""
    team = _WARP if classes <= _LONGEST_ROW_OF_A_WARP else THREADS
    teams = THREADS // team
    return (-(-rows // teams),), (team, teams)


def _softmax(x: Array, logarithm: bool) -> Array:
    y = cp.empty(x.shape, x.dtype)
    if x.size:
        classes = x.shape[-1]
        rows = x.size // classes
        kernel = module(_FILE, x.dtype).kernel("softmax_rows")
        kernel(*_teams(rows, classes), x, y, rows, classes, logarithm)
    return y


def softmax(x: Array) -> Array:
    """x (..., C) -> (..., C), each row sums to 1."""
    return _softmax(x, logarithm=False)


def log_softmax(x: Array) -> Array:
    """x (..., C) -> (..., C), exact where softmax itself would round to 0."""
    return _softmax(x, logarithm=True)


def softmax_cross_entropy(logits: Array, targets: Array) -> tuple[Array, Array]:
    """logits (M, C), targets (M,) classes or (M, C) probabilities -> loss (M,), softmax(logits) (M, C)."""
    rows, classes = logits.shape
    loss, probabilities = cp.empty(rows, logits.dtype), cp.empty(logits.shape, logits.dtype)
    kernel = module(_FILE, logits.dtype).kernel("cross_entropy_rows")
    kernel(*_teams(rows, classes), logits, *_labels_or_targets(targets), loss, probabilities, rows, classes)
    return loss, probabilities


def softmax_cross_entropy_backward(gloss: Array, probabilities: Array, targets: Array) -> Array:
    """gloss (M,), probabilities (M, C), targets as above -> the gradient of the logits (M, C)."""
    rows, classes = probabilities.shape
    gx = cp.empty(probabilities.shape, probabilities.dtype)
    kernel = module(_FILE, gx.dtype).kernel("cross_entropy_backward_rows")
    kernel(*_teams(rows, classes), gloss, probabilities, *_labels_or_targets(targets), gx, rows, classes)
    return gx


def _labels_or_targets(targets: Array) -> tuple[Array | None, Array | None]:
    """The two arguments of the kernels, of which one is null: classes as int64, or probabilities."""
    return (targets.astype(np.int64, copy=False), None) if targets.ndim == 1 else (None, targets)
