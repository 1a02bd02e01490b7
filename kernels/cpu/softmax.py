"""Softmax and its cross-entropy. M rows, C classes.

A row is read three times, from the first-level cache if it is not very long: for its largest number, for the powers and
their sum, and to divide by it. All on vectors, exp too (see `vector_math.py`); a task is some rows. A batch's worth of
logits is done on the calling thread in less time than a second thread needs to begin.
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.column_sums import read, write
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.parallel import parallel_for
from minicnn.kernels.cpu.simd import lanes, load, load_first
from minicnn.kernels.cpu.vector_math import (
    exp,
    greater,
    load_first_or,
    max_lanes,
    select,
    splat_as,
    sum_lanes,
    zeros_like,
)

_WORK = 1 << 13
"""Numbers of one task, about."""

_BLOCK = 64
"""Vectors that are added up before their sum is added to the others': long rows lose no digits."""


_FAR = 80.0
"""So far below the largest, a power is lost in the sum, but still a normal float: subnormal ones take very long."""


def _rows_of_a_task(columns: int) -> int:
    return max(1, _WORK // max(1, columns))


@helper
def _read_or(x, i, count, fill):  # type: ignore[no-untyped-def]
    """As `read`, but `fill` in the other lanes."""
    if count >= lanes(x):
        return load(x, i)
    return load_first_or(x, i, count, fill)


@helper
def _largest(x, start, c):  # type: ignore[no-untyped-def]
    """The largest of x[start : start + c]; NaN there may be passed over, the powers will tell."""
    step = lanes(x)
    best = _read_or(x, start, min(step, c), -np.inf)
    for j in range(step, c, step):
        best = greater(_read_or(x, start + j, min(step, c - j), -np.inf), best)
    return max_lanes(best)


@helper
def _powers(x, start, c, largest, y):  # type: ignore[no-untyped-def]
    """y = exp(x - largest) for one row; returns the sum."""
    step = lanes(x)
    zero = zeros_like(load_first(x, start, 0))
    total = zero
    far_below = largest - (_FAR + abs(largest) * 1e-5)  # the second term counts where the first would be rounded off
    for block in range(0, c, _BLOCK * step):
        block_total = zero
        for j in range(block, min(c, block + _BLOCK * step), step):
            count = min(step, c - j)
            power = exp(_read_or(x, start + j, count, far_below) - largest)
            write(y, start + j, power, count)
            block_total = block_total + power
        total = total + block_total
    return sum_lanes(total)


@helper
def _scale(y, start, c, factor):  # type: ignore[no-untyped-def]
    """Multiply one row in place."""
    step = lanes(y)
    for j in range(0, c, step):
        count = min(step, c - j)
        write(y, start + j, read(y, start + j, count) * factor, count)


# ---------------------------------------------------------------------------------------------------- softmax


@helper
def _softmax_rows(task, x, y, c, rows_of_a_task):  # type: ignore[no-untyped-def]
    start = task * rows_of_a_task * c
    for i in range(start, min(x.size, start + rows_of_a_task * c), c):
        total = _powers(x, i, c, _largest(x, i, c), y)
        _scale(y, i, c, 1 / total)


@kernel
def _softmax(tasks, x, y, c, rows_of_a_task):  # type: ignore[no-untyped-def]
    parallel_for(_softmax_rows, tasks, (x, y, c, rows_of_a_task))


def softmax(x: Array) -> Array:
    """x (..., C) -> (..., C), each row sums to 1."""
    return _by_rows(_softmax, x)


def _by_rows(run: Any, x: Array) -> Array:
    """Run a kernel of one input and one output."""
    y = buffers.empty(x.shape, x.dtype)
    c = x.shape[-1]
    rows = _rows_of_a_task(c)
    run(-(-x.size // (rows * c)) if c else 0, x.reshape(-1), y.reshape(-1), c, rows)
    return y


@helper
def _log_softmax_rows(task, x, y, c, rows_of_a_task):  # type: ignore[no-untyped-def]
    step = lanes(x)
    start = task * rows_of_a_task * c
    for i in range(start, min(x.size, start + rows_of_a_task * c), c):
        largest = _largest(x, i, c)
        log_total = log(_powers(x, i, c, largest, y))
        for j in range(0, c, step):
            count = min(step, c - j)
            write(y, i + j, (read(x, i + j, count) - largest) - log_total, count)


@kernel
def _log_softmax(tasks, x, y, c, rows_of_a_task):  # type: ignore[no-untyped-def]
    parallel_for(_log_softmax_rows, tasks, (x, y, c, rows_of_a_task))


def log_softmax(x: Array) -> Array:
    """x (..., C) -> (..., C), exact where softmax itself would round to 0."""
    return _by_rows(_log_softmax, x)


# ---------------------------------------------------------------------------------------------------- cross-entropy


@helper
def _class_rows(task, x, targets, loss, y, c, rows_of_a_task):  # type: ignore[no-untyped-def]
    for row in range(task * rows_of_a_task, min(loss.size, (task + 1) * rows_of_a_task)):
        i = row * c
        largest = _largest(x, i, c)
        total = _powers(x, i, c, largest, y)
        loss[row] = log(total) - (x[i + targets[row]] - largest)
        _scale(y, i, c, 1 / total)


@helper
def _probability_rows(task, x, targets, loss, y, c, rows_of_a_task):  # type: ignore[no-untyped-def]
    step = lanes(x)
    for row in range(task * rows_of_a_task, min(loss.size, (task + 1) * rows_of_a_task)):
        i = row * c
        largest = _largest(x, i, c)
        total = _powers(x, i, c, largest, y)
        log_total = log(total)
        cost = zero = zeros_like(load_first(x, i, 0))
        for block in range(0, c, _BLOCK * step):
            block_cost = zero
            for j in range(block, min(c, block + _BLOCK * step), step):
                count = min(step, c - j)
                target = read(targets, i + j, count)
                term = target * (log_total - (read(x, i + j, count) - largest))
                # A class of target 0 costs nothing, even where its log-probability is -inf (0 * inf would be NaN).
                block_cost = block_cost + select(target != 0.0, term, zero)
            cost = cost + block_cost
        loss[row] = sum_lanes(cost)
        _scale(y, i, c, 1 / total)


@kernel
def _class_cross_entropy(tasks, x, targets, loss, y, c, rows_of_a_task):  # type: ignore[no-untyped-def]
    parallel_for(_class_rows, tasks, (x.reshape(-1), targets, loss, y.reshape(-1), c, rows_of_a_task))


@kernel
def _probability_cross_entropy(tasks, x, targets, loss, y, c, rows_of_a_task):  # type: ignore[no-untyped-def]
    flat = (x.reshape(-1), targets.reshape(-1), loss, y.reshape(-1))
    parallel_for(_probability_rows, tasks, (*flat, c, rows_of_a_task))


def softmax_cross_entropy(logits: Array, targets: Array) -> tuple[Array, Array]:
    """logits (M, C), targets (M,) classes or (M, C) probabilities -> loss (M,), softmax(logits) (M, C)."""
    m, c = logits.shape
    loss, y, rows = np.empty(m, logits.dtype), buffers.empty((m, c), logits.dtype), _rows_of_a_task(c)
    run = _class_cross_entropy if targets.ndim == 1 else _probability_cross_entropy
    run(-(-m // rows), logits, _as_compiled(targets), loss, y, c, rows)
    return loss, y


def _as_compiled(targets: Array) -> Array:
    """Classes as int64, probabilities as they are."""
    return targets.astype(np.int64) if targets.ndim == 1 and targets.dtype != np.int64 else targets


@helper
def _class_gradient_rows(task, gloss, p, targets, g, c, rows_of_a_task):  # type: ignore[no-untyped-def]
    step = lanes(p)
    for row in range(task * rows_of_a_task, min(gloss.size, (task + 1) * rows_of_a_task)):
        i = row * c
        for j in range(0, c, step):
            count = min(step, c - j)
            write(g, i + j, read(p, i + j, count) * gloss[row], count)
        place = i + targets[row]
        g[place] = gloss[row] * (p[place] - 1)


@helper
def _probability_gradient_rows(task, gloss, p, targets, g, c, rows_of_a_task):  # type: ignore[no-untyped-def]
    step = lanes(p)
    for row in range(task * rows_of_a_task, min(gloss.size, (task + 1) * rows_of_a_task)):
        i = row * c
        totals = zero = zeros_like(load_first(p, i, 0))
        for block in range(0, c, _BLOCK * step):
            block_totals = zero
            for j in range(block, min(c, block + _BLOCK * step), step):
                block_totals = block_totals + read(targets, i + j, min(step, c - j))
            totals = totals + block_totals
        total = splat_as(totals, sum_lanes(totals))
        for j in range(0, c, step):
            count = min(step, c - j)
            difference = total * read(p, i + j, count) - read(targets, i + j, count)
            write(g, i + j, difference * gloss[row], count)


@kernel
def _class_gradient(tasks, gloss, p, targets, g, c, rows_of_a_task):  # type: ignore[no-untyped-def]
    parallel_for(_class_gradient_rows, tasks, (gloss, p.reshape(-1), targets, g.reshape(-1), c, rows_of_a_task))


@kernel
def _probability_gradient(tasks, gloss, p, targets, g, c, rows_of_a_task):  # type: ignore[no-untyped-def]
    flat = (gloss, p.reshape(-1), targets.reshape(-1), g.reshape(-1))
    parallel_for(_probability_gradient_rows, tasks, (*flat, c, rows_of_a_task))


def softmax_cross_entropy_backward(gloss: Array, probabilities: Array, targets: Array) -> Array:
    """gloss (M,), probabilities (M, C), targets as above -> the gradient of the logits (M, C)."""
    m, c = probabilities.shape
    g, rows = buffers.empty((m, c), probabilities.dtype), _rows_of_a_task(c)
    run = _class_gradient if targets.ndim == 1 else _probability_gradient
    run(-(-m // rows), gloss, probabilities, _as_compiled(targets), g, c, rows)
    return g
