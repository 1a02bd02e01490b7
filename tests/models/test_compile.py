"""compile: losses, metrics and logs, of one output and of several, against values computed by hand in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import Input, Model, Sequential, layers, losses, metrics, optimizers
from tests.models.common import ERRORS, SUMS, X, Y, linear_model, two_outputs

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


TARGETS = [np.zeros((5, 1)), np.ones((5, 2))]


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
