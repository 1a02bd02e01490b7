"""Weight gradient of a depthwise convolution with 3x3 windows, in tiles; see depthwise_3x3.py.

x (N, H, W, C), gy (N, OH, OW, C) -> (3, 3, 1, C). Stride 1 or 2, a border of at most one pixel.

    gw[k, l, c] = sum over n, i, j of x[n, i * stride + k - top, j * stride + l - left, c] * gy[n, i, j, c]

A tile is 2x2 pixels of gy and the pixels of x around them, for one vector of channels. Nine sums stay in registers for
the tiles of a strip, and are then added to sums in the first-level cache. Pairs of rows of gy are cut into slices, each
with its own sums; they are added up in the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.kernels.contract import Array, Pair
from minicnn.kernels.cpu import buffers, host
from minicnn.kernels.cpu.by_address import lanes_of, store_at
from minicnn.kernels.cpu.depthwise_3x3 import Sizes, pixel_at, pixel_at_if
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.parallel import parallel_for
from minicnn.kernels.cpu.simd import address, fma, lanes, load, splat, store

STRIP, NARROW_STRIP = 16, 2
"""Columns of gy whose products are added up in registers, before the next vector of channels. Narrow ones visit memory
in a better order, which counts where x must come from the memory itself, and a pixel's channels fill several lines."""
BIG_BATCH, BIG_PIXEL = 1 << 23, 1 << 9
"""Bytes."""


def weight_grad(x: Array, gy: Array, stride: int, before: Pair, slices: int) -> Array:
    """x (N, H, W, C), gy (N, OH, OW, C) -> (3, 3, 1, C)."""
    n, oh, ow, channels = gy.shape
    gw = np.empty((3, 3, 1, channels), gy.dtype)
    step = host.lanes(gy.itemsize)
    partial = buffers.empty((slices * 9 * -(-channels // step) * step,), gy.dtype)  # sums of whole vectors
    strip = NARROW_STRIP if x.nbytes >= BIG_BATCH and channels * x.itemsize >= BIG_PIXEL else STRIP
    sizes = Sizes(n, oh, ow, x.shape[1], x.shape[2], channels, *before)
    run = _weight_grad_1 if stride == 1 else _weight_grad_2
    run(x.reshape(-1), gy.reshape(-1), gw.reshape(-1), partial, sizes, slices, strip)
    return gw


def _make_weight_grad(stride: int) -> Any:
    @helper
    def products_of_two(t, zero, place, g_place, pixel, left, right):  # type: ignore[no-untyped-def]
        """The sums of three taps in a row with their products of two pixels of gy. left, right: see `nine`."""
        g0, g1 = pixel_at(zero, g_place, 0), pixel_at(zero, g_place, pixel)
        v0, v1, v2 = pixel_at_if(left, zero, place, 0), pixel_at(zero, place, pixel), pixel_at(zero, place, 2 * pixel)
        v3 = pixel_at(zero, place, (stride + 1) * pixel)
        v4 = pixel_at_if(right, zero, place, (stride + 2) * pixel)
        return (
            fma(v1 if stride == 1 else v2, g1, fma(v0, g0, t[0])),
            fma(v2 if stride == 1 else v3, g1, fma(v1, g0, t[1])),
            fma(v4, g1, fma(v2, g0, t[2])),
        )

    return _make_strip(stride, products_of_two)


@helper
def _products_of_one(t, zero, place, g_place, pixel, left, right):  # type: ignore[no-untyped-def]
    """The same, of one pixel of gy."""
    g = pixel_at(zero, g_place, 0)
    v0, v1 = pixel_at_if(left, zero, place, 0), pixel_at(zero, place, pixel)
    v2 = pixel_at_if(right, zero, place, 2 * pixel)
    return fma(v0, g, t[0]), fma(v1, g, t[1]), fma(v2, g, t[2])


def _make_nine(products: Any) -> Any:
    @helper
    def nine(t, zero, place, g_place, pixel, row, first, last, left, right):  # type: ignore[no-untyped-def]
        """All nine sums. first, last, left, right: whether the outer rows and columns of the window lie in x."""
        t0, t1, t2 = t
        if first:
            t0 = products(t0, zero, place, g_place, pixel, left, right)
        t1 = products(t1, zero, place + row, g_place, pixel, left, right)
        if last:
            t2 = products(t2, zero, place + 2 * row, g_place, pixel, left, right)
        return t0, t1, t2

    return nine


def _make_strip(stride: int, products_of_two: Any) -> Any:
    nine_of_two, nine_of_one = _make_nine(products_of_two), _make_nine(_products_of_one)

    @helper
    def strip(zero, place, g_place, distances, columns, left, right, rows):  # type: ignore[no-untyped-def]
        """The nine sums over one or two rows and some columns of gy."""
        pixel, column, row, g_row = distances
        above, middle, below, lower = rows
        t = ((zero, zero, zero), (zero, zero, zero), (zero, zero, zero))
        for j in range(0, columns - 1, 2):
            at, g_at, not_first, not_last = place + j * stride * column, g_place + j * column, j > 0, j + 2 < columns
            t = nine_of_two(t, zero, at, g_at, pixel, row, above, middle, left or not_first, right or not_last)
            if lower:
                at, g_at = at + stride * row, g_at + g_row
                t = nine_of_two(t, zero, at, g_at, pixel, row, True, below, left or not_first, right or not_last)
        if columns % 2 == 1:
            j = columns - 1
            at, g_at, not_first = place + j * stride * column, g_place + j * column, j > 0
            t = nine_of_one(t, zero, at, g_at, pixel, row, above, middle, left or not_first, right)
            if lower:
                at, g_at = at + stride * row, g_at + g_row
                t = nine_of_one(t, zero, at, g_at, pixel, row, True, below, left or not_first, right)
        return t

    @helper
    def some_rows(task, x, gy, partial, s, slices, width):  # type: ignore[no-untyped-def]
        """One task: the sums over consecutive pairs of rows of gy."""
        step, pixel, size, zero = lanes(x), s.channels, x.itemsize, splat(x.dtype.type(0))
        column, row, g_row = pixel * size, s.source_columns * pixel * size, s.columns * pixel * size
        pairs, tap = (s.rows + 1) // 2, len(partial) // (9 * slices)
        x_place, gy_place, sums = address(x, 0), address(gy, 0), address(partial, task * 9 * tap)
        for i in range(task * 9 * tap, (task + 1) * 9 * tap):
            partial[i] = 0
        for pair in range(task * s.images * pairs // slices, (task + 1) * s.images * pairs // slices):
            n, i = pair // pairs, pair % pairs * 2
            h = i * stride - s.top
            rows = h >= 0, h + 2 < s.source_rows, h + stride + 2 < s.source_rows, i + 1 < s.rows
            for j in range(0, s.columns, width):
                v, columns = j * stride - s.left, min(width, s.columns - j)
                left, right = v >= 0, v + (columns - 1) * stride + 2 < s.source_columns
                place = x_place + (n * s.source_rows + h) * row + v * column
                g_place = gy_place + (n * s.rows + i) * g_row + j * column
                for channel in range(0, s.channels, step):
                    c = min(channel, s.channels - step) * size
                    t0, t1, t2 = strip(
                        zero, place + c, g_place + c, (pixel, column, row, g_row), columns, left, right, rows
                    )
                    _add_to_sums(sums + channel * size, tap, t0)
                    _add_to_sums(sums + (channel + 3 * tap) * size, tap, t1)
                    _add_to_sums(sums + (channel + 6 * tap) * size, tap, t2)

    return some_rows


@helper
def _add_to_sums(place, tap, t):  # type: ignore[no-untyped-def]
    for k in range(3):
        store_at(place, k * tap, pixel_at(t[k], place, k * tap) + t[k], lanes_of(t[k]))


@helper
def _add_slices(partial, gw, slices):  # type: ignore[no-untyped-def]
    """The sums of all slices; the last vector of channels may overlap the one before, as in the slices."""
    step, channels, tap = lanes(gw), len(gw) // 9, len(partial) // (9 * slices)
    for k in range(9):
        for channel in range(0, channels, step):
            total = load(partial, k * tap + channel)
            for piece in range(1, slices):
                total = total + load(partial, (piece * 9 + k) * tap + channel)
            store(gw, k * channels + min(channel, channels - step), total)


_weight_grad_some_rows_1, _weight_grad_some_rows_2 = _make_weight_grad(1), _make_weight_grad(2)


@kernel
def _weight_grad_1(x, gy, gw, partial, s, slices, width):  # type: ignore[no-untyped-def]
    parallel_for(_weight_grad_some_rows_1, slices, (x, gy, partial, s, slices, width))
    _add_slices(partial, gw, slices)


@kernel
def _weight_grad_2(x, gy, gw, partial, s, slices, width):  # type: ignore[no-untyped-def]
    parallel_for(_weight_grad_some_rows_2, slices, (x, gy, partial, s, slices, width))
    _add_slices(partial, gw, slices)
