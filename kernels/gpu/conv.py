"""Convolutions on the device: which kernels serve which, and how the work is cut into tiles.

- depthwise (one input channel a group): depthwise.py
- 1x1 that reads every pixel at its own place: one product of matrices, gemm.py
- all others: products of matrices that are never written out, conv.cu and conv_weight_grad.cu

N batch, H W height and width of the input, C its channels, KH KW kernel size, F filters, OH OW height and width of
the output, G groups.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from minicnn.kernels.contract import Array, EpilogueName, Padding2D, Pair
from minicnn.kernels.gpu import depthwise
from minicnn.kernels.gpu.activation_codes import CODES
from minicnn.kernels.gpu.conv_geometry import Sizes, convolution_sizes, input_grad_sizes, weight_grad_sizes
from minicnn.kernels.gpu.gemm import gemm
from minicnn.kernels.gpu.launch import THREADS, blocks_for
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.packs import lanes
from minicnn.kernels.gpu.runtime import cp
from minicnn.kernels.gpu.slices import sum_slices

_FILE, _WEIGHT_GRAD_FILE = "conv.cu", "conv_weight_grad.cu"


def conv2d(
    x: Array,
    w: Array,
    b: Array | None,
    strides: Pair,
    padding: Padding2D,
    dilation: Pair,
    groups: int,
    activation: EpilogueName | None = None,
) -> Array:
    """x (N, H, W, C), w (KH, KW, C/G, F), b (F,) or None -> act(conv(x, w) + b), (N, OH, OW, F)."""
    sizes = convolution_sizes(x.shape, w.shape, strides, padding, dilation, groups)
    y = cp.empty(sizes.y_shape, x.dtype)
    if sizes.is_depthwise:
        depthwise.forward(x, w, b, y, sizes, activation)
    elif sizes.is_pointwise:
        gemm(_pixels(x), _pixels(w), _pixels(y), bias=b, activation=activation)
    else:
        _forward(x, w, b, y, sizes, activation)
    return y


def conv2d_input_grad(
    gy: Array, w: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair, groups: int
) -> Array:
    """gy (N, OH, OW, F), w (KH, KW, C/G, F), input_size (H, W) -> (N, H, W, C)."""
    sizes = input_grad_sizes(gy.shape, w.shape, input_size, strides, padding, dilation, groups)
    gx = cp.empty(sizes.x_shape, gy.dtype)
    if sizes.is_depthwise:
        depthwise.input_grad(gy, w, gx, sizes)
    elif sizes.is_pointwise:
        gemm(_pixels(gy), _pixels(w), _pixels(gx), transpose_b=True)
    else:
        _input_grad(gy, w, gx, sizes)
    return gx


def conv2d_weight_grad(
    x: Array, gy: Array, kernel_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair, groups: int
) -> Array:
    """x (N, H, W, C), gy (N, OH, OW, F), kernel_size (KH, KW) -> (KH, KW, C/G, F)."""
    sizes = weight_grad_sizes(x.shape, gy.shape, kernel_size, strides, padding, dilation, groups)
    gw = cp.empty(sizes.w_shape, x.dtype)
    if sizes.is_depthwise:
        depthwise.weight_grad(x, gy, gw, sizes)
    elif sizes.is_pointwise:
        gemm(_pixels(x), _pixels(gy), _pixels(gw), transpose_a=True)
    else:
        _weight_grad(x, gy, gw, sizes)
    return gw


def _pixels(a: Array) -> Array:
    """(..., C) -> (product of the others, C), a view."""
    rows = 1
    for size in a.shape[:-1]:
        rows *= size
    return a.reshape(rows, a.shape[-1])


# ---------------------------------------------------------------------------------------------------- tiles


class _Tile(NamedTuple):
    """What one block of threads makes; the numbers are those of conv_tile.cuh."""

    name: str
    rows: int
    columns: int
    threads: int
    resident: int
    """Blocks that share a multiprocessor."""
    rate: float
    """Multiplications a second beside the largest tile's: a small one reads more for each."""


_LARGE = _Tile("large", 128, 128, 256, resident=2, rate=1.0)
_MEDIUM = _Tile("medium", 128, 64, 128, resident=3, rate=0.95)
_SMALL = _Tile("small", 64, 32, 128, resident=5, rate=0.6)
_PACKED_TILES = [(_LARGE, "_large"), (_MEDIUM, "_medium"), (_SMALL, "_small")]
_ANY_TILES = [(_MEDIUM, "_medium_any"), (_SMALL, "_small_any")]

_MULTIPROCESSORS = 132
"""Of an H100 or H200. A fixed number, so that sums are cut the same way on every device."""
_LONGEST_SLICE, _SHORTEST_SLICE, _SLICE_STEP = 8192, 128, 16
"""Pixels that one block adds up for a weight gradient: a longer float32 sum would round too much, a shorter one costs
less than adding it to the others."""


def _tiles(rows: int, columns: int, tile: _Tile) -> int:
    """How many tiles cover a product of that size."""
    return -(-rows // tile.rows) * -(-columns // tile.columns)


def _choose_tile(rows: int, columns: int, products: int, packed: bool) -> tuple[_Tile, str]:
    """The tile with which `products` matrices (rows, columns) take the least time, and its kernels' suffix.

    Multiprocessors take tiles in turn, and the last turn takes as long as a full one.
    """

    def time(candidate: tuple[_Tile, str]) -> float:
        tile, _ = candidate
        turns = -(-_tiles(rows, columns, tile) * products // _MULTIPROCESSORS)
        return turns * tile.rows * tile.columns / tile.rate

    return min(_PACKED_TILES if packed else _ANY_TILES, key=time)


def _is_packed(sizes: Sizes, x: Array, w: Array, y: Array) -> bool:
    """Whether channels and filters divide into packs of 16 bytes, and the arrays lie so. x, w, y: they or gradients."""
    channels, filters = sizes.c // sizes.groups, sizes.f // sizes.groups
    return lanes(channels, x) > 1 and lanes(filters, w, y) > 1


class _Launch(NamedTuple):
    """How a kernel of conv.cu or conv_weight_grad.cu, given by name, is to be called."""

    kernel: str
    grid: tuple[int, int, int]
    threads: int
    structs: tuple[Any, ...]
    """What the kernel takes besides arrays and numbers: a ConvGeometry, and Steps where the host works them out."""


def _struct(file: str, dtype: str, name: str, **fields: int) -> Any:
    """A struct that the kernels of a file take by value."""
    return module(file, dtype).struct(name, **fields)


# ---------------------------------------------------------------------------------------------------- forward


def _forward(x: Array, w: Array, b: Array | None, y: Array, sizes: Sizes, activation: EpilogueName | None) -> None:
    """Fill y (N, OH, OW, F)."""
    launch = _plan_forward(sizes, _is_packed(sizes, x, w, y), x.dtype.name)
    kernel = module(_FILE, x.dtype).kernel(launch.kernel)
    in_passing = activation in (None, "relu", "relu6")
    kernel(launch.grid, launch.threads, x, w, b, y, *launch.structs, CODES[activation if in_passing else None])
    if not in_passing:
        module(_FILE, x.dtype).kernel("conv2d_activate")(blocks_for(y.size), THREADS, y, y.size, CODES[activation])


@lru_cache(maxsize=1024)
def _plan_forward(sizes: Sizes, packed: bool, dtype: str) -> _Launch:
    rows, columns = sizes.n * sizes.oh * sizes.ow, sizes.f // sizes.groups
    tile, suffix = _choose_tile(rows, columns, sizes.groups, packed)
    grid = (_tiles(rows, columns, tile), sizes.groups, 1)
    geometry = _struct(_FILE, dtype, "ConvGeometry", **sizes._asdict())
    steps = _struct(
        _FILE,
        dtype,
        "Steps",
        tap=sizes.dw * sizes.c - sizes.c // sizes.groups,
        row=(sizes.dh * sizes.w - sizes.kw * sizes.dw) * sizes.c,
    )
    return _Launch(f"conv2d{suffix}", grid, tile.threads, (geometry, steps))


# ---------------------------------------------------------------------------------------------------- input gradient


def _input_grad(gy: Array, w: Array, gx: Array, sizes: Sizes) -> None:
    """Fill gx (N, H, W, C)."""
    launch = _plan_input_grad(sizes, _is_packed(sizes, gx, w, gy), gy.dtype.name)
    kernel = module(_FILE, gy.dtype).kernel(launch.kernel)
    kernel(launch.grid, launch.threads, gy, w, gx, *launch.structs)


@lru_cache(maxsize=1024)
def _plan_input_grad(sizes: Sizes, packed: bool, dtype: str) -> _Launch:
    """Pixels fall into SH * SW classes, each a product of its own; the first class has the most pixels."""
    rows = sizes.n * -(-sizes.h // sizes.sh) * -(-sizes.w // sizes.sw)
    columns, classes = sizes.c // sizes.groups, sizes.sh * sizes.sw
    tile, suffix = _choose_tile(rows, columns, sizes.groups * classes, packed)
    grid = (_tiles(rows, columns, tile), sizes.groups, classes)
    geometry = _struct(_FILE, dtype, "ConvGeometry", **sizes._asdict())
    return _Launch(f"conv2d_input_grad{suffix}", grid, tile.threads, (geometry,))


# ---------------------------------------------------------------------------------------------------- weight gradient


def _weight_grad(x: Array, gy: Array, gw: Array, sizes: Sizes) -> None:
    """Fill gw (KH, KW, C/G, F): slices of the pixels first, then their sum."""
    launch, slice_pixels = _plan_weight_grad(sizes, _is_packed(sizes, x, gw, gy), x.dtype.name)
    slices = launch.grid[2]
    partial = gw if slices == 1 else cp.empty((slices, *gw.shape), gw.dtype)
    kernel = module(_WEIGHT_GRAD_FILE, x.dtype).kernel(launch.kernel)
    kernel(launch.grid, launch.threads, x, gy, partial, *launch.structs, slice_pixels)
    if slices != 1:
        sum_slices(partial, gw)


@lru_cache(maxsize=1024)
def _plan_weight_grad(sizes: Sizes, packed: bool, dtype: str) -> tuple[_Launch, int]:
    """The launch, and how many pixels a slice has."""
    rows, columns = sizes.kh * sizes.kw * sizes.c // sizes.groups, sizes.f // sizes.groups
    tile, suffix = min(
        _PACKED_TILES if packed else _ANY_TILES,
        key=lambda candidate: (
            _tiles(rows, columns, candidate[0]) * candidate[0].rows * candidate[0].columns / candidate[0].rate
        ),
    )  # slices fill the device, whatever the tile: the least waste wins
    tiles = _tiles(rows, columns, tile)
    pixels = sizes.n * sizes.oh * sizes.ow
    slice_pixels = _slice_pixels(pixels, tiles * sizes.groups, _MULTIPROCESSORS * tile.resident)
    grid = (tiles, sizes.groups, -(-pixels // slice_pixels))
    geometry = _struct(_WEIGHT_GRAD_FILE, dtype, "ConvGeometry", **sizes._asdict())
    steps = _struct(
        _WEIGHT_GRAD_FILE,
        dtype,
        "Steps",
        row=(sizes.sh * sizes.w - sizes.ow * sizes.sw) * sizes.c,
        image=(sizes.h - sizes.oh * sizes.sh) * sizes.w * sizes.c,
    )
    return _Launch(f"conv2d_weight_grad{suffix}", grid, tile.threads, (geometry, steps)), slice_pixels


def _slice_pixels(pixels: int, tiles: int, resident: int) -> int:
    """The length of a slice with which `tiles` tiles of each fill the device once, within the bounds above."""
    slices = max(1, resident // max(1, tiles))
    length = min(_LONGEST_SLICE, max(_SHORTEST_SLICE, -(-pixels // slices)))
    return -(-length // _SLICE_STEP) * _SLICE_STEP
