"""Activations: elementwise functions of any shape, softmax and its logarithm along one axis.

Glossary  x input, y = f(x) output, gy the gradient arriving at y. The six that the kernels know by name have a
          derivative f'(x) = d(y) told from their output; gradients of gradients need the derivative of d.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.autograd import Function
from minicnn.functional.arguments import as_kernel_input, check_positive
from minicnn.functional.elementwise import abs, exp, where
from minicnn.functional.shape import normalize_dim
from minicnn.kernels.contract import ActivationName, Array, EpilogueName
from minicnn.tensor import Tensor

__all__ = [
    "activation_backward",
    "activation_bias_backward",
    "bias_grad",
    "elu",
    "exponential",
    "gelu",
    "hard_sigmoid",
    "leaky_relu",
    "log_softmax",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
]

EPILOGUES: tuple[EpilogueName, ...] = ("relu", "relu6", "sigmoid", "tanh")
"""What convolutions and dense layers can apply in passing."""

# --------------------------------------------------------------------------------------------------- by kernel


class Activation(Function):
    """y = f(x) by kernel."""

    def forward(self, x: Array, name: ActivationName, alpha: float) -> Array:
        y = self.kernels.activation(x, name, alpha)
        self.name_and_alpha = name, alpha
        self.save_for_backward(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved_tensors
        return activation_backward(gy, y, *self.name_and_alpha)


class ActivationGrad(Function):
    """gx = gy * d(y) by kernel: linear in gy, and differentiable in y."""

    def forward(self, gy: Array, y: Array, name: ActivationName, alpha: float) -> Array:
        self.name_and_alpha = name, alpha
        self.save_for_backward(gy, y)
        return self.kernels.activation_backward(gy, y, name, alpha)

    def backward(self, ggx: Tensor) -> Any:
        gy, y = self.saved_tensors
        name, alpha = self.name_and_alpha
        ggy = activation_backward(ggx, y, name, alpha) if self.needs_input_grad[0] else None
        bends = self.needs_input_grad[1] and name in _DERIVATIVE_OF_D
        return ggy, ggx * gy * _DERIVATIVE_OF_D[name](y) if bends else None


class BiasGrad(Function):
    """gb = gy summed over all axes but the last: the adjoint of adding a bias."""

    def forward(self, gy: Array) -> Array:
        self.shape = gy.shape
        return self.kernels.bias_grad(gy)

    def backward(self, ggb: Tensor) -> Tensor:
        return ggb.expand(self.shape)


class ActivationBiasGrad(ActivationGrad):
    """gz = gy * d(y) and gb, its sum over all axes but the last, in one pass."""

    def forward(self, gy: Array, y: Array, name: ActivationName, alpha: float) -> Any:
        self.name_and_alpha = name, alpha
        self.save_for_backward(gy, y)
        return self.kernels.activation_bias_backward(gy, y, name, alpha)

    def backward(self, ggz: Tensor, ggb: Tensor) -> Any:  # type: ignore[override]
        return super().backward(ggz + ggb)  # ggb arrives at each element that it is the sum of


_DERIVATIVE_OF_D: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda y: 1 - 2 * y,  # d = y * (1 - y)
    "tanh": lambda y: -2 * y,  # d = 1 - y**2
    "elu": lambda y: (y <= 0).to(y.dtype),  # d = y + alpha on the negative side
}  # the others are straight lines with kinks: d does not change with y


def _activation(x: Tensor, name: ActivationName, alpha: float = 0.0) -> Tensor:
    return Activation.apply(as_kernel_input(x, f"{name}: x"), name=name, alpha=alpha)


def activation_backward(gy: Tensor, y: Tensor, name: ActivationName, alpha: float = 0.0) -> Tensor:
    """gy times the activation's derivative, told from its output y; gy and y of one shape.

    name: relu, relu6, leaky_relu, elu, sigmoid or tanh; alpha: the slope of leaky_relu, the scale of elu.
    """
    gy, y = as_kernel_input(gy, "activation_backward: gy"), as_kernel_input(y, "activation_backward: y")
    return ActivationGrad.apply(gy, y, name=name, alpha=alpha)


def bias_grad(gy: Tensor) -> Tensor:
    """gy (..., F) summed over all axes but the last, (F,): the gradient of a bias that was added everywhere."""
    return BiasGrad.apply(as_kernel_input(gy, "bias_grad: gy"))


def activation_bias_backward(gy: Tensor, y: Tensor, name: ActivationName, alpha: float = 0.0) -> tuple[Tensor, Tensor]:
    """`activation_backward`, and the `bias_grad` of it, in one pass over the memory."""
    gy, y = as_kernel_input(gy, "activation_bias_backward: gy"), as_kernel_input(y, "activation_bias_backward: y")
    gz, gb = ActivationBiasGrad.apply(gy, y, name=name, alpha=alpha)
    return gz, gb


def epilogue_backward(
    gy: Tensor, y: Tensor | None, activation: EpilogueName | None, bias: bool
) -> tuple[Tensor, Tensor | None]:
    """The way back through what dense and conv2d apply in passing: the gradient before the activation, and the bias'.

    gy: as kernels take it. y: the output, needed where there was an activation. bias: whether a bias' gradient is
    wanted.
    """
    if activation is None or y is None:
        return gy, BiasGrad.apply(gy) if bias else None
    if bias:
        gz, gb = ActivationBiasGrad.apply(gy, y, name=activation, alpha=0.0)
        return gz, gb
    return ActivationGrad.apply(gy, y, name=activation, alpha=0.0), None


def relu(x: Tensor) -> Tensor:
    """max(x, 0); its gradient at 0 is 0."""
    return _activation(x, "relu")


def relu6(x: Tensor) -> Tensor:
    """min(max(x, 0), 6); its gradient at 0 and 6 is 0."""
    return _activation(x, "relu6")


def leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Tensor:
    """x where positive, negative_slope * x elsewhere.

    The default is that of keras.ops.leaky_relu (its layer has 0.3); PyTorch's is 0.01.
    Raises ValueError for a slope that is not positive: for 0 there is relu.
    """
    check_positive(negative_slope, "leaky_relu: negative_slope")
    return _activation(x, "leaky_relu", negative_slope)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where positive, alpha * (exp(x) - 1) elsewhere (Clevert et al. 2016). Raises ValueError unless alpha > 0."""
    check_positive(alpha, "elu: alpha")
    return _activation(x, "elu", alpha)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), without overflow."""
    return _activation(x, "sigmoid")


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return _activation(x, "tanh")


# --------------------------------------------------------------------------------------------------- composed


class Softplus(Function):
    def forward(self, x: Array) -> Array:
        self.save_for_backward(x)
        return self.xp.maximum(x, 0) + self.xp.log1p(self.xp.exp(-self.xp.abs(x)))  # exp never sees a positive number

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved_tensors
        return gy * sigmoid(x)


class Erf(Function):
    """The error function, 2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x."""

    def forward(self, x: Array) -> Array:
        self.save_for_backward(x)
        # erf(x) = 2 / sqrt(pi) * exp(-x**2) * sum_n 2**n * x**(2n+1) / (1 * 3 * ... * (2n+1)): terms of one sign, so
        # nothing cancels. In float64, and only to +-6, where erf is 1 to the last digit.
        z = self.xp.clip(x, -6, 6).astype(np.float64)
        term = z
        total = z.copy()
        for n in range(1, 150):  # at 6 the terms fall below the last digit of the total after 130
            term = term * (2 * z * z / (2 * n + 1))
            total += term
            if not (self.xp.abs(term) > 1e-17 * self.xp.abs(total)).any():
                break
        return (2 / math.sqrt(math.pi) * self.xp.exp(-z * z) * total).astype(x.dtype)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved_tensors
        return gy * exp(-x * x) * (2 / math.sqrt(math.pi))


def selu(x: Tensor) -> Tensor:
    """scale * elu(x, alpha) with the two constants that keep mean 0 and variance 1 (Klambauer et al. 2017)."""
    return elu(x, alpha=1.6732632423543772) * 1.0507009873554805


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), without overflow."""
    return Softplus.apply(as_kernel_input(x, "softplus: x"))


def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    x = as_kernel_input(x, "softsign: x")
    return x / (1 + abs(x))


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x), also called swish."""
    x = as_kernel_input(x, "silu: x")
    return x * sigmoid(x)


def gelu(x: Tensor, approximate: bool = False) -> Tensor:
    """x * P(a standard normal number is below x) (Hendrycks and Gimpel 2016).

    Exact by default, as in Keras and PyTorch; approximate: by the authors' tanh formula.
    """
    x = as_kernel_input(x, "gelu: x")
    if approximate:
        return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + Erf.apply(x * math.sqrt(0.5)))


def hard_sigmoid(x: Tensor) -> Tensor:
    """min(max(x + 3, 0), 6) / 6, as Keras 3 and PyTorch (Keras 2 had slope 0.2)."""
    return relu6(as_kernel_input(x, "hard_sigmoid: x") + 3) / 6


def mish(x: Tensor) -> Tensor:
    """x * tanh(softplus(x)) (Misra 2019)."""
    x = as_kernel_input(x, "mish: x")
    return x * tanh(softplus(x))


def exponential(x: Tensor) -> Tensor:
    """e ** x, the activation of that name in Keras."""
    return exp(as_kernel_input(x, "exponential: x"))


def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """x where positive, alpha * x elsewhere, alpha being learned (He et al. 2015).

    alpha broadcasts to x: (C,) for one slope a channel, x.shape[1:] as in Keras' layer. ValueError where it cannot.
    """
    x = as_kernel_input(x, "prelu: x")
    sizes = zip(reversed(alpha.shape), reversed(x.shape), strict=False)
    if alpha.ndim > x.ndim or any(a not in (1, size) for a, size in sizes):
        raise ValueError(f"prelu: alpha must broadcast to x. Received: alpha {alpha.shape}, x {x.shape}")
    return where(x > 0, x, alpha * x)


# --------------------------------------------------------------------------------------------------- softmax


class Softmax(Function):
    def forward(self, x: Array) -> Array:
        y = self.kernels.softmax(x)
        self.save_for_backward(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved_tensors
        return y * (gy - (gy * y).sum(-1, keepdim=True))


class LogSoftmax(Function):
    def forward(self, x: Array) -> Array:
        y = self.kernels.log_softmax(x)
        self.save_for_backward(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved_tensors
        return gy - exp(y) * gy.sum(-1, keepdim=True)


def _along(function: type[Function], x: Tensor, dim: int, caller: str) -> Tensor:
    """A function of the last axis, along axis `dim`."""
    axis = normalize_dim(dim, x.ndim, caller)
    if axis == x.ndim - 1:
        return function.apply(as_kernel_input(x, f"{caller}: x"))
    rows = as_kernel_input(x.transpose(axis, -1), f"{caller}: x")
    return function.apply(rows).transpose(axis, -1)


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis, without overflow. Raises ValueError where x has no such axis."""
    return _along(Softmax, x, dim, "softmax")


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """x - logsumexp(x) along an axis: the logarithm of softmax, exact where softmax itself rounds to 0.

    Raises ValueError where x has no such axis.
    """
    return _along(LogSoftmax, x, dim, "log_softmax")
