"""Vectors of int32 that go along with vectors of floats, lane by lane: which pixel a maximum came from."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

from minicnn.kernels.cpu.simd import INT32, emit_mask, emit_splat
from minicnn.kernels.cpu.vector_math import Mask


class IndexVector(types.Type):
    """As many int32 as a vector of some float type has lanes."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"IndexVector({lanes})")


@register_model(IndexVector)
class _IndexVectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, frontend_type: IndexVector) -> None:
        super().__init__(manager, frontend_type, ir.VectorType(INT32, frontend_type.lanes))


def _pointer(context: Any, b: ir.IRBuilder, array_type: Any, array: Any, index: Any, lanes: int) -> ir.Value:
    data = context.make_array(array_type)(context, b, array).data
    return b.bitcast(b.gep(data, [index], source_etype=INT32), ir.VectorType(INT32, lanes).as_pointer())


@intrinsic
def splat_index(typing_context: Any, like: Any, number: Any) -> Any:
    """The same integer in every lane, for as many lanes as the vector `like` has."""

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return emit_splat(b, context.cast(b, arguments[1], number, types.int32), like.lanes)

    return IndexVector(like.lanes)(like, number), code


@intrinsic
def load_index(typing_context: Any, array: Any, index: Any, count: Any, fill: Any) -> Any:
    """The first `count` int32 from array[index] on; the lanes of `fill`, an IndexVector, in the others."""
    vector, mask = ir.VectorType(INT32, fill.lanes), ir.VectorType(ir.IntType(1), fill.lanes)
    masked_load = ir.FunctionType(vector, [vector.as_pointer(), INT32, mask, vector])

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        function = cgutils.get_or_insert_function(b.module, masked_load, f"llvm.masked.load.v{fill.lanes}i32.p0")
        pointer = _pointer(context, b, array, arguments[0], arguments[1], fill.lanes)
        return b.call(function, [pointer, INT32(4), emit_mask(b, arguments[2], fill.lanes), arguments[3]])

    return fill(array, types.int64, types.int64, fill), code


@intrinsic
def _store_all(typing_context: Any, array: Any, index: Any, vector: Any) -> Any:
    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        b.store(arguments[2], _pointer(context, b, array, arguments[0], arguments[1], vector.lanes), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), code


@intrinsic
def _store_first(typing_context: Any, array: Any, index: Any, vector: Any, count: Any) -> Any:
    integers, mask = ir.VectorType(INT32, vector.lanes), ir.VectorType(ir.IntType(1), vector.lanes)
    masked_store = ir.FunctionType(ir.VoidType(), [integers, integers.as_pointer(), INT32, mask])

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        function = cgutils.get_or_insert_function(b.module, masked_store, f"llvm.masked.store.v{vector.lanes}i32.p0")
        pointer = _pointer(context, b, array, arguments[0], arguments[1], vector.lanes)
        b.call(function, [arguments[2], pointer, INT32(4), emit_mask(b, arguments[3], vector.lanes)])
        return context.get_dummy_value()

    return types.void(array, types.int64, vector, types.int64), code


def store_index(array: Any, index: Any, vector: Any, count: Any) -> None:
    """In compiled code: write the first `count` lanes, from array[index] on."""
    raise TypeError("for compiled code only")


@overload(store_index, strict=False)
def _store_index(array: Any, index: Any, vector: Any, count: Any) -> Any:
    lanes = vector.lanes

    def code(array, index, vector, count):  # type: ignore[no-untyped-def]
        if count >= lanes:
            _store_all(array, index, vector)
        else:
            _store_first(array, index, vector, count)

    return code


@intrinsic
def equals(typing_context: Any, vector: Any, number: Any) -> Any:
    """The mask of the lanes that hold this integer."""

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        wanted = emit_splat(b, context.cast(b, arguments[1], number, types.int32), vector.lanes)
        return b.icmp_signed("==", arguments[0], wanted)

    return Mask(vector.lanes)(vector, number), code


@intrinsic
def all_of(typing_context: Any, mask: Any) -> Any:
    """Whether the mask holds in every lane."""

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        bits = ir.IntType(mask.lanes)
        return b.icmp_unsigned("==", b.bitcast(arguments[0], bits), ir.Constant(bits, (1 << mask.lanes) - 1))

    return types.boolean(mask), code
