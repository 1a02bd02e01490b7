"""Emulated CUDA: runs the .cu files of kernels/gpu on the CPU, unmodified, and checks what a GPU does not.

    module = emulator.RawModule(code=text, options=("-DREAL=float",))
    with emulator.thread_order("reverse"):
        module.get_function("relu")((blocks,), (256,), (x, y, np.int32(x.size)))

What it cannot show: speed, coalescing, bank conflicts, races between blocks, the last bit of fast mathematics.
"""

from tests.gpu.emulator.compiler import CompileError, cache_folder, compile_text, find_compiler, list_kernels
from tests.gpu.emulator.errors import EmulatorError, KernelError, LaunchError
from tests.gpu.emulator.module import Function, RawModule
from tests.gpu.emulator.state import denormals, record, settings, thread_order

__all__ = [
    "CompileError",
    "EmulatorError",
    "Function",
    "KernelError",
    "LaunchError",
    "RawModule",
    "cache_folder",
    "compile_text",
    "denormals",
    "find_compiler",
    "list_kernels",
    "record",
    "settings",
    "thread_order",
]
