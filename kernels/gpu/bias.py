"""Gradients of a bias: sums over all axes but the last, see column_sums.cu. F features, rows all else."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minicnn.kernels.contract import ActivationName, Array
from minicnn.kernels.gpu.activation_codes import CODES
from minicnn.kernels.gpu.launch import THREADS
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.runtime import cp

_FILE = "column_sums.cu"
_PACK_BYTES = 16
_WIDEST = 64
"""Threads side by side over a row, at most: 1 KB in one go."""

_BLOCKS = 1024
"""Blocks to aim at: several for each multiprocessor."""

_ROWS_A_THREAD = 8
"""Fewer are not worth another block and another sum in the second kernel."""


class _Plan(NamedTuple):
    grid: tuple[int, int]  # rounds over a row, slices
    threads: int
    sizes: Any  # the struct ColumnSums


def bias_grad(gy: Array) -> Array:
    """gy (..., F) -> its sum over all axes but the last, (F,)."""
    return _column_sums(gy, None, None, 0, 0.0)


def activation_bias_backward(gy: Array, y: Array, name: ActivationName, alpha: float = 0.0) -> tuple[Array, Array]:
    """gy and the activation's output y, (..., F) -> gz (..., F), the gradient before the activation, and gb (F,)."""
    gz = cp.empty(gy.shape, gy.dtype)
    return gz, _column_sums(gy, y, gz, CODES[name], alpha)


def _column_sums(gy: Array, y: Array | None, gz: Array | None, activation: int, alpha: float) -> Array:
    features = gy.shape[-1]
    if gy.size == 0:
        return cp.zeros((features,), gy.dtype)
    lanes = _PACK_BYTES // gy.itemsize
    arrays = [array for array in (gy, y, gz) if array is not None]
    packed = features % lanes == 0 and all(array.data.ptr % _PACK_BYTES == 0 for array in arrays)
    plan = _plan(gy.size // features, features, lanes if packed else 1, gy.dtype.name)
    compiled, slices = module(_FILE, gy.dtype), plan.grid[1]
    total = cp.empty((features,), gy.dtype)
    partial = cp.empty((slices, features), np.float64) if slices > 1 else None
    kernel = compiled.kernel(f"column_sums_{'packs' if packed else 'numbers'}")
    at_once = total if partial is None else None
    kernel(plan.grid, plan.threads, gy, y, gz, partial, at_once, plan.sizes, activation, alpha)
    if partial is not None:
        finish = compiled.kernel("column_sums_finish")
        finish((-(-features // 32),), THREADS, partial, total, features, slices)
    return total


@lru_cache(maxsize=4096)
def _plan(rows: int, features: int, lanes: int, dtype: str) -> _Plan:
    """How rows of `features` numbers, `lanes` at a time, are shared out."""
    places = features // lanes
    rounds = -(-places // _WIDEST)
    width = -(-places // rounds)
    groups = THREADS // width
    slices = min(max(_BLOCKS // rounds, 1), max(rows // (groups * _ROWS_A_THREAD), 1))
    slice_rows = -(-rows // slices)
    sizes = module(_FILE, dtype).struct(
        "ColumnSums", rows=rows, slice_rows=slice_rows, features=features, places=places, width=width
    )
    return _Plan((rounds, -(-rows // slice_rows)), groups * width, sizes)
