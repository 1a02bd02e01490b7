"""Kernels prepared for weights that stay as they are: the numbers of the ordinary ones, for any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn.kernels import cpu, reference
from minicnn.kernels.cpu import parallel, settings

NOTHING = ((0, 0), (0, 0))
AROUND = ((1, 1), (1, 1))
# x, w, strides, padding, dilation, groups
CONVOLUTIONS = {
    "direct": ((2, 9, 7, 5), (3, 2, 5, 19), (1, 1), ((1, 0), (0, 1)), (1, 1), 1),
    "strided": ((1, 11, 10, 3), (3, 3, 3, 70), (2, 1), AROUND, (1, 1), 1),
    "dilated": ((1, 11, 10, 4), (3, 3, 4, 8), (1, 1), AROUND, (2, 2), 1),
    "groups": ((2, 8, 7, 6), (3, 3, 2, 9), (1, 1), NOTHING, (1, 1), 3),
    "small map": ((1, 3, 2, 40), (3, 3, 40, 70), (1, 1), AROUND, (1, 1), 1),
    "product": ((1, 5, 4, 33), (1, 1, 33, 130), (1, 1), NOTHING, (1, 1), 1),
    "product of few rows": ((1, 2, 2, 33), (1, 1, 33, 130), (1, 1), NOTHING, (1, 1), 1),
    "depthwise": ((2, 8, 7, 20), (3, 3, 1, 20), (1, 1), AROUND, (1, 1), 20),
    "Winograd": ((1, 15, 14, 64), (3, 3, 64, 64), (1, 1), AROUND, (1, 1), 1),
    "Winograd, often": ((8, 15, 14, 64), (3, 3, 64, 64), (1, 1), AROUND, (1, 1), 1),
    "nothing": ((0, 8, 7, 6), (3, 3, 6, 9), (1, 1), NOTHING, (1, 1), 1),
}
ACTIVATIONS = [None, "relu", "relu6", "sigmoid", "tanh"]


def numbers(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def weights(shape: tuple[int, ...], dtype: str = "float32") -> Any:
    """Such that sums are about 1 at most, where no activation hides an error."""
    return numbers(shape, dtype, 1) / (4 * np.sqrt(max(1, np.prod(shape[:-1])))).astype(dtype)


def assert_near(received: Any, expected: Any, dtype: str) -> None:
    limit = (2e-5 if dtype == "float32" else 1e-12) * max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(received, expected, rtol=0, atol=limit)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_prepared_convolution_is_that_convolution(name: str, activation: Any, dtype: str) -> None:
    x_shape, w_shape, *geometry = CONVOLUTIONS[name]
    x, w, b = numbers(x_shape, dtype), weights(w_shape, dtype), numbers(w_shape[3:], dtype, 2)
    run = cpu.prepare_conv2d(x_shape, w, b, *geometry, activation, {})
    expected = reference.conv2d(x, w, b, *geometry, activation)
    assert_near(run(x), expected, dtype)
    np.testing.assert_array_equal(run(x), run(x))
    assert_near(run(-x), reference.conv2d(-x, w, b, *geometry, activation), dtype)
    assert_near(cpu.prepare_conv2d(x_shape, w, None, *geometry, activation, {})(x),
                reference.conv2d(x, w, None, *geometry, activation), dtype)  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_without_winograd_the_bits_are_those_of_conv2d(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "winograd", False)
    x_shape, w_shape, *geometry = CONVOLUTIONS[name]
    x, w, b = numbers(x_shape), numbers(w_shape, seed=1), numbers(w_shape[3:], seed=2)
    run = cpu.prepare_conv2d(x_shape, w, b, *geometry, "relu", {})
    np.testing.assert_array_equal(run(x), cpu.conv2d(x, w, b, *geometry, "relu"))


@pytest.mark.parametrize("pooling", [((2, 2), (2, 2), NOTHING), ((3, 3), (2, 2), ((0, 1), (1, 0)))])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", [name for name in CONVOLUTIONS if name not in ("small map", "product of few rows")])
def test_a_prepared_pooled_convolution_is_the_two(name: str, activation: Any, pooling: Any) -> None:
    x_shape, w_shape, *geometry = CONVOLUTIONS[name]
    x, w, b = numbers(x_shape), weights(w_shape), numbers(w_shape[3:], seed=2)
    run = cpu.prepare_conv2d_max_pool2d(x_shape, w, b, *geometry, activation, *pooling, {})
    expected, _ = reference.max_pool2d(reference.conv2d(x, w, b, *geometry, activation), *pooling)
    assert_near(run(x), expected, "float32")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("m", "k", "n"), [(1, 70, 33), (3, 8, 130), (20, 300, 65), (2, 0, 4), (0, 3, 4)])
def test_a_prepared_dense_layer_is_that_layer(m: int, k: int, n: int, activation: Any, dtype: str) -> None:
    x, w, b = numbers((m, k), dtype), weights((k, n), dtype), numbers((n,), dtype, 2)
    for bias in (b, None):
        run = cpu.prepare_dense((m, k), w, bias, activation)
        assert_near(run(x), reference.dense(x, w, bias, activation), dtype)


def test_layouts_are_shared_between_shapes() -> None:
    w, layouts = numbers((3, 3, 64, 64)), {}
    for size in (5, 6, 30, 40):
        x = numbers((1, size, size, 64), seed=size)
        run = cpu.prepare_conv2d(x.shape, w, None, (1, 1), AROUND, (1, 1), 1, None, layouts)
        assert_near(run(x), reference.conv2d(x, w, None, (1, 1), AROUND, (1, 1), 1), "float32")
    assert len(layouts) == 2  # panels, and what Winograd's algorithm reads


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_results_do_not_depend_on_the_number_of_threads(name: str) -> None:
    x_shape, w_shape, *geometry = CONVOLUTIONS[name]
    x, w, before = numbers(x_shape), numbers(w_shape, seed=1), parallel.get_num_threads()
    try:
        results = []
        for threads in range(1, parallel.max_threads() + 1):
            parallel.set_num_threads(threads)
            results.append(cpu.prepare_conv2d(x_shape, w, None, *geometry, None, {})(x))
    finally:
        parallel.set_num_threads(before)
    for result in results:
        np.testing.assert_array_equal(result, results[0])
