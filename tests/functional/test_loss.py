"""Losses: saturated logits, closed forms, smoothing, reductions, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

from minicnn import functional as F
from minicnn.autograd import grad
from minicnn.tensor import Tensor

# --------------------------------------------------------------------------------------------------- cross-entropy


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saturated_logits_give_the_exact_loss_and_no_nan(dtype: str) -> None:
    x = Tensor([[1000.0, 0.0, -1000.0]] * 3, dtype, requires_grad=True)
    loss = F.cross_entropy(x, Tensor([0, 1, 2]), reduction="none")
    loss.backward(np.ones(3, dtype))
    np.testing.assert_array_equal(loss.numpy(), [0, 1000, 2000])
    np.testing.assert_array_equal(x.grad.numpy(), [[0, 0, 0], [1, -1, 0], [1, 0, -1]])


def test_the_loss_of_a_known_distribution_is_minus_the_log_of_its_class() -> None:
    p = np.array([[0.1, 0.5, 0.4]])
    np.testing.assert_allclose(F.cross_entropy(Tensor(np.log(p)), Tensor([1])).item(), 0.693147, atol=5e-7)


def test_the_gradient_is_the_softmax_minus_the_target(rng: np.random.Generator) -> None:
    x, labels = Tensor(rng.standard_normal((5, 4)), requires_grad=True), np.array([3, 0, 0, 2, 1])
    F.cross_entropy(x, Tensor(labels), reduction="sum").backward()
    np.testing.assert_allclose(x.grad.numpy(), F.softmax(x).numpy() - np.eye(4)[labels], rtol=1e-12)


def test_classes_and_their_one_hot_rows_give_one_loss(rng: np.random.Generator) -> None:
    x, labels = Tensor(rng.standard_normal((5, 4))), np.array([3, 0, 0, 2, 1])
    sparse = F.cross_entropy(x, Tensor(labels), reduction="none")
    dense = F.cross_entropy(x, Tensor(np.eye(4, dtype=np.float32)[labels]), reduction="none")
    np.testing.assert_allclose(sparse.numpy(), dense.numpy(), rtol=1e-13)


@pytest.mark.parametrize("sparse", [True, False])
def test_label_smoothing_mixes_the_target_with_equal_shares(rng: np.random.Generator, sparse: bool) -> None:
    x, labels = rng.standard_normal((5, 4)), np.array([3, 0, 0, 2, 1])
    target = Tensor(labels if sparse else np.eye(4)[labels])
    smooth = 0.9 * np.eye(4)[labels] + 0.1 / 4
    want = -(smooth * F.log_softmax(Tensor(x)).numpy()).sum(axis=1)
    np.testing.assert_allclose(F.cross_entropy(Tensor(x), target, 0.1, "none").numpy(), want, rtol=1e-13)


def test_probabilities_have_a_gradient_of_their_own(rng: np.random.Generator) -> None:
    x = Tensor(rng.standard_normal((3, 4)))
    target = Tensor(rng.dirichlet(np.ones(4), 3), requires_grad=True)
    F.cross_entropy(x, target, reduction="sum").backward()
    np.testing.assert_allclose(target.grad.numpy(), -F.log_softmax(x).numpy(), rtol=1e-13)


def test_rows_may_be_laid_out_in_any_shape(rng: np.random.Generator) -> None:
    x, labels = rng.standard_normal((2, 3, 5, 4)), rng.integers(0, 4, (2, 3, 5))
    loss = F.cross_entropy(Tensor(x), Tensor(labels), reduction="none")
    flat = F.cross_entropy(Tensor(x.reshape(30, 4)), Tensor(labels.reshape(30)), reduction="none")
    assert loss.shape == (2, 3, 5)
    np.testing.assert_array_equal(loss.numpy().ravel(), flat.numpy())


def test_the_second_derivative_is_the_jacobian_of_softmax(rng: np.random.Generator) -> None:
    x, v = Tensor(rng.standard_normal((1, 4)), requires_grad=True), rng.standard_normal((1, 4))
    (g,) = grad(F.cross_entropy(x, Tensor([2])), x, create_graph=True)
    (hv,) = grad(g, x, v)
    p = F.softmax(x).numpy()[0]
    np.testing.assert_allclose(hv.numpy()[0], (np.diag(p) - np.outer(p, p)) @ v[0], rtol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_reduced_losses_are_those_of_the_rows_together(
    rng: np.random.Generator, reduction: Literal["mean", "sum"]
) -> None:
    logits, labels = rng.standard_normal((2, 3, 4)), Tensor(rng.integers(0, 4, (2, 3)))
    x, y = Tensor(logits, requires_grad=True), Tensor(logits, requires_grad=True)
    at_once = F.cross_entropy(x, labels, reduction=reduction)
    of_rows = F.cross_entropy(y, labels, reduction="none")
    expected = of_rows.mean() if reduction == "mean" else of_rows.sum()
    np.testing.assert_allclose(at_once.item(), expected.item(), rtol=1e-14)
    at_once.backward(Tensor(np.array(0.7)))
    expected.backward(Tensor(np.array(0.7)))
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-13)


def test_labels_edited_before_backward_are_noticed() -> None:
    x, labels = Tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True), Tensor([0, 1])
    loss = F.cross_entropy(x, labels)
    labels[0] = 1
    with pytest.raises(RuntimeError, match="edited in place"):
        loss.backward()


@pytest.mark.parametrize("dtype", ["int8", "uint16", "uint64"])
def test_labels_of_any_integer_dtype_are_checked(dtype: str) -> None:
    x = Tensor([[1.0, 2.0], [3.0, 5.0]])
    assert F.cross_entropy(x, Tensor(np.array([0, 1], dtype))).item() > 0
    with pytest.raises(ValueError, match=r"Received: class 2 in row 1 \(1 of 2"):
        F.cross_entropy(x, Tensor(np.array([0, 2], dtype)))


def test_nll_loss_after_log_softmax_is_cross_entropy(rng: np.random.Generator) -> None:
    x, labels = Tensor(rng.standard_normal((5, 4)), requires_grad=True), Tensor([3, 0, 0, 2, 1])
    gradients = []
    for loss in (F.nll_loss(F.log_softmax(x), labels), F.cross_entropy(x, labels)):
        (g,) = grad(loss, x)
        gradients.append([loss.item(), *g.numpy().ravel()])
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_labels_may_be_of_any_integer_dtype(dtype: str) -> None:
    x = Tensor(np.log([[0.25, 0.75], [0.5, 0.5]]))
    loss = F.cross_entropy(x, Tensor(np.array([1, 0], dtype)), reduction="none")
    np.testing.assert_allclose(loss.numpy(), [-math.log(0.75), math.log(2)], rtol=1e-13)


# --------------------------------------------------------------------------------------------------- binary


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saturated_binary_logits_give_the_exact_loss_and_no_nan(dtype: str) -> None:
    x = Tensor([1000.0, 1000.0, -1000.0, -1000.0], dtype, requires_grad=True)
    t = Tensor([1.0, 0.0, 1.0, 0.0], dtype)
    loss = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    loss.backward(np.ones(4, dtype))
    np.testing.assert_array_equal(loss.numpy(), [0, 1000, 1000, 0])
    np.testing.assert_array_equal(x.grad.numpy(), [0, 1, -1, 0])


def test_binary_loss_of_a_sure_right_answer_keeps_its_digits() -> None:
    x, t = Tensor(np.array([40.0, -40.0])), Tensor(np.array([1.0, 0.0]))
    loss = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    np.testing.assert_allclose(loss.numpy(), [math.exp(-40)] * 2, rtol=1e-13)


def test_binary_losses_on_logits_and_on_probabilities_agree(rng: np.random.Generator) -> None:
    x, t = Tensor(rng.standard_normal((4, 3))), Tensor(rng.random((4, 3)))
    on_logits = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    on_probabilities = F.binary_cross_entropy(F.sigmoid(x), t, reduction="none")
    np.testing.assert_allclose(on_logits.numpy(), on_probabilities.numpy(), rtol=1e-12)


def test_probabilities_of_0_and_1_are_held_off_by_epsilon() -> None:
    p = Tensor(np.array([0.0, 1.0, 1.0, 0.0]), requires_grad=True)
    loss = F.binary_cross_entropy(p, Tensor([0, 1, 0, 1]), reduction="none")
    loss.backward(np.ones(4))
    np.testing.assert_allclose(loss.numpy(), [-math.log1p(-1e-7)] * 2 + [-math.log(1e-7)] * 2, rtol=1e-8)
    np.testing.assert_array_equal(p.grad.numpy(), np.zeros(4))


# --------------------------------------------------------------------------------------------------- regression


def test_formulas_of_the_elementwise_losses() -> None:
    x, t = Tensor(np.array([1.0, -2.0, 0.5, 4.0])), Tensor(np.array([1.5, 1.0, 0.5, -1.0]))
    signs = Tensor(np.array([1.0, 1.0, -1.0, -1.0]))
    for loss, want in [
        (F.mse_loss(x, t, "none"), [0.25, 9, 0, 25]),
        (F.l1_loss(x, t, "none"), [0.5, 3, 0, 5]),
        (F.huber_loss(x, t, "none"), [0.125, 2.5, 0, 4.5]),
        (F.huber_loss(x, t, "none", delta=4.0), [0.125, 4.5, 0, 4 * (5 - 2)]),
        (F.hinge_loss(x, signs, "none"), [0, 3, 1.5, 5]),
        (F.squared_hinge_loss(x, signs, "none"), [0, 9, 2.25, 25]),
    ]:
        np.testing.assert_allclose(loss.numpy(), want, rtol=1e-14)


def test_huber_joins_its_two_pieces_with_one_slope() -> None:
    x = Tensor(np.array([0.7 - 1e-9, 0.7, 0.7 + 1e-9]), requires_grad=True)
    loss = F.huber_loss(x, Tensor(np.zeros(3)), "none", delta=0.7)
    loss.backward(np.ones(3))
    np.testing.assert_allclose(loss.numpy(), [0.7 * 0.35] * 3, rtol=1e-8)
    np.testing.assert_allclose(x.grad.numpy(), [0.7] * 3, rtol=1e-8)


@pytest.mark.parametrize(
    "loss",
    [F.mse_loss, F.l1_loss, F.huber_loss, F.hinge_loss, F.squared_hinge_loss, F.binary_cross_entropy_with_logits],
)
def test_reductions_are_the_mean_and_sum_of_the_elements(rng: np.random.Generator, loss: Callable[..., Tensor]) -> None:
    x, t = Tensor(rng.standard_normal((3, 2))), Tensor(np.array([[1, 1], [-1, 1], [-1, -1]]))
    elements = [e for row in loss(x, t, reduction="none").tolist() for e in row]
    np.testing.assert_allclose(loss(x, t, reduction="sum").item(), math.fsum(elements), rtol=1e-13)
    np.testing.assert_allclose(loss(x, t).item(), math.fsum(elements) / 6, rtol=1e-13)


def test_a_float64_target_does_not_make_a_float32_loss_float64() -> None:
    assert F.mse_loss(Tensor([1.0, 2.0]), Tensor(np.zeros(2))).dtype == np.float32
    assert F.cross_entropy(Tensor([[1.0, 2.0]]), Tensor(np.array([[0.5, 0.5]]))).dtype == np.float32


# --------------------------------------------------------------------------------------------------- errors

X, LABELS = Tensor(np.ones((4, 3))), Tensor([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: F.cross_entropy(X, LABELS.double()), TypeError, r"labels must be integers.*to\('int64'\).*float64"),
        (lambda: F.cross_entropy(X, Tensor(np.eye(4, 3, dtype=int))), ValueError, r"One-hot rows .*to\('float32'\)"),
        (lambda: F.cross_entropy(X, LABELS[:3]), ValueError, r"shape \(4,\) for logits \(4, 3\). Received: .*\(3,\)"),
        (lambda: F.cross_entropy(X, X[:, :2]), ValueError, r"shape of the logits, \(4, 3\). Received: .* \(4, 2\)"),
        (lambda: F.cross_entropy(X, LABELS + 1), ValueError, r"lie in \[0, 2\].*Received: class 3 in row 2 \(1 of 4"),
        (lambda: F.cross_entropy(X, LABELS - 1), ValueError, r"lie in \[0, 2\].*Received: class -1 in row 0 \(2 of 4"),
        (lambda: F.cross_entropy(X[:0], LABELS[:0]), ValueError, r"no axis empty. Received: shape \(0, 3\)"),
        (lambda: F.cross_entropy(X.long(), LABELS), TypeError, "logits must be float32 or float64"),
        (lambda: F.cross_entropy(X, LABELS, 1.5), ValueError, r"label_smoothing must be .*\[0, 1\]. Received: 1.5"),
        (lambda: F.cross_entropy(X, LABELS, math.nan), ValueError, "label_smoothing must be .*Received: nan"),
        (lambda: F.cross_entropy(X, LABELS, 0, "avg"), ValueError, "reduction must be one of .*Received: 'avg'"),  # type: ignore[arg-type]
        (lambda: F.nll_loss(X, X), TypeError, "nll_loss: class labels must be integers"),
        (lambda: F.nll_loss(X, LABELS + 7), ValueError, "nll_loss: classes must lie in"),
        (lambda: F.mse_loss(X, LABELS), ValueError, r"mse_loss: input and target .*\(4, 3\) and \(4,\)"),
        (lambda: F.mse_loss(X[:, :1], LABELS), ValueError, "One has an extra axis of length 1"),
        (lambda: F.mse_loss(X[:0], X[:0]), ValueError, "an empty batch has no loss"),
        (lambda: F.huber_loss(X, X, delta=0), ValueError, "delta must be a number in .*Received: 0"),
        (lambda: F.binary_cross_entropy(X * 2, X), ValueError, r"in \[0, 1\].*Received: values from 2.0 to 2.0"),
        (lambda: F.binary_cross_entropy(X, X, epsilon=0), ValueError, "epsilon must be a number in .*Received: 0"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named_with_what_was_received(
    call: Callable[[], Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call()
