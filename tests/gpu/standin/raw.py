"""RawModule: kernels run in the emulator, on device arrays only, with the canary zones checked after every launch."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.gpu import emulator
from tests.gpu.standin.device_array import ndarray
from tests.gpu.standin.errors import StandinError
from tests.gpu.standin.execution import capture_of
from tests.gpu.standin.memory import Allocation, MemoryPointer
from tests.gpu.standin.record import note_call


def _device_memory(value: Any) -> np.ndarray[Any, Any] | None:
    if isinstance(value, MemoryPointer):
        return value.lease.allocation.contents
    return value._host if isinstance(value, ndarray) else None


class RawModule:
    """As cupy.RawModule."""

    def __init__(
        self,
        code: str | None = None,
        *,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        name_expressions: Any = None,
        **others: Any,
    ) -> None:
        given = {"options": options, "backend": backend, "name_expressions": name_expressions, **others}
        note_call("RawModule", (self,), {"code": code, **{name: value for name, value in given.items() if value}})
        if code is None:
            raise TypeError("the stand-in takes `code`, the text of the kernels")
        if not isinstance(options, tuple):
            raise TypeError(f"Argument 'options' has incorrect type (expected tuple, got {type(options).__name__})")
        self._module = emulator.RawModule(
            code=code, options=options, name_expressions=name_expressions, device_memory=_device_memory
        )

    def get_function(self, name: str) -> Function:
        note_call("RawModule.get_function", (self, name), {})
        return Function(self._module.get_function(name))

    def compile(self, log_stream: Any = None) -> None:
        note_call("RawModule.compile", (self,), {})


class Function:
    """As cupy.RawKernel."""

    def __init__(self, function: emulator.Function) -> None:
        self._function = function

    name = property(lambda self: self._function.name)
    shared_size_bytes = property(lambda self: self._function.shared_size_bytes)
    max_threads_per_block = property(lambda self: self._function.max_threads_per_block)

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._function.max_dynamic_shared_size_bytes

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        self._function.max_dynamic_shared_size_bytes = size

    def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0, stream: Any = None) -> None:
        launch = self._function.prepare(grid, block, args, shared_mem=shared_mem)
        arrays = [value for value in args if isinstance(value, ndarray)]
        allocations = [(array._lease.allocation, f"shape {array.shape}, {array.dtype}") for array in arrays]
        capture = capture_of(None if stream is None else stream._state)

        def run() -> None:
            launch()
            for allocation, what in allocations:
                _check_zones(self._function.name, allocation, what)

        if capture is None:
            run()
        else:
            capture.add(run, arrays)


def _check_zones(kernel: str, allocation: Allocation, what: str) -> None:
    damage = allocation.damage()
    if damage is not None:
        allocation.restore_zones()
        raise StandinError(f"{kernel}: {damage} ({what})")
