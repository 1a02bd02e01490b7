"""What users pass for arrays (numbers, lists, arrays, tensors among them), made into arrays of one memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.backend import as_host, current_backend, get_backend
from minicnn.dtypes import DEFAULT_DTYPE, supported
from minicnn.kernels.contract import Array


class ArrayHolder:
    """What a Tensor is to this file: something with an array."""

    __slots__ = ("data",)

    data: Array


def to_array(data: Any, dtype: Any) -> Array:
    """A fresh array of a supported dtype, where the data lies or the backend in force computes."""
    if isinstance(data, ArrayHolder):
        data = data.data
    wanted = None if dtype is None else np.dtype(dtype)
    if hasattr(data, "__cuda_array_interface__"):
        on_gpu = get_backend("gpu").place(data)
        return supported(on_gpu.astype(wanted or on_gpu.dtype), "tensor()")
    try:
        array = np.array(plain(data) if isinstance(data, (list, tuple)) else data, dtype=wanted)
    except (ValueError, TypeError) as error:
        raise type(error)(
            f"tensor(): expected an array or nested lists of numbers, all rows of one length. {error}"
        ) from None
    if wanted is None and array.dtype == np.float64 and not hasattr(data, "dtype"):
        array = array.astype(DEFAULT_DTYPE)
    return current_backend().place(supported(array, "tensor()"))


def plain(value: Any) -> Any:
    """Tensors anywhere within an index or a value, replaced by their arrays."""
    if isinstance(value, ArrayHolder):
        return value.data
    if isinstance(value, (tuple, list)):
        return type(value)(plain(part) for part in value)
    return value


def placed(value: Any, place: Callable[[Array], Array]) -> Any:
    """An index or a value with arrays for tensors, all in the memory that `place` copies to."""
    if isinstance(value, tuple):
        return tuple([placed(part, place) for part in value])
    if isinstance(value, list):
        value = np.asarray(plain(value))
    array = value.data if isinstance(value, ArrayHolder) else value
    return place(array) if hasattr(array, "dtype") else array


def fingerprint(array: Array) -> int:
    """A number that tells whether the values of an array have changed."""
    return zlib.crc32(np.ascontiguousarray(as_host(array)).tobytes())
