"""Direct convolution and its input gradient: one gather, or one for each phase of a stride (see gather.py).

Each gather goes block by block, or tap by tap where most of what a small map's windows meet is border (small_maps.py).
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.gather import (
    Axis,
    block_gather,
    forward_axis,
    input_grad_phases,
    limits,
    plan_gather,
    zeros,
)
from minicnn.kernels.cpu.microkernel import panel_columns
from minicnn.kernels.cpu.panels import forward_panels, input_grad_panels
from minicnn.kernels.cpu.small_maps import plan_taps, tap_gather, wastes_products


def direct_conv2d(
    x: Array, w: Array, b: Array | None, strides: Pair, padding: Padding2D, dilation: Pair, groups: int, low: float,
    high: float,
) -> Array:  # fmt: skip
    """x (N, H, W, C), w (KH, KW, C/G, F), b (F,) or None -> conv(x, w) + b between low and high, (N, OH, OW, F)."""
    kh, kw, _, f = w.shape
    rows = forward_axis(x.shape[1], kh, strides[0], padding[0], dilation[0])
    columns = forward_axis(x.shape[2], kw, strides[1], padding[1], dilation[1])
    y = buffers.empty((x.shape[0], rows.positions, columns.positions, f), x.dtype)
    if y.size:
        bias = zeros(f, x.dtype) if b is None else b
        _gather(rows, columns, x, forward_panels(w, groups), bias, y, limits(low, high, x.dtype), groups)
    return y


def direct_input_grad(
    gy: Array, w: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair, groups: int
) -> Array:
    """gy (N, OH, OW, F), w (KH, KW, C/G, F), input_size (H, W) -> (N, H, W, C)."""
    kh, kw, c_group, _ = w.shape
    gx = buffers.empty((gy.shape[0], *input_size, c_group * groups), gy.dtype)
    if not gx.size:
        return gx
    unlimited, no_bias = limits(-np.inf, np.inf, gy.dtype), zeros(gx.shape[3], gy.dtype)
    for vertical in input_grad_phases(input_size[0], kh, strides[0], padding[0], dilation[0]):
        for horizontal in input_grad_phases(input_size[1], kw, strides[1], padding[1], dilation[1]):
            elements = tuple([k * kw + l for k in vertical.window for l in horizontal.window])
            if elements:
                panels = input_grad_panels(w, groups, elements)
                _gather(vertical.axis, horizontal.axis, gy, panels, no_bias, gx, unlimited, groups)
            else:
                gx[:, vertical.axis.out_first :: strides[0], horizontal.axis.out_first :: strides[1]] = 0
    return gx


def _gather(
    rows: Axis, columns: Axis, x: Array, panels: Array, bias: Array, out: Array, limits: Array, groups: int
) -> None:
    """Write the gather's sums to their places in `out`."""
    _, height, width, filters = out.shape
    panel = panel_columns(x.dtype)
    if wastes_products(rows, columns, x.shape[1:3], x.shape[3] // groups):
        taps = plan_taps(rows, columns, x.shape, filters, groups, width, height * width)
        tap_gather(taps, x, panels, bias, out, limits, groups, panel)
    else:
        plan = plan_gather(rows, columns, x.shape, filters, groups, width, height * width, panel)
        block_gather(plan, x, panels, bias, out, limits)
