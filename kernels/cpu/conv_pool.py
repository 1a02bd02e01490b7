"""Convolution and max pooling as one: what lies between them never leaves the second-level cache.

A convolution's output is the largest array of most networks, and pooling keeps a quarter of it. Where the windows of
the pooling neither overlap nor have padding, whole rows of windows are computed block by block: the convolution of a
block goes to scratch memory, and the largest number of each window, with its place, from there to the output. Rows that
no window covers are not computed at all. Other poolings, and convolutions that other techniques compute faster, go one
after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from minicnn.kernels.contract import Array, EpilogueName, Padding2D, Pair
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.activation import activation_in_place
from minicnn.kernels.cpu.conv import CLAMPS, Shape, conv2d, is_direct, prepare_conv2d
from minicnn.kernels.cpu.gather import (
    Plan,
    block_input,
    block_size,
    block_start,
    count_blocks,
    forward_axis,
    limits,
    multiply_block,
    plan_gather,
    read_blocks,
    zeros,
)
from minicnn.kernels.cpu.jit import helper
from minicnn.kernels.cpu.microkernel import matrix_kernel, panel_columns
from minicnn.kernels.cpu.panels import Packing, forward_packing, kept_panels, pack
from minicnn.kernels.cpu.parallel import get_num_threads, parallel_for
from minicnn.kernels.cpu.pool import max_of_window, max_pool2d


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
    """x (N, H, W, C), w (KH, KW, C/G, F), b (F,) or None -> y and where (int32), both (N, PH, PW, F)."""
    tiled = window == pool_strides and pool_padding == ((0, 0), (0, 0))
    if not (tiled and is_direct(x.shape, w, strides, padding, dilation, groups)):
        y = conv2d(x, w, b, strides, padding, dilation, groups, activation)
        return max_pool2d(y, window, pool_strides, pool_padding)
    return _conv_pool(x, w, b, (strides, padding, dilation), groups, activation, window)


def prepare_conv2d_max_pool2d(
    x_shape: Shape,
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
    layouts: dict[Any, Array],
) -> Callable[[Array], Array]:
    """y of conv2d_max_pool2d(x, w, b, ...) as a function of x alone; see conv.prepare_conv2d."""
    geometry = strides, padding, dilation
    tiled = window == pool_strides and pool_padding == ((0, 0), (0, 0))
    if not (tiled and is_direct(x_shape, w, *geometry, groups, prepared=True)):
        convolve = prepare_conv2d(x_shape, w, b, *geometry, groups, activation, layouts)
        return lambda x: max_pool2d(convolve(x), window, pool_strides, pool_padding)[0]

    dtype, f = w.dtype, w.shape[3]
    size, packing, plan = _plan(x_shape, w.shape, *geometry, groups, window, dtype.char)
    shape = x_shape[0], *size, f
    if not math.prod(shape):
        return lambda x: buffers.empty(shape, dtype)
    panels = kept_panels(packing, w, groups, layouts)
    bias = zeros(f, dtype.char) if b is None else b
    tasks = min(get_num_threads(), plan.blocks)
    within = limits(*CLAMPS.get(activation, CLAMPS[None]), dtype.char)
    new_out, new_where = (buffers.allocator(math.prod(shape), kind) for kind in (dtype, np.int32))
    new_scratch = buffers.allocator(tasks * plan.scratch, dtype)
    new_sums = buffers.allocator(tasks * plan.row_offsets.size * f, dtype)

    def run(x: Array) -> Array:
        y = new_out()
        _pooled_gather(
            tasks, x.reshape(-1), panels, bias, y, new_where(), new_scratch(), new_sums(), *window, plan.numbers,
            plan.row_offsets, plan.out_offsets, plan.term_offsets, within,
        )  # fmt: skip
        if activation is not None and activation not in CLAMPS:
            activation_in_place(y, activation)
        return y.reshape(shape)

    return run


def _conv_pool(
    x: Array,
    w: Array,
    b: Array | None,
    geometry: tuple[Pair, Padding2D, Pair],
    groups: int,
    activation: EpilogueName | None,
    window: Pair,
) -> tuple[Array, Array]:
    """The one way: windows side by side, in a direct convolution."""
    char, f = x.dtype.char, w.shape[3]
    size, packing, plan = _plan(x.shape, w.shape, *geometry, groups, window, char)
    y = buffers.empty((x.shape[0], *size, f), x.dtype)
    where = buffers.empty(y.shape, np.int32)
    if not y.size:
        return y, where
    tasks = min(get_num_threads(), plan.blocks)
    low, high = CLAMPS.get(activation, CLAMPS[None])
    _pooled_gather(
        tasks, x.reshape(-1), pack(packing, w), zeros(f, char) if b is None else b, y.reshape(-1),
        where.reshape(-1), buffers.empty((tasks * plan.scratch,), x.dtype),
        buffers.empty((tasks * plan.row_offsets.size * f,), x.dtype), *window, plan.numbers,
        plan.row_offsets, plan.out_offsets, plan.term_offsets, limits(low, high, char),
    )  # fmt: skip
    if activation is not None and activation not in CLAMPS:
        activation_in_place(y, activation)  # they all rise, so the largest number stays the largest
    return y, where


@lru_cache(maxsize=1024)
def _plan(
    x_shape: tuple[int, int, int, int], w_shape: tuple[int, int, int, int], strides: Pair, padding: Padding2D,
    dilation: Pair, groups: int, window: Pair, dtype: str,
) -> tuple[Pair, Packing, Plan]:  # fmt: skip
    """(PH, PW), how w becomes panels, and the blocks: of whole windows."""
    rows, columns = (
        forward_axis(x_shape[axis + 1], w_shape[axis], strides[axis], padding[axis], dilation[axis]) for axis in (0, 1)
    )
    size = rows.positions // window[0], columns.positions // window[1]
    covered = rows._replace(positions=size[0] * window[0])
    packing = forward_packing(w_shape, groups, panel_columns(dtype))
    plan = plan_gather(
        covered, columns, x_shape, w_shape[3], groups, columns.positions, covered.positions * columns.positions,
        packing.panel, multiple=window[0], may_stream=False,
    )  # fmt: skip
    return size, packing, plan


@helper
def _blocks_task(  # type: ignore[no-untyped-def]
    task, tasks, x, panels, bias, y, where, scratch, sums, window_h, window_w, numbers, row_offsets,
    out_offsets, term_offsets, limits,
):  # fmt: skip
    """This task's share of the blocks: the convolution of each, then its windows."""
    p = read_blocks(numbers)
    blocks, filters = count_blocks(p), p.groups * p.columns
    place, sums_place = task * (scratch.size // tasks), task * (sums.size // tasks)
    pooled_rows, pooled_columns = p.grid_rows // window_h, p.grid_columns // window_w
    for block in range(task * blocks // tasks, (task + 1) * blocks // tasks):
        image, row = block_start(p, block)
        images, rows = block_size(p, image, row)
        pixels = block_input(p, x, image, row, images, rows, scratch, place)
        positions = images * rows * p.grid_columns
        multiply_block(
            p,
            pixels,
            x.itemsize,
            panels,
            bias,
            sums,
            sums_place,
            positions,
            row_offsets,
            out_offsets,
            term_offsets,
            limits,
        )
        width = p.grid_columns
        for j in range(images):
            above = sums_place + (j * rows - row) * width * filters  # where row 0 of the image would lie
            for i in range(row, row + rows, window_h):
                for k in range(0, pooled_columns * window_w, window_w):
                    goal = (((image + j) * pooled_rows + i // window_h) * pooled_columns + k // window_w) * filters
                    max_of_window(sums, above, width, filters, i, i + window_h, k, k + window_w, y, where, goal)


@matrix_kernel
def _pooled_gather(  # type: ignore[no-untyped-def]
    tasks, x, panels, bias, y, where, scratch, sums, window_h, window_w, numbers, row_offsets, out_offsets,
    term_offsets, limits,
):  # fmt: skip
    arguments = (
        tasks, x, panels, bias, y, where, scratch, sums, window_h, window_w, numbers, row_offsets,
        out_offsets, term_offsets, limits,
    )  # fmt: skip
    parallel_for(_blocks_task, tasks, arguments)
