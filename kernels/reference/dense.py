"""Matrix products, and the gradient of a bias. M rows, N columns, K the axis summed over, F features."""

from __future__ import annotations

import numpy as np

from minicnn.kernels.contract import ActivationName, Array, EpilogueName
from minicnn.kernels.reference.activation import activation as apply_activation
from minicnn.kernels.reference.activation import activation_backward


def matmul(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    """a (..., M, K) or (..., K, M), b (..., K, N) or (..., N, K) -> (..., M, N)."""
    if transpose_a:
        a = np.swapaxes(a, -1, -2)
    if transpose_b:
        b = np.swapaxes(b, -1, -2)
    return np.matmul(a, b)


def dense(x: Array, w: Array, b: Array | None, activation: EpilogueName | None = None) -> Array:
    """x (M, K), w (K, N), b (N,) or None -> (M, N)."""
    y = x @ w
    if b is not None:
        y += b
    return y if activation is None else apply_activation(y, activation)


def bias_grad(gy: Array) -> Array:
    """gy (..., F) -> (F,), summed in float64: there are as many terms as pixels in the batch."""
    return gy.reshape(-1, gy.shape[-1]).sum(axis=0, dtype=np.float64).astype(gy.dtype)


def activation_bias_backward(gy: Array, y: Array, name: ActivationName, alpha: float = 0.0) -> tuple[Array, Array]:
    """gy and the activation's output y, (..., F) -> gz (..., F), the gradient before the activation, and gb (F,)."""
    gz = activation_backward(gy, y, name, alpha)
    return gz, bias_grad(gz)
