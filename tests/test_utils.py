"""Helpers, and the setting of the dtype that layers compute with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import minicnn
from minicnn import Input, Sequential, config, layers, utils


@pytest.fixture
def _float64() -> Iterator[None]:
    config.set_floatx("float64")
    yield
    config.set_floatx("float32")


def test_to_categorical_makes_rows_of_the_identity() -> None:
    expected = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    for labels in ([1, 2, 0], np.array([[1], [2], [0]], np.uint8), np.array([1.0, 2.0, 0.0])):
        made = utils.to_categorical(labels)
        np.testing.assert_array_equal(made, expected)
        assert made.dtype == np.float32
    assert utils.to_categorical([1], num_classes=4).shape == (1, 4)


@pytest.mark.parametrize(
    ("labels", "error"), [([3], ValueError), ([-1], ValueError), ([0.5], TypeError), (["a"], TypeError)]
)
def test_to_categorical_refuses_what_is_no_class(labels: list[object], error: type[Exception]) -> None:
    with pytest.raises(error, match="Received"):
        utils.to_categorical(labels, num_classes=3)


def test_layer_names_are_numbered_until_the_session_is_cleared() -> None:
    assert [layers.Flatten().name, layers.Flatten().name] == ["flatten", "flatten_1"]
    utils.clear_session()
    assert layers.Flatten().name == "flatten"


@pytest.mark.usefixtures("_float64")
def test_float64_goes_all_the_way_when_it_is_asked_for() -> None:
    model = Sequential(
        [
            Input((6, 6, 2)),
            layers.Conv2D(3, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = np.random.default_rng(0).random((4, 6, 6, 2)), np.array([0, 1, 0, 1])
    model.fit(x, y, verbose=0)
    assert {weight.dtype for weight in model.weights} == {np.dtype(np.float64)}
    assert model.predict(x, verbose=0).dtype == np.float64
    loss = minicnn.losses.SparseCategoricalCrossentropy()(y, model(x))
    gradients = minicnn.grad(loss, model.trainable_weights)
    assert {gradient.dtype for gradient in gradients if gradient is not None} == {np.dtype(np.float64)}


@pytest.mark.parametrize("dtype", ["float16", "int32", "single precision"])
def test_floatx_is_float32_or_float64(dtype: object) -> None:
    with pytest.raises(ValueError, match="Received"):
        config.set_floatx(dtype)  # type: ignore[arg-type]
