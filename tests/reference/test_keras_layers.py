"""Every layer against the Keras layer of the same name: outputs, gradients, shapes, weights, configs."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest

import minicnn
from minicnn import layers

keras = pytest.importorskip("keras", reason="needs keras")
torch = pytest.importorskip("torch", reason="needs torch")

IMAGES = (2, 7, 6, 4)
PLANAR = (2, 4, 7, 6)
ROWS = (5, 6)


class Case(NamedTuple):
    name: str
    options: dict[str, Any]
    shape: Any = IMAGES

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in self.options.items())})"

    def ours(self) -> Any:
        return getattr(layers, self.name)(name="layer", **self.options)

    def theirs(self) -> Any:
        return getattr(keras.layers, self.name)(name="layer", **self.options)


FIRST = {"data_format": "channels_first"}
CASES = [
    Case("Dense", {"units": 3}, ROWS),
    Case("Dense", {"units": 3, "activation": "relu", "use_bias": False}, (2, 3, 6)),
    Case("Dense", {"units": 3, "activation": "softmax", "kernel_regularizer": "l2"}, ROWS),
    Case("Conv2D", {"filters": 5, "kernel_size": 3}),
    Case("Conv2D", {"filters": 5, "kernel_size": (3, 2), "strides": (2, 1), "padding": "same", "activation": "tanh"}),
    Case("Conv2D", {"filters": 6, "kernel_size": (2, 3), "groups": 2, "activation": "relu6", "use_bias": False}),
    Case("Conv2D", {"filters": 5, "kernel_size": 2, "dilation_rate": (2, 3), "padding": "same", "activation": "elu"}),
    Case("Conv2D", {"filters": 5, "kernel_size": (3, 2), "strides": 2, "activation": "sigmoid", **FIRST}, PLANAR),
    Case("DepthwiseConv2D", {"kernel_size": (3, 2), "depth_multiplier": 3, "padding": "same", "activation": "relu"}),
    Case("DepthwiseConv2D", {"kernel_size": 3, "strides": 2, "use_bias": False, **FIRST}, PLANAR),
    Case("SeparableConv2D", {"filters": 5, "kernel_size": (3, 2), "depth_multiplier": 2, "activation": "relu"}),
    Case("SeparableConv2D", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same", **FIRST}, PLANAR),
    Case("Conv2DTranspose", {"filters": 3, "kernel_size": (3, 2), "activation": "relu"}),
    Case("Conv2DTranspose", {"filters": 3, "kernel_size": (4, 3), "strides": (2, 3), "padding": "same"}),
    Case("Conv2DTranspose", {"filters": 3, "kernel_size": 2, "strides": 3}),
    Case("Conv2DTranspose", {"filters": 3, "kernel_size": 5, "strides": 3, "padding": "same", "output_padding": 2}),
    Case("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2, "use_bias": False, **FIRST}, PLANAR),
    Case("Conv2DTranspose", {"filters": 3, "kernel_size": 2, "dilation_rate": 2}),
    Case("MaxPooling2D", {}),
    Case("MaxPooling2D", {"pool_size": (3, 2), "strides": (2, 1), "padding": "same"}),
    Case("MaxPooling2D", {"pool_size": 2, **FIRST}, PLANAR),
    Case("AveragePooling2D", {"pool_size": 3, "strides": 2}),
    Case("AveragePooling2D", {"pool_size": (3, 2), "strides": (2, 3), "padding": "same"}),
    Case("AveragePooling2D", {"pool_size": 2, "padding": "same", **FIRST}, PLANAR),
    Case("GlobalAveragePooling2D", {}),
    Case("GlobalAveragePooling2D", {"keepdims": True, **FIRST}, PLANAR),
    Case("GlobalMaxPooling2D", {"keepdims": True}),
    Case("GlobalMaxPooling2D", {**FIRST}, PLANAR),
    Case("Flatten", {}),
    Case("Flatten", {**FIRST}, PLANAR),
    Case("Flatten", {}, (4,)),
    Case("Reshape", {"target_shape": (3, 2)}, ROWS),
    Case("Reshape", {"target_shape": (-1, 4)}),
    Case("Permute", {"dims": (3, 1, 2)}),
    Case("ZeroPadding2D", {}),
    Case("ZeroPadding2D", {"padding": ((1, 2), (0, 3)), **FIRST}, PLANAR),
    Case("ZeroPadding2D", {"padding": (1, 3)}),
    Case("Cropping2D", {"cropping": ((1, 2), (0, 3))}),
    Case("Cropping2D", {"cropping": 1, **FIRST}, PLANAR),
    Case("UpSampling2D", {"size": (2, 3)}),
    Case("UpSampling2D", {"size": (2, 3), "interpolation": "bilinear"}),
    Case("UpSampling2D", {"interpolation": "bilinear", **FIRST}, PLANAR),
    Case("BatchNormalization", {}),
    Case("BatchNormalization", {"axis": 1, "momentum": 0.8, "epsilon": 0.01, "scale": False}, PLANAR),
    Case("BatchNormalization", {"center": False, "gamma_regularizer": "l2"}, ROWS),
    Case("LayerNormalization", {}),
    Case("LayerNormalization", {"axis": [2, 3], "epsilon": 0.01}),
    Case("LayerNormalization", {"scale": False}),  # axis=1 alone fails in Keras on torch; tests/layers has it
    Case("LayerNormalization", {"axis": [3, 1], "center": False}),
    Case("GroupNormalization", {"groups": 2}),
    Case("GroupNormalization", {"groups": 2, "axis": 1, "center": False, "epsilon": 0.01}, PLANAR),
    Case("GroupNormalization", {"groups": 2, "scale": False}),
    Case("Dropout", {"rate": 0.4}),
    Case("SpatialDropout2D", {"rate": 0.4, **FIRST}, PLANAR),
    Case("GaussianNoise", {"stddev": 0.4}),
    *[
        Case("Activation", {"activation": name}, ROWS)
        for name in (
            "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "sigmoid", "hard_sigmoid", "tanh", "softplus",
            "softsign", "silu", "swish", "gelu", "mish", "exponential", "softmax", "log_softmax",
        )
    ],
    Case("ReLU", {}),
    Case("ReLU", {"max_value": 1.0, "negative_slope": 0.2, "threshold": 0.3}),
    Case("ReLU", {"max_value": 6, "threshold": 0.3}),
    Case("ReLU", {"max_value": 6}),
    Case("LeakyReLU", {}),
    Case("LeakyReLU", {"negative_slope": 0.0}),
    Case("PReLU", {}),
    Case("PReLU", {"shared_axes": [1, 2], "alpha_constraint": "non_neg"}),
    Case("ELU", {"alpha": 0.7}),
    Case("Softmax", {}),
    Case("Softmax", {"axis": 1}),
    Case("Rescaling", {"scale": 1 / 127.5, "offset": -1.0}),
    Case("Rescaling", {"scale": [0.5, 1.0, 2.0, 4.0], "offset": [1.0, 0.0, -1.0, 3.0]}),
    *[Case(name, {}, [(2, 3, 4), (2, 3, 4), (2, 1, 4)]) for name in ("Add", "Multiply", "Average")],
    *[Case(name, {}, [(2, 3, 4), (2, 3, 4), (2, 1, 4)]) for name in ("Maximum", "Minimum")],
    Case("Add", {}, [(2, 3, 4), (2, 4)]),
    Case("Subtract", {}, [(2, 3, 4), (2, 3, 4)]),
    Case("Concatenate", {}, [(2, 3, 4), (2, 3, 5)]),
    Case("Concatenate", {"axis": 1}, [(2, 3, 4), (2, 1, 4), (2, 2, 4)]),
]  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def is_several(case: Case) -> bool:
    return isinstance(case.shape, list)


def inputs_of(case: Case, rng: np.random.Generator) -> Any:
    if is_several(case):
        return [rng.standard_normal(shape).astype("float32") for shape in case.shape]
    return rng.standard_normal(case.shape).astype("float32")


def open_batch(case: Case, known: int | None = None) -> Any:
    """The case's shapes with an unknown batch."""
    return [(None, *shape[1:]) for shape in case.shape] if is_several(case) else (None, *case.shape[1:])


def same_weights(case: Case, rng: np.random.Generator) -> tuple[Any, Any]:
    """The layer here and in Keras, built, with equal weights (positive: some are variances)."""
    ours, theirs = case.ours(), case.theirs()
    x = inputs_of(case, rng)
    ours(x)
    theirs(x)
    weights = [rng.uniform(0.3, 1.5, w.shape).astype("float32") for w in ours.weights]
    ours.set_weights(weights)
    if weights:
        theirs.set_weights(weights)
    return ours, theirs


def as_array(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().numpy()


@every_case
def test_outputs_equal_those_of_keras(case: Case, rng: np.random.Generator) -> None:
    ours, theirs = same_weights(case, rng)
    x = inputs_of(case, rng)
    np.testing.assert_allclose(ours(x).numpy(), as_array(theirs(x)), rtol=1e-5, atol=1e-5)


@every_case
def test_gradients_equal_those_of_keras(case: Case, rng: np.random.Generator) -> None:
    ours, theirs = same_weights(case, rng)
    arrays = inputs_of(case, rng) if is_several(case) else [inputs_of(case, rng)]
    mine = [minicnn.Tensor(x, requires_grad=True) for x in arrays]
    peer = [torch.tensor(x, requires_grad=True) for x in arrays]
    y, other = (layer(tensors if is_several(case) else tensors[0]) for layer, tensors in ((ours, mine), (theirs, peer)))
    gy = rng.standard_normal(y.shape).astype("float32")
    y.backward(gy)
    other.backward(torch.tensor(gy))
    for a, b in zip(mine, peer, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), as_array(b.grad), rtol=1e-4, atol=1e-4)
    for weight, theirs_weight in zip(ours.trainable_weights, theirs.trainable_weights, strict=True):
        np.testing.assert_allclose(weight.grad.numpy(), as_array(theirs_weight.value.grad), rtol=1e-4, atol=1e-4)


@every_case
def test_weights_have_the_names_the_shapes_and_the_order_of_keras(case: Case, rng: np.random.Generator) -> None:
    ours, theirs = same_weights(case, rng)
    expected = [w for w in theirs.weights if "seed_generator" not in w.path]
    assert [(w.name, w.shape) for w in ours.weights] == [(w.name, tuple(w.shape)) for w in expected]
    assert [w.name for w in ours.trainable_weights] == [w.name for w in theirs.trainable_weights]


@every_case
def test_output_shapes_are_those_of_keras_and_of_the_outputs(case: Case, rng: np.random.Generator) -> None:
    ours, theirs = case.ours(), case.theirs()
    actual = tuple(ours(inputs_of(case, rng)).shape)
    assert ours.compute_output_shape(case.shape) == actual
    theirs.build(open_batch(case))
    expected = tuple(theirs.compute_output_shape(open_batch(case)))
    assert ours.compute_output_shape(open_batch(case)) == expected
    assert expected[1:] == actual[1:]


SIZELESS = [
    case for case in CASES if case.shape in (IMAGES, PLANAR) and "Norm" not in case.name and case.name != "PReLU"
]


@pytest.mark.parametrize("case", SIZELESS, ids=str)
def test_unknown_heights_and_widths_stay_unknown_as_in_keras(case: Case) -> None:
    shape = (None, 4, None, None) if case.shape == PLANAR else (None, None, None, 4)
    ours, theirs = case.ours(), case.theirs()
    if case.name == "Reshape":
        assert ours.compute_output_shape(shape) == (None, None, 4)  # Keras answers the same; its -1 is None here
        return
    theirs.build(shape)
    assert ours.compute_output_shape(shape) == tuple(theirs.compute_output_shape(shape))


@every_case
def test_keras_reads_our_config_and_makes_the_same_layer(case: Case) -> None:
    read = keras.layers.deserialize(layers.serialize(case.ours()))
    expected = case.theirs()
    assert type(read) is type(expected)
    config, wanted = read.get_config(), expected.get_config()
    assert normalized(config) == normalized(wanted)


@every_case
def test_we_read_the_config_of_keras_and_make_the_same_layer(case: Case) -> None:
    read = layers.deserialize(keras.layers.serialize(case.theirs()))
    assert type(read) is type(case.ours())
    assert normalized(read.get_config()) == normalized(case.ours().get_config())


def normalized(config: Any) -> Any:
    """Lists as tuples, and numbers by value: JSON knows no other difference."""
    if isinstance(config, dict):
        return {key: normalized(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return tuple(normalized(value) for value in config)
    return config


@pytest.mark.parametrize("case", [case for case in CASES if case.name == "BatchNormalization"], ids=str)
def test_batch_normalization_trains_like_keras(case: Case, rng: np.random.Generator) -> None:
    ours, theirs = same_weights(case, rng)
    for _ in range(3):
        x = inputs_of(case, rng)
        y, other = ours(x, training=True), theirs(x, training=True)
        np.testing.assert_allclose(y.numpy(), as_array(other), rtol=1e-5, atol=1e-5)
    for mine, peer in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, peer, rtol=1e-5, atol=1e-6)


def test_a_frozen_batch_normalization_keeps_its_statistics_as_in_keras(rng: np.random.Generator) -> None:
    case = Case("BatchNormalization", {})
    ours, theirs = same_weights(case, rng)
    ours.trainable = theirs.trainable = False
    before = ours.get_weights()
    x = inputs_of(case, rng)
    np.testing.assert_allclose(ours(x, training=True).numpy(), as_array(theirs(x, training=True)), rtol=1e-5, atol=1e-5)
    for old, new in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


OPERATIONS = {
    "x + y": lambda x, y: x + y,
    "2 - x": lambda x, y: 2.0 - x,
    "x * y": lambda x, y: x * y,
    "x / 3": lambda x, y: x / 3.0,
    "-x": lambda x, y: -x,
    "x ** 2": lambda x, y: x**2,
    "x @ y": lambda x, y: x @ y,
    "x[:, 1:, 0]": lambda x, y: x[:, 1:, 0],
}


@pytest.mark.parametrize("expression", OPERATIONS, ids=str)
def test_operators_on_symbolic_tensors_are_keras_operations(expression: str) -> None:
    ours = OPERATIONS[expression](layers.Input((3, 3)), layers.Input((3, 3)))
    theirs = OPERATIONS[expression](keras.Input((3, 3)), keras.Input((3, 3)))
    assert ours.shape == theirs.shape
    written = layers.serialize(ours.node.layer)
    peer = theirs._keras_history.operation
    assert isinstance(keras.saving.deserialize_keras_object(written), type(peer))
    assert layers.deserialize(keras.saving.serialize_keras_object(peer)).operator == ours.node.layer.operator


@pytest.mark.parametrize(
    ("layer", "peer"),
    [
        (lambda: layers.Conv2D(3, 2, activation=layers.LeakyReLU(0.1)),
         lambda: keras.layers.Conv2D(3, 2, activation=keras.layers.LeakyReLU(0.1))),
        (lambda: layers.Dense(3, activation=layers.PReLU(shared_axes=[1, 2])),
         lambda: keras.layers.Dense(3, activation=keras.layers.PReLU(shared_axes=[1, 2]))),
    ],
)  # fmt: skip
def test_a_layer_as_activation_works_as_in_keras(layer: Any, peer: Any, rng: np.random.Generator) -> None:
    ours, theirs = layer(), peer()
    x = rng.standard_normal(IMAGES).astype("float32")
    ours(x)
    theirs(x)
    weights = [rng.standard_normal(w.shape).astype("float32") for w in ours.weights]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    np.testing.assert_allclose(ours(x).numpy(), as_array(theirs(x)), rtol=1e-5, atol=1e-5)
    assert keras.layers.deserialize(layers.serialize(ours)).activation.name == ours.activation.name
    assert layers.deserialize(keras.layers.serialize(theirs)).activation.name == theirs.activation.name


def test_input_layers_are_read_both_ways() -> None:
    ours = layers.InputLayer((28, 28, 1), batch_size=4, name="x")
    theirs = keras.layers.InputLayer((28, 28, 1), batch_size=4, name="x")
    assert keras.layers.deserialize(layers.serialize(ours)).get_config() == theirs.get_config()
    assert layers.deserialize(keras.layers.serialize(theirs)).get_config() == ours.get_config()
