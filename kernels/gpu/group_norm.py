"""Group normalization on the device: see group_norm.cu, and layer_norm.cu for groups that are one run of memory.

N samples, P positions, C channels, G groups.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from minicnn.kernels.contract import Array
from minicnn.kernels.gpu import layer_norm
from minicnn.kernels.gpu.columns import TEAMS, columns
from minicnn.kernels.gpu.launch import THREADS
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.packs import lanes
from minicnn.kernels.gpu.runtime import cp

_FILE = "group_norm.cu"

_WARPS = THREADS // 32


class _Layout(NamedTuple):
    """How blocks are laid over the samples."""

    sums: tuple[int, int]  # the grid of kernels that sum
    writes: tuple[int, int]  # and of those that write
    groups: tuple[int]  # of those that take a group a warp
    threads: int
    slices: int  # of a sample, in kernels that sum
    parts: int  # of a sample, in kernels that write
    columns: Any  # the struct Columns, of one sample
    sizes: Any  # the struct Groups


def group_norm(x: Array, gamma: Array, beta: Array, groups: int, epsilon: float) -> tuple[Array, Array, Array]:
    """x (N, P, C); gamma, beta (P or 1, C) -> y (N, P, C), mean (N, G), var (N, G)."""
    n, p, c = x.shape
    y = cp.empty(x.shape, x.dtype)
    if x.size == 0:
        return y, cp.zeros((n, groups), x.dtype), cp.zeros((n, groups), x.dtype)
    mean, var = cp.empty((n, groups), x.dtype), cp.empty((n, groups), x.dtype)
    if len(gamma) == p:
        layer_norm.forward(x, gamma, beta, groups, epsilon, y, mean, var)
        return y, mean, var
    width = lanes(c, x, y, gamma, beta)
    layout = _layout(x.dtype, n, p, c, groups, width)
    rest, partial = cp.empty((n, groups), x.dtype), cp.empty((n, layout.slices, 2, c), cp.float64)
    sums, finish, write = _kernels(x, "group_norm_sums", "group_norm_statistics", "group_norm_normalize")
    sums(layout.sums, layout.threads, x, partial, layout.columns, layout.sizes, width)
    finish(layout.groups, THREADS, partial, x, mean, rest, var, p, layout.sizes)
    statistics = (mean, rest, var)
    sizes = (layout.columns, layout.sizes, layout.parts, width)
    write(layout.writes, layout.threads, x, gamma, beta, *statistics, y, epsilon, *sizes)
    return y, mean, var


def group_norm_backward(
    gy: Array, x: Array, gamma: Array, mean: Array, var: Array, groups: int, epsilon: float
) -> tuple[Array, Array, Array]:
    """gy, x (N, P, C), gamma (P or 1, C), mean, var (N, G) -> gx (N, P, C), ggamma and gbeta of gamma's shape."""
    n, p, c = x.shape
    gx = cp.empty(x.shape, x.dtype)
    if x.size == 0:
        return gx, cp.zeros(gamma.shape, x.dtype), cp.zeros(gamma.shape, x.dtype)
    if len(gamma) == p:
        partial = layer_norm.backward(gy, x, gamma, mean, var, groups, epsilon, gx)
        return gx, *_parameter_gradients(partial, None, gamma)
    width = lanes(c, gy, x, gx)
    layout = _layout(x.dtype, n, p, c, groups, width)
    partial, factors = cp.empty((n, layout.slices, 2, c), cp.float64), cp.empty((3, n, groups), x.dtype)
    sums, finish, write = _kernels(x, "group_norm_gradient_sums", "group_norm_factors", "group_norm_input_gradient")
    sums(layout.sums, layout.threads, gy, x, mean, partial, layout.columns, layout.sizes, width)
    finish(layout.groups, THREADS, partial, gamma, var, factors, epsilon, p, layout.sizes)
    sizes = (layout.columns, layout.sizes, layout.parts, width)
    write(layout.writes, layout.threads, gy, x, gamma, mean, factors, gx, *sizes)
    return gx, *_parameter_gradients(partial, factors[0], gamma)


def _parameter_gradients(partial: Array, inverse: Array | None, gamma: Array) -> tuple[Array, Array]:
    """Gradients of gamma and beta.

    partial (slices, 2, gamma.size), or (N, slices, 2, gamma.size), whose second sums are still to be multiplied by
    inverse (N, G).
    """
    ggamma, gbeta = cp.empty(gamma.shape, gamma.dtype), cp.empty(gamma.shape, gamma.dtype)
    n, groups = (1, 1) if inverse is None else inverse.shape
    sizes = _groups(gamma.dtype, n, groups, gamma.size, partial.shape[-3])
    (total,) = _kernels(gamma, "group_norm_parameter_gradients")
    total((-(-gamma.size // TEAMS),), THREADS, partial, inverse, ggamma, gbeta, sizes)
    return ggamma, gbeta


def _kernels(x: Array, *names: str) -> tuple[Any, ...]:
    compiled = module(_FILE, x.dtype)
    return tuple(compiled.kernel(name) for name in names)


@lru_cache(maxsize=256)
def _layout(dtype: Any, n: int, p: int, c: int, groups: int, width: int) -> _Layout:
    sizes = columns(p, c, width)
    slices, parts = sizes.slices(n), sizes.parts(n)
    return _Layout(
        sums=(n * slices, sizes.rounds),
        writes=(n * parts, sizes.rounds),
        groups=(-(-n * groups // _WARPS),),
        threads=sizes.threads,
        slices=slices,
        parts=parts,
        columns=module(_FILE, dtype).struct("Columns", **sizes._asdict()),
        sizes=_groups(dtype, n, groups, c, slices),
    )


@lru_cache(maxsize=256)
def _groups(dtype: Any, n: int, groups: int, c: int, slices: int) -> Any:
    return module(_FILE, dtype).struct("Groups", n=n, groups=groups, channels=c // groups, slices=slices)
