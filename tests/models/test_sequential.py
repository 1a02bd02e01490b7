"""Sequential: stacking, when the weights are made, configs, what does not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from minicnn import Input, Model, Sequential, layers


def test_three_spellings_make_the_same_housing_regressor() -> None:
    """SYSTEMS D1: 13-10-10-1 by list, by add, and functional: 140, 110 and 11 parameters."""
    listed = Sequential(
        [layers.Dense(10, activation="relu", input_shape=(13,)), layers.Dense(10, activation="relu"), layers.Dense(1)]
    )
    added = Sequential()
    added.add(Input((13,)))
    for layer in (layers.Dense(10), layers.ReLU(), layers.Dense(10), layers.ReLU(), layers.Dense(1)):
        added.add(layer)
    x = Input((13,))
    functional = Model(x, layers.Dense(1)(layers.Dense(10, activation="relu")(layers.Dense(10, activation="relu")(x))))
    for model in (listed, added, functional):
        counts = [layer.count_params() for layer in model.layers if isinstance(layer, layers.Dense)]
        assert counts == [140, 110, 11]
        assert model.count_params() == 261
    added.set_weights(listed.get_weights())
    functional.set_weights(listed.get_weights())
    values = np.linspace(-1, 1, 26).reshape(2, 13)
    np.testing.assert_array_equal(added.predict(values), listed.predict(values))
    np.testing.assert_array_equal(functional.predict(values), listed.predict(values))


def test_weights_are_made_while_stacking_once_the_input_is_known() -> None:
    model = Sequential([Input((4,))])
    assert not model.built
    model.add(layers.Dense(3))
    assert [w.shape for w in model.weights] == [(4, 3), (3,)]
    assert (model.input_shape, model.output_shape) == ((None, 4), (None, 3))


def test_without_an_input_shape_the_first_data_builds() -> None:
    model = Sequential([layers.Dense(3), layers.Dense(2)])
    assert not model.weights
    with pytest.raises(AttributeError, match=r"put an Input\(shape\) first"):
        _ = model.input_shape
    model(np.zeros((5, 4)))
    assert [w.shape for w in model.weights] == [(4, 3), (3,), (3, 2), (2,)]
    assert model.input_shape == (None, 4)


def test_build_makes_the_weights_and_refuses_another_shape_later() -> None:
    model = Sequential([layers.Dense(3)])
    model.build((None, 4))
    assert model.count_params() == 15
    model.build((7, 4))
    with pytest.raises(ValueError, match=r"inputs of shape \(None, 4\). Received: input_shape=\(None, 5\)"):
        model.build((None, 5))


def test_input_shape_of_a_middle_layer_is_ignored() -> None:
    model = Sequential([layers.Dense(3, input_shape=(4,)), layers.Dense(2, input_shape=(99,))])
    assert model.output_shape == (None, 2)


def test_pop_takes_the_top_layer_off() -> None:
    model = Sequential([Input((4,)), layers.Dense(3), layers.Dense(2)])
    top = model.pop()
    assert top.name == "dense_1"
    assert model.output_shape == (None, 3)
    model.add(layers.Dense(7))
    assert model.predict(np.zeros((1, 4))).shape == (1, 7)
    for _ in range(2):
        model.pop()
    assert not model.built
    with pytest.raises(ValueError, match="no layer to take off"):
        model.pop()


def test_a_model_in_first_place_brings_its_input() -> None:
    base = Sequential([Input((8, 8, 1)), layers.Conv2D(2, 3), layers.GlobalAveragePooling2D()])
    head = Sequential([base, layers.Dense(3)])
    assert head.output_shape == (None, 3)
    assert head.layers[0] is base
    assert head.count_params() == 2 * 9 + 2 + 2 * 3 + 3


def test_a_sequential_reads_its_middle() -> None:
    model = Sequential([Input((4,)), layers.Dense(3, name="hidden"), layers.Dense(2)])
    middle = Model(model.input, model.get_layer("hidden").output)
    values = np.ones((1, 4))
    kernel, bias = model.get_layer("hidden").get_weights()
    np.testing.assert_allclose(middle.predict(values), values @ kernel + bias, rtol=1e-5)


def test_config_round_trip_built_and_unbuilt() -> None:
    built = Sequential([Input((4,)), layers.Dense(3, activation="relu"), layers.Dropout(0.5)], name="net")
    config = json.loads(json.dumps(built.get_config()))
    assert [entry["class_name"] for entry in config["layers"]] == ["InputLayer", "Dense", "Dropout"]
    assert config["build_input_shape"] == [None, 4]
    again = Sequential.from_config(config)
    assert json.loads(json.dumps(again.get_config())) == config
    assert again.count_params() == 15

    unbuilt = Sequential.from_config(Sequential([layers.Dense(3)], name="later").get_config())
    assert (unbuilt.name, unbuilt.built) == ("later", False)


def test_frozen_sequential_freezes_what_is_added() -> None:
    model = Sequential([Input((4,)), layers.Dense(3)], trainable=False)
    model.add(layers.Dense(2))
    assert not model.trainable_weights
    assert len(model.non_trainable_weights) == 4


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(TypeError, match=r"made of layers. Received: <class.*Make one first: Dense\(...\)"):
        Sequential([layers.Dense])
    with pytest.raises(ValueError, match="a layer named 'same' already"):
        Sequential([layers.Dense(1, name="same"), layers.Dense(1, name="same")])
    with pytest.raises(ValueError, match="an Input comes first, and only once"):
        Sequential([Input((4,)), layers.Dense(1), Input((4,))])
    with pytest.raises(ValueError, match="no layers to build"):
        Sequential().build((None, 4))
    model = Sequential([Input((4, 4, 1)), layers.Flatten()])
    with pytest.raises(ValueError, match="conv2d"):
        model.add(layers.Conv2D(2, 3))
    assert [layer.name for layer in model.layers] == ["flatten"]
