"""Convolutions on tensor cores, where settings.precision asks for tf32 or bf16: see conv_tc.cu.

Any stride, padding, dilation and groups, and any number of channels: where they are no whole packs of 16 bytes, they
are padded with zeros in the pass that rounds them. Groups of fewer than 16 channels or filters would leave most of a
tile empty: `supports` refuses them, and they are computed in fp32.

N batch, H W height and width of the input, C its channels, KH KW kernel size, F filters, OH OW height and width of
the output, G groups.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from minicnn.kernels.contract import Array, EpilogueName
from minicnn.kernels.gpu.activation_codes import CODES
from minicnn.kernels.gpu.conv_geometry import Sizes
from minicnn.kernels.gpu.conv_tile import MULTIPROCESSORS, Launch, Tile, fastest_tile, slice_pixels, tightest_tile
from minicnn.kernels.gpu.launch import THREADS, blocks_for
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.mma_words import (
    NUMBERS_PER_WORD,
    PACK_WORDS,
    STEP_WORDS,
    TILES,
    line_words,
    precision_for,
    shared_bytes,
    to_words,
)
from minicnn.kernels.gpu.runtime import cp
from minicnn.kernels.gpu.slices import sum_slices
from minicnn.kernels.settings import Precision

_FILE, _WEIGHT_GRAD_FILE, _FINISH_FILE = "conv_tc.cu", "conv_tc_weight_grad.cu", "conv.cu"
_FEWEST_CHANNELS = 16
"""Of a group, where there are several."""
_LIMITS = {None: (-math.inf, math.inf), "relu": (0.0, math.inf), "relu6": (0.0, 6.0)}
"""Activations that only clamp: the convolution does them in passing."""
_LONGEST_CHUNK = 8
"""Packs: 128 bytes, a line of the multiprocessor's cache."""
_SHORTEST_SLICE = 8
"""Steps of a sum that are worth blocks of their own."""
_PREPARED_COLUMNS = 32


def supports(dtype: object, sizes: Sizes) -> bool:
    """Whether a convolution of that dtype is to be computed here: by the precision, the device and the groups."""
    channels, filters = sizes.c // sizes.groups, sizes.f // sizes.groups
    wide = sizes.groups == 1 or min(channels, filters) >= _FEWEST_CHANNELS
    return wide and min(channels, filters, sizes.n) > 0 and precision_for(dtype) is not None


# ------------------------------------------------------------------------------------------- forward and input gradient


class _Plan(NamedTuple):
    """How a gather is launched."""

    tile: Tile
    launch: Launch
    weights: int
    """Words of the prepared weights."""
    weight_grid: tuple[int, int, int]
    slices: int


def forward(x: Array, w: Array, b: Array | None, y: Array, sizes: Sizes, activation: EpilogueName | None) -> None:
    """Fill y (N, OH, OW, F) = act(conv(x, w) + b)."""
    precision = _precision(x)
    plan = _plan(sizes, precision, False, _in_pairs(sizes.f, sizes.groups, y))
    if plan.slices == 1 and activation in _LIMITS:
        _gather(x, w, b, y, plan, sizes.c // sizes.groups, precision, _LIMITS[activation])
        return
    partial = y if plan.slices == 1 else cp.empty((plan.slices, *y.shape), y.dtype)
    _gather(x, w, None, partial, plan, sizes.c // sizes.groups, precision, _LIMITS[None])
    finish = module(_FINISH_FILE, y.dtype).kernel("conv2d_finish")
    finish(blocks_for(y.size), THREADS, partial, b, y, y.size, plan.slices, sizes.f, CODES[activation])


def input_grad(gy: Array, w: Array, gx: Array, sizes: Sizes) -> None:
    """Fill gx (N, H, W, C)."""
    precision = _precision(gy)
    plan = _plan(sizes, precision, True, _in_pairs(sizes.c, sizes.groups, gx))
    _gather(gy, w, None, gx, plan, sizes.f // sizes.groups, precision, _LIMITS[None])


def _gather(
    source: Array,
    w: Array,
    b: Array | None,
    out: Array,
    plan: _Plan,
    channels: int,
    precision: Precision,
    limits: tuple[float, float],
) -> None:
    """out = clamp(product + b); `channels` of a group of the source."""
    kernels = module(_FILE, w.dtype, PRECISION=precision)
    prepared = cp.empty((plan.weights,), w.dtype)
    kernels.kernel("conv2d_tc_weights")(plan.weight_grid, THREADS, w, prepared, *plan.launch.structs)
    words = to_words(source, channels, precision)
    kernel, shared = kernels.kernel(plan.launch.kernel), shared_bytes(plan.tile)
    arguments = words, prepared, b, out, *plan.launch.structs, *limits
    kernel(plan.launch.grid, plan.launch.threads, *arguments, shared=shared)


@lru_cache(maxsize=1024)
def _plan(sizes: Sizes, precision: Precision, backward: bool, pairs: bool) -> _Plan:
    """Pixels of gx fall into SH * SW classes, each a product of its own; the first class has the most pixels."""
    if backward:
        classes, source, columns = sizes.sh * sizes.sw, sizes.f // sizes.groups, sizes.c // sizes.groups
        pixels = sizes.n * -(-sizes.h // sizes.sh) * -(-sizes.w // sizes.sw)
    else:
        classes, source, columns = 1, sizes.c // sizes.groups, sizes.f // sizes.groups
        pixels = sizes.n * sizes.oh * sizes.ow
    words = line_words(source, precision)
    steps = -(-sizes.kh * sizes.kw * words // STEP_WORDS)
    tile = fastest_tile(pixels, columns, sizes.groups * classes, TILES)
    tiles = tile.tiles_over(pixels, columns)
    slices = 1 if backward else _slices(steps, tiles * sizes.groups, tile)
    slice_steps = -(-steps // slices)
    slices = -(-steps // slice_steps)
    padded, depth = -(-columns // tile.columns) * tile.columns, steps * STEP_WORDS
    kernels = module(_FILE, cp.float32, PRECISION=precision)
    geometry = kernels.struct("ConvGeometry", **sizes._asdict())
    layout = kernels.struct(
        "TensorConv",
        backward=backward, words=words, pitch=words * sizes.groups, chunk=_chunk(words // PACK_WORDS) * PACK_WORDS,
        columns=padded, depth=depth, slices=slices, slice_steps=slice_steps, pairs=pairs,
    )  # fmt: skip
    launch = Launch(f"conv2d_tc_{tile.name}", (tiles, sizes.groups, classes * slices), tile.threads, (geometry, layout))
    weight_grid = (steps, padded // _PREPARED_COLUMNS, classes * sizes.groups)
    return _Plan(tile, launch, classes * sizes.groups * padded * depth, weight_grid, slices)


def _slices(steps: int, tiles: int, tile: Tile) -> int:
    """Into how many slices the depth is cut, so that few tiles fill the device, and no slice is short."""
    room = MULTIPROCESSORS * tile.resident // max(1, tiles)
    return max(1, min(room, steps // _SHORTEST_SLICE))


def _chunk(packs: int) -> int:
    """The largest divisor up to a cache line; all packs where there is none to speak of."""
    largest = max(size for size in range(1, _LONGEST_CHUNK + 1) if packs % size == 0)
    return largest if 2 * largest > _LONGEST_CHUNK else packs


# ---------------------------------------------------------------------------------------------------- weight gradient


def weight_grad(x: Array, gy: Array, gw: Array, sizes: Sizes) -> None:
    """Fill gw (KH, KW, C/G, F): slices of the pixels first, then their sum."""
    precision = _precision(x)
    tile, launch = _plan_weight_grad(sizes, precision, _in_pairs(sizes.f, sizes.groups, gw))
    slices = launch.grid[2]
    partial = gw if slices == 1 else cp.empty((slices, *gw.shape), gw.dtype)
    x, gy = to_words(x, sizes.c // sizes.groups, precision), to_words(gy, sizes.f // sizes.groups, precision)
    kernel = module(_WEIGHT_GRAD_FILE, gw.dtype, PRECISION=precision).kernel(launch.kernel)
    kernel(launch.grid, launch.threads, x, gy, partial, *launch.structs, shared=shared_bytes(tile))
    if slices != 1:
        sum_slices(partial, gw)


@lru_cache(maxsize=1024)
def _plan_weight_grad(sizes: Sizes, precision: Precision, pairs: bool) -> tuple[Tile, Launch]:
    words = line_words(sizes.c // sizes.groups, precision)
    gy_words = line_words(sizes.f // sizes.groups, precision)
    rows, columns = sizes.kh * sizes.kw * words * NUMBERS_PER_WORD[precision], sizes.f // sizes.groups
    tile = tightest_tile(rows, columns, TILES)
    tiles, pixels = tile.tiles_over(rows, columns), sizes.n * sizes.oh * sizes.ow
    length = slice_pixels(pixels, tiles * sizes.groups, tile.resident)
    kernels = module(_WEIGHT_GRAD_FILE, cp.float32, PRECISION=precision)
    layout = kernels.struct(
        "TensorWeightGrad",
        words=words, pitch=words * sizes.groups, gy_words=gy_words, gy_pitch=gy_words * sizes.groups,
        slice_pixels=length, pairs=pairs,
    )  # fmt: skip
    structs = kernels.struct("ConvGeometry", **sizes._asdict()), layout
    grid = (tiles, sizes.groups, -(-pixels // length))
    return tile, Launch(f"conv2d_tc_weight_grad_{tile.name}", grid, tile.threads, structs)


# ---------------------------------------------------------------------------------------------------- both


def _precision(x: Array) -> Precision:
    precision = precision_for(x.dtype)
    assert precision is not None  # supports() was asked before
    return precision


def _in_pairs(columns: int, groups: int, out: Array) -> bool:
    """Whether all even columns of every group lie at multiples of 8 bytes."""
    return columns // groups % 2 == 0 and bool(out.data.ptr % 8 == 0)
