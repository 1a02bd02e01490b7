"""Arguments of a launch: held against the kernel's parameters, then laid out as the launcher wants them.

CuPy checks none of this: an array passes as its address, whatever its dtype and strides, and a Python number as eight
bytes, whatever the kernel reads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.gpu.emulator.errors import LaunchError
from tests.gpu.emulator.library import Parameter

DeviceMemory = Callable[[Any], "np.ndarray[Any, Any] | None"]
"""The host array that stands for an object's device memory; None for what does not live on the device."""

_SAME_BYTES = {"bf16": ("u2", "V2"), "u8": ("u8", "i8"), "b1": ("b1",)}  # dtypes that pass for one another


def numpy_array_as_device_memory(value: Any) -> np.ndarray[Any, Any] | None:
    """For tests without a stand-in of CuPy: any NumPy array is device memory."""
    return value if isinstance(value, np.ndarray) else None


class Packed:
    """The launcher's argument list; keeps alive what it points to."""

    def __init__(self, values: Sequence[ctypes.c_void_p | ctypes.Array[ctypes.c_char]]) -> None:
        self._values = values
        self.pointers = (ctypes.c_void_p * max(1, len(values)))()
        for i, value in enumerate(values):
            self.pointers[i] = ctypes.addressof(value)


def pack(kernel: str, parameters: Sequence[Parameter], arguments: Sequence[Any], device_memory: DeviceMemory) -> Packed:
    """Check each argument against its parameter. Raises LaunchError, which names the argument."""
    if len(arguments) != len(parameters):
        raise LaunchError(f"{kernel}: the kernel takes {len(parameters)} arguments. Received: {len(arguments)}")
    values: list[Any] = []
    for position, (parameter, argument) in enumerate(zip(parameters, arguments, strict=True)):
        where = f"{kernel}, argument {position}"
        if parameter.kind == "value":
            values.append(_by_value(where, parameter, argument, device_memory))
        else:
            values.append(_by_address(where, parameter, argument, device_memory))
    return Packed(values)


def _by_address(where: str, parameter: Parameter, argument: Any, device_memory: DeviceMemory) -> ctypes.c_void_p:
    if argument is None:  # CuPy's null pointer
        return ctypes.c_void_p(0)
    memory = device_memory(argument)
    if memory is None:
        kind = "an array of the host" if isinstance(argument, np.ndarray) else "no array"
        raise LaunchError(f"{where}: a device array is needed. Received: {type(argument).__name__}, {kind}")
    if not _same_dtype(memory.dtype, parameter.dtype):
        raise LaunchError(f"{where}: the kernel takes a pointer to {parameter.dtype}. Received: {memory.dtype}")
    if not memory.flags.c_contiguous:
        raise LaunchError(f"{where}: the array must be C-contiguous. Received: strides {memory.strides}")
    address = memory.ctypes.data
    if memory.size and address % parameter.alignment:
        raise LaunchError(
            f"{where}: the address must be a multiple of {parameter.alignment} for elements of {parameter.size} bytes"
        )
    return ctypes.c_void_p(address)


def _same_dtype(dtype: np.dtype[Any], wanted: str) -> bool:
    if wanted in ("void", "struct"):  # nothing is known of what lies behind the pointer
        return True
    return dtype.str[1:] in _SAME_BYTES.get(wanted, (wanted,))


def _by_value(
    where: str, parameter: Parameter, argument: Any, device_memory: DeviceMemory
) -> ctypes.Array[ctypes.c_char]:
    is_struct = parameter.dtype == "struct"
    data = _struct_bytes(where, argument) if is_struct else _scalar_bytes(where, parameter, argument)
    if len(data) != parameter.size:
        raise LaunchError(f"{where}: the kernel takes {parameter.size} bytes. Received: {len(data)}")
    return ctypes.create_string_buffer(data, max(len(data), 8))


def _struct_bytes(where: str, argument: Any) -> bytes:
    """A struct goes as a NumPy array, or scalar, of one element."""
    if isinstance(argument, np.ndarray) and argument.size == 1:
        return argument.tobytes()
    if isinstance(argument, np.generic):
        return argument.tobytes()
    raise LaunchError(
        f"{where}: a struct is passed as a NumPy array of one element. Received: {type(argument).__name__}"
    )


def _scalar_bytes(where: str, parameter: Parameter, argument: Any) -> bytes:
    if isinstance(argument, np.ndarray) and argument.size == 1:
        argument = argument.reshape(())[()]
    if isinstance(argument, np.generic):
        if not _same_dtype(argument.dtype, parameter.dtype):
            raise LaunchError(f"{where}: the kernel takes {parameter.dtype}. Received: {argument.dtype}")
        return argument.tobytes()
    sent_as = {bool: "b1", int: "i8", float: "f8"}.get(type(argument))  # how CuPy sends a Python number
    if sent_as is None:
        raise LaunchError(f"{where}: a number is needed. Received: {type(argument).__name__}")
    if sent_as != parameter.dtype:
        raise LaunchError(
            f"{where}: the kernel takes {parameter.dtype}, but CuPy sends a Python {type(argument).__name__} as "
            f"{sent_as}: pass a NumPy scalar"
        )
    return np.dtype(sent_as).type(argument).tobytes()
