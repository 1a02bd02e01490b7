"""Activations: far values, kinks, defaults, axes of softmax, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minicnn import functional as F
from minicnn.autograd import grad
from minicnn.functional.activation import activation_backward
from minicnn.tensor import Tensor

SMOOTH = [
    F.elu, F.exponential, F.gelu, F.hard_sigmoid, F.leaky_relu, F.mish, F.relu, F.relu6, F.selu, F.sigmoid, F.silu,
    F.softplus, F.softsign, F.tanh,
]  # fmt: skip


def value_and_slope(function: Callable[[Tensor], Tensor], *points: float) -> tuple[Any, Any]:
    x = Tensor(np.array(points, np.float64), requires_grad=True)
    y = function(x)
    (slope,) = grad(y, x, np.ones(len(points)))
    assert slope is not None
    return y.numpy(), slope.numpy()


# --------------------------------------------------------------------------------------------------- far values


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", [f for f in SMOOTH if f is not F.exponential], ids=lambda f: f.__name__)
def test_far_values_overflow_nowhere(function: Callable[[Tensor], Tensor], dtype: str) -> None:
    x = Tensor([-1e4, -100.0, 0.0, 100.0, 1e4], dtype, requires_grad=True)
    y = function(x)
    y.backward(np.ones(5, dtype))
    assert np.isfinite(y.numpy()).all()
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("function", SMOOTH, ids=lambda f: f.__name__)
def test_nan_passes_through(function: Callable[[Tensor], Tensor]) -> None:
    assert np.isnan(function(Tensor([np.nan])).numpy()).all()


def test_softplus_keeps_the_digits_of_small_results() -> None:
    value, slope = value_and_slope(F.softplus, -50.0, 0.0, 50.0)
    np.testing.assert_allclose(value, [math.exp(-50), math.log(2), 50 + math.exp(-50)], rtol=1e-14)
    np.testing.assert_allclose(slope, [math.exp(-50), 0.5, 1], rtol=1e-14)


def test_gelu_is_exact() -> None:
    points = np.linspace(-7, 7, 57)
    want = [x * math.erfc(-x / math.sqrt(2)) / 2 for x in points]
    np.testing.assert_allclose(F.gelu(Tensor(points)).numpy(), want, rtol=0, atol=2e-14)


def test_gelu_of_float32_is_as_exact_as_float32_can_be() -> None:
    points = np.linspace(0.5, 7, 27).astype(np.float32)
    want = [x * math.erfc(-x / math.sqrt(2)) / 2 for x in points.tolist()]
    y = F.gelu(Tensor(points))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.numpy(), want, rtol=3e-7)


def test_gelu_by_tanh_is_near_the_exact_one() -> None:
    points = Tensor(np.linspace(-4, 4, 33))
    np.testing.assert_allclose(F.gelu(points, approximate=True).numpy(), F.gelu(points).numpy(), atol=5e-4)


# --------------------------------------------------------------------------------------------------- shapes of curves


def test_kinks_take_the_slope_of_their_flat_side() -> None:
    np.testing.assert_array_equal(value_and_slope(F.relu, -1, 0, 1)[1], [0, 0, 1])
    np.testing.assert_array_equal(value_and_slope(F.relu6, -1, 0, 3, 6, 7)[1], [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(value_and_slope(F.leaky_relu, -1, 0, 1)[1], [0.2, 0.2, 1])


def test_leaky_relu_has_the_slope_of_keras_by_default() -> None:
    np.testing.assert_allclose(value_and_slope(F.leaky_relu, -3, 2)[0], [-0.6, 2])
    np.testing.assert_allclose(value_and_slope(lambda x: F.leaky_relu(x, 0.01), -3, 2)[0], [-0.03, 2])


def test_formulas_of_the_composed_activations() -> None:
    x = np.array([-4.0, -1.5, 0.5, 2.0])
    sigmoid = 1 / (1 + np.exp(-x))
    softplus = np.log1p(np.exp(x))
    for function, want in [
        (F.sigmoid, sigmoid),
        (F.silu, x * sigmoid),
        (F.softsign, x / (1 + np.abs(x))),
        (F.hard_sigmoid, [0, 0.25, 3.5 / 6, 5 / 6]),
        (F.mish, x * np.tanh(softplus)),
        (F.exponential, np.exp(x)),
        (F.elu, np.where(x > 0, x, np.exp(x) - 1)),
        (F.selu, 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1))),
    ]:
        np.testing.assert_allclose(function(Tensor(x)).numpy(), want, rtol=1e-13, err_msg=function.__name__)


def test_selu_keeps_mean_0_and_variance_1(rng: np.random.Generator) -> None:
    y = F.selu(Tensor(rng.standard_normal(400_000))).numpy()
    np.testing.assert_allclose([y.mean(), y.var()], [0, 1], atol=0.01)


def test_prelu_learns_one_slope_a_channel() -> None:
    x = Tensor(np.array([[-1.0, 2.0], [-3.0, -4.0]]), requires_grad=True)
    alpha = Tensor(np.array([0.1, 0.5]), requires_grad=True)
    y = F.prelu(x, alpha)
    y.backward(np.array([[1.0, 10.0], [100.0, 1000.0]]))
    np.testing.assert_allclose(y.numpy(), [[-0.1, 2], [-0.3, -2]])
    np.testing.assert_allclose(x.grad.numpy(), [[0.1, 10], [10, 500]])
    np.testing.assert_allclose(alpha.grad.numpy(), [-1 - 300, -4000])


@pytest.mark.parametrize(
    ("name", "bend"),
    [
        ("sigmoid", lambda y: y * (1 - y) * (1 - 2 * y)),
        ("tanh", lambda y: -2 * y * (1 - y * y)),
        ("elu", lambda y: np.where(y > 0, 0, y + 1)),
        ("relu", lambda y: 0 * y),
    ],
)
def test_second_derivatives_are_those_of_the_textbook(name: str, bend: Callable[[Any], Any]) -> None:
    x = Tensor(np.array([-2.0, -0.5, 0.3, 1.7]), requires_grad=True)
    y = getattr(F, name)(x)
    (slope,) = grad(y, x, np.ones(4), create_graph=True)
    (second,) = grad(slope, x, np.ones(4), allow_unused=True)
    got = np.zeros(4) if second is None else second.numpy()
    np.testing.assert_allclose(got, bend(y.numpy()), rtol=1e-13, atol=1e-16)


def test_activation_backward_takes_any_view_as_gradient() -> None:
    y = Tensor(np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]))
    gy = Tensor(np.arange(6.0).reshape(3, 2)).T
    np.testing.assert_array_equal(activation_backward(gy, y, "relu").numpy(), [[0, 0, 4], [0, 3, 0]])


# --------------------------------------------------------------------------------------------------- softmax


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2])
def test_softmax_sums_to_one_along_its_axis_and_undoes_the_logarithm(rng: np.random.Generator, dim: int) -> None:
    x = rng.standard_normal((2, 3, 4))
    powers = np.exp(x)
    want = powers / powers.sum(axis=dim, keepdims=True)
    np.testing.assert_allclose(F.softmax(Tensor(x), dim).numpy(), want, rtol=1e-13)
    np.testing.assert_allclose(F.log_softmax(Tensor(x), dim).numpy(), np.log(want), rtol=1e-12)


def test_softmax_of_far_logits_is_finite_and_its_logarithm_exact() -> None:
    x = Tensor([[1000.0, 0.0], [-1000.0, -1001.0]], "float32")
    np.testing.assert_allclose(F.softmax(x).numpy(), [[1, 0], [0.7310586, 0.2689414]], rtol=1e-6)
    np.testing.assert_allclose(F.log_softmax(x).numpy(), [[0, -1000], [-0.3132617, -1.3132617]], rtol=1e-6)


def test_softmax_of_three_logits() -> None:
    y = F.softmax(Tensor(np.array([2.0, 1.0, 0.1])))
    np.testing.assert_allclose(y.numpy(), [0.659001, 0.242433, 0.098566], atol=5e-7)


# --------------------------------------------------------------------------------------------------- errors

X = Tensor(np.ones((2, 3)))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: F.relu(Tensor([1, 2])), TypeError, "relu: x must be float32 or float64.*Received: int64"),
        (lambda: F.softmax(Tensor([1, 2])), TypeError, "softmax: x must be float32 or float64"),
        (lambda: F.softmax(X, 2), ValueError, r"softmax: dim must lie in \[-2, 1\]. Received: 2"),
        (lambda: F.leaky_relu(X, 0), ValueError, "negative_slope must be a number in .*Received: 0"),
        (lambda: F.leaky_relu(X, math.nan), ValueError, "negative_slope must be a number in .*Received: nan"),
        (lambda: F.elu(X, -1.0), ValueError, "elu: alpha must be a number in .*Received: -1.0"),
        (lambda: F.elu(X, "1"), ValueError, "elu: alpha must be a number in .*Received: '1'"),  # type: ignore[arg-type]
        (lambda: F.prelu(X, Tensor(np.ones(2))), ValueError, r"alpha must broadcast to x. Received: alpha \(2,\)"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_received(
    call: Callable[[], Tensor], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call()
