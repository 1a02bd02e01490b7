"""RawModule and its functions, with CuPy's arguments: compile a text, launch its kernels on the CPU."""

from __future__ import annotations

import ctypes
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from tests.gpu.emulator import arguments as packing
from tests.gpu.emulator.compiler import compile_text
from tests.gpu.emulator.errors import CompileError, KernelError, LaunchError
from tests.gpu.emulator.library import CompiledKernel, Launch
from tests.gpu.emulator.state import ORDERS, record, settings

DEFAULT_SHARED_LIMIT = 48 * 1024  # of dynamic shared memory, unless a function asks for more
SHARED_LIMIT = 227 * 1024  # of a block, static and dynamic, on sm_90
MAX_THREADS = 1024
MAX_BLOCK = (1024, 1024, 64)
MAX_GRID = (2**31 - 1, 65535, 65535)

_ERROR_BYTES = 1024
_one_at_a_time = threading.Lock()  # a library has one machine, and a process one stderr


class RawModule:
    """The kernels of one text. As cupy.RawModule, for as much of it as minicnn uses.

    code              the text of a .cu file, its own headers inlined
    options           NVRTC's: -DNAME=VALUE, ...
    name_expressions  instantiations of kernel templates, for `get_function`
    device_memory     which arguments are device arrays (the stand-in of CuPy passes its own rule)
    sanitize          g++'s sanitizers, by default those named in MINICNN_EMULATOR_SANITIZE: "undefined"; or "address",
                      for which Python must be started with libasan in LD_PRELOAD and ASAN_OPTIONS=halt_on_error=0
    portable          switch fibers by ucontext
    """

    def __init__(
        self,
        *,
        code: str,
        options: Sequence[str] = (),
        name_expressions: Sequence[str] | None = None,
        device_memory: packing.DeviceMemory = packing.numpy_array_as_device_memory,
        sanitize: str | None = None,
        portable: bool = False,
    ) -> None:
        self.sanitize = os.environ.get("MINICNN_EMULATOR_SANITIZE", "") if sanitize is None else sanitize
        self._library = compile_text(code, options, name_expressions or (), self.sanitize, portable)
        self._device_memory = device_memory
        self._functions: dict[str, Function] = {}

    @property
    def kernels(self) -> list[str]:
        """Names that `get_function` takes."""
        return list(self._library.exports)

    def get_function(self, name: str) -> Function:
        """The kernel of that name. Raises CompileError where the text has none."""
        if name not in self._library.exports:
            raise CompileError(
                f"CUDA_ERROR_NOT_FOUND: named symbol not found. Received: {name!r}, not of {self.kernels}"
            )
        if name not in self._functions:
            kernel = CompiledKernel(self._library.path, self._library.exports[name])
            static_shared = self._library.static_shared[name]
            self._functions[name] = Function(name, kernel, static_shared, self._device_memory, bool(self.sanitize))
        return self._functions[name]


class Function:
    """A kernel: `function(grid, block, args, shared_mem=0, stream=None)`. As cupy.RawKernel."""

    def __init__(
        self,
        name: str,
        kernel: CompiledKernel,
        static_shared: int,
        device_memory: packing.DeviceMemory,
        is_sanitized: bool,
    ) -> None:
        self.name, self._kernel, self._device_memory, self._is_sanitized = name, kernel, device_memory, is_sanitized
        self.shared_size_bytes = static_shared
        self._max_dynamic = DEFAULT_SHARED_LIMIT - static_shared

    @property
    def max_threads_per_block(self) -> int:
        return self._kernel.thread_bound or MAX_THREADS

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        """How much dynamic shared memory a launch may ask for: 48 KB, unless set to more."""
        return self._max_dynamic

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        if not 0 <= size <= SHARED_LIMIT - self.shared_size_bytes:
            raise LaunchError(
                f"{self.name}: CUDA_ERROR_INVALID_VALUE: a block has {SHARED_LIMIT} bytes of shared memory, "
                f"{self.shared_size_bytes} of them static. Received: max_dynamic_shared_size_bytes={size}"
            )
        self._max_dynamic = size

    def __call__(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
        stream: Any = None,
        blocks: range | None = None,
    ) -> None:
        """Check the launch and run it. `blocks`, which CuPy lacks, runs only that range of a huge grid."""
        self.prepare(grid, block, args, shared_mem=shared_mem, blocks=blocks)()

    def prepare(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
        blocks: range | None = None,
    ) -> partial[None]:
        """The launch, checked but still to be called: what the capture of a stream keeps."""
        grid, block = _three(grid), _three(block)
        self._check_shape(grid, block, shared_mem)
        packed = packing.pack(self.name, self._kernel.parameters, args, self._device_memory)
        first, last = (blocks.start, blocks.stop) if blocks is not None else (0, 0)
        return partial(self._run, grid, block, shared_mem, packed, first, last)

    def _check_shape(self, grid: tuple[int, ...], block: tuple[int, ...], shared_mem: int) -> None:
        threads = block[0] * block[1] * block[2]
        if any(not 1 <= size <= most for size, most in zip(grid, MAX_GRID, strict=True)):
            raise LaunchError(f"{self.name}: CUDA_ERROR_INVALID_VALUE: a grid is 1 to {MAX_GRID}. Received: {grid}")
        if any(not 1 <= size <= most for size, most in zip(block, MAX_BLOCK, strict=True)) or threads > MAX_THREADS:
            raise LaunchError(
                f"{self.name}: CUDA_ERROR_INVALID_VALUE: a block is 1 to {MAX_BLOCK}, at most {MAX_THREADS} threads. "
                f"Received: {block}"
            )
        if threads > self.max_threads_per_block:
            raise LaunchError(
                f"{self.name}: CUDA_ERROR_INVALID_VALUE: __launch_bounds__ allows {self.max_threads_per_block} threads "
                f"a block. Received: {block}"
            )
        if not 0 <= shared_mem <= self._max_dynamic:
            raise LaunchError(
                f"{self.name}: CUDA_ERROR_INVALID_VALUE: {self._max_dynamic} bytes of dynamic shared memory are "
                f"allowed, unless max_dynamic_shared_size_bytes is set. Received: shared_mem={shared_mem}"
            )

    def _run(
        self,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared_mem: int,
        packed: packing.Packed,
        first_block: int,
        last_block: int,
    ) -> None:
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        launch = Launch(
            grid=grid,
            block=block,
            dynamic_shared_bytes=shared_mem,
            arguments=ctypes.cast(packed.pointers, ctypes.POINTER(ctypes.c_void_p)),
            order=ORDERS[settings.order],
            seed=settings.seed,
            flush_denormals=settings.flush_denormals,
            first_block=first_block,
            last_block=last_block,
            error=ctypes.cast(error, ctypes.c_char_p),
            error_bytes=_ERROR_BYTES,
        )
        said: list[str] = []
        with _one_at_a_time, _captured_stderr(self._is_sanitized, said):
            failed = self._kernel.launch(ctypes.byref(launch))
        record.add(self.name, launch.statistics.as_dict())
        if failed:
            raise KernelError(f"{self.name}: {error.value.decode()}")
        if said:
            raise KernelError(f"{self.name}: " + "\n".join(said))


def _three(sizes: Sequence[int]) -> tuple[int, int, int]:
    if not isinstance(sizes, tuple) or not 1 <= len(sizes) <= 3:
        raise LaunchError(f"a grid or block is a tuple of 1 to 3 integers. Received: {sizes!r}")
    x, y, z = (*sizes, 1, 1)[:3]
    return x, y, z


@contextmanager
def _captured_stderr(wanted: bool, lines: list[str]) -> Iterator[None]:
    """Collect what a sanitizer's runtime says; it writes to file descriptor 2 and nowhere else."""
    if not wanted:
        yield
        return
    before = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
        file.seek(0)
        text = file.read().decode(errors="replace")
    wanted_lines = re.compile(r"runtime error|ERROR: |^\s+#0 ")  # what happened, and where
    lines += [line.strip() for line in text.splitlines() if wanted_lines.search(line)]
