"""Convolution layers against nested loops, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn import layers
from tests import loops

NONE = ((0, 0), (0, 0))


@pytest.fixture
def images(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((2, 7, 6, 4))


def randomize(layer: Any, rng: np.random.Generator) -> list[np.ndarray]:
    layer.set_weights([rng.standard_normal(w.shape) for w in layer.weights])
    return layer.get_weights()


@pytest.mark.parametrize(
    ("options", "strides", "padding", "dilation", "groups", "activation"),
    [
        ({}, (1, 1), NONE, (1, 1), 1, None),
        ({"strides": (2, 1), "activation": "relu"}, (2, 1), NONE, (1, 1), 1, "relu"),
        ({"padding": "same", "groups": 2}, (1, 1), ((1, 1), (0, 1)), (1, 1), 2, None),
        ({"dilation_rate": (2, 3), "activation": "tanh"}, (1, 1), NONE, (2, 3), 1, "tanh"),
        ({"padding": "SAME", "strides": 2, "activation": "sigmoid"}, (2, 2), ((1, 1), (0, 0)), (1, 1), 1, "sigmoid"),
    ],
)
def test_conv2d_equals_the_loops(
    options: dict[str, Any], strides: Any, padding: Any, dilation: Any, groups: int, activation: Any,
    images: np.ndarray, rng: np.random.Generator,
) -> None:  # fmt: skip
    layer = layers.Conv2D(6, (3, 2), dtype="float64", **options)
    layer(images)
    kernel, bias = randomize(layer, rng)
    assert kernel.shape == (3, 2, 4 // groups, 6)
    y = layer(images).numpy()
    expected = loops.conv2d(images, kernel, bias, strides, padding, dilation, groups)
    np.testing.assert_allclose(
        y, expected if activation is None else loops.activation(expected, activation), atol=1e-10
    )
    assert layer.compute_output_shape((None, 7, 6, 4)) == (None, *y.shape[1:])


def test_channels_first_gives_the_transposed_result(images: np.ndarray) -> None:
    last = layers.Conv2D(5, (3, 2), strides=(2, 1), padding="same", dtype="float64")
    first = layers.Conv2D(5, (3, 2), strides=(2, 1), padding="same", dtype="float64", data_format="channels_first")
    y = last(images).numpy()
    planes = images.transpose(0, 3, 1, 2)
    first(planes)
    first.set_weights(last.get_weights())
    np.testing.assert_allclose(first(planes).numpy(), y.transpose(0, 3, 1, 2), atol=1e-12)
    assert first.compute_output_shape((None, 4, 7, 6)) == (None, 5, 4, 6)
    assert first.compute_output_shape((None, 4, None, None)) == (None, 5, None, None)


def test_depthwise_conv2d_convolves_each_channel_on_its_own(images: np.ndarray, rng: np.random.Generator) -> None:
    layer = layers.DepthwiseConv2D((3, 2), depth_multiplier=3, dtype="float64")
    layer(images)
    kernel, bias = randomize(layer, rng)
    y = layer(images).numpy()
    for c in range(4):
        alone = loops.conv2d(
            images[..., c : c + 1], kernel[:, :, c : c + 1], bias[3 * c : 3 * c + 3], (1, 1), NONE, (1, 1), 1
        )
        np.testing.assert_allclose(y[..., 3 * c : 3 * c + 3], alone, atol=1e-10)


def test_separable_conv2d_mixes_channels_after_the_depthwise_part(images: np.ndarray, rng: np.random.Generator) -> None:
    layer = layers.SeparableConv2D(5, (3, 2), depth_multiplier=2, dtype="float64", activation="relu")
    layer(images)
    depthwise, pointwise, bias = randomize(layer, rng)
    assert [w.name for w in layer.weights] == ["depthwise_kernel", "pointwise_kernel", "bias"]
    maps = loops.conv2d(images, depthwise.reshape(3, 2, 1, 8), None, (1, 1), NONE, (1, 1), 4)
    expected = np.maximum(maps @ pointwise[0, 0] + bias, 0)
    np.testing.assert_allclose(layer(images).numpy(), expected, atol=1e-10)


def test_conv2d_transpose_stamps_its_kernel(images: np.ndarray, rng: np.random.Generator) -> None:
    layer = layers.Conv2DTranspose(3, (3, 2), strides=2, dtype="float64")
    layer(images)
    kernel, bias = randomize(layer, rng)
    assert kernel.shape == (3, 2, 3, 4)
    expected = np.zeros((2, 15, 12, 3))
    for i in range(7):
        for j in range(6):
            expected[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 2] += np.einsum("nc,klfc->nklf", images[:, i, j], kernel)
    np.testing.assert_allclose(layer(images).numpy(), expected + bias, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"strides": 2, "padding": "same"}, (14, 12)),
        ({"strides": 3}, (21, 18)),
        ({"strides": 2, "output_padding": (1, 0)}, (16, 12)),
    ],
)
def test_conv2d_transpose_sizes(options: dict[str, Any], size: tuple[int, int], images: np.ndarray) -> None:
    layer = layers.Conv2DTranspose(3, (3, 2), **options)
    assert layer(images.astype("float32")).shape == (2, *size, 3)
    assert layer.compute_output_shape((None, 7, 6, 4)) == (None, *size, 3)
    assert layer.compute_output_shape((None, None, 6, 4)) == (None, None, size[1], 3)


@pytest.mark.parametrize(
    ("layer", "shape", "parameters"),
    [
        (layers.Conv2D(32, 3), (28, 28, 1), 320),
        (layers.Conv2D(64, (3, 3)), (13, 13, 32), 18_496),
        (layers.Conv2D(96, 11, groups=1, use_bias=False), (227, 227, 3), 34_848),
        (layers.Conv2D(256, 5, groups=2), (27, 27, 96), 307_456),
        (layers.DepthwiseConv2D(3, use_bias=False), (8, 8, 32), 288),
        (layers.SeparableConv2D(64, 3, use_bias=False), (8, 8, 32), 2_336),
        (layers.Conv2DTranspose(16, 4), (8, 8, 3), 784),
    ],
)
def test_parameter_counts(layer: layers.Layer, shape: tuple[int, ...], parameters: int) -> None:
    layer.build((None, *shape))
    assert layer.count_params() == parameters


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Conv2D(0, 3), "conv2d: filters must be an integer of at least 1. Received: 0"),
        (lambda: layers.Conv2D(4, (3, 0)), r"conv2d: kernel_size .*Received: \(3, 0\)"),
        (lambda: layers.Conv2D(4, (3, 3, 3)), "conv2d: kernel_size"),
        (lambda: layers.Conv2D(4, 3, strides=0), "conv2d: strides"),
        (lambda: layers.Conv2D(4, 3, padding="sam"), "Did you mean 'same'"),
        (lambda: layers.Conv2D(4, 3, data_format="channel_first"), "Did you mean 'channels_first'"),
        (
            lambda: layers.Conv2D(5, 3, groups=2),
            "filters must divide evenly into groups. Received: filters=5, groups=2",
        ),
        (lambda: layers.Conv2D(4, 3, groups=2)(np.ones((1, 5, 5, 3))), "Received: 3 channels, groups=2"),
        (lambda: layers.Conv2D(4, 3)(np.ones((5, 5, 3))), r"conv2d: expected 4 axes .*Received: shape \(5, 5, 3\)"),
        (lambda: layers.Conv2D(4, 3)(np.ones((1, 2, 5, 3))), "conv2d: the window must fit"),
        (lambda: layers.Conv2D(4, 3)(layers.Input((2, 5, 3))), "conv2d: the window must fit"),
        (lambda: layers.Conv2D(4, 3)(layers.Input((8, 8, None))), "must have a known size"),
        (lambda: layers.DepthwiseConv2D(3, depth_multiplier=0), "depth_multiplier"),
        (lambda: layers.Conv2DTranspose(3, 3, strides=2, output_padding=2), "smaller than the stride"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_built_layer_refuses_another_number_of_channels(images: np.ndarray) -> None:
    layer = layers.Conv2D(3, 2, name="first")
    layer(images)
    with pytest.raises(ValueError, match=r"first: expected size 4 on axis 3. Received: shape \(2, 7, 6, 3\)"):
        layer(images[..., :3])
