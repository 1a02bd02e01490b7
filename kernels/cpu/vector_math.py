"""More that vectors can do: compare and select, roots, exponentials, sums over the lanes.

exp is written out because LLVM knows no vector form of it. With n = round(x / ln 2) and r = x - n ln 2, |r| <= 0.35,

    exp(x) = 2**n * exp(r),        exp(r) = 1 + r + r**2 / 2! + r**3 / 3! + ...

The series needs 7 terms in float32 and 13 in float64 before what is left out is below half a unit in the last place;
2**n is put together from its bits. All else here that is not one instruction is made of it.
"""

from __future__ import annotations

import math
import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_jitable, register_model

from minicnn.kernels.cpu.simd import (
    INT32,
    INT64,
    IR_FLOATS,
    Vector,
    emit_element,
    emit_fma,
    emit_load,
    emit_mask,
    emit_masked_load,
    emit_splat,
    emit_store,
    fma,
    ir_vector,
    splat,
)

# --------------------------------------------------------------------------------------------------- comparisons


class Mask(types.Type):
    """A truth value for each lane of a vector: what a comparison gives and `select` takes."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Mask({lanes})")


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, frontend_type: Mask) -> None:
        super().__init__(manager, frontend_type, ir.VectorType(ir.IntType(1), frontend_type.lanes))


def _comparison(symbol: str) -> Any:
    """An intrinsic for `x symbol y`, lane by lane; false where either is NaN, but != is true there."""

    @intrinsic
    def compare(typing_context: Any, x: Any, y: Any) -> Any:
        def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            compare = b.fcmp_unordered if symbol == "!=" else b.fcmp_ordered
            return compare(symbol, *arguments)

        return Mask(x.lanes)(x, x), code

    return compare


def _overload_comparison(symbol: Any, operation: Any) -> None:
    @overload(symbol, strict=False)
    def implementation(x: Any, y: Any) -> Any:
        if isinstance(x, Vector) and isinstance(y, Vector):
            return lambda x, y: operation(x, y)
        if isinstance(x, Vector) and isinstance(y, types.Number):
            dtype = x.dtype
            return lambda x, y: operation(x, splat(dtype(y)))
        return None


for _symbol, _name in (
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.lt, "<"),
    (operator.eq, "=="),
    (operator.ne, "!="),
):
    _overload_comparison(_symbol, _comparison(_name))


@overload(operator.and_, strict=False)
def _and(x: Any, y: Any) -> Any:
    return (lambda x, y: _both(x, y)) if isinstance(x, Mask) and isinstance(y, Mask) else None


@overload(operator.or_, strict=False)
def _or(x: Any, y: Any) -> Any:
    return (lambda x, y: _either(x, y)) if isinstance(x, Mask) and isinstance(y, Mask) else None


@intrinsic
def _both(typing_context: Any, x: Any, y: Any) -> Any:
    return x(x, x), lambda context, b, signature, arguments: b.and_(*arguments)


@intrinsic
def _either(typing_context: Any, x: Any, y: Any) -> Any:
    return x(x, x), lambda context, b, signature, arguments: b.or_(*arguments)


@intrinsic
def greater_or_nan(typing_context: Any, x: Any, y: Any) -> Any:
    """True where x > y, and where either is NaN."""
    return Mask(x.lanes)(x, x), lambda context, b, signature, arguments: b.fcmp_unordered(">", *arguments)


@intrinsic
def select(typing_context: Any, mask: Any, x: Any, y: Any) -> Any:
    """x where the mask holds, else y."""
    return x(mask, x, x), lambda context, b, signature, arguments: b.select(*arguments)


@register_jitable
def greater(x, y):  # type: ignore[no-untyped-def]
    """The larger of x and y in each lane; y where either is NaN."""
    return select(x > y, x, y)


@register_jitable
def zeros_like(x):  # type: ignore[no-untyped-def]
    """A vector of zeros."""
    return splat(_zero(x))


@intrinsic
def _zero(typing_context: Any, x: Any) -> Any:
    return x.dtype(x), lambda context, b, signature, arguments: ir.Constant(IR_FLOATS[x.dtype], 0.0)


# --------------------------------------------------------------------------------------------------- one instruction


def _unary(name: str) -> Any:
    """An intrinsic for one of LLVM's functions of a vector."""

    @intrinsic
    def function(typing_context: Any, x: Any) -> Any:
        def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            (value,) = arguments
            mangled = f"llvm.{name}.v{x.lanes}f{x.dtype.bitwidth}"
            signature = ir.FunctionType(value.type, [value.type])
            return b.call(cgutils.get_or_insert_function(b.module, signature, mangled), [value])

        return x(x), code

    return function


sqrt, absolute, _nearest = (_unary(name) for name in ("sqrt", "fabs", "nearbyint"))


@intrinsic
def _power_of_two(typing_context: Any, n: Any) -> Any:
    """2**n for whole numbers n whose power is a normal float: n + bias, moved to where the exponent's bits are."""
    integer, mantissa, bias = (INT32, 23, 127) if n.dtype.bitwidth == 32 else (INT64, 52, 1023)
    shifter = 1.5 * 2.0**mantissa  # added to n, it leaves n in the low bits of the sum, whatever the sign

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        (value,) = arguments
        integers = ir.VectorType(integer, n.lanes)
        shifted = b.fadd(value, ir.Constant(value.type, [shifter] * n.lanes))
        biased = b.add(b.bitcast(shifted, integers), ir.Constant(integers, [bias] * n.lanes))
        return b.bitcast(b.shl(biased, ir.Constant(integers, [mantissa] * n.lanes)), value.type)

    return n(n), code


# --------------------------------------------------------------------------------------------------- exponentials

_LOG2_E = 1 / math.log(2)
_SPLIT_LN2 = {  # ln 2 as a sum of two: n times the first is exact, which has few digits
    types.float32: (0.693359375, -2.12194440054690583e-4),
    types.float64: (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}
_TERMS = {types.float32: 7, types.float64: 13}
_RANGE = {types.float32: (-104.0, 89.0), types.float64: (-746.0, 710.0)}
"""Below the first exp is 0, above the second infinite."""


@intrinsic
def _series(typing_context: Any, r: Any) -> Any:
    """1 / 2! + r / 3! + r**2 / 4! + ..., by Horner's rule."""
    coefficients = [1 / math.factorial(k) for k in range(_TERMS[r.dtype], 1, -1)]

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        (value,) = arguments
        total, *rest = [ir.Constant(value.type, [c] * r.lanes) for c in coefficients]
        for c in rest:
            total = emit_fma(b, total, value, c)
        return total

    return r(r), code


def _reduced(x: Any) -> Any:
    """In compiled code: n and exp(r) - 1 of the text on top."""
    raise TypeError("for compiled code only")


@overload(_reduced, strict=False)
def _reduced_overload(x: Any) -> Any:
    high, low = _SPLIT_LN2[x.dtype]

    def reduced(x):  # type: ignore[no-untyped-def]
        n = _nearest(x * _LOG2_E)
        r = fma(n, splat_as(x, -low), fma(n, splat_as(x, -high), x))
        return n, fma(_series(r) * r, r, r)

    return reduced


def exp(x: Any) -> Any:
    """In compiled code: e**x of each lane, to 2 units in the last place; 0 or infinity beyond the range."""
    raise TypeError("for compiled code only")


@overload(exp, strict=False)
def _exp(x: Any) -> Any:
    lowest, highest = _RANGE[x.dtype]

    def code(x):  # type: ignore[no-untyped-def]
        x = select(x < lowest, splat_as(x, lowest), x)
        x = select(x > highest, splat_as(x, highest), x)
        n, rest = _reduced(x)
        half = _nearest(n * 0.5)  # in two steps, since 2**n itself may be too large or too small for a float
        return (rest + 1.0) * _power_of_two(half) * _power_of_two(n - half)

    return code


def expm1_negative(x: Any) -> Any:
    """In compiled code: e**x - 1 for x <= 0, with all digits also near 0; NaN for NaN."""
    raise TypeError("for compiled code only")


@overload(expm1_negative, strict=False)
def _expm1_negative(x: Any) -> Any:
    lowest = -60.0

    def code(x):  # type: ignore[no-untyped-def]
        n, rest = _reduced(select(x < lowest, splat_as(x, lowest), x))
        power = _power_of_two(n)
        return fma(power, rest, power - 1.0)

    return code


@register_jitable
def sigmoid(x):  # type: ignore[no-untyped-def]
    """1 / (1 + e**-x), written so that exp never sees a positive number."""
    z = exp(0.0 - absolute(x))
    return select(x < 0.0, z, splat_as(x, 1.0)) / (z + 1.0)


@register_jitable
def tanh(x):  # type: ignore[no-untyped-def]
    """With e = exp(-2 |x|) - 1: -e / (2 + e), and the sign of x."""
    e = expm1_negative(absolute(x) * -2.0)
    size = (0.0 - e) / (e + 2.0)
    return select(x < 0.0, 0.0 - size, size)


@intrinsic
def splat_as(typing_context: Any, like: Any, number: Any) -> Any:
    """A number of any type, in every lane of a vector of the type of `like`."""

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        scalar = context.cast(b, arguments[1], number, like.dtype)
        return emit_splat(b, scalar, like.lanes)

    return like(like, number), code


# --------------------------------------------------------------------------------------------------- over the lanes


def _emit_halving(b: ir.IRBuilder, value: ir.Value, combine: Any) -> ir.Value:
    """Combine the upper half of the lanes with the lower half, until one is left: always in the same order."""
    lanes = count = value.type.count
    undefined = ir.Constant(value.type, ir.Undefined)
    while lanes > 1:
        lanes //= 2
        order = ir.Constant(ir.VectorType(INT32, count), [(i + lanes) % count for i in range(count)])
        value = combine(value, b.shuffle_vector(value, undefined, order))
    return b.extract_element(value, INT32(0))


@intrinsic
def sum_lanes(typing_context: Any, x: Any) -> Any:
    """The sum of all lanes, in pairs."""

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return _emit_halving(b, arguments[0], b.fadd)

    return x.dtype(x), code


@intrinsic
def max_lanes(typing_context: Any, x: Any) -> Any:
    """The largest of all lanes; what it is among NaN is not said."""

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return _emit_halving(b, arguments[0], lambda u, v: b.select(b.fcmp_ordered(">", u, v), u, v))

    return x.dtype(x), code


@intrinsic
def add_to_float64(typing_context: Any, sums: Any, index: Any, x: Any) -> Any:
    """sums[index : index + LANES] += x, where sums is a one-dimensional array of float64 whatever x is made of."""
    if sums.dtype != types.float64:
        raise TypeError(f"sums are kept in float64. Received: {sums}")

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        array, at, value = arguments
        wide = ir_vector(types.float64, x.lanes)
        if value.type != wide:
            value = b.fpext(value, wide)
        pointer = emit_element(b, context, sums, array, at)
        emit_store(b, pointer, b.fadd(emit_load(b, pointer, wide), value))
        return context.get_dummy_value()

    return types.void(sums, types.int64, x), code


@intrinsic
def load_first_or(typing_context: Any, array: Any, index: Any, count: Any, fill: Any) -> Any:
    """The first `count` lanes from an array, `fill` (a number) in the others."""
    vector = Vector(array.dtype)

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        pointer = emit_element(b, context, array, *arguments[:2])
        mask = emit_mask(b, arguments[2], vector.lanes)
        loaded = emit_masked_load(b, pointer, mask, ir_vector(vector.dtype, vector.lanes))
        filling = emit_splat(b, context.cast(b, arguments[3], fill, array.dtype), vector.lanes)
        return b.select(mask, loaded, filling)

    return vector(array, types.int64, types.int64, fill), code


def scaled_plus(factor: float, x: Any, y: Any) -> Any:
    """factor * x + y of vectors, rounded once; for nopython code only."""
    raise TypeError("scaled_plus runs in compiled code only")


@overload(scaled_plus, strict=False)
def _scaled_plus(factor: Any, x: Any, y: Any) -> Any:
    if not isinstance(x, Vector):
        return None
    dtype = x.dtype
    return lambda factor, x, y: fma(splat(dtype(factor)), x, y)
