"""Normalization layers against NumPy's means and variances, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn import layers


@pytest.fixture
def images(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((3, 4, 5, 6)) * 2 + 1


def standardized(x: np.ndarray, axes: tuple[int, ...], epsilon: float) -> np.ndarray:
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon)


def along(vector: np.ndarray, axis: int) -> np.ndarray:
    """A vector shaped to broadcast along one axis of four."""
    return vector.reshape([-1 if i == axis else 1 for i in range(4)])


@pytest.mark.parametrize("axis", [-1, 1, 3])
def test_batch_normalization_standardizes_each_channel_in_training(
    axis: int, images: np.ndarray, rng: np.random.Generator
) -> None:
    layer = layers.BatchNormalization(axis, epsilon=0.01, dtype="float64")
    layer(images)
    channels = images.shape[axis]
    gamma, beta = rng.uniform(0.5, 2, channels), rng.standard_normal(channels)
    layer.set_weights([gamma, beta, np.zeros(channels), np.ones(channels)])
    reduced = tuple(i for i in range(4) if i != axis % 4)
    expected = standardized(images, reduced, 0.01) * along(gamma, axis % 4) + along(beta, axis % 4)
    np.testing.assert_allclose(layer(images, training=True).numpy(), expected, atol=1e-12)


def test_moving_statistics_take_in_the_population_variance(images: np.ndarray) -> None:
    layer = layers.BatchNormalization(momentum=0.9, dtype="float64")
    mean, variance = np.zeros(6), np.ones(6)
    for step in range(3):
        x = images * (step + 1)
        layer(x, training=True)
        mean = 0.9 * mean + 0.1 * x.mean((0, 1, 2))
        variance = 0.9 * variance + 0.1 * x.var((0, 1, 2))
    np.testing.assert_allclose(layer.moving_mean.numpy(), mean, atol=1e-12)
    np.testing.assert_allclose(layer.moving_variance.numpy(), variance, atol=1e-12)
    expected = (images - mean) / np.sqrt(variance + 1e-3)
    np.testing.assert_allclose(layer(images).numpy(), expected, atol=1e-12)


def test_inference_changes_no_statistics(images: np.ndarray) -> None:
    layer = layers.BatchNormalization(dtype="float64")
    layer(images)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), np.zeros(6))
    np.testing.assert_array_equal(layer.moving_variance.numpy(), np.ones(6))


def test_a_frozen_layer_runs_in_inference_mode(images: np.ndarray) -> None:
    layer = layers.BatchNormalization(dtype="float64")
    layer(images, training=True)
    layer.trainable = False
    before = layer.get_weights()
    np.testing.assert_array_equal(layer(images, training=True).numpy(), layer(images).numpy())
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert layer.trainable_weights == []


def test_weights_are_gamma_beta_and_two_statistics_that_are_not_trained() -> None:
    layer = layers.BatchNormalization()
    layer.build((None, 4, 4, 64))
    assert [w.name for w in layer.trainable_weights] == ["gamma", "beta"]
    assert [w.name for w in layer.non_trainable_weights] == ["moving_mean", "moving_variance"]
    assert layer.count_params() == 256
    bare = layers.BatchNormalization(center=False, scale=False)
    bare.build((None, 10))
    assert [w.name for w in bare.weights] == ["moving_mean", "moving_variance"]


@pytest.mark.parametrize(
    ("axis", "axes"), [(-1, (3,)), (1, (1,)), ([1, 2], (1, 2)), ([3, 1], (1, 3)), ([1, 2, 3], (1, 2, 3))]
)
def test_layer_normalization_standardizes_each_sample_over_its_axes(
    axis: Any, axes: tuple[int, ...], images: np.ndarray, rng: np.random.Generator
) -> None:
    layer = layers.LayerNormalization(axis, epsilon=0.01, dtype="float64")
    layer(images)
    shape = tuple(images.shape[a] for a in axes)
    gamma, beta = rng.uniform(0.5, 2, shape), rng.standard_normal(shape)
    layer.set_weights([gamma, beta])
    spread = [size if a in axes else 1 for a, size in enumerate(images.shape)]
    expected = standardized(images, axes, 0.01) * gamma.reshape(spread) + beta.reshape(spread)
    np.testing.assert_allclose(layer(images).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2, 3, -1])
def test_group_normalization_standardizes_groups_of_channels(
    groups: int, images: np.ndarray, rng: np.random.Generator
) -> None:
    layer = layers.GroupNormalization(groups, dtype="float64")
    layer(images)
    gamma, beta = rng.uniform(0.5, 2, 6), rng.standard_normal(6)
    layer.set_weights([gamma, beta])
    count = 6 if groups == -1 else groups
    grouped = standardized(images.reshape(3, 4, 5, count, 6 // count), (1, 2, 4), 1e-3)
    np.testing.assert_allclose(layer(images).numpy(), grouped.reshape(images.shape) * gamma + beta, atol=1e-12)
    first = layers.GroupNormalization(groups, axis=1, dtype="float64")
    planes = images.transpose(0, 3, 1, 2)
    first(planes)
    first.set_weights([gamma, beta])
    np.testing.assert_allclose(first(planes).numpy(), layer(images).numpy().transpose(0, 3, 1, 2), atol=1e-12)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: layers.BatchNormalization(momentum=1.5), ValueError, "batch_normalization: momentum"),
        (lambda: layers.BatchNormalization(epsilon=0), ValueError, "batch_normalization: epsilon"),
        (lambda: layers.BatchNormalization(axis="last"), TypeError, "axis must be an integer. Received: axis='last'"),
        (lambda: layers.BatchNormalization(axis=4)(np.ones((2, 3))), ValueError, "axis must be one of the input's"),
        (lambda: layers.BatchNormalization(axis=0)(np.ones((2, 3))), ValueError, "not the batch"),
        (lambda: layers.BatchNormalization()(layers.Input((None,))), ValueError, "must have a known size"),
        (lambda: layers.GroupNormalization(0), ValueError, "groups must be a positive integer, or -1"),
        (lambda: layers.GroupNormalization(4)(np.ones((2, 6))), ValueError, "Received: 6 channels, groups=4"),
        (
            lambda: layers.BatchNormalization.from_config({"renorm": True}),
            ValueError,
            "only renorm=False can be read. Received: renorm=True",
        ),
    ],
)
def test_wrong_arguments_are_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
