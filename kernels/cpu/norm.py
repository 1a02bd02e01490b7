"""Batch normalization: two passes over memory, one that sums, one that writes.

The sums are those of `column_sums.py`, two at once. Forward they are of x - s and its square, where s is near the mean,
so that nothing is lost where the mean is far larger than the deviation: mean = s + sum / P, var = sum of squares / P -
(sum / P)**2. Backward they are of gy and gy * (x - mean). What remains is y = (x - s) * a + b and
gx = gy * a + (x - mean) * b + c, with a, b, c of each channel.

The second pass goes through the tasks from the last to the first: what the first pass read last is still in the cache.
Four vectors of columns at a time, it walks down some rows with their factors in registers. These come from tables as
wide as a row of the plan, which holds several rows of x where channels are few. The memory that is needed next is asked
for in time, and an output that no cache can keep is written past them.
"""

from __future__ import annotations

from functools import lru_cache
from math import sqrt
from typing import Any, Literal

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.cpu import buffers, host
from minicnn.kernels.cpu.column_sums import make_column_sums, plan, read, total, write
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.parallel import parallel_for
from minicnn.kernels.cpu.simd import fma, lanes, prefetch
from minicnn.kernels.cpu.streaming import stream
from minicnn.kernels.cpu.vector_math import select, zeros_like

_SHIFT_ROWS = 32
"""Rows whose mean is the shift s, at most."""

_PIECE = 1 << 15
"""Numbers of one task of the second pass, about."""

_BLOCK = 1 << 11
"""Numbers of the rows that share the factors in registers, about."""

_AHEAD = 1024
"""How many numbers before they are read the second pass asks for them."""

_STREAMING_BYTES = 1 << 25
"""Size from which on the arrays of a pass together are too big for the caches."""

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


def _make_second_pass(load_factors: Any, formula: Any) -> Any:
    """The function second_pass(data, tables, width, out, streaming) that computes `out` from the arrays in `data`.

    load_factors(tables, column, count) returns what formula(data, i, count, factors) needs to know of the columns, to
    compute the vector of `count` numbers at place i. tables: (k, width). All arrays but the tables are flat.
    """

    @helper
    def full(data, i, factors, out, streaming):  # type: ignore[no-untyped-def]
        value = formula(data, i, lanes(out), factors)
        if streaming:
            stream(out, i, value)
        else:
            write(out, i, value, lanes(out))

    @helper
    def rows(data, start, stop, width, column, tables, out, streaming):  # type: ignore[no-untyped-def]
        """Four vectors from `column` on, of the rows that begin at start, start + width, ... < stop."""
        step = lanes(out)
        factors0 = load_factors(tables, column, step)
        factors1 = load_factors(tables, column + step, step)
        factors2 = load_factors(tables, column + 2 * step, step)
        factors3 = load_factors(tables, column + 3 * step, step)
        for row in range(start, stop, width):
            i = row + column
            full(data, i, factors0, out, streaming)
            full(data, i + step, factors1, out, streaming)
            full(data, i + 2 * step, factors2, out, streaming)
            full(data, i + 3 * step, factors3, out, streaming)

    @helper
    def ends(data, start, stop, width, column, right, tables, out):  # type: ignore[no-untyped-def]
        """What does not fill four vectors: columns [column, right) of such rows."""
        step = lanes(out)
        while column < right:
            count = min(step, right - column)
            factors = load_factors(tables, column, count)
            for row in range(start, stop, width):
                write(out, row + column, formula(data, row + column, count, factors), count)
            column += step

    @helper
    def piece(task, data, tables, width, out, streaming):  # type: ignore[no-untyped-def]
        four = 4 * lanes(out)
        tasks, size = _tasks(out.size, width)
        start = (tasks - 1 - task) * size
        left = out.size % width if task == 0 else 0  # less than a row, at the very end
        stop = min(start + size, out.size) - left
        whole = width // four * four
        block = max(1, _BLOCK // width) * width
        for row in range(start, stop, block):
            below = min(stop, row + block)
            for column in range(0, whole, four):
                rows(data, row, below, width, column, tables, out, streaming)
            ends(data, row, below, width, whole, width, tables, out)
        ends(data, stop, stop + left, width, 0, left, tables, out)

    @helper
    def second_pass(data, tables, width, out, streaming):  # type: ignore[no-untyped-def]
        parallel_for(piece, _tasks(out.size, width)[0], (data, tables, width, out, streaming))

    return second_pass


def _row(columns: int, width: int, itemsize: int) -> int:
    """The columns of a row of the second pass: four vectors, if they hold whole rows of x, else those of the plan."""
    four = 4 * host.lanes(itemsize)
    return four if width % four == 0 and four % columns == 0 else width


@lru_cache(maxsize=4096)
def _passes(size: int, columns: int, itemsize: int, arrays: int) -> tuple[int, int, int, int, int, bool]:
    """The plan of the sums; the columns of a row of the second pass; and whether it writes past the caches: one of
    several big arrays, of vectors at multiples of their size."""
    width, slices, parts, scratch = plan(max(size, 1), columns, itemsize)
    row = _row(columns, width, itemsize)
    streaming = arrays * size * itemsize > _STREAMING_BYTES and row % host.lanes(itemsize) == 0
    return width, slices, parts, scratch, row, streaming


@helper
def _read_ahead(x, i, count):  # type: ignore[no-untyped-def]
    prefetch(x, i + _AHEAD)
    return read(x, i, count)


@helper
def _three_factors(tables, column, count):  # type: ignore[no-untyped-def]
    return read(tables[0], column, count), read(tables[1], column, count), read(tables[2], column, count)


@helper
def _four_factors(tables, column, count):  # type: ignore[no-untyped-def]
    return *_three_factors(tables, column, count), read(tables[3], column, count)


@helper
def _scaled(data, i, count, factors):  # type: ignore[no-untyped-def]
    """(x - shift) * a + b."""
    shift, a, b = factors
    return fma(_read_ahead(data[0], i, count) - shift, a, b)


@helper
def _scaled_and_rectified(data, i, count, factors):  # type: ignore[no-untyped-def]
    """The positive part of (x - shift) * a + b; NaN stays."""
    value = _scaled(data, i, count, factors)
    return select(value < 0.0, zeros_like(value), value)


@helper
def _gradient(data, i, count, factors):  # type: ignore[no-untyped-def]
    """gy * a + (x - mean) * b + c."""
    gy, x = data
    mean, a, b, c = factors
    return fma(_read_ahead(gy, i, count), a, fma(_read_ahead(x, i, count) - mean, b, c))


@helper
def _masked_gradient(data, i, count, factors):  # type: ignore[no-untyped-def]
    """The same with gy = 0 where y is 0."""
    gy, x, y = data
    mean, a, b, c = factors
    g = _read_ahead(gy, i, count)
    g = select(_read_ahead(y, i, count) > 0.0, g, zeros_like(g))
    return fma(g, a, fma(_read_ahead(x, i, count) - mean, b, c))


_scale = _make_second_pass(_three_factors, _scaled)
_scale_and_rectify = _make_second_pass(_three_factors, _scaled_and_rectified)
_write_gradient = _make_second_pass(_four_factors, _gradient)
_write_masked_gradient = _make_second_pass(_four_factors, _masked_gradient)


# ---------------------------------------------------------------------------------------------------- forward


@helper
def _scale_or_rectify(x, tables, row, y, rectify, streaming):  # type: ignore[no-untyped-def]
    if rectify:
        _scale_and_rectify((x,), tables, row, y, streaming)
    else:
        _scale((x,), tables, row, y, streaming)


@helper
def _mean_of_some_rows(x, rows, mean):  # type: ignore[no-untyped-def]
    """mean (C,) of a sixteenth of the rows of x, but at most _SHIFT_ROWS, all over x."""
    columns = mean.size
    count = min(rows, max(1, min(rows // 16, _SHIFT_ROWS)))
    for c in range(columns):
        mean[c] = 0
    for k in range(count):
        start = k * rows // count * columns
        for c in range(columns):
            mean[c] += x[start + c]
    for c in range(columns):
        mean[c] /= count


@helper
def _statistics(mean, var, sums, rows):  # type: ignore[no-untyped-def]
    """From sums (2, C) of x - shift and of its square: the mean minus the shift, and the variance, in their place.

    mean (C,) holds the shift and gets the mean; var (C,) gets the variance.
    """
    offsets, variances = sums[0], sums[1]
    for c in range(mean.size):
        offset = offsets[c] / rows
        variance = variances[c] / rows - offset * offset
        offsets[c] = offset
        variances[c] = 0.0 if variance < 0.0 else variance
    for c in range(mean.size):
        mean[c] += offsets[c]
    for c in range(mean.size):
        var[c] = variances[c]


@kernel
def _batch_norm(  # type: ignore[no-untyped-def]
    x, gamma, beta, epsilon, rectify, width, slices, parts, across, row, mean, var, y, streaming
):
    """x, y flat."""
    columns, length = gamma.size, across.size // (2 * slices)
    sums, tables = np.empty((2, columns)), np.empty((3, width), x.dtype)  # tables: the shift, a and b
    rows = x.size // columns
    _mean_of_some_rows(x, rows, mean)
    _repeat(mean, columns, width, tables[0])
    parallel_for(_sum_deviations, slices * parts, ((x, tables[0]), width, x.size, slices, parts, across))
    offsets, variances = sums[0], sums[1]
    total(across, 0, columns, width, slices, length, offsets)
    total(across, 1, columns, width, slices, length, variances)
    _statistics(mean, var, sums, rows)
    a, b = tables[1], tables[2]
    for c in range(columns):
        a[c] = gamma[c] / sqrt(variances[c] + epsilon)
    for c in range(columns):
        b[c] = beta[c] - offsets[c] * a[c]
    _repeat(a, columns, width, a)
    _repeat(b, columns, width, b)
    _scale_or_rectify(x, tables, row, y, rectify, streaming)


def batch_norm(
    x: Array, gamma: Array, beta: Array, epsilon: float, activation: Literal["relu"] | None = None
) -> tuple[Array, Array, Array]:
    """x (..., C); gamma, beta (C,) -> y (..., C), mean (C,), var (C,), the statistics of this batch."""
    columns = x.shape[-1]
    y, mean, var = buffers.empty(x.shape, x.dtype), np.empty(columns, x.dtype), np.empty(columns, x.dtype)
    width, slices, parts, scratch, row, streaming = _passes(x.size, columns, x.itemsize, 2)
    across = buffers.empty((scratch,), np.float64)
    _batch_norm(
        x.reshape(-1), gamma, beta, epsilon, activation is not None, width, slices, parts, across, row, mean, var,
        y.reshape(-1), streaming,
    )  # fmt: skip
    return y, mean, var


@kernel
def _batch_norm_inference(x, gamma, beta, mean, var, epsilon, rectify, row, tables, y, streaming):  # type: ignore[no-untyped-def]
    """x, y flat; tables (3, row): the mean, a and b."""
    columns = gamma.size
    a = tables[1]
    for c in range(columns):
        a[c] = gamma[c] / sqrt(np.float64(var[c]) + epsilon)
    _repeat(mean, columns, row, tables[0])
    _repeat(a, columns, row, a)
    _repeat(beta, columns, row, tables[2])
    _scale_or_rectify(x, tables, row, y, rectify, streaming)


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
    *_, row, streaming = _passes(x.size, x.shape[-1], x.itemsize, 2)
    tables = np.empty((3, row), x.dtype)
    rectify = activation is not None
    _batch_norm_inference(
        x.reshape(-1), gamma, beta, mean, var, epsilon, rectify, row, tables, y.reshape(-1), streaming
    )
    return y


# ---------------------------------------------------------------------------------------------------- backward


@helper
def _finish_sums(across, gamma, var, epsilon, rows, width, slices, tables, ggamma, gbeta):  # type: ignore[no-untyped-def]
    """The gradients of gamma and beta, and rows 1 to 3 of the tables: a, b and c.

    Loops of few arrays become vectors.
    """
    columns, length = gamma.size, across.size // (2 * slices)
    sums = np.empty((3, columns))  # of gy, of gy * (x - mean), and room for 1 / deviation
    total_gradient, total_product, inverse = sums[0], sums[1], sums[2]
    total(across, 0, columns, width, slices, length, total_gradient)
    total(across, 1, columns, width, slices, length, total_product)
    a, b, c = tables[1], tables[2], tables[3]
    for k in range(columns):
        inverse[k] = 1 / sqrt(np.float64(var[k]) + epsilon)
    for k in range(columns):
        gbeta[k] = total_gradient[k]
    for k in range(columns):
        ggamma[k] = total_product[k] * inverse[k]
    for k in range(columns):
        a[k] = gamma[k] * inverse[k]
    for k in range(columns):
        b[k] = -(gamma[k] * inverse[k]) * inverse[k] * inverse[k] * total_product[k] / rows
    for k in range(columns):
        c[k] = -(gamma[k] * inverse[k]) * total_gradient[k] / rows
    for table in range(1, 4):
        _repeat(tables[table], columns, width, tables[table])


@kernel
def _batch_norm_backward(  # type: ignore[no-untyped-def]
    gy, x, gamma, mean, var, epsilon, width, slices, parts, across, row, gx, ggamma, gbeta, streaming
):
    """gy, x, gx flat."""
    columns, tables = gamma.size, np.empty((4, width), x.dtype)  # the mean, a, b and c
    _repeat(mean, columns, width, tables[0])
    parallel_for(_sum_gradients, slices * parts, ((gy, x, tables[0]), width, x.size, slices, parts, across))
    _finish_sums(across, gamma, var, epsilon, x.size // columns, width, slices, tables, ggamma, gbeta)
    _write_gradient((gy, x), tables, row, gx, streaming)


@kernel
def _masked_batch_norm_backward(  # type: ignore[no-untyped-def]
    gy, x, y, gamma, mean, var, epsilon, width, slices, parts, across, row, gx, ggamma, gbeta, streaming
):
    """As _batch_norm_backward, behind a relu whose output is y."""
    columns, tables = gamma.size, np.empty((4, width), x.dtype)
    _repeat(mean, columns, width, tables[0])
    parallel_for(_sum_masked_gradients, slices * parts, ((gy, x, y, tables[0]), width, x.size, slices, parts, across))
    _finish_sums(across, gamma, var, epsilon, x.size // columns, width, slices, tables, ggamma, gbeta)
    _write_masked_gradient((gy, x, y), tables, row, gx, streaming)


def batch_norm_backward(
    gy: Array, x: Array, gamma: Array, mean: Array, var: Array, epsilon: float, y: Array | None = None
) -> tuple[Array, Array, Array]:
    """gy, x (..., C), the rest (C,) -> gx (..., C), ggamma (C,), gbeta (C,); y is the output if a relu made it."""
    columns = x.shape[-1]
    gx, ggamma, gbeta = buffers.empty(x.shape, x.dtype), np.empty(columns, x.dtype), np.empty(columns, x.dtype)
    width, slices, parts, scratch, row, streaming = _passes(x.size, columns, x.itemsize, 3 if y is None else 4)
    across = buffers.empty((scratch,), np.float64)
    rest = (gamma, mean, var, epsilon, width, slices, parts, across, row, gx.reshape(-1), ggamma, gbeta, streaming)
    if y is None:
        _batch_norm_backward(gy.reshape(-1), x.reshape(-1), *rest)
    else:
        _masked_batch_norm_backward(gy.reshape(-1), x.reshape(-1), y.reshape(-1), *rest)
    return gx, ggamma, gbeta
