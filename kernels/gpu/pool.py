"""Pooling on the device: see pool.cu.

N batch, H W image, C channels, KH KW window, OH OW output. `where` holds flat pixel indices h*W + w.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.gpu.launch import THREADS, blocks_for
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.packs import lanes
from minicnn.kernels.gpu.runtime import cp

_FILE = "pool.cu"

_REACH_NUMBERS = 2048
"""Indices that one warp reads, about, to learn which pixels they reach."""

_WARP = 32


def max_pool2d(x: Array, window: Pair, strides: Pair, padding: Padding2D) -> tuple[Array, Array]:
    """x (N, H, W, C) -> y and where (int32), both (N, OH, OW, C)."""
    n, h, w, c = x.shape
    oh, ow = _output_size((h, w), window, strides, padding)
    y, where = cp.empty((n, oh, ow, c), x.dtype), cp.empty((n, oh, ow, c), cp.int32)
    width = lanes(c, x, y, where)
    geometry = _window(x.dtype, (h, w), c, (oh, ow), window, strides, padding)
    _kernel("max_pool2d", x)(blocks_for(y.size // width), THREADS, x, y, where, geometry, y.size // width, width)
    return y, where


def adaptive_max_pool2d(x: Array, output_size: Pair) -> tuple[Array, Array]:
    """x (N, H, W, C) -> y and where (int32), both (N, OH, OW, C)."""
    n, h, w, c = x.shape
    y, where = cp.empty((n, *output_size, c), x.dtype), cp.empty((n, *output_size, c), cp.int32)
    width = lanes(c, x, y, where)
    geometry = _bins(x.dtype, (h, w), c, output_size)
    kernel = _kernel("adaptive_max_pool2d", x)
    kernel(blocks_for(y.size // width), THREADS, x, y, where, geometry, y.size // width, width)
    return y, where


def gather2d(x: Array, where: Array) -> Array:
    """x (N, H, W, C), where (N, OH, OW, C) int32 -> (N, OH, OW, C)."""
    _, h, w, c = x.shape
    y = cp.empty(where.shape, x.dtype)
    geometry = _bins(x.dtype, (h, w), c, where.shape[1:3])
    _kernel("gather2d", x)(blocks_for(y.size), THREADS, x, where, y, geometry, y.size)
    return y


def scatter2d(gy: Array, where: Array, input_size: Pair) -> Array:
    """gy and where (N, OH, OW, C), input_size (H, W) -> (N, H, W, C)."""
    (n, oh, ow, c), (h, w) = gy.shape, input_size
    gx = cp.empty((n, h, w, c), gy.dtype)
    width = lanes(c, gy, where, gx)
    geometry = _bins(gy.dtype, (h, w), c, (oh, ow))
    reach = cp.zeros((h + w, 2), cp.int32)
    images = max(1, min(n, _REACH_NUMBERS // max(c, 1)))
    blocks = blocks_for(oh * ow * -(-n // images) * _WARP) if where.size else (0,)
    _kernel("scatter2d_reach", gy)(blocks, THREADS, where, reach, geometry, n, images, *_inverse(w), width)
    kernel = _kernel("scatter2d", gy)
    kernel(blocks_for(gx.size // width), THREADS, gy, where, reach, gx, geometry, gx.size // width, width)
    return gx


def avg_pool2d(x: Array, window: Pair, strides: Pair, padding: Padding2D) -> Array:
    """x (N, H, W, C) -> (N, OH, OW, C)."""
    n, h, w, c = x.shape
    oh, ow = _output_size((h, w), window, strides, padding)
    y = cp.empty((n, oh, ow, c), x.dtype)
    width = lanes(c, x, y)
    geometry = _window(x.dtype, (h, w), c, (oh, ow), window, strides, padding)
    _kernel("avg_pool2d", x)(blocks_for(y.size // width), THREADS, x, y, geometry, y.size // width, width)
    return y


def avg_pool2d_backward(gy: Array, input_size: Pair, window: Pair, strides: Pair, padding: Padding2D) -> Array:
    """gy (N, OH, OW, C), input_size (H, W) -> (N, H, W, C)."""
    n, oh, ow, c = gy.shape
    gx = cp.empty((n, *input_size, c), gy.dtype)
    width = lanes(c, gy, gx)
    geometry = _window(gy.dtype, input_size, c, (oh, ow), window, strides, padding)
    kernel = _kernel("avg_pool2d_backward", gy)
    kernel(blocks_for(gx.size // width), THREADS, gy, gx, geometry, gx.size // width, width)
    return gx


def _kernel(name: str, x: Array) -> Any:
    return module(_FILE, x.dtype).kernel(name)


def _output_size(input_size: Pair, window: Pair, strides: Pair, padding: Padding2D) -> Pair:
    """How many positions the window has in the padded image, down and across."""
    (h, w), (kh, kw), (sh, sw), ((top, bottom), (left, right)) = input_size, window, strides, padding
    return (h + top + bottom - kh) // sh + 1, (w + left + right - kw) // sw + 1


@lru_cache(maxsize=256)
def _window(
    dtype: Any, input_size: Pair, c: int, output_size: Pair, window: Pair, strides: Pair, padding: Padding2D
) -> Any:
    """The struct of a pooling by windows."""
    (h, w), (oh, ow), (kh, kw), (sh, sw) = input_size, output_size, window, strides
    (top, _), (left, _) = padding
    return module(_FILE, dtype).struct(
        "Window", h=h, w=w, c=c, oh=oh, ow=ow, kh=kh, kw=kw, sh=sh, sw=sw, top=top, left=left
    )


@lru_cache(maxsize=256)
def _bins(dtype: Any, input_size: Pair, c: int, output_size: Pair) -> Any:
    """The struct of an image and an output without windows."""
    (h, w), (oh, ow) = input_size, output_size
    return module(_FILE, dtype).struct("Bins", h=h, w=w, c=c, oh=oh, ow=ow)


def _inverse(divisor: int) -> tuple[int, int]:
    """(inverse, shift) such that i * inverse >> shift == i // divisor for all 0 <= i < 2**31 (Granlund and Montgomery).

    With 2**(s - 1) < divisor <= 2**s, the inverse is 2**(31 + s) / divisor rounded up, too large by less than one part
    in 2**31; the product stays below 2**63.
    """
    shift = 31 + (divisor - 1).bit_length()
    return -(-(1 << shift) // divisor), shift
