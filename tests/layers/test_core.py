"""Dense, Lambda, Rescaling, and symbolic operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn import Tensor, layers
from minicnn.layers.operator import Operator
from tests import loops


def test_dense_multiplies_adds_and_activates(rng: np.random.Generator) -> None:
    layer = layers.Dense(3, activation="relu", dtype="float64", bias_initializer="random_normal")
    x = rng.standard_normal((4, 5))
    y = layer(x).numpy()
    np.testing.assert_allclose(y, loops.dense(x, *layer.get_weights(), "relu"), atol=1e-12)
    assert [w.path for w in layer.weights] == ["dense/kernel", "dense/bias"]
    assert layer.count_params() == 5 * 3 + 3


def test_dense_works_on_the_last_of_many_axes(rng: np.random.Generator) -> None:
    layer = layers.Dense(3, use_bias=False, dtype="float64")
    x = rng.standard_normal((2, 4, 5))
    y = layer(x).numpy()
    assert y.shape == (2, 4, 3)
    for i in range(2):
        np.testing.assert_allclose(y[i], loops.dense(x[i], layer.get_weights()[0], None), atol=1e-12)
    assert layer.compute_output_shape((None, 4, 5)) == (None, 4, 3)


def test_a_softmax_output_remembers_its_logits(rng: np.random.Generator) -> None:
    layer = layers.Dense(3, activation="softmax", dtype="float64")
    x = rng.standard_normal((4, 5))
    y = layer(x)
    np.testing.assert_allclose(y.logits.numpy(), loops.dense(x, *layer.get_weights()), atol=1e-12)


def test_integer_inputs_are_cast() -> None:
    layer = layers.Dense(1, kernel_initializer="ones")
    y = layer(np.array([[250, 250]], np.uint8))
    assert y.dtype == np.float32
    assert y.item() == 500.0


def test_options_reach_the_weights() -> None:
    layer = layers.Dense(
        2,
        kernel_initializer="ones",
        bias_initializer=3.0 * np.ones(2),
        kernel_regularizer="l2",
        bias_constraint="non_neg",
    )
    layer.build((None, 4))
    np.testing.assert_array_equal(layer.kernel.numpy(), np.ones((4, 2)))
    np.testing.assert_array_equal(layer.bias.numpy(), [3, 3])
    assert [penalty.item() for penalty in layer.losses] == [pytest.approx(0.08)]
    assert layer.bias.constraint is layer.bias_constraint


def test_lambda_applies_a_function_and_finds_its_shape() -> None:
    layer = layers.Lambda(lambda x, factor: x.mean(1) * factor, arguments={"factor": 3.0})
    np.testing.assert_allclose(layer(np.array([[[1.0, 2.0], [3.0, 6.0]]])).numpy(), [[6, 12]])
    assert layer.compute_output_shape((None, 7, 2)) == (None, 2)
    assert layer.compute_output_shape((None, None, 2)) == (None, 2)
    assert layers.Lambda(lambda x: x * 2).compute_output_shape((None, None, 2)) == (None, None, 2)
    assert layers.Lambda(lambda x: x, output_shape=(5,)).compute_output_shape((None, 2)) == (None, 5)


def test_lambda_of_several_tensors() -> None:
    layer = layers.Lambda(lambda pair: pair[0] - pair[1])
    assert layer([layers.Input((3,)), layers.Input((3,))]).shape == (None, 3)
    np.testing.assert_array_equal(layer([np.array([[3.0]]), np.array([[1.0]])]).numpy(), [[2]])


def test_lambda_passes_training_on() -> None:
    layer = layers.Lambda(lambda x, training: x * (2.0 if training else 1.0))
    assert layer(np.ones((1, 1)), training=True).item() == 2
    assert layer(np.ones((1, 1))).item() == 1


def double(x: Tensor) -> Tensor:
    return x * 2


def test_a_named_function_is_saved_by_name_and_looked_up() -> None:
    written = layers.serialize(layers.Lambda(double, name="twice"))
    read = layers.deserialize(written, custom_objects={"double": double})
    assert read(np.ones((1, 1))).item() == 2
    with pytest.raises(ValueError, match="custom_objects"):
        layers.deserialize(written)


def test_a_nameless_function_cannot_be_saved() -> None:
    with pytest.raises(TypeError, match="without a name"):
        layers.Lambda(lambda x: x).get_config()


def test_rescaling_scales_and_shifts_pixels() -> None:
    pixels = np.array([[0, 255]], np.uint8)
    np.testing.assert_allclose(layers.Rescaling(1 / 127.5, -1)(pixels).numpy(), [[-1, 1]], atol=1e-6)
    np.testing.assert_allclose(layers.Rescaling([1.0, 2.0], [0.0, 1.0])(pixels).numpy(), [[0, 511]])


EXPRESSIONS: dict[str, Any] = {
    "x + 1": (lambda x, y: x + 1, (None, 4, 4)),
    "1 - x": (lambda x, y: 1 - x, (None, 4, 4)),
    "x - y": (lambda x, y: x - y, (None, 4, 4)),
    "2 * x": (lambda x, y: 2 * x, (None, 4, 4)),
    "x / y": (lambda x, y: x / y, (None, 4, 4)),
    "1 / x": (lambda x, y: 1 / x, (None, 4, 4)),
    "x ** 2": (lambda x, y: x**2, (None, 4, 4)),
    "-x": (lambda x, y: -x, (None, 4, 4)),
    "x @ y": (lambda x, y: x @ y, (None, 4, 4)),
    "x[:, 1:3, 0]": (lambda x, y: x[:, 1:3, 0], (None, 2)),
    "x[:, None]": (lambda x, y: x[:, None], (None, 1, 4, 4)),
    "x * row": (lambda x, y: x * np.arange(4.0), (None, 4, 4)),
}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_operators_on_symbolic_tensors_are_layers_that_compute_the_same(
    expression: str, rng: np.random.Generator
) -> None:
    function, shape = EXPRESSIONS[expression]
    x, y = layers.Input((4, 4), dtype="float64"), layers.Input((4, 4), dtype="float64")
    node = function(x, y).node
    assert node.outputs.shape == shape
    values = {id(x): rng.uniform(1, 2, (3, 4, 4)), id(y): rng.uniform(1, 2, (3, 4, 4))}
    layer = layers.deserialize(layers.serialize(node.layer))
    layer.dtype = "float64"
    actual = layer(*[values.get(id(arg), arg) for arg in node.args]).numpy()
    np.testing.assert_allclose(actual, function(*values.values()), rtol=1e-12)


def test_operands_that_do_not_fit_are_refused_with_their_shapes() -> None:
    with pytest.raises(ValueError, match=r"add: the operands do not fit.*shape=\(None, 3\).*shape=\(None, 4\)"):
        layers.Input((3,)) + layers.Input((4,))
    with pytest.raises(ValueError, match="getitem: the operands do not fit"):
        layers.Input((3,))[:, 5]
    with pytest.raises(ValueError, match="Did you mean 'add'"):
        Operator("ad")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: layers.Dense(0), ValueError, "dense: units must be an integer of at least 1. Received: 0"),
        (lambda: layers.Dense(2.5), ValueError, "Received: 2.5"),
        (lambda: layers.Dense(2, activation="rleu"), ValueError, "Did you mean 'relu'"),
        (lambda: layers.Dense(2)(np.ones(3)), ValueError, r"dense: expected at least 2 axes.*Received: shape \(3,\)"),
        (lambda: layers.Dense(2)([np.ones((1, 3))]), ValueError, "dense: expected one tensor"),
        (lambda: layers.Dense(2)(layers.Input((None,))), ValueError, "must have a known size"),
        (lambda: layers.Lambda("relu"), TypeError, "function must be callable. Received: 'relu'"),
        (lambda: layers.Dense(2)(np.ones((1, 3), np.float16)), TypeError, "float16"),
        (lambda: layers.Dense(2, dtype="float16"), TypeError, "float16"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_built_layer_refuses_another_number_of_inputs() -> None:
    layer = layers.Dense(2, name="head")
    layer(np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"head: expected size 3 on axis -1. Received: shape \(1, 4\)"):
        layer(np.ones((1, 4)))


def test_input_makes_a_symbolic_tensor() -> None:
    x = layers.Input((28, 28), name="pixels")
    assert (x.shape, x.dtype, x.name) == ((None, 28, 28), "float32", "pixels")
    assert layers.Input((None, 3), batch_size=8).shape == (8, None, 3)
    assert layers.Input(batch_shape=(2, 5), dtype="int32").dtype == "int32"
    layer = layers.deserialize(layers.serialize(x.node.layer))
    assert layer.output.shape == x.shape


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "give shape"),
        ({"shape": 784}, ValueError, r"must be a tuple, such as \(784,\)"),
        ({"shape": (0,)}, ValueError, "positive integers"),
        ({"shape": (3,), "batch_shape": (2, 3)}, ValueError, "batch_shape alone"),
        ({"shape": (3,), "sparse": True}, ValueError, "dense tensors"),
        ({"shape": (3,), "dtype": "float16"}, TypeError, "float16"),
    ],
)
def test_wrong_inputs_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        layers.Input(**options)
