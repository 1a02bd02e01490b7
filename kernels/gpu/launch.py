"""Typed launches: a kernel that checks its arguments before the device sees them.

CuPy passes a bare pointer for an array, whatever its dtype and strides, does not count the arguments, sends a Python
integer as 8 bytes where a kernel may take 4, and runs one block where the grid is empty. Here each argument is held
against the kernel's own signature, scalars are cast to the type it takes, and an empty grid launches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minicnn.kernels.gpu.runtime import cp
from minicnn.kernels.gpu.signature import Parameter

THREADS = 256
"""Threads of a block where nothing speaks for another number."""

_MOST_BLOCKS = 1 << 14
"""More blocks than a device holds at once, many times over: kernels with a grid-stride loop need no more."""


def blocks_for(count: int, threads: int = THREADS) -> tuple[int]:
    """The grid of a kernel that takes `count` elements, one a thread, in a grid-stride loop."""
    return (min(-(-count // threads), _MOST_BLOCKS),)


class Kernel:
    """A `__global__` function: kernel(grid, block, *arguments, shared=bytes of dynamic shared memory).

    Arguments are device arrays (None for a null pointer), numbers, and structs made by `Module.struct`.
    Raises TypeError or ValueError for those that the kernel does not take.
    """

    __slots__ = ("_function", "_shared_allowed", "name", "parameters")

    def __init__(self, name: str, function: Any, parameters: Sequence[Parameter]) -> None:
        self.name, self.parameters = name, tuple(parameters)
        self._function = function
        self._shared_allowed = 0

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...] | int, *arguments: Any, shared: int = 0) -> None:
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self.name} takes {len(self.parameters)} arguments. Received: {len(arguments)}")
        passed = []
        for argument, parameter in zip(arguments, self.parameters, strict=True):
            if parameter.is_pointer:
                if argument is not None:
                    self._check_array(argument, parameter)
                passed.append(argument)
            elif parameter.dtype.names is not None:
                if getattr(argument, "dtype", None) != parameter.dtype:
                    raise TypeError(
                        f"{self.name}: {parameter.name} must be a struct {parameter.dtype}. Received: {argument!r}"
                    )
                passed.append(argument)
            else:
                passed.append(parameter.dtype.type(argument))
        if 0 in grid:
            return
        if shared > self._shared_allowed:
            self._function.max_dynamic_shared_size_bytes = shared
            self._shared_allowed = shared
        threads = (block,) if isinstance(block, int) else block
        self._function(grid, threads, tuple(passed), shared_mem=shared)

    def _check_array(self, array: Any, parameter: Parameter) -> None:
        if not isinstance(array, cp.ndarray):
            raise TypeError(
                f"{self.name}: {parameter.name} must be an array on the device. Received: {type(array).__name__}"
            )
        if array.dtype != parameter.dtype:
            raise TypeError(
                f"{self.name}: {parameter.name} must be an array of {parameter.dtype}. Received: {array.dtype}"
            )
        if not array.flags.c_contiguous:
            raise ValueError(
                f"{self.name}: {parameter.name} must be C-contiguous. Received: shape {array.shape}, strides "
                f"{array.strides}"
            )
        if array.data.ptr % parameter.alignment:
            raise ValueError(
                f"{self.name}: {parameter.name} must be aligned to {parameter.alignment} bytes. Received: an array "
                f"{array.data.ptr % parameter.alignment} bytes past such an address"
            )
