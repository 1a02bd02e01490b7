"""Sums down the columns of a matrix (rows, C): the gradients of biases, the statistics of batch normalization.

A float32 sum of a million terms has lost its last digits. So float32 adds up 64 rows, a vector of columns at a time,
and float64 adds up those. Four rows are taken in one step: four streams of memory to read, and the sums so far, which
lie in the first-level cache, are read and written once for the four.

    64 rows      64 rows      64 rows      64 rows        float32, vectors
       |            |            |            |
       +-----+------+            +------+-----+           float64, one task a slice
             |                          |
             +-------------+------------+                 float64, in this order

The rows are cut into slices by the shape alone, whatever the number of threads. A matrix of few columns is read as one
of many: `group` rows, which lie one after another, count as one row of `width` columns, so that vectors are full; the
columns that are the same are added up at the end.
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

_WIDE = 64
"""Columns from which on a row is long enough by itself."""


class Plan(NamedTuple):
    """How a matrix is summed."""

    width: int  # columns of `group` rows together
    group: int
    slices: int  # tasks
    scratch: int  # numbers in each of the arrays `within` and `across`: two rows of whole vectors for each slice


@lru_cache(maxsize=4096)
def plan(size: int, columns: int, itemsize: int) -> Plan:
    """The plan for a matrix of `size` numbers of `itemsize` bytes, size > 0."""
    vector = host.lanes(itemsize)
    group = 1
    if columns < _WIDE:
        group = vector // gcd(columns, vector)
        while columns * group < _WIDE:
            group *= 2
    width = columns * group
    slices = max(1, min(size // (1 << 15), size // width // 16, 16))
    return Plan(width, group, slices, slices * 2 * padded(width, vector))


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
    """The task slice_sums(task, data, width, size, slices, within, across) that sums one slice of rows.

    terms: a helper terms(data, i, column, count) that returns two vectors, which are to be summed down their columns:
    those made of the first `count` numbers at place i of the flat matrices in `data`, which stand in columns from
    `column` on. Not both: the second is ignored. within: scratch of the matrix' dtype; across: scratch of float64,
    which `total` reads.
    """

    @helper
    def add_one_row(data, i, column, count, within, first, second):  # type: ignore[no-untyped-def]
        u, v = terms(data, i, column, count)
        store(within, first + column, load(within, first + column) + u)
        if both:
            store(within, second + column, load(within, second + column) + v)

    @helper
    def add_four_rows(data, i, width, column, count, within, first, second):  # type: ignore[no-untyped-def]
        u0, v0 = terms(data, i, column, count)
        u1, v1 = terms(data, i + width, column, count)
        u2, v2 = terms(data, i + 2 * width, column, count)
        u3, v3 = terms(data, i + 3 * width, column, count)
        store(within, first + column, load(within, first + column) + ((u0 + u1) + (u2 + u3)))
        if both:
            store(within, second + column, load(within, second + column) + ((v0 + v1) + (v2 + v3)))

    @helper
    def add_block(data, start, rows, width, within, first, second):  # type: ignore[no-untyped-def]
        """`rows` rows of the matrix, the first at `start`; the step from row to row is the width."""
        step = lanes(within)
        whole = width // step * step
        row = 0
        while row + 4 <= rows:
            i = start + row * width
            for column in range(0, whole, step):
                add_four_rows(data, i + column, width, column, step, within, first, second)
            if whole < width:
                add_four_rows(data, i + whole, width, whole, width - whole, within, first, second)
            row += 4
        while row < rows:
            i = start + row * width
            for column in range(0, whole, step):
                add_one_row(data, i + column, column, step, within, first, second)
            if whole < width:
                add_one_row(data, i + whole, whole, width - whole, within, first, second)
            row += 1

    @helper
    def slice_sums(task, data, width, size, slices, within, across):  # type: ignore[no-untyped-def]
        step = lanes(within)
        length = (width + step - 1) // step * step
        first = task * 2 * length
        second = first + length
        zero = zeros_like(load_first(within, first, 0))
        for j in range(first, second + length):
            across[j] = 0
        rows = size // width
        row, stop = rows * task // slices, rows * (task + 1) // slices
        left = size - rows * width if task == slices - 1 else 0  # what is left is less than a row: the last slice's
        while row < stop or left > 0:
            for j in range(first, second + length, step):
                store(within, j, zero)
            if row < stop:
                count = min(ROWS, stop - row)
                add_block(data, row * width, count, width, within, first, second)
                row += count
            else:
                add_block(data, rows * width, 1, left, within, first, second)
                left = 0
            for j in range(first, second + length, step):
                add_to_float64(across, j, load(within, j))

    return slice_sums


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
