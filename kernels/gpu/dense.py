"""Matrix products of the contract: see gemm.py. M rows, N columns, K the axis summed over."""

from __future__ import annotations

from minicnn.kernels.contract import Array, EpilogueName
from minicnn.kernels.gpu.gemm import gemm


def matmul(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    """a (..., M, K) or (..., K, M), b (..., K, N) or (..., N, K) -> (..., M, N)."""
    return gemm(a, b, transpose_a=transpose_a, transpose_b=transpose_b)


def dense(x: Array, w: Array, b: Array | None, activation: EpilogueName | None = None) -> Array:
    """x (M, K), w (K, N), b (N,) or None -> act(x @ w + b), (M, N)."""
    return gemm(x, w, bias=b, activation=activation)
