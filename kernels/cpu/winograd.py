"""Convolution of 3 x 3 filters at stride 1 with a quarter of the multiplications: Winograd's F(4x4, 3x3).

N batch, H W height and width of the input, C its channels, OH OW height and width of the output, F filters.

The output is cut into tiles of 4 x 4 pixels; each needs 6 x 6 pixels of the input, so neighbours overlap by two:

    +-+-------+-+-------+-+
    | |       | |       | |          V = B^T d B     36 numbers of each channel of a tile d of x
    +-+-------+-+-------+-+          U = G g G^T     36 numbers of each 3 x 3 filter g
    | |  tile | |  tile | |
    | |       | |       | |          M[p] = V[p] @ U[p]     for each of the 36 points p: (tiles, C) @ (C, F)
    +-+-------+-+-------+-+
    | |       | |       | |          y = A^T M A     16 outputs of each tile and filter

The matrices are in winograd_transforms.py. A direct convolution multiplies 9 * 16 = 144 numbers for each tile, channel
and filter, this one 36, by the same micro-kernel. The gradient of x is such a convolution, too. That of w is

    Z = A gy A^T,   S[p] = sum over the tiles of V[p]^T Z[p], (C, tiles) @ (tiles, F),   gw = G^T S G.

What makes it fast is where things lie. Forward: each thread takes a share of the tiles in blocks whose V fits into the
second-level cache. M is computed for one panel of 64 filters at a time, and transformed to outputs while it is still
there: it never becomes big. U is streamed once for each block. Weight gradient: a block of tiles is transformed by all
threads, then each thread adds to its share of the 36 points: there is one S, and no partial sums. Rows of V and
planes of the 36 points are spaced so that they do not compete for the same lines of a cache.

The price is accuracy. In float32 the largest error against float64, relative to the largest result, is below 2e-5;
measured with standard normal numbers for C = F = 64, 128, 256, 512 on 4 images of 28 x 28: forward 6, 9, 7, 10,
gradient of x 6, 9, 8, 8, gradient of w 5, 7, 6, 6, all times 1e-6. Where an input is infinite or NaN, all outputs of
the tiles that read it may be NaN.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.microkernel import Product, matrix_kernel, multiply_panel, panel_columns
from minicnn.kernels.cpu.parallel import get_num_threads, parallel_for
from minicnn.kernels.cpu.simd import address, lanes, splat
from minicnn.kernels.cpu.winograd_transforms import (
    POINTS,
    TILE,
    transform_input,
    transform_input_at_border,
    transform_output,
    transform_output_at_border,
    transform_output_grad,
    transform_output_grad_at_border,
    transform_weight_grad,
)
from minicnn.kernels.cpu.winograd_transforms import transform_weights as transform_taps

LINE = 16
"""Numbers between planes, so that the same place of all 36 does not fall on the same lines of a cache."""

TERMS = 128
"""Most terms of a sum in one pass of the micro-kernel: so many rows of a panel stay in the first-level cache."""

GRAD_TERMS = 96
"""The same for the weight gradient, whose terms are tiles."""

BIAS_POINT = 7
"""The point (1, 1): a number added to it is added to all 16 outputs, for the second column of A^T is all ones."""


LARGEST_FILTERS = 1 << 19
"""Most products C * F: U and S take 36 numbers for each."""


class Tiling(NamedTuple):
    """A convolution's sizes: what the compiled functions need to know, in numbers."""

    batch: int
    height: int  # of the images that are read
    width: int
    channels: int
    out_height: int  # of the images whose tiles are counted
    out_width: int
    filters: int
    top: int  # padding
    left: int
    tile_rows: int  # of an image
    tile_columns: int
    tiles: int  # of the whole batch
    block: int  # tiles worked on at a time
    terms: int  # channels a pass
    row: int  # numbers from one tile to the next in a plane of V
    v_plane: int  # numbers from one plane to the next
    panel: int  # columns of a panel of U, M or Z
    panels: int
    u_plane: int
    m_plane: int


def winograd_conv2d(x: Array, w: Array, b: Array | None, padding: Padding2D, low: float, high: float) -> Array:
    """clamp(conv2d(x, w) + b, low, high) at stride 1.

    x (N, H, W, C), w (3, 3, C, F), b (F,) or None -> (N, OH, OW, F); low and high may be -inf and inf.
    """
    n, h, width, _ = x.shape
    (top, bottom), (left, right) = padding
    u = transform_weights(w, rotated=False)
    y = buffers.empty((n, h + top + bottom - 2, width + left + right - 2, w.shape[3]), x.dtype)
    bias = _zeros(w.shape[3], x.dtype.char) if b is None else b
    _convolve_into(y, x, u, bias, top, left, low, high)
    return y


def winograd_input_grad(gy: Array, w: Array, input_size: Pair, padding: Padding2D) -> Array:
    """gy (N, OH, OW, F), w (3, 3, C, F), input_size (H, W) -> (N, H, W, C).

    The gradient is the convolution of gy, with 2 - padding of its own, and the weights turned by 180 degrees.
    """
    c = w.shape[2]
    u = transform_weights(w, rotated=True)
    gx = buffers.empty((gy.shape[0], *input_size, c), gy.dtype)
    _convolve_into(gx, gy, u, _zeros(c, gy.dtype.char), 2 - padding[0][0], 2 - padding[1][0], -np.inf, np.inf)
    return gx


def transform_weights(w: Array, rotated: bool) -> Array:
    """G g G^T of all filters, in the layout that the products read.

    w        (3, 3, C, F), or as if (3, 3, F, C) of the filters turned by 180 degrees if `rotated`
    returns  U, flat: panels of columns, in each of them 36 planes of C rows
    """
    if rotated:
        turned = buffers.empty((3, 3, w.shape[3], w.shape[2]), w.dtype)
        _turn(w.reshape(-1), turned.reshape(-1), w.shape[2], w.shape[3])
        w = turned
    c, f = w.shape[2:]
    panel = panel_columns(w.dtype)
    u = buffers.empty((-(-f // panel) * POINTS * (c * panel + LINE),), w.dtype)
    _transform_weights(w.reshape(-1), u, c, f, panel)
    return u


def winograd_weight_grad(x: Array, gy: Array, padding: Padding2D) -> Array:
    """x (N, H, W, C), gy (N, OH, OW, F) -> (3, 3, C, F)."""
    c, f = x.shape[3], gy.shape[3]
    t = _tiling(x.shape, gy.shape, padding[0][0], padding[1][0], _block(96, 288, c, f), x.dtype.char)
    if t.tiles == 0:
        return buffers.zeros((3, 3, c, f), x.dtype)
    gw = buffers.empty((3, 3, c, f), x.dtype)
    v = buffers.empty((POINTS * t.v_plane,), x.dtype)
    z = buffers.empty((POINTS * t.panels * t.m_plane,), x.dtype)
    s = buffers.empty((POINTS * (c * f + LINE),), x.dtype)
    _weight_grad(x.reshape(-1), gy.reshape(-1), v, z, s, _zeros(t.panel, x.dtype.char), gw.reshape(-1),
                 _steps(c, 1), _steps(t.block, t.row), _steps(c, f), t, x.dtype.type(np.inf))  # fmt: skip
    return gw


def is_profitable(
    n: int, h_out: int, w_out: int, c: int, f: int, what: Literal["forward", "input_grad", "weight_grad"]
) -> bool:
    """Whether Winograd's algorithm is at least a quarter faster than a direct convolution.

    The convolution reads c channels and writes n images of h_out x w_out pixels and f channels; for "input_grad" these
    are gy's channels, and size and channels of gx. Work is counted in multiplications: all transforms of a tile take
    the time of about 700 a channel, and those of U or S of 800, with turning the filters 1500, a channel and filter.
    """
    tiles = n * -(-h_out // TILE) * -(-w_out // TILE)
    once = 1500 if what == "input_grad" else 800
    work = tiles * (POINTS * c * f + 700 * (c + f)) + once * c * f
    return min(c, f) >= 16 and c * f <= LARGEST_FILTERS and 9 * n * h_out * w_out * c * f > 1.25 * work


def _convolve_into(y: Array, x: Array, u: Array, b: Array, top: int, left: int, low: float, high: float) -> None:
    """Write clamp(conv + b) to y; top and left are the padding. Zeros are read wherever a tile leaves the image x."""
    number = x.dtype.type
    tasks = get_num_threads()
    t = _tiling(x.shape, y.shape, top, left, _block(36, 96, x.shape[3], y.shape[3]), x.dtype.char)
    scratch = buffers.empty((tasks, POINTS * (t.v_plane + t.m_plane)), x.dtype).reshape(-1)
    _convolve(x.reshape(-1), u, b, _zeros(t.panel, x.dtype.char), y.reshape(-1), scratch,
              _steps(t.block, t.row), _steps(t.channels, 1), _steps(t.block, t.panel),
              tasks, t, number(low), number(high), number(np.inf))  # fmt: skip


def _block(usual: int, large: int, c: int, f: int) -> int:
    """Tiles worked on at a time: many where U or S, which every block reads, is too large for the last-level cache."""
    return large if POINTS * c * f > 1 << 22 else usual


@lru_cache(maxsize=256)
def _tiling(x_shape: tuple[int, ...], y_shape: tuple[int, ...], top: int, left: int, block: int, dtype: str) -> Tiling:
    n, h, w, c = x_shape
    _, oh, ow, f = y_shape
    rows, columns, panel = -(-oh // TILE), -(-ow // TILE), panel_columns(dtype)
    tiles = n * rows * columns
    block = max(1, min(block, tiles))
    passes = -(-c // TERMS)
    row = (-(-c // LINE) | 1) * LINE
    return Tiling(n, h, w, c, oh, ow, f, top, left, rows, columns, tiles, block, -(-c // passes),
                  row, block * row + LINE, panel, -(-f // panel), c * panel + LINE, block * panel + LINE)  # fmt: skip


@lru_cache(maxsize=256)
def _steps(count: int, step: int) -> Array:
    """0, step, 2 * step, ...: a table of offsets for the micro-kernel."""
    return np.arange(count, dtype=np.int64) * step


@lru_cache(maxsize=256)
def _zeros(count: int, dtype: str) -> Array:
    return np.zeros(count, dtype)


# --------------------------------------------------------------------------------------------------- weights


@kernel
def _turn(w, turned, c, f):  # type: ignore[no-untyped-def]
    """w (3, 3, C, F) -> (3, 3, F, C), rows and columns of the taps in reverse."""
    parallel_for(_turn_tap, 9 * ((f + LINE - 1) // LINE), (w, turned, c, f))


@helper
def _turn_tap(task, w, turned, c, f):  # type: ignore[no-untyped-def]
    """LINE filters of one tap."""
    strips = (f + LINE - 1) // LINE
    tap, first = task // strips, task % strips * LINE
    source, target = tap * c * f, (8 - tap) * c * f
    for i in range(c):
        for j in range(first, min(first + LINE, f)):
            turned[target + j * c + i] = w[source + i * f + j]


@kernel
def _transform_weights(w, u, c, f, panel):  # type: ignore[no-untyped-def]
    parallel_for(_transform_channel, c, (w, u, c, f, panel))


@helper
def _transform_channel(channel, w, u, c, f, panel):  # type: ignore[no-untyped-def]
    """All filters of one channel: a row of every panel and plane."""
    width, plane = lanes(w), c * panel + LINE
    for j in range(0, f, width):
        place = j // panel * POINTS * plane + channel * panel + j % panel
        transform_taps(w, channel * f + j, 3 * c * f, c * f, min(width, f - j), u, place, plane)


# --------------------------------------------------------------------------------------------------- tiles


@helper
def _tile_place(tile, t):  # type: ignore[no-untyped-def]
    """Image, and first row and column of the output of a tile."""
    image, rest = divmod(tile, t.tile_rows * t.tile_columns)
    i, j = divmod(rest, t.tile_columns)
    return image, i * TILE, j * TILE


@helper
def _input_tile(tile, x, t, v, place):  # type: ignore[no-untyped-def]
    """Transform all channels of a tile into a row of each plane of V.

    Lanes behind the last channel get whatever comes next in memory: the products do not read them.
    """
    image, i, j = _tile_place(tile, t)
    top, left = i - t.top, j - t.left
    right, down = t.channels, t.width * t.channels
    start = (image * t.height + top) * down + left * right
    vectors = (t.channels + lanes(x) - 1) // lanes(x)
    within = top >= 0 and left >= 0 and top + 6 <= t.height and left + 6 <= t.width
    if within and start + 5 * (down + right) + vectors * lanes(x) <= x.size:
        for c in range(0, t.channels, lanes(x)):
            transform_input(x, start + c, down, right, v, place + c, t.v_plane)
    else:
        rows, columns = (-top, t.height - top), (-left, t.width - left)
        for c in range(0, t.channels, lanes(x)):
            count = min(lanes(x), t.channels - c)
            transform_input_at_border(x, start + c, down, right, rows, columns, count, v, place + c, t.v_plane)


@helper
def _output_tile(tile, m, place, first, count, t, y, low, high):  # type: ignore[no-untyped-def]
    """Transform a row of each plane of M into a tile of `count` filters from `first` on."""
    image, i, j = _tile_place(tile, t)
    right, down = t.filters, t.out_width * t.filters
    start = (image * t.out_height + i) * down + j * right + first
    rows, columns = t.out_height - i, t.out_width - j
    for f in range(0, count, lanes(y)):
        if rows >= TILE and columns >= TILE and count - f >= lanes(y):
            transform_output(m, place + f, t.m_plane, low, high, y, start + f, down, right)
        else:
            transform_output_at_border(
                m, place + f, t.m_plane, low, high, y, start + f, down, right, rows, columns, min(lanes(y), count - f)
            )


# --------------------------------------------------------------------------------------------------- forward


@matrix_kernel
def _convolve(x, u, b, zeros, y, scratch, tile_rows, terms, out_rows, tasks, t, low, high, infinity):  # type: ignore[no-untyped-def]
    parallel_for(
        _convolve_task, tasks, (x, u, b, zeros, y, scratch, tile_rows, terms, out_rows, tasks, t, low, high, infinity)
    )


@helper
def _convolve_task(task, x, u, b, zeros, y, scratch, tile_rows, terms, out_rows, tasks, t, low, high, infinity):  # type: ignore[no-untyped-def]
    """A share of the tiles, block by block."""
    v = task * POINTS * (t.v_plane + t.m_plane)
    m = v + POINTS * t.v_plane
    first, last = task * t.tiles // tasks, (task + 1) * t.tiles // tasks
    for start in range(first, last, t.block):
        count = min(t.block, last - start)
        for i in range(count):
            _input_tile(start + i, x, t, scratch, v + i * t.row)
        for panel in range(t.panels):
            column = panel * t.panel
            columns = min(t.panel, t.filters - column)
            for point in range(POINTS):
                bias = address(b, column) if point == BIAS_POINT else address(zeros, 0)
                for term in range(0, t.channels, t.terms):
                    out = address(scratch, m + point * t.m_plane)
                    product = Product(
                        address(scratch, v + point * t.v_plane + term), address(tile_rows, 0),
                        address(terms, 0), min(t.terms, t.channels - term),
                        address(u, (panel * POINTS + point) * t.u_plane + term * t.panel), t.panel,
                        bias if term == 0 else out, 0 if term == 0 else 1,
                        out, address(out_rows, 0), -infinity, infinity, 0
                    )  # fmt: skip
                    multiply_panel(product, count, columns)
            for i in range(count):
                _output_tile(start + i, scratch, m + i * t.panel, column, columns, t, y, splat(low), splat(high))


# --------------------------------------------------------------------------------------------------- weight gradient


@matrix_kernel
def _weight_grad(x, gy, v, z, s, zeros, gw, channel_rows, terms, out_rows, t, infinity):  # type: ignore[no-untyped-def]
    """Block by block of tiles: transform them in parallel, then add to the 36 sums in parallel. Then G^T S G."""
    for start in range(0, t.tiles, t.block):
        count = min(t.block, t.tiles - start)
        parallel_for(_transform_tile, count, (start, x, gy, t, v, z))
        parallel_for(
            _add_point, POINTS, (start == 0, count, v, z, s, zeros, channel_rows, terms, out_rows, t, infinity)
        )  # fmt: skip
    parallel_for(_weight_grad_of_channel, t.channels, (s, gw, t))


@helper
def _transform_tile(slot, start, x, gy, t, v, z):  # type: ignore[no-untyped-def]
    """A tile of x into a row of each plane of V, and of gy into a row of each plane and panel of Z."""
    _input_tile(start + slot, x, t, v, slot * t.row)
    image, i, j = _tile_place(start + slot, t)
    right, down = t.filters, t.out_width * t.filters
    first = (image * t.out_height + i) * down + j * right
    rows, columns = (0, t.out_height - i), (0, t.out_width - j)
    within = rows[1] >= TILE and columns[1] >= TILE
    for f in range(0, t.filters, lanes(gy)):
        place = f // t.panel * POINTS * t.m_plane + slot * t.panel + f % t.panel
        if within and f + lanes(gy) <= t.filters:
            transform_output_grad(gy, first + f, down, right, z, place, t.m_plane)
        else:
            count = min(lanes(gy), t.filters - f)
            transform_output_grad_at_border(gy, first + f, down, right, rows, columns, count, z, place, t.m_plane)


@helper
def _add_point(point, fresh, count, v, z, s, zeros, channel_rows, terms, out_rows, t, infinity):  # type: ignore[no-untyped-def]
    """S[point] += V[point]^T Z[point], (C, tiles) times (tiles, F); `fresh` if there is nothing in S yet."""
    s_plane = point * (t.channels * t.filters + LINE)
    for term in range(0, count, GRAD_TERMS):
        for panel in range(t.panels):
            column = panel * t.panel
            out = address(s, s_plane + column)
            first = fresh and term == 0
            product = Product(
                address(v, point * t.v_plane + term * t.row), address(channel_rows, 0),
                address(terms, 0), min(GRAD_TERMS, count - term),
                address(z, (panel * POINTS + point) * t.m_plane + term * t.panel), t.panel,
                address(zeros, 0) if first else out, 0 if first else 1,
                out, address(out_rows, 0), -infinity, infinity, 0
            )  # fmt: skip
            multiply_panel(product, t.channels, min(t.panel, t.filters - column))


@helper
def _weight_grad_of_channel(channel, s, gw, t):  # type: ignore[no-untyped-def]
    plane = t.channels * t.filters + LINE
    for f in range(0, t.filters, lanes(s)):
        place, count = channel * t.filters + f, min(lanes(s), t.filters - f)
        down = 3 * t.channels * t.filters
        transform_weight_grad(s, place, plane, gw, place, down, t.channels * t.filters, count)
