"""The stand-in's ndarray: host memory behind a wall. As cupy.ndarray, and as strict.

What differs from NumPy, here as in CuPy: it never mixes with NumPy's arrays; one element (`x[0]`, `x.sum()`) is an
array of no axes, not a scalar; `float(x)`, `x.get()` and their like wait for the device.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gpu.standin import memory
from tests.gpu.standin.errors import CAPTURE_UNSUPPORTED, CUDARuntimeError, StandinError
from tests.gpu.standin.execution import StreamState, capture_of, evaluate, execute_into, host, synchronizes
from tests.gpu.standin.names import METHODS
from tests.gpu.standin.record import note_call, recorded

_NO_CONVERSION = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
)
_KINDS = "biufc"  # CuPy has no objects, strings or dates


class Flags:
    """Of the real strides. As cupy.ndarray.flags, which has no `carray`."""

    def __init__(self, flags: Any, owns: bool) -> None:
        self.c_contiguous, self.f_contiguous, self.owndata = flags.c_contiguous, flags.f_contiguous, owns
        self.forc, self.fnc = flags.forc, flags.fnc

    def __getitem__(self, name: str) -> bool:
        return bool(getattr(self, name.lower()))


class ndarray:
    """An array on the device: `_host` is its memory, `_lease` keeps that alive, `base` is what it is a view of."""

    __slots__ = ("__weakref__", "_host", "_lease", "base")
    _host: np.ndarray[Any, Any]
    _lease: memory.Lease
    base: ndarray | None
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: Any = "C"
    ) -> None:
        note_call("ndarray", (self, shape, dtype), {})
        fresh = empty(shape, dtype, order)
        self._host, self._lease, self.base = fresh._host, fresh._lease, None

    @classmethod
    def _make(cls, data: np.ndarray[Any, Any], lease: memory.Lease, base: ndarray | None) -> ndarray:
        array = object.__new__(cls)
        array._host, array._lease, array.base = data, lease, base
        return array

    # ---------------------------------------------------------------------------------------------- what it is

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: Flags(self._host.flags, self.base is None))
    data = property(lambda self: memory.MemoryPointer(self._lease, self._host.ctypes.data))
    T = property(lambda self: evaluate(np.transpose, self))

    @property
    def device(self) -> Any:
        from tests.gpu.standin.cuda_names import Device

        return Device(0)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python itself looks for
            raise AttributeError(name)
        raise AttributeError(
            f"the stand-in's ndarray has no {name!r}: check that CuPy has it, then add it to tests/gpu/standin"
        )

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Any:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        synchronizes("repr")
        return repr(self._host)

    # ---------------------------------------------------------------------------------------------- to the host

    def get(self, stream: Any = None, order: Any = "C", out: Any = None, blocking: bool = True) -> np.ndarray[Any, Any]:
        """A copy in NumPy's memory."""
        note_call("ndarray.get", (self,), {})
        synchronizes("ndarray.get")
        if out is None:
            return np.array(self._host, order=order)
        out[...] = self._host
        return out

    def set(self, arr: np.ndarray[Any, Any], stream: Any = None) -> None:
        """Overwrite with a NumPy array of the same dtype and shape; may be captured from pinned memory."""
        note_call("ndarray.set", (self, arr), {} if stream is None else {"stream": stream})
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype.name} array cannot be set to {self.dtype.name} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self.flags.c_contiguous and not self.flags.f_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        state: StreamState | None = None if stream is None else stream._state
        capture = capture_of(state)
        if capture is None:
            self._host[...] = arr
        elif memory.is_pinned(arr):
            target = self._host
            capture.add(lambda: np.copyto(target, arr), [self])
        else:
            capture.is_invalid = True
            raise CUDARuntimeError(f"{CAPTURE_UNSUPPORTED} (a copy from pageable host memory)")

    def item(self) -> Any:
        note_call("ndarray.item", (self,), {})
        return self.get().item()

    def tolist(self) -> Any:
        note_call("ndarray.tolist", (self,), {})
        return self.get().tolist()

    def __float__(self) -> float:
        return float(self.get().item())

    def __int__(self) -> int:
        return int(self.get().item())

    def __bool__(self) -> bool:
        synchronizes("bool")
        return bool(self._host)

    def __index__(self) -> int:
        synchronizes("index")
        return operator.index(self._host)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(_NO_CONVERSION)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        for value in inputs:
            if isinstance(value, np.ndarray):
                raise TypeError(f"Unsupported type {type(value)}")
        if method == "__call__" and not kwargs and any(isinstance(value, np.generic) for value in inputs):
            return evaluate(ufunc, *inputs)  # numpy.float32(2) * x
        raise TypeError(f"numpy.{ufunc.__name__} of a device array: call the backend's array module")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} of a device array: call the backend's array module")

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.data.ptr, False), "version": 3}

    # ---------------------------------------------------------------------------------------------- elements

    def __getitem__(self, index: Any) -> ndarray:
        return evaluate(_take_index, self, _device_index(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, (list, tuple)):
            value = asarray(value, self.dtype)
        execute_into(self, _put_index, _device_index(index), value)

    def fill(self, value: Any) -> None:
        note_call("ndarray.fill", (self, value), {})
        execute_into(self, lambda target, number: target.fill(number), value)

    # ---------------------------------------------------------------------------------------------- shapes, copies

    @recorded("ndarray.view")
    def view(self, dtype: Any = None) -> ndarray:
        return evaluate(lambda x: x.view() if dtype is None else x.view(dtype), self)

    @recorded("ndarray.reshape")
    def reshape(self, *shape: Any, order: Any = "C") -> ndarray:
        return evaluate(lambda x: x.reshape(*shape, order=order), self)

    @recorded("ndarray.astype")
    def astype(
        self, dtype: Any, order: Any = "K", casting: Any = None, subok: Any = None, copy: bool = True
    ) -> ndarray:
        wanted = checked_dtype(dtype)
        if not copy and wanted == self.dtype:
            return self
        return evaluate(lambda x: x.astype(wanted, order=order), self)

    @recorded("ndarray.copy")
    def copy(self, order: Any = "C") -> ndarray:
        return evaluate(lambda x: x.copy(order), self)

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> ndarray:
        return self.copy()

    # ---------------------------------------------------------------------------------------------- operators

    def __iadd__(self, other: Any) -> ndarray:
        return _in_place(self, operator.iadd, other)

    def __isub__(self, other: Any) -> ndarray:
        return _in_place(self, operator.isub, other)

    def __imul__(self, other: Any) -> ndarray:
        return _in_place(self, operator.imul, other)

    def __itruediv__(self, other: Any) -> ndarray:
        return _in_place(self, operator.itruediv, other)

    def __iand__(self, other: Any) -> ndarray:
        return _in_place(self, operator.iand, other)

    def __ior__(self, other: Any) -> ndarray:
        return _in_place(self, operator.ior, other)


def _in_place(target: ndarray, update: Callable[..., Any], other: Any) -> ndarray:
    execute_into(target, update, other)
    return target


_BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift"]
_COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]
_UNARY = ["neg", "pos", "abs", "invert"]


def _install_operators() -> None:
    """The operators that all do the same: ask NumPy's, wrap the result."""
    for name in (*_BINARY, *_COMPARISONS):
        function = getattr(operator, f"__{name}__")
        setattr(ndarray, f"__{name}__", lambda self, other, _f=function: evaluate(_f, self, other))
    for name in _BINARY:
        function = getattr(operator, f"__{name}__")
        setattr(ndarray, f"__r{name}__", lambda self, other, _f=function: evaluate(_f, other, self))
    for name in _UNARY:
        function = getattr(operator, f"__{name}__")
        setattr(ndarray, f"__{name}__", lambda self, _f=function: evaluate(_f, self))


def _install_methods() -> None:
    """The methods that NumPy's arrays have as well, with the same arguments."""
    for name in METHODS:

        def method(self: ndarray, *args: Any, _name: str = name, **kwargs: Any) -> Any:
            note_call(f"ndarray.{_name}", (self, *args), kwargs)
            if _name == "nonzero":
                synchronizes("nonzero")
            out = kwargs.pop("out", None)
            if out is not None:
                execute_into(out, lambda target, x: getattr(x, _name)(*args, out=target, **kwargs), self)
                return out
            return evaluate(lambda x, *rest: getattr(x, _name)(*rest, **kwargs), self, *args)

        method.__name__ = name
        setattr(ndarray, name, method)


_install_operators()
_install_methods()


# --------------------------------------------------------------------------------------------------- indices


def _device_index(index: Any) -> Any:
    """An index as CuPy takes it: lists, and arrays of NumPy, are copied to the device first."""
    if isinstance(index, tuple):
        return tuple(_device_index(part) for part in index)
    if isinstance(index, list) or (isinstance(index, np.ndarray) and not isinstance(index, np.generic)):
        return asarray(index)
    if isinstance(index, ndarray) and index.dtype.kind == "b":
        synchronizes("a mask as an index: how much it selects is only known on the device")
    return index


def _take_index(data: np.ndarray[Any, Any], index: Any) -> np.ndarray[Any, Any]:
    return _checked(lambda: data[_with_ellipsis(index)], index)


def _put_index(data: np.ndarray[Any, Any], index: Any, value: Any) -> None:
    _checked(lambda: data.__setitem__(index, value), index)


def _with_ellipsis(index: Any) -> Any:
    """The same index, under which NumPy gives an array (a view, where it can) and never a scalar."""
    parts = index if isinstance(index, tuple) else (index,)
    return parts if any(part is Ellipsis for part in parts) else (*parts, Ellipsis)


def _checked(access: Callable[[], Any], index: Any) -> Any:
    try:
        return access()
    except IndexError as error:
        parts = index if isinstance(index, tuple) else (index,)
        if "out of bounds" in str(error) and any(isinstance(part, np.ndarray) for part in parts):
            raise StandinError(f"CuPy wraps an index array's values around and raises nothing: {error}") from None
        raise


# --------------------------------------------------------------------------------------------------- making arrays


def checked_dtype(dtype: Any) -> np.dtype[Any]:
    """Raises ValueError for a dtype that no GPU has."""
    found = np.dtype(dtype)
    if found.kind not in _KINDS or found.itemsize > 16 or found == np.dtype(np.longdouble):
        raise ValueError(f"Unsupported dtype {found}")
    return found


def empty(shape: Any, dtype: Any = float, order: Any = "C") -> ndarray:
    """Fresh memory: a NaN pattern."""
    sizes = tuple(int(size) for size in shape) if isinstance(shape, (tuple, list)) else (int(shape),)
    kind = checked_dtype(dtype)
    lease = memory.allocate(int(np.prod(sizes, dtype=np.int64)) * kind.itemsize)
    data = lease.allocation.contents.view(kind).reshape(sizes, order="F" if order == "F" else "C")
    return ndarray._make(data, lease, None)


def adopt(result: Any, inputs: list[ndarray]) -> tuple[ndarray, bool]:
    """NumPy's result as a device array, and whether it is a view of an input; else it is copied to new memory."""
    data = np.asarray(result)
    root = _root(data)
    for array in inputs:
        if root is _root(array._lease.allocation.buffer):
            return ndarray._make(data, array._lease, array.base if array.base is not None else array), True
    is_fortran = data.ndim > 1 and data.flags.f_contiguous and not data.flags.c_contiguous
    copied = empty(data.shape, data.dtype, "F" if is_fortran else "C")
    copied._host[...] = data
    return copied, False


def _root(data: Any) -> Any:
    """What a chain of views begins with; NumPy puts objects of its own between some of them."""
    while getattr(data, "base", None) is not None:
        data = data.base
    return data


def asarray(a: Any, dtype: Any = None, order: Any = None) -> ndarray:
    """A device array of anything: of one of these itself, where nothing has to change."""
    if isinstance(a, ndarray):
        wanted = a.dtype if dtype is None else checked_dtype(dtype)
        if wanted == a.dtype and (order not in ("C", "F") or getattr(a.flags, f"{order.lower()}_contiguous")):
            return a
        return evaluate(lambda x: np.array(x, dtype=wanted, order=order or "K"), a)
    if isinstance(a, (list, tuple)) and _holds_device_arrays(a):
        return evaluate(lambda parts: np.array(parts, dtype=dtype, order=order), a)
    data = np.asarray(host_only(a), dtype=dtype)
    checked_dtype(data.dtype)
    synchronizes("a copy from pageable host memory")
    made = empty(data.shape, data.dtype, "F" if order == "F" else "C")
    made._host[...] = data
    return made


def _holds_device_arrays(values: Any) -> bool:
    return any(
        isinstance(value, ndarray) or (isinstance(value, (list, tuple)) and _holds_device_arrays(value))
        for value in values
    )


def host_only(value: Any) -> Any:
    """A value for NumPy to take in; a device array within it is a mistake of the caller."""
    if isinstance(value, ndarray):
        raise TypeError(_NO_CONVERSION)
    return value


__all__ = ["adopt", "asarray", "checked_dtype", "empty", "host", "ndarray"]
