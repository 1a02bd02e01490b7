"""Device memory: host memory between canary zones, and the pools it comes from.

Fresh memory is filled with a NaN pattern, as a real allocation holds anything but zeros. On both sides of it lie zones
of another pattern: a kernel that writes past its array changes them. They are checked after every launch (for the
arrays that it was given), when memory is freed, and on demand. Read as float32 (or 16 bits), the zones are NaN as well:
a kernel that reads past its array spoils its result. No two neighbours have the same pattern, so that a copy that runs
past the ends of both its arrays is seen too.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tests.gpu.standin.errors import StandinError
from tests.gpu.standin.record import recorded

ZONE_BYTES = 256
ALIGNMENT = 512  # of every address, as CuPy's pools give out
_POISON = 0xFF
_patterns = itertools.cycle(bytes([low, 0xFF]) * (ZONE_BYTES // 2) for low in range(0x81, 0xBF))  # 0xFF81FF81: NaN

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Allocation:
    """Some bytes of device memory with their zones. `is_freed` once no array uses them any more."""

    def __init__(self, size: int, pool: MemoryPool) -> None:
        room = np.empty(size + 2 * ZONE_BYTES + ALIGNMENT, np.uint8)
        first = -(room.ctypes.data + ZONE_BYTES) % ALIGNMENT
        self.buffer: Bytes = room[first : first + size + 2 * ZONE_BYTES]
        self.buffer[:] = _POISON
        self.size, self.pool, self.is_freed = size, pool, False
        self._pattern = next(_patterns)
        self.restore_zones()

    @property
    def contents(self) -> Bytes:
        return self.buffer[ZONE_BYTES : ZONE_BYTES + self.size]

    def restore_zones(self) -> None:
        before, after = self._zones()
        before[:] = after[:] = np.frombuffer(self._pattern, np.uint8)

    def _zones(self) -> tuple[Bytes, Bytes]:
        return self.buffer[:ZONE_BYTES], self.buffer[ZONE_BYTES + self.size :]

    def damage(self) -> str | None:
        """Where the zones were written to; None if they were not."""
        before, after = self._zones()
        for zone, first_byte in ((before, -ZONE_BYTES), (after, self.size)):
            if zone.tobytes() != self._pattern:
                changed = np.flatnonzero(zone != np.frombuffer(self._pattern, np.uint8))
                return f"memory of {self.size} bytes was written outside, at byte {first_byte + changed[0]}"
        return None


class Lease:
    """What arrays hold of an allocation, views as well; the memory is free when the last of them is gone."""

    def __init__(self, allocation: Allocation) -> None:
        self.allocation = allocation
        allocation.pool.lend(allocation.size)
        _leases.add(self)

    def __del__(self) -> None:
        self.allocation.is_freed = True
        self.allocation.pool.take_back(self.allocation.size)
        damage = self.allocation.damage()
        if damage is not None:  # an exception would be swallowed here: kept for check_canaries
            _damage_found.append(damage)


_leases: weakref.WeakSet[Lease] = weakref.WeakSet()
_damage_found: list[str] = []


def check_canaries() -> None:
    """Raise StandinError where any device memory, in use or freed since the last check, was written outside of."""
    found = [*_damage_found, *filter(None, (lease.allocation.damage() for lease in _leases))]
    _damage_found.clear()
    for lease in _leases:  # reported once
        lease.allocation.restore_zones()
    if found:
        raise StandinError("; ".join(found))


class MemoryPointer:
    """An address in device memory. As cupy.cuda.MemoryPointer."""

    def __init__(self, lease: Lease, address: int) -> None:
        self.lease, self.ptr = lease, address

    def __int__(self) -> int:
        return self.ptr


class MemoryPool:
    """Keeps account of what it lent. As cupy.cuda.MemoryPool, which also keeps freed memory for reuse."""

    def __init__(self, allocator: Any = None) -> None:
        self._used = self._peak = 0

    @recorded("cuda.MemoryPool.malloc")
    def malloc(self, size: int) -> MemoryPointer:
        lease = Lease(Allocation(size, self))
        return MemoryPointer(lease, lease.allocation.contents.ctypes.data)

    def lend(self, size: int) -> None:
        self._used += size
        self._peak = max(self._peak, self._used)

    def take_back(self, size: int) -> None:
        self._used -= size

    @recorded("cuda.MemoryPool.used_bytes")
    def used_bytes(self) -> int:
        return self._used

    @recorded("cuda.MemoryPool.total_bytes")
    def total_bytes(self) -> int:
        return self._peak

    @recorded("cuda.MemoryPool.free_bytes")
    def free_bytes(self) -> int:
        return self._peak - self._used

    @recorded("cuda.MemoryPool.free_all_blocks")
    def free_all_blocks(self, stream: Any = None) -> None:
        self._peak = self._used

    @recorded("cuda.MemoryPool.set_limit")
    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        pass


default_pool = MemoryPool()
Allocator = Callable[[int], MemoryPointer]
_allocators: list[Allocator] = [default_pool.malloc]


def allocate(size: int) -> Lease:
    """Memory from the allocator in force."""
    return _allocators[-1](size).lease


@recorded("cuda.alloc")
def alloc(size: int) -> MemoryPointer:
    return _allocators[-1](size)


@recorded("cuda.set_allocator")
def set_allocator(allocator: Allocator | None = None) -> None:
    _allocators[-1] = allocator or default_pool.malloc


@contextmanager
def _using_allocator(allocator: Allocator | None = None) -> Iterator[None]:
    _allocators.append(allocator or default_pool.malloc)
    try:
        yield
    finally:
        _allocators.pop()


using_allocator = recorded("cuda.using_allocator")(_using_allocator)


@recorded("get_default_memory_pool")
def get_default_memory_pool() -> MemoryPool:
    return default_pool


# ------------------------------------------------------------------------------------------------- pinned host memory

_pinned: weakref.WeakSet[PinnedMemoryPointer] = weakref.WeakSet()


class PinnedMemoryPointer(bytearray):
    """Page-locked host memory, from which a copy may be captured. As cupy.cuda.PinnedMemoryPointer: a buffer."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    @property
    def ptr(self) -> int:
        return int(np.frombuffer(self, np.uint8).ctypes.data)


@recorded("cuda.alloc_pinned_memory")
def alloc_pinned_memory(size: int) -> PinnedMemoryPointer:
    memory = PinnedMemoryPointer(size)
    _pinned.add(memory)
    return memory


def is_pinned(array: np.ndarray[Any, Any]) -> bool:
    """Whether a host array lies in pinned memory."""
    return any(memory.ptr <= array.ctypes.data < memory.ptr + max(1, len(memory)) for memory in _pinned)
