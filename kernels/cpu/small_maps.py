"""Direct convolution of small maps: one product a tap, over exactly the pixels whose tap lies in the image.

On a 5x5 map with a border of zeros, a 3x3 window meets more zeros than pixels: gather.py would multiply them all. Here
each tap has tables of the positions where it meets a pixel, for as many images as make a block:

    out[position] += x[position * step + first + tap] @ w[tap]        for each tap, over its positions alone

A block's output starts as the bias and stays in the cache while the taps are added to it; the clamp comes last. Serves
the same gathers as gather.py, with the same panels of weights.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.cpu.gather import TERMS, Axis
from minicnn.kernels.cpu.jit import helper
from minicnn.kernels.cpu.microkernel import Product, matrix_kernel, multiply_panel
from minicnn.kernels.cpu.parallel import get_num_threads, parallel_for
from minicnn.kernels.cpu.simd import address

BLOCK_POSITIONS = 384
"""Output positions of a block, about."""

WASTE = 1.15
"""gather.py multiplies this many times as many numbers as there are, or more, where this file takes over."""


class TapPlan(NamedTuple):
    """Tables for a block of images, the taps' one after another; offsets in elements."""

    block_images: int
    tap_starts: np.ndarray[Any, Any]  # where the tables of each tap start, and where the last ends
    row_offsets: np.ndarray[Any, Any]  # of the pixel of x that a tap meets, behind the block's first image
    out_offsets: np.ndarray[Any, Any]  # of the position, behind the block's first image of the output
    term_offsets: np.ndarray[Any, Any]  # 0, 1, 2, ...: the channels of a pixel
    positions: np.ndarray[Any, Any]  # of all positions of one image, behind its start


@lru_cache(maxsize=1024)
def wastes_products(rows: Axis, columns: Axis, size: tuple[int, int], channels: int) -> bool:
    """Whether a gather over a map of this size multiplies many zeros, with channels enough to go tap by tap."""
    if channels < 16:
        return False
    met = sum(len(_positions(rows, tap, size[0])) for tap in rows.taps)
    met *= sum(len(_positions(columns, tap, size[1])) for tap in columns.taps)
    return rows.positions * columns.positions * len(rows.taps) * len(columns.taps) > WASTE * met


def _positions(axis: Axis, tap: int, size: int) -> list[int]:
    """Grid positions whose tap lies in range(size)."""
    return [q for q in range(axis.positions) if 0 <= q * axis.step + axis.first + tap < size]


@lru_cache(maxsize=256)
def plan_taps(
    rows: Axis, columns: Axis, x_shape: tuple[int, int, int, int], filters: int, groups: int, out_width: int,
    out_pixels: int,
) -> TapPlan:  # fmt: skip
    """Tables for a gather over x (N, H, W, C) with `filters` output channels and out_pixels = H' * W' an image."""
    n, h, w, c = x_shape
    block_images = min(n, max(1, BLOCK_POSITIONS // (rows.positions * columns.positions)))
    images = np.arange(block_images)[:, None, None]

    def places(q: Any, r: Any) -> Any:
        return ((rows.out_first + q * rows.out_step) * out_width + columns.out_first + r * columns.out_step) * filters

    row_offsets, out_offsets, starts = [], [], [0]
    for tap_row in rows.taps:
        q = np.array(_positions(rows, tap_row, h), np.int64)[:, None]
        for tap_column in columns.taps:
            r = np.array(_positions(columns, tap_column, w), np.int64)
            y, x = q * rows.step + rows.first + tap_row, r * columns.step + columns.first + tap_column
            row_offsets.append((((images * h + y) * w + x) * c).ravel())
            out_offsets.append((images * out_pixels * filters + places(q, r)).ravel())
            starts.append(starts[-1] + row_offsets[-1].size)
    everywhere = places(np.arange(rows.positions)[:, None], np.arange(columns.positions)).ravel()
    return TapPlan(
        block_images, np.array(starts, np.int64), np.concatenate(row_offsets), np.concatenate(out_offsets),
        np.arange(c // groups, dtype=np.int64), everywhere.astype(np.int64),
    )  # fmt: skip


@helper
def _start_at_bias(out, start, out_image, images, positions, bias):  # type: ignore[no-untyped-def]
    for image in range(images):
        for p in range(positions.size):
            goal = start + image * out_image + positions[p]
            for f in range(bias.size):
                out[goal + f] = bias[f]


@helper
def _clamp(out, start, out_image, images, positions, filters, limits):  # type: ignore[no-untyped-def]
    low, high = limits[0], limits[1]
    for image in range(images):
        for p in range(positions.size):
            goal = start + image * out_image + positions[p]
            for f in range(goal, goal + filters):
                value = out[f]
                value = low if value < low else value  # NaN compares as false and passes
                out[f] = high if value > high else value


@helper
def _blocks_task(  # type: ignore[no-untyped-def]
    task, tasks, n, block_images, x, x_image, panels, bias, out, out_image, groups, panel, tap_starts, row_offsets,
    out_offsets, term_offsets, positions, limits,
):  # fmt: skip
    """This task's share of the blocks."""
    taps, channels, columns = tap_starts.size - 1, term_offsets.size, bias.size // groups
    panels_a_group = (columns + panel - 1) // panel
    blocks = (n + block_images - 1) // block_images
    for block in range(task * blocks // tasks, (task + 1) * blocks // tasks):
        first = block * block_images
        images = min(block_images, n - first)
        _start_at_bias(out, first * out_image, out_image, images, positions, bias)
        for group in range(groups):
            for q in range(panels_a_group):
                goal = address(out, first * out_image + group * columns + q * panel)
                for tap in range(taps):
                    # Tables run through the images of a whole block: of a smaller one they need the first part.
                    size = (tap_starts[tap + 1] - tap_starts[tap]) // block_images * images
                    if size == 0:
                        continue
                    weights = (((group * panels_a_group + q) * taps + tap) * channels) * panel
                    for term in range(0, channels, TERMS):
                        terms = min(TERMS, channels - term)
                        pixels = address(x, first * x_image + group * channels + term)
                        product = Product(
                            pixels, address(row_offsets, tap_starts[tap]), address(term_offsets, 0), terms,
                            address(panels, weights + term * panel), panel, goal, 1, goal,
                            address(out_offsets, tap_starts[tap]), limits[2], limits[3], 0,
                        )  # fmt: skip
                        multiply_panel(product, size, min(panel, columns - q * panel))
        if limits[0] > limits[2] or limits[1] < limits[3]:
            _clamp(out, first * out_image, out_image, images, positions, bias.size, limits)


@matrix_kernel
def _tap_gather(  # type: ignore[no-untyped-def]
    tasks, n, block_images, x, x_image, panels, bias, out, out_image, groups, panel, tap_starts, row_offsets,
    out_offsets, term_offsets, positions, limits,
):  # fmt: skip
    arguments = (
        tasks, n, block_images, x, x_image, panels, bias, out, out_image, groups, panel, tap_starts, row_offsets,
        out_offsets, term_offsets, positions, limits,
    )  # fmt: skip
    parallel_for(_blocks_task, tasks, arguments)


def tap_gather(
    plan: TapPlan, x: Array, panels: Array, bias: Array, out: Array, limits: Array, groups: int, panel: int
) -> None:
    """As `gather.block_gather`."""
    n = x.shape[0]
    tasks = min(get_num_threads(), -(-n // plan.block_images))
    _tap_gather(
        tasks, n, plan.block_images, x.reshape(-1), x.size // n, panels, bias, out.reshape(-1), out.size // n, groups,
        panel, plan.tap_starts, plan.row_offsets, plan.out_offsets, plan.term_offsets, plan.positions, limits,
    )  # fmt: skip
