"""fit, evaluate, predict: the rows each step sees, what is trained, and what comes out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import Input, Model, Sequential, layers, metrics, optimizers
from minicnn.callbacks import Callback
from tests.models.common import ERRORS, SUMS, Recorder, X, Y, linear_model, rows_seen, two_outputs

# --------------------------------------------------------------------------------------------------- fit


def test_validation_split_takes_the_last_rows_before_any_shuffling() -> None:
    model = linear_model()
    model.compile(optimizers.SGD(0.0), "mse")
    recorder = Recorder(model)
    history = model.fit(X, Y, validation_split=0.4, batch_size=1, verbose=0)
    assert sorted(map(tuple, (batch[0][0] for batch in recorder.batches))) == sorted(map(tuple, X[:3]))
    assert history.history["val_loss"] == [pytest.approx(ERRORS[3:].mean())]
    assert history.history["loss"] == [pytest.approx(ERRORS[:3].mean())]


def test_shuffling_takes_all_rows_in_a_new_order_each_epoch_and_keeps_labels_with_them() -> None:
    x = np.arange(20.0)[:, None] * [1, 1]
    model = linear_model()
    model.compile(optimizers.SGD(0.0), "mse")
    recorder = Recorder(model)
    model.fit(x, np.arange(20.0) * 3, batch_size=8, epochs=2, verbose=0)
    rows = rows_seen(recorder)
    assert [len(batch) for batch in rows] == [8, 8, 4] * 2
    first, second = ([row for batch in epoch for row in batch] for epoch in (rows[:3], rows[3:]))
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    for batch in recorder.batches:
        np.testing.assert_array_equal(batch[1], batch[0][:, 0] * 3)


def test_without_shuffling_rows_come_in_their_order() -> None:
    model = linear_model()
    model.compile("sgd", "mse")
    recorder = Recorder(model)
    model.fit(X, Y, batch_size=3, shuffle=False, verbose=0)
    np.testing.assert_array_equal(recorder.batches[0][0], X[:3])
    np.testing.assert_array_equal(recorder.batches[1][0], X[3:])


def small_problem(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bars in 6x6 pictures: three classes by orientation, with noise."""
    images, labels = rng.normal(0, 0.2, size=(240, 6, 6, 1)), rng.integers(0, 3, 240)
    for image, label, place in zip(images, labels, rng.integers(0, 6, 240), strict=True):
        bar = np.s_[place, :] if label == 0 else np.s_[:, place] if label == 1 else (np.arange(6), np.arange(6))
        image[bar] += 1.0
    return images.astype(np.float32), labels


def train_convnet(x: np.ndarray, y: np.ndarray) -> tuple[Sequential, dict[str, list[float]]]:
    minicnn.utils.set_random_seed(7)
    model = Sequential(
        [
            Input((6, 6, 1)),
            layers.Conv2D(6, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(optimizers.Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, epochs=8, batch_size=24, validation_split=0.25, verbose=0)
    return model, history.history


def test_a_convnet_learns_and_the_same_seed_gives_the_same_bits(rng: np.random.Generator) -> None:
    x, y = small_problem(rng)
    model, history = train_convnet(x, y)
    assert history["val_accuracy"][-1] > 0.95
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    again, same_history = train_convnet(x, y)
    assert same_history == history
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_initial_epoch_and_validation_freq_count_epochs_from_one() -> None:
    seen = []
    model = linear_model()
    model.compile("sgd", "mse")
    diary = minicnn.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, "val_loss" in logs)))
    run = {"epochs": 6, "initial_epoch": 1, "validation_data": (X, Y), "validation_freq": 2}
    history = model.fit(X, Y, callbacks=diary, verbose=0, **run)
    assert seen == [(1, True), (2, False), (3, True), (4, False), (5, True)]
    assert history.epoch == [1, 2, 3, 4, 5]
    assert len(history.history["val_loss"]) == 3
    assert model.history is history


def test_validation_data_may_carry_weights_and_may_be_batches() -> None:
    model = linear_model()
    model.compile(optimizers.SGD(0.0), "mse")
    weighted = model.fit(X, Y, validation_data=(X, Y, SUMS), verbose=0).history
    assert weighted["val_loss"] == [pytest.approx((SUMS * ERRORS).mean())]
    batches = model.fit(X, Y, validation_data=iter([(X[:2], Y[:2]), (X[2:], Y[2:])]), verbose=0).history
    assert batches["val_loss"] == [pytest.approx(ERRORS.mean())]


def test_a_callback_can_stop_the_training() -> None:
    class Stop(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.stop_training = epoch == 1

    model = linear_model()
    model.compile("sgd", "mse")
    assert model.fit(X, Y, epochs=5, callbacks=[Stop()], verbose=0).epoch == [0, 1]


def test_after_a_fit_that_raised_the_model_fits_again_without_a_new_compile() -> None:
    class Fail(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise KeyboardInterrupt

    model = linear_model()
    model.compile("sgd", "mse")
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, callbacks=[Fail()], verbose=1)
    with pytest.raises(ValueError, match="rows"):
        model.fit(X, Y[:3], verbose=0)
    losses_seen = model.fit(X, Y, epochs=3, verbose=0).history["loss"]
    assert losses_seen[0] > losses_seen[1] > losses_seen[2]


# --------------------------------------------------------------------------------------------------- what is trained


def test_frozen_layers_stay_as_they_are() -> None:
    x = Input((2,))
    base, head = layers.Dense(3, name="base"), layers.Dense(1, name="head")
    model = Model(x, head(base(x)))
    base.trainable = False
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    after = model.get_weights()
    np.testing.assert_array_equal(after[0], before[0])
    assert not np.array_equal(after[2], before[2])


def test_trainable_set_later_takes_effect_at_the_next_compile() -> None:
    """The usual GAN: the discriminator, compiled before it is frozen for the generator's sake, goes on learning."""
    discriminator = Sequential([Input((2,)), layers.Dense(1)])
    discriminator.compile(optimizers.SGD(0.1), "mse")
    generator = Sequential([Input((3,)), layers.Dense(2)])
    discriminator.trainable = False
    z = Input((3,))
    both = Model(z, discriminator(generator(z)))
    both.compile(optimizers.SGD(0.1), "mse")

    before = discriminator.get_weights()[0].copy()
    both.train_on_batch(np.ones((4, 3)), np.ones((4, 1)))
    np.testing.assert_array_equal(discriminator.get_weights()[0], before)
    discriminator.train_on_batch(X, Y)
    assert not np.array_equal(discriminator.get_weights()[0], before)
    assert not discriminator.trainable_weights  # as the attribute says, outside of a step


def test_batch_norm_follows_training_and_predicts_with_running_statistics() -> None:
    model = Sequential([Input((2,)), layers.BatchNormalization(momentum=0.5)])
    model.compile("sgd", "mse")
    np.testing.assert_allclose(model.predict(X), X / math.sqrt(1 + 1e-3), rtol=1e-5)
    model.train_on_batch(X, X)
    mean, variance = model.get_weights()[2:]
    np.testing.assert_allclose(mean, 0.5 * X.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(variance, 0.5 + 0.5 * X.var(axis=0), rtol=1e-6)
    model.evaluate(X, X, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[2], mean)


def test_a_model_without_trainable_weights_can_be_measured_in_fit() -> None:
    model = linear_model()
    model.trainable = False
    model.compile("sgd", "mse")
    assert model.fit(X, Y, verbose=0).history["loss"] == [pytest.approx(ERRORS.mean())]


def test_the_first_layer_computes_no_input_gradient() -> None:
    asked = []

    class Double(minicnn.Function):
        def forward(self, x: Any, w: Any) -> Any:
            return x @ w

        def backward(self, gy: minicnn.Tensor) -> Any:
            asked.append(self.needs_input_grad)
            return None, minicnn.zeros((2, 1))

    class First(layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.w = self.add_weight((2, 1))

        def call(self, x: minicnn.Tensor) -> minicnn.Tensor:
            return Double.apply(x, self.w)

    model = Sequential([Input((2,)), First()])
    model.compile("sgd", "mse")
    model.train_on_batch(X, Y)
    assert asked == [(False, True)]


def test_train_step_can_be_overridden() -> None:
    class Doubled(Model):
        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            loss = self.compute_loss(x, y, self(x, training=True)) * 2.0
            self.optimizer.apply(minicnn.grad(loss, self.trainable_weights), self.trainable_weights)
            return {"twice": loss.item()}

    x = Input((2,))
    model = Doubled(x, layers.Dense(1, use_bias=False, kernel_initializer="zeros")(x))
    model.compile(optimizers.SGD(0.0), "mse")
    assert model.fit(X, Y, verbose=0).history == {"twice": [pytest.approx(2 * (Y**2).mean())]}


# --------------------------------------------------------------------------------------------------- evaluate, predict


def test_the_third_argument_of_evaluate_is_the_batch_size() -> None:
    sizes = []
    model = linear_model()
    model.compile("sgd", "mse")
    step = model.test_step
    model.test_step = lambda data: (sizes.append(len(data[0])), step(data))[1]  # type: ignore[method-assign]
    model.evaluate(X, Y, 2, verbose=0)
    assert sizes == [2, 2, 1]


def test_predict_joins_batches_and_leaves_no_graph() -> None:
    model = two_outputs()
    first, second = model.predict(X, batch_size=2, verbose=0)
    np.testing.assert_allclose(first, SUMS[:, None], rtol=1e-6)
    np.testing.assert_allclose(second, np.stack([SUMS, SUMS], axis=1), rtol=1e-6)
    assert isinstance(first, np.ndarray)
    np.testing.assert_array_equal(model.predict_on_batch(X)[0], first)
    assert len(model.predict(X, batch_size=2, steps=2, verbose=0)[0]) == 4


def test_metric_arrays_are_logged_as_arrays() -> None:
    model = Sequential([Input((2,)), layers.Dense(2, use_bias=False, kernel_initializer="identity")])
    model.compile("sgd", "mse", metrics=[metrics.ConfusionMatrix(2)])
    logs = model.evaluate(X, np.eye(2)[[0, 1, 0, 0, 1]], verbose=0, return_dict=True)
    np.testing.assert_array_equal(logs["confusion_matrix"], [[3, 0], [0, 2]])


def test_test_on_batch_measures_and_changes_nothing() -> None:
    model = linear_model()
    model.compile(optimizers.SGD(0.1), "mse", metrics=["mae"])
    before = model.get_weights()
    loss, mae = model.test_on_batch(X[:3], Y[:3])
    np.testing.assert_allclose([loss, mae], [ERRORS[:3].mean(), np.sqrt(ERRORS[:3]).mean()], rtol=1e-6)
    assert model.test_on_batch(X[:3], Y[:3], return_dict=True).keys() == {"loss", "mae"}
    np.testing.assert_array_equal(model.get_weights(), before)
