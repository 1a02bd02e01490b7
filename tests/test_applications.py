"""Networks by name."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.applications import NETWORKS, build_network, deep_cnn, mlp


@pytest.mark.parametrize(
    ("name", "shape", "classes", "weights"),
    [
        ("first_convnet", (28, 28, 1), 10, 93_322),
        ("mlp", (28, 28, 1), 10, 669_706),
        ("lenet5", (28, 28, 1), 10, 61_706),
        ("small_cnn", (28, 28, 1), 47, 2_808_751),
        ("deep_cnn", (28, 28, 1), 47, 708_399),
        ("fashion_cnn", (28, 28, 1), 10, 1_413_834),
        ("cifar_cnn", (32, 32, 3), 10, 1_626_442),
    ],
)
def test_networks_have_their_weights_and_give_probabilities(
    name: str, shape: tuple[int, int, int], classes: int, weights: int
) -> None:
    network = build_network(name, shape, classes)
    assert network.name == name
    assert network.count_params() == weights
    y = network.predict(np.random.default_rng(0).random((2, *shape), dtype=np.float32), verbose=0)
    assert y.shape == (2, classes)
    np.testing.assert_allclose(y.sum(axis=1), [1.0, 1.0], rtol=1e-5)


def test_every_network_takes_other_pictures_too() -> None:
    for name in NETWORKS:
        assert build_network(name, (32, 30, 3), 5).output_shape == (None, 5)


def test_options_add_layers() -> None:
    def kinds(model: object) -> list[str]:
        return [type(layer).__name__ for layer in model.layers]

    assert kinds(mlp(dropout=0.5)).count("Dropout") == 2
    normalized = deep_cnn(batch_norm=True, dropout=0.2)
    assert kinds(normalized).count("BatchNormalization") == kinds(normalized).count("Dropout") == 4
    assert normalized.count_params() == 709_935
    assert kinds(deep_cnn(dropout=0.2)).count("Dropout") == 4
    assert len(deep_cnn(l2=0.001).losses) == 2


def test_an_unknown_network_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="Did you mean 'lenet5'"):
        build_network("lenet", (28, 28, 1), 10)
