"""Comparisons and logic: bool tensors, which have no gradient."""

from __future__ import annotations

from minicnn.backend import common_backend
from minicnn.functional.elementwise import Operand
from minicnn.tensor import Tensor


def _evaluate(ufunc: str, *operands: Operand) -> Tensor:
    """The array module's function of that name on the operands' arrays."""
    xp = common_backend([x.data for x in operands if isinstance(x, Tensor)], ufunc).xp
    return Tensor._wrap(xp.asarray(getattr(xp, ufunc)(*[x.data if isinstance(x, Tensor) else x for x in operands])))


def eq(a: Operand, b: Operand) -> Tensor:
    """a == b, elementwise."""
    return _evaluate("equal", a, b)


def ne(a: Operand, b: Operand) -> Tensor:
    """a != b, elementwise."""
    return _evaluate("not_equal", a, b)


def lt(a: Operand, b: Operand) -> Tensor:
    """a < b, elementwise."""
    return _evaluate("less", a, b)


def le(a: Operand, b: Operand) -> Tensor:
    """a <= b, elementwise."""
    return _evaluate("less_equal", a, b)


def gt(a: Operand, b: Operand) -> Tensor:
    """a > b, elementwise."""
    return _evaluate("greater", a, b)


def ge(a: Operand, b: Operand) -> Tensor:
    """a >= b, elementwise."""
    return _evaluate("greater_equal", a, b)


def logical_and(a: Operand, b: Operand) -> Tensor:
    """Both true (non-zero)."""
    return _evaluate("logical_and", a, b)


def logical_or(a: Operand, b: Operand) -> Tensor:
    """Either true (non-zero)."""
    return _evaluate("logical_or", a, b)


def logical_not(x: Operand) -> Tensor:
    """False (zero)."""
    return _evaluate("logical_not", x)


def isnan(x: Operand) -> Tensor:
    """Not a number."""
    return _evaluate("isnan", x)
