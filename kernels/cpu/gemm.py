"""Matrix products (GEMM): panels of the second matrix, packed as they are needed, and the micro-kernel.

    out (M, N) = clamp(bias + a (M, K) @ b (K, N))

The product is cut into tasks by shape alone: PARTS of rows, PARTS of panels (strips of columns as wide as the
micro-kernel's tile) and, where rows and columns are few but K is large, slices of K, whose partial products are added
up in the end. A task goes through its rows in blocks of at most ROWS, through K in blocks of TERMS and through its
panels. For each panel it packs TERMS rows of b into scratch memory of its own, so that the micro-kernel reads them one
after another from the second-level cache, while the rows of a stay there too. Packing a panel costs as much as two rows
of the product; so each task packs for itself, and nothing has to be shared.

A transposed `b` is packed by turning squares over in registers. A transposed `a` needs no transposition at all, for the
micro-kernel reads numbers of `a` one by one wherever they lie; only, where its rows are long, a block of them is copied
so that the numbers are close together. With one to a few rows packing would cost more than the product, which is bound
by reading b once: then panels of b are read where they lie. And a product of a few thousand numbers is done by plain
loops: a call of the rest takes longer than that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.cpu import buffers, host
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.microkernel import VECTORS, Product, matrix_kernel, multiply_panel, panel_columns
from minicnn.kernels.cpu.packing import pack_panel, pack_panel_transposed
from minicnn.kernels.cpu.panels import forward_packing, kept_panels
from minicnn.kernels.cpu.parallel import parallel_for
from minicnn.kernels.cpu.simd import address, clamp, fma, lanes, load_first, splat, store_first
from minicnn.kernels.cpu.vector_math import zeros_like

ROWS, TERMS = 384, 256
"""A block of a: 384 KB in float32, most of which stays in the second-level cache. A panel of b has TERMS rows."""

TASKS = 32
"""Tasks to aim at: a few for each core of most machines."""

FEW_ROWS = 8
"""With so many rows or fewer, b is read where it lies."""

TINY = 1 << 11
"""Up to so many products, plain loops."""


IN_PLACE, PACKED = 1, 2


class Job(NamedTuple):
    """The numbers of a product, and how it is cut into slices * row_parts * panel_parts tasks."""

    m: int
    n: int
    k: int
    a_row: int  # how far apart the rows of a lie
    a_term: int  # and the terms of a row
    transpose_b: int
    row_parts: int
    panel_parts: int
    slices: int
    copy_a: int  # 0, or how far apart terms lie in the copy of a transposed block of a
    in_place: int  # read b where it lies: IN_PLACE as a matrix, PACKED as panels
    scratch: int  # numbers of scratch memory that a task needs


class Plan(NamedTuple):
    """A Job as compiled code takes it, so that a small product does not spend its time on arguments."""

    job: Array  # int64
    tables: Array  # (3 * TABLE,) int64: the micro-kernel's offsets of rows of a, of terms, and of rows of the result
    tasks: int
    scratch: int  # numbers of scratch memory for all tasks and slices


TABLE = max(ROWS, TERMS)


@lru_cache(maxsize=4096)
def plan(m: int, n: int, k: int, transpose_a: bool, transpose_b: bool, itemsize: int, alone: bool = False) -> Plan:
    """Tasks large enough to be worth a thread, near TASKS of them, with little packed or read twice.

    alone: one task only.
    """
    width, step = VECTORS * host.lanes(itemsize), host.lanes(itemsize)
    panels = -(-n // width)
    in_place = m <= FEW_ROWS and not transpose_b
    wanted = 1 if alone else min(TASKS, max(m * n * k >> 18, (m * k + k * n + m * n) >> 16, 1))
    row_parts = _even(min(wanted, -(-m // ROWS)))
    panel_parts = _even(min(wanted // row_parts, panels // 8 if in_place else panels))
    slices = _even(min(wanted // (row_parts * panel_parts), k // TERMS))
    if row_parts * panel_parts * slices < wanted:
        row_parts = _even(min(wanted // (panel_parts * slices), max(row_parts, m // 32)))
    tasks = slices * row_parts * panel_parts

    packed_b = 0 if in_place and n % step == 0 else min(k, TERMS) * width
    copy_a = -(-min(m, ROWS) // step) * step + step if transpose_a and m > ROWS else 0
    scratch = width + packed_b + copy_a * TERMS
    a_row, a_term = (1, m) if transpose_a else (k, 1)
    job = Job(m, n, k, a_row, a_term, transpose_b, row_parts, panel_parts, slices, copy_a, in_place, scratch)
    steps = np.array([1 if copy_a else a_row, copy_a or a_term, n])
    tables = steps[:, None] * np.arange(TABLE)
    return Plan(np.array(job), tables.reshape(-1), tasks, tasks * scratch + (slices - 1) * m * n)


def _even(parts: int) -> int:
    """1, or an even number not above `parts`, so that two threads get the same."""
    return max(1, parts // 2 * 2)


_LIMITS = {
    (dtype, activation): (dtype(low), dtype(high))
    for dtype in (np.float32, np.float64)
    for activation, low, high in ((None, -np.inf, np.inf), ("relu", 0, np.inf), ("relu6", 0, 6))
}
_NO_BIAS = {dtype: np.empty(0, dtype) for dtype in (np.float32, np.float64)}


def multiply(
    a: Array,
    b: Array,
    transpose_a: bool = False,
    transpose_b: bool = False,
    bias: Array | None = None,
    activation: Any = None,
) -> Array:
    """act(bias + op(a) @ op(b)) for two matrices of one float dtype: (M, N).

    a (M, K), or (K, M) with transpose_a; b (K, N), or (N, K) with transpose_b; bias (N,) or None;
    activation "relu", "relu6" or None.
    """
    m, k = a.shape[::-1] if transpose_a else a.shape
    n = b.shape[0] if transpose_b else b.shape[1]
    dtype = a.dtype.type
    out = buffers.empty((m, n), dtype)
    low, high = _LIMITS[dtype, activation]
    if m == 0 or n == 0 or k == 0:
        out[:] = 0 if bias is None else bias
        return out.clip(low, high, out=out)
    if m * n * k <= TINY:
        _multiply_tiny(a, b, _NO_BIAS[dtype] if bias is None else bias, out, transpose_a, transpose_b, low, high)
        return out
    job, tables, tasks, size = plan(m, n, k, transpose_a, transpose_b, a.itemsize)
    scratch = buffers.empty((size,), dtype)
    bias = _NO_BIAS[dtype] if bias is None else bias
    _multiply(a.reshape(-1), b.reshape(-1), bias, out.reshape(-1), scratch, tables, tasks, job, low, high)
    return out


def prepare_product(
    m: int, b: Array, bias: Array | None = None, activation: Any = None, layouts: dict[Any, Array] | None = None
) -> Callable[[Array], Array]:
    """`multiply(a, b, bias=bias, activation=activation)` as a function of a (M, K) alone.

    layouts: see conv.prepare_conv2d; without, b is not packed ahead, which matters little where M is large.
    """
    k, n = b.shape
    dtype = b.dtype.type
    if m == 0 or n == 0 or k == 0:
        return partial(multiply, b=b, bias=bias, activation=activation)
    low, high = _LIMITS[dtype, activation]
    job, tables, tasks, size = plan(m, n, k, False, False, b.itemsize)
    flat = b.reshape(-1)
    if layouts is not None and m > FEW_ROWS:
        flat = kept_panels(forward_packing((1, 1, k, n), 1, panel_columns(dtype)), b, 1, layouts)
        job = job.copy()
        job[Job._fields.index("in_place")] = PACKED
    bias = _NO_BIAS[dtype] if bias is None else bias
    new_out, new_scratch = buffers.allocator(m * n, dtype), buffers.allocator(size, dtype)

    def run(a: Array) -> Array:
        out = new_out()
        _multiply(a.reshape(-1), flat, bias, out, new_scratch(), tables, tasks, job, low, high)
        return out.reshape(m, n)

    return run


def multiply_batch(
    a: Array,
    b: Array,
    a_matrices: Array,
    b_matrices: Array,
    a_shape: tuple[int, int],
    b_shape: tuple[int, int],
    transpose_a: bool,
    transpose_b: bool,
) -> Array:
    """The products of many pairs of matrices: (P, M, N), each pair on one thread.

    a, b one-dimensional; a_matrices (P,) int64 says which of the matrices in `a` is taken, b_matrices the same of `b`;
    a_shape (M, K) and b_shape (K, N) after the transposition.
    """
    (m, k), n = a_shape, b_shape[1]
    dtype, pairs = a.dtype.type, len(a_matrices)
    out = buffers.empty((pairs, m, n), dtype)
    if out.size == 0 or k == 0:
        out[:] = 0
        return out
    job, tables, _, size = plan(m, n, k, transpose_a, transpose_b, a.itemsize, alone=True)
    tasks = min(pairs, TASKS, max(1, pairs * m * n * k >> 17))
    scratch = buffers.empty((tasks * size,), dtype)
    low, high = _LIMITS[dtype, None]
    _multiply_pairs(
        a, b, a_matrices, b_matrices, _NO_BIAS[dtype], out.reshape(-1), scratch, tables, tasks, job, low, high
    )
    return out


@kernel
def _multiply_tiny(a, b, bias, out, transpose_a, transpose_b, low, high):  # type: ignore[no-untyped-def]
    """Adds in the order of the micro-kernel: unless b is transposed, the bits are the same."""
    m, n = out.shape
    k = a.size // m
    a_row, a_term = (1, m) if transpose_a else (k, 1)
    a, b, out = a.reshape(-1), b.reshape(-1), out.reshape(-1)
    if transpose_b:
        for place in range(m * n):
            row, column = place // n, place % n
            total = out.dtype.type(0)
            for l in range(k):
                total += a[row * a_row + l * a_term] * b[column * k + l]
            if bias.size > 0:
                total += bias[column]
            total = low if total < low else total  # NaN compares as false and passes
            out[place] = high if total > high else total
        return
    step = lanes(out)
    for column in range(0, n, step):
        count = min(step, n - column)
        start = load_first(bias, min(column, bias.size), min(count, bias.size))
        for row in range(m):
            total = zeros_like(start)
            for l in range(k):
                total = fma(splat(a[row * a_row + l * a_term]), load_first(b, l * n + column, count), total)
            store_first(out, row * n + column, clamp(start + total, splat(low), splat(high)), count)


@matrix_kernel
def _multiply(a, b, bias, out, scratch, tables, tasks, numbers, low, high):  # type: ignore[no-untyped-def]
    job = _job(numbers)
    parallel_for(_multiply_part, tasks, (a, b, bias, out, scratch, tables, job, low, high))
    if job.slices > 1:
        parts = 1 if len(out) < 16384 else 8
        parallel_for(_add_slices, parts, (out, scratch, tasks * job.scratch, job.slices, parts, low, high))


@matrix_kernel
def _multiply_pairs(a, b, a_matrices, b_matrices, bias, out, scratch, tables, tasks, numbers, low, high):  # type: ignore[no-untyped-def]
    arguments = (tasks, a, b, a_matrices, b_matrices, bias, out, scratch, tables, _job(numbers), low, high)
    parallel_for(_multiply_some_pairs, tasks, arguments)


@helper
def _job(v):  # type: ignore[no-untyped-def]
    return Job(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11])


@helper
def _multiply_some_pairs(task, tasks, a, b, a_matrices, b_matrices, bias, out, scratch, tables, job, low, high):  # type: ignore[no-untyped-def]
    """One task: whole products, one after another, in the same scratch memory."""
    first, last = _bounds(task, tasks, len(a_matrices), 1)
    for pair in range(first, last):
        a_matrix = a[a_matrices[pair] * job.m * job.k :]
        b_matrix = b[b_matrices[pair] * job.k * job.n :]
        result = out[pair * job.m * job.n :]
        _multiply_part(0, a_matrix, b_matrix, bias, result, scratch[task * job.scratch :], tables, job, low, high)


@helper
def _multiply_part(task, a, b, bias, out, scratch, tables, job, low, high):  # type: ignore[no-untyped-def]
    """One task: a part of the rows times a part of the panels over a slice of K."""
    step = lanes(a)
    width = VECTORS * step
    rest, panel_part = divmod(task, job.panel_parts)
    piece, row_part = divmod(rest, job.row_parts)
    first_panel, last_panel = _bounds(panel_part, job.panel_parts, (job.n + width - 1) // width, 1)
    first_row, last_row = _bounds(row_part, job.row_parts, job.m, 2)
    first_term, last_term = _bounds(piece, job.slices, job.k, 8)

    zeros = task * job.scratch  # scratch memory of this task: a row of zeros, a panel of b, a block of a
    packed_b = zeros + width
    packed_a = zeros + job.scratch - job.copy_a * TERMS
    for j in range(width):
        scratch[zeros + j] = 0
    result = address(out, 0)  # of the first slice; the other partial results lie behind the tasks' scratch memory
    if piece > 0:
        tasks = job.slices * job.row_parts * job.panel_parts
        result = address(scratch, tasks * job.scratch + (piece - 1) * job.m * job.n)

    for row in range(first_row, last_row, ROWS):
        rows = min(ROWS, last_row - row)
        for term in range(first_term, last_term, TERMS):
            terms = min(TERMS, last_term - term)
            x = address(a, row * job.a_row + term * job.a_term)
            if job.copy_a:
                pack_panel(a, row + term * job.a_term, job.a_term, terms, rows, scratch, packed_a, job.copy_a)
                x = address(scratch, packed_a)
            finished = job.slices == 1 and term + terms == job.k
            lowest = low if finished else a.dtype.type(-np.inf)
            highest = high if finished else a.dtype.type(np.inf)
            for panel in range(first_panel, last_panel):
                column = panel * width
                columns = min(width, job.n - column)
                if job.in_place == PACKED:
                    w, w_stride = address(b, (panel * job.k + term) * width), width
                elif job.in_place and columns % step == 0:
                    w, w_stride = address(b, term * job.n + column), job.n
                else:
                    w, w_stride = address(scratch, packed_b), width
                    _pack(b, job, term, terms, column, columns, scratch, packed_b, width)
                target = result + (row * job.n + column) * a.itemsize
                start, start_step = target, 1
                if term == first_term:
                    has_bias = piece == 0 and len(bias) > 0
                    start, start_step = address(bias, column) if has_bias else address(scratch, zeros), 0
                product = Product(
                    x, address(tables, 0), address(tables, TABLE), terms, w, w_stride,
                    start, start_step, target, address(tables, 2 * TABLE), lowest, highest, 0,
                )  # fmt: skip
                multiply_panel(product, rows, columns)


@helper
def _pack(b, job, term, terms, column, columns, scratch, place, width):  # type: ignore[no-untyped-def]
    """One panel of b: some terms of some columns."""
    if job.transpose_b:
        pack_panel_transposed(b, column * job.k + term, job.k, terms, columns, scratch, place, width)
    else:
        pack_panel(b, term * job.n + column, job.n, terms, columns, scratch, place, width)


@helper
def _bounds(part, parts, size, unit):  # type: ignore[no-untyped-def]
    """Where a part begins and ends: parts as equal as they can be, of whole units but for the last one."""
    units = (size + unit - 1) // unit
    return part * units // parts * unit, min(size, (part + 1) * units // parts * unit)


@helper
def _add_slices(task, out, scratch, first, slices, parts, low, high):  # type: ignore[no-untyped-def]
    """out = clamp(out + the partial products of the other slices), for a part of the numbers."""
    step = lanes(out)
    begin, end = _bounds(task, parts, len(out), step)
    for i in range(begin, end, step):
        count = min(step, end - i)
        total = load_first(out, i, count)
        for piece in range(slices - 1):
            total = total + load_first(scratch, first + piece * len(out) + i, count)
        store_first(out, i, clamp(total, splat(low), splat(high)), count)
