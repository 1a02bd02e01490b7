"""Panels: a matrix cut into strips of as many columns as the micro-kernel takes, each laid out row after row.

    matrix (terms, columns)        panels (columns / WIDTH, terms, WIDTH)
    a a b b c                      a a | b b | c 0
    a a b b c            ->        a a | b b | c 0          here WIDTH = 2; the last panel is filled up with zeros
    a a b b c                      a a | b b | c 0

The micro-kernel reads a panel from front to back, whatever the matrix' own width: no two of its rows fall on the same
lines of the first-level cache, as rows 2**k bytes apart would, and a vector never reaches past the end.
"""

from __future__ import annotations

from minicnn.kernels.cpu.jit import helper
from minicnn.kernels.cpu.simd import lanes, load, load_first, store, transpose, transpose_first


@helper
def pack_panel(source, start, stride, terms, columns, target, target_start, width):  # type: ignore[no-untyped-def]
    """One panel: `terms` rows of `columns` numbers, `stride` apart in the flat array `source`, to `target`, flat too.

    `width` is a whole number of vectors.
    """
    step = lanes(source)
    whole = columns // step * step
    for l in range(terms):
        row, place = start + l * stride, target_start + l * width
        for j in range(0, whole, step):
            store(target, place + j, load(source, row + j))
        for j in range(whole, width, step):
            store(target, place + j, load_first(source, row + j, columns - j))


@helper
def pack_panel_transposed(source, start, stride, terms, columns, target, target_start, width):  # type: ignore[no-untyped-def]
    """One panel of the transposed matrix: column j of the panel is a row of `source`, `stride` apart.

    Squares of LANES x LANES numbers are read as vectors and turned over in registers.
    """
    step = lanes(source)
    for j in range(0, width, step):
        for l in range(0, terms, step):
            row, place = start + j * stride + l, target_start + l * width + j
            if j + step <= columns and l + step <= terms:
                transpose(source, row, stride, target, place, width)
            else:
                transpose_first(source, row, stride, columns - j, terms - l, target, place, width)
