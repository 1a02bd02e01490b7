"""The gather: what convolution and its input gradient have in common, block by block of output pixels.

Each position q of a grid of output pixels sums w[tap, channel] * x[q * step + first + tap, channel] over taps and
channels. Convolution has one such grid. The input gradient of a strided convolution has one for each phase (row %
stride, column % stride) of the input pixels, for pixels of one phase are reached by the same taps:

    convolution, stride 2      x  . . . . . . .        position q reads x[2q - top + k * dilation], k = 0 ... KH - 1
    its input gradient         gx 0 1 0 1 0 1 0        phase 0 reads gy through taps 0 and 2, phase 1 through tap 1

Nobody lays patches out in a matrix: tables of offsets tell the micro-kernel where they lie. Work is cut into blocks of
a few hundred positions (some rows of one image, or several small images). The part of x that a block reads is copied
into a small zero-bordered scratch image where it overlaps the border, and read in place elsewhere. A block meets the
weights panel by panel, at most TERMS terms at a time, so that a panel and the block's pixels stay in the nearest
caches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minicnn.kernels.contract import Array, Pair
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.jit import helper
from minicnn.kernels.cpu.microkernel import Product, matrix_kernel, multiply_panel
from minicnn.kernels.cpu.parallel import get_num_threads, parallel_for
from minicnn.kernels.cpu.simd import address, lanes, load, load_first, store, store_first

TERMS = 192
"""Terms of a sum that are multiplied before the next panel of columns takes its turn."""

BLOCK_POSITIONS = 384
"""Grid positions of a block, about: enough to use a panel often, few enough to leave room in the second-level cache."""

LEAST_POSITIONS, BLOCKS = 48, 8
"""Where there are few positions, blocks are made smaller, to this, so that there are so many to share out."""

STREAMING_BYTES = 1 << 25
"""Outputs of this size or more are written past the caches: they would not be found there again."""


# --------------------------------------------------------------------------------------------------- geometry


class Axis(NamedTuple):
    """One axis: position q reads pixels q * step + first + tap, and is written to pixel out_first + q * out_step."""

    positions: int
    step: int
    first: int
    taps: tuple[int, ...]  # not negative, the smallest is 0
    out_step: int = 1
    out_first: int = 0

    @property
    def reach(self) -> int:
        """Pixels from the first tap to the last, both included."""
        return max(self.taps) + 1


@lru_cache(maxsize=256)
def forward_axis(size: int, window: int, stride: int, padding: Pair, dilation: int) -> Axis:
    """The axis of a convolution: OH positions, taps 0, dilation, 2 * dilation, ..."""
    taps = tuple(k * dilation for k in range(window))
    count = (size + sum(padding) - taps[-1] - 1) // stride + 1
    return Axis(count, stride, -padding[0], taps)


class Phase(NamedTuple):
    """One phase of an axis of the input gradient: the grid, and which elements of the window its taps are."""

    axis: Axis
    window: tuple[int, ...]


def input_grad_phases(size: int, window: int, stride: int, padding: Pair, dilation: int) -> list[Phase]:
    """The axes on which gx is computed from gy; a phase that no tap reaches has an empty window.

    Pixel h is reached from output i by window element k where i * stride = h + top - k * dilation.
    """
    phases = []
    for h in range(min(stride, size)):
        elements = [k for k in range(window) if (h + padding[0] - k * dilation) % stride == 0]
        outputs = [(h + padding[0] - k * dilation) // stride for k in elements]  # i for the first pixel of the phase
        first = min(outputs, default=0)
        taps = tuple(i - first for i in outputs) or (0,)
        axis = Axis(len(range(h, size, stride)), 1, first, taps, out_step=stride, out_first=h)
        phases.append(Phase(axis, tuple(elements)))
    return phases


class Blocks(NamedTuple):
    """How a gather over images is cut up: plain integers, as compiled code takes them (see `_numbers`)."""

    images: int
    height: int
    width: int
    channels: int
    grid_rows: int
    grid_columns: int
    step_h: int
    first_h: int
    first_w: int
    region_columns: int  # columns of x that a grid row reads
    reach_h: int
    copied: int  # whether blocks read a zero-bordered copy of their part of x
    block_images: int
    block_rows: int
    groups: int
    terms: int  # taps * channels of a group
    columns: int  # filters of a group
    panel: int
    out_image: int  # elements from an image of the output to the next
    out_row: int  # and from a grid row to the next
    out_first: int
    streaming: int  # whether the output is written past the caches


class Plan(NamedTuple):
    """Blocks with their tables of offsets, in elements."""

    numbers: np.ndarray[Any, Any]
    row_offsets: np.ndarray[Any, Any]  # of each grid position in a block, behind the block's first pixel of x
    out_offsets: np.ndarray[Any, Any]  # and behind its first element of the output
    term_offsets: np.ndarray[Any, Any]  # of each (tap row, tap column, channel of the group), behind a position's first
    scratch: int  # elements of a copied region
    blocks: int  # how many


def even_share(positions: int) -> int:
    """How many of the positions make a block of about the same size as all others."""
    share = min(BLOCK_POSITIONS, max(LEAST_POSITIONS, -(-positions // BLOCKS)))
    return -(-positions // max(1, -(-positions // share)))


def plan_gather(
    rows: Axis, columns: Axis, x_shape: tuple[int, int, int, int], filters: int, groups: int, out_width: int,
    out_pixels: int, panel: int, block_positions: int | None = None, multiple: int = 1, may_stream: bool = True,
) -> Plan:  # fmt: skip
    """Cut a gather over x (N, H, W, C) up; the output has `filters` channels and out_pixels = H' * W' an image.

    multiple: what the grid rows of a block are a multiple of. may_stream: whether the output goes to memory.
    """
    n, h, w, c = x_shape
    if block_positions is None:
        block_positions = even_share(n * rows.positions * columns.positions)
    last_row = (rows.positions - 1) * rows.step + rows.first + rows.reach
    last_column = (columns.positions - 1) * columns.step + columns.first + columns.reach
    copied = rows.first < 0 or columns.first < 0 or last_row > h or last_column > w
    block_rows = max(1, block_positions // columns.positions)
    if copied:  # neighbouring blocks copy the rows that both read: no more than about a third of each
        block_rows = max(block_rows, 3 * (rows.reach - rows.step) // rows.step)
    block_rows = min(rows.positions, -(-block_rows // multiple) * multiple)
    block_images = max(1, min(n, round(block_positions / (rows.positions * columns.positions))))
    if block_rows < rows.positions:
        block_images = 1
    region_columns = (columns.positions - 1) * columns.step + columns.reach
    region_rows = (block_rows - 1) * rows.step + rows.reach
    row_stride, image_stride = (region_columns * c, region_rows * region_columns * c) if copied else (w * c, h * w * c)

    j, i, k = np.ogrid[:block_images, :block_rows, : columns.positions]
    row_offsets = j * image_stride + i * rows.step * row_stride + k * columns.step * c
    out_offsets = (j * out_pixels + i * rows.out_step * out_width + k * columns.out_step) * filters
    tap_rows, tap_columns = np.array(rows.taps)[:, None, None], np.array(columns.taps)[None, :, None]
    term_offsets = tap_rows * row_stride + tap_columns * c + np.arange(c // groups)
    blocks = Blocks(
        images=n, height=h, width=w, channels=c, grid_rows=rows.positions, grid_columns=columns.positions,
        step_h=rows.step, first_h=rows.first, first_w=columns.first, region_columns=region_columns, reach_h=rows.reach,
        copied=int(copied), block_images=block_images, block_rows=block_rows, groups=groups, terms=term_offsets.size,
        columns=filters // groups, panel=panel, out_image=out_pixels * filters,
        out_row=rows.out_step * out_width * filters,
        out_first=(rows.out_first * out_width + columns.out_first) * filters,
        streaming=int(may_stream and _streams(n * out_pixels * filters, filters, groups, term_offsets.size, panel)),
    )  # fmt: skip
    count = -(-n // block_images) * -(-rows.positions // block_rows)
    return Plan(
        np.array(blocks, np.int64), row_offsets.ravel(), out_offsets.ravel(), term_offsets.ravel(),
        scratch=block_images * image_stride if copied else 0, blocks=count,
    )  # fmt: skip


def _streams(size: int, filters: int, groups: int, terms: int, panel: int) -> bool:
    """Whether an output of so many elements is written past the caches: big, in one go, in whole aligned vectors."""
    return 4 * size >= STREAMING_BYTES and terms <= TERMS and groups == 1 and filters % panel == 0


@helper
def read_blocks(numbers):  # type: ignore[no-untyped-def]
    """The integers of a plan under their names."""
    n = numbers
    return Blocks(
        n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11], n[12], n[13], n[14], n[15], n[16],
        n[17], n[18], n[19], n[20], n[21],
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------- blocks


@helper
def count_blocks(p):  # type: ignore[no-untyped-def]
    """How many blocks there are."""
    return (p.images + p.block_images - 1) // p.block_images * ((p.grid_rows + p.block_rows - 1) // p.block_rows)


@helper
def block_start(p, block):  # type: ignore[no-untyped-def]
    """First image and first grid row of a block."""
    blocks_an_image = (p.grid_rows + p.block_rows - 1) // p.block_rows
    return block // blocks_an_image * p.block_images, block % blocks_an_image * p.block_rows


@helper
def block_size(p, image, row):  # type: ignore[no-untyped-def]
    """Images and grid rows of the block that starts there: the last ones may be smaller."""
    return min(p.block_images, p.images - image), min(p.block_rows, p.grid_rows - row)


@helper
def _copy_region(p, x, image, row, images, rows, scratch, place):  # type: ignore[no-untyped-def]
    """What a block reads of x, zeros outside of it, to scratch[place:] (images, region rows, columns, channels)."""
    region_rows = (p.block_rows - 1) * p.step_h + p.reach_h
    needed_rows = (rows - 1) * p.step_h + p.reach_h
    row_size = p.region_columns * p.channels
    left = min(max(-p.first_w, 0), p.region_columns)
    right = max(min(p.region_columns, p.width - p.first_w), left)  # columns left to right - 1 lie in the image
    for j in range(images):
        for i in range(needed_rows):
            goal = place + (j * region_rows + i) * row_size
            h = row * p.step_h + p.first_h + i
            if h < 0 or h >= p.height:
                _fill(scratch, goal, row_size)
            else:
                source = (((image + j) * p.height + h) * p.width + p.first_w + left) * p.channels
                _fill(scratch, goal, left * p.channels)
                goal += left * p.channels
                _copy(x, source, scratch, goal, (right - left) * p.channels)
                goal += (right - left) * p.channels
                _fill(scratch, goal, (p.region_columns - right) * p.channels)


@helper
def _fill(target, goal, count):  # type: ignore[no-untyped-def]
    """`count` zeros; vectors, for LLVM does not make any of a loop over numbers here."""
    nothing = load_first(target, goal, 0)
    for k in range(0, count, lanes(target)):
        store_first(target, goal + k, nothing, count - k)


@helper
def _copy(source, start, target, goal, count):  # type: ignore[no-untyped-def]
    """`count` numbers."""
    width = lanes(source)
    whole = count // width * width
    for k in range(0, whole, width):
        store(target, goal + k, load(source, start + k))
    if whole < count:
        store_first(target, goal + whole, load_first(source, start + whole, count - whole), count - whole)


@helper
def block_input(p, x, image, row, images, rows, scratch, place):  # type: ignore[no-untyped-def]
    """The address of a block's first pixel: in a copy where it needs one, else in x itself."""
    if p.copied:
        _copy_region(p, x, image, row, images, rows, scratch, place)
        return address(scratch, place)
    pixel = (image * p.height + row * p.step_h + p.first_h) * p.width + p.first_w
    return address(x, pixel * p.channels)


# --------------------------------------------------------------------------------------------------- gather


@helper
def multiply_block(  # type: ignore[no-untyped-def]
    p, pixels, itemsize, panels, bias, out, out_start, positions, row_offsets, out_offsets, term_offsets, limits
):  # fmt: skip
    """All sums of a block, whose first pixel is at the address `pixels`, to its places behind out[out_start]."""
    panels_a_group = (p.columns + p.panel - 1) // p.panel
    for group in range(p.groups):
        group_pixels = pixels + group * (p.channels // p.groups) * itemsize
        for term in range(0, p.terms, TERMS):
            terms = min(TERMS, p.terms - term)
            last = term + terms == p.terms
            low, high = (limits[0], limits[1]) if last else (limits[2], limits[3])
            for panel in range(panels_a_group):
                column = panel * p.panel
                goal = address(out, out_start + group * p.columns + column)
                weights = ((group * panels_a_group + panel) * p.terms + term) * p.panel
                begin, step = (goal, 1) if term > 0 else (address(bias, group * p.columns + column), 0)
                product = Product(
                    group_pixels, address(row_offsets, 0), address(term_offsets, term), terms,
                    address(panels, weights), p.panel, begin, step, goal, address(out_offsets, 0), low, high,
                    p.streaming,
                )  # fmt: skip
                multiply_panel(product, positions, min(p.panel, p.columns - column))


@helper
def _gather_task(  # type: ignore[no-untyped-def]
    task, tasks, x, panels, bias, out, scratch, numbers, row_offsets, out_offsets, term_offsets, limits
):  # fmt: skip
    """This task's share of the blocks."""
    p = read_blocks(numbers)
    blocks = count_blocks(p)
    place = task * (scratch.size // tasks)
    for block in range(task * blocks // tasks, (task + 1) * blocks // tasks):
        image, row = block_start(p, block)
        images, rows = block_size(p, image, row)
        pixels = block_input(p, x, image, row, images, rows, scratch, place)
        positions = images * rows * p.grid_columns
        out_start = image * p.out_image + row * p.out_row + p.out_first
        multiply_block(
            p,
            pixels,
            x.itemsize,
            panels,
            bias,
            out,
            out_start,
            positions,
            row_offsets,
            out_offsets,
            term_offsets,
            limits,
        )


@matrix_kernel
def _gather(tasks, x, panels, bias, out, scratch, numbers, row_offsets, out_offsets, term_offsets, limits):  # type: ignore[no-untyped-def]  # fmt: skip
    arguments = (tasks, x, panels, bias, out, scratch, numbers, row_offsets, out_offsets, term_offsets, limits)
    parallel_for(_gather_task, tasks, arguments)


def block_gather(plan: Plan, x: Array, panels: Array, bias: Array, out: Array, limits: Array) -> None:
    """Write a gather's sums to `out`, held between `limits`; all arrays of one dtype."""
    tasks = min(get_num_threads(), plan.blocks)
    scratch = buffers.empty((tasks * plan.scratch,), x.dtype)
    _gather(
        tasks, x.reshape(-1), panels, bias, out.reshape(-1), scratch, plan.numbers, plan.row_offsets, plan.out_offsets,
        plan.term_offsets, limits,
    )  # fmt: skip


def prepare_block_gather(
    plan: Plan, panels: Array, bias: Array, out_shape: tuple[int, ...], limits: Array
) -> Callable[[Array], Array]:
    """`block_gather` into a new array of that shape, as a function of x alone."""
    tasks, dtype = min(get_num_threads(), plan.blocks), panels.dtype
    new_out, new_scratch = (
        buffers.allocator(math.prod(out_shape), dtype),
        buffers.allocator(tasks * plan.scratch, dtype),
    )
    numbers, row_offsets, out_offsets, term_offsets = plan[:4]

    def run(x: Array) -> Array:
        out = new_out()
        _gather(
            tasks, x.reshape(-1), panels, bias, out, new_scratch(), numbers, row_offsets, out_offsets, term_offsets,
            limits,
        )  # fmt: skip
        return out.reshape(out_shape)

    return run


@lru_cache(maxsize=64)
def limits(low: float, high: float, dtype: str) -> np.ndarray[Any, Any]:
    """What sums are held between at their end, and before that (in nothing), as compiled code takes it."""
    return np.array([low, high, -np.inf, np.inf], dtype)


@lru_cache(maxsize=256)
def zeros(count: int, dtype: str) -> np.ndarray[Any, Any]:
    """What is added to sums that have no bias."""
    return np.zeros(count, dtype)
