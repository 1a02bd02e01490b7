"""The cuBLAS wrapper against a library of our own that multiplies by columns, as cuBLAS does.

It is called through ctypes with the signatures of cublas_api.h, so that order and types of the arguments are held too.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_int, c_longlong, c_size_t, c_void_p
from typing import Any

import numpy as np
import pytest

from minicnn.kernels import gpu, reference, settings
from minicnn.kernels.contract import Array
from minicnn.kernels.gpu import cublas
from minicnn.kernels.gpu.cublas import Cublas, CublasError
from minicnn.kernels.gpu.gemm import gemm, multiply
from minicnn.kernels.gpu.gemm_plan import Product
from minicnn.kernels.gpu.runtime import cp
from tests.gpu.comparing import assert_near, to_device, to_host

pytestmark = pytest.mark.skipif(cp.__name__ == "cupy", reason="the stand-in for cuBLAS reads device memory")

_GEMM_EX = (
    "handle transa transb m n k alpha A Atype lda B Btype ldb beta C Ctype ldc computeType algo"
)  # fmt: skip
_STRIDED = (
    "handle transa transb m n k alpha A Atype lda strideA B Btype ldb strideB beta C Ctype ldc strideC batchCount "
    "computeType algo"
)
_POINTERS = {"handle", "alpha", "A", "B", "beta", "C"}
_DTYPES = {0: np.float32, 1: np.float64, 14: np.uint16}
_COMPUTE_SCALARS = {68: np.float32, 70: np.float64, 77: np.float32}
HANDLE = 4321


class FakeCublas:
    """cublasGemmEx and its like in NumPy, on host memory."""

    def __init__(self, status: int = 0) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.status = status
        self.cublasCreate_v2 = self._export(self._create, c_void_p)
        self.cublasSetStream_v2 = self._export(self._set_stream, c_void_p, c_void_p)
        self.cublasSetWorkspace_v2 = self._export(self._set_workspace, c_void_p, c_void_p, c_size_t)
        self.cublasGemmEx = self._export(self._gemm_ex, *self._types(_GEMM_EX))
        self.cublasGemmStridedBatchedEx = self._export(self._strided, *self._types(_STRIDED))

    @staticmethod
    def _types(names: str) -> list[Any]:
        return [
            c_void_p if name in _POINTERS else c_longlong if name.startswith("stride") else c_int
            for name in names.split()
        ]

    @staticmethod
    def _export(function: Callable[..., int], *types: Any) -> Any:
        return ctypes.CFUNCTYPE(c_int, *types)(function)

    def named(self, name: str) -> list[dict[str, Any]]:
        return [arguments for called, arguments in self.calls if called == name]

    def _create(self, handle: int) -> int:
        c_void_p.from_address(handle).value = HANDLE
        return self.status

    def _set_stream(self, handle: int, stream: int | None) -> int:
        self.calls.append(("SetStream", {"handle": handle, "stream": stream or 0}))
        return 0

    def _set_workspace(self, handle: int, workspace: int, size: int) -> int:
        self.calls.append(("SetWorkspace", {"handle": handle, "workspace": workspace, "size": size}))
        return 0

    def _gemm_ex(self, *values: Any) -> int:
        given = dict(zip(_GEMM_EX.split(), values, strict=True))
        self.calls.append(("GemmEx", given))
        return self._multiply(given, 0)

    def _strided(self, *values: Any) -> int:
        given = dict(zip(_STRIDED.split(), values, strict=True))
        self.calls.append(("GemmStridedBatchedEx", given))
        return max(self._multiply(given, i) for i in range(given["batchCount"]))

    def _multiply(self, given: dict[str, Any], i: int) -> int:
        m, n, k = given["m"], given["n"], given["k"]
        a = self._by_columns(given, "A", *((k, m) if given["transa"] else (m, k)), i)
        b = self._by_columns(given, "B", *((n, k) if given["transb"] else (k, n)), i)
        c = self._by_columns(given, "C", m, n, i)
        scalar = np.ctypeslib.as_ctypes_type(_COMPUTE_SCALARS[given["computeType"]])
        alpha, beta = (scalar.from_address(given[name]).value for name in ("alpha", "beta"))
        product = self._numbers(a.T if given["transa"] else a) @ self._numbers(b.T if given["transb"] else b)
        c[...] = alpha * product + (beta * c if beta else 0)
        return 0

    @staticmethod
    def _by_columns(given: dict[str, Any], name: str, rows: int, columns: int, i: int) -> Array:
        """Matrix i at that address, each column `ld` numbers after the last."""
        dtype, ld = np.dtype(_DTYPES[given[f"{name}type"]]), given[f"ld{name.lower()}"]
        assert ld >= rows
        address = given[name] + i * given.get(f"stride{name}", 0) * dtype.itemsize
        count = (columns - 1) * ld + rows
        flat = np.ctypeslib.as_array((np.ctypeslib.as_ctypes_type(dtype) * count).from_address(address))
        return np.lib.stride_tricks.as_strided(flat, (rows, columns), (dtype.itemsize, ld * dtype.itemsize))

    @staticmethod
    def _numbers(matrix: Array) -> Array:
        """bfloat16, which uint16 holds, as float32."""
        if matrix.dtype != np.uint16:
            return matrix
        return (matrix.astype(np.uint32) << 16).view(np.float32)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCublas:
    library = FakeCublas()
    wrapper = Cublas(library)
    monkeypatch.setattr(cublas, "find", lambda: wrapper)
    return library


def normal(rng: np.random.Generator, *shape: int, dtype: str = "float32") -> Array:
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_rows_become_columns(
    transpose_a: bool, transpose_b: bool, dtype: str, rng: np.random.Generator, fake: FakeCublas
) -> None:
    a = normal(rng, *((5, 3) if transpose_a else (3, 5)), dtype=dtype)
    b = normal(rng, *((7, 5) if transpose_b else (5, 7)), dtype=dtype)
    out = normal(rng, 3, 7, dtype=dtype)
    received = to_host(gemm(*to_device((a, b, out)), transpose_a, transpose_b, beta=0.5))
    assert_near(received, reference.matmul(a, b, transpose_a, transpose_b) + out / 2, 1e-6)
    (call,) = fake.named("GemmEx")
    assert (call["handle"], call["m"], call["n"], call["k"]) == (HANDLE, 7, 3, 5)
    assert (call["transa"], call["transb"], call["algo"]) == (transpose_b, transpose_a, -1)
    assert call["computeType"] == (70 if dtype == "float64" else 68)


def test_bias_and_activation_follow_the_product(rng: np.random.Generator, fake: FakeCublas) -> None:
    x, w, b = normal(rng, 3, 5), normal(rng, 5, 7), normal(rng, 7)
    for activation in (None, "relu", "sigmoid"):
        received = to_host(gpu.dense(*to_device((x, w, b)), activation))
        assert_near(received, reference.dense(x, w, b, activation), 1e-6)
    assert len(fake.named("GemmEx")) == 3


@pytest.mark.parametrize(("a_leading", "b_leading", "calls"), [((4,), (4,), 1), ((2, 1), (1, 3), 2), ((3,), (), 0)])
def test_batches(
    a_leading: tuple[int, ...], b_leading: tuple[int, ...], calls: int, rng: np.random.Generator, fake: FakeCublas
) -> None:
    a, b = normal(rng, *a_leading, 2, 5), normal(rng, *b_leading, 5, 3)
    assert_near(to_host(gpu.matmul(*to_device((a, b)))), a @ b, 1e-6)
    assert len(fake.named("GemmStridedBatchedEx")) == calls


def test_groups_of_columns_that_begin_anywhere(rng: np.random.Generator, fake: FakeCublas) -> None:
    groups, m, n, k = 3, 6, 4, 5
    a, b = normal(rng, m, groups, k, dtype="float64"), normal(rng, k, groups, n, dtype="float64")
    out = to_device(np.zeros((m, groups, n)))
    product = Product(
        m, n, k, False, False, groups * k, groups * n, groups * n, (1, 2), (0, k), (0, n), (0, n), k, n, n
    )  # fmt: skip
    multiply(product, *to_device((a, b)), out, bias=to_device(np.ones(n)))
    expected = np.einsum("mgk,kgn->mgn", a, b) + 1
    expected[:, 0] = 0  # the products begin at the second group
    assert_near(to_host(out), expected, 1e-12)


def test_precisions(rng: np.random.Generator, fake: FakeCublas, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = normal(rng, 3, 5), normal(rng, 5, 7)
    monkeypatch.setattr(settings, "precision", "tf32")
    assert_near(to_host(gpu.matmul(*to_device((a, b)))), a @ b, 1e-6)
    monkeypatch.setattr(settings, "precision", "bf16")
    received = to_host(gpu.matmul(*to_device((a, b))))
    assert_near(received, a @ b, 1e-2)
    assert np.abs(received - a @ b).max() > 1e-5
    gpu.matmul(*to_device((a.astype(np.float64), b.astype(np.float64))))
    assert [call["computeType"] for call in fake.named("GemmEx")] == [77, 68, 70]
    assert [(call["Atype"], call["Btype"], call["Ctype"]) for call in fake.named("GemmEx")] == [
        (0, 0, 0), (14, 14, 0), (1, 1, 1)
    ]  # fmt: skip


def test_bfloat16_is_the_nearest_and_even_where_two_are(fake: FakeCublas) -> None:
    numbers = np.array(
        [1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -3.1415927, np.inf, 3e38, np.nan, 0], np.float32
    )
    numbers[8:].view(np.uint32)[:] = 0x7FFFFFFF  # a NaN that would carry into the sign
    received = to_host(gemm(to_device(numbers.reshape(9, 1)), to_device(np.ones((1, 1), np.float32)), precision="bf16"))
    expected = [1, 1, 1 + 2**-6, 1 + 2**-7, -3.140625, np.inf, 226 * 2.0**120, np.nan, np.nan]
    np.testing.assert_array_equal(received[:, 0], expected)


def test_each_stream_has_scratch_memory_of_its_own(rng: np.random.Generator, fake: FakeCublas) -> None:
    a, b = to_device((normal(rng, 3, 5), normal(rng, 5, 7)))
    other = cp.cuda.Stream(non_blocking=True)
    for _ in range(2):
        gemm(a, b)
        gemm(a, b)
        with other:
            gemm(a, b)
    names = [name for name, _ in fake.calls]
    assert names == ["SetStream", "SetWorkspace", "GemmEx", "GemmEx", "SetStream", "SetWorkspace", "GemmEx"] * 2
    assert [call["stream"] for call in fake.named("SetStream")] == [0, other.ptr] * 2
    first, second, *rest = (call["workspace"] for call in fake.named("SetWorkspace"))
    assert first != second
    assert rest == [first, second]


def test_empty_products_do_not_reach_the_library(fake: FakeCublas) -> None:
    for m, n, k in ((0, 3, 2), (3, 0, 2), (3, 2, 0)):
        received = to_host(gemm(cp.empty((m, k), np.float32), cp.empty((k, n), np.float32)))
        np.testing.assert_array_equal(received, np.zeros((m, n)))
    assert not fake.calls


def test_a_library_that_finds_no_device_is_refused() -> None:
    with pytest.raises(CublasError, match=r"cublasCreate_v2 failed with status 1"):
        Cublas(FakeCublas(status=1))


def test_the_first_library_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def load(path: str) -> FakeCublas:
        tried.append(path)
        if len(tried) == 1:
            raise OSError("cannot open shared object file")
        return FakeCublas(status=len(tried) == 2)

    monkeypatch.setattr(cublas, "_candidates", lambda: iter("abcd"))
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert isinstance(cublas._on_device.__wrapped__(0), Cublas)
    assert tried == ["a", "b", "c"]
    monkeypatch.setattr(cublas, "_candidates", lambda: iter(()))
    assert cublas._on_device.__wrapped__(0) is None


def test_there_is_none_behind_the_stand_in_and_none_where_it_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cublas.find() is None
    monkeypatch.setattr(cp, "__name__", "cupy", raising=False)
    monkeypatch.setattr(cublas, "_on_device", lambda device: "found")
    assert cublas.find() == "found"
    monkeypatch.setattr(cublas, "enabled", False)
    assert cublas.find() is None


def test_wheels_are_searched_after_the_loader(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "cu13" / "lib").mkdir(parents=True)
    library = tmp_path / "cu13" / "lib" / "libcublas.so.13"
    library.touch()

    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(cublas.importlib.util, "find_spec", lambda name: Spec)
    assert list(cublas._candidates()) == ["libcublas.so.13", "libcublas.so.12", str(library)]
    monkeypatch.setattr(cublas.importlib.util, "find_spec", lambda name: None)
    assert list(cublas._candidates()) == ["libcublas.so.13", "libcublas.so.12"]
