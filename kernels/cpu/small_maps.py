"""Direct convolution of small maps: one product a tap, over exactly the pixels whose tap lies in the image.

On a 5x5 map with a border of zeros, a 3x3 window meets more zeros than pixels: gather.py would multiply them all. Here
each tap has tables of the positions where it meets a pixel, for as many images as make a block:

    out[position] += x[position * step + first + tap] @ w[tap]        for each tap, over its positions alone

A block's output starts as the bias and stays in the cache while the taps are added to it; the clamp comes last. Serves
the same gathers as gather.py, with the same panels of weights. The weight gradient of a tap is one sum over the outputs
where it meets a pixel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minicnn.kernels.contract import Array, Pair
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.gather import TERMS, Axis, even_share
from minicnn.kernels.cpu.jit import helper
from minicnn.kernels.cpu.microkernel import Product, matrix_kernel, multiply_panel
from minicnn.kernels.cpu.parallel import parallel_for
from minicnn.kernels.cpu.simd import address, lanes, load_first, store

PARTS = 8
"""Tasks to aim at: where there are fewer blocks, their panels are shared out."""

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


def plan_taps(
    rows: Axis, columns: Axis, x_shape: tuple[int, int, int, int], filters: int, groups: int, out_width: int,
    out_pixels: int,
) -> TapPlan:  # fmt: skip
    """Tables for a gather over x (N, H, W, C) with `filters` output channels and out_pixels = H' * W' an image."""
    n, h, w, c = x_shape
    share = even_share(n * rows.positions * columns.positions)
    block_images = max(1, min(n, round(share / (rows.positions * columns.positions))))
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
def _start_at_bias(out, start, out_image, images, positions, bias, first, end):  # type: ignore[no-untyped-def]
    """Columns first to end - 1 of all positions."""
    for image in range(images):
        for p in range(positions.size):
            goal = start + image * out_image + positions[p]
            for f in range(first, end):
                out[goal + f] = bias[f]


@helper
def _clamp(out, start, out_image, images, positions, first, end, limits):  # type: ignore[no-untyped-def]
    low, high = limits[0], limits[1]
    for image in range(images):
        for p in range(positions.size):
            goal = start + image * out_image + positions[p]
            for f in range(goal + first, goal + end):
                value = out[f]
                value = low if value < low else value  # NaN compares as false and passes
                out[f] = high if value > high else value


@helper
def _part_of_block(  # type: ignore[no-untyped-def]
    task, n, block_images, parts, x, x_image, panels, bias, out, out_image, groups, panel, tap_starts, row_offsets,
    out_offsets, term_offsets, positions, limits,
):  # fmt: skip
    """Some panels of one block of images."""
    taps, channels, columns = tap_starts.size - 1, term_offsets.size, bias.size // groups
    panels_a_group = (columns + panel - 1) // panel
    block, part = task // parts, task % parts
    first_image = block * block_images
    images = min(block_images, n - first_image)
    out_start = first_image * out_image
    for index in range(part * groups * panels_a_group // parts, (part + 1) * groups * panels_a_group // parts):
        group, q = index // panels_a_group, index % panels_a_group
        first = group * columns + q * panel
        end = min(first + panel, (group + 1) * columns)
        _start_at_bias(out, out_start, out_image, images, positions, bias, first, end)
        goal = address(out, out_start + first)
        for tap in range(taps):
            # Tables run through the images of a whole block: a smaller one needs their first part.
            size = (tap_starts[tap + 1] - tap_starts[tap]) // block_images * images
            if size == 0:
                continue
            weights = (index * taps + tap) * channels * panel
            for term in range(0, channels, TERMS):
                terms = min(TERMS, channels - term)
                product = Product(
                    address(x, first_image * x_image + group * channels + term), address(row_offsets, tap_starts[tap]),
                    address(term_offsets, 0), terms, address(panels, weights + term * panel), panel, goal, 1, goal,
                    address(out_offsets, tap_starts[tap]), limits[2], limits[3], 0,
                )  # fmt: skip
                multiply_panel(product, size, end - first)
        if limits[0] > limits[2] or limits[1] < limits[3]:
            _clamp(out, out_start, out_image, images, positions, first, end, limits)


@matrix_kernel
def _tap_gather(  # type: ignore[no-untyped-def]
    n, block_images, parts, x, x_image, panels, bias, out, out_image, groups, panel, tap_starts, row_offsets,
    out_offsets, term_offsets, positions, limits,
):  # fmt: skip
    arguments = (
        n, block_images, parts, x, x_image, panels, bias, out, out_image, groups, panel, tap_starts, row_offsets,
        out_offsets, term_offsets, positions, limits,
    )  # fmt: skip
    parallel_for(_part_of_block, (n + block_images - 1) // block_images * parts, arguments)


def tap_gather(
    plan: TapPlan, x: Array, panels: Array, bias: Array, out: Array, limits: Array, groups: int, panel: int
) -> None:
    """As `gather.block_gather`."""
    n = x.shape[0]
    blocks, panel_count = -(-n // plan.block_images), groups * -(-(bias.size // groups) // panel)
    parts = min(panel_count, -(-PARTS // blocks))
    _tap_gather(
        n, plan.block_images, parts, x.reshape(-1), x.size // n, panels, bias, out.reshape(-1), out.size // n, groups,
        panel, plan.tap_starts, plan.row_offsets, plan.out_offsets, plan.term_offsets, plan.positions, limits,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------- weight gradient


class GradPlan(NamedTuple):
    """Tables for the weight gradient, the taps' one after another; offsets in elements."""

    tap_starts: np.ndarray[Any, Any]  # where the tables of each tap start, and where the last ends
    pixels: np.ndarray[Any, Any]  # pixels of x that a tap meets
    outputs: np.ndarray[Any, Any]  # the outputs that they belong to
    channels: np.ndarray[Any, Any]  # 0, 1, 2, ...: rows of a tap's sums
    rows: np.ndarray[Any, Any]  # where they go


def plan_grad(rows: Axis, columns: Axis, x_shape: tuple[int, int, int, int], filters: int, groups: int) -> GradPlan:
    """Tables for x (N, H, W, C) and gy (N, OH, OW, F)."""
    n, h, w, c = x_shape
    images = np.arange(n)[:, None, None]
    pixels, outputs, starts = [], [], [0]
    for tap_row in rows.taps:
        q = np.array(_positions(rows, tap_row, h), np.int64)[:, None]
        for tap_column in columns.taps:
            r = np.array(_positions(columns, tap_column, w), np.int64)
            y, x = q * rows.step + rows.first + tap_row, r * columns.step + columns.first + tap_column
            pixels.append((((images * h + y) * w + x) * c).ravel())
            outputs.append((((images * rows.positions + q) * columns.positions + r) * filters).ravel())
            starts.append(starts[-1] + pixels[-1].size)
    channels = np.arange(c // groups, dtype=np.int64)
    return GradPlan(
        np.array(starts, np.int64), np.concatenate(pixels), np.concatenate(outputs), channels, channels * filters
    )


@helper
def _tap_panel(  # type: ignore[no-untyped-def]
    task, x, gy, out, scratch, groups, columns, panel, tap_starts, pixels, outputs, channels, rows, limits
):  # fmt: skip
    """The sums of one tap in one panel of filters: over the outputs where the tap meets a pixel."""
    panels_a_group = (columns + panel - 1) // panel
    tap, index = task // (groups * panels_a_group), task % (groups * panels_a_group)
    group, q = index // panels_a_group, index % panels_a_group
    first = group * columns + q * panel
    width = min(panel, columns - q * panel)
    goal = tap * channels.size * groups * columns + first
    for row in range(channels.size):
        for f in range(goal + rows[row], goal + rows[row] + width):
            out[f] = 0
    place = task * TERMS * panel
    for start in range(tap_starts[tap], tap_starts[tap + 1], TERMS):
        terms = min(TERMS, tap_starts[tap + 1] - start)
        for l in range(terms):
            for j in range(0, width, lanes(gy)):
                store(scratch, place + l * panel + j, load_first(gy, outputs[start + l] + first + j, width - j))
        product = Product(
            address(x, group * channels.size), address(channels, 0), address(pixels, start), terms,
            address(scratch, place), panel, address(out, goal), 1, address(out, goal), address(rows, 0), limits[2],
            limits[3], 0,
        )  # fmt: skip
        multiply_panel(product, channels.size, width)


@matrix_kernel
def _tap_weight_grad(  # type: ignore[no-untyped-def]
    tasks, x, gy, out, scratch, groups, columns, panel, tap_starts, pixels, outputs, channels, rows, limits
):  # fmt: skip
    arguments = (x, gy, out, scratch, groups, columns, panel, tap_starts, pixels, outputs, channels, rows, limits)
    parallel_for(_tap_panel, tasks, arguments)


def tap_weight_grad(
    plan: GradPlan, x: Array, gy: Array, kernel_size: Pair, groups: int, limits: Array, panel: int
) -> Array:
    """x (N, H, W, C), gy (N, OH, OW, F) -> (KH, KW, C/G, F)."""
    filters = gy.shape[3]
    out = buffers.empty((*kernel_size, x.shape[3] // groups, filters), x.dtype)
    tasks = kernel_size[0] * kernel_size[1] * groups * -(-(filters // groups) // panel)
    scratch = buffers.empty((tasks * TERMS * panel,), x.dtype)
    _tap_weight_grad(
        tasks, x.reshape(-1), gy.reshape(-1), out.reshape(-1), scratch, groups, filters // groups, panel,
        plan.tap_starts, plan.pixels, plan.outputs, plan.channels, plan.rows, limits,
    )  # fmt: skip
    return out
