"""The input gradient for images of few channels: a product, then every patch is added to where it came from.

With 1 or 3 channels the gather of gather.py would leave most of each vector empty: its columns are the channels. Here
the columns are (tap, channel), 9 or 27 or 147 of them: cols[pixel] = gy[pixel] @ w.T for a few rows of output pixels at
a time, in scratch memory that stays in the cache, and each number is then added to the gradient's pixel. One task an
image, so no two tasks add to the same pixel.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.gather import TERMS, limits, zeros
from minicnn.kernels.cpu.jit import helper
from minicnn.kernels.cpu.microkernel import Product, matrix_kernel, multiply_panel, panel_columns
from minicnn.kernels.cpu.panels import Packing, input_grad_packing, pack
from minicnn.kernels.cpu.parallel import get_num_threads, parallel_for
from minicnn.kernels.cpu.simd import address, lanes, load_first, store_first

BLOCK_PIXELS = 128
"""Output pixels of a block, about."""


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


@helper
def _sizes(numbers):  # type: ignore[no-untyped-def]
    """The integers under their names."""
    n = numbers
    return Sizes(
        n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11], n[12], n[13], n[14], n[15], n[16]
    )


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
def _add_patches(s, cols, place, gx, image, row, rows):  # type: ignore[no-untyped-def]
    """Add the patches of output rows row to row + rows - 1 to gx."""
    patch = s.kernel_h * s.kernel_w * s.channels
    for i in range(rows):
        for k in range(s.kernel_h):
            y = (row + i) * s.stride_h + k * s.dilation_h - s.top
            if y < 0 or y >= s.height:
                continue
            for l in range(s.kernel_w):
                # Output column j adds to column j * stride + shift of gx, where that lies in the image.
                shift = l * s.dilation_w - s.left
                first = (max(0, -shift) + s.stride_w - 1) // s.stride_w
                end = min(s.out_width, (s.width - 1 - shift) // s.stride_w + 1) if shift < s.width else 0
                source = place + i * s.out_width * patch + (k * s.kernel_w + l) * s.channels
                goal = ((image * s.height + y) * s.width + shift) * s.channels
                for channel in range(s.channels):
                    for j in range(first, end):
                        gx[goal + channel + j * s.stride_w * s.channels] += cols[source + channel + j * patch]


@helper
def _images_task(task, tasks, gy, panels, gx, cols, zeros, offsets, numbers, limits):  # type: ignore[no-untyped-def]
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
            _add_patches(s, cols, place, gx, image, row, rows)


@matrix_kernel
def _scatter(tasks, gy, panels, gx, cols, zeros, offsets, numbers, limits):  # type: ignore[no-untyped-def]
    parallel_for(_images_task, tasks, (tasks, gy, panels, gx, cols, zeros, offsets, numbers, limits))


def scatter_input_grad(
    gy: Array, w: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair
) -> Array:
    """gy (N, OH, OW, F), w (KH, KW, C, F), input_size (H, W) -> (N, H, W, C)."""
    char = gy.dtype.char
    gx = buffers.empty((gy.shape[0], *input_size, w.shape[2]), gy.dtype)
    packing, sizes, offsets, cols_size = _plan(gy.shape, w.shape[:3], input_size, strides, padding, dilation, char)
    tasks = min(get_num_threads(), gy.shape[0])
    _scatter(
        tasks, gy.reshape(-1), pack(packing, w), gx.reshape(-1), buffers.empty((tasks * cols_size,), gy.dtype),
        zeros(packing.panel, char), offsets, sizes, limits(-np.inf, np.inf, char),
    )  # fmt: skip
    return gx


@lru_cache(maxsize=256)
def _plan(
    gy_shape: tuple[int, int, int, int], window: tuple[int, int, int], input_size: Pair, strides: Pair,
    padding: Padding2D, dilation: Pair, dtype: str,
) -> tuple[Packing, np.ndarray[Any, Any], np.ndarray[Any, Any], int]:  # fmt: skip
    """How w becomes panels; Sizes; one table of offsets, of a block's pixels in gy, of their rows in cols, and of a
    pixel's filters; numbers of cols."""
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
    )
    positions = np.arange(block_rows * ow)
    patch = window[0] * window[1] * window[2]
    offsets = np.concatenate([positions * f, positions * patch, np.arange(f)])
    packing = input_grad_packing((1, 1, patch, f), 1, (0,), panel)
    return packing, np.array(sizes, np.int64), offsets.astype(np.int64), positions.size * patch
