"""From the text of a .cu file to a shared library: g++, and a cache on disk that processes may share."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.gpu.emulator.errors import CompileError

INCLUDE = Path(__file__).parent / "include"
STATIC_SHARED_LIMIT = 48 * 1024

_FLAGS = ("-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden", "-w", "-O2", "-march=native")
_TARGET = ("-DMINICNN_EMULATOR", "-D__CUDA_ARCH__=900", f"-I{INCLUDE}")
_IGNORED = re.compile(
    r"--?std=c\+\+(11|14|17)|--?(lineinfo|generate-line-info|use_fast_math|maxrregcount=\d+|ftz=true)"
)
_BOUNDS = r"(?:__launch_bounds__\s*\((?P<{}>(?:[^()]|\([^()]*\))*)\)\s*)?"
_KERNEL = re.compile(rf"__global__\s+{_BOUNDS.format('early')}void\s+{_BOUNDS.format('late')}(?P<name>\w+)\s*\(")
_TEMPLATE_BEFORE = re.compile(r"template\s*<[^;{}]*>\s*(static\s+)?$")


@dataclass(frozen=True)
class Library:
    """A compiled text: the file, what exports each kernel (by name or expression), bytes of static shared memory."""

    path: Path
    exports: dict[str, str]
    static_shared: dict[str, int]


def find_compiler() -> str | None:
    """The C++ compiler's path, None where there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


def compile_text(
    code: str, options: Sequence[str] = (), expressions: Sequence[str] = (), sanitize: str = "", portable: bool = False
) -> Library:
    """Compile the text of a kernel file, or find it in the cache.

    options      as NVRTC's: -DNAME=VALUE, -Ifolder; those that only matter to a GPU are ignored
    expressions  instantiations of templates, `kernel<float, 4>`
    sanitize     "" or g++'s list, "undefined", "address"
    portable     switch fibers by ucontext even where there is a faster way

    Raises CompileError with g++'s message, for options that are not known, and for more than 48 KB of static shared
    memory in one kernel.
    """
    flags = [*_FLAGS, *_TARGET, *_translated(options)]
    if sanitize:
        flags += ["-g", f"-fsanitize={sanitize}", f"-fsanitize-recover={sanitize}"]  # go on: Python raises the error
    if portable:
        flags.append("-DEMULATOR_UCONTEXT")
    key = _key(code, flags, expressions)
    folder = cache_folder()
    library, manifest = folder / f"{key}.so", folder / f"{key}.json"
    if not library.exists():  # it is put there last, whole
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f"{key}-") as scratch:
            _build(Path(scratch), code, flags, expressions)
            os.replace(Path(scratch) / "manifest.json", manifest)
            os.replace(Path(scratch) / "library.so", library)
    described = json.loads(manifest.read_text())
    return Library(library, described["exports"], described["static_shared"])


def cache_folder() -> Path:
    """Where libraries are kept: MINICNN_EMULATOR_CACHE, else a folder among the user's caches."""
    chosen = os.environ.get("MINICNN_EMULATOR_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minicnn" / "emulator"


def list_kernels(code: str, options: Sequence[str] = ()) -> dict[str, str]:
    """Kernels that are no templates, as the text orders them: name -> what its __launch_bounds__ says, "" for none."""
    with tempfile.TemporaryDirectory() as scratch:
        return _list_kernels(Path(scratch), code, [*_FLAGS, *_TARGET, *_translated(options)])


def _translated(options: Sequence[str]) -> Iterator[str]:
    """NVRTC's options as g++'s."""
    waiting = iter(options)
    for option in waiting:
        if option in ("-D", "-I"):
            yield option + next(waiting)
        elif option.startswith(("-D", "-I")):
            yield option
        elif option.startswith("--define-macro="):
            yield "-D" + option.removeprefix("--define-macro=")
        elif option.lstrip("-") in ("fmad=false", "fmad=true"):
            yield "-ffp-contract=" + ("off" if option.endswith("false") else "fast")
        elif not _IGNORED.fullmatch(option):
            raise CompileError(f"the emulator does not know the option {option!r}: add it to compiler.py if NVRTC does")


def _key(code: str, flags: Sequence[str], expressions: Sequence[str]) -> str:
    texts = (code, *flags, "|", *expressions, _headers(), _compiler_version())
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]


@cache
def _headers() -> str:
    return "\0".join(path.read_text() for path in sorted(INCLUDE.glob("*.h"))) + Path(__file__).read_text()


@cache
def _compiler_version() -> str:
    """Version and, since the code is made for this very processor, what -march=native means here."""
    command = [_compiler(), "-march=native", "-E", "-v", "-x", "c++", os.devnull]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    return "\n".join(line for line in said.splitlines() if "version" in line or "cc1" in line)


def _compiler() -> str:
    compiler = find_compiler()
    if compiler is None:
        raise CompileError("the emulator needs g++ to compile kernels, and found none")
    return compiler


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(f"{Path(command[0]).name} failed:\n{done.stderr[:4000]}")
    return done.stdout


def _list_kernels(scratch: Path, code: str, flags: Sequence[str]) -> dict[str, str]:
    """Read the kernels off the preprocessed text, where comments are gone and macros and #if are done with."""
    source = scratch / "list.cpp"
    source.write_text(f'#include "emulator.h"\n{code}')
    text = _run([_compiler(), *flags, "-DEMULATOR_LIST_KERNELS", "-E", "-P", str(source)])
    return {
        match["name"]: match["early"] or match["late"] or ""
        for match in _KERNEL.finditer(text)
        if not _TEMPLATE_BEFORE.search(text, 0, match.start())
    }


def _build(scratch: Path, code: str, flags: Sequence[str], expressions: Sequence[str]) -> None:
    """Write library.so and manifest.json."""
    bounds = _list_kernels(scratch, code, flags)
    exports = {name: name for name in bounds} | {text: f"expression{i}" for i, text in enumerate(expressions)}
    source = scratch / "kernel.cpp"
    source.write_text(_wrapped(code, exports, bounds))
    library = scratch / "library.so"
    _run([_compiler(), *flags, str(source), "-o", str(library)])
    static_shared = _static_shared(library, exports)
    for kernel, size in static_shared.items():
        if size > STATIC_SHARED_LIMIT:
            raise CompileError(f"{kernel}: uses too much shared data ({size:#x} bytes, {STATIC_SHARED_LIMIT:#x} max)")
    (scratch / "manifest.json").write_text(json.dumps({"exports": exports, "static_shared": static_shared}))


def _wrapped(code: str, exports: dict[str, str], bounds: dict[str, str]) -> str:
    """The translation unit: the text, untouched, in a namespace without a name.

    In it everything is private to the file, so also shared arrays of templates may be put in a section of our choice.
    """
    lines = [
        f"EMULATOR_EXPORT({export}, ::emulator::first({bounds.get(kernel) or 0}), {kernel})"
        for kernel, export in exports.items()
    ]
    return "\n".join(['#include "emulator.h"', "namespace {", '#line 1 "kernel.cu"', code, "}", *lines, ""])


def _static_shared(library: Path, exports: dict[str, str]) -> dict[str, int]:
    """Bytes of static shared arrays by kernel, from the symbols' sizes.

    A local array's symbol holds its function's name (`_ZZ4convE4tile`: tile of conv). One of a device function, which
    may be called from anywhere, counts for all kernels.
    """
    symbols = _run(["nm", "-S", str(library)])
    section = _section_range(library)
    names = {kernel: re.split(r"[<\s]", kernel)[0] for kernel in exports}
    total = dict.fromkeys(exports, 0)
    for line in symbols.splitlines():
        fields = line.split()
        if len(fields) != 4 or int(fields[0], 16) not in section:
            continue
        owners = [kernel for kernel, name in names.items() if f"{len(name)}{name}" in fields[3]]
        for kernel in owners or exports:
            total[kernel] += int(fields[1], 16)
    return total


def _section_range(library: Path) -> range:
    """Addresses of the section that holds static shared arrays."""
    for line in _run(["readelf", "-SW", str(library)]).splitlines():
        match = re.search(r"\] emulator_shared\s+\w+\s+([0-9a-f]+)\s+[0-9a-f]+\s+([0-9a-f]+)", line)
        if match:
            start, size = int(match[1], 16), int(match[2], 16)
            return range(start, start + size)
    return range(0)
