"""What a layer holds is gathered once and kept until something changes: every change must be seen."""

from __future__ import annotations

import numpy as np

from minicnn import Input, Model, Sequential, layers
from minicnn.layers import Dense, Layer, Parameter


def names(parameters: list[Parameter]) -> list[str]:
    return [parameter.path for parameter in parameters]


class Pair(Model):
    def __init__(self) -> None:
        super().__init__()
        self.first = Dense(2, name="first")

    def call(self, x):
        return self.first(x)


def test_layers_added_and_taken_off_are_seen() -> None:
    model = Sequential([Input((3,)), Dense(2, name="below")])
    assert names(model.weights) == ["below/kernel", "below/bias"]
    model.add(Dense(1, name="above", use_bias=False))
    assert names(model.trainable_weights) == ["below/kernel", "below/bias", "above/kernel"]
    model.pop()
    assert names(model.weights) == ["below/kernel", "below/bias"]


def test_layers_set_as_attributes_later_are_seen_from_outside() -> None:
    inner = Pair()
    outer = Sequential([Input((3,)), inner])
    assert names(outer.weights) == ["first/kernel", "first/bias"]
    inner.second = Dense(1, name="second")
    inner.second.build((None, 3))
    assert names(outer.weights) == ["first/kernel", "first/bias", "second/kernel", "second/bias"]


def test_weights_made_later_are_seen() -> None:
    layer = Layer(name="scale")
    model = Sequential([layer])
    assert model.weights == []
    layer.add_weight((2,), name="factor")
    assert names(model.weights) == ["scale/factor"]


def test_weights_are_ordered_by_what_is_trainable_now() -> None:
    model = Sequential([Input((3,)), Dense(2, name="dense")])
    kernel, bias = model.weights
    kernel.trainable = False
    assert names(model.weights) == ["dense/bias", "dense/kernel"]
    kernel.trainable = True
    bias.requires_grad = False
    assert names(model.weights) == ["dense/kernel", "dense/bias"]
    assert names(model.trainable_weights) == ["dense/kernel"]
    assert names(model.non_trainable_weights) == ["dense/bias"]


def test_the_list_of_weights_is_the_callers_own() -> None:
    model = Sequential([Input((3,)), Dense(2)])
    model.weights.clear()
    assert len(model.weights) == 2


def test_losses_of_a_call_are_those_of_the_last_one_in_every_layer_within() -> None:
    model = Sequential([Input((3,)), Sequential([Dense(2, activity_regularizer="l2")]), Dense(1)])
    for _ in range(2):
        model(np.ones((4, 3), np.float32))
        assert len(model.losses) == 1


def test_a_shared_layer_counts_once() -> None:
    shared = Dense(3, name="shared")
    inputs = Input((3,))
    model = Model(inputs, layers.Add()([shared(inputs), shared(shared(inputs))]))
    assert names(model.weights) == ["shared/kernel", "shared/bias"]
