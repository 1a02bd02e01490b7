"""Two layers as one operation: when it happens, and that nobody can tell but by the clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import Input, Model, Sequential, layers
from minicnn.autograd import grad
from minicnn.backend import current_backend, kernel_names
from minicnn.tensor import Tensor

Make = Callable[[], layers.Layer]

IMAGES: dict[str, tuple[Make, Make]] = {
    "batch_norm_relu": (layers.BatchNormalization, layers.ReLU),
    "batch_norm_activation": (layers.BatchNormalization, lambda: layers.Activation("relu")),
    "batch_norm_of_another_axis": (lambda: layers.BatchNormalization(axis=1), layers.ReLU),
    "conv_relu": (lambda: layers.Conv2D(4, 3, padding="same"), layers.ReLU),
    "conv_tanh": (lambda: layers.Conv2D(4, (3, 2), use_bias=False), lambda: layers.Activation("tanh")),
    "conv_channels_first": (lambda: layers.Conv2D(4, 2, data_format="channels_first"), layers.ReLU),
    "depthwise_relu6": (lambda: layers.DepthwiseConv2D(2), lambda: layers.Activation("relu6")),
    "separable_relu": (lambda: layers.SeparableConv2D(3, 2), layers.ReLU),
    "dense_relu": (lambda: layers.Dense(4), layers.ReLU),
}


class Doubled(layers.ReLU):
    def call(self, inputs: Tensor) -> Tensor:
        return super().call(inputs) * 2


APART: dict[str, tuple[Make, Make]] = {
    "relu_with_a_ceiling": (layers.BatchNormalization, lambda: layers.ReLU(max_value=1.0)),
    "relu_with_a_slope": (lambda: layers.Conv2D(3, 2), lambda: layers.ReLU(negative_slope=0.1)),
    "leaky_relu": (lambda: layers.Conv2D(3, 2), layers.LeakyReLU),
    "another_class_of_relu": (layers.BatchNormalization, Doubled),
    "activation_of_its_own": (lambda: layers.Conv2D(3, 2, activation="tanh"), layers.ReLU),
    "batch_norm_tanh": (layers.BatchNormalization, lambda: layers.Activation("tanh")),
    "sigmoid_whose_input_losses_want": (lambda: layers.Dense(3), lambda: layers.Activation("sigmoid")),
    "penalty_on_the_activity_between": (lambda: layers.Conv2D(3, 2, activity_regularizer="l2"), layers.ReLU),
    "penalty_on_the_activity_after": (layers.BatchNormalization, lambda: layers.ReLU(activity_regularizer="l2")),
    "layer_norm": (layers.LayerNormalization, layers.ReLU),
}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each kernel ran."""
    calls: Counter[str] = Counter()
    kernels = current_backend().kernels

    def counting(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return kernel(*args, **options)

        return call

    for name in kernel_names():
        monkeypatch.setattr(kernels, name, counting(name, getattr(kernels, name)))
    return calls


def made(first: Make, second: Make, functional: bool) -> Model:
    minicnn.manual_seed(5)
    pair = [first(), second()]
    if not functional:
        return Sequential([Input((5, 4, 3)), *pair])
    inputs = Input((5, 4, 3))
    return Model(inputs, pair[1](pair[0](inputs)))


def images() -> Tensor:
    return minicnn.randn(2, 5, 4, 3, seed=3)


def results(model: Model, call: Callable[[Tensor], Tensor], training: bool) -> list[np.ndarray[Any, Any]]:
    """The output, the gradients of a weighted sum of it, and the weights after the call."""
    x = images().requires_grad_()
    y = call(x)
    weights = minicnn.randn(*y.shape, seed=4)
    gradients = grad((y * weights).sum(), [x, *model.trainable_weights])
    return [y.numpy(), *(g.numpy() for g in gradients if g is not None), *model.get_weights()]


@pytest.mark.parametrize("functional", [False, True], ids=["sequential", "functional"])
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("pair", [*IMAGES, *APART])
def test_a_model_computes_what_its_layers_do_one_by_one(pair: str, training: bool, functional: bool) -> None:
    first, second = (IMAGES | APART)[pair]
    model, apart = made(first, second, functional), made(first, second, functional)

    def one_by_one(x: Tensor) -> Tensor:
        for layer in apart.layers[-2:]:
            x = layer(x, training=training)
        return x

    received = results(model, lambda x: model(x, training=training), training)
    for array, expected in zip(received, results(apart, one_by_one, training), strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("functional", [False, True], ids=["sequential", "functional"])
@pytest.mark.parametrize("pair", IMAGES)
def test_an_activation_runs_within_the_kernel_before_it(pair: str, functional: bool, counted: Counter[str]) -> None:
    model = made(*IMAGES[pair], functional)
    model(images(), training=True)
    assert counted["activation"] == 0


@pytest.mark.parametrize("functional", [False, True], ids=["sequential", "functional"])
@pytest.mark.parametrize("pair", [name for name in APART if name not in ("relu_with_a_ceiling",)])
def test_what_is_more_than_an_activation_runs_by_itself(pair: str, functional: bool, counted: Counter[str]) -> None:
    model = made(*APART[pair], functional)
    counted.clear()
    model(images(), training=True)
    assert counted["activation"] == 1


def test_a_penalty_on_the_activity_between_two_layers_is_kept() -> None:
    model = made(*APART["penalty_on_the_activity_between"], functional=False)
    model(images())
    assert len(model.losses) == 1


def test_an_output_that_others_read_too_stays_what_it_is(counted: Counter[str]) -> None:
    inputs = Input((5, 4, 3))
    normalized = layers.BatchNormalization()(inputs)
    rectified = layers.ReLU()(normalized)
    both = Model(inputs, [normalized, rectified])
    joined = Model(inputs, layers.Add()([normalized, rectified]))
    x = images()
    for model in (both, joined):
        counted.clear()
        model(x)
        assert counted["activation"] == 1
    below, above = both(x)
    assert below.numpy().min() < 0
    np.testing.assert_array_equal(above.numpy(), np.maximum(below.numpy(), 0))
    np.testing.assert_array_equal(joined(x).numpy(), below.numpy() + above.numpy())


def test_a_model_of_the_layer_in_the_middle_sees_what_it_makes() -> None:
    model = Sequential([Input((5, 4, 3)), layers.BatchNormalization(name="norm"), layers.ReLU()])
    middle = Model(model.input, model.get_layer("norm").output)
    assert model(images()).numpy().min() == 0
    assert middle(images()).numpy().min() < 0


def test_an_activation_changed_later_takes_effect(counted: Counter[str]) -> None:
    model = Sequential([Input((5, 4, 3)), layers.Conv2D(3, 2), layers.ReLU()])
    model(images())
    model.layers[0].activation = minicnn.activations.tanh  # type: ignore[attr-defined]
    received = model(images()).numpy()
    assert counted["activation"] == 1
    assert received.max() <= 1
