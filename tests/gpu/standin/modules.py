"""The modules `cupy`, `cupy.cuda` and their kind, put together from the parts: a strict whitelist."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from tests.gpu.standin import cuda_names as _cuda
from tests.gpu.standin import memory, record, routines
from tests.gpu.standin.device_array import ndarray
from tests.gpu.standin.raw import RawModule


class StrictModule(ModuleType):
    """A module whose names are all noted when they are used, and that says what to do about one that it lacks."""

    def __init__(self, name: str, names: Mapping[str, Any]) -> None:
        super().__init__(name, f"A stand-in for {name}: see tests/gpu/standin.")
        self.__path__: list[str] = []  # a package, so that `import cupy.cuda` works
        self.__dict__.update(names)

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if not name.startswith("_"):
            module = super().__getattribute__("__name__").removeprefix("cupy").removeprefix(".")
            record.note(f"{module}.{name}" if module else name)
        return value

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"the stand-in's module {self.__name__!r} has no {name!r}: check that CuPy has it, then add it to "
            "tests/gpu/standin"
        )


def _get_array_module(*args: Any) -> ModuleType:
    return cupy if any(isinstance(arg, ndarray) for arg in args) else np


def _build() -> dict[str, StrictModule]:
    """All modules by their full names."""
    parts: dict[str, dict[str, Any]] = {
        "cupy.cuda.runtime": _cuda.runtime_names,
        "cupy.cuda.driver": _cuda.driver_names,
        "cupy.cuda.compiler": _cuda.compiler_names,
        "cupy.cuda.nvrtc": _cuda.nvrtc_names,
        "cupy.cuda": _cuda.names,
        "cupy.linalg": routines.linalg,
        "cupy": {
            "__version__": "14.0.0",
            "ndarray": ndarray,
            "RawModule": RawModule,
            "ufunc": routines.ufunc,
            "get_default_memory_pool": memory.get_default_memory_pool,
            "get_array_module": record.recorded("get_array_module")(_get_array_module),
            **routines.constants,
            **routines.functions,
            **routines.ufuncs,
        },
    }
    modules = {name: StrictModule(name, names) for name, names in parts.items()}
    for name, module in modules.items():
        parent, _, own = name.rpartition(".")
        if parent:
            modules[parent].__dict__[own] = module
    return modules


all_modules = _build()
cupy = all_modules["cupy"]


@contextmanager
def installed() -> Iterator[StrictModule]:
    """Within the block, `import cupy` finds the stand-in."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "cupy"}
    sys.modules.update(all_modules)
    try:
        yield cupy
    finally:
        for name in all_modules:
            sys.modules.pop(name, None)
        sys.modules.update(before)
