"""CUDA sources: read, headers inlined, compiled once for each set of defines.

A `.cu` file opens with two lines that are read here, so that there is one list of what is compiled:

    // defines: REAL=float|double TILE=16|32
    // minimum: sm_75

`module("pool.cu", x.dtype)` is that file with REAL set to the dtype's C type. CuPy keeps compiled code on disk under a
hash of the text and the options, in which an included header would not show: that is why headers are inlined, and why
the cache cannot go stale.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.gpu.launch import Kernel
from minicnn.kernels.gpu.runtime import cp
from minicnn.kernels.gpu.signature import parse_signatures, parse_structs

FOLDER = Path(__file__).parent

_INCLUDE = re.compile(r'^\s*#include\s+"([\w./]+)"[^\n]*$', re.MULTILINE)
_C_TYPES = {"float32": "float", "float64": "double"}


def sources() -> list[str]:
    """Names of all .cu files of this backend."""
    return sorted(path.name for path in FOLDER.glob("*.cu"))


@cache
def read_source(file: str) -> str:
    """The text of a .cu file with its headers in place, each once."""
    return _inline(file, set())


def _inline(file: str, seen: set[str]) -> str:
    seen.add(file)
    text = (FOLDER / file).read_text(encoding="utf-8")

    def put(match: re.Match[str]) -> str:
        header = match.group(1)
        if header in seen:
            return ""
        line = text.count("\n", 0, match.end()) + 2
        return f'#line 1 "{header}"\n{_inline(header, seen)}\n#line {line} "{file}"'

    return _INCLUDE.sub(put, text)


def header_line(file: str, key: str) -> str:
    """What stands after `// key:` at the top of a .cu file.

    Raises ValueError where there is no such line.
    """
    match = re.search(rf"^// {key}: *(.*)$", read_source(file), re.MULTILINE)
    if match is None:
        raise ValueError(f"{file} must have a line '// {key}: ...' at its top")
    return match.group(1).strip()


@cache
def allowed_defines(file: str) -> Mapping[str, tuple[str, ...]]:
    """The values that each define of a file may take: {"REAL": ("float", "double")}."""
    return {
        name: tuple(values.split("|"))
        for name, values in (part.split("=") for part in header_line(file, "defines").split())
    }


def minimum_architecture(file: str) -> int:
    """The oldest GPU a file is for: 75 of "sm_75"."""
    return int(header_line(file, "minimum").removeprefix("sm_"))


def variants(file: str) -> Iterator[dict[str, str]]:
    """Every set of defines that a file may be compiled with."""
    allowed = allowed_defines(file)
    for values in itertools.product(*allowed.values()):
        yield dict(zip(allowed, values, strict=True))


def options_of(defines: Mapping[str, str]) -> tuple[str, ...]:
    """The compiler's options for a set of defines."""
    return ("-std=c++17", *(f"-D{name}={value}" for name, value in defines.items()))


class Module:
    """One .cu file, compiled: its kernels and the structs that they take by value."""

    def __init__(self, file: str, defines: Mapping[str, str]) -> None:
        text = read_source(file)
        self.structs = parse_structs(text, defines)
        self._signatures = parse_signatures(text, defines, self.structs)
        self._compiled = cp.RawModule(code=text, options=options_of(defines))
        self._kernels: dict[str, Kernel] = {}

    def kernel(self, name: str) -> Kernel:
        """The `__global__` function of that name; called as kernel(grid, block, *arguments)."""
        found = self._kernels.get(name)
        if found is None:
            function = self._compiled.get_function(name)
            found = self._kernels[name] = Kernel(name, function, self._signatures[name])
        return found

    def struct(self, name: str, **fields: Any) -> Array:
        """A struct to be passed by value: a NumPy record of one element, laid out as C++ does."""
        dtype = self.structs[name]
        if set(fields) != set(dtype.names or ()):
            raise TypeError(f"struct {name} has the fields {dtype.names}. Received: {sorted(fields)}")
        record = np.zeros((), dtype)
        for field, value in fields.items():
            record[field] = value
        return record


def module(file: str, dtype: Any = None, **defines: Any) -> Module:
    """The file compiled with REAL as the dtype (float32 or float64) and the other defines.

    Raises ValueError for a define or a value that the file does not list.
    """
    if dtype is not None:
        defines["REAL"] = _C_TYPES[np.dtype(dtype).name]
    return _module(file, tuple(sorted((name, str(value)) for name, value in defines.items())), cp.cuda.Device().id)


@cache
def _module(file: str, defines: tuple[tuple[str, str], ...], device: int) -> Module:
    """`device` is a part of the key only: compiled code belongs to the device that was current."""
    allowed = allowed_defines(file)
    given = dict(defines)
    if set(given) != set(allowed) or any(value not in allowed[name] for name, value in given.items()):
        raise ValueError(f"{file} is compiled with {dict(allowed)}. Received: {given}")
    return Module(file, given)
