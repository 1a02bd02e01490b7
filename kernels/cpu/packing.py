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


@helper
def pack_panel(source, start, stride, terms, columns, target, target_start, width):  # type: ignore[no-untyped-def]
    """One panel: `terms` rows of `columns` numbers, `stride` apart in the flat array `source`, to `target`, flat too."""
    for l in range(terms):
        row, place = start + l * stride, target_start + l * width
        for j in range(columns):
            target[place + j] = source[row + j]
        for j in range(columns, width):
            target[place + j] = 0


@helper
def pack_panel_transposed(source, start, stride, terms, columns, target, target_start, width):  # type: ignore[no-untyped-def]
    """One panel of the transposed matrix: column j of the panel is a row of `source`, `stride` apart."""
    for l in range(terms):
        place = target_start + l * width
        for j in range(columns):
            target[place + j] = source[start + j * stride + l]
        for j in range(columns, width):
            target[place + j] = 0
