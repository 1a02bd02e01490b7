"""Every loss and metric against Keras 3, with weights, options and both forms."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs keras")
torch = pytest.importorskip("torch", reason="needs torch")

from minicnn import losses, metrics  # noqa: E402
from minicnn.tensor import Tensor  # noqa: E402

N, C = 7, 4


@pytest.fixture(autouse=True)
def _float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keras in float64 throughout: its promotion rules end at float32, except under TensorFlow."""
    monkeypatch.setitem(keras.src.backend.common.dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


_rng = np.random.default_rng(7)
LOGITS = _rng.normal(size=(N, C)) * 2
LABELS = _rng.integers(0, C, N)
ONE_HOT = np.eye(C)[LABELS]
SOFT = softmax(_rng.normal(size=(N, C)))
PROBABILITIES = softmax(LOGITS)
MULTI_LABEL = _rng.integers(0, 2, (N, C)).astype(float)
SIGMOID = 1 / (1 + np.exp(-LOGITS))
POSITIVE = _rng.uniform(0.1, 3, (N, C))
REAL = _rng.normal(size=(N, C)) * 2
WEIGHTS = _rng.uniform(0.1, 2, N)

# name of the class, options, y_true, y_pred
LOSSES: list[tuple[str, dict[str, Any], np.ndarray, np.ndarray]] = [
    ("CategoricalCrossentropy", {}, ONE_HOT, PROBABILITIES),
    ("CategoricalCrossentropy", {}, SOFT, 3 * PROBABILITIES),
    ("CategoricalCrossentropy", {"from_logits": True}, ONE_HOT, LOGITS),
    ("CategoricalCrossentropy", {"from_logits": True, "label_smoothing": 0.2}, SOFT, LOGITS),
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}, ONE_HOT, PROBABILITIES),
    ("CategoricalCrossentropy", {"axis": 0}, ONE_HOT, PROBABILITIES),
    ("CategoricalCrossentropy", {"axis": 0, "from_logits": True}, ONE_HOT, LOGITS),
    ("SparseCategoricalCrossentropy", {}, LABELS, PROBABILITIES),
    ("SparseCategoricalCrossentropy", {}, LABELS[:, None], 3 * PROBABILITIES),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, LABELS, LOGITS),
    ("SparseCategoricalCrossentropy", {"ignore_class": 1}, LABELS, PROBABILITIES),
    ("SparseCategoricalCrossentropy", {"ignore_class": 1, "from_logits": True}, LABELS[:, None], LOGITS),
    ("SparseCategoricalCrossentropy", {"ignore_class": 255}, np.where(LABELS == 2, 255, LABELS), PROBABILITIES),
    ("BinaryCrossentropy", {}, MULTI_LABEL, SIGMOID),
    ("BinaryCrossentropy", {}, MULTI_LABEL, REAL),  # values outside of [0, 1] are clipped
    ("BinaryCrossentropy", {"from_logits": True}, MULTI_LABEL, LOGITS),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, MULTI_LABEL, LOGITS),
    ("BinaryCrossentropy", {"label_smoothing": 0.3}, MULTI_LABEL, SIGMOID),
    ("BinaryCrossentropy", {}, MULTI_LABEL[:, 0], SIGMOID[:, :1]),
    ("MeanSquaredError", {}, POSITIVE, REAL),
    ("MeanSquaredError", {}, POSITIVE[:, 0], REAL[:, :1]),
    ("MeanSquaredError", {}, POSITIVE[:, :1], REAL[:, 0]),
    ("MeanAbsoluteError", {}, POSITIVE, REAL),
    ("MeanAbsolutePercentageError", {}, POSITIVE, REAL),
    ("MeanSquaredLogarithmicError", {}, POSITIVE, REAL),
    ("Huber", {}, POSITIVE, REAL),
    ("Huber", {"delta": 0.3}, POSITIVE, REAL),
    ("Hinge", {}, MULTI_LABEL, REAL),
    ("Hinge", {}, 2 * MULTI_LABEL - 1, REAL),
    ("SquaredHinge", {}, MULTI_LABEL, REAL),
    ("CategoricalHinge", {}, ONE_HOT, REAL),
    ("KLDivergence", {}, SOFT, PROBABILITIES),
    ("Poisson", {}, POSITIVE, POSITIVE[::-1].copy()),
    ("LogCosh", {}, POSITIVE, REAL),
    ("CosineSimilarity", {}, POSITIVE, REAL),
    ("CosineSimilarity", {"axis": 0}, POSITIVE, REAL),
]
REDUCTIONS = ["sum_over_batch_size", "sum", "none", "mean", "mean_with_sample_weight", None]


def _id(case: Any) -> str:
    return f"{case[0]}-{case[1]}" if isinstance(case, tuple) else str(case)


@pytest.mark.parametrize("case", LOSSES, ids=_id)
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_loss_and_its_gradient_are_those_of_keras(case: Any, reduction: str | None, weighted: bool) -> None:
    name, options, y_true, y_pred = case
    samples = C if options.get("axis") == 0 else N
    weights = WEIGHTS[:samples] if weighted else None
    ours, theirs = Tensor(y_pred, requires_grad=True), torch.tensor(y_pred, requires_grad=True)

    loss = getattr(losses, name)(reduction=reduction, **options)(y_true, ours, weights)
    expected = getattr(keras.losses, name)(reduction=reduction, dtype="float64", **options)(y_true, theirs, weights)

    np.testing.assert_allclose(loss.numpy(), expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    cotangent = np.random.default_rng(1).normal(size=loss.shape)
    loss.backward(Tensor(np.asarray(cotangent)))
    expected.backward(torch.tensor(cotangent))
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-8, atol=1e-10)


def test_samplewise_weights_reach_every_pixel_of_a_sample() -> None:
    logits, labels = _rng.normal(size=(3, 2, 5, C)), _rng.integers(0, C, (3, 2, 5))
    weights = np.array([1.0, 0.5, 2.0])
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits, weights)
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float64")(
        labels, logits, np.broadcast_to(weights[:, None, None], labels.shape).copy()
    )
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-12)


@pytest.mark.parametrize("name", ["categorical_crossentropy", "categorical_hinge", "mse", "mae", "mape", "msle", "kld"])
def test_function_forms_give_the_values_of_keras(name: str) -> None:
    y_true, y_pred = (ONE_HOT, PROBABILITIES) if name.startswith("cat") else (POSITIVE, POSITIVE[::-1].copy())
    values, expected = getattr(losses, name)(y_true, y_pred), keras.losses.get(name)(y_true, y_pred)
    np.testing.assert_allclose(values.numpy(), np.asarray(expected), rtol=1e-9)


@pytest.mark.parametrize("case", LOSSES, ids=_id)
def test_keras_reads_what_a_loss_writes_down_and_the_other_way_round(case: Any) -> None:
    name, options, y_true, y_pred = case
    ours, theirs = getattr(losses, name)(**options), getattr(keras.losses, name)(**options)
    there = keras.losses.deserialize(losses.serialize(ours))
    here = losses.deserialize(keras.losses.serialize(theirs))
    assert type(there) is type(theirs)
    np.testing.assert_allclose(np.asarray(there(y_true, y_pred)), ours(y_true, y_pred).numpy(), rtol=1e-5)
    if name not in ("Huber", "CosineSimilarity", "SparseCategoricalCrossentropy"):  # Keras leaves delta, axis out
        assert here.get_config() == ours.get_config()


# --------------------------------------------------------------------------------------------------- metrics

METRICS: list[tuple[str, dict[str, Any], np.ndarray, np.ndarray]] = [
    ("Accuracy", {}, LABELS, PROBABILITIES.argmax(1)),
    ("BinaryAccuracy", {}, MULTI_LABEL, SIGMOID),
    ("BinaryAccuracy", {"threshold": 0.3}, MULTI_LABEL[:, 0], SIGMOID[:, :1]),
    ("CategoricalAccuracy", {}, ONE_HOT, PROBABILITIES),
    ("SparseCategoricalAccuracy", {}, LABELS, PROBABILITIES),
    ("SparseCategoricalAccuracy", {}, LABELS[:, None], PROBABILITIES),
    ("TopKCategoricalAccuracy", {"k": 2}, ONE_HOT, PROBABILITIES),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, LABELS, PROBABILITIES),
    ("SparseTopKCategoricalAccuracy", {"k": 3}, LABELS, np.round(PROBABILITIES, 1)),  # ties
    ("Precision", {}, MULTI_LABEL, SIGMOID),
    ("Precision", {"thresholds": [0.7, 0.2, 0.5]}, MULTI_LABEL, SIGMOID),
    ("Precision", {"thresholds": [0, 0.25, 0.5, 0.75, 1]}, MULTI_LABEL, SIGMOID),
    ("Precision", {"top_k": 2}, MULTI_LABEL, SIGMOID),
    ("Precision", {"class_id": 1}, MULTI_LABEL, SIGMOID),
    ("Precision", {"top_k": 2, "class_id": 1, "thresholds": 0.4}, MULTI_LABEL, SIGMOID),
    ("Precision", {}, MULTI_LABEL[:, 0], SIGMOID[:, :1]),
    ("Recall", {}, MULTI_LABEL, SIGMOID),
    ("Recall", {"thresholds": [0.7, 0.2, 0.5]}, MULTI_LABEL, SIGMOID),
    ("Recall", {"top_k": 3}, MULTI_LABEL, SIGMOID),
    ("Recall", {"class_id": 2}, MULTI_LABEL, SIGMOID),
    ("TruePositives", {}, MULTI_LABEL, SIGMOID),
    ("FalsePositives", {"thresholds": [0.2, 0.6]}, MULTI_LABEL, SIGMOID),
    ("TrueNegatives", {}, MULTI_LABEL, SIGMOID),
    ("FalseNegatives", {"thresholds": 0.9}, MULTI_LABEL, SIGMOID),
    ("AUC", {}, MULTI_LABEL, SIGMOID),
    ("AUC", {"curve": "PR"}, MULTI_LABEL, SIGMOID),
    ("AUC", {"num_thresholds": 9, "summation_method": "minoring"}, MULTI_LABEL, SIGMOID),
    ("AUC", {"num_thresholds": 9, "summation_method": "majoring", "curve": "PR"}, MULTI_LABEL, SIGMOID),
    ("AUC", {"num_thresholds": 9, "summation_method": "minoring", "curve": "PR"}, MULTI_LABEL, SIGMOID),
    ("AUC", {"thresholds": [0.9, 0.1, 0.4]}, MULTI_LABEL, SIGMOID),
    ("AUC", {"from_logits": True}, MULTI_LABEL, LOGITS),
    ("AUC", {"multi_label": True}, MULTI_LABEL, SIGMOID),
    ("AUC", {"multi_label": True, "curve": "PR"}, MULTI_LABEL, SIGMOID),
    ("AUC", {"multi_label": True, "label_weights": [1.0, 2.0, 0.5, 0.1]}, MULTI_LABEL, SIGMOID),
    ("AUC", {"label_weights": [1.0, 2.0, 0.5, 0.1]}, MULTI_LABEL, SIGMOID),
    ("F1Score", {}, ONE_HOT, PROBABILITIES),
    ("F1Score", {"average": "macro"}, ONE_HOT, PROBABILITIES),
    ("F1Score", {"average": "micro"}, MULTI_LABEL, SIGMOID),
    ("F1Score", {"average": "weighted", "threshold": 0.4}, MULTI_LABEL, SIGMOID),
    ("FBetaScore", {"beta": 2.0, "threshold": 0.5}, MULTI_LABEL, SIGMOID),
    ("FBetaScore", {"beta": 0.5, "average": "micro"}, ONE_HOT, PROBABILITIES),
    ("MeanSquaredError", {}, POSITIVE, REAL),
    ("RootMeanSquaredError", {}, POSITIVE, REAL),
    ("MeanAbsoluteError", {}, POSITIVE, REAL),
    ("MeanAbsolutePercentageError", {}, POSITIVE, REAL),
    ("MeanSquaredLogarithmicError", {}, POSITIVE, REAL),
    ("LogCoshError", {}, POSITIVE, REAL),
    ("CosineSimilarity", {}, POSITIVE, REAL),
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}, ONE_HOT, PROBABILITIES),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, LABELS, LOGITS),
    ("BinaryCrossentropy", {}, MULTI_LABEL, SIGMOID),
    ("KLDivergence", {}, SOFT, PROBABILITIES),
    ("Poisson", {}, POSITIVE, POSITIVE[::-1].copy()),
    ("Hinge", {}, MULTI_LABEL, REAL),
    ("SquaredHinge", {}, MULTI_LABEL, REAL),
    ("CategoricalHinge", {}, ONE_HOT, REAL),
]


@pytest.mark.parametrize("case", METRICS, ids=_id)
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_a_metric_over_two_batches_is_that_of_keras(case: Any, weighted: bool) -> None:
    name, options, y_true, y_pred = case
    ours, theirs = getattr(metrics, name)(**options), getattr(keras.metrics, name)(dtype="float64", **options)
    assert ours.name == theirs.name.rstrip("_0123456789") if name != "F1Score" else ours.name == theirs.name
    for rows in (slice(0, 4), slice(4, N)):
        weights = WEIGHTS[rows] if weighted else None
        ours.update_state(y_true[rows], y_pred[rows], weights)
        theirs.update_state(y_true[rows], y_pred[rows], weights)
    tolerance = 1e-6 if "thresholds" in theirs.get_config() or name == "AUC" else 1e-9  # Keras counts these in float32
    np.testing.assert_allclose(ours.result(), np.asarray(theirs.result()), rtol=tolerance, atol=1e-12)

    ours.reset_state()
    theirs.reset_state()
    ours.update_state(y_true[2:5], y_pred[2:5])
    theirs.update_state(y_true[2:5], y_pred[2:5])
    np.testing.assert_allclose(ours.result(), np.asarray(theirs.result()), rtol=tolerance, atol=1e-12)


@pytest.mark.parametrize("case", [case for case in METRICS if "label_weights" not in case[1]], ids=_id)
def test_keras_reads_what_a_metric_writes_down_and_the_other_way_round(case: Any) -> None:
    name, options, _, _ = case
    ours = getattr(metrics, name)(name="mine", **options)
    theirs = getattr(keras.metrics, name)(name="mine", **options)
    assert type(keras.metrics.deserialize(metrics.serialize(ours))) is type(theirs)
    config = keras.metrics.serialize(theirs)
    config["config"]["dtype"] = ours.dtype
    here = metrics.deserialize(config)
    here.update_state(*case[2:])
    ours.update_state(*case[2:])
    np.testing.assert_array_equal(here.result(), ours.result())


@pytest.mark.parametrize("shape", [(N,), (N, 3), (N, 3, 2)])
def test_mean_with_weights_of_every_rank_is_that_of_keras(shape: tuple[int, ...]) -> None:
    values = _rng.normal(size=shape)
    for axes in range(1, len(shape) + 1):
        weights = _rng.uniform(0.1, 1, shape[:axes])
        ours, theirs = metrics.Mean(), keras.metrics.Mean(dtype="float64")
        ours.update_state(values, weights)
        theirs.update_state(values, weights)
        np.testing.assert_allclose(ours.result(), theirs.result().item(), rtol=1e-12)


@pytest.mark.parametrize("pixels", [(), (3,), (2, 3)])
def test_accuracy_of_pictures_of_labels_is_that_of_keras(pixels: tuple[int, ...]) -> None:
    outputs, labels = _rng.normal(size=(N, *pixels, C)), _rng.integers(0, C, (N, *pixels))
    for name, y_true in [("SparseCategoricalAccuracy", labels), ("CategoricalAccuracy", np.eye(C)[labels])]:
        ours, theirs = getattr(metrics, name)(), getattr(keras.metrics, name)(dtype="float64")
        ours.update_state(y_true, outputs, WEIGHTS)
        theirs.update_state(y_true, outputs, WEIGHTS)
        np.testing.assert_allclose(ours.result(), theirs.result().item(), rtol=1e-12)


@pytest.mark.parametrize("name", ["accuracy", "acc", "mse", "AUC", "precision", "categorical_accuracy"])
@pytest.mark.parametrize(
    "shapes", [((N,), (N, 1)), ((N, 1), (N, 1)), ((N,), (N, C)), ((N, 1), (N, C)), ((N, C), (N, C))]
)
def test_resolve_chooses_and_names_as_keras_does(name: str, shapes: Any) -> None:
    from keras.src.trainers.compile_utils import get_metric

    y_true, y_pred = (np.zeros(shape) for shape in shapes)
    expected = get_metric(name, y_true, y_pred)
    found = metrics.resolve(name, "mse", *shapes)
    assert type(found).__name__ == type(expected).__name__
    assert found.name == expected.name == name
