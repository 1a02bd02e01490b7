"""Counter-based random numbers and dropout on the device: see random.cu."""

from __future__ import annotations

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.gpu.launch import THREADS, blocks_for
from minicnn.kernels.gpu.live import live_stream_offset
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.runtime import cp

_FILE = "random.cu"
_WORDS = 4
"""Words of one block of Philox, and elements of one pack."""

_MASK64 = (1 << 64) - 1


def dropout(x: Array, rate: float, seed: int, stream: int) -> tuple[Array, Array]:
    """x of any shape -> y of the same shape, zero where the element's word falls below the rate, and the kept bits."""
    y, kept = cp.empty(x.shape, x.dtype), cp.empty(-(-x.size // 8), np.uint8)
    kernel = module(_FILE, x.dtype).kernel("dropout_words")
    threshold, scale = round(rate * 2**32), 1 / (1 - rate)
    place = seed & _MASK64, stream & _MASK64, live_stream_offset()
    kernel(blocks_for(kept.size), THREADS, x, y, kept, x.size, _are_packs(x, y), threshold, scale, *place)
    return y, kept


def dropout_backward(gy: Array, kept: Array, rate: float) -> Array:
    """gy of any shape and dropout's bits, (ceil(size / 8),) uint8 -> the same shape."""
    gx = cp.empty(gy.shape, gy.dtype)
    kernel = module(_FILE, gy.dtype).kernel("dropout_backward")
    kernel(blocks_for(-(-gy.size // _WORDS)), THREADS, gy, kept, gx, gy.size, _are_packs(gy, gx), 1 / (1 - rate))
    return gx


def _are_packs(*arrays: Array) -> bool:
    """Whether four elements at a time may be read and written."""
    return all(array.data.ptr % (_WORDS * array.itemsize) == 0 for array in arrays)


def philox_words(count: int, seed: int, stream: int) -> Array:
    """The first `count` words of a stream, (count,) uint32."""
    words = cp.empty(count, np.uint32)
    kernel = module(_FILE, np.float32).kernel("philox_words")
    kernel(blocks_for(-(-count // _WORDS)), THREADS, words, count, seed & _MASK64, stream & _MASK64)
    return words
