"""Tensors from nothing: constants, ranges, random numbers, and other libraries' arrays. PyTorch's names.

dtype is float32 where nothing else is said. Random numbers come from `minicnn.random` (see `manual_seed`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.backend import Backend, backend_of, current_backend, get_backend
from minicnn.dtypes import DEFAULT_DTYPE, supported
from minicnn.functional.shape import sizes_of
from minicnn.random import Generator, generator_for
from minicnn.tensor import Number, Tensor

_DLPACK_CUDA = 2
"""kDLCUDA of the DLPack standard."""


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of `data` (arrays, nested lists, numbers). Python floats become float32."""
    return Tensor(data, dtype, requires_grad)


def as_tensor(data: Any, dtype: Any = None) -> Tensor:
    """A tensor over the very memory of an array where its dtype and the backend in force allow; a tensor as it is."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(np.dtype(dtype))
    fits = isinstance(data, np.ndarray) and (dtype is None or data.dtype == np.dtype(dtype))
    if fits and current_backend().on_host:
        return from_numpy(data)
    return Tensor(data, dtype)


def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor over the array's own memory, on the host: an edit of one is seen in the other."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expected a numpy.ndarray. Received: {type(array).__name__}")
    return Tensor._wrap(supported(array, "from_numpy").view())


def from_dlpack(exporter: Any) -> Tensor:
    """A tensor over the memory of another library's array (anything with `__dlpack__`), on the host or the GPU."""
    device_type, _ = exporter.__dlpack_device__()
    if device_type == _DLPACK_CUDA:
        return Tensor._wrap(supported(get_backend("gpu").xp.from_dlpack(exporter), "from_dlpack"))
    return from_numpy(np.from_dlpack(exporter))


def full(
    shape: int | tuple[int, ...], value: Number, dtype: Any = DEFAULT_DTYPE, requires_grad: bool = False
) -> Tensor:
    """A tensor of one value."""
    return _full(current_backend(), sizes_of((shape,)), value, dtype).requires_grad_(requires_grad)


def _full(backend: Backend, shape: tuple[int, ...], value: Number, dtype: Any) -> Tensor:
    return Tensor._wrap(supported(backend.xp.full(shape, value, np.dtype(dtype)), "full"))


def zeros(*shape: Any, dtype: Any = DEFAULT_DTYPE, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros."""
    return full(sizes_of(shape), 0, dtype, requires_grad)


def ones(*shape: Any, dtype: Any = DEFAULT_DTYPE, requires_grad: bool = False) -> Tensor:
    """A tensor of ones."""
    return full(sizes_of(shape), 1, dtype, requires_grad)


def zeros_like(x: Tensor) -> Tensor:
    """Zeros of the shape and dtype of x, in its memory."""
    return _full(backend_of(x.data), x.shape, 0, x.dtype)


def ones_like(x: Tensor) -> Tensor:
    """Ones of the shape and dtype of x, in its memory."""
    return _full(backend_of(x.data), x.shape, 1, x.dtype)


def arange(start: Number, end: Number | None = None, step: Number = 1, dtype: Any = None) -> Tensor:
    """start, start + step, ... below end; with one argument 0, 1, ... below it. Integers give int64."""
    first, last = (0, start) if end is None else (start, end)
    values = np.arange(first, last, step)
    return Tensor(values, DEFAULT_DTYPE if dtype is None and values.dtype.kind == "f" else dtype)


def linspace(start: float, end: float, steps: int, dtype: Any = DEFAULT_DTYPE) -> Tensor:
    """`steps` evenly spaced values, both ends included."""
    return Tensor(np.linspace(start, end, steps), dtype)


def eye(n: int, m: int | None = None, dtype: Any = DEFAULT_DTYPE) -> Tensor:
    """The identity matrix (n, m)."""
    return Tensor(np.eye(n, m), dtype)


def one_hot(labels: Any, num_classes: int | None = None, dtype: Any = DEFAULT_DTYPE) -> Tensor:
    """Integer labels (...) as rows of the identity (..., num_classes); as keras.ops.one_hot.

    Raises TypeError for labels that are not integers, ValueError for one outside of [0, num_classes).
    """
    index = (labels if isinstance(labels, Tensor) else Tensor(labels)).data
    xp = backend_of(index).xp
    if index.dtype.kind not in "iu":
        raise TypeError(f"one_hot: labels must be integers. Received: dtype {index.dtype}")
    count = num_classes if num_classes is not None else int(index.max()) + 1 if index.size else 0
    if index.size and not 0 <= index.min() <= index.max() < count:
        raise ValueError(f"one_hot: labels must lie in [0, {count - 1}]. Received: {index.min()} to {index.max()}")
    return Tensor((index[..., None] == xp.arange(count)), dtype)


def rand(*shape: Any, dtype: Any = DEFAULT_DTYPE, seed: int | Generator | None = None) -> Tensor:
    """Uniform in [0, 1)."""
    return Tensor(generator_for(seed).numpy().random(sizes_of(shape)), dtype)


def randn(*shape: Any, dtype: Any = DEFAULT_DTYPE, seed: int | Generator | None = None) -> Tensor:
    """Standard normal."""
    return Tensor(generator_for(seed).numpy().standard_normal(sizes_of(shape)), dtype)


def randint(low: int, high: int, shape: tuple[int, ...], seed: int | Generator | None = None) -> Tensor:
    """Integers in [low, high), int64."""
    return Tensor(generator_for(seed).numpy().integers(low, high, shape))


def randperm(n: int, seed: int | Generator | None = None) -> Tensor:
    """0 ... n - 1 in random order, int64."""
    return Tensor(generator_for(seed).numpy().permutation(n))
