"""How an operation on device arrays runs: at once, or, while the current stream is being captured, later.

On CUDA a captured operation does not run: its outputs hold whatever was in their memory until the graph is launched.
Here likewise: shapes and dtypes are found by a dry run, outputs stay poisoned, and the graph keeps the operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.gpu.standin.errors import CAPTURE_IMPLICIT, CAPTURE_UNSUPPORTED, CUDARuntimeError

if TYPE_CHECKING:
    from tests.gpu.standin.device_array import ndarray
    from tests.gpu.standin.memory import Allocation


class Capture:
    """The operations of a stream that is being captured, in their order, and the memory they use."""

    def __init__(self) -> None:
        self.operations: list[Callable[[], object]] = []
        self.allocations: dict[int, Allocation] = {}
        self.is_invalid = False

    def add(self, operation: Callable[[], object], arrays: list[ndarray]) -> None:
        self.operations.append(operation)
        for array in arrays:
            allocation = array._lease.allocation
            self.allocations[id(allocation)] = allocation


class StreamState:
    """Of one stream: its capture, if one has begun."""

    def __init__(self, is_null: bool, is_blocking: bool) -> None:
        self.is_null, self.is_blocking = is_null, is_blocking
        self.capture: Capture | None = None


null_stream = StreamState(is_null=True, is_blocking=True)
current: list[StreamState] = [null_stream]  # a stack: `with stream:` pushes
capturing: list[StreamState] = []


def capture_of(stream: StreamState | None = None) -> Capture | None:
    """The capture that an operation on this stream (None: the current one) belongs to; None: it runs at once."""
    stream = stream or current[-1]
    if stream.is_null and any(other.is_blocking for other in capturing):
        _invalidate()
        raise CUDARuntimeError(CAPTURE_IMPLICIT)
    return stream.capture


def synchronizes(what: str) -> None:
    """Called by whatever makes the host wait for the device. Raises CUDARuntimeError during a capture."""
    if capturing:
        _invalidate()
        raise CUDARuntimeError(f"{CAPTURE_UNSUPPORTED} ({what})")


def _invalidate() -> None:
    for stream in capturing:
        if stream.capture is not None:
            stream.capture.is_invalid = True


# --------------------------------------------------------------------------------------- arguments and results


def host(value: Any) -> Any:
    """Device arrays, also within lists and tuples, as the host arrays behind them.

    Raises TypeError, in CuPy's words, for a NumPy array.
    """
    from tests.gpu.standin.device_array import ndarray

    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (list, tuple)):
        return type(value)([host(item) for item in value])
    if isinstance(value, slice):
        return slice(*[_plain_index(part) for part in (value.start, value.stop, value.step)])
    return value


def _plain_index(value: Any) -> Any:
    return None if value is None else int(value)


def arrays_in(*values: Any) -> list[ndarray]:
    """All device arrays among the values, also within lists and tuples."""
    from tests.gpu.standin.device_array import ndarray

    found: list[ndarray] = []
    for value in values:
        if isinstance(value, ndarray):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += arrays_in(*value)
    return found


def evaluate(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The NumPy function on device arrays: a device array (or several), new or, where NumPy makes a view, a view."""
    from tests.gpu.standin.device_array import adopt

    plain = [host(arg) for arg in args]
    named = {name: host(value) for name, value in kwargs.items()}
    inputs = arrays_in(*args, *kwargs.values())
    capture = capture_of()
    with np.errstate(all="ignore"):  # a GPU raises no floating point warnings
        results = function(*plain, **named)
    if isinstance(results, (tuple, list)):
        return _several(results, inputs, capture)
    wrapped, is_view = adopt(results, inputs)
    if capture is not None and not is_view:
        _poison(wrapped)
        target = wrapped._host  # not the array: the graph must not keep its lease
        capture.add(lambda: _again(function, plain, named, target), [*inputs, wrapped])
    return wrapped


def _several(results: Any, inputs: list[ndarray], capture: Capture | None) -> Any:
    """The results of a function that has a list or tuple of them, each as a device array."""
    from tests.gpu.standin.device_array import adopt

    adopted = [adopt(result, inputs) for result in results]
    if capture is not None and not all(is_view for _, is_view in adopted):
        raise NotImplementedError("the stand-in cannot capture a function of several results")
    arrays = [array for array, _ in adopted]
    return tuple(arrays) if isinstance(results, tuple) else arrays


def _poison(array: ndarray) -> None:
    array._lease.allocation.contents[:] = 0xFF


def _again(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], target: Any) -> None:
    with np.errstate(all="ignore"):
        target[...] = function(*args, **kwargs)


def execute_into(target: ndarray, action: Callable[..., object], *args: Any) -> None:
    """`action(target, *args)`, which writes the first of the host arrays it gets."""
    plain, memory = [host(arg) for arg in args], target._host
    capture = capture_of()

    def run() -> None:
        with np.errstate(all="ignore"):
            action(memory, *plain)

    if capture is None:
        run()
        return
    with np.errstate(all="ignore"):
        action(memory.copy(), *plain)  # complains now of what cannot be done
    capture.add(run, [target, *arrays_in(*args)])
