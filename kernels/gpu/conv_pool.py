"""Convolution and max pooling on the device.

Windows of 2x2 that do not overlap, which is nearly all there is, are pooled by the convolution itself (conv_pool.cu).
For the others it is a convolution, then a pooling.
"""

from __future__ import annotations

from functools import lru_cache

from minicnn.kernels import settings
from minicnn.kernels.contract import Array, EpilogueName, Padding2D, Pair
from minicnn.kernels.gpu.activation_codes import CODES
from minicnn.kernels.gpu.conv import conv2d
from minicnn.kernels.gpu.conv_geometry import Sizes, convolution_sizes
from minicnn.kernels.gpu.conv_tile import (
    MEDIUM,
    SMALL,
    Launch,
    fastest_tile,
    geometry,
    is_packed,
    kernel_name,
    tap_steps,
)
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.pool import max_pool2d
from minicnn.kernels.gpu.runtime import cp

_FILE = "conv_pool.cu"
_PIXELS = 4
"""Of a 2x2 window."""


def conv2d_max_pool2d(
    x: Array,
    w: Array,
    b: Array | None,
    strides: Pair,
    padding: Padding2D,
    dilation: Pair,
    groups: int,
    activation: EpilogueName | None,
    window: Pair,
    pool_strides: Pair,
    pool_padding: Padding2D,
) -> tuple[Array, Array]:
    """x (N, H, W, C), w (KH, KW, C/G, F), b (F,) or None -> y and `where` (int32), both (N, PH, PW, F)."""
    sizes = convolution_sizes(x.shape, w.shape, strides, padding, dilation, groups)
    two_by_two = (window, pool_strides, pool_padding) == ((2, 2), (2, 2), ((0, 0), (0, 0)))
    if two_by_two and activation in (None, "relu", "relu6") and not sizes.is_depthwise and _in_full_precision(x):
        return _together(x, w, b, sizes, activation)
    y = conv2d(x, w, b, strides, padding, dilation, groups, activation)  # (N, OH, OW, F)
    return max_pool2d(y, window, pool_strides, pool_padding)


def _in_full_precision(x: Array) -> bool:
    """Whether x is not to be multiplied on tensor cores, which only conv2d knows how to use."""
    return settings.precision == "fp32" or x.dtype != cp.float32


def _together(
    x: Array, w: Array, b: Array | None, sizes: Sizes, activation: EpilogueName | None
) -> tuple[Array, Array]:
    shape = (sizes.n, sizes.oh // 2, sizes.ow // 2, sizes.f)
    y, where = cp.empty(shape, x.dtype), cp.empty(shape, cp.int32)
    launch = _plan(sizes, is_packed(sizes, x, w, y), x.dtype.name)
    kernel = module(_FILE, x.dtype).kernel(launch.kernel)
    kernel(launch.grid, launch.threads, x, w, b, y, where, *launch.structs, CODES[activation])
    return y, where


@lru_cache(maxsize=1024)
def _plan(sizes: Sizes, packed: bool, dtype: str) -> Launch:
    rows, columns = sizes.n * (sizes.oh // 2) * (sizes.ow // 2) * _PIXELS, sizes.f // sizes.groups
    tile = fastest_tile(rows, columns, sizes.groups, (MEDIUM, SMALL))
    grid = (tile.tiles_over(rows, columns), sizes.groups, 1)
    structs = (geometry(_FILE, dtype, sizes), tap_steps(_FILE, dtype, sizes))
    return Launch(kernel_name("conv2d_pool", tile, packed), grid, tile.threads, structs)
