"""Convolutions on tensor cores: tiles at their edges, any channels, strides, groups, slices; when they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from minicnn.kernels import reference, settings
from minicnn.kernels.contract import Array
from minicnn.kernels.gpu import conv, conv_tc, mma_words
from minicnn.kernels.gpu.conv_geometry import convolution_sizes
from minicnn.kernels.gpu.conv_tile import Tile
from minicnn.kernels.gpu.mma_words import TILES
from minicnn.kernels.gpu.runtime import cp
from tests.gpu.comparing import to_device, to_host
from tests.gpu.emulator import thread_order

LIMITS = {"tf32": 1e-3, "bf16": 1e-2}
every_tile = pytest.mark.parametrize("tile", TILES, ids=lambda tile: tile.name)
PLAIN: dict[str, Any] = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
SAME: dict[str, Any] = {**PLAIN, "padding": ((1, 1), (1, 1))}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261125)


@pytest.fixture(params=list(LIMITS))
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(settings, "precision", request.param)
    return str(request.param)


@pytest.fixture
def force_tile(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Tile], None]]:
    """Every product is cut into tiles of the kind it is called with."""

    def force(tile: Tile) -> None:
        clear_plans()
        monkeypatch.setattr(conv_tc, "TILES", (tile,))

    yield force
    clear_plans()


def clear_plans() -> None:
    conv_tc._plan.cache_clear()
    conv_tc._plan_weight_grad.cache_clear()


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def in64(*arrays: Array) -> list[Array]:
    return [array.astype(np.float64) for array in arrays]


def assert_rounded(received: Array, exact: Array, precision: str) -> None:
    """Within the precision's limit, by the largest number and by the norm, and not in full precision."""
    assert received.shape == exact.shape
    assert received.dtype == np.float32
    scale = max(1.0, np.abs(exact).max())
    error = received - exact
    assert np.abs(error).max() <= LIMITS[precision] * scale
    assert np.linalg.norm(error) <= LIMITS[precision] * np.linalg.norm(exact)
    assert exact.size < 64 or np.abs(error).max() > 1e-6 * scale


def check_all_three(
    rng: np.random.Generator,
    precision: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    options: dict[str, Any],
) -> None:
    """Forward with bias and relu, input gradient and weight gradient against the reference in float64."""
    x, w, b = normal(rng, *x_shape), normal(rng, *w_shape), normal(rng, w_shape[3])
    assert conv_tc.supports(x.dtype, convolution_sizes(x_shape, w_shape, **options))
    y = reference.conv2d(*in64(x, w, b), **options, activation="relu")
    gy = normal(rng, *y.shape)
    gx = reference.conv2d_input_grad(*in64(gy, w), x_shape[1:3], **options)
    gw = reference.conv2d_weight_grad(*in64(x, gy), w_shape[:2], **options)
    on_device = [to_device(array) for array in (x, w, b, gy)]
    assert_rounded(to_host(conv.conv2d(*on_device[:3], **options, activation="relu")), y, precision)
    received = conv.conv2d_input_grad(on_device[3], on_device[1], x_shape[1:3], **options)
    assert_rounded(to_host(received), gx, precision)
    received = conv.conv2d_weight_grad(on_device[0], on_device[3], w_shape[:2], **options)
    assert_rounded(to_host(received), gw, precision)


@every_tile
@pytest.mark.parametrize(("filters", "pixels"), [(127, 127), (128, 128), (130, 129), (62, 63), (64, 64), (66, 65)])
def test_tiles_at_their_edges(
    filters: int, pixels: int, tile: Tile, precision: str, rng: np.random.Generator, force_tile: Callable[[Tile], None]
) -> None:
    force_tile(tile)
    check_all_three(rng, precision, (1, 1, pixels, 8), (1, 2, 8, filters), {**PLAIN, "padding": ((0, 0), (1, 0))})


@every_tile
@pytest.mark.parametrize(("channels", "filters"), [(1, 31), (3, 32), (12, 33), (40, 16), (65, 7)])
def test_any_number_of_channels(
    channels: int,
    filters: int,
    tile: Tile,
    precision: str,
    rng: np.random.Generator,
    force_tile: Callable[[Tile], None],
) -> None:
    force_tile(tile)
    check_all_three(rng, precision, (2, 7, 6, channels), (2, 3, channels, filters), SAME)


@pytest.mark.parametrize(
    "options",
    [
        {"strides": (2, 2), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1},
        {"strides": (2, 3), "padding": ((2, 0), (1, 4)), "dilation": (2, 1), "groups": 2},
        {"strides": (4, 3), "padding": ((-1, 2), (2, -2)), "dilation": (6, 2), "groups": 3},
    ],
    ids=["same", "two_groups", "more_than_the_kernel"],
)
@pytest.mark.parametrize("channels", [16, 18])
def test_strides_dilation_and_groups(
    channels: int, options: dict[str, Any], precision: str, rng: np.random.Generator
) -> None:
    groups = options["groups"]
    check_all_three(rng, precision, (2, 13, 11, channels * groups), (3, 3, channels, 17 * groups), options)


def test_image_smaller_than_the_stride(precision: str, rng: np.random.Generator) -> None:
    """Some classes of its pixels, by their place modulo the stride, are empty; some were never read."""
    check_all_three(rng, precision, (2, 2, 1, 4), (1, 1, 4, 4), {**PLAIN, "strides": (3, 2)})


def test_several_blocks_in_both_directions(precision: str, rng: np.random.Generator) -> None:
    check_all_three(rng, precision, (3, 10, 9, 20), (3, 3, 20, 136), SAME)


@pytest.mark.parametrize("activation", [None, "relu", "relu6", "sigmoid", "tanh"])
@pytest.mark.parametrize("channels", [4, 128])
def test_activations_with_and_without_slices(
    channels: int, activation: Any, precision: str, rng: np.random.Generator
) -> None:
    """Sums of many terms for few pixels are cut into slices."""
    x, w, b = normal(rng, 1, 6, 5, channels), normal(rng, 3, 3, channels, 20), normal(rng, 20)
    w /= np.float32(6 * np.sqrt(channels))
    sizes = convolution_sizes(x.shape, w.shape, **PLAIN)
    assert (conv_tc._plan(sizes, settings.precision, False, True).slices > 1) == (channels == 128)
    exact = reference.conv2d(*in64(x, w, b), **PLAIN, activation=activation)
    assert_rounded(to_host(conv.conv2d(*to_device((x, w, b)), **PLAIN, activation=activation)), exact, precision)


def test_nan_passes(precision: str, rng: np.random.Generator) -> None:
    x, w = normal(rng, 1, 3, 3, 8), normal(rng, 2, 2, 8, 4)
    x[0, 1, 1, 2] = np.nan
    for activation in ("relu", "relu6"):
        assert np.isnan(to_host(conv.conv2d(*to_device((x, w)), None, **PLAIN, activation=activation))).all()


def test_sums_over_many_pixels_are_cut_into_slices(precision: str, rng: np.random.Generator) -> None:
    x, gy = 1 + normal(rng, 4, 31, 30, 4), 1 + normal(rng, 4, 31, 30, 8)
    options = {**PLAIN, "padding": ((0, 0), (1, 0))}
    received = to_host(conv.conv2d_weight_grad(*to_device((x, gy)), (1, 2), **options))
    exact = reference.conv2d_weight_grad(*in64(x, gy), (1, 2), **options)
    np.testing.assert_allclose(received, exact, rtol=LIMITS[precision])


@pytest.mark.parametrize("channels", [8, 3])
def test_results_have_the_same_bits_whatever_thread_runs_first(
    channels: int, precision: str, rng: np.random.Generator
) -> None:
    options = {**SAME, "strides": (2, 1)}
    shapes = (3, 9, 7, channels), (3, 3, channels, 68), (3, 5, 7, 68)
    x, w, gy = to_device([normal(rng, *shape) for shape in shapes])

    def results() -> list[bytes]:
        y = conv.conv2d(x, w, None, **options)
        gx = conv.conv2d_input_grad(gy, w, (9, 7), **options)
        gw = conv.conv2d_weight_grad(x, gy, (3, 3), **options)
        return [to_host(array).tobytes() for array in (y, gx, gw)]

    in_order = results()
    for order in ("reverse", "random"):
        with thread_order(order):
            assert results() == in_order


def test_arrays_that_are_not_aligned_for_packs(precision: str, rng: np.random.Generator) -> None:
    """A view that begins 4 bytes past such an address is copied first."""
    x, w = normal(rng, 1, 5, 4, 8), normal(rng, 2, 2, 8, 8)
    shifted = cp.empty((x.size + 1,), np.float32)[1:].reshape(x.shape)
    shifted[...] = to_device(x)
    received = conv.conv2d(shifted, to_device(w), None, **PLAIN)
    assert_rounded(to_host(received), reference.conv2d(*in64(x, w), None, **PLAIN), precision)


def test_no_images_and_no_channels(precision: str, rng: np.random.Generator) -> None:
    b = normal(rng, 5)
    y = conv.conv2d(*to_device((normal(rng, 0, 4, 3, 8), normal(rng, 2, 2, 8, 5), b)), **PLAIN)
    assert y.shape == (0, 3, 2, 5)
    y = to_host(conv.conv2d(*to_device((normal(rng, 2, 4, 3, 0), normal(rng, 2, 2, 0, 5), b)), **PLAIN))
    np.testing.assert_array_equal(y, np.broadcast_to(b, (2, 3, 2, 5)))


def test_default_is_full_precision(rng: np.random.Generator) -> None:
    assert settings.precision == "fp32"
    x, w = normal(rng, 2, 5, 4, 32), normal(rng, 3, 3, 32, 32)
    received = to_host(conv.conv2d(*to_device((x, w)), None, **PLAIN))
    exact = reference.conv2d(*in64(x, w), None, **PLAIN)
    assert np.abs(received - exact).max() < 1e-6 * np.abs(exact).max()


def test_double_small_groups_and_old_devices_are_not_for_tensor_cores(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = convolution_sizes((2, 5, 5, 64), (3, 3, 16, 64), **{**PLAIN, "groups": 4})
    narrow = convolution_sizes((2, 5, 5, 64), (3, 3, 8, 64), **{**PLAIN, "groups": 8})
    assert conv_tc.supports(np.dtype("float32"), wide)
    assert not conv_tc.supports(np.dtype("float64"), wide)
    assert not conv_tc.supports(np.dtype("float32"), narrow)
    monkeypatch.setattr(mma_words, "_has_tensor_cores", lambda device: False)
    assert not conv_tc.supports(np.dtype("float32"), wide)


@pytest.mark.parametrize(("packs", "chunk"), [(1, 1), (3, 3), (7, 7), (8, 8), (9, 9), (12, 6), (16, 8), (22, 22)])
def test_chunk_of_channels_that_are_walked_together(packs: int, chunk: int) -> None:
    assert conv_tc._chunk(packs) == chunk
