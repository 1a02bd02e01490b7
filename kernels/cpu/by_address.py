"""Vectors in memory that is known by its address: for arrays of which only a table tells where they lie.

A kernel is compiled for so many arrays. One that works on any number of them, as an optimizer's step does on all
parameters of a network, is given the addresses, in an array of int64.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload, register_jitable

from minicnn.kernels.cpu.simd import (
    INT64,
    emit_load,
    emit_mask,
    emit_masked_load,
    emit_masked_store,
    emit_store,
    ir_vector,
)


def _emit_place(b: ir.IRBuilder, address: ir.Value, index: ir.Value, element: ir.Type) -> ir.Value:
    return b.gep(b.inttoptr(address, element.as_pointer()), [index], source_etype=element)


@intrinsic
def _load_at(typing_context: Any, like: Any, address: Any, index: Any) -> Any:
    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        vector = ir_vector(like.dtype, like.lanes)
        return emit_load(b, _emit_place(b, arguments[1], arguments[2], vector.element), vector)

    return like(like, types.int64, types.int64), code


@intrinsic
def _load_first_at(typing_context: Any, like: Any, address: Any, index: Any, count: Any) -> Any:
    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        vector = ir_vector(like.dtype, like.lanes)
        place = _emit_place(b, arguments[1], arguments[2], vector.element)
        return emit_masked_load(b, place, emit_mask(b, arguments[3], like.lanes), vector)

    return like(like, types.int64, types.int64, types.int64), code


@intrinsic
def _store_at(typing_context: Any, address: Any, index: Any, vector: Any) -> Any:
    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        emit_store(b, _emit_place(b, arguments[0], arguments[1], arguments[2].type.element), arguments[2])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, vector), code


@intrinsic
def _store_first_at(typing_context: Any, address: Any, index: Any, vector: Any, count: Any) -> Any:
    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        place = _emit_place(b, arguments[0], arguments[1], arguments[2].type.element)
        emit_masked_store(b, place, emit_mask(b, arguments[3], vector.lanes), arguments[2])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, vector, types.int64), code


@register_jitable
def load_at(like, address, index, count):  # type: ignore[no-untyped-def]
    """The first `count` lanes, from number `index` behind an address; a vector of the type of `like`."""
    if count >= lanes_of(like):
        return _load_at(like, address, index)
    return _load_first_at(like, address, index, count)


@register_jitable
def store_at(address, index, vector, count):  # type: ignore[no-untyped-def]
    """Write the first `count` lanes, from number `index` behind an address on."""
    if count >= lanes_of(vector):
        _store_at(address, index, vector)
    else:
        _store_first_at(address, index, vector, count)


def lanes_of(vector: Any) -> int:
    """In compiled code: how many numbers this vector holds, a constant."""
    raise TypeError("for compiled code only")


@overload(lanes_of, strict=False)
def _lanes_of(vector: Any) -> Any:
    count = vector.lanes
    return lambda vector: count


@intrinsic
def integer_at(typing_context: Any, address: Any) -> Any:
    """The int64 that is kept at an address."""

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return b.load(b.inttoptr(arguments[0], INT64.as_pointer()), typ=INT64)

    return types.int64(types.int64), code
