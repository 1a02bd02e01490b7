"""Convolutions on the device: every tile at its edges, sizes over several blocks, slices, thread orders, launches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from minicnn.kernels import reference
from minicnn.kernels.contract import Array
from minicnn.kernels.gpu import conv
from minicnn.kernels.gpu.conv_geometry import convolution_sizes
from minicnn.kernels.gpu.conv_tile import (
    MEDIUM,
    SMALL,
    TILES,
    Tile,
    fastest_tile,
    slice_depth,
    slice_pixels,
    tightest_tile,
)
from minicnn.kernels.gpu.runtime import cp
from tests.gpu.comparing import assert_near, to_device, to_host
from tests.gpu.emulator import thread_order

LIMITS = {"float32": 1e-5, "float64": 1e-12}
both_dtypes = pytest.mark.parametrize("dtype", list(LIMITS))
every_tile = pytest.mark.parametrize("tile", TILES, ids=lambda tile: tile.name)
PLAIN: dict[str, Any] = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
SAME: dict[str, Any] = {**PLAIN, "padding": ((1, 1), (1, 1))}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261125)


def normal(rng: np.random.Generator, dtype: str, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(dtype)


def check_all_three(
    rng: np.random.Generator, dtype: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    """Forward with bias and relu, input gradient and weight gradient against the reference in float64."""
    x, w, b = normal(rng, dtype, *x_shape), normal(rng, dtype, *w_shape), normal(rng, dtype, w_shape[3])
    y = reference.conv2d(*in64(x, w, b), **options, activation="relu")
    gy = normal(rng, dtype, *y.shape)
    gx = reference.conv2d_input_grad(*in64(gy, w), x_shape[1:3], **options)
    gw = reference.conv2d_weight_grad(*in64(x, gy), w_shape[:2], **options)
    on_device = [to_device(array) for array in (x, w, b, gy)]
    limit = LIMITS[dtype]
    assert_near(to_host(conv.conv2d(*on_device[:3], **options, activation="relu")), y, limit)
    assert_near(to_host(conv.conv2d_input_grad(on_device[3], on_device[1], x_shape[1:3], **options)), gx, limit)
    assert_near(to_host(conv.conv2d_weight_grad(on_device[0], on_device[3], w_shape[:2], **options)), gw, limit)


def in64(*arrays: Array) -> list[Array]:
    return [array.astype(np.float64) for array in arrays]


@pytest.fixture
def force_tile(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Tile], None]]:
    """Every product is cut into tiles of the kind it is called with."""

    def force(tile: Tile) -> None:
        clear_plans()
        monkeypatch.setattr(conv, "_candidates", lambda packed: (tile,))

    yield force
    clear_plans()


def clear_plans() -> None:
    for plan in (conv._plan_forward, conv._plan_input_grad, conv._plan_weight_grad):
        plan.cache_clear()


@both_dtypes
@every_tile
@pytest.mark.parametrize(("filters", "pixels"), [(124, 127), (128, 128), (132, 129), (60, 63), (64, 64), (68, 65)])
def test_tiles_at_their_edges(
    filters: int, pixels: int, tile: Tile, dtype: str, rng: np.random.Generator, force_tile: Callable[[Tile], None]
) -> None:
    force_tile(tile)
    check_all_three(rng, dtype, (1, 1, pixels, 8), (1, 2, 8, filters), {**PLAIN, "padding": ((0, 0), (1, 0))})


@both_dtypes
@pytest.mark.parametrize("tile", [MEDIUM, SMALL], ids=lambda tile: tile.name)
@pytest.mark.parametrize(("channels", "filters"), [(1, 63), (3, 65), (65, 31), (5, 33)])
def test_tiles_for_any_number_of_channels(
    channels: int, filters: int, tile: Tile, dtype: str, rng: np.random.Generator, force_tile: Callable[[Tile], None]
) -> None:
    force_tile(tile)
    check_all_three(rng, dtype, (2, 9, 8, channels), (2, 3, channels, filters), SAME)


@every_tile
@pytest.mark.parametrize(
    "options",
    [
        {"strides": (2, 2), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1},
        {"strides": (2, 3), "padding": ((2, 0), (1, 4)), "dilation": (2, 1), "groups": 2},
        {"strides": (4, 3), "padding": ((-1, 2), (2, -2)), "dilation": (6, 2), "groups": 3},
    ],
    ids=["same", "two_groups", "more_than_the_kernel"],
)
def test_packs_with_strides_dilation_and_groups(
    options: dict[str, Any], tile: Tile, rng: np.random.Generator, force_tile: Callable[[Tile], None]
) -> None:
    force_tile(tile)
    groups = options["groups"]
    check_all_three(rng, "float32", (2, 13, 11, 4 * groups), (3, 3, 4, 8 * groups), options)


def test_image_smaller_than_the_stride(rng: np.random.Generator) -> None:
    """Some classes of its pixels, by their place modulo the stride, are empty; some were never read."""
    check_all_three(rng, "float32", (2, 2, 1, 4), (1, 1, 4, 4), {**PLAIN, "strides": (3, 2)})


@both_dtypes
def test_several_blocks_in_both_directions(dtype: str, rng: np.random.Generator) -> None:
    check_all_three(rng, dtype, (3, 15, 14, 20), (3, 3, 20, 136), SAME)


@pytest.mark.parametrize("activation", [None, "relu", "relu6", "sigmoid", "tanh"])
@pytest.mark.parametrize("channels", [3, 4])
def test_activations_over_several_blocks(channels: int, activation: Any, rng: np.random.Generator) -> None:
    x, w, b = (normal(rng, "float32", *shape) for shape in ((1, 12, 11, channels), (2, 2, channels, 36), (36,)))
    exact = reference.conv2d(*in64(x, 3 * w, b), **PLAIN, activation=activation)
    received = conv.conv2d(*to_device((x, 3 * w, b)), **PLAIN, activation=activation)
    assert_near(to_host(received), exact, 1e-5)


@both_dtypes
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
@pytest.mark.parametrize(("channels", "groups"), [(68, 2), (51, 1)])
def test_few_tiles_with_long_sums_are_cut_into_slices(
    channels: int, groups: int, activation: Any, dtype: str, rng: np.random.Generator
) -> None:
    x, w, b = (normal(rng, dtype, *shape) / 4 for shape in ((1, 5, 4, channels), (3, 3, channels // groups, 36), (36,)))
    sizes = convolution_sizes(x.shape, w.shape, (1, 1), ((1, 1), (1, 1)), (1, 1), groups)
    assert conv._plan_forward(sizes, groups == 2, dtype)[0].grid[2] > 1
    options = {**SAME, "groups": groups, "activation": activation}
    received = to_host(conv.conv2d(*to_device((x, w, b)), **options))
    assert_near(received, reference.conv2d(*in64(x, w, b), **options), LIMITS[dtype])


def test_nan_passes_the_activations(rng: np.random.Generator) -> None:
    x, w = normal(rng, "float32", 1, 3, 3, 4), normal(rng, "float32", 2, 2, 4, 4)
    x[0, 1, 1, 2] = np.nan
    for activation in ("relu", "relu6", "sigmoid", "tanh"):
        assert np.isnan(to_host(conv.conv2d(*to_device((x, w)), None, **PLAIN, activation=activation))).all()


def test_sums_over_many_pixels_are_cut_into_slices_and_stay_exact(rng: np.random.Generator) -> None:
    x, gy = 1 + normal(rng, "float32", 8, 112, 112, 1), 1 + normal(rng, "float32", 8, 112, 112, 4)
    received = to_host(conv.conv2d_weight_grad(*to_device((x, gy)), (1, 2), **{**PLAIN, "padding": ((0, 0), (1, 0))}))
    exact = reference.conv2d_weight_grad(*in64(x, gy), (1, 2), **{**PLAIN, "padding": ((0, 0), (1, 0))})
    np.testing.assert_allclose(received, exact, rtol=1e-5)


@pytest.mark.parametrize("channels", [4, 3])
def test_results_have_the_same_bits_whatever_thread_runs_first(channels: int, rng: np.random.Generator) -> None:
    options = {**SAME, "strides": (2, 1)}
    x, w, gy = to_device(
        [normal(rng, "float32", *shape) for shape in ((3, 9, 11, channels), (3, 3, channels, 68), (3, 5, 11, 68))]
    )

    def results() -> list[bytes]:
        y = conv.conv2d(x, w, None, **options)
        gx = conv.conv2d_input_grad(gy, w, (9, 11), **options)
        gw = conv.conv2d_weight_grad(x, gy, (3, 3), **options)
        return [to_host(array).tobytes() for array in (y, gx, gw)]

    forward = results()
    for order in ("reverse", "random"):
        with thread_order(order):
            assert results() == forward


def test_arrays_that_are_not_aligned_for_packs(rng: np.random.Generator) -> None:
    """A view that begins 4 bytes past such an address is read one number at a time."""
    x, w = normal(rng, "float32", 1, 5, 4, 4), normal(rng, "float32", 2, 2, 4, 8)
    shifted = cp.empty((x.size + 1,), np.float32)[1:].reshape(x.shape)
    shifted[...] = to_device(x)
    received = conv.conv2d(shifted, to_device(w), None, **PLAIN)
    assert_near(to_host(received), reference.conv2d(*in64(x, w), None, **PLAIN), 1e-5)


def test_no_channels_give_the_bias_and_zeros(rng: np.random.Generator) -> None:
    x, w, b = (normal(rng, "float32", *shape) for shape in ((2, 4, 3, 0), (2, 2, 0, 5), (5,)))
    y = to_host(conv.conv2d(*to_device((x, w, b)), **PLAIN))
    np.testing.assert_array_equal(y, np.broadcast_to(b, (2, 3, 2, 5)))


@pytest.mark.parametrize(
    ("rows", "columns", "name"),
    [
        (262144, 64, "medium"),
        (65536, 128, "large"),
        (16384, 256, "large"),
        (262144, 32, "small"),
        (196, 256, "small"),
    ],
)
def test_tile_that_is_chosen_for_pixels_and_filters(rows: int, columns: int, name: str) -> None:
    assert fastest_tile(rows, columns, 1, TILES).name == name


@pytest.mark.parametrize(
    ("rows", "columns", "name"), [(9, 32, "small"), (576, 64, "medium"), (1152, 128, "large"), (27, 64, "small")]
)
def test_tile_that_is_chosen_for_weights(rows: int, columns: int, name: str) -> None:
    assert tightest_tile(rows, columns, TILES).name == name


def test_slices_fill_the_device_and_are_neither_long_nor_short() -> None:
    assert -(-262144 // slice_pixels(262144, tiles=5, resident=3)) * 5 in range(380, 397)
    assert -(-802816 // slice_pixels(802816, tiles=5, resident=3)) * 5 in range(2 * 380, 2 * 397)
    assert slice_pixels(1 << 20, tiles=1000, resident=3) == 8192
    assert slice_pixels(500, tiles=1, resident=3) == 128
    assert slice_pixels(0, tiles=1, resident=3) == 128


@pytest.mark.parametrize(("depth", "tiles", "length"), [(4608, 64, 2304), (2304, 132, 2304), (255, 1, 255), (0, 3, 1)])
def test_sums_are_cut_where_tiles_are_few(depth: int, tiles: int, length: int) -> None:
    assert slice_depth(depth, tiles) == length
