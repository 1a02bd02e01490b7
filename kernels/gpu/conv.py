"""Convolutions on the device: which kernels serve which, and how the work is cut into tiles.

- depthwise (one input channel a group): depthwise.py
- 1x1 that reads every pixel at its own place: one product of matrices, gemm.py
- float32 where settings.precision asks for tensor cores: conv_tc.py
- all others: products of matrices that are never written out, conv.cu and conv_weight_grad.cu

N batch, H W height and width of the input, C its channels, KH KW kernel size, F filters, OH OW height and width of
the output, G groups.
"""

from __future__ import annotations

from functools import lru_cache

from minicnn.kernels.contract import Array, EpilogueName, Padding2D, Pair
from minicnn.kernels.gpu import conv_tc, depthwise
from minicnn.kernels.gpu.activation_codes import CODES
from minicnn.kernels.gpu.conv_geometry import Sizes, convolution_sizes, input_grad_sizes, weight_grad_sizes
from minicnn.kernels.gpu.conv_tile import (
    TILES,
    Launch,
    Tile,
    fastest_tile,
    geometry,
    is_packed,
    kernel_name,
    slice_depth,
    slice_pixels,
    tap_steps,
    tightest_tile,
)
from minicnn.kernels.gpu.gemm import gemm
from minicnn.kernels.gpu.launch import THREADS, blocks_for
from minicnn.kernels.gpu.loader import module
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
    elif conv_tc.supports(x.dtype, sizes):
        conv_tc.forward(x, w, b, y, sizes, activation)
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
    elif conv_tc.supports(gy.dtype, sizes):
        conv_tc.input_grad(gy, w, gx, sizes)
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
    elif conv_tc.supports(x.dtype, sizes):
        conv_tc.weight_grad(x, gy, gw, sizes)
    else:
        _weight_grad(x, gy, gw, sizes)
    return gw


def _pixels(a: Array) -> Array:
    """(..., C) -> (product of the others, C), a view."""
    rows = 1
    for size in a.shape[:-1]:
        rows *= size
    return a.reshape(rows, a.shape[-1])


# ---------------------------------------------------------------------------------------------------- forward


def _forward(x: Array, w: Array, b: Array | None, y: Array, sizes: Sizes, activation: EpilogueName | None) -> None:
    """Fill y (N, OH, OW, F): at once, or sums without bias and activation first, in slices where tiles are few."""
    launch, length = _plan_forward(sizes, is_packed(sizes, x, w, y), x.dtype.name)
    kernel, slices = module(_FILE, x.dtype).kernel(launch.kernel), launch.grid[2]
    if slices == 1 and activation in (None, "relu", "relu6"):
        kernel(launch.grid, launch.threads, x, w, b, y, *launch.structs, length, CODES[activation])
        return
    partial = y if slices == 1 else cp.empty((slices, *y.shape), y.dtype)
    kernel(launch.grid, launch.threads, x, w, None, partial, *launch.structs, length, CODES[None])
    finish = module(_FILE, x.dtype).kernel("conv2d_finish")
    finish(blocks_for(y.size), THREADS, partial, b, y, y.size, slices, sizes.f, CODES[activation])


@lru_cache(maxsize=1024)
def _plan_forward(sizes: Sizes, packed: bool, dtype: str) -> tuple[Launch, int]:
    """The launch, and how many terms of each sum a slice has."""
    rows, columns = sizes.n * sizes.oh * sizes.ow, sizes.f // sizes.groups
    depth = sizes.kh * sizes.kw * sizes.c // sizes.groups
    tile = fastest_tile(rows, columns, sizes.groups, _candidates(packed))
    tiles = tile.tiles_over(rows, columns)
    length = slice_depth(depth, tiles * sizes.groups)
    grid = (tiles, sizes.groups, max(1, -(-depth // length)))
    structs = (geometry(_FILE, dtype, sizes), tap_steps(_FILE, dtype, sizes))
    return Launch(kernel_name("conv2d", tile, packed), grid, tile.threads, structs), length


def _candidates(packed: bool) -> tuple[Tile, ...]:
    """For any number of channels there is no largest tile: reading them one at a time is what takes long."""
    return TILES if packed else TILES[1:]


# ---------------------------------------------------------------------------------------------------- input gradient


def _input_grad(gy: Array, w: Array, gx: Array, sizes: Sizes) -> None:
    """Fill gx (N, H, W, C)."""
    launch = _plan_input_grad(sizes, is_packed(sizes, gx, w, gy), gy.dtype.name)
    kernel = module(_FILE, gy.dtype).kernel(launch.kernel)
    kernel(launch.grid, launch.threads, gy, w, gx, *launch.structs)


@lru_cache(maxsize=1024)
def _plan_input_grad(sizes: Sizes, packed: bool, dtype: str) -> Launch:
    """Pixels fall into SH * SW classes, each a product of its own; the first class has the most pixels."""
    rows = sizes.n * -(-sizes.h // sizes.sh) * -(-sizes.w // sizes.sw)
    columns, classes = sizes.c // sizes.groups, sizes.sh * sizes.sw
    tile = fastest_tile(rows, columns, sizes.groups * classes, _candidates(packed))
    grid = (tile.tiles_over(rows, columns), sizes.groups, classes)
    name = kernel_name("conv2d_input_grad", tile, packed)
    return Launch(name, grid, tile.threads, (geometry(_FILE, dtype, sizes),))


# ---------------------------------------------------------------------------------------------------- weight gradient


def _weight_grad(x: Array, gy: Array, gw: Array, sizes: Sizes) -> None:
    """Fill gw (KH, KW, C/G, F): slices of the pixels first, then their sum."""
    launch, length = _plan_weight_grad(sizes, is_packed(sizes, x, gw, gy), x.dtype.name)
    slices = launch.grid[2]
    partial = gw if slices == 1 else cp.empty((slices, *gw.shape), gw.dtype)
    kernel = module(_WEIGHT_GRAD_FILE, x.dtype).kernel(launch.kernel)
    kernel(launch.grid, launch.threads, x, gy, partial, *launch.structs, length)
    if slices != 1:
        sum_slices(partial, gw)


@lru_cache(maxsize=1024)
def _plan_weight_grad(sizes: Sizes, packed: bool, dtype: str) -> tuple[Launch, int]:
    """The launch, and how many pixels a slice has."""
    rows, columns = sizes.kh * sizes.kw * sizes.c // sizes.groups, sizes.f // sizes.groups
    tile = tightest_tile(rows, columns, _candidates(packed))
    tiles, pixels = tile.tiles_over(rows, columns), sizes.n * sizes.oh * sizes.ow
    length = slice_pixels(pixels, tiles * sizes.groups, tile.resident)
    grid = (tiles, sizes.groups, -(-pixels // length))
    steps = module(_WEIGHT_GRAD_FILE, dtype).struct(
        "Steps",
        row=(sizes.sh * sizes.w - sizes.ow * sizes.sw) * sizes.c,
        image=(sizes.h - sizes.oh * sizes.sh) * sizes.w * sizes.c,
    )
    name = kernel_name("conv2d_weight_grad", tile, packed)
    return Launch(name, grid, tile.threads, (geometry(_WEIGHT_GRAD_FILE, dtype, sizes), steps)), length
