"""Batch normalization on the device: see norm.cu. C channels, rows all else."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

from minicnn.kernels.contract import Array
from minicnn.kernels.gpu.columns import TEAMS, Columns, columns
from minicnn.kernels.gpu.launch import THREADS
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.packs import lanes
from minicnn.kernels.gpu.runtime import cp

_FILE = "norm.cu"


def batch_norm(
    x: Array, gamma: Array, beta: Array, epsilon: float, activation: Literal["relu"] | None = None
) -> tuple[Array, Array, Array]:
    """x (..., C); gamma, beta (C,) -> y (..., C), mean (C,), var (C,), the statistics of this batch."""
    c = x.shape[-1]
    y = cp.empty(x.shape, x.dtype)
    mean, rest, var = (cp.empty((c,), x.dtype) for _ in range(3))
    width = lanes(c, x, y, gamma, beta, mean, rest, var)
    sizes, layout = _layout(x, width)
    slices = sizes.slices()
    partial = cp.empty((slices, 2, c), cp.float64)
    _kernel("batch_norm_sums", x)((sizes.rounds, slices), sizes.threads, x, partial, layout, width)
    finish = _kernel("batch_norm_statistics", x)
    finish((-(-c // TEAMS),), THREADS, partial, x, mean, rest, var, sizes.rows, c, slices)
    _normalize(x, gamma, beta, mean, rest, var, y, epsilon, activation, width)
    return y, mean, var


def batch_norm_inference(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    var: Array,
    epsilon: float,
    activation: Literal["relu"] | None = None,
) -> Array:
    """x (..., C), the rest (C,) -> act(gamma * (x - mean) / sqrt(var + epsilon) + beta), (..., C)."""
    y = cp.empty(x.shape, x.dtype)
    width = lanes(x.shape[-1], x, y, gamma, beta, mean, var)
    _normalize(x, gamma, beta, mean, None, var, y, epsilon, activation, width)
    return y


def _normalize(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    rest: Array | None,
    var: Array,
    y: Array,
    epsilon: float,
    activation: Literal["relu"] | None,
    width: int,
) -> None:
    """Writes y; the mean is mean + rest."""
    sizes, layout = _layout(x, width)
    kernel, rectify = _kernel("batch_norm_normalize", x), activation is not None
    grid = (sizes.rounds, sizes.parts())
    kernel(grid, sizes.threads, x, gamma, beta, mean, rest, var, y, epsilon, rectify, layout, width)


def batch_norm_backward(
    gy: Array, x: Array, gamma: Array, mean: Array, var: Array, epsilon: float, y: Array | None = None
) -> tuple[Array, Array, Array]:
    """gy, x (..., C), the rest (C,) -> gx (..., C), ggamma (C,), gbeta (C,); y is the output if a relu made it."""
    c = x.shape[-1]
    gx, factors = cp.empty(x.shape, x.dtype), cp.empty((3, c), x.dtype)
    ggamma, gbeta = cp.empty((c,), x.dtype), cp.empty((c,), x.dtype)
    width = lanes(c, gy, x, mean, gx, factors, *(() if y is None else (y,)))
    sizes, layout = _layout(x, width)
    slices = sizes.slices()
    partial = cp.empty((slices, 2, c), cp.float64)
    sums = _kernel("batch_norm_gradient_sums", x)
    sums((sizes.rounds, slices), sizes.threads, gy, x, y, mean, partial, layout, width)
    finish = _kernel("batch_norm_factors", x)
    blocks = (-(-c // TEAMS),)
    finish(blocks, THREADS, partial, gamma, var, ggamma, gbeta, factors, epsilon, sizes.rows, c, slices)
    write = _kernel("batch_norm_input_gradient", x)
    write((sizes.rounds, sizes.parts()), sizes.threads, gy, x, y, mean, factors, gx, layout, width)
    return gx, ggamma, gbeta


def _kernel(name: str, x: Array) -> Any:
    return module(_FILE, x.dtype).kernel(name)


def _layout(x: Array, width: int) -> tuple[Columns, Any]:
    """How blocks are laid over x (..., C), `width` numbers a thread, and that as a struct."""
    c = x.shape[-1]
    return _struct(x.dtype, x.size // max(c, 1), c, width)


@lru_cache(maxsize=256)
def _struct(dtype: Any, rows: int, c: int, width: int) -> tuple[Columns, Any]:
    sizes = columns(rows, c, width)
    return sizes, module(_FILE, dtype).struct("Columns", **sizes._asdict())
