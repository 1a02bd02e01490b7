"""The compiled library seen from Python: the structures of include/launch.h, and a kernel's parsed signature."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path


class Statistics(ctypes.Structure):
    """Counts of one launch."""

    _fields_ = [
        (name, ctypes.c_uint64) for name in ("blocks", "threads", "switches", "block_barriers", "warp_operations")
    ]

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name, *_ in self._fields_}


class Launch(ctypes.Structure):
    """As `emulator::Launch` in include/launch.h."""

    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("dynamic_shared_bytes", ctypes.c_size_t),
        ("arguments", ctypes.POINTER(ctypes.c_void_p)),
        ("order", ctypes.c_int),
        ("seed", ctypes.c_uint),
        ("flush_denormals", ctypes.c_int),
        ("first_block", ctypes.c_uint64),
        ("last_block", ctypes.c_uint64),
        ("error", ctypes.c_char_p),
        ("error_bytes", ctypes.c_size_t),
        ("statistics", Statistics),
    ]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel.

    kind       "in" (pointer to const), "out" (pointer) or "value"
    dtype      of the value or of what the pointer points to: NumPy's letters ("f4"), or "bf16", "struct", "void"
    size       bytes of the value, or of one element behind the pointer
    alignment  that the address must have
    """

    kind: str
    dtype: str
    size: int
    alignment: int


def parse_signature(text: str) -> tuple[Parameter, ...]:
    """The parameters that `signature` of include/launch.h wrote down."""
    items = [item.split() for item in text.split(";") if item]
    return tuple(Parameter(kind, dtype, int(size), int(alignment)) for kind, dtype, size, alignment in items)


class CompiledKernel:
    """One kernel of a loaded library: its launcher, its parameters, the limit of its __launch_bounds__."""

    def __init__(self, path: Path, export: str) -> None:
        library = _load(path)
        self.launch = getattr(library, f"emulator_launch_{export}")
        self.launch.argtypes, self.launch.restype = [ctypes.POINTER(Launch)], ctypes.c_int
        signature = getattr(library, f"emulator_signature_{export}")
        signature.restype = ctypes.c_char_p
        self.parameters = parse_signature(signature().decode())
        self.thread_bound: int = getattr(library, f"emulator_bound_{export}")()


@cache
def _load(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path))
