"""Matrix products on the device: every tile at its edges, slices of long sums, distances between matrices, plans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn.kernels import reference
from minicnn.kernels.contract import Array
from minicnn.kernels.gpu import cublas, gemm_plan
from minicnn.kernels.gpu import gemm as gemm_file
from minicnn.kernels.gpu.gemm import gemm, multiply
from minicnn.kernels.gpu.gemm_plan import TILES, Plan, Product, Tile, plan, planned, products_of
from minicnn.kernels.gpu.runtime import cp
from tests.gpu.comparing import assert_near, to_device, to_host
from tests.gpu.emulator import thread_order

LIMITS = {"float32": 1e-5, "float64": 1e-12}
both_dtypes = pytest.mark.parametrize("dtype", list(LIMITS))
every_tile = pytest.mark.parametrize("tile", TILES, ids=lambda tile: f"{tile.rows}x{tile.columns}")


@pytest.fixture(autouse=True)
def _own_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cublas, "enabled", False)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261125)


def force(monkeypatch: pytest.MonkeyPatch, tile: Tile, terms: int = 1 << 14) -> None:
    """All products are computed with this tile, in slices of so many terms."""

    def forced(product: Product, itemsize: int) -> Plan:
        return planned(product, tile, terms)

    monkeypatch.setattr(gemm_file, "plan", forced)


def operands(
    rng: np.random.Generator, m: int, n: int, k: int, transpose_a: bool, transpose_b: bool, dtype: str
) -> tuple[Array, Array]:
    a = rng.standard_normal((k, m) if transpose_a else (m, k)).astype(dtype)
    b = rng.standard_normal((n, k) if transpose_b else (k, n)).astype(dtype)
    return a, b


def exact(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    return reference.matmul(a.astype(np.float64), b.astype(np.float64), transpose_a, transpose_b)


@both_dtypes
@every_tile
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_sizes_at_the_edges_of_a_tile(
    off: int, tile: Tile, dtype: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(monkeypatch, tile)
    for transpose_a, transpose_b in ((False, False), (True, False), (False, True), (True, True)):
        m, n, k = tile.rows + off, tile.columns + off, 16 + off
        a, b = operands(rng, m, n, k, transpose_a, transpose_b, dtype)
        received = to_host(gemm(*to_device((a, b)), None, transpose_a, transpose_b))
        assert_near(received, exact(a, b, transpose_a, transpose_b), LIMITS[dtype])


@both_dtypes
@every_tile
@pytest.mark.parametrize("k", [1, 7, 8, 9, 33, 48])
def test_sums_of_all_lengths(
    k: int, tile: Tile, dtype: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(monkeypatch, tile)
    a, b = operands(rng, 5, 12, k, False, True, dtype)
    assert_near(to_host(gemm(*to_device((a, b)), transpose_b=True)), exact(a, b, False, True), LIMITS[dtype])


@every_tile
@pytest.mark.parametrize("terms", [16, 48, 96])
def test_slices_are_added_up_the_same_in_every_order_of_threads(
    terms: int, tile: Tile, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(monkeypatch, tile, terms)
    a, b = operands(rng, 9, 10, 145, True, False, "float32")
    bias = rng.standard_normal(10).astype(np.float32)
    received = []
    for order in ("forward", "reverse", "random"):
        with thread_order(order):
            received.append(to_host(gemm(*to_device((a, b)), transpose_a=True, bias=to_device(bias))))
    assert_near(received[0], exact(a, b, True) + bias, LIMITS["float32"])
    assert received[0].tobytes() == received[1].tobytes() == received[2].tobytes()


@pytest.mark.parametrize("enough_threads", [1, 1 << 18])
@pytest.mark.parametrize(("m", "n"), [(65, 7), (1, 64)])
def test_few_and_many_numbers_are_finished(
    m: int, n: int, enough_threads: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are enough threads without, warps do not share the slices of a number."""
    force(monkeypatch, Tile(64, 64, 1.0), 16)
    monkeypatch.setattr(gemm_file, "_ENOUGH_THREADS", enough_threads)
    gemm_file._finish_geometry.cache_clear()
    a, b = operands(rng, m, n, 16 * 11, False, False, "float32")
    assert_near(to_host(gemm(*to_device((a, b)))), exact(a, b), LIMITS["float32"])
    gemm_file._finish_geometry.cache_clear()


@pytest.mark.parametrize("terms", [16, 1 << 14])
@pytest.mark.parametrize("activation", [None, "relu", "relu6", "sigmoid", "tanh"])
def test_what_comes_after_the_product(
    activation: Any, terms: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    force(monkeypatch, Tile(64, 64, 1.0), terms)
    a, b = operands(rng, 65, 7, 40, False, False, "float32")
    before, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((65, 7), (7,)))
    for beta in (0.0, 1.0, -0.5):
        for with_bias in (False, True):
            out = to_device(before)
            returned = gemm(
                *to_device((a, b)), out, beta=beta, bias=to_device(bias) if with_bias else None, activation=activation
            )
            expected = exact(a, b) + beta * before.astype(np.float64) + (bias if with_bias else 0)
            expected = expected if activation is None else reference.activation(expected, activation)
            assert returned is out
            assert_near(to_host(out), expected, LIMITS["float32"])


def test_what_was_in_the_result_is_not_read_where_beta_is_zero(rng: np.random.Generator) -> None:
    a, b = operands(rng, 3, 4, 5, False, False, "float32")
    out = to_device(np.full((3, 4), np.nan, np.float32))
    assert_near(to_host(gemm(*to_device((a, b)), out)), exact(a, b), LIMITS["float32"])


@pytest.mark.parametrize("activation", [None, "relu", "relu6", "sigmoid"])
def test_nan_passes_through(activation: Any) -> None:
    a, b = np.full((1, 2), np.nan, np.float32), np.ones((2, 3), np.float32)
    assert np.isnan(to_host(gemm(*to_device((a, b)), activation=activation))).all()


def test_a_sum_of_no_terms_is_the_bias() -> None:
    a, b, bias = cp.empty((3, 0), np.float32), cp.empty((0, 5), np.float32), np.arange(-2, 3).astype(np.float32)
    received = to_host(gemm(a, b, bias=to_device(bias), activation="relu"))
    np.testing.assert_array_equal(received, np.tile([0, 0, 0, 1, 2], (3, 1)))


@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 2)])
def test_long_sums_keep_five_digits(m: int, n: int, rng: np.random.Generator) -> None:
    a, b = (np.abs(array) for array in operands(rng, m, n, 40_003, False, True, "float32"))
    assert_near(to_host(gemm(*to_device((a, b)), transpose_b=True)), exact(a, b, False, True), 1e-5)


@pytest.mark.parametrize(
    ("a_leading", "b_leading"),
    [
        ((3,), (3,)),
        ((2, 1), (1, 3)),
        ((1, 1, 1), (2, 2)),
        ((2, 3, 1), (2, 3, 4)),
        ((2, 1, 3, 1), (1, 2, 1, 3)),
        ((5,), ()),
        ((), (2, 2)),
        ((2, 0), (1,)),
    ],
)
@pytest.mark.parametrize("transpose_a", [False, True])
def test_leading_axes_broadcast_as_in_numpy(
    transpose_a: bool, a_leading: tuple[int, ...], b_leading: tuple[int, ...], rng: np.random.Generator
) -> None:
    a = rng.standard_normal((*a_leading, *((5, 3) if transpose_a else (3, 5))))
    b = rng.standard_normal((*b_leading, 5, 2))
    received = to_host(gemm(*to_device((a, b)), transpose_a=transpose_a))
    expected = exact(a, b, transpose_a)
    assert received.shape == expected.shape
    assert_near(received, expected, 1e-12)


def test_neighbouring_axes_that_go_on_together_are_one() -> None:
    assert len(products_of((2, 3, 1, 4, 5), (2, 3, 6, 5, 7), False, False)[1]) == 1
    assert products_of((2, 3, 4, 5), (2, 3, 5, 7), False, False)[1][0].batch == (1, 6)
    assert products_of((2, 3, 4, 5), (5, 7), False, False)[1][0].m == 24
    assert len(products_of((2, 1, 3, 1, 4, 5), (1, 2, 1, 3, 5, 7), False, False)[1]) == 4


@pytest.mark.parametrize("order", ["forward", "reverse"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("terms", [16, 1 << 14])
def test_groups_of_columns_are_products_at_a_distance(
    terms: int, activation: Any, order: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches of three groups, which lie side by side in each row."""
    force(monkeypatch, Tile(64, 64, 1.0), terms)
    monkeypatch.setattr(gemm_file, "_MOST_BLOCKS_BELOW", 2)  # so that a block has several products to finish
    gemm_file._finish_geometry.cache_clear()
    groups, m, n, k = 3, 6, 4, 20
    a, b = rng.standard_normal((2, m, groups, k)), rng.standard_normal((k, groups, n))
    out = to_device(np.full((2, m, groups, n), np.nan))
    distances: dict[str, Any] = {"lda": groups * k, "ldb": groups * n, "ldc": groups * n}
    steps: dict[str, Any] = {"a_steps": (m * groups * k, k), "b_steps": (0, n), "out_steps": (m * groups * n, n)}
    with thread_order(order):
        multiply(
            Product(m, n, k, False, False, **distances, batch=(2, groups), **steps),
            *to_device((a, b)),
            out,
            activation=activation,
        )
    gemm_file._finish_geometry.cache_clear()
    expected = reference.activation(np.einsum("pmgk,kgn->pmgn", a, b), activation)
    assert_near(to_host(out), expected, 1e-12)


@pytest.mark.parametrize("start", [1, 2, 4])
def test_matrices_may_begin_at_any_number(start: int, rng: np.random.Generator) -> None:
    m, n, k = 12, 8, 20
    a, b = (rng.standard_normal(start + size).astype(np.float32) for size in (m * k, k * n))
    out = to_device(np.zeros(start + m * n, np.float32))
    multiply(
        Product(m, n, k, False, False, k, n, n, a_start=start, b_start=start, out_start=start), *to_device((a, b)), out
    )
    received = to_host(out)
    assert not received[:start].any()
    assert_near(received[start:].reshape(m, n), exact(a[start:].reshape(m, k), b[start:].reshape(k, n)), 1e-5)


def plain(m: int, n: int, k: int) -> Product:
    return Product(m, n, k, False, False, k, n, n)


def test_plans_fit_the_shape() -> None:
    large = plan(plain(4096, 4096, 4096), 4)
    assert (large.tile.rows, large.tile.columns, large.slices) == (128, 128, 1)
    one_row = plan(plain(1, 1000, 4096), 4)
    assert (one_row.tile.rows, one_row.tile.columns) == (8, 256)
    assert one_row.blocks >= 64
    one_column = plan(plain(100_000, 1, 64), 4)
    assert (one_column.tile.rows, one_column.tile.columns, one_column.slices) == (256, 8, 1)
    weight_gradient = plan(plain(576, 64, 262_144), 4)
    assert weight_gradient.blocks >= 132
    assert plan(plain(10, 10, 10), 4).slices == 1


@pytest.mark.parametrize("k", [1, 16_384, 16_385, 1_000_000])
def test_slices_hold_all_terms_and_no_sum_is_too_long(k: int) -> None:
    chosen = plan(plain(512, 512, k), 4)
    assert chosen.slice_terms <= gemm_plan._LONGEST_SUM
    assert (chosen.slices - 1) * chosen.slice_terms < k <= chosen.slices * chosen.slice_terms


def test_a_captured_product_follows_its_operands(rng: np.random.Generator) -> None:
    a, b = to_device(operands(rng, 3, 700, 900, False, False, "float32"))
    out = cp.empty((3, 700), np.float32)
    stream, pool = cp.cuda.Stream(non_blocking=True), cp.cuda.MemoryPool()
    with stream, cp.cuda.using_allocator(pool.malloc):  # scratch memory of the graph's own
        gemm(a, b, out, activation="tanh")  # compiles the kernels
        stream.begin_capture()
        gemm(a, b, out, activation="tanh")
        graph = stream.end_capture()
        a[...] = 0.125
        graph.launch(stream)
    stream.synchronize()
    assert_near(to_host(out), np.tanh(exact(to_host(a), to_host(b))), LIMITS["float32"])
