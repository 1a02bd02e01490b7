"""The dense layer, and matrix products with leading axes. M rows, N columns, K the axis summed over.

`gemm.py` does the work; what is left to do here is to see its matrices in the arrays given. Bias, relu and relu6 are
applied by the micro-kernel, while a tile of sums is still in registers; sigmoid and tanh pass over the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minicnn.kernels.contract import Array, EpilogueName
from minicnn.kernels.cpu import gemm
from minicnn.kernels.cpu.activation import activation_in_place
from minicnn.kernels.reference.dense import matmul as reference_matmul


def dense(x: Array, w: Array, b: Array | None, activation: EpilogueName | None = None) -> Array:
    """act(x @ w + b): x (M, K), w (K, N), b (N,) or None -> (M, N)."""
    if activation == "sigmoid" or activation == "tanh":
        y = gemm.multiply(x, w, bias=b)
        activation_in_place(y, activation)
        return y
    return gemm.multiply(x, w, bias=b, activation=activation)


def prepare_dense(
    x_shape: tuple[int, int], w: Array, b: Array | None, activation: EpilogueName | None = None
) -> Callable[[Array], Array]:
    """dense(x, w, b, activation) as a function of x alone; see conv.prepare_conv2d. Nothing of w is copied."""
    if activation == "sigmoid" or activation == "tanh":
        product = gemm.prepare_product(x_shape[0], w, b)

        def run(x: Array) -> Array:
            y = product(x)
            activation_in_place(y, activation)
            return y

        return run
    return gemm.prepare_product(x_shape[0], w, b, activation)


def matmul(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    """a (..., M, K) or (..., K, M), b (..., K, N) or (..., N, K) -> (..., M, N), leading axes broadcast.

    Numbers other than float32 and float64, and mixtures of them, are left to NumPy.
    """
    if a.dtype != b.dtype or a.dtype.char not in "fd" or min(a.ndim, b.ndim) < 2:
        return reference_matmul(a, b, transpose_a, transpose_b)
    if a.ndim == b.ndim == 2:
        a, transpose_a = _as_stored(a, transpose_a)
        b, transpose_b = _as_stored(b, transpose_b)
        return gemm.multiply(a, b, transpose_a, transpose_b)
    if b.ndim == 2 and not transpose_a:  # all rows of all matrices, times the same b
        y = gemm.multiply(a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), b, False, transpose_b)
        return y.reshape(*a.shape[:-1], y.shape[-1])
    leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    y = gemm.multiply_batch(
        a.reshape(-1),
        b.reshape(-1),
        _matrices(a, leading),
        _matrices(b, leading),
        a.shape[:-3:-1] if transpose_a else a.shape[-2:],
        b.shape[:-3:-1] if transpose_b else b.shape[-2:],
        transpose_a,
        transpose_b,
    )
    return y.reshape(*leading, *y.shape[1:])


def _as_stored(matrix: Array, transposed: bool) -> tuple[Array, bool]:
    """A transposed view of a contiguous matrix is read as that matrix, transposed once more."""
    if not matrix.flags.c_contiguous and matrix.flags.f_contiguous:
        return matrix.T, not transposed
    return matrix, transposed


def _matrices(array: Array, leading: tuple[int, ...]) -> Array:
    """Which matrix of `array` (..., R, C) is the i-th of the broadcast batch: (prod(leading),) int64."""
    own = array.shape[:-2]
    numbers = np.arange(math.prod(own), dtype=np.int64).reshape(own)
    return np.broadcast_to(numbers, leading).reshape(-1)
