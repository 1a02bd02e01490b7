"""Direct convolution and its input gradient: one gather, or one for each phase of a stride (see gather.py).

Each gather goes block by block, or tap by tap where most of what a small map's windows meet is border (small_maps.py).
All that depends on shapes alone is worked out once and looked up after that: a network asks for the same in each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.gather import (
    Axis,
    Plan,
    block_gather,
    forward_axis,
    input_grad_phases,
    limits,
    plan_gather,
    prepare_block_gather,
    zeros,
)
from minicnn.kernels.cpu.microkernel import panel_columns
from minicnn.kernels.cpu.panels import Packing, forward_packing, input_grad_packing, kept_panels, pack
from minicnn.kernels.cpu.small_maps import TapPlan, plan_taps, tap_gather, wastes_products

Shape: TypeAlias = tuple[int, int, int, int]


class Gather(NamedTuple):
    """One gather, planned: the weights' panels, and the way block by block or tap by tap."""

    packing: Packing
    way: Plan | TapPlan


class InputGrad(NamedTuple):
    """The gathers of an input gradient, and the first pixels of phases that no tap reaches, which are zero."""

    gathers: list[Gather]
    zero_phases: list[Pair]


def direct_conv2d(
    x: Array, w: Array, b: Array | None, strides: Pair, padding: Padding2D, dilation: Pair, groups: int, low: float,
    high: float,
) -> Array:  # fmt: skip
    """x (N, H, W, C), w (KH, KW, C/G, F), b (F,) or None -> conv(x, w) + b between low and high, (N, OH, OW, F)."""
    size, planned = _plan_conv2d(x.shape, w.shape, strides, padding, dilation, groups, x.dtype.char)
    y = buffers.empty((x.shape[0], *size, w.shape[3]), x.dtype)
    if y.size:
        bias = zeros(w.shape[3], x.dtype.char) if b is None else b
        _run(planned, x, pack(planned.packing, w), bias, y, limits(low, high, x.dtype.char), groups)
    return y


def direct_input_grad(
    gy: Array, w: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair, groups: int
) -> Array:
    """gy (N, OH, OW, F), w (KH, KW, C/G, F), input_size (H, W) -> (N, H, W, C)."""
    gx = buffers.empty((gy.shape[0], *input_size, w.shape[2] * groups), gy.dtype)
    if gx.size:
        char = gy.dtype.char
        planned = _plan_input_grad(gy.shape, w.shape, input_size, strides, padding, dilation, groups, char)
        for row, column in planned.zero_phases:
            gx[:, row :: strides[0], column :: strides[1]] = 0
        for gather in planned.gathers:
            panels, bias = pack(gather.packing, w), zeros(gx.shape[3], char)
            _run(gather, gy, panels, bias, gx, limits(-np.inf, np.inf, char), groups)
    return gx


def prepare_direct(
    x_shape: Shape, w: Array, b: Array | None, strides: Pair, padding: Padding2D, dilation: Pair, groups: int,
    low: float, high: float, layouts: dict[Any, Array],
) -> Callable[[Array], Array]:  # fmt: skip
    """direct_conv2d as a function of x alone; see conv.prepare_conv2d."""
    char = w.dtype.char
    size, planned = _plan_conv2d(x_shape, w.shape, strides, padding, dilation, groups, char)
    shape = (x_shape[0], *size, w.shape[3])
    panels = kept_panels(planned.packing, w, groups, layouts)
    bias, within = zeros(w.shape[3], char) if b is None else b, limits(low, high, char)
    if not math.prod(shape):
        return lambda x: buffers.empty(shape, w.dtype)
    if isinstance(planned.way, Plan):
        return prepare_block_gather(planned.way, panels, bias, shape, within)

    def run(x: Array) -> Array:
        y = buffers.empty(shape, w.dtype)
        _run(planned, x, panels, bias, y, within, groups)
        return y

    return run


def _run(gather: Gather, x: Array, panels: Array, bias: Array, out: Array, limits: Array, groups: int) -> None:
    """Write the gather's sums to their places in `out`."""
    if isinstance(gather.way, TapPlan):
        tap_gather(gather.way, x, panels, bias, out, limits, groups, gather.packing.panel)
    else:
        block_gather(gather.way, x, panels, bias, out, limits)


@lru_cache(maxsize=1024)
def _plan_conv2d(
    x_shape: Shape, w_shape: Shape, strides: Pair, padding: Padding2D, dilation: Pair, groups: int, dtype: str
) -> tuple[Pair, Gather]:
    """(OH, OW) and the gather."""
    rows, columns = (
        forward_axis(x_shape[axis + 1], w_shape[axis], strides[axis], padding[axis], dilation[axis]) for axis in (0, 1)
    )
    size = rows.positions, columns.positions
    packing = forward_packing(w_shape, groups, panel_columns(dtype))
    return size, Gather(packing, _way(rows, columns, x_shape, w_shape[3], size, groups, packing.panel))


@lru_cache(maxsize=1024)
def _plan_input_grad(
    gy_shape: Shape, w_shape: Shape, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair, groups: int,
    dtype: str,
) -> InputGrad:  # fmt: skip
    """One gather for each phase of the strides."""
    kh, kw, c, _ = w_shape
    planned = InputGrad([], [])
    for vertical in input_grad_phases(input_size[0], kh, strides[0], padding[0], dilation[0]):
        for horizontal in input_grad_phases(input_size[1], kw, strides[1], padding[1], dilation[1]):
            rows, columns = vertical.axis, horizontal.axis
            elements = tuple([k * kw + l for k in vertical.window for l in horizontal.window])
            if elements:
                packing = input_grad_packing(w_shape, groups, elements, panel_columns(dtype))
                way = _way(rows, columns, gy_shape, c * groups, input_size, groups, packing.panel)
                planned.gathers.append(Gather(packing, way))
            else:
                planned.zero_phases.append((rows.out_first, columns.out_first))
    return planned


def _way(
    rows: Axis, columns: Axis, x_shape: Shape, filters: int, out_size: Pair, groups: int, panel: int
) -> Plan | TapPlan:
    height, width = out_size
    if wastes_products(rows, columns, x_shape[1:3], x_shape[3] // groups):
        return plan_taps(rows, columns, x_shape, filters, groups, width, height * width)
    return plan_gather(rows, columns, x_shape, filters, groups, width, height * width, panel)
