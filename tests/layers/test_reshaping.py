"""Flatten, Reshape, Permute, padding, cropping, upsampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn import Tensor, layers
from minicnn.functional.resize import upsample_bilinear2d, upsample_nearest2d
from minicnn.gradcheck import gradcheck, gradgradcheck


@pytest.fixture
def images(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((2, 5, 4, 3)).astype("float32")


def test_flatten_makes_rows_in_c_order(images: np.ndarray) -> None:
    np.testing.assert_array_equal(layers.Flatten()(images).numpy(), images.reshape(2, 60))
    assert layers.Flatten().compute_output_shape((None, 5, 4, 3)) == (None, 60)
    assert layers.Flatten().compute_output_shape((None, 5, None, 3)) == (None, None)
    assert layers.Flatten()(np.ones(3, "float32")).shape == (3, 1)


def test_flatten_gives_equal_rows_for_both_data_formats(images: np.ndarray) -> None:
    planes = images.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(layers.Flatten("channels_first")(planes).numpy(), images.reshape(2, 60))


def test_flatten_leaves_integers_alone() -> None:
    assert layers.Flatten()(np.ones((2, 2, 2), np.uint8)).dtype == np.uint8


@pytest.mark.parametrize(
    ("target", "shape"), [((10, 6), (10, 6)), ((-1, 2), (30, 2)), ((60,), (60,)), ((3, -1, 4), (3, 5, 4))]
)
def test_reshape_keeps_the_batch(target: tuple[int, ...], shape: tuple[int, ...], images: np.ndarray) -> None:
    layer = layers.Reshape(target)
    np.testing.assert_array_equal(layer(images).numpy(), images.reshape(2, *shape))
    assert layer.compute_output_shape((None, 5, 4, 3)) == (None, *shape)


def test_permute_counts_axes_from_1(images: np.ndarray) -> None:
    layer = layers.Permute((3, 1, 2))
    np.testing.assert_array_equal(layer(images).numpy(), images.transpose(0, 3, 1, 2))
    assert layer.compute_output_shape((None, 5, None, 3)) == (None, 3, 5, None)


@pytest.mark.parametrize(
    ("padding", "margins"),
    [(1, ((1, 1), (1, 1))), ((1, 2), ((1, 1), (2, 2))), (((0, 1), (2, 3)), ((0, 1), (2, 3)))],
)
def test_zero_padding_and_cropping_undo_each_other(padding: Any, margins: Any, images: np.ndarray) -> None:
    padded = layers.ZeroPadding2D(padding)(images)
    np.testing.assert_array_equal(padded.numpy(), np.pad(images, ((0, 0), *margins, (0, 0))))
    np.testing.assert_array_equal(layers.Cropping2D(padding)(padded).numpy(), images)
    grown = (None, 5 + sum(margins[0]), 4 + sum(margins[1]), 3)
    assert layers.ZeroPadding2D(padding).compute_output_shape((None, 5, 4, 3)) == grown
    assert layers.Cropping2D(padding).compute_output_shape(grown) == (None, 5, 4, 3)
    assert layers.Cropping2D(padding).compute_output_shape((None, None, None, 3)) == (None, None, None, 3)


def test_padding_of_planes_leaves_the_channels_alone(images: np.ndarray) -> None:
    planes = images.transpose(0, 3, 1, 2)
    padded = layers.ZeroPadding2D(((0, 1), (2, 3)), data_format="channels_first")
    np.testing.assert_array_equal(padded(planes).numpy(), np.pad(planes, ((0, 0), (0, 0), (0, 1), (2, 3))))
    cropped = layers.Cropping2D(((0, 1), (2, 1)), data_format="channels_first")
    np.testing.assert_array_equal(cropped(planes).numpy(), planes[:, :, :4, 2:3])


def test_nearest_upsampling_repeats_pixels(images: np.ndarray) -> None:
    y = layers.UpSampling2D((2, 3))(images).numpy()
    assert y.shape == (2, 10, 12, 3)
    for i in range(10):
        for j in range(12):
            np.testing.assert_array_equal(y[:, i, j], images[:, i // 2, j // 3])


def test_bilinear_upsampling_interpolates_between_pixel_centres() -> None:
    x = np.array([0.0, 4.0, 8.0]).reshape(1, 1, 3, 1)
    y = layers.UpSampling2D((1, 2), interpolation="bilinear", dtype="float64")(x).numpy().ravel()
    np.testing.assert_allclose(y, [0, 1, 3, 5, 7, 8])
    y = layers.UpSampling2D((4, 1), interpolation="bilinear", dtype="float64")(x.reshape(1, 3, 1, 1)).numpy().ravel()
    np.testing.assert_allclose(y, [0, 0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8, 8])


@pytest.mark.parametrize("function", [upsample_nearest2d, upsample_bilinear2d])
def test_upsampling_has_right_gradients_of_both_orders(function: Any, rng: np.random.Generator) -> None:
    x = Tensor(rng.standard_normal((2, 3, 2, 2)), requires_grad=True)
    assert gradcheck(lambda t: function(t, (2, 3)), (x,))
    assert gradgradcheck(lambda t: function(t, (2, 3)), (x,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Flatten("last"), "flatten: data_format"),
        (lambda: layers.Reshape((3, 0)), r"reshape: target_shape must be positive.*Received: target_shape=\(3, 0\)"),
        (lambda: layers.Reshape((-1, -1)), "one of which may be -1"),
        (lambda: layers.Reshape((7,))(np.ones((2, 3, 2))), r"must hold the 6 elements of a sample of shape \(3, 2\)"),
        (lambda: layers.Reshape((-1, 4))(layers.Input((3, 2))), r"Received: target_shape=\(-1, 4\)"),
        (lambda: layers.Permute((0, 1)), "counted from 1"),
        (lambda: layers.Permute((2, 1))(np.ones((2, 3))), "permute: expected 3 axes"),
        (lambda: layers.ZeroPadding2D(-1), "zero_padding2d: padding"),
        (lambda: layers.ZeroPadding2D((1, 2, 3)), "must be an int, a pair"),
        (lambda: layers.Cropping2D(3)(np.ones((1, 6, 8, 1))), "must leave something"),
        (lambda: layers.UpSampling2D(interpolation="bicubic"), "interpolation must be one of"),
        (lambda: layers.UpSampling2D(0), "up_sampling2d: size"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
