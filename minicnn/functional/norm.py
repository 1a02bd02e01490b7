"""Normalization: batch, layer, group, and local response.

Glossary  N batch, C channels (always the last axis), P positions of a sample, G groups of channels.
          u = (x - mean) / sqrt(var + epsilon), the normalized x; y = gamma * u + beta.
          Variances are the population's: divided by the count, not by the count - 1.

Forward and backward are fused kernels, each a Function. The backward of a backward is found by `vjp` from a composed
twin, the same formula in tensor operations.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from minicnn.autograd import Function
from minicnn.backend import backend_of
from minicnn.functional.activation import activation_backward
from minicnn.functional.arguments import (
    as_kernel_input,
    check_choice,
    check_integer,
    check_number,
    check_positive,
    check_same_dtype,
    check_shape,
)
from minicnn.functional.elementwise import sqrt, where
from minicnn.functional.linalg import matmul
from minicnn.functional.shape import normalize_dim
from minicnn.functional.twin import vjp
from minicnn.kernels.contract import Array
from minicnn.modes import no_grad
from minicnn.tensor import Tensor

__all__ = ["batch_norm", "group_norm", "layer_norm", "local_response_norm"]


# --------------------------------------------------------------------------------------------------- batch norm


class BatchNorm(Function):
    """y; in passing, the running mean and variance are moved towards the batch's."""

    def forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        epsilon: float,
        activation: Literal["relu"] | None,
        running: tuple[Array, Array] | None,
        momentum: float,
    ) -> Array:
        y, mean, var = self.kernels.batch_norm(x, gamma, beta, epsilon, activation)
        if running is not None:
            _move(running[0], mean, momentum)
            _move(running[1], var, momentum)
        self.options = {"mean": mean, "var": var, "epsilon": epsilon}
        self.save_for_backward(x, gamma, None if activation is None else y)
        return y

    def backward(self, gy: Tensor) -> Any:
        x, gamma, y = self.saved_tensors
        return BatchNormBackward.apply(as_kernel_input(gy, "batch_norm: gy"), x, gamma, y, **self.options)


def _move(running: Array, batch: Array, momentum: float) -> None:
    on_host = type(running) is np.ndarray
    keep, take = _shares(momentum, running.dtype) if on_host else (momentum, 1 - momentum)
    running *= keep
    running += batch * take


@functools.lru_cache(maxsize=64)
def _shares(momentum: float, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """momentum and 1 - momentum as arrays, which NumPy multiplies by sooner than by numbers of Python."""
    return np.array(momentum, dtype), np.array(1 - momentum, dtype)


class BatchNormBackward(Function):
    """y is the output where a relu made it, else None. It only says where gy counts, so it gets no gradient."""

    def forward(
        self, gy: Array, x: Array, gamma: Array, y: Array | None, mean: Array, var: Array, epsilon: float
    ) -> tuple[Array, Array, Array]:
        self.epsilon = epsilon
        self.save_for_backward(gy, x, gamma, y)
        return self.kernels.batch_norm_backward(gy, x, gamma, mean, var, epsilon, y)

    def backward(self, *cotangents: Tensor) -> Any:
        *inputs, y = self.saved_tensors
        counts = None if y is None else y.detach() > 0
        twin = partial(_batch_norm_gradients, epsilon=self.epsilon, counts=counts)
        return *vjp(twin, inputs, cotangents), None


class BatchNormInference(Function):
    def forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        var: Array,
        epsilon: float,
        activation: Literal["relu"] | None,
    ) -> Array:
        y = self.kernels.batch_norm_inference(x, gamma, beta, mean, var, epsilon, activation)
        self.epsilon = epsilon
        self.save_for_backward(x, gamma, mean, var, None if activation is None else y)
        return y

    def backward(self, gy: Tensor) -> Any:
        x, gamma, mean, var, y = self.saved_tensors
        if y is not None:
            gy = activation_backward(gy, y, "relu")
        std = sqrt(var + self.epsilon)
        batch_axes = tuple(range(x.ndim - 1))
        gx = gy * (gamma / std) if self.needs_input_grad[0] else None
        ggamma = (gy * ((x - mean) / std)).sum(batch_axes) if self.needs_input_grad[1] else None
        gbeta = gy.sum(batch_axes) if self.needs_input_grad[2] else None
        return gx, ggamma, gbeta, None, None


def _batch_norm_gradients(
    gy: Tensor, x: Tensor, gamma: Tensor, epsilon: float, counts: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The twin of kernels.batch_norm_backward; counts: where the relu let gy through."""
    gy = gy if counts is None else where(counts, gy, 0.0)
    batch_axes = tuple(range(x.ndim - 1))
    gx, u = _input_gradient(gy * gamma, x, batch_axes, epsilon)
    return gx, (gy * u).sum(batch_axes), gy.sum(batch_axes)


def _input_gradient(gu: Tensor, x: Tensor, axes: tuple[int, ...], epsilon: float) -> tuple[Tensor, Tensor]:
    """Gradient of sum(gu * u) with respect to x, mean and variance being taken over `axes`; and u."""
    centered = x - x.mean(axes, keepdim=True)
    std = sqrt((centered * centered).mean(axes, keepdim=True) + epsilon)
    u = centered / std
    return (gu - gu.mean(axes, keepdim=True) - u * (gu * u).mean(axes, keepdim=True)) / std, u


def batch_norm(
    x: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    activation: Literal["relu"] | None = None,
) -> Tensor:
    """Normalize each channel over all axes but the last (Ioffe and Szegedy 2015): x (..., C) -> (..., C).

    gamma, beta, running_mean, running_var: (C,) or None, meaning scale 1, shift 0, no running statistics.
    training: use the batch's statistics, and move the running ones towards them, in place:
    running = momentum * running + (1 - momentum) * batch. Else: use the running ones, as constants.
    activation: None, or "relu", applied in passing.

    Defaults and rules are Keras'. PyTorch's momentum is 1 - this one (0.1), its epsilon 1e-5, and its running variance
    takes in the batch's unbiased variance, n / (n - 1) times larger.
    Raises ValueError for shapes that are not (C,), and where running statistics are needed and missing.
    """
    shape = x.data.shape[-1:]
    x, gamma, beta = _arguments(x, gamma, beta, shape, "batch_norm")
    check_shape(running_mean, shape, "batch_norm: running_mean")
    check_shape(running_var, shape, "batch_norm: running_var")
    check_number(momentum, "batch_norm: momentum", 0, 1)
    check_positive(epsilon, "batch_norm: epsilon")
    if activation is not None:
        check_choice(activation, ("relu",), "batch_norm: activation")
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: running_mean and running_var belong together. Received: only one of them")
    if training:
        running = None
        if running_mean is not None and running_var is not None:
            with no_grad():
                running = running_mean._edit(), running_var._edit()
        options = {"epsilon": epsilon, "activation": activation, "running": running, "momentum": momentum}
        return BatchNorm.apply(x, gamma, beta, **options)
    if running_mean is None or running_var is None:
        raise ValueError("batch_norm: training=False needs running_mean and running_var. Received: None")
    check_same_dtype("batch_norm", x=x, running_mean=running_mean, running_var=running_var)
    statistics = [as_kernel_input(t.detach(), "batch_norm: statistics") for t in (running_mean, running_var)]
    return BatchNormInference.apply(x, gamma, beta, *statistics, epsilon=epsilon, activation=activation)


def _arguments(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, shape: tuple[int, ...], caller: str
) -> tuple[Tensor, Tensor, Tensor]:
    """x, gamma and beta, checked; the latter two made where they are None."""
    x = as_kernel_input(x, f"{caller}: x")
    if len(x.data.shape) < 2 or 0 in x.data.shape:
        raise ValueError(
            f"{caller}: x must have a batch axis and a channel axis, none empty. Received: shape {x.shape}"
        )
    gamma = _filled(1, shape, x) if gamma is None else as_kernel_input(gamma, f"{caller}: gamma")
    beta = _filled(0, shape, x) if beta is None else as_kernel_input(beta, f"{caller}: beta")
    check_shape(gamma, shape, f"{caller}: gamma")
    check_shape(beta, shape, f"{caller}: beta")
    check_same_dtype(caller, x=x, gamma=gamma, beta=beta)
    return x, gamma, beta


def _filled(value: float, shape: tuple[int, ...], like: Tensor) -> Tensor:
    return Tensor._wrap(backend_of(like.data).xp.full(shape, value, like.dtype))


# --------------------------------------------------------------------------------------------------- group, layer norm


class GroupNorm(Function):
    """x (N, P, C), gamma and beta (P or 1, C)."""

    def forward(self, x: Array, gamma: Array, beta: Array, groups: int, epsilon: float) -> Array:
        y, mean, var = self.kernels.group_norm(x, gamma, beta, groups, epsilon)
        self.options = {"mean": mean, "var": var, "groups": groups, "epsilon": epsilon}
        self.save_for_backward(x, gamma)
        return y

    def backward(self, gy: Tensor) -> Any:
        x, gamma = self.saved_tensors
        return GroupNormBackward.apply(as_kernel_input(gy, "group_norm: gy"), x, gamma, **self.options)


class GroupNormBackward(Function):
    def forward(
        self, gy: Array, x: Array, gamma: Array, mean: Array, var: Array, groups: int, epsilon: float
    ) -> tuple[Array, Array, Array]:
        self.groups, self.epsilon = groups, epsilon
        self.save_for_backward(gy, x, gamma)
        return self.kernels.group_norm_backward(gy, x, gamma, mean, var, groups, epsilon)

    def backward(self, *cotangents: Tensor) -> Any:
        twin = partial(_group_norm_gradients, groups=self.groups, epsilon=self.epsilon)
        return vjp(twin, self.saved_tensors, cotangents)


def _group_norm_gradients(
    gy: Tensor, x: Tensor, gamma: Tensor, groups: int, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The twin of kernels.group_norm_backward."""
    n, p, c = x.shape
    grouped = n, p, groups, c // groups
    gx, u = _input_gradient((gy * gamma).reshape(grouped), x.reshape(grouped), (1, 3), epsilon)
    return (
        gx.reshape(x.shape),
        (gy * u.reshape(x.shape)).sum_to_size(gamma.shape),
        gy.sum_to_size(gamma.shape),
    )


def group_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, groups: int = 32, epsilon: float = 1e-3
) -> Tensor:
    """Normalize each sample's groups of channels over all positions (Wu and He 2018): x (N, ..., C) -> the same shape.

    gamma, beta: (C,) or None. Defaults as keras.layers.GroupNormalization; PyTorch's epsilon is 1e-5.
    Raises ValueError where C does not divide into the groups.
    """
    x, gamma, beta = _arguments(x, gamma, beta, x.shape[-1:], "group_norm")
    check_integer(groups, "group_norm: groups")
    check_positive(epsilon, "group_norm: epsilon")
    n, c = x.shape[0], x.shape[-1]
    if c % groups:
        raise ValueError(
            f"group_norm: channels must divide evenly into groups. Received: {c} channels, groups={groups}"
        )
    positions = math.prod(x.shape[1:-1])
    y: Tensor = GroupNorm.apply(
        x.reshape(n, positions, c), gamma.reshape(1, c), beta.reshape(1, c), groups=groups, epsilon=epsilon
    )
    return y.reshape(x.shape)


def layer_norm(
    x: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    axis: int | Sequence[int] = -1,
    epsilon: float = 1e-3,
) -> Tensor:
    """Normalize each sample over `axis` (Ba et al. 2016): x -> the same shape.

    axis: one axis or several, in the order of gamma's and beta's. gamma, beta: of the lengths of these axes, or None.
    As keras.layers.LayerNormalization; PyTorch's epsilon is 1e-5.
    Raises ValueError for axes that x does not have, or has named twice.
    """
    given = [axis] if isinstance(axis, int) else list(axis)
    axes = [normalize_dim(a, x.ndim, "layer_norm") for a in given]
    if len(set(axes)) != len(axes) or not axes:
        raise ValueError(f"layer_norm: axis must name one axis or several, each once. Received: axis={axis}")
    shape = tuple(x.shape[a] for a in axes)
    x, gamma, beta = _arguments(x, gamma, beta, shape, "layer_norm")
    check_positive(epsilon, "layer_norm: epsilon")

    order = [a for a in range(x.ndim) if a not in axes] + axes  # the axes to normalize last
    moved = x.permute(order)
    p, c = math.prod(shape[:-1]), shape[-1]
    rows = as_kernel_input(moved.reshape(x.numel() // (p * c), p, c), "layer_norm: x")
    y: Tensor = GroupNorm.apply(rows, gamma.reshape(p, c), beta.reshape(p, c), groups=1, epsilon=epsilon)
    return y.reshape(moved.shape).permute([order.index(a) for a in range(x.ndim)])


# --------------------------------------------------------------------------------------------------- local response


class LocalResponseNorm(Function):
    def forward(self, x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
        self.options: dict[str, Any] = {"size": size, "alpha": alpha, "beta": beta, "k": k}
        self.save_for_backward(x)
        return self.kernels.local_response_norm(x, **self.options)

    def backward(self, gy: Tensor) -> Any:
        (x,) = self.saved_tensors
        return LocalResponseNormBackward.apply(as_kernel_input(gy, "local_response_norm: gy"), x, **self.options)


class LocalResponseNormBackward(Function):
    def forward(self, gy: Array, x: Array, **options: Any) -> Array:
        self.options = options
        self.save_for_backward(gy, x)
        return self.kernels.local_response_norm_backward(gy, x, **options)

    def backward(self, ggx: Tensor) -> Any:
        return vjp(partial(_local_response_norm_gradient, **self.options), self.saved_tensors, (ggx,))


def _local_response_norm_gradient(
    gy: Tensor, x: Tensor, size: int, alpha: float, beta: float, k: float
) -> tuple[Tensor]:
    """The twin of kernels.local_response_norm_backward; a window sum is a product with a band matrix."""
    xp, c = backend_of(x.data).xp, x.shape[-1]
    offset = xp.arange(c)[:, None] - xp.arange(c)  # of the channel read (rows) from the channel written (columns)
    band = Tensor._wrap(((offset >= -(size // 2)) & (offset <= (size - 1) // 2)).astype(x.dtype))
    s = k + alpha * matmul(x * x, band)
    inner = matmul(gy * x * s ** (-beta - 1.0), band.mT)
    return (gy * s**-beta - 2 * alpha * beta * x * inner,)


def local_response_norm(x: Tensor, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divide by the energy of neighbouring channels (Krizhevsky et al. 2012): x (..., C) -> the same shape.

    y[c] = x[c] / (k + alpha * sum of x[j]**2 over the `size` channels j around c) ** beta

    As in the paper and in TensorFlow, alpha multiplies the sum; PyTorch divides it by size first (alpha / size * sum).
    The paper took size 5, alpha 1e-4, beta 0.75, k 2. Raises ValueError unless alpha >= 0 and k > 0.
    """
    x = as_kernel_input(x, "local_response_norm: x")
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"local_response_norm: x must be (..., C), no axis empty. Received: shape {x.shape}")
    check_integer(size, "local_response_norm: size")
    check_number(alpha, "local_response_norm: alpha", 0, math.inf, "[)")
    check_number(beta, "local_response_norm: beta", -math.inf, math.inf, "()")
    check_positive(k, "local_response_norm: k")
    return LocalResponseNorm.apply(x, size=size, alpha=alpha, beta=beta, k=k)
