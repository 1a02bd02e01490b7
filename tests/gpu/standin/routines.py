"""The functions of the array module: CuPy's names and arguments, computed by NumPy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tests.gpu.standin import device_array as arrays
from tests.gpu.standin.device_array import asarray as _asarray
from tests.gpu.standin.device_array import ndarray
from tests.gpu.standin.execution import evaluate, execute_into, host, synchronizes
from tests.gpu.standin.names import CONSTANTS, FUNCTIONS, UFUNCS
from tests.gpu.standin.record import note_call, recorded

functions: dict[str, Callable[..., Any]] = {}
"""By CuPy's name."""


def _offered(function: Callable[..., Any]) -> Callable[..., Any]:
    name = function.__name__.rstrip("_")
    functions[name] = recorded(name)(function)
    return functions[name]


# --------------------------------------------------------------------------------------------------- creation


@_offered
def empty(shape: Any, dtype: Any = float, order: Any = "C") -> ndarray:
    return arrays.empty(shape, dtype, order)


@_offered
def full(shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C") -> ndarray:
    if dtype is None:
        dtype = fill_value.dtype if isinstance(fill_value, ndarray) else np.asarray(fill_value).dtype
    made = arrays.empty(shape, dtype, order)
    execute_into(made, partial(np.copyto, casting="unsafe"), fill_value)
    return made


@_offered
def zeros(shape: Any, dtype: Any = float, order: Any = "C") -> ndarray:
    return full(shape, 0, dtype, order)


@_offered
def ones(shape: Any, dtype: Any = float, order: Any = "C") -> ndarray:
    return full(shape, 1, dtype, order)


@_offered
def empty_like(
    prototype: ndarray, dtype: Any = None, order: Any = "K", subok: None = None, shape: Any = None
) -> ndarray:
    like = np.empty_like(host(prototype), dtype=dtype, order=order, shape=shape)
    is_fortran = like.flags.f_contiguous and not like.flags.c_contiguous
    return arrays.empty(like.shape, like.dtype, "F" if is_fortran else "C")


@_offered
def full_like(
    a: ndarray, fill_value: Any, dtype: Any = None, order: Any = "K", subok: None = None, shape: Any = None
) -> ndarray:
    made = empty_like(a, dtype, order, subok, shape)
    execute_into(made, np.copyto, fill_value)
    return made


@_offered
def zeros_like(a: ndarray, dtype: Any = None, order: Any = "K", subok: None = None, shape: Any = None) -> ndarray:
    return full_like(a, 0, dtype, order, subok, shape)


@_offered
def ones_like(a: ndarray, dtype: Any = None, order: Any = "K", subok: None = None, shape: Any = None) -> ndarray:
    return full_like(a, 1, dtype, order, subok, shape)


@_offered
def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False) -> ndarray:
    return _asarray(a, dtype, order)


@_offered
def array(
    obj: Any, dtype: Any = None, copy: bool = True, order: Any = "K", subok: bool = False, ndmin: int = 0
) -> ndarray:
    made = _asarray(obj, dtype, None if order == "K" else order)
    made = made.copy() if copy and made is obj else made
    return made.reshape((1,) * (ndmin - made.ndim) + made.shape) if made.ndim < ndmin else made


@_offered
def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    made = _asarray(a, dtype, "C")
    return made.reshape(1) if made.ndim == 0 else made


@_offered
def asnumpy(a: Any, stream: Any = None, order: Any = "C", out: Any = None, *, blocking: bool = True) -> Any:
    return a.get(order=order, out=out) if isinstance(a, ndarray) else np.asarray(a)


@_offered
def copyto(dst: ndarray, src: Any, casting: Any = "same_kind", where: Any = None) -> None:
    if where is None:
        execute_into(dst, lambda target, value: np.copyto(target, value, casting=casting), src)
    else:
        execute_into(dst, lambda target, value, mask: np.copyto(target, value, casting=casting, where=mask), src, where)


@_offered
def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> ndarray:
    first, end = (0, start) if stop is None else (start, stop)
    return evaluate(lambda: np.arange(first, end, step, dtype=dtype))


# --------------------------------------------------------------------------------------------------- as NumPy


_SYNCHRONIZING = {"nonzero", "unique", "argwhere", "flatnonzero", "bincount"}  # the result's shape is on the device
_NOT_ARRAYS = {"ndim", "shape", "size"}


def _like_numpy(name: str) -> Callable[..., Any]:
    """NumPy's function of that name, on device arrays."""
    function = getattr(np, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        note_call(name, args, kwargs)
        if name in _SYNCHRONIZING:
            synchronizes(name)
        if name in _NOT_ARRAYS:
            return function(*[host(arg) for arg in args], **kwargs)
        out = kwargs.pop("out", None)
        if out is None:
            return evaluate(function, *args, **kwargs)
        execute_into(out, lambda target, *plain: function(*plain, out=target, **kwargs), *args)
        return out

    call.__name__ = call.__qualname__ = name
    return call


functions.update({name: _like_numpy(name) for name in FUNCTIONS})


@_offered
def matmul(*args: Any, out: ndarray | None = None) -> ndarray:
    if out is None:
        return evaluate(np.matmul, *args)
    execute_into(out, lambda target, a, b: np.matmul(a, b, out=target), *args)
    return out


# --------------------------------------------------------------------------------------------------- ufuncs


_SCATTERED = {"i4", "u4", "u8", "f2", "f4", "f8"}  # what CuPy can add.at; int64 is not among them


class ufunc:
    """One of CuPy's universal functions: called, and `at` and `reduce` for those that have them."""

    def __init__(self, name: str) -> None:
        self.__name__, self._function = name, getattr(np, name)

    def __call__(self, *args: Any, out: ndarray | None = None, **kwargs: Any) -> Any:
        note_call(self.__name__, args, kwargs if out is None else {**kwargs, "out": out})
        if len(args) > self._function.nin:
            *args, out = args  # type: ignore[assignment]
        if isinstance(out, tuple):
            (out,) = out
        if out is None:
            return evaluate(self._function, *args, **kwargs)
        execute_into(out, lambda target, *plain: self._function(*plain, out=target, **kwargs), *args)
        return out

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        note_call(f"{self.__name__}.at", (self, a, indices, *(() if b is None else (b,))), {})
        if a.dtype.str[1:] not in _SCATTERED:
            raise TypeError(f"cupy.{self.__name__}.at of {a.dtype}: CuPy knows {sorted(_SCATTERED)}")
        execute_into(a, self._function.at, arrays._device_index(indices), *(() if b is None else (b,)))

    def reduce(self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        note_call(f"{self.__name__}.reduce", (self, array), {})
        return evaluate(lambda x: self._function.reduce(x, axis=axis, dtype=dtype, keepdims=keepdims), array)


ufuncs: dict[str, ufunc] = {name: ufunc(name) for name in UFUNCS}

constants: dict[str, Any] = {name: getattr(np, name) for name in CONSTANTS}


# --------------------------------------------------------------------------------------------------- linalg


@recorded("linalg.norm")
def _norm(x: ndarray, ord: Any = None, axis: Any = None, keepdims: bool = False) -> ndarray:
    return evaluate(lambda data: np.linalg.norm(data, ord, axis, keepdims), x)


linalg: dict[str, Callable[..., Any]] = {"norm": _norm}
