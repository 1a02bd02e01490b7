"""How a convolution's matrix product is cut into tiles: see conv_tile.cuh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from minicnn.kernels.contract import Array
from minicnn.kernels.gpu.conv_geometry import Sizes
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.packs import lanes


class Tile(NamedTuple):
    """What one block of threads makes; the numbers are those of conv_tile.cuh."""

    name: str
    rows: int
    columns: int
    threads: int
    resident: int
    """Blocks that share a multiprocessor."""
    rate: float
    """Multiplications a second beside the largest tile's: a small one reads more for each."""

    def tiles_over(self, rows: int, columns: int) -> int:
        """How many tiles cover a matrix of that size."""
        return -(-rows // self.rows) * -(-columns // self.columns)


LARGE = Tile("large", 128, 128, 256, resident=2, rate=1.0)
MEDIUM = Tile("medium", 128, 64, 128, resident=3, rate=0.95)
SMALL = Tile("small", 64, 32, 128, resident=5, rate=0.6)
TILES = (LARGE, MEDIUM, SMALL)

MULTIPROCESSORS = 132
"""Of an H100 or H200. A fixed number, so that sums are cut the same way on every device."""
_LONGEST_SLICE, _SHORTEST_SLICE, _SLICE_STEP = 8192, 128, 16
"""Pixels that one block adds up for a weight gradient: a longer float32 sum would round too much, a shorter one costs
less than adding it to the others."""
_SHORTEST_DEPTH = 128
"""Terms of a convolution's sums that are worth a slice."""


class Launch(NamedTuple):
    """How a kernel, given by name, is to be called."""

    kernel: str
    grid: tuple[int, int, int]
    threads: int
    structs: tuple[Any, ...]
    """What the kernel takes by value besides numbers."""


def is_packed(sizes: Sizes, x: Array, w: Array, y: Array) -> bool:
    """Whether channels and filters divide into packs of 16 bytes, and the arrays lie so. x, w, y: they or gradients."""
    channels, filters = sizes.c // sizes.groups, sizes.f // sizes.groups
    return lanes(channels, x) > 1 and lanes(filters, w, y) > 1


def kernel_name(stem: str, tile: Tile, packed: bool) -> str:
    """Of the kernel for packs, or of the one for any number of channels."""
    return f"{stem}_{tile.name}" if packed else f"{stem}_{tile.name}_any"


def fastest_tile(rows: int, columns: int, products: int, candidates: Sequence[Tile]) -> Tile:
    """The tile with which `products` matrices (rows, columns) take the least time.

    Multiprocessors take tiles in turn, and the last turn takes as long as a full one.
    """

    def time(tile: Tile) -> float:
        turns = -(-tile.tiles_over(rows, columns) * products // MULTIPROCESSORS)
        return turns * tile.rows * tile.columns / tile.rate

    return min(candidates, key=time)


def tightest_tile(rows: int, columns: int, candidates: Sequence[Tile]) -> Tile:
    """The tile that wastes least, where slices of the sums fill the device whatever the tile."""
    return min(candidates, key=lambda tile: tile.tiles_over(rows, columns) * tile.rows * tile.columns / tile.rate)


def slice_pixels(pixels: int, tiles: int, resident: int) -> int:
    """The length of a slice with which `tiles` tiles of each fill the device once, or as often as the bounds want.

    resident   blocks that a multiprocessor holds
    """
    filling = max(1, MULTIPROCESSORS * resident // max(1, tiles))
    slices = filling * max(1, -(-pixels // (filling * _LONGEST_SLICE)))
    length = max(_SHORTEST_SLICE, -(-pixels // slices))
    return -(-length // _SLICE_STEP) * _SLICE_STEP


def slice_depth(depth: int, tiles: int) -> int:
    """The terms of a slice with which few tiles still give every multiprocessor a block; all terms of tiles enough."""
    slices = min(MULTIPROCESSORS // max(1, tiles), depth // _SHORTEST_DEPTH)
    if slices < 2:
        return max(depth, 1)
    return -(-depth // (slices * _SLICE_STEP)) * _SLICE_STEP


def geometry(file: str, dtype: str, sizes: Sizes) -> Any:
    """The struct ConvGeometry of that file."""
    return module(file, dtype).struct("ConvGeometry", **sizes._asdict())


def tap_steps(file: str, dtype: str, sizes: Sizes) -> Any:
    """The struct Steps of conv_patches.cuh for a convolution forward."""
    return module(file, dtype).struct(
        "Steps",
        tap=sizes.dw * sizes.c - sizes.c // sizes.groups,
        row=(sizes.dh * sizes.w - sizes.kw * sizes.dw) * sizes.c,
    )
