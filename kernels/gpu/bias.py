"""Gradients of a bias: sums over all axes but the last, see column_sums.cu. F features."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from minicnn.kernels.contract import ActivationName, Array
from minicnn.kernels.gpu.activation_codes import CODES
from minicnn.kernels.gpu.columns import Columns, columns
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.packs import lanes
from minicnn.kernels.gpu.runtime import cp
from minicnn.kernels.gpu.slices import sum_slices

_FILE = "column_sums.cu"


def bias_grad(gy: Array) -> Array:
    """gy (..., F) -> its sum over all axes but the last, (F,)."""
    return _column_sums(gy, None, None, CODES[None], 0.0)


def activation_bias_backward(gy: Array, y: Array, name: ActivationName, alpha: float = 0.0) -> tuple[Array, Array]:
    """gy and the activation's output y, (..., F) -> gz (..., F), the gradient before the activation, and gb (F,)."""
    gz = cp.empty(gy.shape, gy.dtype)
    return gz, _column_sums(gy, y, gz, CODES[name], alpha)


def _column_sums(gy: Array, y: Array | None, gz: Array | None, activation: int, alpha: float) -> Array:
    """The sums of gy, or, given y, of gz, which is filled in passing."""
    features = gy.shape[-1]
    if gy.size == 0:
        return cp.zeros((features,), gy.dtype)
    width = lanes(features, *(array for array in (gy, y, gz) if array is not None))
    sizes = columns(gy.size // features, features, width)
    slices = sizes.slices()
    partial = cp.empty((slices, features), gy.dtype)
    kernel = module(_FILE, gy.dtype).kernel("column_sums")
    struct = _struct(sizes, gy.dtype.name)
    kernel((slices, sizes.rounds), sizes.threads, gy, y, gz, partial, struct, width, activation, alpha)
    if slices == 1:
        return partial.reshape(features)
    return sum_slices(partial, cp.empty((features,), gy.dtype))


@lru_cache(maxsize=4096)
def _struct(sizes: Columns, dtype: str) -> Any:
    return module(_FILE, dtype).struct("Columns", **sizes._asdict())
