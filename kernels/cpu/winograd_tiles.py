"""Winograd's tiles: where each lies in the images, and how it gets from there to the 36 planes and back.

V, M and Z hold a block of tiles: 36 planes, one for each point of a transformed tile, of a row for each tile. A row of
V has all channels of a share; M and Z consist of panels of 64 columns or how many the micro-kernel takes.

A tile is 6 x 6 or 4 x 4 short runs of memory far from each other, which the processor does not see coming: the next
tile's are asked for while one is transformed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from minicnn.kernels.contract import Pair
from minicnn.kernels.cpu.jit import helper
from minicnn.kernels.cpu.microkernel import panel_columns
from minicnn.kernels.cpu.simd import lanes, prefetch, prefetch_to_write
from minicnn.kernels.cpu.winograd_transforms import (
    transform_input,
    transform_input_at_border,
    transform_output,
    transform_output_at_border,
    transform_output_grad,
    transform_output_grad_at_border,
)

TILE = 4
"""Outputs of a tile along one side; it reads TILE + 2 inputs."""

LINE = 16
"""Numbers between planes, so that the same place of all 36 does not fall on the same lines of a cache."""

TERMS = 128
"""Most terms of a sum in one pass of the micro-kernel: so many rows of a panel stay in the first-level cache."""


class Tiling(NamedTuple):
    """A convolution's sizes and how it is cut up, in numbers, as compiled functions need them."""

    height: int  # of the images that are read
    width: int
    channels: int
    out_height: int  # of the images that are cut into tiles
    out_width: int
    filters: int
    top: int  # padding
    left: int
    tile_rows: int  # of an image
    tile_columns: int
    tiles: int  # of the whole batch
    block: int  # tiles worked on at a time
    terms: int  # of a pass of the micro-kernel
    channel_shares: int  # of the weight gradient: into how many parts channels are cut, and how many are in a part
    share_channels: int
    share_filters: int
    row: int  # numbers from one tile to the next in a plane of V
    v_plane: int  # numbers from one plane to the next
    panel: int  # columns of a panel of U, M or Z
    u_plane: int
    m_plane: int  # of M or Z
    s_plane: int


@lru_cache(maxsize=256)
def tiling(
    x_shape: tuple[int, ...],
    y_shape: tuple[int, ...],
    top: int,
    left: int,
    parts: int,
    block: int,
    shares: Pair,
    dtype: str,
) -> Tiling:
    """x (N, H, W, C), y (N, OH, OW, F). Tiles are cut into `parts`, channels and filters into `shares`."""
    n, h, w, c = x_shape
    _, oh, ow, f = y_shape
    panel = panel_columns(dtype)
    rows, columns = -(-oh // TILE), -(-ow // TILE)
    tiles = n * rows * columns
    block = max(1, min(block, -(-tiles // parts)))
    passes = -(-c // TERMS)
    lines, panels = -(-c // LINE), -(-f // panel)
    share_channels, share_panels = -(-lines // shares[0]) * LINE, -(-panels // shares[1])
    row = (share_channels // LINE | 1) * LINE
    return Tiling(
        height=h,
        width=w,
        channels=c,
        out_height=oh,
        out_width=ow,
        filters=f,
        top=top,
        left=left,
        tile_rows=rows,
        tile_columns=columns,
        tiles=tiles,
        block=block,
        terms=-(-c // passes),
        channel_shares=shares[0],
        share_channels=share_channels,
        share_filters=share_panels * panel,
        row=row,
        v_plane=block * row + LINE,
        panel=panel,
        u_plane=c * panel + LINE,
        m_plane=share_panels * block * panel + LINE,
        s_plane=share_channels * share_panels * panel + LINE,
    )


# --------------------------------------------------------------------------------------------------- places


@helper
def output_place(tile, t):  # type: ignore[no-untyped-def]
    """First row and column of a tile in its image of the output, and the number of its first pixel in the batch."""
    image, rest = divmod(tile, t.tile_rows * t.tile_columns)
    i, j = divmod(rest, t.tile_columns)
    row, column = i * TILE, j * TILE
    return row, column, (image * t.out_height + row) * t.out_width + column


@helper
def input_place(tile, t):  # type: ignore[no-untyped-def]
    """The same in the input; rows and columns of the padding count from -top and -left."""
    image, rest = divmod(tile, t.tile_rows * t.tile_columns)
    i, j = divmod(rest, t.tile_columns)
    row, column = i * TILE - t.top, j * TILE - t.left
    return row, column, (image * t.height + row) * t.width + column


# --------------------------------------------------------------------------------------------------- tiles


@helper
def input_tile(tile, x, first, channels, t, v, place):  # type: ignore[no-untyped-def]
    """Transform the channels from `first` on of a tile of x into a row of each plane of V.

    Lanes behind the last channel get whatever comes next in memory: the products do not read them.
    """
    row, column, pixel = input_place(tile, t)
    _, _, next_pixel = input_place(tile + 1, t)
    right, down = t.channels, t.width * t.channels
    start, soon = pixel * right + first, next_pixel * right + first + 2 * (down + right)
    last = start + 5 * (down + right) + (channels + lanes(x) - 1) // lanes(x) * lanes(x)
    if row >= 0 and column >= 0 and row + 6 <= t.height and column + 6 <= t.width and last <= x.size:
        for c in range(0, channels, lanes(x)):
            prefetch_tile(x, soon + c, down, right)
            transform_input(x, start + c, down, right, v, place + c, t.v_plane)
    else:
        rows, columns = (-row, t.height - row), (-column, t.width - column)
        for c in range(0, channels, lanes(x)):
            count = min(lanes(x), channels - c)
            prefetch_tile(x, soon + c, down, right)
            transform_input_at_border(x, start + c, down, right, rows, columns, count, v, place + c, t.v_plane)


@helper
def output_tile(tile, m, place, first, filters, t, y, low, high):  # type: ignore[no-untyped-def]
    """Transform a row of each plane of M, one panel wide, into a tile of `filters` filters of y from `first` on."""
    row, column, pixel = output_place(tile, t)
    _, _, next_pixel = output_place(tile + 1, t)
    right, down = t.filters, t.out_width * t.filters
    start, soon = pixel * right + first, next_pixel * right + first
    rows, columns = t.out_height - row, t.out_width - column
    for f in range(0, filters, lanes(y)):
        prefetch_tile_to_write(y, soon + f, down, right)
        if rows >= TILE and columns >= TILE and f + lanes(y) <= filters:
            transform_output(m, place + f, t.m_plane, low, high, y, start + f, down, right)
        else:
            count = min(lanes(y), filters - f)
            transform_output_at_border(
                m, place + f, t.m_plane, low, high, y, start + f, down, right, rows, columns, count
            )  # fmt: skip


@helper
def output_grad_tile(tile, gy, first, filters, t, z, place):  # type: ignore[no-untyped-def]
    """Transform the filters from `first` on of a tile of gy into a row of each plane and panel of Z."""
    row, column, pixel = output_place(tile, t)
    _, _, next_pixel = output_place(tile + 1, t)
    right, down = t.filters, t.out_width * t.filters
    start, soon = pixel * right + first, next_pixel * right + first
    rows, columns = (0, t.out_height - row), (0, t.out_width - column)
    whole = rows[1] >= TILE and columns[1] >= TILE
    for f in range(0, filters, lanes(gy)):
        prefetch_tile(gy, soon + f, down, right)
        panel_place = place + f // t.panel * t.block * t.panel + f % t.panel
        if whole and f + lanes(gy) <= filters:
            transform_output_grad(gy, start + f, down, right, z, panel_place, t.m_plane)
        else:
            count = min(lanes(gy), filters - f)
            transform_output_grad_at_border(gy, start + f, down, right, rows, columns, count, z, panel_place, t.m_plane)


@helper
def prefetch_tile(a, start, down, right):  # type: ignore[no-untyped-def]
    """Ask for a vector of each of 4 x 4 pixels. Of 6 x 6 these are those that no tile before has read."""
    for i in range(TILE):
        for j in range(TILE):
            prefetch(a, start + i * down + j * right)


@helper
def prefetch_tile_to_write(a, start, down, right):  # type: ignore[no-untyped-def]
    for i in range(TILE):
        for j in range(TILE):
            prefetch_to_write(a, start + i * down + j * right)
