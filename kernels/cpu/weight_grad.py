"""The weight gradient: gw[tap, c, f] = sum over pixels of x[pixel + tap, c] * gy[pixel, f].

The same blocks of output pixels as in gather.py, with the roles of its tables exchanged: rows are (tap, channel), terms
are the pixels of a block. Blocks are dealt to SLICES slices, each with sums of its own, which are added up in order at
the end. The number of slices depends on the shape alone, so the bits do not depend on the number of threads; where the
sums are too big to have many, each slice's rows are shared out among the threads instead.

A block's sums start at zero and are then added to the slice's: short sums, added up, lose fewer digits than a long one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.gather import (
    Plan,
    block_input,
    block_size,
    block_start,
    count_blocks,
    forward_axis,
    limits,
    plan_gather,
    read_blocks,
)
from minicnn.kernels.cpu.jit import helper
from minicnn.kernels.cpu.microkernel import ROWS, Product, matrix_kernel, multiply_panel, panel_columns
from minicnn.kernels.cpu.packing import pack_panel
from minicnn.kernels.cpu.parallel import get_num_threads, parallel_for
from minicnn.kernels.cpu.simd import address, lanes
from minicnn.kernels.cpu.small_maps import GradPlan, plan_grad, tap_weight_grad, wastes_products

BLOCK_PIXELS = 128
"""Pixels of a block, about: 64 filters of them fill two thirds of the first-level cache."""

TABLED_PIXELS = 1 << 15
"""Up to so many output pixels, small maps go tap by tap: the tables hold each of them once a tap."""

SLICES = 8
SLICES_BYTES = 1 << 21
BLOCKS_A_SLICE = 4
"""At most so many slices and so much memory for their sums; each has so many blocks, or adding up costs too much."""


@helper
def _slice_task(  # type: ignore[no-untyped-def]
    task, slices, parts, x, gy, sums, out_offsets, scratch, panels, numbers, pixel_offsets, row_offsets, limits
):  # fmt: skip
    """All blocks of one slice, for one part of the rows."""
    p = read_blocks(numbers)
    index, part = task // parts, task % parts
    tiles = (p.terms + ROWS - 1) // ROWS
    first, end = part * tiles // parts * ROWS, min(p.terms, (part + 1) * tiles // parts * ROWS)
    filters = p.groups * p.columns
    sums_start = index * p.terms * filters
    for i in range(sums_start + first * filters, sums_start + end * filters):
        sums[i] = 0
    blocks = count_blocks(p)
    place, panel_place = task * (scratch.size // (slices * parts)), task * (panels.size // (slices * parts))
    in_place = p.groups == 1 and filters <= p.panel and filters % lanes(gy) == 0  # gy is then a panel as it lies
    for block in range(index * blocks // slices, (index + 1) * blocks // slices):
        image, row = block_start(p, block)
        images, rows = block_size(p, image, row)
        pixels = block_input(p, x, image, row, images, rows, scratch, place)
        positions = images * rows * p.grid_columns
        gy_start = (image * p.grid_rows + row) * p.grid_columns * filters
        for group in range(p.groups):
            group_pixels = pixels + group * (p.channels // p.groups) * x.itemsize
            for column in range(0, p.columns, p.panel):
                columns = min(p.panel, p.columns - column)
                width = (columns + lanes(gy) - 1) // lanes(gy) * lanes(gy)
                filter_ = group * p.columns + column
                weights = address(gy, gy_start)
                if not in_place:
                    pack_panel(gy, gy_start + filter_, filters, positions, columns, panels, panel_place, width)
                    weights = address(panels, panel_place)
                goal = address(sums, sums_start + filter_)
                product = Product(
                    group_pixels, address(row_offsets, first), address(pixel_offsets, 0), positions, weights, width,
                    goal, 1, goal, address(out_offsets, first), limits[2], limits[3], 0,
                )  # fmt: skip
                multiply_panel(product, end - first, columns)


@helper
def _add_slices_task(task, tasks, slices, sums, out):  # type: ignore[no-untyped-def]
    """One stretch of the output: the slices' sums in order."""
    for i in range(task * out.size // tasks, (task + 1) * out.size // tasks):
        total = sums[i]
        for s in range(1, slices):
            total += sums[s * out.size + i]
        out[i] = total


@matrix_kernel
def _weight_grad(  # type: ignore[no-untyped-def]
    slices, parts, x, gy, sums, out, out_offsets, scratch, panels, numbers, pixel_offsets, row_offsets, limits
):  # fmt: skip
    arguments = (slices, parts, x, gy, sums, out_offsets, scratch, panels, numbers, pixel_offsets, row_offsets, limits)
    parallel_for(_slice_task, slices * parts, arguments)
    if slices > 1:
        tasks = min(16, (out.size + 8191) // 8192)
        parallel_for(_add_slices_task, tasks, (tasks, slices, sums, out))


def direct_weight_grad(
    x: Array, gy: Array, kernel_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair, groups: int
) -> Array:
    """x (N, H, W, C), gy (N, OH, OW, F), kernel_size (KH, KW) -> (KH, KW, C/G, F)."""
    f, char = gy.shape[3], x.dtype.char
    unlimited = limits(-np.inf, np.inf, char)
    panel, plan = _plan(x.shape, kernel_size, f, strides, padding, dilation, groups, char)
    if isinstance(plan, GradPlan):
        return tap_weight_grad(plan, x, gy, kernel_size, groups, unlimited, panel)
    terms = plan.term_offsets.size
    out = buffers.empty((*kernel_size, x.shape[3] // groups, f), x.dtype)
    slices = max(1, min(SLICES, plan.blocks // BLOCKS_A_SLICE, SLICES_BYTES // out.nbytes))
    parts = max(1, min(-(-get_num_threads() // slices), terms // (2 * ROWS)))
    sums = buffers.empty((slices * out.size,), x.dtype) if slices > 1 else out.reshape(-1)
    positions = plan.row_offsets.size
    _weight_grad(
        slices, parts, x.reshape(-1), gy.reshape(-1), sums, out.reshape(-1), _row_starts(terms, f),
        buffers.empty((slices * parts * plan.scratch,), x.dtype),
        buffers.empty((slices * parts * positions * panel,), x.dtype), plan.numbers, plan.row_offsets,
        plan.term_offsets, unlimited,
    )  # fmt: skip
    return out


@lru_cache(maxsize=1024)
def _plan(
    x_shape: tuple[int, int, int, int], kernel_size: Pair, filters: int, strides: Pair, padding: Padding2D,
    dilation: Pair, groups: int, dtype: str,
) -> tuple[int, Plan | GradPlan]:  # fmt: skip
    """Columns of a panel, and the way: block by block, or tap by tap where most of a small map is border."""
    rows, columns = (
        forward_axis(x_shape[axis + 1], kernel_size[axis], strides[axis], padding[axis], dilation[axis])
        for axis in (0, 1)
    )
    panel, outputs = panel_columns(dtype), rows.positions * columns.positions
    if wastes_products(rows, columns, x_shape[1:3], x_shape[3] // groups) and 0 < x_shape[0] * outputs <= TABLED_PIXELS:
        return panel, plan_grad(rows, columns, x_shape, filters, groups)
    plan = plan_gather(rows, columns, x_shape, filters, groups, columns.positions, outputs, panel, BLOCK_PIXELS)
    return panel, plan


@lru_cache(maxsize=256)
def _row_starts(rows: int, step: int) -> np.ndarray[Any, Any]:
    return np.arange(rows, dtype=np.int64) * step
