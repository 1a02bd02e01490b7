"""Pooling layers against nested loops, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn import layers
from tests import loops

NONE = ((0, 0), (0, 0))
BOTTOM_AND_RIGHT = ((1, 1), (0, 0))  # "same" for a window of (3, 2) with strides (2, 2) on 7 x 6

WINDOWS = [
    ({}, (2, 2), (2, 2), NONE),
    ({"pool_size": (3, 2), "strides": (2, 1)}, (3, 2), (2, 1), NONE),
    ({"pool_size": (3, 2), "strides": 2, "padding": "same"}, (3, 2), (2, 2), BOTTOM_AND_RIGHT),
    ({"pool_size": (2, 4), "padding": "same"}, (2, 4), (2, 4), ((0, 1), (1, 1))),
]


@pytest.fixture
def images(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((2, 7, 6, 4))


@pytest.mark.parametrize(("options", "window", "strides", "padding"), WINDOWS)
def test_max_pooling_equals_the_loops(
    options: dict[str, Any], window: Any, strides: Any, padding: Any, images: np.ndarray
) -> None:
    layer = layers.MaxPooling2D(dtype="float64", **options)
    expected = loops.max_pool2d(images, window, strides, padding)[0]
    np.testing.assert_array_equal(layer(images).numpy(), expected)
    assert layer.compute_output_shape((None, 7, 6, 4)) == (None, *expected.shape[1:])
    assert layer.compute_output_shape((None, None, 6, 4)) == (None, None, *expected.shape[2:])


@pytest.mark.parametrize(("options", "window", "strides", "padding"), WINDOWS)
def test_average_pooling_equals_the_loops(
    options: dict[str, Any], window: Any, strides: Any, padding: Any, images: np.ndarray
) -> None:
    layer = layers.AveragePooling2D(dtype="float64", **options)
    expected = loops.avg_pool2d(images, window, strides, padding)
    np.testing.assert_allclose(layer(images).numpy(), expected, atol=1e-12)
    assert layer.compute_output_shape((None, 7, 6, 4)) == (None, *expected.shape[1:])


@pytest.mark.parametrize(
    ("kind", "reduce"), [(layers.GlobalMaxPooling2D, np.max), (layers.GlobalAveragePooling2D, np.mean)]
)
def test_global_pooling_reduces_height_and_width(kind: Any, reduce: Any, images: np.ndarray) -> None:
    expected = reduce(images, axis=(1, 2))
    np.testing.assert_allclose(kind(dtype="float64")(images).numpy(), expected, atol=1e-12)
    kept = kind(keepdims=True, dtype="float64")
    np.testing.assert_allclose(kept(images).numpy(), expected[:, None, None], atol=1e-12)
    assert kept.compute_output_shape((None, None, None, 4)) == (None, 1, 1, 4)
    planes = images.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(kind("channels_first", dtype="float64")(planes).numpy(), expected, atol=1e-12)
    first = kind(data_format="channels_first", keepdims=True, dtype="float64")
    np.testing.assert_allclose(first(planes).numpy(), expected[:, :, None, None], atol=1e-12)
    assert first.compute_output_shape((None, 4, 7, 6)) == (None, 4, 1, 1)


@pytest.mark.parametrize("kind", [layers.MaxPooling2D, layers.AveragePooling2D])
def test_channels_first_gives_the_transposed_result(kind: Any, images: np.ndarray) -> None:
    y = kind((3, 2))(images.astype("float32")).numpy()
    planes = images.astype("float32").transpose(0, 3, 1, 2)
    np.testing.assert_allclose(kind((3, 2), data_format="channels_first")(planes).numpy(), y.transpose(0, 3, 1, 2))


def test_aliases_are_the_same_classes() -> None:
    assert layers.MaxPool2D is layers.MaxPooling2D
    assert layers.AvgPool2D is layers.AveragePooling2D
    assert layers.GlobalAvgPool2D is layers.GlobalAveragePooling2D
    assert layers.GlobalMaxPool2D is layers.GlobalMaxPooling2D


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.MaxPooling2D(0), "max_pooling2d: pool_size"),
        (lambda: layers.MaxPooling2D(2, padding="full"), "max_pooling2d: padding must be one of"),
        (lambda: layers.MaxPooling2D()(np.ones((2, 5, 5))), "max_pooling2d: expected 4 axes"),
        (lambda: layers.MaxPooling2D(3)(layers.Input((2, 5, 1))), "max_pooling2d: the window must fit"),
        (lambda: layers.GlobalMaxPooling2D()(np.ones((2, 5))), "global_max_pooling2d: expected 4 axes"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
