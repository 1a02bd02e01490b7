"""The buffer pool: outputs, gradients and scratch memory are taken from blocks that were used before.

A fresh big array costs more than most kernels: the operating system hands out its memory page by page, each with a
fault and a clearing of 4096 bytes. A training step needs the same sizes again and again, so their blocks are kept.

A block is given out as an array over it, and comes back when nobody sees it any more: all arrays over a block hold a
reference to its owner, views of views too, and the owner's `__del__` puts the block back. There is no way to return a
block too early, and nothing to call.
"""

from __future__ import annotations

import math
import mmap
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

SMALLEST = 1 << 16
"""Bytes. Below this, malloc keeps its memory itself and is quicker."""

_STEPS = 8
"""Sizes are rounded up to one of so many steps between a power of two and the next: at most 1/8 is wasted."""

LARGEST_FIT = 1.5
"""An array may lie in a free block so many times as large as its own would be: a network's arrays come in many sizes,
and few of them live at once. A looser fit leaves too few blocks for the large arrays that come later."""

_free: dict[int, deque[mmap.mmap]] = {}
"""Block size -> free blocks, the one that was used last at the right: its memory may still be in the cache.

Threads share this without a lock: each method of a deque, and dict.setdefault, is atomic. A lock would be no good,
for `__del__` may run at any moment, also in a thread that holds the lock.
"""

_counts = {"allocated_blocks": 0, "reused_blocks": 0, "owned_bytes": 0}

MOST_HELD = 1 << 28
"""Bytes of free blocks that may be held in any case; more only while as much is in use (see `_make_room`)."""


class _Owner(np.ndarray[Any, Any]):
    """The whole of a block, as bytes. Whatever shows a part of it refers to this."""

    block: mmap.mmap

    def __del__(self) -> None:
        # An array with `block` is the owner itself; a view of the owner would be an _Owner without.
        block = self.__dict__.get("block")
        if block is not None:
            _free[len(block)].append(block)


def empty(shape: Sequence[int], dtype: Any) -> np.ndarray[Any, Any]:
    """An array of undefined contents, as numpy.empty; a large one lies in a block of the pool.

    Raises MemoryError where there is no memory even after all free blocks were released.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < SMALLEST:
        return np.empty(shape, dtype)
    owner = _take(_rounded(size))
    return np.ndarray(shape, dtype, owner)


def allocator(size: int, dtype: Any) -> Callable[[], np.ndarray[Any, Any]]:
    """A function that makes `empty((size,), dtype)`, for who needs the same size many times."""
    dtype = np.dtype(dtype)
    return partial(np.empty if size * dtype.itemsize < SMALLEST else empty, (size,), dtype)


def zeros(shape: Sequence[int], dtype: Any) -> np.ndarray[Any, Any]:
    """As numpy.zeros, from the pool."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def empty_like(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array of undefined contents, of the same shape and dtype, C-contiguous."""
    return empty(array.shape, array.dtype)


def release() -> None:
    """Give all free blocks back to the operating system."""
    for blocks in list(_free.values()):
        while blocks:
            _counts["owned_bytes"] -= len(blocks.pop())


def statistics() -> dict[str, int]:
    """allocated_blocks and reused_blocks since the start of the process; owned_bytes in all blocks now, and held_bytes
    in the free ones among them."""
    held = sum(size * len(blocks) for size, blocks in list(_free.items()))
    return {**_counts, "held_bytes": held}


def _take(size: int) -> _Owner:
    block = _take_free(size)
    if block is None:
        _make_room()
        _free.setdefault(size, deque())
        block = _allocate(size)
        _counts["allocated_blocks"] += 1
        _counts["owned_bytes"] += size
    else:
        _counts["reused_blocks"] += 1
    owner = np.ndarray.__new__(_Owner, (size,), np.uint8, block)
    owner.block = block
    return owner


def _take_free(size: int) -> mmap.mmap | None:
    """The smallest free block that fits and is not much larger, the one of its size that was used last."""
    for fitting in _fitting(size):
        blocks = _free.get(fitting)
        if blocks:
            try:
                return blocks.pop()
            except IndexError:  # another thread took the last one
                continue
    return None


@lru_cache(maxsize=4096)
def _fitting(size: int) -> tuple[int, ...]:
    """Sizes of blocks that an array may lie in, whose block would be of `size`."""
    sizes = [size]
    while (larger := _rounded(sizes[-1] + 1)) <= LARGEST_FIT * size:
        sizes.append(larger)
    return tuple(sizes)


def _make_room() -> None:
    """Release the free blocks where they are more than what is in use: a program that needs ever new sizes, such as
    pictures each of its own, would otherwise hold memory for all that it ever saw."""
    held = statistics()["held_bytes"]
    if held > max(MOST_HELD, _counts["owned_bytes"] - held):
        release()


def _allocate(size: int) -> mmap.mmap:
    try:
        block = mmap.mmap(-1, size)
    except (OSError, ValueError, OverflowError) as error:
        release()
        try:
            block = mmap.mmap(-1, size)
        except (OSError, ValueError, OverflowError):
            raise MemoryError(f"no memory for an array of {size:,} bytes ({error})") from None
    if hasattr(mmap, "MADV_HUGEPAGE") and size >= 1 << 22:
        block.madvise(mmap.MADV_HUGEPAGE)  # 2 MiB a page: fewer faults at first use, fewer misses of the TLB ever after
    return block


def _rounded(size: int) -> int:
    """The size of the block that an array of `size` bytes lies in: a whole number of pages."""
    step = max(mmap.PAGESIZE, 1 << (size.bit_length() - 1 - (_STEPS.bit_length() - 1)))
    return -(-size // step) * step
