"""Depthwise convolution with 3x3 windows, in tiles; see depthwise.py, which computes all that this file does not.

x (N, H, W, C), w (3, 3, 1, C), y (N, OH, OW, C), gx and gy as x and y. Stride 1 or 2, a border of at most one pixel.

A tile is a few neighbouring pixels of two or more rows, for one vector of channels, in straight-line code: its sums and
the nine weights stay in registers, and a pixel that was loaded serves all the windows of the tile that it lies in.

    convolution, and its input gradient for stride 1    2x4 pixels of y from 4x6 (stride 2: 5x9) of x
    input gradient for stride 2                         4x4 pixels of gx from 3x3 of gy
    weight gradient (depthwise_3x3_weight_grad.py)      9 sums over 2x2 pixels of gy, 4x4 (stride 2: 5x5) of x

A tile goes along all channels before the next tile's turn, and tiles along a row, so memory is visited nearly in order
and the rows that tiles share stay in the cache. Where the size is no multiple of the tile's, or of the vector's, the
last tile overlaps the one before and computes some numbers twice. Of pixels outside of the image, a row is left out; in
a column zeros stand in for them. Tiles go by addresses: an array that is passed into a branch has its references
counted there, which would cost more than the tile.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.by_address import lanes_of, load_at, store_at
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.parallel import parallel_for
from minicnn.kernels.cpu.simd import address, clamp, fma, lanes, load, prefetch, splat, store

TASKS = 64
SERIAL = 1 << 13
"""With fewer numbers in the result, the work is done on the calling thread."""

AHEAD = 12
"""How many pixels of x before it is needed memory is asked for. The order in which it is visited, channel by channel of
a tile, is not one that processors foresee."""


class Sizes(NamedTuple):
    """Of a result (N, rows, columns, C), which is computed from `source`."""

    images: int
    rows: int
    columns: int
    source_rows: int
    source_columns: int
    channels: int
    top: int  # rows and columns of zeros before the first of the source
    left: int


@lru_cache(maxsize=1024)
def serves(window: Pair, strides: Pair, padding: Padding2D, dilation: Pair) -> bool:
    """Whether a convolution is of the kind that this file is made for."""
    narrow = all(width in (0, 1) for sides in padding for width in sides)
    return window == (3, 3) and strides in ((1, 1), (2, 2)) and dilation == (1, 1) and narrow


def _tasks(result: Array) -> int:
    return TASKS if result.size >= SERIAL else 1


# -------------------------------------------------------------------------------------------------------- convolution


def convolve(
    x: Array, w: Array, b: Array, size: Pair, stride: int, before: Pair, low: float, high: float, flipped: bool = False
) -> Array:
    """x (N, H, W, C), w (3, 3, 1, C), b (C,), size (OH, OW), at least (2, 4) -> clamp(conv(x, w) + b), (N, OH, OW, C).

    before: rows and columns of zeros above and left of x, 0 or 1. flipped: with the window turned by 180 degrees.
    """
    n, height, width, channels = x.shape
    y, number = buffers.empty((n, *size, channels), x.dtype), x.dtype.type
    sizes = Sizes(n, *size, height, width, channels, *before)
    run = _convolve_1 if stride == 1 else _convolve_2
    taps = (8 * channels, -channels) if flipped else (0, channels)
    run(x.reshape(-1), w.reshape(-1), b, y.reshape(-1), _tasks(y), sizes, taps, (number(low), number(high)))
    return y


@helper
def pixel_at(zero, place, i):  # type: ignore[no-untyped-def]
    """A vector of the pixel that lies i numbers behind an address."""
    return load_at(zero, place, i, lanes_of(zero))


@helper
def pixel_at_if(inside, zero, place, i):  # type: ignore[no-untyped-def]
    """The same, or zeros for a pixel outside of the image."""
    return load_at(zero, place, i, lanes_of(zero)) if inside else zero


@helper
def _row_of_6(zero, place, pixel, left, right):  # type: ignore[no-untyped-def]
    """Six neighbouring pixels of a row. left, right: whether the first and the last lie in the image."""
    return (
        pixel_at_if(left, zero, place, 0), pixel_at(zero, place, pixel), pixel_at(zero, place, 2 * pixel),
        pixel_at(zero, place, 3 * pixel), pixel_at(zero, place, 4 * pixel), pixel_at_if(right, zero, place, 5 * pixel),
    )  # fmt: skip


@helper
def _row_of_9(zero, place, pixel, left, right):  # type: ignore[no-untyped-def]
    return (
        pixel_at_if(left, zero, place, 0), pixel_at(zero, place, pixel), pixel_at(zero, place, 2 * pixel),
        pixel_at(zero, place, 3 * pixel), pixel_at(zero, place, 4 * pixel), pixel_at(zero, place, 5 * pixel),
        pixel_at(zero, place, 6 * pixel), pixel_at(zero, place, 7 * pixel), pixel_at_if(right, zero, place, 8 * pixel),
    )  # fmt: skip


@helper
def _three_taps(total, v0, v1, v2, w):  # type: ignore[no-untyped-def]
    return fma(v2, w[2], fma(v1, w[1], fma(v0, w[0], total)))


def _make_convolution(stride: int, row_of: Any) -> Any:
    @helper
    def add(s, v, w):  # type: ignore[no-untyped-def]
        """The sums of four pixels with the products of a row of taps, w, and the row of x that they meet."""
        return (
            _three_taps(s[0], v[0], v[1], v[2], w),
            _three_taps(s[1], v[stride], v[stride + 1], v[stride + 2], w),
            _three_taps(s[2], v[2 * stride], v[2 * stride + 1], v[2 * stride + 2], w),
            _three_taps(s[3], v[3 * stride], v[3 * stride + 1], v[3 * stride + 2], w),
        )

    @helper
    def tile(zero, place, pixel, row, inside, weights, start):  # type: ignore[no-untyped-def]
        """The sums of 2x4 pixels, whose first window starts at the address `place`. row: in bytes."""
        above, below, left, right = inside
        w0, w1, w2 = weights
        upper, lower = (start, start, start, start), (start, start, start, start)
        if above:
            upper = add(upper, row_of(zero, place, pixel, left, right), w0)
        v = row_of(zero, place + row, pixel, left, right)
        upper = add(upper, v, w1)
        if stride == 1:
            lower = add(lower, v, w0)
        v = row_of(zero, place + 2 * row, pixel, left, right)
        upper = add(upper, v, w2)
        lower = add(lower, v, w1 if stride == 1 else w0)
        if stride == 2:
            lower = add(lower, row_of(zero, place + 3 * row, pixel, left, right), w1)
        if below:
            lower = add(lower, row_of(zero, place + (2 + stride) * row, pixel, left, right), w2)
        return upper, lower

    @helper
    def some_rows(task, x, w, b, y, tasks, s, taps, limits):  # type: ignore[no-untyped-def]
        """One task: consecutive pairs of rows."""
        step, pixel, pairs = lanes(x), s.channels, (s.rows + 1) // 2
        x_row, x_place, zero = s.source_columns * pixel, address(x, 0), splat(x.dtype.type(0))
        row = x_row * x.itemsize
        low, high = splat(limits[0]), splat(limits[1])
        for pair in range(task * s.images * pairs // tasks, (task + 1) * s.images * pairs // tasks):
            n, i = pair // pairs, min(pair % pairs * 2, s.rows - 2)
            first_row = i * stride - s.top
            for four in range(0, s.columns, 4):
                j = min(four, s.columns - 4)
                first_column = j * stride - s.left
                inside = (
                    first_row >= 0, first_row + 2 + stride < s.source_rows,
                    first_column >= 0, first_column + 2 + 3 * stride < s.source_columns,
                )  # fmt: skip
                first = ((n * s.source_rows + first_row) * s.source_columns + first_column) * pixel
                upper_place = ((n * s.rows + i) * s.columns + j) * pixel
                lower_place = upper_place + s.columns * pixel
                for channel in range(0, s.channels, step):
                    c = min(channel, s.channels - step)
                    for k in range(AHEAD, AHEAD + 4 * stride):
                        for new_row in range(3 - stride, 3 + stride):
                            prefetch(x, first + c + k * pixel + new_row * x_row)
                    weights = _weights(w, taps[0] + c, taps[1])
                    place = x_place + (first + c) * x.itemsize
                    upper, lower = tile(zero, place, pixel, row, inside, weights, load(b, c))
                    for k in range(4):
                        store(y, upper_place + k * pixel + c, clamp(upper[k], low, high))
                        store(y, lower_place + k * pixel + c, clamp(lower[k], low, high))

    return some_rows


@helper
def _weights(w, first, step):  # type: ignore[no-untyped-def]
    """Three rows of three taps, which lie `step` apart."""
    return (
        (load(w, first), load(w, first + step), load(w, first + 2 * step)),
        (load(w, first + 3 * step), load(w, first + 4 * step), load(w, first + 5 * step)),
        (load(w, first + 6 * step), load(w, first + 7 * step), load(w, first + 8 * step)),
    )


_some_rows_1, _some_rows_2 = _make_convolution(1, _row_of_6), _make_convolution(2, _row_of_9)


@kernel
def _convolve_1(x, w, b, y, tasks, s, taps, limits):  # type: ignore[no-untyped-def]
    parallel_for(_some_rows_1, tasks, (x, w, b, y, tasks, s, taps, limits))


@kernel
def _convolve_2(x, w, b, y, tasks, s, taps, limits):  # type: ignore[no-untyped-def]
    parallel_for(_some_rows_2, tasks, (x, w, b, y, tasks, s, taps, limits))


# ---------------------------------------------------------------------------------------- input gradient for stride 2


def input_grad_2(gy: Array, w: Array, size: Pair, before: Pair) -> Array:
    """gy (N, OH, OW, C), w (3, 3, 1, C), size (H, W) -> (N, H, W, C), for stride 2.

    With tap k, row m of gy reaches row 2 m + k - top of gx. So from row 2 m - top on, gx has two rows, of which the
    first gets gy[m] w[0] + gy[m-1] w[2], the second gy[m] w[1]; with columns it is the same.
    """
    n, oh, ow, channels = gy.shape
    gx = buffers.empty((n, *size, channels), gy.dtype)
    sizes = Sizes(n, *size, oh, ow, channels, *before)
    _input_grad_2(gy.reshape(-1), w.reshape(-1), gx.reshape(-1), _tasks(gx), sizes)
    return gx


@kernel
def _input_grad_2(gy, w, gx, tasks, s):  # type: ignore[no-untyped-def]
    parallel_for(_input_grad_some_rows, tasks, (gy, w, gx, tasks, s))


@helper
def _input_grad_some_rows(task, gy, w, gx, tasks, s):  # type: ignore[no-untyped-def]
    """One task: consecutive pairs of pairs of rows."""
    step, pixel, size, zero = lanes(gy), s.channels, gy.itemsize, splat(gy.dtype.type(0))
    source, result = address(gy, 0), address(gx, 0)
    row_pairs, column_pairs = (s.rows + s.top + 1) // 2, (s.columns + s.left + 1) // 2
    blocks = (row_pairs + 1) // 2
    row, result_row = s.source_columns * pixel * size, s.columns * pixel * size
    for block in range(task * s.images * blocks // tasks, (task + 1) * s.images * blocks // tasks):
        n, i = block // blocks, min(block % blocks * 2, row_pairs - 2)
        for two in range(0, column_pairs, 2):
            j = min(two, column_pairs - 2)
            inside = i > 0, i + 1 < s.source_rows, j > 0, j + 1 < s.source_columns
            h, v = 2 * i - s.top, 2 * j - s.left
            shown = h >= 0, h + 3 < s.rows, v >= 0, v + 3 < s.columns
            first = ((n * s.source_rows + i - 1) * s.source_columns + j - 1) * pixel
            result_first = ((n * s.rows + h) * s.columns + v) * pixel
            for channel in range(0, s.channels, step):
                c = min(channel, s.channels - step)
                s0, s1, s2, s3 = _input_grad_tile(
                    zero, source + (first + c) * size, pixel, row, inside, _weights(w, c, s.channels)
                )
                place = result + (result_first + c) * size
                if shown[0]:
                    _store_row(place, pixel, s0, shown)
                _store_row(place + result_row, pixel, s1, shown)
                _store_row(place + 2 * result_row, pixel, s2, shown)
                if shown[1]:
                    _store_row(place + 3 * result_row, pixel, s3, shown)


@helper
def _input_grad_tile(zero, place, pixel, row, inside, weights):  # type: ignore[no-untyped-def]
    """The sums of 4x4 pixels of gx, from the 3x3 of gy of which the first lies at `place`."""
    above, below, left, right = inside
    w0, w1, w2 = weights
    s0 = s1 = s2 = s3 = (zero, zero, zero, zero)
    if above:
        s0 = _spread(s0, _row_of_3(zero, place, pixel, left, right), w2)
    v = _row_of_3(zero, place + row, pixel, left, right)
    s0, s1, s2 = _spread(s0, v, w0), _spread(s1, v, w1), _spread(s2, v, w2)
    if below:
        v = _row_of_3(zero, place + 2 * row, pixel, left, right)
        s2, s3 = _spread(s2, v, w0), _spread(s3, v, w1)
    return s0, s1, s2, s3


@helper
def _row_of_3(zero, place, pixel, left, right):  # type: ignore[no-untyped-def]
    return (
        pixel_at_if(left, zero, place, 0),
        pixel_at(zero, place, pixel),
        pixel_at_if(right, zero, place, 2 * pixel),
    )


@helper
def _spread(s, v, w):  # type: ignore[no-untyped-def]
    """The sums of four pixels of gx with the products of a row of taps, w, and three pixels of gy."""
    return (
        fma(v[1], w[0], fma(v[0], w[2], s[0])),
        fma(v[1], w[1], s[1]),
        fma(v[2], w[0], fma(v[1], w[2], s[2])),
        fma(v[2], w[1], s[3]),
    )


@helper
def _store_row(place, pixel, s, shown):  # type: ignore[no-untyped-def]
    """Write four pixels; the first and the last where they lie in the image."""
    if shown[2]:
        store_at(place, 0, s[0], lanes_of(s[0]))
    store_at(place, pixel, s[1], lanes_of(s[1]))
    store_at(place, 2 * pixel, s[2], lanes_of(s[2]))
    if shown[3]:
        store_at(place, 3 * pixel, s[3], lanes_of(s[3]))
