"""The array module of the GPU: CuPy, and whether there is a device it can use.

    from minicnn.kernels.gpu.runtime import cp

The environment variable MINICNN_CUPY names a module to use in CuPy's place: the tests set it to their stand-in, which
runs the same kernels on the CPU.
"""

from __future__ import annotations

import importlib
import os
from functools import cache
from types import ModuleType

_VARIABLE = "MINICNN_CUPY"
_INSTALL = 'pip install "minicnn-engine[gpu]"'


def _array_module() -> ModuleType:
    name = os.environ.get(_VARIABLE, "") or "cupy"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"the GPU backend needs CuPy: {_INSTALL}. Received: {error}") from error


cp = _array_module()


@cache
def why_unavailable() -> str | None:
    """Why no kernel can run here, in words; None where one can.

    CuPy imports on a machine without a GPU, and fails only when an array is made: an ImportError is no test.
    """
    try:
        if cp.cuda.is_available():
            return None
    except Exception as error:  # a driver that does not fit raises errors of CuPy's own kinds
        return f"CuPy {cp.__version__} cannot use the CUDA driver: {error}"
    return f"CuPy {cp.__version__} finds no CUDA device"


def describe_devices() -> list[str]:
    """Name, architecture and memory of every device: "NVIDIA H200, sm_90, 140 GiB"."""
    described = []
    for number in range(cp.cuda.runtime.getDeviceCount()):
        found = cp.cuda.runtime.getDeviceProperties(number)
        architecture = f"sm_{found['major']}{found['minor']}"
        described.append(f"{found['name'].decode()}, {architecture}, {found['totalGlobalMem'] / 2**30:.0f} GiB")
    return described
