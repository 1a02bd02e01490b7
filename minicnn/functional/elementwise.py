"""Elementwise operations: arithmetic, comparison, choice. Both operands broadcast as in NumPy.

Dtypes: Python and NumPy scalars take the tensor's dtype; an integer or bool tensor takes the other operand's floating
dtype; float32 with float64 gives float64. Each backward states the textbook derivative and nothing else: summing over
broadcast axes is the engine's work (`broadcasts = True`).
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from minicnn.autograd import Function
from minicnn.backend import backend_of
from minicnn.dtypes import DEFAULT_DTYPE
from minicnn.kernels.contract import Array
from minicnn.tensor import Tensor

Operand: TypeAlias = Any
"""A tensor, an array, or a number."""


def as_operand(value: Operand) -> Tensor | float | int | bool:
    """Tensors and Python numbers as they are, NumPy scalars as Python numbers, the rest as tensors."""
    if isinstance(value, np.generic):  # before float: numpy.float64 is one, but would widen float32 arrays
        return value.item()
    return value if isinstance(value, (Tensor, float, int)) else Tensor(value)


def as_float(value: Operand, name: str) -> Tensor:
    """A floating point tensor: integers and bools become float32. TypeError where that makes no sense."""
    tensor = value if isinstance(value, Tensor) else Tensor(value)
    if tensor.dtype.kind in "iub":
        return Tensor._wrap(tensor.data.astype(DEFAULT_DTYPE))
    if tensor.dtype.kind != "f":
        raise TypeError(f"{name}: expected numbers. Received: dtype {tensor.dtype}")
    return tensor


def _operands(a: Operand, b: Operand) -> tuple[Any, Any]:
    """Two operands of one kind: an integer tensor beside a floating one is cast, as in PyTorch."""
    a, b = as_operand(a), as_operand(b)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.dtype.kind == "f" and b.dtype.kind != "f":
            b = Tensor._wrap(b.data.astype(a.dtype))
        elif b.dtype.kind == "f" and a.dtype.kind != "f":
            a = Tensor._wrap(a.data.astype(b.dtype))
    elif isinstance(a, Tensor) and isinstance(b, float) and a.dtype.kind != "f":
        a = Tensor._wrap(a.data.astype(DEFAULT_DTYPE))
    elif isinstance(b, Tensor) and isinstance(a, float) and b.dtype.kind != "f":
        b = Tensor._wrap(b.data.astype(DEFAULT_DTYPE))
    return a, b


# --------------------------------------------------------------------------------------------------- arithmetic


class Add(Function):
    broadcasts = True

    def forward(self, a: Array, b: Array) -> Array:
        return a + b

    def backward(self, gy: Tensor) -> Any:
        return gy, gy


class Sub(Function):
    broadcasts = True

    def forward(self, a: Array, b: Array) -> Array:
        return a - b

    def backward(self, gy: Tensor) -> Any:
        return gy, -gy if self.needs_input_grad[1] else None


class Mul(Function):
    broadcasts = True

    def forward(self, a: Array, b: Array) -> Array:
        self.save_for_backward(a, b)
        return a * b

    def backward(self, gy: Tensor) -> Any:
        a, b = self.saved_tensors
        return gy * b if self.needs_input_grad[0] else None, gy * a if self.needs_input_grad[1] else None


class Div(Function):
    broadcasts = True

    def forward(self, a: Array, b: Array) -> Array:
        self.save_for_backward(a, b)
        return a / b

    def backward(self, gy: Tensor) -> Any:
        a, b = self.saved_tensors
        ga = gy / b if self.needs_input_grad[0] else None
        gb = -gy * a / (b * b) if self.needs_input_grad[1] else None
        return ga, gb


class Pow(Function):
    broadcasts = True

    def forward(self, a: Array, b: Array) -> Array:
        y = a**b
        self.save_for_backward(a, b, y)
        return y

    def backward(self, gy: Tensor) -> Any:
        a, b, y = self.saved_tensors
        ga = gy * _power_derivative(a, b) if self.needs_input_grad[0] else None
        gb = gy * y * _safe_log(a) if self.needs_input_grad[1] else None
        return ga, gb


def _power_derivative(a: Any, b: Any) -> Any:
    """b * a**(b - 1); 0 where b is 0, since x**0 is constant, at x = 0 too (0 * 0**-1 would be NaN)."""
    if isinstance(b, Tensor):
        return where(b == 0, 0.0, b * a ** (where(b == 0, 1.0, b) - 1.0))
    return b * a ** (b - 1) if b != 0 else 0.0


def _safe_log(a: Any) -> Any:
    """log(a), but 0 at 0: the limit of a**b * log(a) for b > 0."""
    if isinstance(a, Tensor):
        return log(where(a == 0, 1.0, a))
    return math.log(a) if a > 0 else 0.0 if a == 0 else math.nan


class Neg(Function):
    def forward(self, x: Array) -> Array:
        return -x

    def backward(self, gy: Tensor) -> Tensor:
        return -gy


def add(a: Operand, b: Operand) -> Tensor:
    """a + b."""
    return Add.apply(*_operands(a, b))


def sub(a: Operand, b: Operand) -> Tensor:
    """a - b."""
    return Sub.apply(*_operands(a, b))


def mul(a: Operand, b: Operand) -> Tensor:
    """a * b."""
    return Mul.apply(*_operands(a, b))


def div(a: Operand, b: Operand) -> Tensor:
    """a / b, of floating dtype."""
    a, b = _operands(a, b)
    if not any(isinstance(value, Tensor) and value.dtype.kind == "f" for value in (a, b)):
        a = as_float(a, "div")
        b = as_float(b, "div") if isinstance(b, Tensor) else b
    return Div.apply(a, b)


def pow(a: Operand, b: Operand) -> Tensor:
    """a ** b. The gradient with respect to b is that of a > 0 (0 where a is 0)."""
    return Pow.apply(*_operands(a, b))


def neg(x: Operand) -> Tensor:
    """-x."""
    return Neg.apply(as_operand(x))


# --------------------------------------------------------------------------------------------------- functions of one


class Exp(Function):
    def forward(self, x: Array) -> Array:
        y = self.xp.exp(x)
        self.save_for_backward(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved_tensors
        return gy * y


class Log(Function):
    def forward(self, x: Array) -> Array:
        self.save_for_backward(x)
        return self.xp.log(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved_tensors
        return gy / x


class Sqrt(Function):
    def forward(self, x: Array) -> Array:
        y = self.xp.sqrt(x)
        self.save_for_backward(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved_tensors
        return gy / (2.0 * y)


class Abs(Function):
    def forward(self, x: Array) -> Array:
        self.save_for_backward(x)
        return self.xp.abs(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved_tensors
        return gy * sign(x)


class Sin(Function):
    def forward(self, x: Array) -> Array:
        self.save_for_backward(x)
        return self.xp.sin(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved_tensors
        return gy * cos(x)


class Cos(Function):
    def forward(self, x: Array) -> Array:
        self.save_for_backward(x)
        return self.xp.cos(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved_tensors
        return -gy * sin(x)


class Clip(Function):
    def forward(self, x: Array, low: float | None, high: float | None) -> Array:
        inside = self.xp.ones(x.shape, dtype=bool)
        if low is not None:
            inside &= x >= low
        if high is not None:
            inside &= x <= high
        self.inside = inside
        return self.xp.clip(x, low, high)

    def backward(self, gy: Tensor) -> Any:
        return where(Tensor._wrap(self.inside), gy, 0.0), None, None


def exp(x: Operand) -> Tensor:
    """e ** x."""
    return Exp.apply(as_float(x, "exp"))


def log(x: Operand) -> Tensor:
    """Natural logarithm."""
    return Log.apply(as_float(x, "log"))


def sqrt(x: Operand) -> Tensor:
    """Square root; its gradient at 0 is infinite."""
    return Sqrt.apply(as_float(x, "sqrt"))


def square(x: Operand) -> Tensor:
    """x * x."""
    return mul(x, x)


def abs(x: Operand) -> Tensor:
    """|x|; its gradient at 0 is 0."""
    return Abs.apply(x if isinstance(x, Tensor) else Tensor(x))


def sin(x: Operand) -> Tensor:
    """Sine of radians."""
    return Sin.apply(as_float(x, "sin"))


def cos(x: Operand) -> Tensor:
    """Cosine of radians."""
    return Cos.apply(as_float(x, "cos"))


def clip(x: Operand, min: float | None = None, max: float | None = None) -> Tensor:
    """x held within [min, max]; the gradient passes where x lies inside, borders included, as in PyTorch.

    Raises ValueError where both limits are None.
    """
    if min is None and max is None:
        raise ValueError("clip: at least one of min, max is needed. Received: min=None, max=None")
    return Clip.apply(x if isinstance(x, Tensor) else Tensor(x), min, max)


def sign(x: Operand) -> Tensor:
    """-1, 0 or 1. Constant almost everywhere: no gradient."""
    tensor = x if isinstance(x, Tensor) else Tensor(x)
    return Tensor._wrap(backend_of(tensor.data).xp.sign(tensor.data))


# --------------------------------------------------------------------------------------------------- choice


class Where(Function):
    broadcasts = True

    def forward(self, condition: Array, a: Array, b: Array) -> Array:
        self.condition = condition
        return self.xp.where(condition, a, b)

    def backward(self, gy: Tensor) -> Any:
        condition = Tensor._wrap(self.condition)
        ga = where(condition, gy, 0.0) if self.needs_input_grad[1] else None
        gb = where(condition, 0.0, gy) if self.needs_input_grad[2] else None
        return None, ga, gb


class Maximum(Function):
    """The gradient goes to the larger; where both are equal each gets half, as in PyTorch."""

    broadcasts = True

    def forward(self, a: Array, b: Array) -> Array:
        self.save_for_backward(a, b)
        return self.xp.maximum(a, b)

    def backward(self, gy: Tensor) -> Any:
        a, b = (as_operand(value) for value in self.saved_tensors)
        return _share(gy, a > b, a == b), _share(gy, b > a, a == b)


class Minimum(Function):
    """The gradient goes to the smaller; where both are equal each gets half, as in PyTorch."""

    broadcasts = True

    def forward(self, a: Array, b: Array) -> Array:
        self.save_for_backward(a, b)
        return self.xp.minimum(a, b)

    def backward(self, gy: Tensor) -> Any:
        a, b = (as_operand(value) for value in self.saved_tensors)
        return _share(gy, a < b, a == b), _share(gy, b < a, a == b)


def _share(gy: Tensor, wins: Any, ties: Any) -> Tensor:
    return where(wins, gy, where(ties, gy * 0.5, 0.0))


def where(condition: Operand, a: Operand, b: Operand) -> Tensor:
    """a where the condition holds, b elsewhere; all three broadcast.

    condition: bool tensor or array, or a bool. Raises TypeError for another dtype.
    """
    mask = condition if isinstance(condition, Tensor) else Tensor(condition)
    if mask.dtype.kind != "b":
        raise TypeError(f"where: condition must be bool (write x != 0). Received: dtype {mask.dtype}")
    return Where.apply(mask, *_operands(a, b))


def maximum(a: Operand, b: Operand) -> Tensor:
    """The larger of the two, elementwise; NaN wins."""
    return Maximum.apply(*_operands(a, b))


def minimum(a: Operand, b: Operand) -> Tensor:
    """The smaller of the two, elementwise; NaN wins."""
    return Minimum.apply(*_operands(a, b))
