"""Matrix products on tensor cores: tiles at their edges, transposes, slices, batches; when they are used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn.kernels import reference, settings
from minicnn.kernels.contract import Array
from minicnn.kernels.gpu import conv, cublas, gemm_tc
from minicnn.kernels.gpu.gemm import gemm
from minicnn.kernels.gpu.gemm_plan import products_of
from tests.gpu.comparing import to_device, to_host
from tests.gpu.emulator import thread_order

LIMITS = {"tf32": 1e-3, "bf16": 1e-2}
transposes = pytest.mark.parametrize(
    ("transpose_a", "transpose_b"), [(False, False), (False, True), (True, False), (True, True)]
)


@pytest.fixture(autouse=True)
def _own_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cublas, "enabled", False)


@pytest.fixture(params=list(LIMITS))
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> settings.Precision:
    monkeypatch.setattr(settings, "precision", request.param)
    return settings.precision


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261125)


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def exact(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    return reference.matmul(a.astype(np.float64), b.astype(np.float64), transpose_a, transpose_b)


def assert_rounded(received: Array, expected: Array, precision: settings.Precision) -> None:
    """Within the precision's limit, by the largest number and by the norm, and not in full precision."""
    assert received.shape == expected.shape
    error = received - expected
    assert np.abs(error).max() <= LIMITS[precision] * np.abs(expected).max()
    assert np.linalg.norm(error) <= LIMITS[precision] * np.linalg.norm(expected)
    assert np.abs(error).max() > 1e-6 * np.abs(expected).max()


def in_packs(number: int) -> int:
    """The next multiple of 8 numbers."""
    return -(-number // 8) * 8


@transposes
@pytest.mark.parametrize(("m", "n", "k"), [(16, 16, 16), (127, 63, 31), (128, 64, 64), (129, 65, 65), (40, 130, 33)])
def test_sizes_at_the_edges_of_a_tile(
    m: int,
    n: int,
    k: int,
    transpose_a: bool,
    transpose_b: bool,
    precision: settings.Precision,
    rng: np.random.Generator,
) -> None:
    """Rows in memory are whole packs; the other axes are not."""
    if transpose_a or not transpose_b:
        m, n = in_packs(m) if transpose_a else m, n if transpose_b else in_packs(n)
    if not transpose_a or transpose_b:
        k = in_packs(k)
    a = normal(rng, k, m) if transpose_a else normal(rng, m, k)
    b = normal(rng, n, k) if transpose_b else normal(rng, k, n)
    received = to_host(gemm(*to_device((a, b)), None, transpose_a, transpose_b))
    assert_rounded(received, exact(a, b, transpose_a, transpose_b), precision)


@pytest.mark.parametrize("activation", [None, "relu", "relu6", "sigmoid"])
@pytest.mark.parametrize("k", [32, 1088])
def test_what_comes_after_the_product(
    k: int, activation: Any, precision: settings.Precision, rng: np.random.Generator
) -> None:
    """Sums of 1,088 terms are cut into slices, those of 32 are not."""
    a, b = normal(rng, 19, k), normal(rng, k, 24)
    b /= np.float32(2 * np.sqrt(k))
    _, (product,) = products_of(a.shape, b.shape, False, False)
    assert (gemm_tc.slices_of(product, precision) > 1) == (k == 1088)
    before, bias = normal(rng, 19, 24), normal(rng, 24)
    for beta in (0.0, -0.5):
        out = to_device(before.copy())
        gemm(*to_device((a, b)), out, beta=beta, bias=to_device(bias), activation=activation)
        expected = (
            reference.activation(exact(a, b) + beta * before + bias, activation)
            if activation
            else (exact(a, b) + beta * before + bias)
        )
        assert_rounded(to_host(out), expected, precision)


def test_batches(precision: settings.Precision, rng: np.random.Generator) -> None:
    a, b = normal(rng, 2, 3, 24, 40), normal(rng, 3, 40, 16)
    assert_rounded(to_host(gemm(*to_device((a, b)))), exact(a, b), precision)


def test_results_have_the_same_bits_whatever_thread_runs_first(
    precision: settings.Precision, rng: np.random.Generator
) -> None:
    a, b = to_device((normal(rng, 600, 40), normal(rng, 600, 72)))
    results = []
    for order in ("forward", "reverse", "random"):
        with thread_order(order):
            results.append(to_host(gemm(a, b, transpose_a=True)).tobytes())
    assert results[0] == results[1] == results[2]


def test_pointwise_convolution_is_a_product(precision: settings.Precision, rng: np.random.Generator) -> None:
    x, w = normal(rng, 2, 5, 4, 24), normal(rng, 1, 1, 24, 16)
    received = to_host(conv.conv2d(*to_device((x, w)), None, (1, 1), ((0, 0), (0, 0)), (1, 1), 1))
    assert_rounded(received, (x.reshape(-1, 24).astype(np.float64) @ w[0, 0]).reshape(2, 5, 4, 16), precision)


@pytest.mark.parametrize("n", [10, 33])
def test_rows_that_are_no_whole_packs_are_multiplied_in_full(
    n: int, precision: settings.Precision, rng: np.random.Generator
) -> None:
    a, b = normal(rng, 17, 32), normal(rng, 32, n)
    assert np.abs(to_host(gemm(*to_device((a, b)))) - exact(a, b)).max() < 1e-5


def test_default_is_full_precision_and_a_call_may_ask_for_less(rng: np.random.Generator) -> None:
    a, b = normal(rng, 32, 64), normal(rng, 64, 32)
    assert settings.precision == "fp32"
    assert np.abs(to_host(gemm(*to_device((a, b)))) - exact(a, b)).max() < 1e-5
    assert_rounded(to_host(gemm(*to_device((a, b)), precision="tf32")), exact(a, b), "tf32")


def test_double_is_not_for_tensor_cores(precision: settings.Precision, rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((32, 64)), rng.standard_normal((64, 32))
    assert np.abs(to_host(gemm(*to_device((a, b)))) - exact(a, b)).max() < 1e-12
