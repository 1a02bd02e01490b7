"""CPU matrix products against the reference in float64: every way a product is cut up, at every kind of edge."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from minicnn.kernels import reference
from minicnn.kernels.contract import Array, EpilogueName
from minicnn.kernels.cpu import gemm, parallel
from minicnn.kernels.cpu.dense import dense, matmul

TOLERANCE = {"float32": 2e-6, "float64": 2e-15}

SIZES = [
    (1, 1, 1),
    (2, 10, 8),
    (3, 17, 5),
    (7, 64, 33),  # whole vectors: b is read where it lies
    (8, 65, 300),  # two panels, two blocks of terms; the last panel is packed
    (13, 129, 17),
    (128, 256, 700),
    (400, 130, 128),  # more than a block of rows: a transposed a is copied
    (385, 257, 300),
    (900, 10, 30),
    (1, 256, 5000),  # slices of K, b in place
    (5, 7, 5000),  # slices of K, b packed
]
FORMS = [(False, False), (True, False), (False, True), (True, True)]


@pytest.fixture
def any_threads() -> Iterator[None]:
    """Put the number of threads back."""
    before = parallel.get_num_threads()
    yield
    parallel.set_num_threads(before)


def relative_error(actual: Array, expected: Array) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_products_of_all_sizes_and_forms_equal_the_reference(
    rng: np.random.Generator, size: tuple[int, int, int], form: tuple[bool, bool], dtype: str
) -> None:
    m, n, k = size
    a = rng.standard_normal((k, m) if form[0] else (m, k)).astype(dtype)
    b = rng.standard_normal((n, k) if form[1] else (k, n)).astype(dtype)
    y = matmul(a, b, *form)
    assert y.dtype == dtype
    assert y.shape == (m, n)
    assert y.flags.c_contiguous
    assert relative_error(y, reference.matmul(a.astype("float64"), b.astype("float64"), *form)) < TOLERANCE[dtype]


@pytest.mark.parametrize("activation", [None, "relu", "relu6", "sigmoid", "tanh"])
@pytest.mark.parametrize("size", [(2, 10, 8), (70, 65, 600), (3, 20, 9000)], ids=str)
def test_bias_and_activation_are_applied_once_however_the_product_is_cut(
    rng: np.random.Generator, size: tuple[int, int, int], activation: EpilogueName | None
) -> None:
    m, n, k = size
    x, w, b = (rng.standard_normal(shape).astype("float32") for shape in ((m, k), (k, n), (n,)))
    x /= np.float32(np.sqrt(k))
    expected = reference.dense(x.astype("float64"), w.astype("float64"), b.astype("float64"), activation)
    assert relative_error(dense(x, w, b, activation), expected) < 2e-6


@pytest.mark.parametrize("size", [(128, 256, 3000), (1000, 70, 40), (1, 256, 5000)], ids=str)
def test_results_are_the_same_bits_for_any_number_of_threads(
    rng: np.random.Generator, size: tuple[int, int, int], any_threads: None
) -> None:
    m, n, k = size
    a, b = rng.standard_normal((m, k)).astype("float32"), rng.standard_normal((k, n)).astype("float32")
    assert gemm.plan(m, n, k, False, False, 4).tasks > 1
    results = []
    for threads in range(1, parallel.max_threads() + 1):
        parallel.set_num_threads(threads)
        results += [matmul(a, b).tobytes(), matmul(a, b).tobytes()]
    assert len(set(results)) == 1


@pytest.mark.parametrize("size", [(0, 3, 4), (3, 0, 4), (3, 4, 0)], ids=str)
def test_empty_products_are_sums_of_nothing(size: tuple[int, int, int]) -> None:
    m, n, k = size
    y = dense(np.ones((m, k), "float32"), np.ones((k, n), "float32"), np.full(n, -2, "float32"), "relu")
    assert y.shape == (m, n)
    assert not y.any()
    assert matmul(np.ones((2, m, k)), np.ones((2, k, n))).shape == (2, m, n)


@pytest.mark.parametrize(
    ("leading_a", "leading_b"), [((5,), (5,)), ((2, 1), (3,)), ((4,), ()), ((), (4,)), ((70,), (70,)), ((0, 2), (2,))]
)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_leading_axes_are_broadcast(
    rng: np.random.Generator, leading_a: tuple[int, ...], leading_b: tuple[int, ...], form: tuple[bool, bool]
) -> None:
    a = rng.standard_normal((*leading_a, *((13, 9) if form[0] else (9, 13)))).astype("float32")
    b = rng.standard_normal((*leading_b, *((33, 13) if form[1] else (13, 33)))).astype("float32")
    expected = reference.matmul(a.astype("float64"), b.astype("float64"), *form)
    y = matmul(a, b, *form)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_views_and_mixed_dtypes_are_multiplied_as_numpy_does(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((40, 60)).astype("float32"), rng.standard_normal((60, 40)).astype("float32")
    np.testing.assert_allclose(matmul(a.T, b.T), a.T @ b.T, atol=1e-5)
    np.testing.assert_allclose(matmul(a[::2, ::3], b[::3, 5:]), a[::2, ::3] @ b[::3, 5:], atol=1e-5)
    assert matmul(a, b.astype("float64")).dtype == "float64"
    assert matmul(np.arange(6).reshape(2, 3), np.arange(6).reshape(3, 2)).tolist() == [[10, 13], [28, 40]]


def test_nan_and_infinity_stay_in_their_rows(rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((9, 300)).astype("float32"), rng.uniform(0.1, 1, (300, 70)).astype("float32")
    x[2, 7], x[5, 299], x[6, 0] = np.nan, np.inf, -np.inf
    y = dense(x, w, None, "relu")
    assert np.isnan(y[2]).all()
    assert np.isposinf(y[5]).all()
    assert (y[6] == 0).all()
    assert np.isfinite(np.delete(y, (2, 5), axis=0)).all()


def test_inputs_are_not_written(rng: np.random.Generator) -> None:
    arrays = [rng.standard_normal(shape).astype("float32") for shape in ((20, 300), (300, 70), (70,))]
    copies = [array.copy() for array in arrays]
    dense(*arrays, "relu")
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", [None, "relu6"])
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 4, 4), (3, 17, 5), (5, 40, 10)], ids=str)
def test_a_tiny_product_has_the_bits_of_the_way_through_panels(
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int, int],
    activation: EpilogueName | None,
    dtype: str,
) -> None:
    m, n, k = size
    a, b, bias = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n), (n,)))
    assert m * n * k <= gemm.TINY
    tiny = [
        gemm.multiply(a, b, bias=bias, activation=activation),
        gemm.multiply(a.T.copy(), b, transpose_a=True),
        gemm.multiply(a, b),
    ]
    monkeypatch.setattr(gemm, "TINY", 0)
    panels = [
        gemm.multiply(a, b, bias=bias, activation=activation),
        gemm.multiply(a.T.copy(), b, transpose_a=True),
        gemm.multiply(a, b),
    ]
    for received, expected in zip(tiny, panels, strict=True):
        np.testing.assert_array_equal(received, expected)


def test_a_tiny_product_between_limits_lets_nan_pass() -> None:
    a, b = np.array([[1.0, np.nan], [-9.0, 1.0]], np.float32), np.ones((3, 2), np.float32)
    y = gemm.multiply(a, b, transpose_b=True, bias=np.ones(3, np.float32), activation="relu6")
    np.testing.assert_array_equal(y, [[np.nan] * 3, [0.0] * 3])
