"""Winograd's input gradient as the adjoint of the forward pass: each tile of gy is added to the pixels it came from.

The input gradient is a convolution itself, of gy with a border: winograd.py can compute it by tiles of gx. On small
maps these are many more than the tiles of gy. A 12 x 12 output has nine, the 14 x 14 input that it came from sixteen:

    gx tiles, 4 x 4, cut from 14 x 14           gy tiles, 4 x 4, cut from 12 x 12
    +---+---+---+-+                             +---+---+---+
    |   |   |   | |                             |   |   |   |       each is added to 6 x 6 pixels of gx
    +---+---+---+-+                             +---+---+---+

So here every step of y = A^T [ (G g G^T) * (B^T x B) ] A is turned around, for a tile gy of 4 x 4 pixels:

    Z = A gy A^T,   M[p] = Z[p] @ U[p]^T for the 36 points p: (tiles, F) @ (F, C),   gx += B M B^T

Tiles of one image overlap in gx by two rows or columns. So a task has whole images, adds their tiles in order, and the
sums do not depend on the number of threads.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.jit import helper
from minicnn.kernels.cpu.microkernel import Product, matrix_kernel, multiply_panel
from minicnn.kernels.cpu.parallel import get_num_threads, parallel_for
from minicnn.kernels.cpu.simd import address, lanes, load_first, store_first
from minicnn.kernels.cpu.winograd import is_profitable, transform_weights
from minicnn.kernels.cpu.winograd_tiles import (
    LINE,
    TERMS,
    TILE,
    Tiling,
    input_place,
    output_grad_tile,
    output_place,
    tiling,
)
from minicnn.kernels.cpu.winograd_transforms import POINTS, add_input_grad, add_input_grad_at_border

BLOCK_TILES = 48
"""Tiles worked on at a time."""

LEAST_IMAGES = 8
"""Images, of which a task has one at least, to keep the threads busy."""


def scatter_is_profitable(n: int, input_size: Pair, output_size: Pair, c: int, f: int) -> bool:
    """Whether it pays to add up tiles of gy (N, OH, OW, F) for gx (N, H, W, C), rather than to cut gx into tiles: where
    they are a quarter fewer, and where there are images enough to share out."""
    of_gx, of_gy = (math.prod(-(-size // TILE) for size in sizes) for sizes in (input_size, output_size))
    return n >= LEAST_IMAGES and 4 * of_gy <= 3 * of_gx and is_profitable(n, *output_size, f, c, "input_grad")


def winograd_scatter_input_grad(gy: Array, w: Array, input_size: Pair, padding: Padding2D) -> Array:
    """gy (N, OH, OW, F), w (3, 3, C, F), input_size (H, W) -> (N, H, W, C)."""
    c = w.shape[2]
    n, dtype = gy.shape[0], gy.dtype
    u = transform_weights(w, rotated=True, reverse=False)
    gx = buffers.empty((n, *input_size, c), dtype)
    tasks = min(get_num_threads(), n)
    t = tiling(gx.shape, gy.shape, padding[0][0], padding[1][0], 1, BLOCK_TILES, (1, 1), dtype.char)
    scratch = buffers.empty((tasks * POINTS * (t.m_plane + _plane(t)),), dtype)
    rows, terms, zeros = _tables(t, dtype.char)
    _scatter(tasks, n, gy.reshape(-1), u, zeros, gx.reshape(-1), scratch, rows, terms, t, dtype.type(np.inf))
    return gx


@lru_cache(maxsize=256)
def _tables(t: Tiling, dtype: str) -> tuple[Array, Array, Array]:
    """Offsets of a block's tiles in a plane of Z or M, of the filters in a plane of Z, and zeros."""
    f = np.arange(t.filters, dtype=np.int64)
    terms = f // t.panel * (t.block * t.panel) + f % t.panel
    return np.arange(t.block, dtype=np.int64) * t.panel, terms, np.zeros(t.panel, dtype)


def _plane(t: Tiling) -> int:
    """Numbers from one plane of M to the next: one panel of channels."""
    return t.block * t.panel + LINE


@matrix_kernel
def _scatter(tasks, n, gy, u, zeros, gx, scratch, rows, terms, t, infinity):  # type: ignore[no-untyped-def]
    parallel_for(_images_task, tasks, (tasks, n, gy, u, zeros, gx, scratch, rows, terms, t, infinity))


@helper
def _images_task(task, tasks, n, gy, u, zeros, gx, scratch, rows, terms, t, infinity):  # type: ignore[no-untyped-def]
    """A share of the images, block by block of their tiles."""
    plane = t.block * t.panel + LINE
    u_plane = t.filters * t.panel + LINE
    z = task * POINTS * (t.m_plane + plane)
    m = z + POINTS * t.m_plane
    tiles = t.tile_rows * t.tile_columns
    last = (task + 1) * n // tasks * tiles
    for start in range(task * n // tasks * tiles, last, t.block):
        count = min(t.block, last - start)
        for i in range(count):
            if (start + i) % tiles == 0:
                _fill_image((start + i) // tiles, zeros, gx, t)
            output_grad_tile(start + i, gy, 0, t.filters, t, scratch, z + i * t.panel)
        for panel in range((t.channels + t.panel - 1) // t.panel):
            column = panel * t.panel
            columns = min(t.panel, t.channels - column)
            for point in range(POINTS):
                out = address(scratch, m + point * plane)
                for term in range(0, t.filters, TERMS):
                    product = Product(
                        address(scratch, z + point * t.m_plane), address(rows, 0), address(terms, term),
                        min(TERMS, t.filters - term),
                        address(u, (panel * POINTS + point) * u_plane + term * t.panel), t.panel,
                        address(zeros, 0) if term == 0 else out, 0 if term == 0 else 1,
                        out, address(rows, 0), -infinity, infinity, 0,
                    )  # fmt: skip
                    multiply_panel(product, count, columns)
            for i in range(count):
                _add_tile(start + i, scratch, m + i * t.panel, plane, column, columns, t, gx)


@helper
def _fill_image(image, zeros, gx, t):  # type: ignore[no-untyped-def]
    """An image of gx starts as zeros."""
    size = t.height * t.width * t.channels
    nothing = load_first(zeros, 0, 0)
    for i in range(0, size, lanes(gx)):
        store_first(gx, image * size + i, nothing, size - i)


@helper
def _add_tile(tile, m, place, plane, first, channels, t, gx):  # type: ignore[no-untyped-def]
    """Transform a row of each plane of M, one panel wide, and add it to `channels` channels of gx from `first` on."""
    row, column, pixel = input_place(tile, t)
    out_row, out_column, _ = output_place(tile, t)
    right, down = t.channels, t.width * t.channels
    start = pixel * right + first
    # What lies under rows of gy that do not exist gets rounding errors of zeros at most: it is left out.
    rows = -row, min(t.height - row, t.out_height - out_row + 2)
    columns = -column, min(t.width - column, t.out_width - out_column + 2)
    whole = rows[0] <= 0 and columns[0] <= 0 and rows[1] >= TILE + 2 and columns[1] >= TILE + 2
    for c in range(0, channels, lanes(gx)):
        if whole and c + lanes(gx) <= channels:
            add_input_grad(m, place + c, plane, gx, start + c, down, right)
        else:
            count = min(lanes(gx), channels - c)
            add_input_grad_at_border(m, place + c, plane, gx, start + c, down, right, rows, columns, count)
