"""Adding up the slices of a long sum: see slices.cu."""

from __future__ import annotations

from minicnn.kernels.contract import Array
from minicnn.kernels.gpu.loader import module

_FILE = "slices.cu"
_LANES, _WARPS = 32, 8


def sum_slices(partial: Array, out: Array) -> Array:
    """partial (S, *shape) -> out (shape), out = the sum over the first axis; without slices, zeros."""
    kernel = module(_FILE, out.dtype).kernel("sum_slices")
    kernel((-(-out.size // _LANES),), (_LANES, _WARPS), partial, out, out.size, partial.shape[0])
    return out
