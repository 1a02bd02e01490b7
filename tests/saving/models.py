"""Models that the tests of saving share: stacked, branched, shared, nested and subclassed ones, slightly trained."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn import Input, Model, Sequential, layers


def convnet() -> Sequential:
    """A stack with another stack in it, and with statistics that training keeps."""
    head = Sequential([layers.Dense(6, activation="relu"), layers.Dropout(0.3), layers.Dense(3, activation="softmax")])
    return Sequential(
        [
            Input(shape=(7, 6, 2)),
            layers.Conv2D(4, (3, 2), kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.PReLU(shared_axes=(1, 2)),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            head,
        ]
    )


def branched() -> Model:
    """Two inputs and two outputs; one layer is called twice, one model lies within another."""
    left, right = Input(shape=(5,), name="left"), Input(shape=(5,), name="right")
    shared = layers.Dense(4, activation="tanh", name="shared")
    inner_input = Input(shape=(4,))
    inner = Model(inner_input, layers.Dense(4)(layers.BatchNormalization()(inner_input)), name="inner")
    a, b = shared(left), shared(right)
    merged = layers.Concatenate()([inner(a), b, a * b])
    return Model([left, right], [layers.Dense(3, name="first")(merged), layers.Dense(2, name="second")(a - b)])


class Blocks(Model):
    """Layers in lists, lists of lists, dicts and private attributes, and weights of the model's own."""

    def __init__(self, units: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.blocks = [[layers.Dense(4), layers.BatchNormalization()], [layers.Dense(4)], layers.Dense(5)]
        self.heads = {"out": layers.Dense(units)}
        self._gate = layers.Dense(5, activation="sigmoid")
        self.scale = self.add_weight((5,), initializer="ones", name="scale")

    def call(self, x: Any) -> Any:
        (dense, norm), (other,), last = self.blocks
        return self.heads["out"](last(other(norm(dense(x)))) * self._gate(x) * self.scale)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def subclassed() -> Blocks:
    model = Blocks()
    model(np.zeros((2, 6), np.float32))
    return model


MODELS = {"convnet": convnet, "branched": branched, "subclassed": subclassed}


def batch(model: Model, rng: np.random.Generator, size: int = 8) -> tuple[Any, Any]:
    """Inputs and targets of the model's shapes."""

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=(size, *shape)).astype(np.float32)

    if isinstance(model, Blocks):
        return draw(6), draw(model.units)
    if isinstance(model, Sequential):
        return draw(7, 6, 2), np.eye(3, dtype=np.float32)[rng.integers(0, 3, size)]
    return [draw(5), draw(5)], [draw(3), draw(2)]


def scrambled(model: Model, rng: np.random.Generator) -> Model:
    """The model with random values in all weights; variances stay positive."""
    model.set_weights([rng.uniform(0.1, 1.0, array.shape).astype(array.dtype) for array in model.get_weights()])
    return model


def assert_same_weights(one: Model, other: Model) -> None:
    """Equal to the bit, array by array."""
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
