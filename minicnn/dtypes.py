"""The dtypes that minicnn computes with."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from minicnn.kernels.contract import Array

DEFAULT_DTYPE = np.dtype(np.float32)
"""What Python's floats become."""


@functools.cache
def named_dtype(name: str) -> np.dtype[Any]:
    """The dtype of that name: NumPy itself reads the name anew each time that a dtype is compared with it."""
    return np.dtype(name)


def supported(array: Array, caller: str) -> Array:
    """The array itself, if its dtype is one that minicnn computes or indexes with; TypeError otherwise."""
    if array.dtype.kind == "f" and array.dtype.itemsize in (4, 8):
        return array
    if array.dtype.kind in "iub":
        return array
    raise TypeError(
        f"{caller}: dtype must be float32 or float64 (or an integer or bool for labels, indices and masks). "
        f"Received: {array.dtype}. Convert with array.astype('float32')."
    )
