"""NVRTC through ctypes: compile a CUDA source for an architecture, without a GPU. And nvdisasm, to read what came out.

Both come as wheels (`nvidia-cuda-nvrtc`, `nvidia-cuda-nvdisasm`), which CuPy's own wheel does not carry.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

MODULE = "nvidia.cu13"
"""The package that both wheels put their files into."""

_KERNEL = re.compile(r"Compiling entry function '(\w+)'.*?(?=Compiling entry function|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Usage:
    """What ptxas says of a kernel: registers a thread, bytes that did not fit into them."""

    registers: int
    spilled: int


@dataclass(frozen=True)
class Compiled:
    """A cubin, and what its kernels use."""

    cubin: bytes
    usage: Mapping[str, Usage]


class CompilationError(Exception):
    """NVRTC refused a source; the message is its log."""


@cache
def _folder() -> Path:
    spec = importlib.util.find_spec(MODULE)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def _library() -> Any:
    """libnvrtc, after the builtins that it would otherwise look for on the system's path."""
    folder = _folder() / "lib"
    ctypes.CDLL(str(next(folder.glob("libnvrtc-builtins.so*"))), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(folder / "libnvrtc.so.13"))


def version() -> tuple[int, int]:
    """NVRTC's (major, minor)."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def compile_source(text: str, file: str, options: tuple[str, ...], architecture: int) -> Compiled:
    """The cubin of a source for sm_<architecture>, with the options that CuPy adds.

    Raises CompilationError, with the compiler's log.
    """
    nvrtc, program = _library(), ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), file.encode(), 0, None, None)
    flags = [*options, f"-arch=sm_{architecture}", "-ftz=true", "--ptxas-options=-v"]
    try:
        encoded = (ctypes.c_char_p * len(flags))(*[flag.encode() for flag in flags])
        status = nvrtc.nvrtcCompileProgram(program, len(flags), encoded)
        log = _read(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).rstrip(b"\0").decode()
        if status != 0:
            raise CompilationError(f"{file} for sm_{architecture} with {options}:\n{log}")
        return Compiled(_read(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN), _usage(log))
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _read(program: ctypes.c_void_p, size_of: Any, get: Any) -> bytes:
    size = ctypes.c_size_t()
    size_of(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    get(program, buffer)
    return buffer.raw


def _usage(log: str) -> dict[str, Usage]:
    usage = {}
    for part in _KERNEL.finditer(log):
        registers = re.search(r"Used (\d+) registers", part.group(0))
        spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", part.group(0))
        assert registers is not None
        assert spilled is not None
        usage[part.group(1)] = Usage(int(registers.group(1)), int(spilled.group(1)) + int(spilled.group(2)))
    return usage


def disassemble(cubin: bytes) -> dict[str, list[str]]:
    """The machine instructions (SASS) of every kernel of a cubin, one string each, without addresses."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        run = [str(_folder() / "bin" / "nvdisasm"), "--print-code", file.name]
        listing = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    kernels: dict[str, list[str]] = {}
    for name, body in re.findall(r"^\.text\.(\w+):\n(.*?)(?=^\.text\.|\Z)", listing, re.DOTALL | re.MULTILINE):
        kernels[name] = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(.*?);", body)
    return kernels
