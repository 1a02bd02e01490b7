"""What a kernel takes, read from its source: dtypes of arrays and scalars, structs passed by value.

Only what the kernels of this folder use is understood; the compiler checks the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_SCALARS = {
    "bool": "?", "signed char": "i1", "unsigned char": "u1", "unsigned short": "u2",
    "int": "i4", "unsigned": "u4", "unsigned int": "u4", "long long": "i8", "unsigned long long": "u8",
    "float": "f4", "double": "f8",
}  # fmt: skip
_VECTORS = {"float2": ("f4", 8), "float4": ("f4", 16), "double2": ("f8", 16), "int4": ("i4", 16), "uint4": ("u4", 16)}
"""Vector types that pointers may point to: the dtype of the array, and to how many bytes it must be aligned."""

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_KERNEL = re.compile(
    r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)', re.DOTALL
)
_STRUCT = re.compile(r"\bstruct\s+(\w+)\s*\{([^{}()]*)\}\s*;")
_FIELD = re.compile(r"(\w+)(?:\[(\d+)\])?")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel."""

    name: str
    dtype: np.dtype[Any]
    is_pointer: bool
    is_const: bool
    alignment: int
    """Bytes that a pointer must be a multiple of."""


def parse_structs(text: str, defines: Mapping[str, str]) -> dict[str, np.dtype[Any]]:
    """The structs of a source as NumPy dtypes with C's own alignment. Those that kernels do not take are left out."""
    structs = {}
    for name, body in _STRUCT.findall(_COMMENT.sub("", text)):
        fields: list[tuple[Any, ...]] = []
        for declaration in filter(None, (line.strip() for line in body.split(";"))):
            scalar, names = _split_type(declaration, defines)
            if scalar is None:
                break
            for field, length in _FIELD.findall(names):
                fields.append((field, scalar, (int(length),)) if length else (field, scalar))
        else:
            structs[name] = np.dtype(fields, align=True)
    return structs


def _split_type(declaration: str, defines: Mapping[str, str]) -> tuple[str | None, str]:
    """'unsigned int a, b' -> ('u4', 'a, b'); None for a type that is no scalar."""
    words = declaration.split()
    for count in (3, 2, 1):  # the longest type name first
        name = _resolve(" ".join(words[:count]), defines)
        if name in _SCALARS and len(words) > count:
            return _SCALARS[name], " ".join(words[count:])
    return None, declaration


def _resolve(name: str, defines: Mapping[str, str]) -> str:
    """`real` is the type that REAL defines."""
    return defines.get("REAL", "float") if name == "real" else name


def parse_signatures(
    text: str, defines: Mapping[str, str], structs: Mapping[str, np.dtype[Any]]
) -> dict[str, tuple[Parameter, ...]]:
    """The parameters of every `extern "C" __global__` function of a source.

    Raises ValueError for a type that is neither a scalar, nor a pointer, nor one of the structs.
    """
    return {
        name: tuple(_parameter(name, declared, defines, structs) for declared in parameters.split(","))
        for name, parameters in _KERNEL.findall(_COMMENT.sub("", text))
    }


def _parameter(
    kernel: str, declared: str, defines: Mapping[str, str], structs: Mapping[str, np.dtype[Any]]
) -> Parameter:
    is_pointer, is_const = "*" in declared, bool(re.search(r"\bconst\b", declared))
    *words, name = re.sub(r"\bconst\b|__restrict__|\*", " ", declared).split()
    c_type = _resolve(" ".join(words), defines)
    if c_type in _SCALARS:
        dtype = np.dtype(_SCALARS[c_type])
        return Parameter(name, dtype, is_pointer, is_const, dtype.itemsize)
    if c_type in _VECTORS and is_pointer:
        element, alignment = _VECTORS[c_type]
        return Parameter(name, np.dtype(element), True, is_const, alignment)
    if c_type in structs and not is_pointer:
        return Parameter(name, structs[c_type], False, is_const, structs[c_type].alignment)
    raise ValueError(f"{kernel}: parameter {name!r} has a type that is not known here. Received: {declared.strip()!r}")
