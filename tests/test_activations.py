"""Activations by name: values against closed forms, logits, epilogues, lookup."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from minicnn import Tensor, activations
from minicnn import functional as F

X = np.array([-7.0, -1.5, -0.3, 0.0, 0.4, 2.0, 7.0])
SIGMOID = 1 / (1 + np.exp(-X))
SOFTPLUS = np.log(1 + np.exp(X))

CLOSED_FORMS: dict[str, np.ndarray] = {
    "linear": X,
    "relu": np.where(X > 0, X, 0),
    "relu6": np.clip(X, 0, 6),
    "leaky_relu": np.where(X > 0, X, 0.2 * X),
    "elu": np.where(X > 0, X, np.exp(X) - 1),
    "selu": 1.0507009873554805 * np.where(X > 0, X, 1.6732632423543772 * (np.exp(X) - 1)),
    "sigmoid": SIGMOID,
    "hard_sigmoid": np.clip(X / 6 + 0.5, 0, 1),
    "tanh": np.tanh(X),
    "softplus": SOFTPLUS,
    "softsign": X / (1 + np.abs(X)),
    "silu": X * SIGMOID,
    "swish": X * SIGMOID,
    "gelu": np.array([x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in X]),
    "mish": X * np.tanh(SOFTPLUS),
    "exponential": np.exp(X),
    "softmax": np.exp(X) / np.exp(X).sum(),
    "log_softmax": X - np.log(np.exp(X).sum()),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_values_equal_the_closed_form(name: str) -> None:
    np.testing.assert_allclose(activations.get(name)(Tensor(X)).numpy(), CLOSED_FORMS[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [(0.1, None, 0.0), (0.0, 6.0, 0.0), (0.1, 1.5, 0.3), (0.0, None, 0.3)])
def test_relu_takes_a_slope_a_ceiling_and_a_threshold(options: tuple[float, float | None, float]) -> None:
    slope, ceiling, threshold = options
    expected = [
        min(x, math.inf if ceiling is None else ceiling) if x > threshold else slope * (x - threshold) for x in X
    ]
    np.testing.assert_allclose(activations.relu(Tensor(X), *options).numpy(), expected, atol=1e-12)


def test_relu_keeps_nan_and_sends_minus_infinity_to_0() -> None:
    y = activations.relu(Tensor([math.nan, -math.inf, math.inf]), max_value=6.0).numpy()
    np.testing.assert_array_equal(y, [math.nan, 0.0, 6.0])


@pytest.mark.parametrize("name", ["sigmoid", "softmax"])
def test_probabilities_remember_their_logits(name: str) -> None:
    x = Tensor(X.reshape(1, -1))
    assert activations.get(name)(x).logits is x


def test_a_softmax_over_another_axis_remembers_nothing() -> None:
    x = Tensor(X.reshape(1, -1))
    assert activations.softmax(x, axis=0).logits is None
    assert activations.softmax(x, axis=1).logits is x


def test_kernels_may_apply_relu_relu6_and_tanh_but_not_sigmoid_whose_logits_are_needed() -> None:
    named = {name: activations.epilogue_name(activations.get(name)) for name in CLOSED_FORMS}
    assert {name: epilogue for name, epilogue in named.items() if epilogue} == {
        "relu": "relu",
        "relu6": "relu6",
        "tanh": "tanh",
    }


def test_functions_of_functional_become_the_activation_of_that_name() -> None:
    assert activations.get(F.softmax) is activations.softmax
    assert activations.get(F.relu) is activations.relu

    def relu(x: Tensor) -> Tensor:
        return x

    assert activations.get(relu) is relu


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_names_come_back_from_what_was_serialized(name: str) -> None:
    function: Callable[[Tensor], Tensor] = activations.get(name)
    assert activations.deserialize(activations.serialize(function)) is function


def test_keras_function_configs_are_read() -> None:
    config = {"module": "builtins", "class_name": "function", "config": "tanh", "registered_name": "function"}
    assert activations.get(config) is activations.tanh


def test_none_is_linear() -> None:
    assert activations.get(None) is activations.linear


def test_unknown_names_bring_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"no activation.*Received: 'rleu'.*Did you mean 'relu'"):
        activations.get("rleu")
    with pytest.raises(ValueError, match="Did you mean 'relu'"):
        activations.get("ReLU")
    with pytest.raises(TypeError, match="activation must be"):
        activations.get(3)


def test_a_function_of_ones_own_cannot_be_saved() -> None:
    with pytest.raises(TypeError, match=r"one of minicnn\.activations"):
        activations.serialize(lambda x: x)
