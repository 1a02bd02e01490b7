"""Convolution and its gradients on every path: shapes that reach blocks, borders, taps, phases, tails and slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn.kernels import cpu, reference
from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.cpu import buffers, conv, parallel
from minicnn.kernels.cpu.direct import direct_conv2d, direct_input_grad
from minicnn.kernels.cpu.gather import forward_axis, input_grad_phases
from minicnn.kernels.cpu.scatter import scatter_input_grad
from minicnn.kernels.cpu.small_maps import wastes_products
from minicnn.kernels.cpu.weight_grad import direct_weight_grad

SAME: Padding2D = ((1, 1), (1, 1))
NONE: Padding2D = ((0, 0), (0, 0))

# name: (x shape, kernel, filters, strides, padding, dilation, groups)
SHAPES: dict[str, tuple[Any, ...]] = {
    "many_blocks_of_rows": ((1, 70, 61, 3), (3, 3), 20, (1, 1), SAME, (1, 1), 1),
    "blocks_of_images": ((23, 5, 6, 9), (3, 2), 33, (1, 1), NONE, (1, 1), 1),
    "terms_and_panels_in_parts": ((2, 9, 8, 47), (3, 3), 129, (1, 1), NONE, (1, 1), 1),
    "small_map_with_border": ((5, 4, 3, 17), (3, 3), 47, (1, 1), SAME, (1, 1), 1),
    "full_padding": ((3, 5, 5, 17), (3, 4), 19, (1, 1), ((2, 2), (3, 3)), (1, 1), 1),
    "stem": ((2, 41, 38, 3), (7, 7), 24, (2, 2), ((3, 3), (3, 3)), (1, 1), 1),
    "stride_2_many_channels": ((3, 15, 14, 32), (3, 3), 48, (2, 2), ((0, 1), (0, 1)), (1, 1), 1),
    "stride_3_phases_without_taps": ((2, 17, 11, 20), (2, 1), 7, (3, 2), NONE, (1, 1), 1),
    "dilated": ((2, 19, 17, 18), (3, 3), 21, (1, 1), ((4, 4), (4, 4)), (4, 4), 1),
    "dilated_and_strided": ((2, 19, 17, 18), (3, 2), 21, (2, 3), ((4, 1), (0, 2)), (3, 2), 1),
    "groups": ((2, 11, 9, 24), (3, 3), 60, (2, 1), SAME, (1, 1), 4),
    "groups_small_maps": ((4, 3, 3, 64), (3, 3), 34, (1, 1), SAME, (1, 1), 2),
    "pointwise": ((2, 29, 13, 65), (1, 1), 70, (1, 1), NONE, (1, 1), 1),
    "pointwise_strided": ((2, 13, 12, 33), (1, 1), 17, (2, 2), NONE, (1, 1), 1),
    "cropping": ((2, 12, 11, 16), (3, 3), 16, (1, 1), ((-2, 1), (0, -3)), (1, 1), 1),
    "one_output": ((1, 3, 3, 1), (3, 3), 1, (1, 1), NONE, (1, 1), 1),
}
cases = pytest.mark.parametrize("name", SHAPES)
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


class Drawn:
    """Arrays and options of a shape; `wide` is the same in float64."""

    def __init__(self, name: str, dtype: str) -> None:
        x_shape, self.kernel_size, filters, *options = SHAPES[name]
        self.strides, self.padding, self.dilation, self.groups = options
        self.options = tuple(options)
        rng = np.random.default_rng(len(name))
        rows, columns = (
            forward_axis(x_shape[i + 1], self.kernel_size[i], options[0][i], options[1][i], options[2][i])
            for i in (0, 1)
        )
        self.input_size: Pair = x_shape[1:3]
        self.axes = rows, columns
        self.x = rng.standard_normal(x_shape).astype(dtype)
        w_shape = (*self.kernel_size, x_shape[3] // self.groups, filters)
        self.w = (rng.standard_normal(w_shape) / np.prod(w_shape[:3]) ** 0.5).astype(dtype)  # outputs are about 1
        self.b = rng.standard_normal(filters).astype(dtype)
        self.gy = rng.standard_normal((x_shape[0], rows.positions, columns.positions, filters)).astype(dtype)

    def wide(self, *names: str) -> list[Array]:
        return [getattr(self, name).astype(np.float64) for name in names]


def assert_near(received: Array, expected: Array, limit: float = 1e-5) -> None:
    limit = limit if received.dtype == np.float32 else 1e-13
    assert received.shape == expected.shape
    np.testing.assert_allclose(received, expected, rtol=0, atol=limit * np.abs(expected).max())


@both_dtypes
@cases
def test_direct_convolution_equals_the_reference(name: str, dtype: str) -> None:
    d = Drawn(name, dtype)
    received = direct_conv2d(d.x, d.w, d.b, *d.options, -np.inf, np.inf)
    assert_near(received, reference.conv2d(*d.wide("x", "w", "b"), *d.options))


@both_dtypes
@cases
def test_direct_input_gradient_equals_the_reference(name: str, dtype: str) -> None:
    d = Drawn(name, dtype)
    received = direct_input_grad(d.gy, d.w, d.input_size, *d.options)
    assert_near(received, reference.conv2d_input_grad(*d.wide("gy", "w"), d.input_size, *d.options))


@both_dtypes
@cases
def test_direct_weight_gradient_equals_the_reference(name: str, dtype: str) -> None:
    d = Drawn(name, dtype)
    received = direct_weight_grad(d.x, d.gy, d.kernel_size, *d.options)
    assert_near(received, reference.conv2d_weight_grad(*d.wide("x", "gy"), d.kernel_size, *d.options))


@cases
def test_scattered_input_gradient_equals_the_reference(name: str) -> None:
    d = Drawn(name, "float32")
    if d.groups == 1:
        received = scatter_input_grad(d.gy, d.w, d.input_size, *d.options[:3])
        assert_near(received, reference.conv2d_input_grad(*d.wide("gy", "w"), d.input_size, *d.options))


@pytest.mark.parametrize("activation", [None, "relu", "relu6", "sigmoid", "tanh"])
@pytest.mark.parametrize("name", ["terms_and_panels_in_parts", "small_map_with_border", "groups_small_maps"])
def test_activations_are_applied_to_whole_sums(name: str, activation: Any) -> None:
    d = Drawn(name, "float32")
    received = cpu.conv2d(d.x, d.w, d.b, *d.options, activation)
    assert_near(received, reference.conv2d(*d.wide("x", "w", "b"), *d.options, activation))


def test_nan_passes_through_a_clamp() -> None:
    for name in ("pointwise", "small_map_with_border"):
        d = Drawn(name, "float32")
        d.x[0, 0, 0, 0] = np.nan
        received = cpu.conv2d(d.x, d.w, d.b, *d.options, "relu6")
        expected = reference.conv2d(*d.wide("x", "w", "b"), *d.options, "relu6")
        np.testing.assert_array_equal(np.isnan(received), np.isnan(expected))
        assert np.isnan(received[0, 0, 0]).all()


def test_the_shapes_here_reach_both_ways_of_gathering() -> None:
    ways = {
        wastes_products(*Drawn(n, "float32").axes, SHAPES[n][0][1:3], SHAPES[n][0][3] // SHAPES[n][6]) for n in SHAPES
    }
    assert ways == {True, False}


def test_phases_of_a_stride_cover_each_pixel_and_each_tap_once() -> None:
    for size, window, stride, padding, dilation in [(9, 3, 2, (1, 0), 1), (7, 2, 3, (0, 0), 2), (2, 5, 4, (3, 3), 1)]:
        phases = input_grad_phases(size, window, stride, padding, dilation)
        pixels = [p.axis.out_first + q * stride for p in phases for q in range(p.axis.positions)]
        assert sorted(pixels) == list(range(size))
        reached = {k for p in phases for k in p.window}
        assert reached <= set(range(window))
        for phase in phases:
            for k, tap in zip(phase.window, phase.axis.taps, strict=False):
                output = phase.axis.first + tap  # of the phase's first pixel
                assert output * stride == phase.axis.out_first + padding[0] - k * dilation


# ---------------------------------------------------------------------------------------------------- bits


def calls(d: Drawn) -> Iterator[Callable[[], Array]]:
    yield lambda: cpu.conv2d(d.x, d.w, d.b, *d.options)
    yield lambda: cpu.conv2d_input_grad(d.gy, d.w, d.input_size, *d.options)
    yield lambda: cpu.conv2d_weight_grad(d.x, d.gy, d.kernel_size, *d.options)


@cases
def test_any_number_of_threads_gives_the_same_bits(name: str) -> None:
    most = parallel.max_threads()
    try:
        for call in calls(Drawn(name, "float32")):
            results = set()
            for threads in (1, most, most):
                parallel.set_num_threads(threads)
                results.add(call().tobytes())
            assert len(results) == 1
    finally:
        parallel.set_num_threads(most)


def test_slices_of_a_large_batch_give_the_same_bits_on_any_number_of_threads() -> None:
    rng = np.random.default_rng(5)
    x, gy = (rng.standard_normal((40, 24, 24, c)).astype(np.float32) for c in (3, 16))
    received = {}
    for threads in range(1, parallel.max_threads() + 1):
        parallel.set_num_threads(threads)
        received[threads] = direct_weight_grad(x, gy, (3, 3), (1, 1), SAME, (1, 1), 1)
    expected = reference.conv2d_weight_grad(x.astype(float), gy.astype(float), (3, 3), (1, 1), SAME, (1, 1), 1)
    assert_near(received[1], expected)
    assert len({array.tobytes() for array in received.values()}) == 1


def test_outputs_past_the_caches_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large enough to be streamed: 34 MB, whole panels."""
    rng = np.random.default_rng(5)
    x, w = (
        rng.standard_normal((1, 366, 366, 2)).astype(np.float32),
        rng.standard_normal((3, 3, 2, 64)).astype(np.float32),
    )
    received = direct_conv2d(x, w, None, (1, 1), NONE, (1, 1), 1, 0.0, np.inf)
    assert received.nbytes > 1 << 25
    assert_near(received, reference.conv2d(x.astype(float), w.astype(float), None, (1, 1), NONE, (1, 1), 1, "relu"))


# ---------------------------------------------------------------------------------------------------- dispatch


def test_winograd_is_used_where_it_wins_and_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []

    def watched(function: Any) -> Any:
        return lambda *args: used.append(function.__name__) or function(*args)

    for name in ("winograd_conv2d", "direct_conv2d"):
        monkeypatch.setattr(conv, name, watched(getattr(conv, name)))
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((4, 28, 28, 64)), rng.standard_normal((3, 3, 64, 64))
    narrow = x.astype(np.float32), w.astype(np.float32)
    exact = reference.conv2d(x, w, None, (1, 1), SAME, (1, 1), 1)
    assert minicnn.config.winograd
    assert_near(cpu.conv2d(*narrow, None, (1, 1), SAME, (1, 1), 1), exact, 2e-5)
    cpu.conv2d(x, w, None, (1, 1), SAME, (1, 1), 1)
    minicnn.config.winograd = False
    try:
        assert_near(cpu.conv2d(*narrow, None, (1, 1), SAME, (1, 1), 1), exact, 1e-5)
    finally:
        minicnn.config.winograd = True
    assert used == ["winograd_conv2d", "direct_conv2d", "direct_conv2d"]
    with pytest.raises(ValueError, match="must be True or False"):
        minicnn.config.winograd = 1


def test_a_second_call_allocates_no_large_memory() -> None:
    for name in ("many_blocks_of_rows", "terms_and_panels_in_parts"):
        for call in calls(Drawn(name, "float64")):
            call()
            before = buffers.statistics()["allocated_blocks"]
            call()
            assert buffers.statistics()["allocated_blocks"] == before
