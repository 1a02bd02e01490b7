"""Reductions over axes: sums, extremes, moments, and the running sum.

Arguments are PyTorch's: dim (an axis, several, or None for all) and keepdim; NumPy's spellings axis and keepdims are
taken as well, as PyTorch does. Extremes share their gradient evenly among equals.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from minicnn.autograd import Function
from minicnn.backend import backend_of, is_kernel_input
from minicnn.functional.elementwise import as_float, exp, log, sqrt, square, where
from minicnn.functional.shape import flip, normalize_dim, pad, permute, reshape
from minicnn.kernels.contract import Array
from minicnn.tensor import Dims, Tensor

_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}


def _numpy_names(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let `axis` and `keepdims` stand for `dim` and `keepdim`."""

    @functools.wraps(function)
    def renamed(x: Any, *args: Any, **options: Any) -> Tensor:
        if options and not _NUMPY_NAMES.keys().isdisjoint(options):
            taken = {**dict(zip(("dim", "keepdim"), args, strict=False)), **options}
            for numpy_name, name in _NUMPY_NAMES.items():
                if numpy_name in taken:
                    taken[name] = taken.pop(numpy_name)
            return function(x if isinstance(x, Tensor) else Tensor(x), *args[2:], **taken)
        return function(x if isinstance(x, Tensor) else Tensor(x), *args, **options)

    return renamed


def _axes(dim: Dims, ndim: int, caller: str) -> tuple[int, ...]:
    if dim is None:
        return tuple(range(ndim))
    axes = tuple(normalize_dim(d, ndim, caller) for d in ([dim] if isinstance(dim, int) else dim))
    if len(set(axes)) != len(axes):
        raise ValueError(f"{caller}: each axis may be named once. Received: dim={dim}")
    return axes


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with reduced axes of length 1."""
    return tuple(1 if i in axes else size for i, size in enumerate(shape))


def _count(x: Tensor, axes: tuple[int, ...]) -> int:
    return math.prod(x.shape[axis] for axis in axes)


class Sum(Function):
    """Sum over axes, divided by a number: 1, or for a mean the count."""

    def forward(self, x: Array, axes: tuple[int, ...], keepdim: bool, divisor: float) -> Array:
        self.options = {"shape": x.shape, "axes": axes, "keepdim": keepdim, "divisor": divisor}
        if axes == tuple(range(x.ndim - 1)) and x.ndim > 1 and x.dtype.kind == "f" and is_kernel_input(x):
            y = self.kernels.bias_grad(x).reshape(_kept(x.shape, axes) if keepdim else x.shape[-1:])
        else:
            y = x.sum(axis=axes, keepdims=keepdim)
        return y if divisor == 1 else y / divisor

    def backward(self, gy: Tensor) -> Any:
        return Spread.apply(gy, **self.options), None, None, None


class Spread(Function):
    """The adjoint of Sum: each number, divided, at all the elements that it was the sum of."""

    def forward(self, gy: Array, shape: tuple[int, ...], axes: tuple[int, ...], keepdim: bool, divisor: float) -> Array:
        self.arguments = axes, keepdim, divisor
        gx = self.xp.empty(shape, gy.dtype)
        gx[...] = (gy if divisor == 1 else gy / divisor).reshape(_kept(shape, axes))
        return gx

    def backward(self, ggx: Tensor) -> Tensor:
        return Sum.apply(ggx, *self.arguments)


class Extreme(Function):
    """Maximum or minimum over axes."""

    def forward(self, x: Array, axes: tuple[int, ...], keepdim: bool, largest: bool) -> Array:
        y = (x.max if largest else x.min)(axis=axes, keepdims=True)
        if self.needs_input_grad[0]:
            equal = (x == y) | (x != x)  # a NaN is the extreme, though it does not equal itself
            self.share = equal / equal.sum(axis=axes, keepdims=True, dtype=x.dtype)  # each of m equals gets 1/m
        self.kept = y.shape
        return y if keepdim else y.squeeze(axes)

    def backward(self, gy: Tensor) -> Any:
        return gy.reshape(self.kept) * Tensor._wrap(self.share), None, None, None


class CumSum(Function):
    def forward(self, x: Array, dim: int) -> Array:
        self.dim = dim
        return x.cumsum(axis=dim)

    def backward(self, gy: Tensor) -> Any:
        return flip(cumsum(flip(gy, self.dim), self.dim), self.dim), None


@_numpy_names
def sum(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Sum over axes. Bools are counted."""
    return Sum.apply(x, _axes(dim, x.ndim, "sum"), keepdim, 1.0)


@_numpy_names
def mean(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Mean over axes; integers are taken as float32."""
    x = as_float(x, "mean")
    axes = _axes(dim, x.ndim, "mean")
    return Sum.apply(x, axes, keepdim, float(_count(x, axes)))


@_numpy_names
def var(x: Tensor, dim: Dims = None, keepdim: bool = False, correction: int = 0) -> Tensor:
    """Variance over axes, divided by the count - correction.

    The default is the population variance (NumPy, Keras); PyTorch's default is correction=1.
    """
    x = as_float(x, "var")
    axes = _axes(dim, x.ndim, "var")
    return sum(square(x - mean(x, axes, True)), axes, keepdim) / float(_count(x, axes) - correction)


@_numpy_names
def std(x: Tensor, dim: Dims = None, keepdim: bool = False, correction: int = 0) -> Tensor:
    """Square root of `var`."""
    return sqrt(var(x, dim, keepdim, correction))


def _extreme(x: Tensor, dim: Dims, keepdim: bool, largest: bool, caller: str) -> Tensor:
    axes = _axes(dim, x.ndim, caller)
    if _count(x, axes) == 0:
        raise ValueError(f"{caller}: an empty axis has no extreme. Received: shape {x.shape}, dim={dim}")
    return Extreme.apply(x, axes, keepdim, largest)


@_numpy_names
def max(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Largest value over axes (values only, as torch.amax); NaN wins."""
    return _extreme(x, dim, keepdim, True, "max")


@_numpy_names
def min(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Smallest value over axes (values only, as torch.amin); NaN wins."""
    return _extreme(x, dim, keepdim, False, "min")


@_numpy_names
def prod(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Product over axes. Its gradient is right where factors are 0, too."""
    axes = _axes(dim, x.ndim, "prod")
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    factors = permute(x, (*rest, *axes)).reshape(*[x.shape[i] for i in rest], _count(x, axes))
    result = _pairwise_product(factors)
    return reshape(result, _kept(x.shape, axes)) if keepdim else result


def _pairwise_product(x: Tensor) -> Tensor:
    """Product over the last axis by halving: log2(length) differentiable multiplications, no division."""
    while (length := x.shape[-1]) != 1:
        if length % 2 or length == 0:
            x = pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 1)], value=1)
        half = x.shape[-1] // 2
        x = x[..., :half] * x[..., half:] if half else x
    return x[..., 0]


@_numpy_names
def logsumexp(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))) without overflow."""
    x = as_float(x, "logsumexp")
    axes = _axes(dim, x.ndim, "logsumexp")
    top = max(x, axes, True).detach()
    top = where(isfinite(top), top, 0.0)  # all -inf (or inf) would make inf - inf
    result = log(sum(exp(x - top), axes, True)) + top
    return result if keepdim else reshape(result, tuple(s for i, s in enumerate(x.shape) if i not in axes))


def isfinite(x: Tensor) -> Tensor:
    """Neither infinite nor NaN."""
    return Tensor._wrap(backend_of(x.data).xp.isfinite(x.data))


@_numpy_names
def cumsum(x: Tensor, dim: int = 0) -> Tensor:
    """Running sum along one axis."""
    return CumSum.apply(x, normalize_dim(dim, x.ndim, "cumsum"))


def _without_gradient(name: str, x: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    xp = backend_of(x.data).xp
    axis = None if dim is None else _axes(dim, x.ndim, name)
    if name.startswith("arg") and axis is not None:
        (axis,) = axis  # type: ignore[assignment]
    return Tensor._wrap(xp.asarray(getattr(xp, name)(x.data, axis=axis, keepdims=keepdim)))


@_numpy_names
def argmax(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Index of the largest value along an axis (int64), or in the flattened tensor; the first of equals."""
    return _without_gradient("argmax", x, dim, keepdim)


@_numpy_names
def argmin(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Index of the smallest value along an axis (int64), or in the flattened tensor; the first of equals."""
    return _without_gradient("argmin", x, dim, keepdim)


@_numpy_names
def all(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether all are true (non-zero)."""
    return _without_gradient("all", x, dim, keepdim)


@_numpy_names
def any(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether any is true (non-zero)."""
    return _without_gradient("any", x, dim, keepdim)
