"""CPU depthwise convolution and its gradients against the reference in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from minicnn.kernels import reference
from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.cpu import depthwise_3x3_weight_grad, parallel
from minicnn.kernels.cpu.depthwise import depthwise_conv2d, depthwise_input_grad, depthwise_weight_grad

TOLERANCE = {"float32": 2e-6, "float64": 2e-15}
NONE, ONE = ((0, 0), (0, 0)), ((1, 1), (1, 1))


@dataclass(frozen=True)
class Geometry:
    label: str
    x_shape: tuple[int, int, int, int]
    window: Pair = (3, 3)
    multiplier: int = 1
    strides: Pair = (1, 1)
    padding: Padding2D = ONE
    dilation: Pair = (1, 1)

    def __str__(self) -> str:
        return self.label


GEOMETRIES = [
    Geometry("several_tasks", (2, 19, 22, 33)),
    Geometry("fewer_channels_than_lanes", (2, 9, 11, 3)),
    Geometry("channel_tail", (1, 7, 13, 129)),
    Geometry("stride_2", (2, 28, 31, 48), strides=(2, 2)),
    Geometry("stride_2_same", (2, 12, 14, 47), strides=(2, 2), padding=((0, 1), (0, 1))),
    Geometry("strides_2_3", (1, 17, 29, 17), strides=(2, 3)),
    Geometry("stride_beyond_the_window", (2, 20, 23, 16), window=(1, 2), strides=(3, 4), padding=NONE),
    Geometry("five_by_five", (2, 11, 12, 20), window=(5, 5), padding=((2, 2), (2, 2))),
    Geometry("seven_by_two", (1, 15, 18, 18), window=(7, 2), padding=((3, 3), (0, 1))),
    Geometry("dilated", (2, 13, 17, 17), dilation=(2, 3), padding=((2, 2), (3, 3))),
    Geometry("dilated_and_strided", (1, 19, 20, 5), dilation=(3, 2), strides=(2, 4), padding=((3, 1), (0, 5))),
    Geometry("multiplier", (2, 9, 10, 6), multiplier=3, strides=(2, 1)),
    Geometry("cropped", (1, 9, 12, 17), padding=((-1, 1), (2, -3))),
    Geometry("padding_beyond_the_window", (1, 4, 5, 17), padding=((5, 4), (4, 6))),
    Geometry("smaller_than_the_window", (3, 2, 1, 17)),
    Geometry("empty_batch", (0, 5, 5, 3)),
    Geometry("tiles", (2, 8, 12, 48)),
    Geometry("tiles_overlap", (2, 9, 11, 37)),
    Geometry("tiles_without_padding", (2, 8, 9, 16), padding=NONE),
    Geometry("tiles_of_small_maps", (5, 2, 4, 33)),
    Geometry("tiles_of_two_by_two", (3, 2, 2, 32)),
    Geometry("tiles_uneven_padding", (1, 7, 8, 16), padding=((0, 1), (1, 0))),
    *(
        Geometry(
            f"tiles_stride_2_{h}x{w}_{''.join(map(str, sum(padding, ())))}", (2, h, w, 33), (3, 3), 1, (2, 2), padding
        )
        for h, w in ((8, 8), (7, 10), (4, 9), (12, 7))
        for padding in (NONE, ONE, ((0, 1), (0, 1)), ((1, 0), (1, 0)))
    ),
    Geometry("tiles_empty_batch", (0, 8, 8, 16)),
    Geometry("tiles_multiplier", (2, 6, 6, 8), multiplier=2),
]


def draw(geometry: Geometry, dtype: str, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """x, w, b."""
    filters = geometry.x_shape[3] * geometry.multiplier
    x, w, b = (rng.standard_normal(shape) for shape in (geometry.x_shape, (*geometry.window, 1, filters), (filters,)))
    return x.astype(dtype), w.astype(dtype), b.astype(dtype)


def assert_close(actual: Array, expected: Array, dtype: str) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == dtype
    if expected.size:
        assert np.abs(actual - expected).max() <= TOLERANCE[dtype] * np.abs(expected).max()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_convolution_and_gradients_equal_the_reference(
    rng: np.random.Generator, geometry: Geometry, dtype: str
) -> None:
    g, channels = geometry, geometry.x_shape[3]
    x, w, b = draw(g, dtype, rng)
    exact = [array.astype("float64") for array in (x, w, b)]
    options = (g.strides, g.padding, g.dilation)

    expected = reference.conv2d(*exact, *options, channels)
    assert_close(depthwise_conv2d(x, w, b, *options, -np.inf, np.inf), expected, dtype)
    assert_close(depthwise_conv2d(x, w, b, *options, -0.5, 1.5), expected.clip(-0.5, 1.5), dtype)
    assert_close(depthwise_conv2d(x, w, None, *options, 0.0, np.inf), (expected - exact[2]).clip(0), dtype)

    gy = rng.standard_normal(expected.shape).astype(dtype)
    expected = reference.conv2d_input_grad(gy.astype("float64"), exact[1], x.shape[1:3], *options, channels)
    assert_close(depthwise_input_grad(gy, w, x.shape[1:3], *options, channels), expected, dtype)
    expected = reference.conv2d_weight_grad(exact[0], gy.astype("float64"), g.window, *options, channels)
    assert_close(depthwise_weight_grad(x, gy, g.window, *options), expected, dtype)


@pytest.fixture
def any_threads() -> Iterator[None]:
    """Put the number of threads back."""
    before = parallel.get_num_threads()
    yield
    parallel.set_num_threads(before)


def test_results_are_the_same_bits_for_any_number_of_threads(rng: np.random.Generator, any_threads: None) -> None:
    x, w, b = draw(Geometry("", (3, 30, 29, 50)), "float32", rng)
    options = ((1, 1), ONE, (1, 1))
    results = set()
    for threads in range(1, parallel.max_threads() + 1):
        parallel.set_num_threads(threads)
        for _ in range(2):
            y = depthwise_conv2d(x, w, b, *options, 0.0, np.inf)
            gx = depthwise_input_grad(x, w, (30, 29), *options, 50)
            gw = depthwise_weight_grad(x, y, (3, 3), *options)
            results.add(y.tobytes() + gx.tobytes() + gw.tobytes())
    assert len(results) == 1


def test_the_weight_gradient_of_many_pixels_is_exact_to_single_precision(rng: np.random.Generator) -> None:
    x, gy = (rng.uniform(0.5, 1.5, (8, 56, 56, 20)).astype("float32") for _ in range(2))
    options = ((3, 3), (1, 1), ONE, (1, 1))
    expected = reference.conv2d_weight_grad(x.astype("float64"), gy.astype("float64"), *options, 20)
    assert np.abs(depthwise_weight_grad(x, gy, *options) - expected).max() < 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize("stride", [1, 2])
def test_the_weight_gradient_of_a_big_batch_goes_in_narrow_strips(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    monkeypatch.setattr(depthwise_3x3_weight_grad, "BIG_BATCH", 0)
    x = rng.standard_normal((2, 6, 7, 130)).astype("float32")
    gy = rng.standard_normal((2, 6 // stride, -(-7 // stride), 130)).astype("float32")
    options = ((3, 3), (stride, stride), ((0, 1), (1, 1)) if stride == 2 else ONE, (1, 1))
    expected = reference.conv2d_weight_grad(x.astype("float64"), gy.astype("float64"), *options, 130)
    assert_close(depthwise_weight_grad(x, gy, *options), expected, "float32")


def test_nan_reaches_the_window_around_it_alone(rng: np.random.Generator) -> None:
    x, w, _ = draw(Geometry("", (1, 9, 10, 20)), "float32", rng)
    x[0, 4, 5, 7] = np.nan
    y = depthwise_conv2d(x, w, None, (1, 1), ONE, (1, 1), 0.0, 6.0)
    expected = np.zeros(y.shape, bool)
    expected[0, 3:6, 4:7, 7] = True
    np.testing.assert_array_equal(np.isnan(y), expected)


def test_inputs_are_not_written(rng: np.random.Generator) -> None:
    arrays = draw(Geometry("", (2, 9, 10, 20)), "float32", rng)
    copies = [array.copy() for array in arrays]
    x, w, b = arrays
    depthwise_conv2d(x, w, b, (1, 1), ONE, (1, 1), 0.0, 6.0)
    depthwise_input_grad(x, w, (9, 10), (1, 1), ONE, (1, 1), 20)
    depthwise_weight_grad(x, x, (3, 3), (1, 1), ONE, (1, 1))
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
