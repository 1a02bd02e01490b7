"""Activation layers against their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn import Tensor, layers

X = np.array([[-4.0, -1.0, 0.5], [0.0, 3.0, 9.0]])


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.Activation("tanh"), np.tanh(X)),
        (layers.ReLU(), np.maximum(X, 0)),
        (layers.ReLU(6), np.clip(X, 0, 6)),
        (
            layers.ReLU(max_value=2.0, negative_slope=0.1, threshold=1.0),
            np.where(X > 1, np.minimum(X, 2), 0.1 * (X - 1)),
        ),
        (layers.LeakyReLU(), np.where(X > 0, X, 0.3 * X)),
        (layers.LeakyReLU(alpha=0.01), np.where(X > 0, X, 0.01 * X)),
        (layers.LeakyReLU(0), np.maximum(X, 0)),
        (layers.ELU(2.0), np.where(X > 0, X, 2 * (np.exp(X) - 1))),
        (layers.Softmax(), np.exp(X) / np.exp(X).sum(1, keepdims=True)),
        (layers.Softmax(axis=0), np.exp(X) / np.exp(X).sum(0)),
    ],
)
def test_values_equal_the_formula(layer: layers.Layer, expected: np.ndarray) -> None:
    np.testing.assert_allclose(layer(X).numpy(), expected, rtol=1e-6)
    assert layer.compute_output_shape((None, 3)) == (None, 3)
    assert layer.count_params() == 0


def test_prelu_learns_a_slope_for_each_element_or_shares_it(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 4, 5, 3))
    own = layers.PReLU(dtype="float64")
    assert np.array_equal(own(x).numpy(), np.maximum(x, 0))
    assert own.alpha.shape == (4, 5, 3)
    shared = layers.PReLU(shared_axes=(1, 2), dtype="float64")
    shared(x)
    shared.set_weights([np.array([[[0.1, 0.2, -0.3]]])])
    np.testing.assert_allclose(shared(x).numpy(), np.where(x > 0, x, np.array([0.1, 0.2, -0.3]) * x), atol=1e-12)
    assert shared.count_params() == 3


@pytest.mark.parametrize("layer", [layers.Activation("softmax"), layers.Softmax(), layers.Activation("sigmoid")])
def test_probabilities_remember_their_logits(layer: layers.Layer) -> None:
    x = Tensor(X, dtype="float32")
    assert layer(x).logits is x


def test_a_layer_may_be_the_activation_of_another() -> None:
    layer = layers.Dense(2, activation=layers.PReLU(alpha_initializer="ones"), kernel_initializer="ones")
    np.testing.assert_array_equal(layer(np.array([[-1.0, -2.0]])).numpy(), [[-3, -3]])
    assert [w.path for w in layer.weights] == ["dense/kernel", "dense/bias", "p_re_lu/alpha"]
    copy = layers.deserialize(layers.serialize(layer))
    assert isinstance(copy.activation, layers.PReLU)
    assert copy.get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: layers.ReLU(max_value=-1), ValueError, "re_lu: max_value"),
        (lambda: layers.ReLU(negative_slope=None), ValueError, "re_lu: negative_slope"),
        (lambda: layers.LeakyReLU(-0.1), ValueError, "leaky_re_lu: negative_slope"),
        (lambda: layers.ELU(0), ValueError, "elu: alpha"),
        (lambda: layers.Softmax("last"), TypeError, "softmax: axis must be an integer"),
        (lambda: layers.Softmax(3)(X), ValueError, "softmax"),
        (lambda: layers.PReLU(shared_axes=0), ValueError, "p_re_lu: shared_axes must be positive"),
        (lambda: layers.PReLU(shared_axes=3)(X), ValueError, "the input has no axis 3"),
        (lambda: layers.PReLU()(layers.Input((None, 3))), ValueError, "must have a known size"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
