"""Vectors in nopython code: a type for as many floats as one register holds, and a handful of operations on it.

    v = load(x, i) * 2.0 + load(y, i)       # x, y one-dimensional arrays, i the index of the first of LANES numbers
    store(z, i, v)

A loop over an array advances by `lanes(x)` numbers; what is left at the end goes through `load_first` and
`store_first`, which touch only the first `count` numbers. Kernels written so are vectorized by construction, whatever
LLVM's own vectorizer thinks of them, and run at any width: see `host.py`, which chooses it.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

from minicnn.kernels.cpu import host

INT32, INT64 = ir.IntType(32), ir.IntType(64)
IR_FLOATS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


class Vector(types.Type):
    """As many numbers of `dtype` as fill one register."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.lanes = host.lanes(dtype.bitwidth // 8)
        super().__init__(name=f"Vector({dtype}x{self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, frontend_type: Vector) -> None:
        super().__init__(manager, frontend_type, ir_vector(frontend_type.dtype, frontend_type.lanes))


def ir_vector(dtype: types.Float, lanes: int) -> ir.VectorType:
    return ir.VectorType(IR_FLOATS[dtype], lanes)


# --------------------------------------------------------------------------------------------------- in LLVM's terms
# Functions from here to the next line write instructions; `b` is llvmlite's IRBuilder.


def emit_load(b: ir.IRBuilder, pointer: ir.Value, vector: ir.VectorType) -> ir.Value:
    """The vector that starts at a pointer to a float; no alignment is assumed."""
    return b.load(b.bitcast(pointer, vector.as_pointer()), align=_size(vector.element), typ=vector)


def emit_store(b: ir.IRBuilder, pointer: ir.Value, value: ir.Value) -> None:
    b.store(value, b.bitcast(pointer, value.type.as_pointer()), align=_size(value.type.element))


def emit_streaming_store(b: ir.IRBuilder, pointer: ir.Value, value: ir.Value) -> None:
    """Write past the caches, to a multiple of the vector's size: for what is too big to be found there again."""
    aligned = value.type.count * _size(value.type.element)
    instruction = b.store(value, b.bitcast(pointer, value.type.as_pointer()), align=aligned)
    instruction.set_metadata("nontemporal", b.module.add_metadata([INT32(1)]))


def emit_mask(b: ir.IRBuilder, count: ir.Value, lanes: int) -> ir.Value:
    """True in the first `count` (int64) lanes."""
    ladder = ir.Constant(ir.VectorType(INT64, lanes), list(range(lanes)))
    return b.icmp_signed("<", ladder, emit_splat(b, count, lanes))


def emit_masked_load(b: ir.IRBuilder, pointer: ir.Value, mask: ir.Value, vector: ir.VectorType) -> ir.Value:
    """The lanes where the mask holds; zeros elsewhere, whose memory is not touched."""
    mask_type, name = ir.VectorType(ir.IntType(1), vector.count), f"llvm.masked.load.{_mangled(vector)}.p0"
    signature = ir.FunctionType(vector, [vector.as_pointer(), INT32, mask_type, vector])
    function = cgutils.get_or_insert_function(b.module, signature, name)
    address = b.bitcast(pointer, vector.as_pointer())
    return b.call(function, [address, INT32(_size(vector.element)), mask, ir.Constant(vector, None)])


def emit_masked_store(b: ir.IRBuilder, pointer: ir.Value, mask: ir.Value, value: ir.Value) -> None:
    vector = value.type
    mask_type, name = ir.VectorType(ir.IntType(1), vector.count), f"llvm.masked.store.{_mangled(vector)}.p0"
    signature = ir.FunctionType(ir.VoidType(), [vector, vector.as_pointer(), INT32, mask_type])
    function = cgutils.get_or_insert_function(b.module, signature, name)
    b.call(function, [value, b.bitcast(pointer, vector.as_pointer()), INT32(_size(vector.element)), mask])


def emit_splat(b: ir.IRBuilder, scalar: ir.Value, lanes: int) -> ir.Value:
    """The same number in every lane."""
    vector = ir.VectorType(scalar.type, lanes)
    one = b.insert_element(ir.Constant(vector, ir.Undefined), scalar, INT32(0))
    return b.shuffle_vector(one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(INT32, lanes), None))


def emit_fma(b: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    """x * y + z, rounded once."""
    function = cgutils.get_or_insert_function(
        b.module, ir.FunctionType(x.type, [x.type] * 3), f"llvm.fma.{_mangled(x.type)}"
    )
    return b.call(function, [x, y, z])


def emit_clamp(b: ir.IRBuilder, value: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
    """Between low and high; the comparisons are false for NaN, which so passes through."""
    value = b.select(b.fcmp_ordered("<", value, low), low, value)
    return b.select(b.fcmp_ordered(">", value, high), high, value)


def emit_transpose(b: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """The columns of a square whose rows are given: blocks of half the side change places, then quarters, and so on."""
    lanes = len(rows)
    distance = lanes // 2
    while distance:
        upper = [lane ^ distance | lanes if lane & distance else lane for lane in range(lanes)]
        lower = [lane | lanes if lane & distance else lane ^ distance for lane in range(lanes)]
        new = list(rows)
        for i in range(lanes):
            if not i & distance:
                j = i + distance
                for target, lanes_of_both in ((i, upper), (j, lower)):
                    mask = ir.Constant(ir.VectorType(INT32, lanes), lanes_of_both)
                    new[target] = b.shuffle_vector(rows[i], rows[j], mask)
        rows = new
        distance //= 2
    return rows


def emit_element(b: ir.IRBuilder, context: Any, array_type: types.Array, array: ir.Value, index: ir.Value) -> ir.Value:
    """A pointer to element `index` of a one-dimensional contiguous array."""
    data = context.make_array(array_type)(context, b, array).data
    return b.gep(data, [index], source_etype=IR_FLOATS[array_type.dtype])


def _size(element: ir.Type) -> int:
    return 4 if isinstance(element, ir.FloatType) else 8


def _mangled(vector: ir.VectorType) -> str:
    return f"v{vector.count}f{8 * _size(vector.element)}"


# --------------------------------------------------------------------------------------------------- operations


def _check(array: Any) -> None:
    if not (isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C" and array.dtype in IR_FLOATS):
        raise TypeError(f"vectors are read from one-dimensional contiguous arrays of floats. Received: {array}")


@intrinsic
def load(typing_context: Any, array: Any, index: Any) -> Any:
    """LANES numbers of a one-dimensional array, from `index` on."""
    _check(array)
    vector = Vector(array.dtype)

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        pointer = emit_element(b, context, array, *arguments)
        return emit_load(b, pointer, ir_vector(vector.dtype, vector.lanes))

    return vector(array, types.int64), code


@intrinsic
def store(typing_context: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write LANES numbers of a one-dimensional array, from `index` on."""
    _check(array)

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        emit_store(b, emit_element(b, context, array, *arguments[:2]), arguments[2])
        return context.get_dummy_value()

    return types.void(array, types.int64, Vector(array.dtype)), code


@intrinsic
def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Ask for the line of memory that element `index` lies in, soon to be read; the index may lie anywhere."""
    return _prefetch(array, to_write=0)


@intrinsic
def prefetch_to_write(typing_context: Any, array: Any, index: Any) -> Any:
    """As `prefetch`, of a line that is soon to be written."""
    return _prefetch(array, to_write=1)


def _prefetch(array: Any, to_write: int) -> Any:
    _check(array)

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        byte = ir.IntType(8).as_pointer()
        function_type = ir.FunctionType(ir.VoidType(), [byte, INT32, INT32, INT32])
        function = cgutils.get_or_insert_function(b.module, function_type, "llvm.prefetch.p0")
        pointer = b.bitcast(emit_element(b, context, array, *arguments), byte)
        b.call(function, [pointer, INT32(to_write), INT32(3), INT32(1)])  # into all caches; data, not code
        return context.get_dummy_value()

    return types.void(array, types.int64), code


@intrinsic
def load_first(typing_context: Any, array: Any, index: Any, count: Any) -> Any:
    """As `load`, of the first `count` numbers alone; the other lanes are 0."""
    _check(array)
    vector = Vector(array.dtype)

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        pointer = emit_element(b, context, array, *arguments[:2])
        mask = emit_mask(b, arguments[2], vector.lanes)
        return emit_masked_load(b, pointer, mask, ir_vector(vector.dtype, vector.lanes))

    return vector(array, types.int64, types.int64), code


@intrinsic
def store_first(typing_context: Any, array: Any, index: Any, vector: Any, count: Any) -> Any:
    """As `store`, of the first `count` lanes alone."""
    _check(array)

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        pointer = emit_element(b, context, array, *arguments[:2])
        emit_masked_store(b, pointer, emit_mask(b, arguments[3], Vector(array.dtype).lanes), arguments[2])
        return context.get_dummy_value()

    return types.void(array, types.int64, Vector(array.dtype), types.int64), code


@intrinsic
def transpose(
    typing_context: Any, source: Any, index: Any, stride: Any, target: Any, target_index: Any, target_stride: Any
) -> Any:
    """target[j, i] = source[i, j] for LANES x LANES numbers of two flat arrays, whose rows are a stride apart."""
    _check(source)
    vector = Vector(source.dtype)

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        array, first, step, out, out_first, out_step = arguments
        rows = []
        for i in range(vector.lanes):
            pointer = emit_element(b, context, source, array, b.add(first, b.mul(step, INT64(i))))
            rows.append(emit_load(b, pointer, ir_vector(vector.dtype, vector.lanes)))
        for j, column in enumerate(emit_transpose(b, rows)):
            emit_store(b, emit_element(b, context, target, out, b.add(out_first, b.mul(out_step, INT64(j)))), column)
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, target, types.int64, types.int64), code


@intrinsic
def transpose_first(
    typing_context: Any,
    source: Any,
    index: Any,
    stride: Any,
    rows: Any,
    columns: Any,
    target: Any,
    target_index: Any,
    target_stride: Any,
) -> Any:
    """As `transpose`, of the first rows and columns alone; for the missing rows, zeros are written."""
    _check(source)
    vector = Vector(source.dtype)

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        array, first, step, rows, columns, out, out_first, out_step = arguments

        def where(i: int, limit: ir.Value, count: ir.Value) -> ir.Value:
            """The first `count` lanes if row i is below the limit, else none."""
            return emit_mask(b, b.select(b.icmp_signed("<", INT64(i), limit), count, INT64(0)), vector.lanes)

        loaded = []
        for i in range(vector.lanes):
            pointer = emit_element(b, context, source, array, b.add(first, b.mul(step, INT64(i))))
            mask = where(i, rows, columns)
            loaded.append(emit_masked_load(b, pointer, mask, ir_vector(vector.dtype, vector.lanes)))
        for j, column in enumerate(emit_transpose(b, loaded)):
            pointer = emit_element(b, context, target, out, b.add(out_first, b.mul(out_step, INT64(j))))
            emit_masked_store(b, pointer, where(j, columns, INT64(vector.lanes)), column)
        return context.get_dummy_value()

    return types.void(
        source, types.int64, types.int64, types.int64, types.int64, target, types.int64, types.int64
    ), code


@intrinsic
def splat(typing_context: Any, scalar: Any) -> Any:
    """A number (np.float32 or np.float64) in every lane."""
    vector = Vector(scalar)

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return emit_splat(b, arguments[0], vector.lanes)

    return vector(scalar), code


@intrinsic
def fma(typing_context: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once."""

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return emit_fma(b, *arguments)

    return x(x, x, x), code


def _binary(name: str) -> Any:
    """An intrinsic for one of the IRBuilder's operations on two vectors."""

    @intrinsic
    def operation(typing_context: Any, x: Any, y: Any) -> Any:
        def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            return getattr(b, name)(*arguments)

        return x(x, x), code

    return operation


_add, _sub, _mul, _div = (_binary(name) for name in ("fadd", "fsub", "fmul", "fdiv"))


@intrinsic
def clamp(typing_context: Any, x: Any, low: Any, high: Any) -> Any:
    """min(max(x, low), high), lane by lane; NaN passes through."""

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return emit_clamp(b, *arguments)

    return x(x, x, x), code


def _overload_operator(symbol: Any, operation: Any) -> None:
    """`vector op vector`, and a number on either side, which is put into every lane."""

    @overload(symbol, strict=False)
    def implementation(x: Any, y: Any) -> Any:
        if isinstance(x, Vector) and isinstance(y, Vector):
            return lambda x, y: operation(x, y)
        if isinstance(x, Vector) and isinstance(y, types.Number):
            dtype = x.dtype
            return lambda x, y: operation(x, splat(dtype(y)))
        if isinstance(y, Vector) and isinstance(x, types.Number):
            dtype = y.dtype
            return lambda x, y: operation(splat(dtype(x)), y)
        return None


for _symbol, _operation in (
    (operator.add, _add),
    (operator.sub, _sub),
    (operator.mul, _mul),
    (operator.truediv, _div),
):
    _overload_operator(_symbol, _operation)


def lanes(array: Any) -> int:
    """How many numbers of this array's dtype one vector holds; a constant in compiled code."""
    return host.lanes(array.itemsize)


@overload(lanes, strict=False)
def _lanes(array: Any) -> Any:
    count = host.lanes(array.dtype.bitwidth // 8)
    return lambda array: count


@intrinsic
def address(typing_context: Any, array: Any, index: Any) -> Any:
    """The address of element `index` of a contiguous array, for `microkernel.multiply_panel`."""

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        data = context.make_array(array)(context, b, arguments[0]).data
        element = context.get_data_type(array.dtype)
        return b.ptrtoint(b.gep(data, [arguments[1]], source_etype=element), INT64)

    return types.int64(array, types.int64), code
