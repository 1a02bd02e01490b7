"""Gradient of a depthwise convolution with respect to its weights; see depthwise.py, and for the most usual windows
depthwise_3x3_weight_grad.py.

N batch, H W height and width of the input, C its channels, KH KW kernel size, F filters, OH OW height and width of
the output. x (N, H, W, C), gy (N, OH, OW, F) -> (KH, KW, 1, F). F = C * multiplier; where the multiplier is not 1, each
channel of x is repeated.

    gw[k, l, f] = sum over n, i, j of x[n, i * sh + k * dh - top, j * sw + l * dw - left, f] * gy[n, i, j, f]

The rows of gy are cut into slices, whose sums are added up in the end. A row is gone along once for each vector of
channels, with nine sums for the nine taps of a 3x3 window in registers; meanwhile the memory of the next row is asked
for. Other windows take three taps of a row at a time; what is left at the borders, one tap and one pixel.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.cpu import buffers, depthwise_3x3, depthwise_3x3_weight_grad, host
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.parallel import parallel_for
from minicnn.kernels.cpu.simd import fma, lanes, load, load_first, prefetch, splat, store, store_first

SLICES = 16
"""Partial sums of the weights' gradient, each over a part of the rows."""

WORK, TILED_WORK = 1 << 17, 1 << 18
"""Products that a slice has at least: here, and in tiles of 3x3 windows (depthwise_3x3.py)."""


def depthwise_weight_grad(
    x: Array, gy: Array, kernel_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair
) -> Array:
    """x (N, H, W, C), gy (N, OH, OW, F) -> (KH, KW, 1, F)."""
    n, oh, ow, f = gy.shape
    x = repeat_channels(x, f)
    kh, kw = kernel_size
    if f >= host.lanes(gy.itemsize) and depthwise_3x3.serves(kernel_size, strides, padding, dilation):
        slices = max(1, min(SLICES, gy.size * kh * kw // TILED_WORK))
        return depthwise_3x3_weight_grad.weight_grad(x, gy, strides[0], (padding[0][0], padding[1][0]), slices)
    gw = np.empty((kh, kw, 1, f), gy.dtype)
    slices = max(1, min(SLICES, n * oh, gy.size * kh * kw // WORK))
    partial = buffers.empty((slices * kh * kw * f,), gy.dtype)
    sizes, served = _weight_tables((oh, ow), x.shape[1:3], kernel_size, strides, padding, dilation, f)
    _weight_grad(x.reshape(-1), gy.reshape(-1), gw.reshape(-1), partial, sizes, served, slices, n * oh)
    return gw


def repeat_channels(x: Array, filters: int) -> Array:
    """Each channel of x (..., C) once for each of its filters: (..., F)."""
    return x if x.shape[3] == filters else np.repeat(x, filters // x.shape[3], axis=3)


class _Sizes(NamedTuple):
    oh: int
    ow: int
    f: int
    kh: int
    kw: int
    sh: int  # strides, dilation and padding before the first row and column
    sw: int
    dh: int
    dw: int
    top: int
    left: int
    image: int  # numbers in an image of x
    x_row: int  # and in a row


@lru_cache(maxsize=1024)
def _weight_tables(
    size: Pair, source_size: Pair, window: Pair, strides: Pair, padding: Padding2D, dilation: Pair, filters: int
) -> tuple[Array, Array]:
    """The _Sizes, and for each row and each column of the window the first and the last output position it serves."""
    (kh, kw), (sh, sw), (dh, dw), (h, w) = window, strides, dilation, source_size
    (top, _), (left, _) = padding
    sizes = _Sizes(size[0], size[1], filters, kh, kw, sh, sw, dh, dw, top, left, h * w * filters, w * filters)
    rows = [_served(size[0], h, k * dh - top, sh) for k in range(kh)]
    columns = [_served(size[1], w, l * dw - left, sw) for l in range(kw)]
    return np.array(sizes), np.array([*rows, *columns])


def _served(size: int, source_size: int, shift: int, stride: int) -> Pair:
    """The range of output positions i for which 0 <= i * stride + shift < source_size."""
    first = min(max(0, -(shift // stride)), size)
    return first, max(first, min(size, -((shift - source_size) // stride)))


@kernel
def _weight_grad(x, gy, gw, partial, numbers, served, slices, rows):  # type: ignore[no-untyped-def]
    v = numbers
    sizes = _Sizes(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11], v[12])
    parallel_for(_weight_grad_slice, slices, (x, gy, partial, served, slices, rows, sizes))
    step = lanes(gw)
    for i in range(0, len(gw), step):
        count = min(step, len(gw) - i)
        total = load_first(partial, i, count)
        for piece in range(1, slices):
            total = total + load_first(partial, piece * len(gw) + i, count)
        store_first(gw, i, total, count)


@helper
def _weight_grad_slice(task, x, gy, partial, served, slices, rows, s):  # type: ignore[no-untyped-def]
    """One task: the sums over consecutive rows of gy."""
    taps = s.kh * s.kw
    sums = task * taps * s.f
    for i in range(taps * s.f):
        partial[sums + i] = 0
    for row in range(task * rows // slices, (task + 1) * rows // slices):
        n, i = divmod(row, s.oh)
        x_start = n * s.image + (i * s.sh - s.top) * s.x_row - s.left * s.f  # what tap (0, 0) of column 0 reads
        if s.kh == 3 and s.kw == 3 and served[0, 0] <= i < served[2, 1] and served[2, 0] <= i < served[0, 1]:
            _add_nine_taps(x, x_start, gy, row * s.ow * s.f, partial, sums, served, s)
            continue
        for k in range(s.kh):
            if served[k, 0] <= i < served[k, 1]:
                tap = sums + k * s.kw * s.f
                _add_row_of_taps(x, x_start + k * s.dh * s.x_row, gy, row * s.ow * s.f, partial, tap, served, s)


@helper
def _add_nine_taps(x, x_start, gy, gy_start, sums, sums_start, served, s):  # type: ignore[no-untyped-def]
    """Add the sums over a row of gy, for a window of 3x3 taps whose three rows all lie in the image."""
    step = lanes(x)
    whole = s.f // step * step
    first, last = _common_columns(served, s, 0)
    for c in range(0, whole, step):
        _nine(x, x_start + c, gy, gy_start + c, sums, sums_start + c, first, last, s, step)
    if whole < s.f:
        _nine_of_few(x, x_start + whole, gy, gy_start + whole, sums, sums_start + whole, first, last, s, s.f - whole)
    for k in range(3):
        row, taps = x_start + k * s.dh * s.x_row, sums_start + k * 3 * s.f
        _add_other_columns(x, row, gy, gy_start, sums, taps, served, 0, first, last, s)


@helper
def _add_row_of_taps(x, x_start, gy, gy_start, sums, sums_start, served, s):  # type: ignore[no-untyped-def]
    """Add the sums over a row of gy, for one row of taps: three at a time, where all three serve the column."""
    step = lanes(x)
    whole = s.f // step * step
    for l in range(0, s.kw, 3):
        first, last = _common_columns(served, s, l)
        place, tap = x_start + l * s.dw * s.f, sums_start + l * s.f
        if first < last:
            for c in range(0, whole, step):
                _three(x, place + c, gy, gy_start + c, sums, tap + c, first, last, s, step)
            if whole < s.f:
                _three_of_few(x, place + whole, gy, gy_start + whole, sums, tap + whole, first, last, s, s.f - whole)
        _add_other_columns(x, x_start, gy, gy_start, sums, sums_start, served, l, first, last, s)


@helper
def _common_columns(served, s, l):  # type: ignore[no-untyped-def]
    """The range of columns that taps l to l + 2 all serve; empty where there are no three."""
    if l + 3 > s.kw:
        return s.ow, s.ow
    first = max(served[s.kh + l, 0], served[s.kh + l + 2, 0])
    return first, max(first, min(served[s.kh + l, 1], served[s.kh + l + 2, 1]))


@helper
def _add_other_columns(x, x_start, gy, gy_start, sums, sums_start, served, l, first, last, s):  # type: ignore[no-untyped-def]
    """Add the products of up to three taps of a row, from tap l on, in the columns outside of a range."""
    for tap in range(l, min(l + 3, s.kw)):
        for j in range(served[s.kh + tap, 0], served[s.kh + tap, 1]):
            if j < first or j >= last:
                place = x_start + (tap * s.dw + j * s.sw) * s.f
                _add_products(x, place, gy, gy_start + j * s.f, sums, sums_start + tap * s.f, s.f)


@helper
def _add_products(x, x_start, gy, gy_start, sums, sums_start, count):  # type: ignore[no-untyped-def]
    """sums += x * gy for the channels of one pixel."""
    step = lanes(x)
    whole = count // step * step
    for c in range(0, whole, step):
        total = fma(load(x, x_start + c), load(gy, gy_start + c), load(sums, sums_start + c))
        store(sums, sums_start + c, total)
    for c in range(whole, count):
        sums[sums_start + c] += x[x_start + c] * gy[gy_start + c]


@helper
def read_vector(array, i, count):  # type: ignore[no-untyped-def]
    return load(array, i)


@helper
def write_vector(array, i, vector, count):  # type: ignore[no-untyped-def]
    store(array, i, vector)


def _make_sums_of_products(read: Any, write: Any) -> Any:
    """Add the sums over some columns of one vector of channels: for 3x3 taps, and for three taps in a row."""

    @helper
    def nine(x, x_start, gy, gy_start, sums, sums_start, first, last, s, count):  # type: ignore[no-untyped-def]
        zero = splat(x.dtype.type(0))
        s0, s1, s2, s3, s4, s5, s6, s7, s8 = zero, zero, zero, zero, zero, zero, zero, zero, zero
        right, down = s.dw * s.f, s.dh * s.x_row
        next_row = 2 * down + 2 * right + s.sh * s.x_row
        for j in range(first, last):
            g, place = read(gy, gy_start + j * s.f, count), x_start + j * s.sw * s.f
            prefetch(gy, gy_start + (j + s.ow) * s.f)
            prefetch(x, place + next_row)
            s0 = fma(read(x, place, count), g, s0)
            s1 = fma(read(x, place + right, count), g, s1)
            s2 = fma(read(x, place + 2 * right, count), g, s2)
            place += down
            s3 = fma(read(x, place, count), g, s3)
            s4 = fma(read(x, place + right, count), g, s4)
            s5 = fma(read(x, place + 2 * right, count), g, s5)
            place += down
            s6 = fma(read(x, place, count), g, s6)
            s7 = fma(read(x, place + right, count), g, s7)
            s8 = fma(read(x, place + 2 * right, count), g, s8)
        place = sums_start
        for total in (s0, s1, s2, s3, s4, s5, s6, s7, s8):
            write(sums, place, read(sums, place, count) + total, count)
            place += s.f

    @helper
    def three(x, x_start, gy, gy_start, sums, sums_start, first, last, s, count):  # type: ignore[no-untyped-def]
        zero = splat(x.dtype.type(0))
        s0, s1, s2 = zero, zero, zero
        right = s.dw * s.f
        for j in range(first, last):
            g, place = read(gy, gy_start + j * s.f, count), x_start + j * s.sw * s.f
            s0 = fma(read(x, place, count), g, s0)
            s1 = fma(read(x, place + right, count), g, s1)
            s2 = fma(read(x, place + 2 * right, count), g, s2)
        place = sums_start
        for total in (s0, s1, s2):
            write(sums, place, read(sums, place, count) + total, count)
            place += s.f

    return nine, three


_nine, _three = _make_sums_of_products(read_vector, write_vector)
_nine_of_few, _three_of_few = _make_sums_of_products(load_first, store_first)
