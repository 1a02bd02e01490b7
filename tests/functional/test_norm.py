"""Normalization: statistics, running and given; derivatives beyond the first; what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn.autograd import grad
from minicnn.gradcheck import gradgradcheck
from minicnn.tensor import Tensor


def normal(rng: np.random.Generator, *shape: int, requires_grad: bool = False) -> Tensor:
    return Tensor(rng.standard_normal(shape) * 3 + 2, requires_grad=requires_grad)


# --------------------------------------------------------------------------------------------------- batch norm


def test_each_channel_has_mean_beta_and_deviation_gamma_over_the_batch(rng: np.random.Generator) -> None:
    x, gamma, beta = normal(rng, 8, 5, 4, 3), Tensor(np.array([1.0, 2.0, 0.5])), Tensor(np.array([0.0, -1.0, 7.0]))
    y = F.batch_norm(x, gamma, beta, epsilon=1e-12).numpy()
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), beta.numpy(), atol=1e-12)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), gamma.numpy(), rtol=1e-11)


def test_running_statistics_move_towards_the_batch_by_one_minus_momentum(rng: np.random.Generator) -> None:
    x = normal(rng, 6, 2, 2, 3)
    mean, var = Tensor(np.array([1.0, 2.0, 3.0])), Tensor(np.array([4.0, 5.0, 6.0]))
    F.batch_norm(x, running_mean=mean, running_var=var, momentum=0.9)
    rows = x.numpy().reshape(-1, 3)
    np.testing.assert_allclose(mean.numpy(), 0.9 * np.array([1, 2, 3]) + 0.1 * rows.mean(axis=0), rtol=1e-13)
    population = ((rows - rows.mean(axis=0)) ** 2).sum(axis=0) / len(rows)  # PyTorch would divide by len(rows) - 1
    np.testing.assert_allclose(var.numpy(), 0.9 * np.array([4, 5, 6]) + 0.1 * population, rtol=1e-13)


def test_running_statistics_move_from_call_to_call(rng: np.random.Generator) -> None:
    mean, var = Tensor(np.zeros(3)), Tensor(np.ones(3))
    batches = [normal(rng, 4, 3) for _ in range(3)]
    want = np.zeros(3)
    for x in batches:
        F.batch_norm(x, running_mean=mean, running_var=var, momentum=0.5)
        want = 0.5 * want + 0.5 * x.numpy().mean(axis=0)
    np.testing.assert_allclose(mean.numpy(), want, rtol=1e-13)


def test_inference_uses_the_running_statistics_and_leaves_them_alone(rng: np.random.Generator) -> None:
    x, gamma, beta = normal(rng, 5, 3), normal(rng, 3), normal(rng, 3)
    mean, var = Tensor(np.array([1.0, 2.0, 3.0])), Tensor(np.array([4.0, 5.0, 6.0]))
    y = F.batch_norm(x, gamma, beta, mean, var, training=False, epsilon=0.1).numpy()
    want = gamma.numpy() * (x.numpy() - [1, 2, 3]) / np.sqrt(np.array([4, 5, 6]) + 0.1) + beta.numpy()
    np.testing.assert_allclose(y, want, rtol=1e-13)
    np.testing.assert_array_equal([mean.numpy(), var.numpy()], [[1, 2, 3], [4, 5, 6]])


def test_running_statistics_stay_out_of_the_graph(rng: np.random.Generator) -> None:
    x, mean, var = normal(rng, 5, 3, requires_grad=True), Tensor(np.zeros(3)), Tensor(np.ones(3))
    F.batch_norm(x, running_mean=mean, running_var=var)
    assert (mean.requires_grad, var.requires_grad) == (False, False)


def test_the_momentum_and_epsilon_are_those_of_keras_by_default() -> None:
    x, mean, var = Tensor(np.array([[1.0], [3.0]])), Tensor(np.zeros(1)), Tensor(np.ones(1))
    y = F.batch_norm(x, running_mean=mean, running_var=var)
    np.testing.assert_allclose(y.numpy(), np.array([[-1], [1]]) / math.sqrt(1 + 1e-3), rtol=1e-13)
    np.testing.assert_allclose([mean.item(), var.item()], [0.01 * 2, 0.99 + 0.01 * 1], rtol=1e-13)


def test_a_constant_channel_becomes_beta() -> None:
    x = Tensor(np.full((4, 2), 7.0), requires_grad=True)
    y = F.batch_norm(x, beta=Tensor(np.array([1.0, -1.0])))
    y.backward(np.arange(8.0).reshape(4, 2))
    np.testing.assert_array_equal(y.numpy(), np.tile([1.0, -1.0], (4, 1)))
    assert np.isfinite(x.grad.numpy()).all()


def test_a_far_mean_does_not_drown_the_variance_in_float32(rng: np.random.Generator) -> None:
    spread = rng.standard_normal((1000, 2))
    x = Tensor(spread + 1000, "float32")
    want = (spread - spread.mean(axis=0)) / np.sqrt(spread.var(axis=0) + 1e-3)
    np.testing.assert_allclose(F.batch_norm(x).numpy(), want, atol=5e-4)


def test_statistics_edited_between_forward_and_backward_are_detected(rng: np.random.Generator) -> None:
    x, mean, var = normal(rng, 5, 3, requires_grad=True), Tensor(np.zeros(3)), Tensor(np.ones(3))
    y = F.batch_norm(x, running_mean=mean, running_var=var, training=False)
    F.batch_norm(x, running_mean=mean, running_var=var)
    with pytest.raises(RuntimeError, match="edited in place"):
        y.sum().backward()


# --------------------------------------------------------------------------------------------------- group, layer norm


def test_layer_norm_normalizes_each_sample_alone(rng: np.random.Generator) -> None:
    x, gamma, beta = normal(rng, 4, 3, 5), normal(rng, 5), normal(rng, 5)
    rows = x.numpy()
    mean, var = rows.mean(axis=-1, keepdims=True), rows.var(axis=-1, keepdims=True)
    want = gamma.numpy() * (rows - mean) / np.sqrt(var + 1e-3) + beta.numpy()
    np.testing.assert_allclose(F.layer_norm(x, gamma, beta).numpy(), want, rtol=1e-12)


@pytest.mark.parametrize("axis", [1, (1, 2), (-1, 0), [2, 3, 1]])
def test_layer_norm_takes_any_axes_in_the_order_of_gamma(rng: np.random.Generator, axis: Any) -> None:
    x = normal(rng, 2, 4, 3, 5)
    axes = tuple(a % 4 for a in ([axis] if isinstance(axis, int) else axis))
    gamma = normal(rng, *[x.shape[a] for a in axes])
    values = x.numpy()
    u = (values - values.mean(axis=axes, keepdims=True)) / np.sqrt(values.var(axis=axes, keepdims=True) + 1e-3)
    letters = "".join("nhwc"[a] for a in axes)
    want = np.einsum(f"nhwc,{letters}->nhwc", u, gamma.numpy())
    np.testing.assert_allclose(F.layer_norm(x, gamma, axis=axis).numpy(), want, rtol=1e-12, atol=1e-14)


def test_group_norm_of_one_group_is_layer_norm_over_the_whole_sample(rng: np.random.Generator) -> None:
    x = normal(rng, 2, 4, 3, 6)
    np.testing.assert_allclose(
        F.group_norm(x, groups=1).numpy(), F.layer_norm(x, axis=(1, 2, 3)).numpy(), rtol=1e-12, atol=1e-14
    )


def test_group_norm_of_a_channel_a_group_normalizes_every_map(rng: np.random.Generator) -> None:
    x = normal(rng, 2, 4, 3, 6)
    maps = x.numpy()
    want = (maps - maps.mean(axis=(1, 2), keepdims=True)) / np.sqrt(maps.var(axis=(1, 2), keepdims=True) + 1e-3)
    np.testing.assert_allclose(F.group_norm(x, groups=6).numpy(), want, rtol=1e-12, atol=1e-14)


# --------------------------------------------------------------------------------------------------- local response


def test_local_response_norm_multiplies_the_whole_sum_by_alpha() -> None:
    x = np.array([[1.0, 2.0, 3.0, 4.0]])
    y = F.local_response_norm(Tensor(x), size=3, alpha=0.5, beta=0.75, k=2.0).numpy()
    energies = np.array([[1 + 4, 1 + 4 + 9, 4 + 9 + 16, 9 + 16]])
    np.testing.assert_allclose(y, x / (2 + 0.5 * energies) ** 0.75, rtol=1e-13)  # PyTorch would take 0.5 / 3


def test_an_even_window_of_channels_reaches_further_down() -> None:
    x = np.array([[1.0, 2.0, 3.0, 4.0]])
    y = F.local_response_norm(Tensor(x), size=2, alpha=1.0, beta=1.0, k=1.0).numpy()
    np.testing.assert_allclose(y, x / (1 + np.array([[1, 1 + 4, 4 + 9, 9 + 16]])), rtol=1e-13)


# --------------------------------------------------------------------------------------------------- twins


@pytest.mark.parametrize(
    "function",
    [
        lambda x, g: F.batch_norm(F.tanh(x) * g, g, g * g),
        lambda x, g: F.group_norm(F.tanh(x) * g, g, g * g, groups=2),
        lambda x, g: F.layer_norm(F.tanh(x) * g, g, g * g),
        lambda x, g: F.local_response_norm(F.tanh(x) * g, size=3, alpha=0.3),
    ],
    ids=["batch", "group", "layer", "response"],
)
def test_second_derivatives_hold_where_one_input_depends_on_another(
    rng: np.random.Generator, function: Callable[..., Tensor]
) -> None:
    x, g = Tensor(rng.standard_normal((3, 2, 4))), Tensor(rng.uniform(0.5, 1.5, 4))
    assert gradgradcheck(function, (x, g), seeds=(0,))


def test_third_derivatives_come_out_of_the_twin_too(rng: np.random.Generator) -> None:
    x = Tensor(rng.standard_normal((5, 2)))
    weights = Tensor(rng.standard_normal((5, 2)))

    def slope(x: Tensor) -> Tensor | None:
        return grad((F.batch_norm(x) ** 2 * weights).sum(), x, create_graph=True)[0]

    assert gradgradcheck(slope, (x,), seeds=(0,))


def test_a_gradient_penalty_leaves_no_graph_behind(rng: np.random.Generator) -> None:
    x, gamma = normal(rng, 5, 3, requires_grad=True), normal(rng, 3, requires_grad=True)
    (gx,) = grad((F.batch_norm(x, gamma) ** 3).sum(), x, create_graph=True)
    (gx**2).sum().backward()
    assert x.grad is not None
    assert x.grad.grad_fn is None
    with pytest.raises(RuntimeError, match="already walked and freed"):
        gx.sum().backward()


# --------------------------------------------------------------------------------------------------- errors

X, C2, C3 = Tensor(np.ones((4, 3))), Tensor(np.ones(2)), Tensor(np.ones(3))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: F.batch_norm(C3), ValueError, r"batch axis and a channel axis.*Received: shape \(3,\)"),
        (lambda: F.batch_norm(X[:0]), ValueError, r"none empty. Received: shape \(0, 3\)"),
        (lambda: F.batch_norm(X.long()), TypeError, "batch_norm: x must be float32 or float64"),
        (lambda: F.batch_norm(X, C2), ValueError, r"gamma must have shape \(3,\). Received: shape \(2,\)"),
        (lambda: F.batch_norm(X, C3.float()), TypeError, "batch_norm: all tensors must have one dtype"),
        (lambda: F.batch_norm(X, None, None, C2, C3), ValueError, r"running_mean must have shape \(3,\)"),
        (lambda: F.batch_norm(X, None, None, C3), ValueError, "belong together"),
        (lambda: F.batch_norm(X, training=False), ValueError, "training=False needs running_mean and running_var"),
        (lambda: F.batch_norm(X, momentum=1.5), ValueError, r"momentum must be a number in \[0, 1\]. Received: 1.5"),
        (lambda: F.batch_norm(X, epsilon=math.nan), ValueError, "epsilon must be a number in .*Received: nan"),
        (lambda: F.layer_norm(X, axis=2), ValueError, r"dim must lie in \[-2, 1\]. Received: 2"),
        (lambda: F.layer_norm(X, axis=(1, -1)), ValueError, r"each once. Received: axis=\(1, -1\)"),
        (lambda: F.layer_norm(X, C3, axis=0), ValueError, r"gamma must have shape \(4,\)"),
        (lambda: F.group_norm(X, groups=2), ValueError, "divide evenly .*Received: 3 channels, groups=2"),
        (lambda: F.local_response_norm(X, size=0), ValueError, "size must be an integer of at least 1. Received: 0"),
        (lambda: F.local_response_norm(X, k=0), ValueError, "k must be a number in .*Received: 0"),
        (lambda: F.local_response_norm(X, alpha=-1e-4), ValueError, "alpha must be a number in .*Received: -0.0001"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_received(
    call: Callable[[], Tensor], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call()


def test_no_grad_still_moves_the_running_statistics() -> None:
    mean, var = Tensor(np.zeros(3)), Tensor(np.ones(3))
    with minicnn.no_grad():
        F.batch_norm(X, running_mean=mean, running_var=var, momentum=0.5)
    np.testing.assert_array_equal(mean.numpy(), [0.5, 0.5, 0.5])
