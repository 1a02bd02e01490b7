"""Local response normalization on the device: see local_response.cu. C channels."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from minicnn.kernels.contract import Array
from minicnn.kernels.gpu.launch import THREADS, blocks_for
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.runtime import cp

_FILE = "local_response.cu"


def local_response_norm(x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    """x (..., C) -> x / (k + alpha * energy of the `size` channels around) ** beta, (..., C)."""
    y = cp.empty(x.shape, x.dtype)
    response = _response(x.dtype, x.size, x.shape[-1], size, alpha, beta, k)
    module(_FILE, x.dtype).kernel("local_response_norm")(blocks_for(x.size), THREADS, x, y, response)
    return y


def local_response_norm_backward(gy: Array, x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    """gy, x (..., C) -> gx (..., C)."""
    gx = cp.empty(x.shape, x.dtype)
    response = _response(x.dtype, x.size, x.shape[-1], size, alpha, beta, k)
    kernel = module(_FILE, x.dtype).kernel("local_response_norm_backward")
    kernel(blocks_for(x.size), THREADS, gy, x, gx, response)
    return gx


@lru_cache(maxsize=256)
def _response(dtype: Any, count: int, c: int, size: int, alpha: float, beta: float, k: float) -> Any:
    """The struct of a normalization; a window reaches no further than there are channels."""
    before, after = min(size // 2, c - 1), min((size - 1) // 2, c - 1)
    return module(_FILE, dtype).struct(
        "Response", count=count, c=c, before=before, after=after, alpha=alpha, beta=beta, k=k
    )
