"""Means over an epoch, losses as metrics, names, configs, and what "accuracy" comes to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn import activations, losses, metrics
from minicnn.tensor import Tensor

RNG = np.random.default_rng(5)
T, Y = RNG.uniform(0.1, 2, (6, 3)), RNG.uniform(0.1, 2, (6, 3))
WEIGHTS = np.array([1.0, 0.0, 2.0, 0.5, 1.0, 3.0])


def test_mean_weighs_batches_by_their_samples() -> None:
    mean = metrics.Mean("loss")
    mean.update_state(2.0, sample_weight=3)
    mean.update_state(5.0, sample_weight=1)
    assert mean.result() == pytest.approx((2 * 3 + 5) / 4)
    mean.reset_state()
    assert mean.result() == 0.0
    mean.update_state([1.0, 2.0, 6.0])
    assert mean.result() == pytest.approx(3.0)


def test_a_sample_of_many_values_counts_once() -> None:
    mean = metrics.Mean()
    mean.update_state([[1.0, 3.0], [5.0, 7.0]], sample_weight=[3.0, 1.0])
    assert mean.result() == pytest.approx((2 * 3 + 6 * 1) / 4)


def test_results_do_not_depend_on_how_samples_are_cut_into_batches() -> None:
    for name in ("mse", "rmse", "mae", "categorical_accuracy", "auc", "precision", "kl_divergence", "logcosh"):
        whole, parts = metrics.get(name), metrics.get(name)
        labels, outputs = (T > 1).astype(float), Y / 2
        whole.update_state(labels, outputs, WEIGHTS)
        for rows in (slice(0, 1), slice(1, 4), slice(4, 6)):
            parts.update_state(labels[rows], outputs[rows], WEIGHTS[rows])
        assert parts.result() == pytest.approx(whole.result(), rel=1e-12), name


def test_root_mean_squared_error_takes_the_root_at_the_end() -> None:
    metric = metrics.RootMeanSquaredError()
    metric.update_state(T[:2], Y[:2])
    metric.update_state(T[2:], Y[2:])
    assert metric.result() == pytest.approx(np.sqrt(((T - Y) ** 2).mean()))


def test_the_cosine_metric_is_one_for_the_same_direction() -> None:
    assert metrics.CosineSimilarity()([[1.0, 2.0]], [[10.0, 20.0]]) == pytest.approx(1.0)


def test_losses_as_metrics_average_the_samples() -> None:
    metric = metrics.MeanAbsoluteError()
    metric.update_state(T, Y, WEIGHTS)
    assert metric.result() == pytest.approx((np.abs(T - Y).mean(axis=1) * WEIGHTS).sum() / WEIGHTS.sum())


def test_ignored_classes_do_not_count() -> None:
    logits, labels = RNG.normal(size=(6, 3)), np.array([0, 255, 2, 1, 255, 0])
    metric = metrics.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    metric.update_state(labels, logits)
    kept = labels != 255
    expected = losses.sparse_categorical_crossentropy(labels[kept], logits[kept], from_logits=True).numpy().mean()
    assert metric.result() == pytest.approx(expected)


def test_metrics_take_tensors_and_record_nothing() -> None:
    y_pred = activations.softmax(Tensor(Y, requires_grad=True))
    one_hot = np.eye(3)[T.argmax(axis=1)]
    metric = metrics.CategoricalCrossentropy()
    metric.update_state(Tensor(one_hot), y_pred)
    expected = -(one_hot * np.log(y_pred.numpy())).sum(axis=1).mean()
    assert metric.result() == pytest.approx(expected)
    assert isinstance(metric.result(), float)


def test_a_function_of_ones_own_becomes_a_metric() -> None:
    def bias(y_true: Any, y_pred: Any) -> Any:
        return (np.asarray(y_pred) - np.asarray(y_true)).mean(axis=-1)

    metric = metrics.get(bias)
    assert metric.name == "bias"
    metric.update_state(T, Y)
    assert metric.result() == pytest.approx((Y - T).mean())
    with pytest.raises(TypeError, match="Write it as a class"):
        metrics.serialize(bias)


def test_a_class_of_ones_own_works_by_its_three_methods() -> None:
    class LargestError(metrics.Metric):
        def __init__(self, name: str | None = None) -> None:
            super().__init__(name)
            self.reset_state()

        def reset_state(self) -> None:
            self.largest = 0.0

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            self.largest = max(self.largest, float(np.abs(y_true - y_pred).max()))

        def result(self) -> float:
            return self.largest

    metric = LargestError()
    assert metric.name == "largest_error"
    assert metric(T, Y) == pytest.approx(np.abs(T - Y).max())


def test_an_unfinished_class_says_what_is_missing() -> None:
    for call in (metrics.Metric().result, metrics.Metric().reset_state, metrics.Metric().update_state):
        with pytest.raises(TypeError, match="must define"):
            call()


# --------------------------------------------------------------------------------------------------- names

ACCURACIES = [
    # loss, shape of labels, shape of outputs, the class
    ("binary_crossentropy", (8,), (8, 1), metrics.BinaryAccuracy),
    ("binary_crossentropy", (8, 1), (8, 1), metrics.BinaryAccuracy),
    ("mse", (8, 1), (8, 1), metrics.BinaryAccuracy),
    ("mse", (8,), (8,), metrics.BinaryAccuracy),
    ("sparse_categorical_crossentropy", (8,), (8, 5), metrics.SparseCategoricalAccuracy),
    ("sparse_categorical_crossentropy", (8, 1), (8, 5), metrics.SparseCategoricalAccuracy),
    ("sparse_categorical_crossentropy", (8, 3, 3), (8, 3, 3, 5), metrics.SparseCategoricalAccuracy),
    ("categorical_crossentropy", (8, 5), (8, 5), metrics.CategoricalAccuracy),
    ("mse", (8, 5), (8, 5), metrics.CategoricalAccuracy),
    (None, (8, 5), (8, 5), metrics.CategoricalAccuracy),
    ("binary_crossentropy", (8, 5), (8, 5), metrics.BinaryAccuracy),
    (losses.BinaryCrossentropy(from_logits=True), (8, 5), (8, 5), metrics.BinaryAccuracy),
    (losses.binary_crossentropy, (8, 5), (8, 5), metrics.BinaryAccuracy),
]


@pytest.mark.parametrize(("loss", "labels", "outputs", "kind"), ACCURACIES)
@pytest.mark.parametrize("name", ["accuracy", "acc"])
def test_accuracy_follows_shapes_and_loss_and_keeps_its_name(
    name: str, loss: Any, labels: Any, outputs: Any, kind: type
) -> None:
    metric = metrics.resolve(name, loss, labels, outputs)
    assert type(metric) is kind
    assert metric.name == name


def test_several_sigmoid_outputs_have_elementwise_accuracy() -> None:
    metric = metrics.resolve("accuracy", "binary_crossentropy", (2, 3), (2, 3))
    metric.update_state([[1, 0, 1], [0, 0, 1]], [[0.9, 0.2, 0.4], [0.1, 0.8, 0.7]])
    assert metric.result() == pytest.approx(4 / 6)


def test_a_metric_is_logged_under_the_name_it_was_asked_by() -> None:
    assert metrics.resolve("mae", "mse", (4, 1), (4, 1)).name == "mae"
    assert metrics.resolve("AUC", "mse", (4, 1), (4, 1)).name == "AUC"
    given = metrics.Precision(name="mine")
    assert metrics.resolve(given, "mse", (4, 1), (4, 1)) is given
    assert given.name == "mine"
    assert metrics.resolve(metrics.Recall, "mse", (4, 1), (4, 1)).name == "recall"
    assert metrics.resolve(losses.mean_absolute_error, "mse", (4, 1), (4, 1)).name == "mean_absolute_error"
    with pytest.raises(ValueError, match="None"):
        metrics.resolve(None, "mse", (4, 1), (4, 1))


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(ValueError, match="Did you mean 'precision'"):
        metrics.get("precison")
    with pytest.raises(ValueError, match="num_classes"):
        metrics.get("confusion_matrix")
    with pytest.raises(TypeError, match="metric must be"):
        metrics.get(3)


def test_a_config_makes_an_equal_metric() -> None:
    for metric in (
        metrics.AUC(num_thresholds=50, curve="PR", multi_label=True, label_weights=[1, 2, 3]),
        metrics.AUC(thresholds=[0.2, 0.6], name="area"),
        metrics.Precision(thresholds=[0.3, 0.6], class_id=1),
        metrics.TruePositives(thresholds=0.3),
        metrics.FBetaScore("micro", 2.0, 0.4),
        metrics.F1Score("macro"),
        metrics.ConfusionMatrix(3),
        metrics.TopKCategoricalAccuracy(k=2),
        metrics.BinaryCrossentropy(label_smoothing=0.1),
    ):
        again = metrics.deserialize(metrics.serialize(metric))
        assert type(again) is type(metric)
        assert again.get_config() == metric.get_config()


# --------------------------------------------------------------------------------------------------- errors


def test_empty_batches_and_wrong_weights_are_refused() -> None:
    for metric in (metrics.Mean(), metrics.BinaryAccuracy(), metrics.Precision(), metrics.MeanSquaredError()):
        arguments = [np.zeros((0, 3))] * (1 if type(metric) is metrics.Mean else 2)
        with pytest.raises(ValueError, match="empty batch"):
            metric.update_state(*arguments)
    for metric in (metrics.MeanSquaredError(), metrics.Recall(), metrics.F1Score(), metrics.AUC()):
        with pytest.raises(ValueError, match="one weight a sample"):
            metric.update_state(T, Y, np.ones(4))


def test_shapes_that_differ_are_shown() -> None:
    for metric in (metrics.MeanSquaredError(), metrics.RootMeanSquaredError(), metrics.BinaryAccuracy(), metrics.AUC()):
        with pytest.raises(ValueError, match=r"y_true of shape \(6, 2\), y_pred of shape \(6, 3\)"):
            metric.update_state(T[:, :2], Y)
