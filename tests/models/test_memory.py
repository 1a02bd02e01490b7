"""What a step of training leaves behind: nothing. Arrays go when their last reader is done, without the collector."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import Input, Model, Sequential, layers
from minicnn.autograd import Function
from minicnn.tensor import Tensor


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def network() -> Sequential:
    return Sequential(
        [
            Input((8, 8, 3)),
            layers.Conv2D(4, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(5, activation="softmax"),
        ]
    )


def residual() -> Model:
    inputs = Input((8, 8, 3))
    x = layers.Conv2D(3, 3, padding="same", activation="relu")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Add()([inputs, x])))
    return Model(inputs, layers.Dense(5, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("make", [network, residual])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_training_step_leaves_no_graph_and_no_cycles(
    make: Any, optimizer: str, monkeypatch: pytest.MonkeyPatch, without_collector: None
) -> None:
    model = make()
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = np.random.default_rng(0).random((4, 8, 8, 3), np.float32), np.array([0, 4, 2, 1])
    model.train_on_batch(x, y)  # makes what stays: the optimizer's state, the metrics

    nodes: list[weakref.ref[Function]] = []
    arrays: list[weakref.ref[Any]] = []
    record = Function._record

    def recording(node: Function, args: Any, inputs: Any, results: Any, outputs: Any) -> None:
        nodes.append(weakref.ref(node))
        arrays.extend(weakref.ref(tensor.data) for tensor in outputs)
        record(node, args, inputs, results, outputs)

    monkeypatch.setattr(Function, "_record", recording)
    gc.collect()
    model.train_on_batch(x, y)
    assert len(nodes) >= 8
    assert [node() for node in nodes if node() is not None] == []
    assert [array() for array in arrays if array() is not None] == []
    assert gc.collect() == 0


def test_evaluation_and_prediction_leave_no_cycles(without_collector: None) -> None:
    model = network()
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = np.zeros((4, 8, 8, 3), np.float32), np.array([0, 4, 2, 1])
    model.test_on_batch(x, y)
    model.predict_on_batch(x)
    gc.collect()
    model.test_on_batch(x, y)
    model.predict_on_batch(x)
    assert gc.collect() == 0


def test_a_gradient_is_gone_before_the_next_but_one_is_made(without_collector: None) -> None:
    seen: list[weakref.ref[Any]] = []
    alive: list[int] = []

    class Watch(Function):
        def forward(self, x: Any) -> Any:
            return x * 2.0

        def backward(self, gy: Tensor) -> Tensor:
            alive.append(sum(array() is not None for array in seen))
            seen.append(weakref.ref(gy.data))
            return gy * 2.0

    x = minicnn.ones(3, requires_grad=True)
    y = x
    for _ in range(5):
        y = Watch.apply(y)
    y.sum().backward()
    assert alive == [0, 0, 0, 0, 0]
    assert len([array for array in seen if array() is not None]) == 0


def test_saved_arrays_go_as_soon_as_their_node_was_walked(without_collector: None) -> None:
    kept: dict[str, weakref.ref[Any]] = {}
    found: list[bool] = []

    class Look(Function):
        def forward(self, x: Any) -> Any:
            return x.copy()

        def backward(self, gy: Tensor) -> Tensor:
            found.append(kept["square"]() is None)
            return gy

    x = minicnn.ones(3, requires_grad=True)
    y = Look.apply(x)
    square = y * y
    kept["square"] = weakref.ref(square.data)
    z = square.exp().sum()
    del y, square
    z.backward()
    assert found == [True]
