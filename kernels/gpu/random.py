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
"""Words of one block of Philox, and elements that one thread takes."""

_MASK64 = (1 << 64) - 1


def dropout(x: Array, rate: float, seed: int, stream: int) -> Array:
    """x of any shape -> the same shape, zero where the element's word falls below the rate."""
    y = cp.empty(x.shape, x.dtype)
    kernel = module(_FILE, x.dtype).kernel("dropout_words")
    aligned = all(array.data.ptr % (_WORDS * x.itemsize) == 0 for array in (x, y))
    threshold, scale = round(rate * 2**32), 1 / (1 - rate)
    place = seed & _MASK64, stream & _MASK64, live_stream_offset()
    kernel(blocks_for(-(-x.size // _WORDS)), THREADS, x, y, x.size, aligned, threshold, scale, *place)
    return y


def philox_words(count: int, seed: int, stream: int) -> Array:
    """The first `count` words of a stream, (count,) uint32."""
    words = cp.empty(count, np.uint32)
    kernel = module(_FILE, np.float32).kernel("philox_words")
    kernel(blocks_for(-(-count // _WORDS)), THREADS, words, count, seed & _MASK64, stream & _MASK64)
    return words
