"""Dropout and noise: what they do in training, that they do nothing otherwise, their seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import layers

ONES = np.ones((20, 10, 10, 8), "float32")


@pytest.mark.parametrize(
    "layer",
    [layers.Dropout(0.4), layers.SpatialDropout2D(0.4), layers.GaussianNoise(0.4)],
    ids=lambda layer: layer.name,
)
def test_inference_hands_the_input_on(layer: layers.Layer) -> None:
    np.testing.assert_array_equal(layer(ONES).numpy(), ONES)
    np.testing.assert_array_equal(layer(ONES, training=False).numpy(), ONES)
    assert layer.compute_output_shape((None, 10, None, 8)) == (None, 10, None, 8)


def test_dropout_drops_the_rate_and_scales_the_rest() -> None:
    y = layers.Dropout(0.25)(ONES, training=True).numpy()
    assert (y == 0).mean() == pytest.approx(0.25, abs=0.015)
    np.testing.assert_allclose(y[y != 0], 1 / 0.75, rtol=1e-6)


def test_the_gradient_passes_where_the_value_did() -> None:
    x = minicnn.Tensor(ONES[:2], requires_grad=True)
    y = layers.Dropout(0.5)(x, training=True)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())


def test_a_noise_shape_makes_the_mask_the_same_along_its_axes_of_1() -> None:
    y = layers.Dropout(0.5, noise_shape=(None, 1, 10, 1))(ONES, training=True).numpy()
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1, :, :1], y.shape))
    assert 0.3 < (y[:, 0, :, 0] == 0).mean() < 0.7


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_spatial_dropout_drops_whole_maps(data_format: str) -> None:
    y = layers.SpatialDropout2D(0.5, data_format=data_format)(ONES, training=True).numpy()
    maps = y if data_format == "channels_last" else y.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(maps, np.broadcast_to(maps[:, :1, :1], maps.shape))
    assert 0.35 < (maps[:, 0, 0] == 0).mean() < 0.65


def test_gaussian_noise_has_its_standard_deviation() -> None:
    noise = layers.GaussianNoise(0.3)(ONES, training=True).numpy() - 1
    assert noise.std() == pytest.approx(0.3, rel=0.03)
    assert noise.mean() == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("kind", [layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise])
def test_a_seed_repeats_the_sequence_but_not_the_mask(kind: Any) -> None:
    first, second = kind(0.5, seed=3), kind(0.5, seed=3)
    a = [first(ONES, training=True).numpy() for _ in range(2)]
    b = [second(ONES, training=True).numpy() for _ in range(2)]
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a[0], a[1])


def test_manual_seed_repeats_layers_without_a_seed() -> None:
    layer = layers.Dropout(0.5)
    minicnn.manual_seed(1)
    first = layer(ONES, training=True).numpy()
    minicnn.manual_seed(1)
    np.testing.assert_array_equal(layer(ONES, training=True).numpy(), first)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Dropout(1.5), r"dropout: rate must be a number in \[0, 1\). Received: 1.5"),
        (lambda: layers.Dropout(-0.1), "dropout: rate"),
        (lambda: layers.Dropout(0.5, noise_shape=(None, 0)), "noise_shape must hold positive integers"),
        (lambda: layers.Dropout(0.5, noise_shape=(None, 1))(ONES), "dropout: expected 2 axes"),
        (lambda: layers.Dropout(0.5, seed=-1), "seed"),
        (lambda: layers.SpatialDropout2D(0.5)(np.ones((2, 3))), "spatial_dropout2d: expected 4 axes"),
        (lambda: layers.GaussianNoise(2.0), "gaussian_noise: stddev"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
