"""The input gradient for images of few channels: a product, then every patch is added to where it came from.

With 1 or 3 channels the gather of gather.py would leave most of each vector empty: its columns are the channels. Here
the columns are (tap, channel), 9 or 27 or 147 of them: cols[pixel] = gy[pixel] @ w.T for a few rows of output pixels at
a time, in scratch memory that stays in the cache. Then each pixel of the gradient collects its channels, one vector,
from all patches that it lies in:

    gx[3, 4] += cols[3, 4][tap 0, 0] + cols[3, 3][tap 0, 1] + ... + cols[2, 4][tap 1, 0] + ...

From one to the next is always the same distance in memory. The sum stays in a register: to add patch after patch to gx
instead would wait, at each step, for what the last one wrote. Each task has images of its own.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.cpu import buffers, host
from minicnn.kernels.cpu.gather import TERMS, limits, zeros
from minicnn.kernels.cpu.jit import helper
from minicnn.kernels.cpu.microkernel import Product, matrix_kernel, multiply_panel, panel_columns
from minicnn.kernels.cpu.panels import Packing, input_grad_packing, pack
from minicnn.kernels.cpu.parallel import get_num_threads, parallel_for
from minicnn.kernels.cpu.simd import address, lanes, load, load_first, store_first

BLOCK_PIXELS = 1024
"""Output pixels of a block, about: several rows, or each pixel of gx would be fetched once for every row of taps."""


class Sizes(NamedTuple):
    """Plain integers, as compiled code takes them."""

    images: int
    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    filters: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    top: int
    left: int
    dilation_h: int
    dilation_w: int
    block_rows: int
    panel: int
    tap_step_h: int
    tap_step_w: int
    out_step_h: int
    out_step_w: int


@helper
def _sizes(numbers):  # type: ignore[no-untyped-def]
    """The integers under their names."""
    n = numbers
    return Sizes(
        n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11], n[12], n[13], n[14], n[15], n[16],
        n[17], n[18], n[19], n[20],
    )  # fmt: skip


@helper
def _multiply(s, gy, gy_start, positions, panels, cols, place, zeros, offsets, limits):  # type: ignore[no-untyped-def]
    """cols (positions, taps * C) = gy (positions, F) @ w.T. offsets: of gy's pixels, of cols' rows, 0, 1, 2, ..."""
    columns = s.kernel_h * s.kernel_w * s.channels
    block_positions = s.block_rows * s.out_width
    for term in range(0, s.filters, TERMS):
        terms = min(TERMS, s.filters - term)
        for column in range(0, columns, s.panel):
            goal = address(cols, place + column)
            begin, step = (goal, 1) if term > 0 else (address(zeros, 0), 0)
            product = Product(
                address(gy, gy_start + term), address(offsets, 0), address(offsets, 2 * block_positions), terms,
                address(panels, column * s.filters + term * s.panel), s.panel, begin, step, goal,
                address(offsets, block_positions), limits[2], limits[3], 0,
            )  # fmt: skip
            multiply_panel(product, positions, min(s.panel, columns - column))


@helper
def _add_patches(s, cols, place, gx, image, row, rows, reach):  # type: ignore[no-untyped-def]
    """Add the patches of output rows row to row + rows - 1 to gx, pixel by pixel of gx.

    reach (3, H + W): `_reach` of the lines, then of the columns.
    """
    patch = s.kernel_h * s.kernel_w * s.channels
    stop = row + rows
    first_line = max(0, row * s.stride_h - s.top)
    end_line = min(s.height, (stop - 1) * s.stride_h - s.top + (s.kernel_h - 1) * s.dilation_h + 1)
    # From one number that a pixel collects to the next: some taps on, and as many output pixels back as lie under them.
    row_step = s.tap_step_h * s.kernel_w * s.channels - s.out_step_h * s.out_width * patch
    column_step = s.tap_step_w * s.channels - s.out_step_w * patch
    for line in range(first_line, end_line):
        i, k, lines = reach[0, line], reach[1, line], reach[2, line]
        while lines > 0 and i >= stop:  # rows of the next block
            i, k, lines = i - s.out_step_h, k + s.tap_step_h, lines - 1
        lines = min(lines, (i - row) // s.out_step_h + 1)  # none, or less, where i < row
        line_place = place + (i - row) * s.out_width * patch + k * s.kernel_w * s.channels
        for x in range(s.width):
            j, l, columns = reach[0, s.height + x], reach[1, s.height + x], reach[2, s.height + x]
            source = line_place + j * patch + l * s.channels
            goal = ((image * s.height + line) * s.width + x) * s.channels
            for channel in range(0, s.channels, lanes(gx)):
                total = load_first(gx, goal + channel, s.channels - channel)
                for m in range(lines):
                    for n in range(columns):
                        total = total + load(cols, source + channel + m * row_step + n * column_step)
                store_first(gx, goal + channel, total, s.channels - channel)


@helper
def _images_task(task, tasks, gy, panels, gx, cols, zeros, offsets, reach, numbers, limits):  # type: ignore[no-untyped-def]
    """This task's share of the images."""
    s = _sizes(numbers)
    place = task * (cols.size // tasks)
    image_size = s.height * s.width * s.channels
    nothing = load_first(zeros, 0, 0)
    for image in range(task * s.images // tasks, (task + 1) * s.images // tasks):
        for i in range(0, image_size, lanes(gx)):
            store_first(gx, image * image_size + i, nothing, image_size - i)
        for row in range(0, s.out_height, s.block_rows):
            rows = min(s.block_rows, s.out_height - row)
            gy_start = (image * s.out_height + row) * s.out_width * s.filters
            _multiply(s, gy, gy_start, rows * s.out_width, panels, cols, place, zeros, offsets, limits)
            _add_patches(s, cols, place, gx, image, row, rows, reach)


@matrix_kernel
def _scatter(tasks, gy, panels, gx, cols, zeros, offsets, reach, numbers, limits):  # type: ignore[no-untyped-def]
    parallel_for(_images_task, tasks, (tasks, gy, panels, gx, cols, zeros, offsets, reach, numbers, limits))


def scatter_input_grad(
    gy: Array, w: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair
) -> Array:
    """gy (N, OH, OW, F), w (KH, KW, C, F), input_size (H, W) -> (N, H, W, C)."""
    char = gy.dtype.char
    gx = buffers.empty((gy.shape[0], *input_size, w.shape[2]), gy.dtype)
    packing, sizes, offsets, reach, cols_size = _plan(
        gy.shape, w.shape[:3], input_size, strides, padding, dilation, char
    )
    tasks = min(get_num_threads(), gy.shape[0])
    _scatter(
        tasks, gy.reshape(-1), pack(packing, w), gx.reshape(-1), buffers.empty((tasks * cols_size,), gy.dtype),
        zeros(packing.panel, char), offsets, reach, sizes, limits(-np.inf, np.inf, char),
    )  # fmt: skip
    return gx


@lru_cache(maxsize=256)
def _plan(
    gy_shape: tuple[int, int, int, int], window: tuple[int, int, int], input_size: Pair, strides: Pair,
    padding: Padding2D, dilation: Pair, dtype: str,
) -> tuple[Packing, np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any], int]:  # fmt: skip
    """How w becomes panels; Sizes; one table of offsets, of a block's pixels in gy, of their rows in cols, and of a
    pixel's filters; what each line and column of gx collects; numbers of cols, some more than are used: a vector is
    read where fewer channels are wanted."""
    n, oh, ow, f = gy_shape
    panel = panel_columns(dtype)
    block_rows = min(oh, max(1, BLOCK_PIXELS // ow))
    sizes = Sizes(
        n,
        *input_size,
        window[2],
        oh,
        ow,
        f,
        *window[:2],
        *strides,
        padding[0][0],
        padding[1][0],
        *dilation,
        block_rows,
        panel,
        *(stride // gcd(stride, step) for stride, step in zip(strides, dilation, strict=True)),
        *(step // gcd(stride, step) for stride, step in zip(strides, dilation, strict=True)),
    )
    lines, columns = (
        _reach(input_size[axis], gy_shape[1 + axis], window[axis], strides[axis], padding[axis][0], dilation[axis])
        for axis in (0, 1)
    )
    positions = np.arange(block_rows * ow)
    patch = window[0] * window[1] * window[2]
    offsets = np.concatenate([positions * f, positions * patch, np.arange(f)])
    packing = input_grad_packing((1, 1, patch, f), 1, (0,), panel)
    reach = np.concatenate([lines, columns], axis=1)
    cols_size = positions.size * patch + host.lanes(np.dtype(dtype).itemsize)
    return packing, np.array(sizes, np.int64), offsets.astype(np.int64), reach, cols_size


def _reach(size: int, outputs: int, taps: int, stride: int, before: int, dilation: int) -> np.ndarray[Any, Any]:
    """For each position along an axis of gx: the last output whose window holds it, the tap that it lies under there,
    and how many outputs' windows hold it. (3, size)"""
    reach = np.zeros((3, size), np.int64)
    for position in range(size):
        for tap in reversed(range(taps)):
            output, rest = divmod(position + before - tap * dilation, stride)
            if rest == 0 and 0 <= output < outputs:
                reach[:, position] = output, tap, reach[2, position] + 1
    return reach
