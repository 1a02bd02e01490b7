"""Depthwise convolutions (G = C, F = C * multiplier) on the device: see depthwise.cu."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from minicnn.kernels.contract import Array, EpilogueName
from minicnn.kernels.gpu.activation_codes import CODES
from minicnn.kernels.gpu.conv_geometry import Sizes
from minicnn.kernels.gpu.launch import THREADS
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.packs import lanes
from minicnn.kernels.gpu.runtime import cp
from minicnn.kernels.gpu.slices import sum_slices

_FILE = "depthwise.cu"
_STRIP, _TAPS = 4, 9
"""STRIP and TAPS of depthwise.cu."""
_WIDEST_BLOCK = 64
"""Packs of channels side by side in a block: 1 KB of memory in a row."""
_SLICES = 4 * 132
"""Blocks that a weight gradient is cut into: 4 for each multiprocessor of an H100. A fixed number, so that sums are the
same on every device."""
_SHORTEST_SLICE = 256


def forward(
    x: Array, w: Array, b: Array | None, y: Array, sizes: Sizes, activation: EpilogueName | None = None
) -> None:
    """Fill y (N, OH, OW, F) with act(conv(x, w) + b); x (N, H, W, C), w (KH, KW, 1, F), b (F,) or None."""
    packed = _is_packed(sizes, x, w, y) and (b is None or lanes(sizes.f, b) > 1)
    _convolve(x, w, b, y, sizes, packed, turned=False, activation=activation)


def input_grad(gy: Array, w: Array, gx: Array, sizes: Sizes) -> None:
    """Fill gx (N, H, W, C); gy (N, OH, OW, F), w (KH, KW, 1, F)."""
    packed = _is_packed(sizes, gx, w, gy)
    if sizes.sh == sizes.sw == 1 and sizes.f == sizes.c:
        _convolve(gy, w, None, gx, _turned(sizes), packed, turned=True, activation=None)
        return
    compiled = module(_FILE, gy.dtype)
    block = _block(sizes.c, packed, gy)
    grid = (-(-sizes.n * sizes.h * sizes.w // block.rows), block.blocks)
    kernel = compiled.kernel(f"depthwise_input_grad_{_suffix(packed)}")
    kernel(grid, (block.packs, block.rows), gy, w, gx, _geometry(sizes, gy.dtype.name))


def weight_grad(x: Array, gy: Array, gw: Array, sizes: Sizes) -> None:
    """Fill gw (KH, KW, 1, F); x (N, H, W, C), gy (N, OH, OW, F)."""
    packed = _is_packed(sizes, x, gw, gy)
    compiled = module(_FILE, x.dtype)
    block = _block(sizes.f, packed, x)
    pixels, chunks = sizes.n * sizes.oh * sizes.ow, -(-sizes.kh * sizes.kw // _TAPS)
    slice_pixels = max(_SHORTEST_SLICE, -(-pixels * block.blocks * chunks // _SLICES))
    slices = -(-pixels // slice_pixels)
    partial = gw if slices == 1 else cp.empty((slices, *gw.shape), gw.dtype)
    kernel = compiled.kernel(f"depthwise_weight_grad_{_suffix(packed)}")
    geometry = _geometry(sizes, x.dtype.name)
    kernel((slices, block.blocks, chunks), (block.packs, block.rows), x, gy, partial, geometry, slice_pixels)
    if slices != 1:
        sum_slices(partial, gw)


def _convolve(
    x: Array,
    w: Array,
    b: Array | None,
    y: Array,
    sizes: Sizes,
    packed: bool,
    turned: bool,
    activation: EpilogueName | None,
) -> None:
    name = "depthwise_any"
    if packed:
        known = sizes.kw == 3 and sizes.dw == 1 and sizes.sw <= 2
        name = f"depthwise_3_columns{'_stride_2' if sizes.sw == 2 else ''}" if known else "depthwise_packed"
    block = _block(sizes.f, packed, x)
    strips = sizes.n * sizes.oh * -(-sizes.ow // _STRIP)
    grid = (-(-strips // block.rows), block.blocks)
    kernel = module(_FILE, x.dtype).kernel(name)
    geometry = _geometry(sizes, x.dtype.name)
    kernel(grid, (block.packs, block.rows), x, w, b, y, geometry, turned, CODES[activation])


def _turned(sizes: Sizes) -> Sizes:
    """The convolution of gy with the turned kernel that is the input gradient of one with stride 1."""
    return sizes._replace(
        h=sizes.oh,
        w=sizes.ow,
        oh=sizes.h,
        ow=sizes.w,
        top=(sizes.kh - 1) * sizes.dh - sizes.top,
        left=(sizes.kw - 1) * sizes.dw - sizes.left,
    )


def _is_packed(sizes: Sizes, x: Array, w: Array, y: Array) -> bool:
    """Whether each filter reads the channel of its own number, and both divide into packs of 16 bytes."""
    return sizes.c == sizes.f and lanes(sizes.c, x, w, y) > 1


def _suffix(packed: bool) -> str:
    return "packed" if packed else "any"


class _Block(NamedTuple):
    """Threads of a block, packs of channels by rows of pixels; and the blocks that cover all packs."""

    packs: int
    rows: int
    blocks: int


def _block(channels: int, packed: bool, array: Array) -> _Block:
    packs = channels // (16 // array.itemsize) if packed else channels
    across = min(packs, _WIDEST_BLOCK)
    return _Block(across, THREADS // across, -(-packs // across))


@lru_cache(maxsize=1024)
def _geometry(sizes: Sizes, dtype: str) -> Any:
    return module(_FILE, dtype).struct("ConvGeometry", **sizes._asdict())
