"""Sums down the columns of a matrix (rows, C): the gradients of biases, the statistics of batch normalization.

A float32 sum of a million terms has lost its last digits. So float32 adds up 64 rows, and float64 adds up those:

    64 rows      64 rows      64 rows      64 rows        float32, in registers
       |            |            |            |
       +-----+------+            +------+-----+           float64, one task a slice
             |                          |
             +-------------+------------+                 float64, in this order

The sums of a stripe, eight vectors of columns, stay in registers on their way down 64 rows: nothing but the matrix
itself is read, and many of its lines are on their way at once. The rows are cut into slices, and wide rows into groups
of stripes, by the shape alone, whatever the number of threads. A matrix of few columns is read as one of many: `group`
rows, which lie one after another, count as one row of `width` columns, so that stripes are full; the columns that are
the same are added up at the end.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import Any, NamedTuple

from minicnn.kernels.cpu import host
from minicnn.kernels.cpu.jit import helper
from minicnn.kernels.cpu.simd import lanes, load, load_first, store, store_first
from minicnn.kernels.cpu.vector_math import add_to_float64, zeros_like

ROWS = 64
"""Rows that float32 may add up."""

_STRIPE = 8
"""Vectors of a stripe."""

_WIDEST = 2048
"""Columns up to which rows are grouped: what is kept for each column stays in the first-level cache."""

_TASK = 1 << 15
"""Numbers of one task, at least."""


class Plan(NamedTuple):
    """How a matrix is summed."""

    width: int  # columns of the rows of a group together
    slices: int  # of the rows
    parts: int  # of the columns; slices * parts tasks
    scratch: int  # numbers in the array `across`: two rows of whole vectors for each slice


@lru_cache(maxsize=4096)
def plan(size: int, columns: int, itemsize: int) -> Plan:
    """The plan for a matrix of `size` numbers of `itemsize` bytes, size > 0."""
    vector = host.lanes(itemsize)
    width = columns
    for unit in (_STRIPE * vector, vector):  # whole stripes, else whole vectors
        grouped = columns * unit // gcd(columns, unit)
        if grouped <= min(_WIDEST, size // 16):
            width = grouped
            break
    tasks = max(1, min(size // _TASK, 16))
    parts = min(tasks, -(-width // (_STRIPE * vector)))
    slices = max(1, min(tasks // parts, size // width // 16))
    return Plan(width, slices, parts, slices * 2 * padded(width, vector))


def padded(width: int, vector: int) -> int:
    """The width in whole vectors."""
    return -(-width // vector) * vector


@helper
def read(x, i, count):  # type: ignore[no-untyped-def]
    """The first `count` lanes at x[i]; all of them with a plain load."""
    if count >= lanes(x):
        return load(x, i)
    return load_first(x, i, count)


@helper
def write(y, i, vector, count):  # type: ignore[no-untyped-def]
    """The counterpart of `read`."""
    if count >= lanes(y):
        store(y, i, vector)
    else:
        store_first(y, i, vector, count)


def make_column_sums(terms: Any, both: bool) -> Any:
    """The task sums(task, data, width, size, slices, parts, across) that sums some columns of one slice of rows.

    terms: a helper terms(data, i, column, count) that returns two vectors, which are to be summed down their columns:
    those made of the first `count` numbers at place i of the flat matrices in `data`, which stand in columns from
    `column` on. Not both: the second is ignored. The first of `data` is one of the matrices. across: scratch of
    float64, which `total` reads.
    """

    @helper
    def add(data, i, column, count, u, v):  # type: ignore[no-untyped-def]
        du, dv = terms(data, i, column, count)
        return u + du, (v + dv if both else v)

    @helper
    def add_across(across, first, second, u, v):  # type: ignore[no-untyped-def]
        add_to_float64(across, first, u)
        if both:
            add_to_float64(across, second, v)

    @helper
    def add_stripe(data, start, stop, width, column, across, first, second):  # type: ignore[no-untyped-def]
        """Eight vectors of columns from `column` on, of the rows that begin at start, start + width, ... < stop."""
        step = lanes(data[0])
        u0 = v0 = u1 = v1 = u2 = v2 = u3 = v3 = zeros_like(load_first(data[0], start, 0))
        u4 = v4 = u5 = v5 = u6 = v6 = u7 = v7 = u0
        c1, c2, c3, c4 = column + step, column + 2 * step, column + 3 * step, column + 4 * step
        c5, c6, c7 = column + 5 * step, column + 6 * step, column + 7 * step
        for row in range(start, stop, width):
            u0, v0 = add(data, row + column, column, step, u0, v0)
            u1, v1 = add(data, row + c1, c1, step, u1, v1)
            u2, v2 = add(data, row + c2, c2, step, u2, v2)
            u3, v3 = add(data, row + c3, c3, step, u3, v3)
            u4, v4 = add(data, row + c4, c4, step, u4, v4)
            u5, v5 = add(data, row + c5, c5, step, u5, v5)
            u6, v6 = add(data, row + c6, c6, step, u6, v6)
            u7, v7 = add(data, row + c7, c7, step, u7, v7)
        add_across(across, first + column, second + column, u0, v0)
        add_across(across, first + c1, second + c1, u1, v1)
        add_across(across, first + c2, second + c2, u2, v2)
        add_across(across, first + c3, second + c3, u3, v3)
        add_across(across, first + c4, second + c4, u4, v4)
        add_across(across, first + c5, second + c5, u5, v5)
        add_across(across, first + c6, second + c6, u6, v6)
        add_across(across, first + c7, second + c7, u7, v7)

    @helper
    def add_vector(data, start, stop, width, column, count, across, first, second):  # type: ignore[no-untyped-def]
        """The same of one vector, or the first `count` lanes of it."""
        u = v = zeros_like(load_first(data[0], start, 0))
        for row in range(start, stop, width):
            u, v = add(data, row + column, column, count, u, v)
        add_across(across, first + column, second + column, u, v)

    @helper
    def add_block(data, start, stop, width, left, right, across, first, second):  # type: ignore[no-untyped-def]
        """Columns [left, right) of some rows."""
        step = lanes(data[0])
        column = left
        while column + _STRIPE * step <= right:
            add_stripe(data, start, stop, width, column, across, first, second)
            column += _STRIPE * step
        while column < right:
            add_vector(data, start, stop, width, column, min(step, right - column), across, first, second)
            column += step

    @helper
    def sums(task, data, width, size, slices, parts, across):  # type: ignore[no-untyped-def]
        step = lanes(data[0])
        length = (width + step - 1) // step * step
        stripe = _STRIPE * step
        part = ((width + stripe - 1) // stripe + parts - 1) // parts * stripe
        index, left = task // parts, task % parts * part
        right = min(width, left + part)
        first = index * 2 * length
        second = first + length
        for j in range(left, min(length, left + part)):
            across[first + j] = 0
            across[second + j] = 0
        rows = size // width
        row, stop = rows * index // slices, rows * (index + 1) // slices
        while row < stop:
            below = min(stop, row + ROWS)
            add_block(data, row * width, below * width, width, left, right, across, first, second)
            row = below
        if index == slices - 1 and size - rows * width > left:  # what is left is less than a row: the last slice's
            start = rows * width
            add_block(data, start, start + 1, width, left, min(right, size - start), across, first, second)

    return sums


@helper
def total(across, which, columns, width, slices, length, result):  # type: ignore[no-untyped-def]
    """result (columns,) float64 = the first (which = 0) or second (1) sums of all slices and rows of a group."""
    for c in range(columns):
        result[c] = 0
    for task in range(slices):
        start = (2 * task + which) * length
        for j in range(start, start + width, columns):
            for c in range(columns):
                result[c] += across[j + c]
