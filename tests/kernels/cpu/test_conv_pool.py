"""Convolution and pooling as one: in blocks, by the other techniques, and the same as one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import layers
from minicnn.kernels import cpu, reference
from minicnn.kernels.cpu import buffers, parallel

NONE = ((0, 0), (0, 0))
ONE = ((1, 1), (1, 1))

# name: (x shape, w shape, strides, padding, groups, window)
SHAPES: dict[str, tuple[Any, ...]] = {
    "first_layer": ((3, 28, 28, 1), (3, 3, 1, 64), (1, 1), NONE, 1, (2, 2)),
    "many_blocks": ((2, 90, 71, 3), (3, 3, 3, 20), (1, 1), ONE, 1, (3, 2)),
    "several_images_a_block": ((17, 6, 7, 5), (2, 3, 5, 47), (1, 1), NONE, 1, (2, 2)),
    "rows_that_no_window_covers": ((5, 13, 11, 17), (3, 2, 17, 33), (1, 1), ONE, 1, (5, 4)),
    "groups_and_strides": ((4, 15, 14, 8), (3, 3, 4, 6), (2, 1), ONE, 2, (2, 3)),
    "window_larger_than_the_map": ((2, 5, 5, 3), (3, 3, 3, 4), (1, 1), NONE, 1, (3, 3)),
    "depthwise": ((2, 9, 8, 6), (3, 3, 1, 6), (1, 1), ONE, 6, (2, 2)),
    "winograd": ((8, 26, 26, 64), (3, 3, 64, 64), (1, 1), ONE, 1, (2, 2)),
}


@pytest.mark.parametrize("activation", [None, "relu", "relu6", "sigmoid"])
@pytest.mark.parametrize("name", SHAPES)
def test_both_in_one_equal_one_after_the_other(name: str, activation: Any) -> None:
    x_shape, w_shape, strides, padding, groups, window = SHAPES[name]
    rng = np.random.default_rng(len(name))
    x, b = rng.standard_normal(x_shape), rng.standard_normal(w_shape[3])
    w = rng.standard_normal(w_shape) / np.prod(w_shape[:3]) ** 0.5
    options = (strides, padding, (1, 1), groups, activation, window, window, NONE)
    y, where = cpu.conv2d_max_pool2d(*(a.astype(np.float32) for a in (x, w, b)), *options)
    expected, _ = reference.conv2d_max_pool2d(x, w, b, *options)
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    full = reference.conv2d(x, w, b, *options[:5])
    at_where = reference.gather2d(full, where)  # the place is that of the largest, or of one that is as large
    np.testing.assert_allclose(at_where, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_any_number_of_threads_gives_the_same_bits() -> None:
    x_shape, w_shape, strides, padding, groups, window = SHAPES["many_blocks"]
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(x_shape).astype(np.float32), rng.standard_normal(w_shape).astype(np.float32)
    options = (strides, padding, (1, 1), groups, "relu", window, window, NONE)
    received = set()
    for threads in (1, parallel.max_threads()):
        parallel.set_num_threads(threads)
        received.add(cpu.conv2d_max_pool2d(x, w, None, *options)[0].tobytes())
    assert len(received) == 1


def test_the_convolution_does_not_go_to_memory() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((8, 64, 64, 3)).astype(np.float32), rng.standard_normal((3, 3, 3, 64)).astype(np.float32)
    buffers.release()
    y, _ = cpu.conv2d_max_pool2d(x, w, None, (1, 1), NONE, (1, 1), 1, "relu", (2, 2), (2, 2), NONE)
    assert buffers.statistics()["held_bytes"] < y.nbytes  # what was scratch; the convolution is four times y


@pytest.mark.parametrize("functional", [False, True], ids=["sequential", "functional"])
def test_layers_of_a_model_are_joined_and_train_as_before(functional: bool) -> None:
    rng = np.random.default_rng(1)
    x, t = rng.standard_normal((6, 13, 12, 2)).astype(np.float64), rng.integers(0, 3, 6)
    losses = {}
    for joined in (True, False):
        minicnn.utils.set_random_seed(3)
        stack = [
            layers.Conv2D(5, 3, activation="relu", dtype="float64"),
            # A subclass is not joined: it may do anything.
            (layers.MaxPooling2D if joined else type("Own", (layers.MaxPooling2D,), {}))(2, dtype="float64"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax", dtype="float64"),
        ]
        if functional:
            start = minicnn.Input((13, 12, 2), dtype="float64")
            end = start
            for layer in stack:
                end = layer(end)
            model: Any = minicnn.Model(start, end)
        else:
            model = minicnn.Sequential([minicnn.Input((13, 12, 2), dtype="float64"), *stack])
        assert (stack[0].fused_with(stack[1]) is not None) == joined
        model.compile("adam", "sparse_categorical_crossentropy")
        losses[joined] = [model.train_on_batch(x, t) for _ in range(5)]
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-12)


def test_layers_that_differ_in_layout_or_are_regularized_stay_two() -> None:
    conv = layers.Conv2D(4, 3, activation="relu")
    assert conv.fused_with(layers.MaxPooling2D(2)) is not None
    assert conv.fused_with(layers.MaxPooling2D(2, data_format="channels_first")) is None
    assert conv.fused_with(layers.MaxPooling2D(2, dtype="float64")) is None
    assert conv.fused_with(layers.AveragePooling2D(2)) is None
    assert layers.Conv2D(4, 3, activation="elu").fused_with(layers.MaxPooling2D(2)) is None
    assert layers.Conv2D(4, 3, activity_regularizer="l2").fused_with(layers.MaxPooling2D(2)) is None
