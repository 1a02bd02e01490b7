"""Inference plans: the numbers of the layers called one by one, and every change of what they depend on is seen."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import Tensor, config, layers, losses, optimizers
from minicnn.models.inference import MOST_SHAPES, Plan

X = np.random.default_rng(0).random((3, 12, 12, 2), dtype=np.float32)
Y = np.array([0, 2, 1])


def convnet() -> minicnn.Sequential:
    minicnn.manual_seed(0)
    return minicnn.Sequential([
        layers.Input((12, 12, 2)),
        layers.Conv2D(8, 3, activation="relu", name="first"),
        layers.MaxPooling2D(),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(),
        layers.Dropout(0.5),
        layers.Conv2D(20, 1, name="point"),
        layers.Activation("tanh"),
        layers.Flatten(),
        layers.Dense(7, activation="tanh", name="hidden"),
        layers.Dense(3, activation="softmax", name="last"),
    ])  # fmt: skip


def branched() -> minicnn.Model:
    minicnn.manual_seed(0)
    inputs = layers.Input((12, 12, 2))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="first")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    y = layers.Conv2D(8, 3, padding="same", name="point")(layers.ReLU()(x))
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Dense(7, name="hidden")(layers.GlobalAveragePooling2D()(x))
    return minicnn.Model(inputs, [layers.Dense(3, activation="softmax", name="last")(x), x])


def one_by_one(model: minicnn.Model, x: Any) -> Any:
    """What the layers compute when recorded, which is never planned."""
    return [np.asarray(y.data) for y in flat(model(Tensor(x), training=False))]


def flat(outputs: Any) -> list[Any]:
    return outputs if isinstance(outputs, list) else [outputs]


def assert_up_to_date(model: minicnn.Model, x: Any = X) -> None:
    for received, expected in zip(flat(model.predict_on_batch(x)), one_by_one(model, x), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


def planned(model: minicnn.Model, x: Any = X) -> minicnn.Model:
    """The model after its plan was made."""
    for _ in range(3):
        model.predict_on_batch(x)
    assert any(isinstance(plan, Plan) for plan in model._plans._plans.values())
    return model


def train(model: minicnn.Model) -> None:
    model.compile(optimizers.SGD(0.5), losses.SparseCategoricalCrossentropy(), metrics=[])
    model.train_on_batch(X, Y)


def assign(model: minicnn.Model) -> None:
    model.get_layer("first").kernel.assign(model.get_layer("first").kernel.numpy() * 2)


def set_all(model: minicnn.Model) -> None:
    model.set_weights([weight + 0.1 for weight in model.get_weights()])


def in_place(model: minicnn.Model) -> None:
    with minicnn.no_grad():
        model.get_layer("point").kernel *= 2.0


def by_index(model: minicnn.Model) -> None:
    with minicnn.no_grad():
        model.get_layer("first").kernel[0] = 1.0


def through_a_detached_array(model: minicnn.Model) -> None:
    model.get_layer("first").kernel.detach().numpy()[:] = 0.25


def new_array(model: minicnn.Model) -> None:
    kernel = model.get_layer("first").kernel
    kernel.data = kernel.data * 3


def new_parameter(model: minicnn.Model) -> None:
    layer = model.get_layer("point")
    layer.kernel = minicnn.layers.parameter.Parameter(layer.kernel.numpy() * 2, "kernel")


def statistics(model: minicnn.Model) -> None:
    model.get_layer("norm").moving_mean.assign(np.full(8, 0.3))


def bias(model: minicnn.Model) -> None:
    model.get_layer("last").bias.assign([1.0, 2.0, -1.0])


def activation(model: minicnn.Model) -> None:
    model.get_layer("hidden").activation = minicnn.activations.relu


def epsilon(model: minicnn.Model) -> None:
    model.get_layer("norm").epsilon = 0.5


def own_call(model: minicnn.Model) -> None:
    layer = model.get_layer("hidden")
    layer.call = lambda x: layer._product(x, None) * 2.0  # type: ignore[method-assign]


CHANGES: list[Callable[[minicnn.Model], None]] = [
    train, assign, set_all, in_place, by_index, through_a_detached_array, new_array, new_parameter, statistics, bias,
    activation, epsilon, own_call,
]  # fmt: skip


@pytest.mark.parametrize("make", [convnet, branched])
def test_a_plan_gives_what_the_layers_give(make: Any) -> None:
    model = make()
    for size in (1, 3):
        for _ in range(3):
            assert_up_to_date(planned(model, X[:size]), X[:size])


CHANGED_MODELS = [
    pytest.param(make, change, id=f"{make.__name__}-{change.__name__}")
    for make in (convnet, branched)
    for change in CHANGES
    if (make, change) != (branched, train)  # which has two outputs, and labels for one
]


@pytest.mark.parametrize(("make", "change"), CHANGED_MODELS)
def test_every_change_is_seen(make: Any, change: Any) -> None:
    model = planned(make())
    before = flat(model.predict_on_batch(X))
    change(model)
    assert_up_to_date(model)
    assert_up_to_date(model)
    assert not np.array_equal(before[0], flat(model.predict_on_batch(X))[0])


def test_a_bias_taken_away_is_seen() -> None:
    model = convnet()
    bias(model)
    planned(model).get_layer("last").bias = None
    assert_up_to_date(model)


def test_loaded_weights_are_seen(tmp_path: Any) -> None:
    model, other = planned(convnet()), convnet()
    set_all(other)
    other.save_weights(tmp_path / "all.weights.h5")
    model.load_weights(tmp_path / "all.weights.h5")
    assert_up_to_date(model)
    np.testing.assert_allclose(model.predict_on_batch(X), other.predict_on_batch(X), rtol=1e-5)


def test_an_edit_after_memory_was_given_out_is_seen_each_time() -> None:
    model = convnet()
    array = model.get_layer("first").kernel.detach().numpy()
    for value in (0.1, 0.2, 0.3):
        planned(model)
        array[:] = value
        assert_up_to_date(model)


def test_parameters_are_given_out_read_only_even_when_frozen() -> None:
    model = convnet()
    model.trainable = False
    for weight in model.weights:
        assert not weight.numpy().flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            weight.numpy()[...] = 0


def test_layers_put_on_and_taken_off_are_seen() -> None:
    model = planned(convnet())
    model.pop()
    assert model.predict_on_batch(X).shape == (3, 7)
    assert_up_to_date(planned(model))
    model.add(layers.Dense(5))
    assert_up_to_date(model)


def test_settings_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model = minicnn.Sequential([layers.Input((20, 20, 32)), layers.Conv2D(32, 3, padding="same")])
    x = np.random.default_rng(1).random((1, 20, 20, 32), dtype=np.float32)
    planned(model, x)
    before = config.winograd
    try:
        config.winograd = False
        np.testing.assert_array_equal(model.predict_on_batch(x), one_by_one(model, x)[0])
        planned(model, x)
        np.testing.assert_array_equal(model.predict_on_batch(x), one_by_one(model, x)[0])
    finally:
        config.winograd = before
    with minicnn.use_backend("reference"):
        np.testing.assert_array_equal(model.predict_on_batch(x), one_by_one(model, x)[0])


def test_dtypes_have_plans_of_their_own() -> None:
    config.set_floatx("float64")
    try:
        model = convnet()
    finally:
        config.set_floatx("float32")
    assert planned(model).predict_on_batch(X).dtype == np.float64
    assert_up_to_date(model)
    assert_up_to_date(model, X.astype(np.float64))


def test_training_and_recorded_calls_are_never_planned() -> None:
    model = planned(convnet())
    with minicnn.no_grad():
        assert not np.array_equal(model(Tensor(X), training=True).data, model(Tensor(X), training=True).data)  # dropout
    y = model(Tensor(X))
    assert y.grad_fn is not None
    y.sum().backward()


def test_anomaly_detection_sees_what_is_written_past_the_tensor() -> None:
    model = planned(convnet())
    model.get_layer("first").kernel.data[...] = 0.25
    with minicnn.detect_anomaly():
        assert_up_to_date(model)


def test_evaluation_computes_the_loss_on_logits() -> None:
    model = convnet()
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[])
    model.get_layer("last").bias.assign([200.0, 0.0, 0.0])  # a softmax of exactly 0 for all others
    losses_of = [model.test_on_batch(X, Y) for _ in range(4)]
    assert np.isfinite(losses_of[0])
    assert losses_of[0] > 100
    np.testing.assert_allclose(losses_of, losses_of[0], rtol=1e-6)


def test_own_layers_are_called_each_time() -> None:
    class Counting(layers.Layer):
        calls = 0

        def call(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x[:, : self.calls]

    counting = Counting()
    model = minicnn.Sequential([layers.Input((9,)), counting, layers.Activation("relu")])
    for expected in range(counting.calls + 1, counting.calls + 6):  # a shape of its own in every call
        assert model.predict_on_batch(np.ones((2, 9), np.float32)).shape == (2, expected)


def test_activity_penalties_are_collected() -> None:
    model = minicnn.Sequential([layers.Input((4,)), layers.Dense(3, activity_regularizer="l2")])
    model.compile("sgd", "mse", metrics=[])
    x, y = np.ones((2, 4), np.float32), np.zeros((2, 3), np.float32)
    found = [model.test_on_batch(x, y) for _ in range(3)]
    np.testing.assert_allclose(found, found[0], rtol=1e-6)
    assert found[0] > float(np.square(model.predict_on_batch(x)).mean()) * 1.001


def test_plans_and_layouts_are_bounded() -> None:
    model = minicnn.Sequential([layers.Input((None, None, 2)), layers.Conv2D(4, 3)])
    for shapes, size in enumerate(range(5, 5 + 2 * MOST_SHAPES), start=1):
        x = np.ones((1, size, size, 2), np.float32)
        planned(model, x)
        assert len(model._plans._plans) <= MOST_SHAPES
        assert len(model._plans._plans) == min(shapes, MOST_SHAPES)
    for _ in range(3):
        set_all(model)
        planned(model, x)
    assert len(model._plans._layouts) == 1
    assert_up_to_date(model, x)


def test_models_with_plans_can_be_copied_and_pickled() -> None:
    model = planned(convnet())
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_up_to_date(other)
        set_all(other)
        assert_up_to_date(planned(other))
        assert_up_to_date(model)


def test_threads_may_predict_at_once() -> None:
    model, found = planned(convnet()), {}
    expected = {size: model.predict_on_batch(X[:size]) for size in (1, 2, 3)}

    def work(number: int) -> None:
        size = number % 3 + 1
        found[number] = all(np.array_equal(model.predict_on_batch(X[:size]), expected[size]) for _ in range(30))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == dict.fromkeys(range(6), True)
