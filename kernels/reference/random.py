"""Counter-based random numbers: word i is a function of the seed, the stream and i, and needs no state.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), as in Random123 and cuRAND.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.contract import Array

_ROUNDS = 10
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85  # the golden ratio and sqrt(3) - 1, as fractions of 2**32


def dropout(x: Array, rate: float, seed: int, stream: int) -> tuple[Array, Array]:
    """x of any shape -> y of the same shape, zero where the element's word falls below the rate, and the kept bits."""
    kept = np.packbits(philox_words(x.size, seed, stream) >= round(rate * 2**32), bitorder="little")
    return dropout_backward(x, kept, rate), kept


def dropout_backward(gy: Array, kept: Array, rate: float) -> Array:
    """gy of any shape and dropout's bits, (ceil(size / 8),) uint8 -> the same shape."""
    mask = np.unpackbits(kept, count=gy.size, bitorder="little").reshape(gy.shape)
    return np.where(mask, gy * (1 / (1 - rate)), 0)


def philox_words(count: int, seed: int, stream: int) -> Array:
    """The first `count` words of a stream, (count,) uint32."""
    block = np.arange(-(-count // 4), dtype=np.uint64)  # four words a block
    counter = (_low(block), _high(block), _low(stream), _high(stream))
    lanes = philox4x32(counter, key=(_low(seed), _high(seed)))
    return np.stack(lanes, axis=-1).ravel()[:count]


def philox4x32(counter: tuple[Array, Array, Array, Array], key: tuple[Array, Array]) -> tuple[Array, ...]:
    """Ten rounds over four lanes of uint32 counters, under a key of two uint32 words -> four lanes of uint32."""
    c0, c1, c2, c3 = counter
    for i in range(_ROUNDS):
        k0, k1 = (_low(int(word) + i * step) for word, step in zip(key, _KEY_STEPS, strict=True))
        product_0 = c0 * _MULTIPLIERS[0]  # 64 bits wide
        product_1 = c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = _high(product_1) ^ c1 ^ k0, _low(product_1), _high(product_0) ^ c3 ^ k1, _low(product_0)
    return c0, c1, c2, c3


def _low(x: Array) -> Array:
    """The low 32 bits of 64, as uint32."""
    return np.uint32(x & 0xFFFFFFFF)


def _high(x: Array) -> Array:
    """The high 32 bits of 64, as uint32."""
    return _low(x >> 32)
