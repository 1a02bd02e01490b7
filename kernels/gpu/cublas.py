"""cuBLAS by ctypes: NVIDIA's own matrix products, where the library is installed.

CuPy has them too, but refuses them while a CUDA graph is captured, and knows no beta and no precision of a call. What
capturing needs is scratch memory that is ours: cuBLAS would otherwise allocate it as it goes.

cuBLAS stores matrices by columns: what is a matrix X by rows, it takes for X transposed. Now out = a @ b by rows is
out.T = b.T @ a.T. So the operands change places, with their sizes, and nothing has to be turned over.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Iterator
from ctypes import c_int, c_longlong, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.gpu.gemm_plan import Product
from minicnn.kernels.gpu.runtime import cp
from minicnn.kernels.settings import Precision

enabled = os.environ.get("MINICNN_CUBLAS", "") != "0"
"""Whether cuBLAS may be used. Read at every call."""

_LIBRARIES = ("libcublas.so.13", "libcublas.so.12")
_FOLDERS_OF_WHEELS = ("cu13/lib", "cublas/lib")
_WORKSPACE_BYTES = 32 << 20  # what NVIDIA recommends for Hopper; older devices need less

# Enumerations of cublas_api.h and library_types.h.
_OPERATIONS = {False: 0, True: 1}  # not transposed, transposed
_TYPES = {"float32": 0, "float64": 1, "uint16": 14}  # uint16 holds bfloat16
_COMPUTE_32F, _COMPUTE_64F, _COMPUTE_32F_FAST_TF32 = 68, 70, 77
_DEFAULT_ALGORITHM = -1

_SIZES = [c_int, c_int, c_int, c_int, c_int]  # operations of the two operands, rows, columns, terms
_MATRIX = [c_void_p, c_int, c_int]  # address, type, numbers from column to column
_MATRICES = [*_MATRIX, c_longlong]  # and from matrix to matrix
_ARGUMENTS = {
    "cublasCreate_v2": [c_void_p],
    "cublasSetStream_v2": [c_void_p, c_void_p],
    "cublasSetWorkspace_v2": [c_void_p, c_void_p, c_size_t],
    "cublasGemmEx": [c_void_p, *_SIZES, c_void_p, *_MATRIX, *_MATRIX, c_void_p, *_MATRIX, c_int, c_int],
    "cublasGemmStridedBatchedEx": [
        c_void_p, *_SIZES, c_void_p, *_MATRICES, *_MATRICES, c_void_p, *_MATRICES, c_int, c_int, c_int,
    ],
}  # fmt: skip


class CublasError(RuntimeError):
    """cuBLAS refused a call."""


class Cublas:
    """The library on one device: the stream it works on, and scratch memory for each stream."""

    def __init__(self, library: Any) -> None:
        """Raises CublasError where cuBLAS cannot use the device, for one because the driver is too old for it."""
        for name, arguments in _ARGUMENTS.items():
            getattr(library, name).argtypes = arguments
        self._library = library
        self._lock = Lock()
        self._stream: int | None = None
        self._workspaces: dict[int, Array] = {}
        self._handle = c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(self._handle))

    def multiply(self, product: Product, a: Array, b: Array, out: Array, beta: float, precision: Precision) -> None:
        """out = op(a) @ op(b) + beta * out on the current stream; no size of the product is 0.

        a, b of out's dtype, or both uint16, which hold bfloat16.
        """
        scalar: type[ctypes.c_float | ctypes.c_double] = ctypes.c_float
        compute = _COMPUTE_32F_FAST_TF32 if precision == "tf32" else _COMPUTE_32F
        if out.dtype == np.float64:
            scalar, compute = ctypes.c_double, _COMPUTE_64F
        one, times = ctypes.byref(scalar(1)), ctypes.byref(scalar(beta))
        operations = _OPERATIONS[product.transpose_b], _OPERATIONS[product.transpose_a]
        begin = (self._handle, *operations, product.n, product.m, product.k, one)
        end = (compute, _DEFAULT_ALGORITHM)
        outer, inner = product.batch
        with self._lock:
            self._follow_stream()
            for i in range(outer):
                second = _matrix(b, product.b_start + i * product.b_steps[0], product.ldb)
                first = _matrix(a, product.a_start + i * product.a_steps[0], product.lda)
                result = _matrix(out, product.out_start + i * product.out_steps[0], product.ldc)
                if inner == 1:
                    self._call("cublasGemmEx", *begin, *second, *first, times, *result, *end)
                else:
                    steps = product.b_steps[1], product.a_steps[1], product.out_steps[1]
                    matrices = (*second, steps[0], *first, steps[1], times, *result, steps[2])
                    self._call("cublasGemmStridedBatchedEx", *begin, *matrices, inner, *end)

    def _follow_stream(self) -> None:
        """Work on CuPy's current stream, with that stream's scratch memory: cuBLAS forgets it with every new stream."""
        stream = cp.cuda.get_current_stream().ptr
        if stream == self._stream:
            return
        if stream not in self._workspaces:
            self._workspaces[stream] = cp.empty(_WORKSPACE_BYTES, np.uint8)
        workspace = self._workspaces[stream]
        self._call("cublasSetStream_v2", self._handle, stream)
        self._call("cublasSetWorkspace_v2", self._handle, workspace.data.ptr, workspace.nbytes)
        self._stream = stream

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise CublasError(f"{name} failed with status {status} (see cublasStatus_t in cuBLAS' documentation)")


def _matrix(array: Array, start: int, distance: int) -> tuple[int, int, int]:
    """A matrix that begins `start` numbers into the array: address, type, numbers from row to row."""
    return array.data.ptr + start * array.itemsize, _TYPES[array.dtype.name], distance


def find() -> Cublas | None:
    """cuBLAS for the current device; None where it is not installed, cannot be used, or is switched off."""
    return _on_device(cp.cuda.Device().id) if enabled and cp.__name__ == "cupy" else None


@cache
def _on_device(device: int) -> Cublas | None:
    """`device` is the key only: a handle belongs to the device that was current."""
    for path in _candidates():
        try:
            return Cublas(ctypes.CDLL(path))
        except (OSError, CublasError):
            continue
    return None


def _candidates() -> Iterator[str]:
    """Where the library may be: on the loader's path, or in NVIDIA's wheels."""
    yield from _LIBRARIES
    wheels = importlib.util.find_spec("nvidia")
    for root in (wheels.submodule_search_locations or ()) if wheels else ():
        for folder in _FOLDERS_OF_WHEELS:
            yield from (str(path) for name in _LIBRARIES if (path := Path(root, folder, name)).exists())
