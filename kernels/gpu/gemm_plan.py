"""Plans of matrix products: which matrices lie where, in which tiles a product is computed, in how many slices.

M rows and N columns of the result, K terms of each sum.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np


class Product(NamedTuple):
    """One product, or outer x inner of them, among the numbers of three arrays: all distances count numbers."""

    m: int
    n: int
    k: int
    transpose_a: bool
    transpose_b: bool
    lda: int  # from one row in memory to the next
    ldb: int
    ldc: int
    batch: tuple[int, int] = (1, 1)
    a_steps: tuple[int, int] = (0, 0)  # from one product to the next, (outer, inner)
    b_steps: tuple[int, int] = (0, 0)
    out_steps: tuple[int, int] = (0, 0)
    a_start: int = 0
    b_start: int = 0
    out_start: int = 0

    def contiguous_out(self) -> Product:
        """The same products, results one after another from the beginning of an array."""
        size = self.m * self.n
        return self._replace(ldc=self.n, out_steps=(self.batch[1] * size, size), out_start=0)


# ---------------------------------------------------------------------------------------------------- leading axes


class _Axis(NamedTuple):
    """A leading axis of the result: its length, and how many matrices of a and b one step along it passes."""

    length: int
    a_step: int
    b_step: int


@lru_cache(maxsize=4096)
def products_of(
    a_shape: tuple[int, ...], b_shape: tuple[int, ...], transpose_a: bool, transpose_b: bool
) -> tuple[tuple[int, ...], tuple[Product, ...]]:
    """The result's shape, and the products that fill it.

    One Product has room for two leading axes. Axes along which both arrays go on, or both stay, count as one, so that
    hardly any broadcasting needs more.
    """
    leading = np.broadcast_shapes(a_shape[:-2], b_shape[:-2])
    m, k = a_shape[-2:][::-1] if transpose_a else a_shape[-2:]
    n = b_shape[-2] if transpose_b else b_shape[-1]
    if math.prod(b_shape[:-2]) == 1 and not transpose_a:  # one b for all: their rows make one long matrix
        rows = m * math.prod(leading)
        return (*leading, m, n), (Product(rows, n, k, False, transpose_b, k, b_shape[-1], n),)

    axes = _merged(_axes(leading, a_shape[:-2], b_shape[:-2]))
    outer, inner = axes[-2:]
    whole = Product(
        m, n, k, transpose_a, transpose_b, a_shape[-1], b_shape[-1], n,
        (outer.length, inner.length),
        (outer.a_step * m * k, inner.a_step * m * k),
        (outer.b_step * k * n, inner.b_step * k * n),
        (inner.length * m * n, m * n),
    )  # fmt: skip
    products = []
    for number, index in enumerate(np.ndindex(*(axis.length for axis in axes[:-2]))):
        a_matrix = sum(i * axis.a_step for i, axis in zip(index, axes[:-2], strict=True))
        b_matrix = sum(i * axis.b_step for i, axis in zip(index, axes[:-2], strict=True))
        starts = {"a_start": a_matrix * m * k, "b_start": b_matrix * k * n}
        products.append(whole._replace(**starts, out_start=number * outer.length * inner.length * m * n))
    return (*leading, m, n), tuple(products)


def _axes(leading: tuple[int, ...], a_leading: tuple[int, ...], b_leading: tuple[int, ...]) -> list[_Axis]:
    """The leading axes, in order; those of length 1 are left out."""
    axes = []
    for length, a_step, b_step in zip(leading, _steps(leading, a_leading), _steps(leading, b_leading), strict=True):
        if length != 1:
            axes.append(_Axis(length, a_step, b_step))
    return axes


def _steps(leading: tuple[int, ...], own: tuple[int, ...]) -> list[int]:
    """How many matrices one step along each leading axis passes; 0 where the axis is broadcast."""
    own = (1,) * (len(leading) - len(own)) + own
    return [0 if length == 1 else math.prod(own[i + 1 :]) for i, length in enumerate(own)]


def _merged(axes: list[_Axis]) -> list[_Axis]:
    """At least two axes: neighbours that make one walk through both arrays are made one."""
    merged: list[_Axis] = []
    for axis in axes:
        if merged and all(
            step == axis.length * next_step
            for step, next_step in ((merged[-1].a_step, axis.a_step), (merged[-1].b_step, axis.b_step))
        ):
            merged[-1] = _Axis(merged[-1].length * axis.length, axis.a_step, axis.b_step)
        else:
            merged.append(axis)
    return [_Axis(1, 0, 0)] * (2 - len(merged)) + merged


# ---------------------------------------------------------------------------------------------------- tiles and slices


class Tile(NamedTuple):
    """The shape of a block's part of the result: a kernel of gemm.cu, whose blocks have 256 threads."""

    rows: int
    columns: int
    speed: float  # multiplications a cycle of a multiprocessor, in proportion to what it could do

    def tiles(self, m: int, n: int) -> tuple[int, int]:
        """How many cover M x N."""
        return -(-m // self.rows), -(-n // self.columns)


TILES = (Tile(128, 128, 0.8), Tile(64, 64, 0.65), Tile(8, 256, 0.35), Tile(256, 8, 0.35))

_SLICES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_STEP = 16
"""Slices begin at multiples of this many terms: 64 bytes of float32."""

_LONGEST_SUM = 1 << 14
"""Terms that one number in a register sums: more would cost a float32 its sixth digit."""

# The GPU that plans are made for; on another one they are still right, only perhaps not the best.
_MULTIPROCESSORS = 132
_MULTIPLY_ADDS = 128  # a cycle and multiprocessor
_BYTES = 1800  # a cycle, from memory
_STEP_LATENCY = 700  # cycles from the request of a step's numbers to their use
_LAUNCH = 8000  # cycles that a second kernel costs
_BLOCKS_TO_SPARE = 8 * _MULTIPROCESSORS  # with so many, slices would only cost memory


class Plan(NamedTuple):
    """How a product is computed."""

    tile: Tile
    slices: int
    slice_terms: int
    blocks: int

    @property
    def size(self) -> int:
        """Numbers in all tiles and slices, those beyond the edges of the result included."""
        return self.blocks * self.tile.rows * self.tile.columns


@lru_cache(maxsize=4096)
def plan(product: Product, itemsize: int) -> Plan:
    """The tile and the number of slices that promise the shortest time; of equals, the one that computes least."""
    fewest = max(-(-product.k // _LONGEST_SUM), 1)
    whole = _slice_terms(product.k, fewest)
    candidates = [planned(product, tile, whole) for tile in TILES]
    cuts = {_slice_terms(product.k, slices) for slices in _SLICES if slices > fewest}
    for tile, unsliced in zip(TILES, list(candidates), strict=True):
        if unsliced.blocks < _BLOCKS_TO_SPARE:
            candidates += [planned(product, tile, terms) for terms in sorted(cuts, reverse=True)]
    return min(candidates, key=lambda candidate: (cycles(product, candidate, itemsize), candidate.size))


def _slice_terms(k: int, slices: int) -> int:
    """Terms of a slice, a multiple of _STEP."""
    return max(-(-k // (slices * _STEP)), 1) * _STEP


def planned(product: Product, tile: Tile, terms: int) -> Plan:
    """The plan with that tile and so many terms in a slice, a multiple of _STEP."""
    slices = max(-(-product.k // terms), 1)
    blocks = math.prod(tile.tiles(product.m, product.n)) * slices * math.prod(product.batch)
    return Plan(tile, slices, terms, blocks)


def cycles(product: Product, candidate: Plan, itemsize: int) -> float:
    """A rough forecast of the time: blocks go through the multiprocessors in rounds, bound by arithmetic, by waiting
    for memory or by its bandwidth, whichever takes longest; slices must be written and read once more."""
    tile, count = candidate.tile, math.prod(product.batch)
    steps = -(-min(candidate.slice_terms, max(product.k, 1)) // _STEP)
    rounds = -(-candidate.blocks // _MULTIPROCESSORS)
    arithmetic = rounds * steps * _STEP * tile.rows * tile.columns / (_MULTIPLY_ADDS * tile.speed)
    waiting = (steps + 1) * _STEP_LATENCY
    numbers = product.m * product.k + product.k * product.n + product.m * product.n
    reading = count * numbers * itemsize / _BYTES
    time = max(arithmetic, waiting, reading)
    if candidate.slices > 1:
        time += _LAUNCH + 2 * candidate.slices * count * product.m * product.n * itemsize / _BYTES
    return time
