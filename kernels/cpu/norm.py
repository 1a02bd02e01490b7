"""Batch normalization: two passes over memory, one that sums, one that writes.

The sums are those of `column_sums.py`, two at once. Forward they are of x - s and its square, where s is near the mean,
so that nothing is lost where the mean is far larger than the deviation: mean = s + sum / P, var = sum of squares / P -
(sum / P)**2. Backward they are of gy and gy * (x - mean). What remains is y = (x - s) * a + b and
gx = gy * a + (x - mean) * b + c, with a, b, c of each channel.

The second pass goes through the tasks from the last to the first: what the first pass read last is still in the cache.
Tables of a, b, c are as wide as a row of the plan, which holds several rows of x where channels are few.
"""

from __future__ import annotations

from math import sqrt
from typing import Literal

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.column_sums import make_column_sums, plan, read, total, write
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.parallel import parallel_for
from minicnn.kernels.cpu.simd import fma, lanes, load_first
from minicnn.kernels.cpu.vector_math import select, zeros_like

_SHIFT_ROWS = 32
"""Rows whose mean is the shift s."""

_PIECE = 1 << 15
"""Numbers of one task of the second pass, about."""

# ---------------------------------------------------------------------------------------------------- sums


@helper
def _deviations(data, i, column, count):  # type: ignore[no-untyped-def]
    """What the statistics sum: x - shift and its square."""
    x, shift = data
    d = read(x, i, count) - read(shift, column, count)
    return d, d * d


@helper
def _gradients(data, i, column, count):  # type: ignore[no-untyped-def]
    """What the way back sums: gy and gy * (x - mean)."""
    gy, x, mean = data
    g = read(gy, i, count)
    return g, g * (read(x, i, count) - read(mean, column, count))


@helper
def _masked_gradients(data, i, column, count):  # type: ignore[no-untyped-def]
    """The same with gy = 0 where the relu's output y is 0."""
    gy, x, y, mean = data
    g = read(gy, i, count)
    g = select(read(y, i, count) > 0.0, g, zeros_like(g))
    return g, g * (read(x, i, count) - read(mean, column, count))


_sum_deviations = make_column_sums(_deviations, both=True)
_sum_gradients = make_column_sums(_gradients, both=True)
_sum_masked_gradients = make_column_sums(_masked_gradients, both=True)


@helper
def _repeat(values, columns, width, table):  # type: ignore[no-untyped-def]
    """table[j] = values[j % columns] for a row of the plan."""
    for start in range(0, width, columns):
        for c in range(columns):
            table[start + c] = values[c]


# ---------------------------------------------------------------------------------------------------- second pass


@helper
def _tasks(size, width):  # type: ignore[no-untyped-def]
    """How many tasks the second pass has, and how many numbers each: whole rows of the plan."""
    piece = max(1, _PIECE // width) * width
    return (size + piece - 1) // piece, piece


@helper
def _scale_piece(task, x, shift, a, b, y, width, rectify):  # type: ignore[no-untyped-def]
    """y = (x - shift) * a + b, or its positive part, in one task's rows."""
    step = lanes(x)
    tasks, piece = _tasks(x.size, width)
    start = (tasks - 1 - task) * piece
    zero = zeros_like(load_first(x, 0, 0))
    for row in range(start, min(start + piece, x.size), width):
        length = min(width, x.size - row)
        for column in range(0, length, step):
            count = min(step, length - column)
            value = fma(
                read(x, row + column, count) - read(shift, column, count),
                read(a, column, count),
                read(b, column, count),
            )
            if rectify:
                value = select(value < 0.0, zero, value)
            write(y, row + column, value, count)


@helper
def _gradient_piece(task, gy, x, mean, a, b, c, gx, width):  # type: ignore[no-untyped-def]
    """gx = gy * a + (x - mean) * b + c in one task's rows."""
    step = lanes(x)
    tasks, piece = _tasks(x.size, width)
    start = (tasks - 1 - task) * piece
    for row in range(start, min(start + piece, x.size), width):
        length = min(width, x.size - row)
        for column in range(0, length, step):
            count = min(step, length - column)
            deviation = read(x, row + column, count) - read(mean, column, count)
            value = fma(deviation, read(b, column, count), read(c, column, count))
            write(gx, row + column, fma(read(gy, row + column, count), read(a, column, count), value), count)


@helper
def _masked_gradient_piece(task, gy, x, y, mean, a, b, c, gx, width):  # type: ignore[no-untyped-def]
    """The same with gy = 0 where y is 0."""
    step = lanes(x)
    tasks, piece = _tasks(x.size, width)
    start = (tasks - 1 - task) * piece
    zero = zeros_like(load_first(x, 0, 0))
    for row in range(start, min(start + piece, x.size), width):
        length = min(width, x.size - row)
        for column in range(0, length, step):
            count = min(step, length - column)
            deviation = read(x, row + column, count) - read(mean, column, count)
            value = fma(deviation, read(b, column, count), read(c, column, count))
            g = select(read(y, row + column, count) > 0.0, read(gy, row + column, count), zero)
            write(gx, row + column, fma(g, read(a, column, count), value), count)


# ---------------------------------------------------------------------------------------------------- forward


@kernel
def _batch_norm(x, gamma, beta, epsilon, rectify, width, slices, within, across, sums, tables, mean, var, y):  # type: ignore[no-untyped-def]
    """x, y flat; sums (2, C) float64; tables (3, width): the shift, a and b."""
    columns, length = gamma.size, within.size // (2 * slices)
    rows = x.size // columns
    shifts = min(rows, _SHIFT_ROWS)
    for c in range(columns):
        mean[c] = 0
    for i in range(0, shifts * columns, columns):
        for c in range(columns):
            mean[c] += x[i + c]
    for c in range(columns):
        mean[c] /= shifts
    _repeat(mean, columns, width, tables[0])
    parallel_for(_sum_deviations, slices, ((x, tables[0]), width, x.size, slices, within, across))
    total(across, 0, columns, width, slices, length, sums[0])
    total(across, 1, columns, width, slices, length, sums[1])
    for c in range(columns):
        offset = sums[0, c] / rows
        variance = max(sums[1, c] / rows - offset * offset, 0.0) if sums[1, c] == sums[1, c] else sums[1, c]
        mean[c] += offset
        var[c] = variance
        scale = gamma[c] / sqrt(variance + epsilon)
        tables[1, c], tables[2, c] = scale, beta[c] - offset * scale
    _repeat(tables[1], columns, width, tables[1])
    _repeat(tables[2], columns, width, tables[2])
    parallel_for(_scale_piece, _tasks(x.size, width)[0], (x, tables[0], tables[1], tables[2], y, width, rectify))


def batch_norm(
    x: Array, gamma: Array, beta: Array, epsilon: float, activation: Literal["relu"] | None = None
) -> tuple[Array, Array, Array]:
    """x (..., C); gamma, beta (C,) -> y (..., C), mean (C,), var (C,), the statistics of this batch."""
    columns = x.shape[-1]
    y, mean, var = buffers.empty(x.shape, x.dtype), np.empty(columns, x.dtype), np.empty(columns, x.dtype)
    width, _, slices, scratch = plan(max(x.size, 1), columns, x.itemsize)
    within, across = buffers.empty((scratch,), x.dtype), buffers.empty((scratch,), np.float64)
    sums, tables = np.empty((2, columns)), buffers.empty((3, width), x.dtype)
    _batch_norm(
        x.reshape(-1), gamma, beta, epsilon, activation is not None, width, slices, within, across, sums, tables,
        mean, var, y.reshape(-1),
    )  # fmt: skip
    return y, mean, var


@kernel
def _batch_norm_inference(x, gamma, beta, mean, var, epsilon, rectify, width, tables, y):  # type: ignore[no-untyped-def]
    """x, y flat; tables (3, width): the mean, a and b."""
    columns = gamma.size
    for c in range(columns):
        tables[1, c] = gamma[c] / sqrt(np.float64(var[c]) + epsilon)
    _repeat(mean, columns, width, tables[0])
    _repeat(tables[1], columns, width, tables[1])
    _repeat(beta, columns, width, tables[2])
    parallel_for(_scale_piece, _tasks(x.size, width)[0], (x, tables[0], tables[1], tables[2], y, width, rectify))


def batch_norm_inference(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    var: Array,
    epsilon: float,
    activation: Literal["relu"] | None = None,
) -> Array:
    """x (..., C), the rest (C,) -> act(gamma * (x - mean) / sqrt(var + epsilon) + beta), (..., C)."""
    y = buffers.empty(x.shape, x.dtype)
    width = plan(max(x.size, 1), x.shape[-1], x.itemsize).width
    tables = buffers.empty((3, width), x.dtype)
    rectify = activation is not None
    _batch_norm_inference(x.reshape(-1), gamma, beta, mean, var, epsilon, rectify, width, tables, y.reshape(-1))
    return y


# ---------------------------------------------------------------------------------------------------- backward


@helper
def _finish_sums(across, gamma, var, epsilon, rows, width, slices, length, sums, tables, ggamma, gbeta):  # type: ignore[no-untyped-def]
    """The gradients of gamma and beta, and rows 1 to 3 of the tables: a, b and c."""
    columns = gamma.size
    total(across, 0, columns, width, slices, length, sums[0])
    total(across, 1, columns, width, slices, length, sums[1])
    for c in range(columns):
        inverse = 1 / sqrt(np.float64(var[c]) + epsilon)
        gbeta[c], ggamma[c] = sums[0, c], sums[1, c] * inverse
        scale = gamma[c] * inverse
        tables[1, c] = scale
        tables[2, c] = -scale * inverse * inverse * sums[1, c] / rows
        tables[3, c] = -scale * sums[0, c] / rows
    for k in range(1, 4):
        _repeat(tables[k], columns, width, tables[k])


@kernel
def _batch_norm_backward(  # type: ignore[no-untyped-def]
    gy, x, gamma, mean, var, epsilon, width, slices, within, across, sums, tables, gx, ggamma, gbeta
):
    """gy, x, gx flat; sums (2, C) float64; tables (4, width): the mean, a, b and c."""
    columns, length = gamma.size, within.size // (2 * slices)
    _repeat(mean, columns, width, tables[0])
    parallel_for(_sum_gradients, slices, ((gy, x, tables[0]), width, x.size, slices, within, across))
    rows = x.size // columns
    _finish_sums(across, gamma, var, epsilon, rows, width, slices, length, sums, tables, ggamma, gbeta)
    pieces = _tasks(x.size, width)[0]
    parallel_for(_gradient_piece, pieces, (gy, x, tables[0], tables[1], tables[2], tables[3], gx, width))


@kernel
def _masked_batch_norm_backward(  # type: ignore[no-untyped-def]
    gy, x, y, gamma, mean, var, epsilon, width, slices, within, across, sums, tables, gx, ggamma, gbeta
):
    """As _batch_norm_backward, behind a relu whose output is y."""
    columns, length = gamma.size, within.size // (2 * slices)
    _repeat(mean, columns, width, tables[0])
    parallel_for(_sum_masked_gradients, slices, ((gy, x, y, tables[0]), width, x.size, slices, within, across))
    rows = x.size // columns
    _finish_sums(across, gamma, var, epsilon, rows, width, slices, length, sums, tables, ggamma, gbeta)
    pieces = _tasks(x.size, width)[0]
    parallel_for(_masked_gradient_piece, pieces, (gy, x, y, tables[0], tables[1], tables[2], tables[3], gx, width))


def batch_norm_backward(
    gy: Array, x: Array, gamma: Array, mean: Array, var: Array, epsilon: float, y: Array | None = None
) -> tuple[Array, Array, Array]:
    """gy, x (..., C), the rest (C,) -> gx (..., C), ggamma (C,), gbeta (C,); y is the output if a relu made it."""
    columns = x.shape[-1]
    gx, ggamma, gbeta = buffers.empty(x.shape, x.dtype), np.empty(columns, x.dtype), np.empty(columns, x.dtype)
    width, _, slices, scratch = plan(max(x.size, 1), columns, x.itemsize)
    within, across = buffers.empty((scratch,), x.dtype), buffers.empty((scratch,), np.float64)
    work = (width, slices, within, across, np.empty((2, columns)), buffers.empty((4, width), x.dtype))
    outputs = (gx.reshape(-1), ggamma, gbeta)
    flat_gy, flat_x = gy.reshape(-1), x.reshape(-1)
    if y is None:
        _batch_norm_backward(flat_gy, flat_x, gamma, mean, var, epsilon, *work, *outputs)
    else:
        _masked_batch_norm_backward(flat_gy, flat_x, y.reshape(-1), gamma, mean, var, epsilon, *work, *outputs)
    return gx, ggamma, gbeta
