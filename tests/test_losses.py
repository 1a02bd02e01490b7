"""Losses: formulas one number at a time, weights and reductions, saturated probabilities, and errors that teach."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minicnn import activations, losses, no_grad
from minicnn.gradcheck import gradcheck, gradgradcheck
from minicnn.tensor import Tensor

RNG = np.random.default_rng(11)
N, C = 5, 3
LOGITS = RNG.normal(size=(N, C)) * 2
LABELS = np.array([2, 0, 1, 2, 2])
ONE_HOT = np.eye(C)[LABELS]
P = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
YES_NO = RNG.integers(0, 2, (N, C)).astype(float)
CHANCES = RNG.uniform(0.05, 0.95, (N, C))
T, Y = RNG.uniform(0.1, 2, (N, C)), RNG.uniform(0.1, 2, (N, C))


def rowwise(element: Callable[[float, float], float], reduce: Callable[[list[float]], float]) -> Any:
    """A loss as two loops over plain numbers."""

    def loss(t: np.ndarray, y: np.ndarray) -> list[float]:
        return [
            reduce([element(float(a), float(b)) for a, b in zip(u, v, strict=True)]) for u, v in zip(t, y, strict=True)
        ]

    return loss


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def huber_element(t: float, y: float) -> float:
    d = abs(t - y)
    return d * d / 2 if d <= 1 else d - 0.5


FORMULAS: list[tuple[str, Any, np.ndarray, np.ndarray]] = [
    ("categorical_crossentropy", rowwise(lambda t, p: -t * math.log(p), sum), ONE_HOT, P),
    (
        "binary_crossentropy",
        rowwise(lambda t, p: -t * math.log(p) - (1 - t) * math.log(1 - p), mean),
        YES_NO,
        CHANCES,
    ),
    ("hinge", rowwise(lambda t, y: max(1 - t * y, 0), mean), 2 * YES_NO - 1, LOGITS),
    ("hinge", rowwise(lambda t, y: max(1 - (2 * t - 1) * y, 0), mean), YES_NO, LOGITS),
    ("squared_hinge", rowwise(lambda t, y: max(1 - t * y, 0) ** 2, mean), 2 * YES_NO - 1, LOGITS),
    ("kl_divergence", rowwise(lambda t, p: t * math.log(t / p), sum), P[::-1], P),
    ("mean_squared_error", rowwise(lambda t, y: (t - y) ** 2, mean), T, Y),
    ("mean_absolute_error", rowwise(lambda t, y: abs(t - y), mean), T, Y),
    ("mean_absolute_percentage_error", rowwise(lambda t, y: 100 * abs(t - y) / t, mean), T, Y),
    ("mean_squared_logarithmic_error", rowwise(lambda t, y: (math.log1p(t) - math.log1p(y)) ** 2, mean), T, Y),
    ("huber", rowwise(huber_element, mean), T, 2 * Y),
    ("log_cosh", rowwise(lambda t, y: math.log(math.cosh(t - y)), mean), T, Y),
    ("poisson", rowwise(lambda t, y: y - t * math.log(y + 1e-7), mean), T, Y),
]


@pytest.mark.parametrize(("name", "formula", "y_true", "y_pred"), FORMULAS, ids=[case[0] for case in FORMULAS])
def test_a_loss_gives_its_formula_for_each_sample(name: str, formula: Any, y_true: Any, y_pred: Any) -> None:
    np.testing.assert_allclose(getattr(losses, name)(y_true, y_pred).numpy(), formula(y_true, y_pred), rtol=1e-9)


@pytest.mark.parametrize(("name", "formula", "y_true", "y_pred"), FORMULAS, ids=[case[0] for case in FORMULAS])
def test_gradients_of_both_orders_are_right(name: str, formula: Any, y_true: Any, y_pred: Any) -> None:
    function = functools.partial(getattr(losses, name), Tensor(y_true))
    gradcheck(function, Tensor(y_pred, requires_grad=True), tolerance=1e-5)
    gradgradcheck(function, Tensor(y_pred, requires_grad=True), tolerance=1e-4)


@pytest.mark.parametrize(
    ("loss", "y_true"),
    [
        (losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1), ONE_HOT),
        (losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=1), LABELS),
        (losses.SparseCategoricalCrossentropy(), LABELS),
        (losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2), YES_NO),
        (losses.CategoricalHinge(), ONE_HOT),
        (losses.CosineSimilarity(), T),
    ],
    ids=lambda value: value.name if isinstance(value, losses.Loss) else "",
)
def test_weighted_losses_pass_gradcheck(loss: losses.Loss, y_true: np.ndarray) -> None:
    y_pred = P if loss.get_config().get("from_logits") is False else LOGITS
    gradcheck(lambda y: loss(y_true, y, WEIGHTS), Tensor(y_pred, requires_grad=True), tolerance=1e-5)


def test_sparse_labels_give_the_loss_of_their_one_hot_rows() -> None:
    expected = losses.categorical_crossentropy(ONE_HOT, P).numpy()
    np.testing.assert_allclose(losses.sparse_categorical_crossentropy(LABELS, P).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(losses.sparse_categorical_crossentropy(LABELS[:, None], P).numpy(), expected, rtol=1e-12)


def test_categorical_hinge_compares_the_right_output_with_the_best_wrong_one() -> None:
    y_pred = np.array([[2.0, 0.5, -1.0], [0.1, 0.4, 0.3]])
    # right 2.0, best wrong 0.5: nothing to pay; right 0.1, best wrong 0.4: 0.4 - 0.1 + 1
    np.testing.assert_allclose(losses.categorical_hinge(np.eye(3)[[0, 0]], y_pred).numpy(), [0.0, 1.3], rtol=1e-12)


def test_cosine_similarity_is_minus_one_for_the_same_direction_and_zero_for_a_zero_vector() -> None:
    y_true = np.array([[3.0, 4.0], [1.0, 0.0], [1.0, 2.0]])
    y_pred = Tensor(np.array([[30.0, 40.0], [0.0, 2.0], [0.0, 0.0]]), requires_grad=True)
    value = losses.cosine_similarity(y_true, y_pred)
    np.testing.assert_allclose(value.numpy(), [-1.0, 0.0, 0.0], atol=1e-12)
    value.sum().backward()
    assert np.isfinite(y_pred.grad.numpy()).all()


def test_log_cosh_does_not_overflow() -> None:
    np.testing.assert_allclose(losses.log_cosh([[0.0, 0.0]], [[1000.0, -1000.0]]).numpy(), [1000 - math.log(2)])


def test_label_smoothing_mixes_in_the_uniform_distribution() -> None:
    smooth = losses.CategoricalCrossentropy(label_smoothing=0.3)(ONE_HOT, P)
    plain = losses.CategoricalCrossentropy()(0.7 * ONE_HOT + 0.1, P)
    np.testing.assert_allclose(smooth.item(), plain.item(), rtol=1e-12)


def test_probabilities_that_do_not_sum_to_one_are_scaled() -> None:
    np.testing.assert_allclose(
        losses.categorical_crossentropy(ONE_HOT, 7 * P).numpy(), losses.categorical_crossentropy(ONE_HOT, P).numpy()
    )


def test_the_cross_entropy_of_known_numbers() -> None:
    # logits (2, 1, 0.1) give the probabilities (.659001, .242433, .098566); class 1 of (.1, .5, .4) costs log 2
    loss = losses.CategoricalCrossentropy(from_logits=True)([[1, 0, 0]], [[2.0, 1.0, 0.1]])
    np.testing.assert_allclose(loss.item(), -math.log(0.659001), rtol=1e-6)
    assert losses.sparse_categorical_crossentropy([1], [[0.1, 0.5, 0.4]]).item() == pytest.approx(0.693147, abs=1e-6)


# --------------------------------------------------------------------------------------------------- logits

SATURATED = np.array([[1000.0, -1000.0, 0.0], [-800.0, 3.0, 500.0]])


def test_a_saturated_softmax_has_a_finite_loss_and_the_gradient_of_the_logits() -> None:
    for name, y_true in [("categorical_crossentropy", np.eye(3)[[1, 2]]), ("sparse_categorical_crossentropy", [1, 2])]:
        x = Tensor(SATURATED, requires_grad=True)
        loss = losses.get(name)(y_true, activations.softmax(x))
        loss.backward()
        np.testing.assert_allclose(loss.item(), (2000 + 0) / 2, rtol=1e-12)
        np.testing.assert_allclose(x.grad.numpy(), np.array([[1, -1, 0], [0, 0, 0]]) / 2, atol=1e-12)


def test_a_saturated_sigmoid_has_a_finite_loss_and_the_gradient_of_the_logits() -> None:
    x = Tensor(SATURATED, requires_grad=True)
    loss = losses.BinaryCrossentropy()(np.array([[0, 1, 1], [0, 1, 1]]), activations.sigmoid(x))
    loss.backward()
    np.testing.assert_allclose(loss.item(), (1000 + 1000 + math.log(2) + math.log1p(math.exp(-3))) / 6, rtol=1e-12)
    expected = np.array([[1, -1, -0.5], [0, -1 / (1 + math.exp(3)), 0]]) / 6
    np.testing.assert_allclose(x.grad.numpy(), expected, atol=1e-12)


def test_the_loss_is_the_same_without_recording() -> None:
    with no_grad():
        loss = losses.SparseCategoricalCrossentropy()([1, 2], activations.softmax(Tensor(SATURATED)))
    np.testing.assert_allclose(loss.item(), 1000.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("loss", "activation"),
    [("categorical_crossentropy", activations.sigmoid), ("binary_crossentropy", activations.softmax)],
)
def test_logits_of_the_other_activation_are_not_taken(loss: str, activation: Any) -> None:
    x = Tensor(LOGITS, requires_grad=True)
    y = activation(x)
    remembered, bare = losses.get(loss)(ONE_HOT, y), losses.get(loss)(ONE_HOT, Tensor(y.numpy()))
    np.testing.assert_allclose(remembered.item(), bare.item(), rtol=1e-12)


def test_a_softmax_of_equal_logits_is_not_taken_for_a_sigmoid() -> None:
    x, bare = Tensor(np.zeros((2, 2)), requires_grad=True), Tensor(np.zeros((2, 2)), requires_grad=True)
    losses.BinaryCrossentropy()(np.eye(2), activations.softmax(x)).backward()  # all 0.5, as the sigmoid of 0
    losses.BinaryCrossentropy()(np.eye(2), bare.softmax()).backward()
    np.testing.assert_allclose(x.grad.numpy(), bare.grad.numpy(), rtol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), [[-0.25, 0.25], [0.25, -0.25]], rtol=1e-12)


def test_logits_out_of_a_softmax_are_pointed_out() -> None:
    y_pred = activations.softmax(Tensor(LOGITS))
    with pytest.warns(UserWarning, match="came out of a softmax"):
        loss = losses.CategoricalCrossentropy(from_logits=True)(ONE_HOT, y_pred)
    np.testing.assert_allclose(loss.item(), losses.CategoricalCrossentropy()(ONE_HOT, y_pred).item(), rtol=1e-12)


def test_probabilities_of_exactly_zero_and_one_have_a_finite_loss() -> None:
    hard = np.array([[0.0, 1.0], [1.0, 0.0]])
    bound = -math.log(1e-7)
    np.testing.assert_allclose(losses.binary_crossentropy(1 - hard, hard).numpy(), [bound, bound], rtol=1e-6)
    np.testing.assert_allclose(losses.categorical_crossentropy(1 - hard, hard).numpy(), [bound, bound], rtol=1e-6)


# --------------------------------------------------------------------------------------------------- weights, reduction

VALUES = (T - Y) ** 2
WEIGHTS = np.array([0.0, 1.0, 2.0, 0.5, 3.0])


def test_reductions_sum_average_or_leave_the_weighted_losses() -> None:
    each = VALUES.mean(axis=1) * WEIGHTS
    expected = {
        "sum_over_batch_size": each.sum() / N,
        "mean": each.sum() / N,
        "sum": each.sum(),
        "mean_with_sample_weight": each.sum() / WEIGHTS.sum(),
        "none": each,
    }
    for reduction, value in expected.items():
        loss = losses.MeanSquaredError(reduction=reduction)(T, Y, sample_weight=WEIGHTS)
        np.testing.assert_allclose(loss.numpy(), value, rtol=1e-12, err_msg=reduction)


def test_weights_of_shape_n_1_weigh_samples_too() -> None:
    loss = losses.MeanSquaredError()(T, Y, WEIGHTS[:, None])
    np.testing.assert_allclose(loss.item(), losses.MeanSquaredError()(T, Y, WEIGHTS).item(), rtol=1e-12)


def test_a_weight_a_sample_counts_for_all_its_pixels() -> None:
    logits, labels = RNG.normal(size=(2, 3, 2, C)), RNG.integers(0, C, (2, 3, 2))
    values = losses.sparse_categorical_crossentropy(labels, logits, from_logits=True).numpy()
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits, np.array([1.0, 3.0]))
    np.testing.assert_allclose(loss.item(), (values[0].sum() + 3 * values[1].sum()) / 12, rtol=1e-12)


def test_ignored_classes_have_no_part_in_the_mean_nor_in_the_gradient() -> None:
    x = Tensor(LOGITS, requires_grad=True)
    labels = np.where(LABELS == 0, 255, LABELS)
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)(labels, x)
    loss.backward()
    kept = LABELS != 0
    expected = losses.sparse_categorical_crossentropy(LABELS[kept], LOGITS[kept], from_logits=True).numpy().mean()
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-12)
    np.testing.assert_array_equal(x.grad.numpy()[~kept], np.zeros((1, C)))


def test_the_loss_has_the_dtype_of_the_predictions() -> None:
    for dtype in (np.float32, np.float64):
        for name in ("mse", "categorical_crossentropy", "binary_crossentropy", "huber"):
            assert losses.get(name)(ONE_HOT.astype(np.uint8), P.astype(dtype), WEIGHTS).dtype == dtype, name


def test_labels_of_shape_n_go_with_one_output() -> None:
    expected = ((T[:, 0] - Y[:, 0]) ** 2).mean()
    for y_true, y_pred in [(T[:, 0], Y[:, :1]), (T[:, :1], Y[:, 0]), (T[:, :1], Y[:, :1])]:
        np.testing.assert_allclose(losses.MeanSquaredError()(y_true, y_pred).item(), expected, rtol=1e-12)


def test_a_function_of_ones_own_is_weighted_and_reduced() -> None:
    def fourth_power(y_true: Any, y_pred: Any) -> Tensor:
        return ((y_true - y_pred) ** 4).mean(-1)

    loss = losses.get(fourth_power)
    assert loss.name == "fourth_power"
    expected = ((T - Y) ** 4).mean(axis=1) @ WEIGHTS / N
    np.testing.assert_allclose(loss(T, Tensor(Y), WEIGHTS).item(), expected, rtol=1e-12)
    with pytest.raises(TypeError, match="Write it as a class"):
        losses.serialize(fourth_power)


def test_a_class_of_ones_own_needs_only_call() -> None:
    class Bias(losses.Loss):
        def call(self, y_true: Any, y_pred: Any) -> Tensor:
            return (y_pred - y_true).mean(-1)

    np.testing.assert_allclose(Bias()(T, Y).item(), (Y - T).mean(), rtol=1e-12)
    assert Bias().name == "bias"
    with pytest.raises(TypeError, match="must define call"):
        losses.Loss()(T, Y)


# --------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mse", losses.MeanSquaredError),
        ("MSE", losses.MeanSquaredError),
        ("mean_squared_error", losses.MeanSquaredError),
        ("MeanSquaredError", losses.MeanSquaredError),
        ("mae", losses.MeanAbsoluteError),
        ("bce", losses.BinaryCrossentropy),
        ("kullback_leibler_divergence", losses.KLDivergence),
        ("sparse_categorical_crossentropy", losses.SparseCategoricalCrossentropy),
        (losses.CategoricalCrossentropy, losses.CategoricalCrossentropy),
        (losses.categorical_crossentropy, losses.CategoricalCrossentropy),
        ({"class_name": "Huber", "config": {"delta": 2.0}}, losses.Huber),
    ],
)
def test_get_finds_a_loss_by_name_class_function_or_config(name: Any, kind: type) -> None:
    assert type(losses.get(name)) is kind


def test_get_passes_losses_and_none_through() -> None:
    loss = losses.Hinge()
    assert losses.get(loss) is loss
    assert losses.get(None) is None


def test_a_config_makes_an_equal_loss() -> None:
    loss = losses.CategoricalCrossentropy(label_smoothing=0.2, reduction="sum", name="mine")
    again = losses.deserialize(losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    assert again(ONE_HOT, P).item() == loss(ONE_HOT, P).item()


# --------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], LABELS.astype(np.float32)])
def test_integer_labels_to_categorical_crossentropy_name_the_fix(labels: np.ndarray) -> None:
    with pytest.raises(
        ValueError, match=r"integer labels.*sparse_categorical_crossentropy.*to_categorical.*num_classes=3"
    ):
        losses.CategoricalCrossentropy()(labels, P)


def test_one_hot_labels_to_the_sparse_loss_name_the_fix() -> None:
    with pytest.raises(ValueError, match=r"One-hot.*categorical_crossentropy.*argmax"):
        losses.SparseCategoricalCrossentropy()(ONE_HOT, P)
    with pytest.raises(ValueError, match=r"One-hot.*categorical_crossentropy.*argmax"):
        losses.SparseCategoricalCrossentropy(ignore_class=0)(ONE_HOT, P)


@pytest.mark.parametrize("wrong", [3, -1, 1.5])
def test_a_label_outside_of_the_classes_is_named_with_their_number(wrong: float) -> None:
    with pytest.raises(ValueError, match=rf"from 0 to 2, for y_pred has 3 classes. Received: label {wrong}"):
        losses.SparseCategoricalCrossentropy()([0, wrong, 1, 1, 1], P)


@pytest.mark.parametrize("name", ["mse", "binary_crossentropy", "hinge", "kl_divergence", "huber", "cosine_similarity"])
def test_shapes_that_differ_are_shown(name: str) -> None:
    with pytest.raises(ValueError, match=r"Received: y_true of shape \(5, 2\), y_pred of shape \(5, 3\)"):
        losses.get(name)(T[:, :2], Y)


def test_one_class_only_is_refused() -> None:
    with pytest.raises(ValueError, match="binary_crossentropy"):
        losses.CategoricalCrossentropy()(T[:, :1], Y[:, :1])


def test_weights_that_do_not_fit_are_refused() -> None:
    for weights in (np.ones(4), np.ones((5, 2)), np.ones((5, 1, 1))):
        with pytest.raises(ValueError, match="one weight a sample"):
            losses.MeanSquaredError()(T, Y, weights)


def test_an_empty_batch_is_refused() -> None:
    for name in ("mse", "categorical_crossentropy", "sparse_categorical_crossentropy"):
        with pytest.raises(ValueError, match="empty batch"):
            losses.get(name)(np.zeros((0, 3)), np.zeros((0, 3)))


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(ValueError, match="Did you mean 'categorical_crossentropy'"):
        losses.get("categorical_cross_entropy")
    with pytest.raises(TypeError, match="loss must be"):
        losses.get(3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: losses.MeanSquaredError(reduction="average"),
        lambda: losses.CategoricalCrossentropy(label_smoothing=1.5),
        lambda: losses.BinaryCrossentropy(label_smoothing=math.nan),
        lambda: losses.Huber(delta=0),
    ],
)
def test_options_that_make_no_sense_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="Received"):
        make()


def test_dtypes_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(TypeError, match="float32"):
        losses.MeanSquaredError()(T, Y.astype(np.float16))
    with pytest.raises((TypeError, ValueError)):
        losses.MeanSquaredError()(T, np.array([["a"] * 3] * 5))
