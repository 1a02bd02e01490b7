"""compile, fit, evaluate, predict: what is reported and learned, against losses computed by hand in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import Input, Model, Sequential, layers, losses, metrics, optimizers
from minicnn.callbacks import Callback


def linear_model(kernel: Any = ((1.0,), (-2.0,)), **options: Any) -> Sequential:
    """y = x @ kernel, so that losses can be told by hand."""
    model = Sequential([Input((2,)), layers.Dense(1, use_bias=False, **options)])
    model.set_weights([np.array(kernel)])
    return model


X = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.5], [0.0, 3.0]])
Y = np.array([1.0, 1.0, -1.0, 3.0, 0.0])
ERRORS = (X @ np.array([1.0, -2.0]) - Y) ** 2  # squared, one a row


class Recorder(Callback):
    """Inputs and weights that each training step got."""

    def __init__(self, model: Sequential) -> None:
        super().__init__()
        self.batches: list[Any] = []
        original = model.train_step

        def recording(data: Any) -> Any:
            self.batches.append([None if part is None else part.numpy().copy() for part in data])
            return original(data)

        model.train_step = recording  # type: ignore[method-assign]


def rows_seen(recorder: Recorder) -> list[list[float]]:
    """The first column of x in each batch."""
    return [batch[0][:, 0].tolist() for batch in recorder.batches]


# --------------------------------------------------------------------------------------------------- losses and logs


def test_loss_is_the_mean_over_rows_whatever_the_batches() -> None:
    model = linear_model()
    model.compile("sgd", "mse", metrics=["mae"])
    loss, mae = model.evaluate(X, Y, batch_size=2, verbose=0)  # batches of 2, 2 and 1 rows
    assert loss == pytest.approx(ERRORS.mean())
    assert mae == pytest.approx(np.sqrt(ERRORS).mean())


def test_sample_weights_count_in_the_loss_and_in_weighted_metrics_only() -> None:
    weights = np.array([0.0, 2.0, 1.0, 0.5, 3.0])
    model = linear_model()
    model.compile("sgd", "mse", metrics=["mse"], weighted_metrics=["mse"])
    logs = model.evaluate(X, Y, sample_weight=weights, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx((weights * ERRORS).mean())
    assert logs["mse"] == pytest.approx(ERRORS.mean())
    assert logs["weighted_mse"] == pytest.approx((weights * ERRORS).sum() / weights.sum())


def test_class_weights_are_sample_weights_by_class() -> None:
    labels = np.array([0, 2, 1, 2, 0])
    weights = np.array([1.0, 3.0, 0.5, 3.0, 1.0])  # class 0 is not listed
    for y in (labels, labels[:, None], np.eye(3)[labels]):
        model = Sequential([Input((2,)), layers.Dense(3, activation="softmax", use_bias=False)])
        kernel = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 1.0]])
        model.set_weights([kernel])
        kind = "categorical_crossentropy" if y.shape[-1] == 3 and y.ndim == 2 else "sparse_categorical_crossentropy"
        model.compile(optimizers.SGD(0.0), kind)
        history = model.fit(X, y, class_weight={1: 0.5, 2: 3.0}, verbose=0)
        logits = X @ kernel
        crossentropy = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(5), labels]
        assert history.history["loss"][0] == pytest.approx((weights * crossentropy).mean(), rel=1e-5)


def test_penalties_and_added_losses_are_in_the_reported_loss() -> None:
    class Penalized(layers.Layer):
        def call(self, x: minicnn.Tensor) -> minicnn.Tensor:
            self.add_loss(x.sum() * 0.1)
            return x

    x = Input((2,))
    y = layers.Dense(1, use_bias=False, kernel_regularizer=minicnn.regularizers.L2(0.01))(Penalized()(x))
    model = Model(x, y)
    model.set_weights([np.array([[1.0], [-2.0]])])
    model.compile("sgd", "mse")
    expected = ERRORS.mean() + 0.01 * (1 + 4) + 0.1 * X.sum()
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(expected, rel=1e-6)
    assert model.train_on_batch(X, Y) == pytest.approx(expected, rel=1e-6)


def test_one_step_of_sgd_moves_the_weights_along_the_gradient_by_hand() -> None:
    model = linear_model()
    model.compile(optimizers.SGD(0.1), "mse")
    model.train_on_batch(X, Y)
    kernel = np.array([[1.0], [-2.0]])
    gradient = 2 * X.T @ (X @ kernel - Y[:, None]) / 5
    np.testing.assert_allclose(model.get_weights()[0], kernel - 0.1 * gradient, rtol=1e-6)


def test_logs_of_an_epoch_are_running_means_as_the_weights_change() -> None:
    model, twin = linear_model(), linear_model()
    for each in (model, twin):
        each.compile(optimizers.SGD(0.05), "mse")
    history = model.fit(X, Y, batch_size=2, shuffle=False, verbose=0)
    steps = [twin.train_on_batch(X[i : i + 2], Y[i : i + 2]) for i in (0, 2, 4)]
    assert history.history["loss"] == [pytest.approx((2 * steps[0] + 2 * steps[1] + steps[2]) / 5)]
    np.testing.assert_array_equal(model.get_weights()[0], twin.get_weights()[0])


@pytest.mark.parametrize(("given", "logged"), [("acc", "acc"), ("accuracy", "accuracy")])
def test_accuracy_is_logged_under_the_name_it_was_asked_by(given: str, logged: str) -> None:
    model = linear_model(activation="sigmoid")
    model.compile("sgd", "binary_crossentropy", metrics=[given])
    history = model.fit(X, (Y > 0).astype(int), validation_split=0.4, verbose=0)
    assert list(history.history) == ["loss", logged, "val_loss", f"val_{logged}"]


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_labels_may_be_n_or_n_by_1(shape: tuple[int, ...]) -> None:
    model = linear_model()
    model.compile("sgd", "mse", metrics=["mae"])
    assert model.evaluate(X, Y.reshape(shape), verbose=0)[0] == pytest.approx(ERRORS.mean())


# --------------------------------------------------------------------------------------------------- several outputs


def two_outputs() -> Model:
    x = Input((2,))
    first = layers.Dense(1, use_bias=False, name="first", kernel_initializer="ones")(x)
    second = layers.Dense(2, use_bias=False, name="second", kernel_initializer="ones")(x)
    return Model(x, [first, second])


TARGETS = [np.zeros((5, 1)), np.ones((5, 2))]
SUMS = X.sum(axis=1)


@pytest.mark.parametrize("spelling", ["one for all", "list", "dict"])
def test_losses_of_several_outputs_are_weighted_and_logged_by_name(spelling: str) -> None:
    loss, weights = {
        "one for all": ("mse", [1.0, 0.5]),
        "list": (["mse", losses.MeanSquaredError()], [1.0, 0.5]),
        "dict": ({"second": "mse", "first": "mse"}, {"second": 0.5}),
    }[spelling]
    model = two_outputs()
    model.compile("sgd", loss, loss_weights=weights, metrics={"second": ["mae"]})
    logs = model.evaluate(X, TARGETS, verbose=0, return_dict=True)
    first, second = (SUMS**2).mean(), ((SUMS - 1) ** 2).mean()
    assert list(logs) == ["loss", "first_loss", "second_loss", "second_mae"]
    assert logs["first_loss"] == pytest.approx(first)
    assert logs["second_loss"] == pytest.approx(second)
    assert logs["loss"] == pytest.approx(first + 0.5 * second)
    assert logs["second_mae"] == pytest.approx(np.abs(SUMS - 1).mean())
    assert model.metrics_names == list(logs)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["mae"], ["first_mae", "second_mae"]),
        (["mae", "mse"], ["first_mae", "second_mse"]),
        ([["mae", "mse"], []], ["first_mae", "first_mse"]),
        ({"first": "mae"}, ["first_mae"]),
        (None, []),
    ],
)
def test_metrics_of_several_outputs_by_list_by_name_or_for_all(given: Any, names: list[str]) -> None:
    model = two_outputs()
    model.compile("sgd", "mse", metrics=given)
    logs = model.evaluate(X, TARGETS, verbose=0, return_dict=True)
    assert list(logs) == ["loss", "first_loss", "second_loss", *names]


def test_targets_and_weights_go_by_name_too() -> None:
    model = two_outputs()
    model.compile("sgd", "mse")
    by_order = model.evaluate(X, TARGETS, sample_weight=[SUMS, None], verbose=0)
    by_name = model.evaluate(X, {"second": TARGETS[1], "first": TARGETS[0]}, sample_weight={"first": SUMS}, verbose=0)
    assert by_name == by_order
    assert by_order[1] == pytest.approx((SUMS * SUMS**2).mean())


def test_an_output_without_a_loss_needs_no_target_and_gets_no_gradient() -> None:
    model = two_outputs()
    model.compile("sgd", ["mse", None])
    before = model.get_weights()
    with pytest.warns(UserWarning, match="no gradient for .*second/kernel"):
        model.fit(X, [TARGETS[0]], verbose=0)
    after = model.get_weights()
    assert not np.array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1], before[1])


def test_outputs_in_a_dict_are_logged_by_key() -> None:
    x = Input((2,))
    model = Model(x, {"a": layers.Dense(1)(x), "b": layers.Dense(1)(x)})
    model.compile("sgd", {"a": "mse", "b": "mae"})
    logs = model.evaluate(X, {"b": Y, "a": Y}, verbose=0, return_dict=True)
    assert list(logs) == ["loss", "a_loss", "b_loss"]


def test_wrong_outputs_are_named() -> None:
    model = two_outputs()
    model.compile("sgd", {"frist": "mse"})
    with pytest.raises(ValueError, match=r"loss: the outputs.*'frist'.*Did you mean 'first'"):
        model.evaluate(X, TARGETS, verbose=0)
    model.compile("sgd", ["mse"] * 3)
    with pytest.raises(ValueError, match=r"loss: one an output is needed.*Received: 3"):
        model.evaluate(X, TARGETS, verbose=0)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="y must be a list or a dict"):
        model.evaluate(X, TARGETS[0], verbose=0)
    with pytest.raises(ValueError, match="labels y are needed"):
        model.evaluate(X, verbose=0)
    model.compile("sgd", "mse", metrics=[metrics.MeanAbsoluteError()])
    with pytest.raises(ValueError, match="a metric object measures one output"):
        model.evaluate(X, TARGETS, verbose=0)


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


# --------------------------------------------------------------------------------------------------- compile


def test_fit_before_compile_says_so() -> None:
    for call in ("fit", "evaluate", "train_on_batch", "test_on_batch"):
        with pytest.raises(ValueError, match=rf"{call}: say how the model learns first: model.compile"):
            getattr(linear_model(), call)(X, Y)


def test_compile_tells_unknown_names_at_once() -> None:
    model = linear_model()
    with pytest.raises(ValueError, match="Did you mean 'adam'"):
        model.compile("adm", "mse")
    with pytest.raises(ValueError, match="Did you mean 'categorical_crossentropy'"):
        model.compile("adam", ["categorical_crossentropi"])
    with pytest.raises(ValueError, match="Did you mean 'precision'"):
        model.compile("adam", "mse", metrics=["precison"])


def test_a_model_with_nothing_to_minimize_says_so() -> None:
    model = linear_model()
    model.compile("sgd")
    with pytest.raises(ValueError, match="has no loss"):
        model.fit(X, Y, verbose=0)


def test_integer_labels_to_categorical_crossentropy_name_the_fix() -> None:
    model = Sequential([Input((2,)), layers.Dense(3, activation="softmax")])
    model.compile("sgd", "categorical_crossentropy")
    with pytest.raises(ValueError, match="sparse_categorical_crossentropy"):
        model.fit(X, np.array([0, 1, 2, 1, 0]), verbose=0)


def test_an_error_at_the_first_batch_leaves_no_trace() -> None:
    model = two_outputs()
    model.compile("sgd", "mse", metrics=[["mae"], ["categorical_accuracy", "mae"]])
    for wrong in (TARGETS[:1], [TARGETS[0], np.ones((5, 3))], [TARGETS[0], None]):
        with pytest.raises(ValueError):  # noqa: PT011 -- which one is told elsewhere
            model.fit(X, wrong, verbose=0)
    assert list(model.fit(X, TARGETS, verbose=0).history) == [
        "loss", "first_loss", "second_loss", "first_mae", "second_categorical_accuracy", "second_mae",
    ]  # fmt: skip


def test_configs_serve_as_losses_and_metrics() -> None:
    model = linear_model()
    model.compile(
        "sgd", losses.serialize(losses.MeanAbsoluteError()), metrics=[metrics.serialize(metrics.MeanSquaredError())]
    )
    expected = [pytest.approx(np.sqrt(ERRORS).mean()), pytest.approx(ERRORS.mean())]
    assert model.evaluate(X, Y, verbose=0) == expected


def test_compile_config_round_trip() -> None:
    model = linear_model()
    model.compile(
        optimizers.Adam(0.003),
        losses.Huber(0.5),
        metrics=["mae", metrics.MeanSquaredError(name="m")],
        loss_weights=[2.0],
    )
    again = linear_model()
    again.compile_from_config(model.get_compile_config())
    assert again.optimizer.learning_rate == pytest.approx(0.003)
    assert again.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    assert again.metrics_names == ["loss", "mae", "m"]
    assert linear_model().get_compile_config() == {}
