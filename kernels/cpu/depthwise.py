"""Depthwise convolution: each channel by itself, vectors along the channels.

N batch, H W height and width of the input, C its channels, KH KW kernel size, F filters, OH OW height and width of
the output. x (N, H, W, C), w (KH, KW, 1, F), gy (N, OH, OW, F). F = C * multiplier; where the multiplier is not 1,
each channel of x is repeated, so that filter f reads channel f and all below is elementwise in F.

There are few products (9 for each number of a 3x3 convolution), so what counts is that memory is read and written once
and from front to back. Rows of the output are computed one after another; the rows of the input that they share stay in
the second-level cache. Within a row, four pixels are computed at once for one vector of channels after another: a
weight that was loaded serves four sums, and memory is still visited nearly in order.

The gradient of the input is the same computation with other tables. Both say for each pixel of their result which taps
reach it and which pixel each tap reads; tables of rows and columns hold that, so strides, dilation and padding are
nothing to the loops. The four pixels are such as share their taps: neighbours, or in the gradient of a convolution with
stride s every s-th. The gradient of the weights is another matter: depthwise_weight_grad.py. And 3x3 windows with small
borders, which are nearly all that networks have, go to depthwise_3x3.py.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.cpu import buffers, depthwise_3x3, host
from minicnn.kernels.cpu.depthwise_weight_grad import depthwise_weight_grad, read_vector, repeat_channels, write_vector
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.parallel import parallel_for
from minicnn.kernels.cpu.simd import clamp, fma, lanes, load_first, prefetch, prefetch_to_write, splat, store_first

__all__ = ["depthwise_conv2d", "depthwise_input_grad", "depthwise_weight_grad"]

TASKS = 64
SERIAL = 1 << 16
"""With fewer products, the work is done on the calling thread."""

ONE_AROUND = ((1, 1), (1, 1))

AHEAD = 8
"""How many pixels before it is needed memory is asked for. The order in which it is visited, channel by channel of four
pixels, is not one that processors foresee."""


def depthwise_conv2d(
    x: Array, w: Array, b: Array | None, strides: Pair, padding: Padding2D, dilation: Pair, low: float, high: float
) -> Array:
    """x (N, H, W, C), w (KH, KW, 1, F), b (F,) or None -> clamp(conv(x, w) + b, low, high), (N, OH, OW, F)."""
    x = repeat_channels(x, w.shape[3])
    size, window = x.shape[1:3], w.shape[:2]
    output_size = tuple(
        (size[i] + sum(padding[i]) - (window[i] - 1) * dilation[i] - 1) // strides[i] + 1 for i in range(2)
    )
    b = np.zeros(w.shape[3], w.dtype) if b is None else b
    if _in_tiles(x, output_size, (2, 4), window, strides, padding, dilation):
        return depthwise_3x3.convolve(x, w, b, output_size, strides[0], (padding[0][0], padding[1][0]), low, high)
    tables = _tables(output_size, size, window, strides, padding, dilation, x.shape[3], backward=False)
    return _gather(x, w, b, output_size, tables, low, high)


def depthwise_input_grad(
    gy: Array, w: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair, channels: int
) -> Array:
    """gy (N, OH, OW, F), w (KH, KW, 1, F), input_size (H, W) -> (N, H, W, channels)."""
    n, f = gy.shape[0], gy.shape[3]
    gx = _input_grad(gy, w, input_size, strides, padding, dilation)
    if f == channels:
        return gx
    return gx.reshape(n, *input_size, channels, f // channels).sum(axis=4)


def _input_grad(gy: Array, w: Array, size: Pair, strides: Pair, padding: Padding2D, dilation: Pair) -> Array:
    """gy (N, OH, OW, F) -> (N, H, W, F): of each filter by itself."""
    (_, oh, ow, f), window, (top, left) = gy.shape, w.shape[:2], (padding[0][0], padding[1][0])
    if strides == (1, 1) and padding == ONE_AROUND and _in_tiles(gy, size, (2, 4), window, strides, padding, dilation):
        nothing = np.zeros(f, w.dtype)
        return depthwise_3x3.convolve(gy, w, nothing, size, 1, (1, 1), -np.inf, np.inf, flipped=True)
    if strides == (2, 2) and _in_tiles(gy, size, (4, 4), window, strides, padding, dilation):
        return depthwise_3x3.input_grad_2(gy, w, size, (top, left))
    tables = _tables(size, (oh, ow), window, strides, padding, dilation, f, backward=True)
    return _gather(gy, w, np.zeros(f, w.dtype), size, tables, -np.inf, np.inf)


def _in_tiles(
    source: Array, size: Pair, tile: Pair, window: Pair, strides: Pair, padding: Padding2D, dilation: Pair
) -> bool:
    """Whether depthwise_3x3.py computes this: a result of `size` that holds a tile, channels that fill a vector."""
    enough = size[0] >= tile[0] and size[1] >= tile[1] and source.shape[3] >= host.lanes(source.itemsize)
    return enough and depthwise_3x3.serves(window, strides, padding, dilation)


class Axis(NamedTuple):
    """For each row (or column) of the result: which taps reach it, and what each of them reads.

    The taps lie at even distances in the window, and so do the rows that they read.
    """

    first: Array  # (size, 3): the first tap, the row that it reads, how many taps
    tap_step: int
    source_step: int


def _forward_axis(size: int, source_size: int, window: int, stride: int, before: int, dilation: int) -> Axis:
    """Output row i reads input row i * stride + k * dilation - before by tap k."""
    first = np.zeros((size, 3), np.int64)
    for i in range(size):
        taps = [k for k in range(window) if 0 <= i * stride + k * dilation - before < source_size]
        if taps:
            first[i] = taps[0], i * stride + taps[0] * dilation - before, len(taps)
    return Axis(first, 1, dilation)


def _backward_axis(size: int, source_size: int, window: int, stride: int, before: int, dilation: int) -> Axis:
    """Input row i was read by output row (i + before - k * dilation) / stride, where that is a whole number."""
    step = stride // math.gcd(stride, dilation)
    first = np.zeros((size, 3), np.int64)
    for i in range(size):
        reads = [(k, *divmod(i + before - k * dilation, stride)) for k in range(window)]
        taps = [(k, row) for k, row, rest in reads if rest == 0 and 0 <= row < source_size]
        if taps:
            first[i] = *taps[0], len(taps)
    return Axis(first, step, -(step * dilation // stride))


class Tables(NamedTuple):
    """Two axes as the loops take them: in numbers of memory instead of rows and columns."""

    rows: Array  # (rows, 3): offset into w, offset into an image, how many taps
    groups: Array  # (groups, 5): first column, 1 or 4 columns, offset into w, offset into a row, how many taps
    steps: Array  # from tap to tap: of rows in w and in the image, of columns in both; from pixel to pixel: of what is
    # read and of the result


@lru_cache(maxsize=1024)
def _tables(
    size: Pair,
    source_size: Pair,
    window: Pair,
    strides: Pair,
    padding: Padding2D,
    dilation: Pair,
    filters: int,
    backward: bool,
) -> Tables:
    """Tables for a result of `size` that is computed from images of `source_size`."""
    make = _backward_axis if backward else _forward_axis
    rows, columns = (make(size[i], source_size[i], window[i], strides[i], padding[i][0], dilation[i]) for i in range(2))
    w_row, source_row = window[1] * filters, source_size[1] * filters
    distance, pixel = (strides[1], 1) if backward else (1, strides[1])
    groups = [
        (column, count, *(columns.first[column] * (filters, filters, 1)))
        for column, count in _groups(columns.first, distance)
    ]
    steps = [rows.tap_step * w_row, rows.source_step * source_row, columns.tap_step * filters,
             columns.source_step * filters, pixel * filters, distance * filters]  # fmt: skip
    return Tables(rows.first * (w_row, source_row, 1), np.array(groups), np.array(steps))


def _groups(columns: Array, distance: int) -> list[Pair]:
    """(first column, how many) for runs of four columns, so far apart, that the same taps reach; else single ones."""
    groups = []
    for residue in range(min(distance, len(columns))):
        column = residue
        while column < len(columns):
            run = columns[column : column + 4 * distance : distance]
            same = len(run) == 4 and (run[:, ::2] == run[0, ::2]).all()
            groups.append((column, 4 if same else 1))
            column += distance * groups[-1][1]
    return sorted(groups)


def _gather(source: Array, w: Array, b: Array, size: Pair, tables: Tables, low: float, high: float) -> Array:
    """Sum what the tables say: source (N, ., ., F), w (KH, KW, 1, F), b (F,) -> (N, *size, F)."""
    n, f, dtype = source.shape[0], source.shape[3], source.dtype.type
    y = buffers.empty((n, *size, f), dtype)
    if y.size:
        tasks = 1 if y.size * w.shape[0] * w.shape[1] < SERIAL else min(TASKS, n * size[0])
        _gather_rows(source.reshape(-1), w.reshape(-1), b, y.reshape(-1), tasks, n, *tables, dtype(low), dtype(high))
    return y


@kernel
def _gather_rows(x, w, b, y, tasks, images, rows, groups, steps, low, high):  # type: ignore[no-untyped-def]
    parallel_for(_gather_some_rows, tasks, (x, w, b, y, tasks, images, rows, groups, steps, low, high))


class _Pixels(NamedTuple):
    """Pixels of the result that are computed at once."""

    source: int  # what the first tap reads
    weights: int  # the first tap
    rows: int  # how many rows and columns of taps
    columns: int
    w_row: int  # see Tables.steps
    x_row: int
    w_column: int
    x_column: int
    pixel: int
    distance: int
    result: int


@helper
def _gather_some_rows(task, x, w, b, y, tasks, images, rows, groups, steps, low, high):  # type: ignore[no-untyped-def]
    """One task: consecutive rows of the result."""
    f, step, height = len(b), lanes(y), len(rows)
    whole = f // step * step
    image, result_row = len(x) // images, len(y) // (images * height)
    limits = (splat(low), splat(high))
    first, last = task * images * height // tasks, (task + 1) * images * height // tasks
    for row in range(first, last):
        n, i = divmod(row, height)
        for group in range(len(groups)):
            p = _Pixels(
                n * image + rows[i, 1] + groups[group, 3], rows[i, 0] + groups[group, 2], rows[i, 2], groups[group, 4],
                steps[0], steps[1], steps[2], steps[3], steps[4], steps[5], row * result_row + groups[group, 0] * f,
            )  # fmt: skip
            nine = p.rows == 3 and p.columns == 3
            if groups[group, 1] == 1:
                for c in range(0, whole, step):
                    if nine:
                        _one_of_nine(x, w, b, y, p, limits, c, step)
                    else:
                        _one(x, w, b, y, p, limits, c, step)
                if whole < f:
                    _one_of_few(x, w, b, y, p, limits, whole, f - whole)
                continue
            lowest_row = p.source + max(0, (p.rows - 1) * p.x_row)  # the one that was not read for the row above
            for c in range(0, whole, step):
                for pixel in range(AHEAD, AHEAD + 4):
                    prefetch(x, lowest_row + pixel * p.pixel + c)
                    prefetch_to_write(y, p.result + pixel * p.distance + c)
                if nine:
                    _four_of_nine(x, w, b, y, p, limits, c, step)
                else:
                    _four(x, w, b, y, p, limits, c, step)
            if whole < f:
                _four_of_few(x, w, b, y, p, limits, whole, f - whole)


def _make_sums(read: Any, write: Any, nine: bool) -> Any:
    """Sums for one vector of channels: of four pixels, and of one. nine: for 3x3 taps, in straight-line code."""

    @helper
    def four(x, w, b, y, p, limits, c, count):  # type: ignore[no-untyped-def]
        start = read(b, c, count)
        s0, s1, s2, s3 = start, start, start, start
        rows, columns = (3, 3) if nine else (p.rows, p.columns)
        for i in range(rows):
            for j in range(columns):
                weights = read(w, p.weights + i * p.w_row + j * p.w_column + c, count)
                place = p.source + i * p.x_row + j * p.x_column + c
                s0 = fma(read(x, place, count), weights, s0)
                s1 = fma(read(x, place + p.pixel, count), weights, s1)
                s2 = fma(read(x, place + 2 * p.pixel, count), weights, s2)
                s3 = fma(read(x, place + 3 * p.pixel, count), weights, s3)
        place, (low, high) = p.result + c, limits
        write(y, place, clamp(s0, low, high), count)
        write(y, place + p.distance, clamp(s1, low, high), count)
        write(y, place + 2 * p.distance, clamp(s2, low, high), count)
        write(y, place + 3 * p.distance, clamp(s3, low, high), count)

    @helper
    def one(x, w, b, y, p, limits, c, count):  # type: ignore[no-untyped-def]
        total = read(b, c, count)
        rows, columns = (3, 3) if nine else (p.rows, p.columns)
        for i in range(rows):
            for j in range(columns):
                weights = read(w, p.weights + i * p.w_row + j * p.w_column + c, count)
                total = fma(read(x, p.source + i * p.x_row + j * p.x_column + c, count), weights, total)
        write(y, p.result + c, clamp(total, limits[0], limits[1]), count)

    return four, one


_four_of_nine, _one_of_nine = _make_sums(read_vector, write_vector, nine=True)
_four, _one = _make_sums(read_vector, write_vector, nine=False)
_four_of_few, _one_of_few = _make_sums(load_first, store_first, nine=False)
