"""The micro-kernel: a tile of products held in registers, which all matrix-like kernels are made of.

For ROWS rows and VECTORS vectors of LANES columns each it computes

    out[row, column] = clamp(start + sum over l of x[row_offset[row] + term_offset[l]] * w[l, column])

The rows of x are not stored one after another: tables of offsets say where each row starts and where its l-th term lies
behind the start. With the right tables the same loop is a matrix product, a convolution (a row is the patch under one
pixel; nobody has to copy patches into a matrix first), its input gradient or its weight gradient.

Each step of the loop loads VECTORS vectors of w, and for each row broadcasts one number of x and does VECTORS fused
multiply-adds. 6 rows times 4 vectors keep 24 sums in flight, enough to hide the latency of the multiply-add (4 cycles,
two a cycle), and leave registers for the rest: 24 + 4 + 1 of AVX-512's 32. The fewer registers, the smaller the tile.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from minicnn.kernels.cpu import host
from minicnn.kernels.cpu.jit import exported, helper, kernel
from minicnn.kernels.cpu.simd import (
    INT64,
    IR_FLOATS,
    emit_clamp,
    emit_fma,
    emit_load,
    emit_mask,
    emit_masked_load,
    emit_masked_store,
    emit_splat,
    emit_store,
    emit_streaming_store,
    ir_vector,
)

ROWS = 6
"""Rows of a full tile."""

VECTORS = 4 if host.vector_registers() == 32 else 2
"""Vectors of a full tile: ROWS * VECTORS sums, VECTORS weights and a broadcast must fit into the registers."""


def panel_columns(dtype: Any) -> int:
    """Columns of a full tile, which are those of a packed panel of weights."""
    return VECTORS * host.lanes(np.dtype(dtype).itemsize)


class Product(NamedTuple):
    """What is multiplied: addresses in bytes (see `simd.address`), offsets and strides in elements, tables of int64.

    The type of `low` and `high` is that of all numbers.
    """

    x: int
    row_offsets: int  # table: where row i starts behind x
    term_offsets: int  # table: where its l-th term lies behind its start
    terms: int  # how many terms a sum has, at least 1
    w: int  # its row l starts at l * w_stride, and may be read up to a whole number of vectors
    w_stride: int
    start: int  # added to the sums: at start + start_step * out_offsets[row]; so 0 stands for one row for all, a bias,
    start_step: int  # and 1, with start = out, for adding to what is there
    out: int
    out_offsets: int  # table: where row i goes behind out
    low: float  # results are clamped between these two
    high: float
    streaming: int = 0  # 1: write past the caches; every vector must be whole and lie on a multiple of its size


def _make_tile(rows: int, vectors: int) -> Any:
    """The loop for a tile of this shape."""

    @intrinsic
    def tile(typing_context: Any, product: Any, row: Any, column: Any, last_columns: Any) -> Any:
        """Rows from `row` on, columns from `column` on, of which the last vector has `last_columns`."""
        number = product[Product._fields.index("low")]
        vector, element = ir_vector(number, host.lanes(number.bitwidth // 8)), IR_FLOATS[number]

        def code(context: Any, b: ir.IRBuilder, signature: Any, values: Any) -> ir.Value:
            packed, row, column, last_columns = values
            p = Product(*[b.extract_value(packed, i) for i in range(len(Product._fields))])

            def pointer(base: ir.Value, offset: ir.Value) -> ir.Value:
                return b.gep(b.inttoptr(base, element.as_pointer()), [offset], source_etype=element)

            def vector_at(base: ir.Value, j: int) -> ir.Value:
                return b.gep(base, [INT64(j * vector.count)], source_etype=element)

            def entry(table: ir.Value, index: ir.Value) -> ir.Value:
                return b.load(b.gep(b.inttoptr(table, INT64.as_pointer()), [index], source_etype=INT64), typ=INT64)

            x_rows = [pointer(p.x, entry(p.row_offsets, b.add(row, INT64(i)))) for i in range(rows)]
            w_panel = pointer(p.w, column)
            before, loop, after = b.block, b.append_basic_block("terms"), b.append_basic_block("done")
            b.branch(loop)

            b.position_at_end(loop)
            l = b.phi(INT64)
            sums = [[b.phi(vector) for _ in range(vectors)] for _ in range(rows)]
            offset = entry(p.term_offsets, l)
            w_row = b.gep(w_panel, [b.mul(l, p.w_stride)], source_etype=element)
            weights = [emit_load(b, vector_at(w_row, j), vector) for j in range(vectors)]
            new = []
            for i in range(rows):
                factor = b.load(b.gep(x_rows[i], [offset], source_etype=element), typ=element)
                factors = emit_splat(b, factor, vector.count)
                new.append([emit_fma(b, factors, weights[j], sums[i][j]) for j in range(vectors)])
            following = b.add(l, INT64(1))
            b.cbranch(b.icmp_signed("<", following, p.terms), loop, after)
            l.add_incoming(INT64(0), before)
            l.add_incoming(following, loop)
            for i in range(rows):
                for j in range(vectors):
                    sums[i][j].add_incoming(ir.Constant(vector, None), before)
                    sums[i][j].add_incoming(new[i][j], loop)

            b.position_at_end(after)
            mask = emit_mask(b, last_columns, vector.count)
            low, high = emit_splat(b, p.low, vector.count), emit_splat(b, p.high, vector.count)
            results, places = [], []
            for i in range(rows):
                place = entry(p.out_offsets, b.add(row, INT64(i)))
                start = pointer(p.start, b.add(b.mul(place, p.start_step), column))
                first = [emit_load(b, vector_at(start, j), vector) for j in range(vectors - 1)]
                first.append(emit_masked_load(b, vector_at(start, vectors - 1), mask, vector))
                results.append([emit_clamp(b, b.fadd(first[j], new[i][j]), low, high) for j in range(vectors)])
                places.append(pointer(p.out, b.add(place, column)))
            with b.if_else(b.trunc(p.streaming, ir.IntType(1))) as (past_the_caches, through_the_caches):
                with past_the_caches:
                    for out, sums in zip(places, results, strict=True):
                        for j in range(vectors):
                            emit_streaming_store(b, vector_at(out, j), sums[j])
                with through_the_caches:
                    for out, sums in zip(places, results, strict=True):
                        for j in range(vectors - 1):
                            emit_store(b, vector_at(out, j), sums[j])
                        emit_masked_store(b, vector_at(out, vectors - 1), mask, sums[vectors - 1])
            return context.get_dummy_value()

        return types.void(product, types.int64, types.int64, types.int64), code

    return tile


def _make_strip(vectors: int) -> Any:
    """All rows of a strip of so many vectors: full tiles first, then smaller ones for the rows that are left."""
    six, four, two, one = (_make_tile(rows, vectors) for rows in (ROWS, 4, 2, 1))

    @helper
    def strip(product, rows, column, last_columns):  # type: ignore[no-untyped-def]
        row = 0
        while rows - row >= ROWS:
            six(product, row, column, last_columns)
            row += ROWS
        if rows - row >= 4:
            four(product, row, column, last_columns)
            row += 4
        if rows - row >= 2:
            two(product, row, column, last_columns)
            row += 2
        if rows > row:
            one(product, row, column, last_columns)

    return strip


_strip1, _strip2, _strip_full = _make_strip(1), _make_strip(2), _make_strip(VECTORS)


@helper
def _multiply_panel(product, rows, columns):  # type: ignore[no-untyped-def]
    """All rows, and as many columns as a panel has at most: a strip of full width, or of 2 and 1 vectors."""
    lanes = _lanes_of(product.low)
    vectors = (columns + lanes - 1) // lanes
    last_columns = columns - (vectors - 1) * lanes
    if vectors == VECTORS:
        _strip_full(product, rows, 0, last_columns)
    elif vectors == 3:
        _strip2(product, rows, 0, lanes)
        _strip1(product, rows, 2 * lanes, last_columns)
    elif vectors == 2:
        _strip2(product, rows, 0, last_columns)
    else:
        _strip1(product, rows, 0, last_columns)


def _lanes_of(number: Any) -> int:
    return host.lanes(number.itemsize)


@overload(_lanes_of, strict=False)
def _lanes_of_type(number: Any) -> Any:
    count = host.lanes(number.bitwidth // 8)
    return lambda number: count


# --------------------------------------------------------------------------------------------------- one copy for all
# The tiles are a lot of code: they are compiled once for each dtype, under a symbol that kernels call by.

_DTYPES = {types.float32: "minicnn_multiply_panel_float32", types.float64: "minicnn_multiply_panel_float64"}


def _signature(number: Any) -> Any:
    return types.void(*[types.int64] * 10, number, number, *[types.int64] * 3)


def _export(number: Any) -> Any:
    @exported(_DTYPES[number], _signature(number))
    def multiply_panel(  # type: ignore[no-untyped-def]
        x, row_offsets, term_offsets, terms, w, w_stride, start, start_step, out, out_offsets, low, high, streaming,
        rows, columns,
    ):  # fmt: skip
        product = Product(
            x, row_offsets, term_offsets, terms, w, w_stride, start, start_step, out, out_offsets, low, high,
            streaming,
        )  # fmt: skip
        _multiply_panel(product, rows, columns)

    return multiply_panel


_LOADERS = {number: _export(number) for number in _DTYPES}
_EXTERNALS = {number: types.ExternalFunction(symbol, _signature(number)) for number, symbol in _DTYPES.items()}


def multiply_panel(product: Product, rows: int, columns: int) -> None:
    """Compute `rows` rows and 1 <= columns <= panel_columns of a Product; for nopython code only."""
    raise TypeError("multiply_panel runs in compiled code only")


@overload(multiply_panel, strict=False)
def _multiply_panel_overload(product: Any, rows: Any, columns: Any) -> Any:
    external = _EXTERNALS[product[Product._fields.index("low")]]

    def call(product, rows, columns):  # type: ignore[no-untyped-def]
        external(product.x, product.row_offsets, product.term_offsets, product.terms, product.w, product.w_stride,
                 product.start, product.start_step, product.out, product.out_offsets, product.low, product.high,
                 product.streaming, rows, columns)  # fmt: skip

    return call


def matrix_kernel(function: Any) -> Any:
    """`jit.kernel` for one that calls `multiply_panel`: the micro-kernel of its dtype is made ready first."""

    def load_micro_kernel(argument_types: Any) -> None:
        for argument in argument_types:
            if isinstance(argument, types.Array) and argument.dtype in _LOADERS:
                _LOADERS[argument.dtype]()

    return kernel(function, needs=load_micro_kernel)
