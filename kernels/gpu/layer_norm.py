"""Group normalization with a gamma of as many positions as x, layer normalization above all: see layer_norm.cu.

N samples, P positions, C channels, G groups. group_norm.py calls this.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from minicnn.kernels.contract import Array
from minicnn.kernels.gpu.columns import columns
from minicnn.kernels.gpu.launch import THREADS
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.packs import lanes
from minicnn.kernels.gpu.runtime import cp

_FILE = "layer_norm.cu"

_WARP = 32
_NUMBERS_OF_A_WARP = 1 << 10
_NUMBERS_OF_A_BLOCK = 1 << 14
"""Larger groups get 512 threads, those between the two 256."""

_LARGEST_TEAM = 512


def forward(
    x: Array, gamma: Array, beta: Array, groups: int, epsilon: float, y: Array, mean: Array, var: Array
) -> None:
    """x (N, P, C), gamma, beta (P, C) -> y (N, P, C), mean, var (N, G), written in place."""
    width = _lanes(x, groups, y, gamma, beta)
    kernel = module(_FILE, x.dtype).kernel("layer_norm")
    kernel(*_teams(x, groups), x, gamma, beta, y, mean, var, epsilon, _layer(x.dtype, *x.shape, groups), width)


def backward(
    gy: Array, x: Array, gamma: Array, mean: Array, var: Array, groups: int, epsilon: float, gx: Array
) -> Array:
    """gy, x (N, P, C), gamma (P, C), mean, var (N, G) -> gx (N, P, C), written in place, and sums (slices, 2, P * C)
    of gy and of gy * (x - mean) / sqrt(var + epsilon), over some samples each.
    """
    n, p, c = x.shape
    width, layer = _lanes(x, groups, gy, gamma, gx), _layer(x.dtype, n, p, c, groups)
    inverse = cp.empty(mean.shape, x.dtype)
    kernel = module(_FILE, x.dtype).kernel("layer_norm_backward")
    kernel(*_teams(x, groups), gy, x, gamma, mean, var, gx, inverse, epsilon, layer, width)
    sizes = columns(n, p * c, width)
    slices = sizes.slices()
    partial = cp.empty((slices, 2, p * c), cp.float64)
    struct = module(_FILE, x.dtype).struct("Columns", **sizes._asdict())
    sums = module(_FILE, x.dtype).kernel("layer_norm_parameter_sums")
    sums((sizes.rounds, slices), sizes.threads, gy, x, mean, inverse, partial, struct, layer, width)
    return partial


def _lanes(x: Array, groups: int, *arrays: Array) -> int:
    """Numbers of a pack, all of one group."""
    _, p, c = x.shape
    return lanes(p * c if groups == 1 else c // groups, x, *arrays)


def _teams(x: Array, groups: int) -> tuple[tuple[int], tuple[int, int]]:
    """The grid, and blocks of (threads of a team, teams)."""
    n, p, c = x.shape
    size = p * c // groups
    if size <= _NUMBERS_OF_A_WARP:
        teams = THREADS // _WARP
        return (-(-n * groups // teams),), (_WARP, teams)
    return (n * groups,), (THREADS if size <= _NUMBERS_OF_A_BLOCK else _LARGEST_TEAM, 1)


@lru_cache(maxsize=256)
def _layer(dtype: Any, n: int, p: int, c: int, groups: int) -> Any:
    """The struct Layer: with one group, or one position, a group is one run."""
    channels = c // groups
    run, runs = (p * c, 1) if groups == 1 else (channels, p)
    return module(_FILE, dtype).struct("Layer", n=n, run=run, size=p * c, groups=groups, channels=channels, runs=runs)
