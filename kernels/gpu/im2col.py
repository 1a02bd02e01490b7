"""Patches of images as rows of a matrix, and back: see im2col.cu.

N batch, H W height and width, C channels, KH KW window, OH OW number of window positions.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.gpu.conv_geometry import Sizes, convolution_sizes, input_grad_sizes
from minicnn.kernels.gpu.launch import THREADS
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.packs import lanes
from minicnn.kernels.gpu.runtime import cp

_FILE = "im2col.cu"
_ENOUGH_BLOCKS = 2048
"""Blocks that keep a large GPU busy; beyond them a thread walks over more pixels instead."""

_LONGEST_WALK = 16


def im2col(x: Array, window: Pair, strides: Pair, padding: Padding2D, dilation: Pair) -> Array:
    """x (N, H, W, C), window (KH, KW) -> the patch under every output pixel, (N, OH, OW, KH, KW, C)."""
    c = x.shape[3]
    sizes = convolution_sizes(x.shape, (*window, c, 1), strides, padding, dilation, 1)
    cols = cp.empty((sizes.n, sizes.oh, sizes.ow, *window, c), x.dtype)
    _launch("im2col", x, cols, sizes, cols.shape[:3], window[0] * window[1])
    return cols


def col2im(cols: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair) -> Array:
    """cols (N, OH, OW, KH, KW, C), input_size (H, W) -> every patch added back where it was read, (N, H, W, C)."""
    n, oh, ow, kh, kw, c = cols.shape
    sizes = input_grad_sizes((n, oh, ow, 1), (kh, kw, c, 1), input_size, strides, padding, dilation, 1)
    x = cp.empty(sizes.x_shape, cols.dtype)
    _launch("col2im", cols, x, sizes, x.shape[:3], 1)
    return x


def _launch(name: str, source: Array, target: Array, sizes: Sizes, pixels: tuple[int, ...], taps: int) -> None:
    """The kernel that writes `target`: (pixels, taps, C)."""
    width = lanes(sizes.c, source, target)
    grid, threads, geometry, walk = _plan(sizes, math.prod(pixels), taps * sizes.c // width, source.dtype.name)
    kernel = module(_FILE, source.dtype).kernel(f"{name}_{'numbers' if width == 1 else 'packs'}")
    kernel(grid, threads, source, target, geometry, walk)


@lru_cache(maxsize=4096)
def _plan(sizes: Sizes, pixels: int, places: int, dtype: str) -> tuple[tuple[int, int], int, Any, Any]:
    """Grid, threads of a block, and the structs of im2col.cu: for so many packs or numbers at each pixel."""
    compiled = module(_FILE, dtype)
    rounds = max(-(-places // THREADS), 1)
    width = max(-(-places // rounds), 1)  # threads over one pixel, nearly as many in each round
    groups = THREADS // width
    steps = min(max(pixels * rounds // (groups * _ENOUGH_BLOCKS), 1), _LONGEST_WALK)
    grid = (-(-pixels // (groups * steps)), rounds if places else 0)
    walk = compiled.struct("Walk", places=places, width=width, pixels=groups * steps)
    return grid, groups * width, compiled.struct("ConvGeometry", **sizes._asdict()), walk
