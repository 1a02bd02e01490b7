"""Matrix products. M rows, N columns, K the axis summed over."""

from __future__ import annotations

import numpy as np

from minicnn.kernels.contract import Array, EpilogueName
from minicnn.kernels.reference.activation import activation as apply_activation


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
