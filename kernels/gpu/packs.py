"""How many neighbouring numbers a kernel may read as one: see packs.cuh."""

from __future__ import annotations

from minicnn.kernels.contract import Array

_PACK_BYTES = 16


def lanes(row: int, *arrays: Array) -> int:
    """4 (float32) or 2 (float64) where rows of `row` numbers and the arrays' addresses allow it, else 1.

    The first array is of the kernel's own type; arrays of others hold as many numbers in a pack.
    """
    count = _PACK_BYTES // arrays[0].itemsize
    whole = row % count == 0 and all(array.data.ptr % (count * array.itemsize) == 0 for array in arrays)
    return count if whole else 1
