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

The matrices are in winograd_transforms.py, the way from images to planes and back in winograd_tiles.py. A direct
convolution does 9 * 16 = 144 multiplications for each tile, channel and filter, this one 36, by the same micro-kernel.
The gradient of x is such a convolution, too (or the adjoint of one, winograd_scatter.py). That of w is

    Z = A gy A^T,   S[p] = sum over the tiles of V[p]^T Z[p], (C, tiles) @ (tiles, F),   gw = G^T S G.

What makes it fast is where things lie. Forward: each thread takes a share of the tiles in blocks whose V fits into the
second-level cache. M is computed for one panel of 64 filters at a time, and transformed to outputs while it is still
there: it never becomes big. U is streamed once for each block. Weight gradient: each thread takes a share of the
channels or filters, and of these all tiles, so that there are no partial sums to add up: some tiles are transformed by
several threads, but none has to wait for another. Rows of V and planes of the 36 points are spaced so that they do not
compete for the same lines of a cache.

The price is accuracy. In float32 the largest error against float64, relative to the largest result, is below 2e-5;
measured with standard normal numbers for C = F = 64, 128, 256, 512 on 4 images of 28 x 28: forward 6, 9, 7, 10,
gradient of x 6, 9, 8, 8, gradient of w 5, 7, 6, 6, all times 1e-6. Where an input is infinite or NaN, all outputs of
the tiles that read it may be NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.microkernel import Product, matrix_kernel, multiply_panel, panel_columns
from minicnn.kernels.cpu.packing import pack_panel_transposed
from minicnn.kernels.cpu.parallel import get_num_threads, parallel_for
from minicnn.kernels.cpu.simd import address, lanes, splat
from minicnn.kernels.cpu.winograd_tiles import LINE, TILE, input_tile, output_grad_tile, output_tile, tiling
from minicnn.kernels.cpu.winograd_transforms import POINTS, transform_taps, transform_weight_grad

GRAD_TERMS = 96
"""Most tiles that the weight gradient sums in one pass of the micro-kernel, where tiles are the terms."""

BIAS_POINT = 7
"""The point (1, 1): a number added to it is added to all 16 outputs, for the second column of A^T is all ones."""

CACHED_FILTERS = 1 << 17
"""Most products C * F for which making U costs no way to memory."""

LARGEST_FILTERS = 1 << 19
"""Most products C * F: U and S take 36 numbers for each."""


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


def prepare_winograd(
    x_shape: tuple[int, int, int, int], w: Array, b: Array | None, padding: Padding2D, low: float, high: float,
    layouts: dict[Any, Array],
) -> Callable[[Array], Array]:  # fmt: skip
    """winograd_conv2d as a function of x alone; see conv.prepare_conv2d. U takes four times the room of w."""
    n, h, width, _ = x_shape
    (top, bottom), (left, right) = padding
    if "winograd" not in layouts:
        layouts["winograd"] = transform_weights(w, rotated=False)
    u = layouts["winograd"]
    shape = n, h + top + bottom - 2, width + left + right - 2, w.shape[3]
    bias = _zeros(w.shape[3], w.dtype.char) if b is None else b

    def run(x: Array) -> Array:
        y = buffers.empty(shape, w.dtype)
        _convolve_into(y, x, u, bias, top, left, low, high)
        return y

    return run


def winograd_input_grad(gy: Array, w: Array, input_size: Pair, padding: Padding2D) -> Array:
    """gy (N, OH, OW, F), w (3, 3, C, F), input_size (H, W) -> (N, H, W, C).

    The gradient is the convolution of gy, with 2 - padding of its own, and the weights turned by 180 degrees.
    """
    c = w.shape[2]
    u = transform_weights(w, rotated=True)
    gx = buffers.empty((gy.shape[0], *input_size, c), gy.dtype)
    _convolve_into(gx, gy, u, _zeros(c, gy.dtype.char), 2 - padding[0][0], 2 - padding[1][0], -np.inf, np.inf)
    return gx


def transform_weights(w: Array, rotated: bool, reverse: bool = True) -> Array:
    """G g G^T of all filters, in the layout that the products read.

    w        (3, 3, C, F), or as if (3, 3, F, C) of the filters turned by 180 degrees if `rotated`;
             not `reverse`: not turned, only channels and filters change places
    returns  U, flat: panels of columns, in each of them 36 planes of C rows
    """
    c, f = w.shape[2:]
    flat, row, panel = w.reshape(-1), f, panel_columns(w.dtype)
    if rotated:
        row = -(-c // LINE) * LINE
        flat = buffers.empty((9 * f * row,), w.dtype)
        _turn(w.reshape(-1), flat, c, f, row, 8 if reverse else 0)
        c, f = f, c
    u = buffers.empty((-(-f // panel) * POINTS * (c * panel + LINE),), w.dtype)
    _transform_weights(flat, row, u, c, f, panel)
    return u


def winograd_weight_grad(x: Array, gy: Array, padding: Padding2D) -> Array:
    """x (N, H, W, C), gy (N, OH, OW, F) -> (3, 3, C, F)."""
    c, f = x.shape[3], gy.shape[3]
    if gy.size == 0:
        return buffers.zeros((3, 3, c, f), x.dtype)
    dtype = x.dtype.char
    shares = _shares(get_num_threads(), c, f, panel_columns(dtype))
    t = tiling(x.shape, gy.shape, padding[0][0], padding[1][0], 1, _block(c, f), shares, dtype)
    gw = buffers.empty((3, 3, c, f), x.dtype)
    tasks = shares[0] * shares[1]
    scratch = buffers.empty((tasks * POINTS * (t.v_plane + t.m_plane + t.s_plane),), x.dtype)
    _weight_grad(x.reshape(-1), gy.reshape(-1), scratch, _zeros(t.panel, dtype), gw.reshape(-1),
                 _steps(t.share_channels, 1), _steps(t.block, t.row), _steps(t.share_channels, t.share_filters),
                 tasks, t, x.dtype.type(np.inf))  # fmt: skip
    return gw


def is_profitable(
    n: int, h_out: int, w_out: int, c: int, f: int, what: Literal["forward", "prepared", "input_grad", "weight_grad"]
) -> bool:
    """Whether Winograd's algorithm pays, which is less exact: whether it saves about a quarter of the time or more.

    The convolution reads c channels and writes n images of h_out x w_out pixels and f channels; for "input_grad" these
    are gy's channels, and size and channels of gx. Work is counted in multiplications, as measured on a Zen 5: those of
    a tile's transforms cost about 500 a channel, those of U 300 a channel and filter (600 with turning w; reading it,
    where it is "prepared", as much) and two to three times as many where it leaves the caches, of S 400.
    """
    once = {"forward": 300, "prepared": 300, "input_grad": 600, "weight_grad": 400}[what]
    if c * f > CACHED_FILTERS:
        once = {"forward": 800, "prepared": 300, "input_grad": 1500, "weight_grad": 400}[what]
    tiles = n * -(-h_out // TILE) * -(-w_out // TILE)
    work = tiles * (POINTS * c * f + 500 * (c + f)) + once * c * f
    return min(c, f) >= 16 and c * f <= LARGEST_FILTERS and 9 * n * h_out * w_out * c * f > 1.3 * work


def _convolve_into(y: Array, x: Array, u: Array, b: Array, top: int, left: int, low: float, high: float) -> None:
    """Write clamp(conv + b) to y; top and left are the padding. Zeros are read wherever a tile leaves the image x."""
    number = x.dtype.type
    tasks = get_num_threads()
    c, f, dtype = x.shape[3], y.shape[3], x.dtype.char
    t = tiling(x.shape, y.shape, top, left, tasks, _block(c, f), (1, -(-f // panel_columns(dtype))), dtype)
    scratch = buffers.empty((tasks * POINTS * (t.v_plane + t.m_plane),), x.dtype)
    _convolve(x.reshape(-1), u, b, _zeros(t.panel, dtype), y.reshape(-1), scratch,
              _steps(t.block, t.row), _steps(t.channels, 1), _steps(t.block, t.panel),
              tasks, t, number(low), number(high), number(np.inf))  # fmt: skip


def _block(c: int, f: int) -> int:
    """Tiles worked on at a time: the more, the larger U or S is, which every block reads from a slower memory."""
    return 48 * max(1, math.isqrt(c * f) // 128)


@lru_cache(maxsize=256)
def _shares(threads: int, c: int, f: int, panel: int) -> Pair:
    """Into how many parts to cut channels and filters, so that there is one for each thread and little is done twice.

    A thread transforms all tiles of its channels of x and of its filters of gy.
    """
    lines, panels = -(-c // LINE), -(-f // panel)
    grids = [(i, min(panels, -(-threads // i))) for i in range(1, min(lines, threads) + 1)]
    return min(grids, key=lambda grid: (max(0, threads - grid[0] * grid[1]), c / grid[0] + f / grid[1]))


@lru_cache(maxsize=256)
def _steps(count: int, step: int) -> Array:
    """0, step, 2 * step, ...: a table of offsets for the micro-kernel."""
    return np.arange(count, dtype=np.int64) * step


@lru_cache(maxsize=256)
def _zeros(count: int, dtype: str) -> Array:
    return np.zeros(count, dtype)


# --------------------------------------------------------------------------------------------------- weights


@kernel
def _turn(w, turned, c, f, row, last):  # type: ignore[no-untyped-def]
    """w (3, 3, C, F) -> (3, 3, F, row), tap t of the nine at |last - t|; `row` is C in whole lines."""
    parallel_for(_turn_tap, 9 * ((f + LINE - 1) // LINE), (w, turned, c, f, row, last))


@helper
def _turn_tap(task, w, turned, c, f, row, last):  # type: ignore[no-untyped-def]
    """LINE filters of one tap."""
    tap, first = task % 9, task // 9 * LINE
    start, place = tap * c * f + first, (abs(last - tap) * f + first) * row
    pack_panel_transposed(w, start, f, min(LINE, f - first), c, turned, place, row)


@kernel
def _transform_weights(w, row, u, c, f, panel):  # type: ignore[no-untyped-def]
    """w (3, 3, C, row), of which the first F of each row are filters."""
    parallel_for(_transform_channel, c, (w, row, u, c, f, panel))


@helper
def _transform_channel(channel, w, row, u, c, f, panel):  # type: ignore[no-untyped-def]
    """All filters of one channel: a row of every panel and plane."""
    width, plane = lanes(w), c * panel + LINE
    for j in range(0, f, width):
        place = j // panel * POINTS * plane + channel * panel + j % panel
        transform_taps(w, channel * row + j, 3 * c * row, c * row, min(width, f - j), u, place, plane)


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
            input_tile(start + i, x, 0, t.channels, t, scratch, v + i * t.row)
        for panel in range((t.filters + t.panel - 1) // t.panel):
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
                output_tile(start + i, scratch, m + i * t.panel, column, columns, t, y, splat(low), splat(high))


# --------------------------------------------------------------------------------------------------- weight gradient


@matrix_kernel
def _weight_grad(x, gy, scratch, zeros, gw, channels, tile_terms, out_rows, tasks, t, infinity):  # type: ignore[no-untyped-def]
    parallel_for(
        _weight_grad_task, tasks, (x, gy, scratch, zeros, gw, channels, tile_terms, out_rows, t, infinity)
    )  # fmt: skip


@helper
def _weight_grad_task(task, x, gy, scratch, zeros, gw, channel_rows, tile_terms, out_rows, t, infinity):  # type: ignore[no-untyped-def]
    """The gradient of some channels' weights to some filters, from all tiles."""
    channel, filter_ = task % t.channel_shares * t.share_channels, task // t.channel_shares * t.share_filters
    channels, filters = min(t.share_channels, t.channels - channel), min(t.share_filters, t.filters - filter_)
    v = task * POINTS * (t.v_plane + t.m_plane + t.s_plane)
    z = v + POINTS * t.v_plane
    s = z + POINTS * t.m_plane
    for start in range(0, t.tiles, t.block):
        count = min(t.block, t.tiles - start)
        for i in range(count):
            input_tile(start + i, x, channel, channels, t, scratch, v + i * t.row)
            output_grad_tile(start + i, gy, filter_, filters, t, scratch, z + i * t.panel)
        for point in range(POINTS):
            for term in range(0, count, GRAD_TERMS):
                for column in range(0, filters, t.panel):
                    first, out = start + term == 0, address(scratch, s + point * t.s_plane + column)
                    product = Product(
                        address(scratch, v + point * t.v_plane + term * t.row), address(channel_rows, 0),
                        address(tile_terms, 0), min(GRAD_TERMS, count - term),
                        address(scratch, z + point * t.m_plane + column * t.block + term * t.panel), t.panel,
                        address(zeros, 0) if first else out, 0 if first else 1,
                        out, address(out_rows, 0), -infinity, infinity, 0
                    )  # fmt: skip
                    multiply_panel(product, channels, min(t.panel, filters - column))
    down, right = 3 * t.channels * t.filters, t.channels * t.filters
    for c in range(channels):
        place = (channel + c) * t.filters + filter_
        for f in range(0, filters, lanes(gw)):
            count = min(lanes(gw), filters - f)
            transform_weight_grad(
                scratch, s + c * t.share_filters + f, t.s_plane, gw, place + f, down, right, count
            )  # fmt: skip
