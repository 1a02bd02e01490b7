"""Functional models: graphs of layers, shared layers, several inputs and outputs, models within models, configs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import Input, Model, Sequential, layers


def weights_of(layer: layers.Layer) -> list[np.ndarray]:
    return [np.asarray(w, np.float64) for w in layer.get_weights()]


def dense(layer: layers.Layer, x: np.ndarray) -> np.ndarray:
    kernel, bias = weights_of(layer)
    return x @ kernel + bias


def two_towers() -> Model:
    """A shared layer called twice, two inputs (one unused by an output), two named outputs, a model within."""
    image, extra = Input((4, 3), name="image"), Input((2,), name="extra")
    flat = layers.Flatten(name="flat")(image)
    shared = layers.Dense(5, activation="relu", name="shared")
    left, right = shared(layers.Dense(6, name="left")(flat)), shared(layers.Dense(6, name="right")(flat))
    inner = Sequential([Input((5,)), layers.Dense(3, name="within")], name="inner")
    joined = layers.Concatenate(name="joined")([inner(left), right, extra])
    return Model(
        [image, extra],
        {"kind": layers.Dense(4, name="d1")(joined), "box": layers.Dense(2, name="d2")(joined)},
        name="towers",
    )


def by_hand(model: Model, image: np.ndarray, extra: np.ndarray) -> dict[str, np.ndarray]:
    layer = model.get_layer
    flat = image.reshape(len(image), -1).astype(np.float64)
    left = np.maximum(dense(layer("shared"), dense(layer("left"), flat)), 0)
    right = np.maximum(dense(layer("shared"), dense(layer("right"), flat)), 0)
    inner: Any = layer("inner")
    joined = np.concatenate([dense(inner.get_layer("within"), left), right, extra], axis=1)
    return {"kind": dense(layer("d1"), joined), "box": dense(layer("d2"), joined)}


@pytest.fixture
def data(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(7, 4, 3)), rng.normal(size=(7, 2))


def test_shared_layers_and_named_outputs_compute_what_their_formulas_say(data: Any) -> None:
    model = two_towers()
    outputs = model.predict(list(data))
    expected = by_hand(model, *data)
    assert list(outputs) == ["kind", "box"]
    for name in expected:
        np.testing.assert_allclose(outputs[name], expected[name], rtol=1e-4, atol=1e-5)


def test_inputs_by_name_and_by_order_are_the_same(data: Any) -> None:
    model = two_towers()
    by_name = model.predict({"extra": data[1], "image": data[0]})
    by_order = model.predict(list(data))
    np.testing.assert_array_equal(by_name["kind"], by_order["kind"])


def test_a_shared_layer_is_listed_once_and_gets_the_gradient_of_both_calls() -> None:
    x = Input((1,))
    shared = layers.Dense(1, use_bias=False, kernel_initializer="ones")
    model = Model(x, shared(shared(x)))  # y = w * w * x
    assert len(model.weights) == 1
    (gradient,) = minicnn.grad(model(np.array([[3.0]])).sum(), model.trainable_weights)
    assert gradient.item() == pytest.approx(6.0)


def test_layers_come_in_keras_order_by_depth_and_outputs_of_a_dict_by_name() -> None:
    assert [layer.name for layer in two_towers().layers] == [
        "image", "flat", "left", "shared", "right", "inner", "extra", "joined", "d2", "d1",
    ]  # fmt: skip


def test_dict_inputs_give_a_model_that_takes_dicts(rng: np.random.Generator) -> None:
    inputs = {"a": Input((2,), name="a"), "b": Input((2,), name="b")}
    model = Model(inputs, layers.Subtract()([inputs["a"], inputs["b"]]))
    a, b = rng.normal(size=(2, 3, 2)).astype(np.float32)
    np.testing.assert_array_equal(model.predict({"b": b, "a": a}), a - b)
    assert model.input_shape == {"a": (None, 2), "b": (None, 2)}


def test_a_model_cut_out_of_another_shares_its_layers(data: Any) -> None:
    model = two_towers()
    part = Model(model.inputs, model.get_layer("joined").output)
    joined = part.predict(list(data))
    assert joined.shape == (7, 3 + 5 + 2)
    np.testing.assert_allclose(
        dense(model.get_layer("d1"), joined), model.predict(list(data))["kind"], rtol=1e-4, atol=1e-5
    )
    assert part.get_layer("shared") is model.get_layer("shared")


def test_a_model_may_start_in_the_middle_of_another(rng: np.random.Generator) -> None:
    model = two_towers()
    tail = Model(model.get_layer("joined").output, model.get_layer("d1").output)
    joined = rng.normal(size=(3, 10))
    np.testing.assert_allclose(tail.predict(joined), dense(model.get_layer("d1"), joined), rtol=1e-4, atol=1e-5)
    assert [type(layer).__name__ for layer in tail.layers] == ["InputLayer", "Dense"]


def test_outputs_that_depend_on_an_input_left_out_are_refused() -> None:
    model = two_towers()
    with pytest.raises(ValueError, match=r"depend on the input 'extra'.*disconnected"):
        Model(model.get_layer("image").output, model.get_layer("d1").output)


def test_a_single_output_in_a_list_is_no_list() -> None:
    x = Input((2,))
    model = Model([x], [layers.ReLU()(x)])
    assert model.output_shape == (None, 2)
    assert model.predict(np.zeros((3, 2))).shape == (3, 2)


def test_an_input_nobody_reads_is_part_of_the_model(rng: np.random.Generator) -> None:
    used, unused = Input((2,), name="used"), Input((3,), name="unused")
    model = Model([used, unused], layers.Dense(1)(used))
    assert model.predict([rng.normal(size=(4, 2)), np.zeros((4, 3))]).shape == (4, 1)


def test_a_model_is_a_layer_and_works_out_other_shapes() -> None:
    x = Input((None, None, 3))
    body = Model(x, layers.Conv2D(4, 3, strides=2)(x))
    y = body(Input((9, 7, 3)))
    assert y.shape == (None, 4, 3, 4)
    assert body.output_shape == (None, None, None, 4)


def test_training_false_given_in_the_graph_holds_within_fit(rng: np.random.Generator) -> None:
    x = Input((2,))
    norm = layers.BatchNormalization()
    model = Model(x, layers.Dense(1)(norm(x, training=False)))
    model.compile("sgd", "mse")
    model.fit(rng.normal(5.0, 1.0, size=(8, 2)), np.zeros(8), verbose=0)
    np.testing.assert_array_equal(norm.moving_mean.data, [0.0, 0.0])


def test_config_makes_the_same_model_again(data: Any) -> None:
    model = two_towers()
    config = json.loads(json.dumps(model.get_config()))
    again = Model.from_config(config)
    again.set_weights(model.get_weights())
    assert json.loads(json.dumps(again.get_config())) == config
    for name, output in model.predict(list(data)).items():
        np.testing.assert_array_equal(again.predict(list(data))[name], output)


def test_config_is_keras_form() -> None:
    config = two_towers().get_config()
    shared = next(entry for entry in config["layers"] if entry["name"] == "shared")
    assert (shared["module"], shared["class_name"], shared["registered_name"]) == ("keras.layers", "Dense", None)
    assert shared["build_config"] == {"input_shape": (None, 6)}
    assert [call["args"][0]["config"]["keras_history"] for call in shared["inbound_nodes"]] == [
        ["left", 0, 0],
        ["right", 0, 0],
    ]
    joined = next(entry for entry in config["layers"] if entry["name"] == "joined")
    assert [part["config"]["keras_history"] for part in joined["inbound_nodes"][0]["args"][0]] == [
        ["inner", 0, 0],
        ["shared", 1, 0],
        ["extra", 0, 0],
    ]
    assert config["input_layers"] == [["image", 0, 0], ["extra", 0, 0]]
    assert config["output_layers"] == {"kind": ["d1", 0, 0], "box": ["d2", 0, 0]}


def test_config_that_refers_to_a_missing_layer_is_refused() -> None:
    config = two_towers().get_config()
    config["layers"] = [entry for entry in config["layers"] if entry["name"] != "left"]
    with pytest.raises(ValueError, match=r"a layer that it does not hold.*'left'"):
        Model.from_config(config)


def test_config_of_operators_survives(rng: np.random.Generator) -> None:
    x = Input((3,))
    model = Model(x, (x * 2.0 + 1.0) - x)
    again = Model.from_config(json.loads(json.dumps(model.get_config())))
    values = rng.normal(size=(2, 3)).astype(np.float32)
    np.testing.assert_allclose(again.predict(values), values + 1, rtol=1e-6)


def test_a_very_deep_model_does_not_hit_the_recursion_limit() -> None:
    x = y = Input((1,))
    for _ in range(1500):
        y = layers.ReLU()(y)
    model = Model(x, y)
    assert len(model.layers) == 1501
    np.testing.assert_array_equal(model.predict(np.array([[-1.0], [2.0]]), verbose=0), [[0.0], [2.0]])


def test_get_layer_suggests_the_nearest_name() -> None:
    model = two_towers()
    assert model.get_layer(index=2).name == "left"
    with pytest.raises(ValueError, match="Did you mean 'shared'"):
        model.get_layer("shard")
    with pytest.raises(ValueError, match="a name or an index"):
        model.get_layer()
    with pytest.raises(ValueError, match=r"10 layers\. Received: index=10"):
        model.get_layer(index=10)


def test_two_layers_of_one_name_are_refused() -> None:
    x = Input((2,))
    with pytest.raises(ValueError, match="2 layers share the name 'same'"):
        Model(x, layers.Dense(2, name="same")(layers.Dense(2, name="same")(x)))


def test_arrays_in_place_of_symbolic_tensors_are_refused() -> None:
    with pytest.raises(TypeError, match=r"inputs must come from minicnn.Input"):
        Model(np.zeros((2, 2)), layers.Dense(1)(Input((2,))))
    with pytest.raises(ValueError, match="inputs and outputs together"):
        Model(Input((2,)))


def test_a_wrong_input_shape_names_the_input() -> None:
    model = two_towers()
    with pytest.raises(ValueError, match=r"input 'extra' must have shape \(None, 2\).*Received: \(1, 3\)"):
        model([np.zeros((1, 4, 3)), np.zeros((1, 3))])
    with pytest.raises(ValueError, match=r"takes 2 inputs.*Received: 1"):
        model(np.zeros((1, 4, 3)))
    with pytest.raises(ValueError, match=r"without \['extra'\]"):
        model({"image": np.zeros((1, 4, 3))})


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "bool", "float64"])
def test_inputs_are_cast_to_the_dtype_of_the_input(dtype: str) -> None:
    x = Input((2, 1))
    model = Model(x, layers.Rescaling(0.5)(x))
    values = np.array([[0, 1]], dtype)  # the last axis of length 1 is added
    output = model(values)
    assert output.dtype == np.float32
    np.testing.assert_array_equal(output.data, [[[0.0], [0.5]]])
    np.testing.assert_array_equal(model.predict(values), output.data)


def test_subclassed_models_track_layers_in_lists_and_stay_frozen_where_they_were() -> None:
    class Stack(Model):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = [layers.Dense(3), layers.Dense(2)]
            self.blocks[0].trainable = False

        def call(self, x: minicnn.Tensor) -> minicnn.Tensor:
            for block in self.blocks:
                x = block(x)
            return x

    model = Stack()
    model.build((None, 4))
    assert [w.shape for w in model.weights] == [(4, 3), (3,), (3, 2), (2,)]
    assert [w.shape for w in model.trainable_weights] == [(3, 2), (2,)]
    assert model.predict(np.zeros((5, 4))).shape == (5, 2)


def test_a_model_without_graph_or_call_says_what_to_do() -> None:
    class Empty(Model):
        pass

    with pytest.raises(TypeError, match=r"Empty must define call"):
        Empty()(np.zeros((1, 2)))
    with pytest.raises(AttributeError, match=r"not made as Model\(inputs, outputs\)"):
        _ = Empty().input


def test_layers_set_before_super_init_are_refused() -> None:
    class Hasty(Model):
        def __init__(self) -> None:
            self.dense = layers.Dense(1)
            super().__init__()

    with pytest.raises(RuntimeError, match=r"Hasty: call super\(\).__init__\(\) before setting layers"):
        Hasty()


def test_a_subclass_can_be_made_of_a_graph(data: Any) -> None:
    class Named(Model):
        pass

    model = two_towers()
    named = Named(inputs=model.inputs, outputs=model.output)
    np.testing.assert_array_equal(named.predict(list(data))["box"], model.predict(list(data))["box"])
    assert named.name == "named"


def test_clone_model_makes_the_same_layers_with_weights_of_its_own(data: Any) -> None:
    class Twice(layers.Layer):
        def call(self, x: minicnn.Tensor) -> minicnn.Tensor:
            return x * 2.0

    x = Input((3,))
    model = Model(x, Twice()(layers.Dense(2)(x)))
    clone = minicnn.models.clone_model(model)
    assert [layer.name for layer in clone.layers] == [layer.name for layer in model.layers]
    assert not np.array_equal(clone.get_weights()[0], model.get_weights()[0])
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone.predict(data[0][:, 0]), model.predict(data[0][:, 0]))
