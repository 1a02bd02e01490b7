"""How kernels are compiled: Numba in nopython mode, kept on disk, never stale.

`@kernel` compiles a function when it is first called with arrays of some dtype, and writes the machine code to the
cache folder. A file's name there is a hash of all that the code depends on: the sources of this package, the versions
of Numba and llvmlite, the processor, the vector width, the function and its argument types. So code from before an
edit, in whichever file, is never found again; and two processes that compile the same kernel write the same file, each
by way of a temporary one that it renames.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
from numba.core import sigutils
from numba.core.caching import _Cache
from numba.core.ccallback import CFunc
from numba.core.compiler import CompileResult

from minicnn.kernels.cpu import host

FASTMATH = {"contract", "nsz", "arcp"}
"""What the compiler may do with floats: fuse a multiply with an add, ignore the sign of zero, divide by a reciprocal.
It may not reorder sums (results would depend on the compiler's mood) nor assume that NaN and infinity do not occur."""

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": FASTMATH, "no_cfunc_wrapper": True}
_EXPORT_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": FASTMATH}


def kernel(function: Callable[..., Any], needs: Callable[[Any], None] | None = None) -> Any:
    """Compile `function` for each combination of argument types it is called with, through the disk cache.

    needs: called with the argument types before the code is compiled or loaded; see `exported`.
    """
    dispatcher = numba.njit(**_OPTIONS)(function)
    dispatcher._cache = KernelCache(function, needs)
    return dispatcher


def helper(function: Callable[..., Any]) -> Any:
    """A function that only kernels call: compiled into each of them, not kept by itself."""
    return numba.njit(**_OPTIONS, no_cpython_wrapper=True)(function)


def exported(symbol: str, signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function once, under a name that other kernels' machine code refers to (`types.ExternalFunction`).

    A helper is compiled anew into each kernel that calls it; this is for one that is too big for that. Returns a
    function that compiles it, or loads it from the cache, and makes the symbol known; further calls do nothing.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        callback: Any = CFunc(function, sigutils.normalize_signature(signature), {}, dict(_EXPORT_OPTIONS))
        function.__qualname__ = symbol
        callback._cache = KernelCache(function)

        @functools.cache
        def load() -> None:
            callback.compile()
            llvm.add_symbol(symbol, callback.address)

        return load

    return decorate


def cache_folder() -> Path:
    """Where compiled kernels are kept: `$MINICNN_KERNEL_CACHE`, else ~/.cache/minicnn/kernels."""
    named = os.environ.get("MINICNN_KERNEL_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "minicnn" / "kernels"


def _fingerprint() -> str:
    """A hash of all that compiled code depends on besides its own signature."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    for part in (sys.version, numba.__version__, llvmlite.__version__, host.cpu_name(), host.features(), host.lanes()):
        digest.update(str(part).encode() + b"\0")
    return digest.hexdigest()[:20]


FINGERPRINT = _fingerprint()


_known: set[tuple[str, int]] = set()
"""Names and lines of all kernels of this process: what tells their files apart."""


class KernelCache(_Cache):
    """Compiled overloads of one function, one file each. The interface is Numba's; see numba.core.caching."""

    def __init__(self, function: Callable[..., Any], needs: Callable[[Any], None] | None = None) -> None:
        self._needs = needs
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
        self._line = function.__code__.co_firstlineno
        if (self._name, self._line) in _known:
            raise ValueError(
                f"two kernels are named {self._name}, and would take each other's code from the cache. Give each that "
                "a function makes its own __qualname__ before @kernel."
            )
        _known.add((self._name, self._line))

    @property
    def cache_path(self) -> str:
        return str(cache_folder() / FINGERPRINT)

    def enable(self) -> None:
        """Always on."""

    def disable(self) -> None:
        """Always on."""

    def flush(self) -> None:
        """Files of other fingerprints are removed by `remove_stale`; those of this one are right by construction."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled code for this signature, or None; Numba then compiles and calls `save_overload`."""
        if self._needs is not None:
            self._needs(sig.args if hasattr(sig, "args") else sig)
        target_context.refresh()
        try:
            parts = pickle.loads(self._file(sig).read_bytes())
        except (OSError, EOFError, pickle.UnpicklingError):  # not there, or damaged
            report.begin(self._name)
            return None
        return CompileResult._rebuild(target_context, *parts)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write the code whole or not at all. A folder that cannot be written costs the next process its time only."""
        report.end(self._name)
        content = pickle.dumps(data._reduce(), protocol=-1)
        path = self._file(sig)
        try:
            if not path.parent.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                remove_stale(path.parent)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
                file.write(content)
            os.replace(file.name, path)
        except OSError:
            return

    def _file(self, sig: Any) -> Path:
        key = hashlib.sha256(f"{self._line} {sig}".encode()).hexdigest()[:16]
        return Path(self.cache_path) / f"{self._name}.{key}.kernel"


def remove_stale(current: Path, days: float = 30) -> None:
    """Remove the folders beside `current` that nobody has written to for so many days: code of older sources."""
    for folder in current.parent.iterdir():
        if folder != current and folder.is_dir() and time.time() - folder.stat().st_mtime > days * 86400:
            shutil.rmtree(folder, ignore_errors=True)


class CompileReport:
    """Says on the terminal that kernels are being compiled: the first run takes its time, and should say why."""

    def __init__(self) -> None:
        self._running: dict[str, float] = {}
        self.compiled: dict[str, float] = {}

    def begin(self, name: str) -> None:
        if not self.compiled and not self._running and sys.stderr is not None and sys.stderr.isatty():
            print("minicnn: compiling kernels for this machine, once; this takes up to a minute ...", file=sys.stderr)
        self._running[name] = time.perf_counter()

    def end(self, name: str) -> None:
        self.compiled[name] = time.perf_counter() - self._running.pop(name, time.perf_counter())


report = CompileReport()
