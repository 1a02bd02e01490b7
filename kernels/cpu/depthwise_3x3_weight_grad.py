"""Weight gradient of a depthwise convolution with 3x3 windows, in tiles; see depthwise_3x3.py.

x (N, H, W, C), gy (N, OH, OW, C) -> (3, 3, 1, C). Stride 1 or 2, a border of at most one pixel.

    gw[k, l, c] = sum over n, i, j of x[n, i * stride + k - top, j * stride + l - left, c] * gy[n, i, j, c]

A tile is 2x2 pixels of gy and the pixels of x around them, for one vector of channels: nine sums of at most four
products in registers, which are then added to sums in the first-level cache. Pairs of rows of gy are cut into slices,
each with its own sums; they are added up in the end.
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


def weight_grad(x: Array, gy: Array, stride: int, before: Pair, slices: int) -> Array:
    """x (N, H, W, C), gy (N, OH, OW, C) -> (3, 3, 1, C)."""
    n, oh, ow, channels = gy.shape
    gw = np.empty((3, 3, 1, channels), gy.dtype)
    step = host.lanes(gy.itemsize)
    partial = buffers.empty((slices * 9 * -(-channels // step) * step,), gy.dtype)  # sums of whole vectors
    sizes = Sizes(n, oh, ow, x.shape[1], x.shape[2], channels, *before)
    run = _weight_grad_1 if stride == 1 else _weight_grad_2
    run(x.reshape(-1), gy.reshape(-1), gw.reshape(-1), partial, sizes, slices)
    return gw


def _make_weight_grad(stride: int) -> Any:
    @helper
    def add(t, v, g, two):  # type: ignore[no-untyped-def]
        """The sums of three taps with their products of two pixels of gy, or of one."""
        if two:
            return (
                fma(v[stride], g[1], fma(v[0], g[0], t[0])),
                fma(v[stride + 1], g[1], fma(v[1], g[0], t[1])),
                fma(v[stride + 2], g[1], fma(v[2], g[0], t[2])),
            )
        return fma(v[0], g[0], t[0]), fma(v[1], g[0], t[1]), fma(v[2], g[0], t[2])

    @helper
    def row_of(zero, place, pixel, columns):  # type: ignore[no-untyped-def]
        left, middle, right, two = columns
        near, far = pixel_at_if(middle, zero, place, 2 * pixel), pixel_at_if(right, zero, place, (stride + 2) * pixel)
        first, second = pixel_at_if(left, zero, place, 0), pixel_at(zero, place, pixel)
        if stride == 1:
            return first, second, near, far, far
        return first, second, near, pixel_at_if(two, zero, place, 3 * pixel), far

    @helper
    def nine(t0, t1, t2, g, place, pixel, row, first, last, columns):  # type: ignore[no-untyped-def]
        """The nine sums with the products of two neighbouring pixels of gy. first, last: are these rows in x?"""
        zero, two = g[2], columns[3]
        if first:
            t0 = add(t0, row_of(zero, place, pixel, columns), g, two)
        t1 = add(t1, row_of(zero, place + row, pixel, columns), g, two)
        if last:
            t2 = add(t2, row_of(zero, place + 2 * row, pixel, columns), g, two)
        return t0, t1, t2

    @helper
    def some_rows(task, x, gy, partial, s, slices):  # type: ignore[no-untyped-def]
        """One task: the sums over consecutive pairs of rows of gy."""
        step, pixel, size, zero = lanes(x), s.channels, x.itemsize, splat(x.dtype.type(0))
        row, pairs, tap = s.source_columns * pixel * size, (s.rows + 1) // 2, len(partial) // (9 * slices)
        x_place, gy_place, sums = address(x, 0), address(gy, 0), address(partial, task * 9 * tap)
        for i in range(task * 9 * tap, (task + 1) * 9 * tap):
            partial[i] = 0
        for pair in range(task * s.images * pairs // slices, (task + 1) * s.images * pairs // slices):
            n, i = pair // pairs, pair % pairs * 2
            h, lower = i * stride - s.top, i + 1 < s.rows
            above, middle_row, below = h >= 0, h + 2 < s.source_rows, h + stride + 2 < s.source_rows
            for j in range(0, s.columns, 2):
                v, two = j * stride - s.left, j + 1 < s.columns
                columns = v >= 0, v + 2 < s.source_columns, v + stride + 2 < s.source_columns, two
                first = x_place + ((n * s.source_rows + h) * s.source_columns + v) * pixel * size
                gy_first = gy_place + ((n * s.rows + i) * s.columns + j) * pixel * size
                for channel in range(0, s.channels, step):
                    c = min(channel, s.channels - step) * size
                    t0 = t1 = t2 = (zero, zero, zero)
                    place = gy_first + c
                    g = pixel_at(zero, place, 0), pixel_at_if(two, zero, place, pixel), zero
                    t0, t1, t2 = nine(t0, t1, t2, g, first + c, pixel, row, above, middle_row, columns)
                    if lower:
                        place += s.columns * pixel * size
                        g = pixel_at(zero, place, 0), pixel_at_if(two, zero, place, pixel), zero
                        place = first + c + stride * row
                        t0, t1, t2 = nine(t0, t1, t2, g, place, pixel, row, True, below, columns)
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
def _weight_grad_1(x, gy, gw, partial, s, slices):  # type: ignore[no-untyped-def]
    parallel_for(_weight_grad_some_rows_1, slices, (x, gy, partial, s, slices))
    _add_slices(partial, gw, slices)


@kernel
def _weight_grad_2(x, gy, gw, partial, s, slices):  # type: ignore[no-untyped-def]
    parallel_for(_weight_grad_some_rows_2, slices, (x, gy, partial, s, slices))
    _add_slices(partial, gw, slices)
