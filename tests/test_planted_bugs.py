"""Bugs planted in the library itself: the check that the suite runs over the table must find each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minicnn import functional as F
from minicnn.autograd import Function
from minicnn.functional import activation, conv, elementwise, linalg, loss, norm, pool, reduction, shape
from minicnn.samples import SAMPLES, check_sample
from minicnn.tensor import Tensor

VICTIMS: list[tuple[type[Function], str]] = [
    (elementwise.Mul, "mul"),
    (elementwise.Div, "div"),
    (elementwise.Exp, "exp"),
    (reduction.Sum, "sum"),
    (reduction.Extreme, "max"),
    (shape.Permute, "permute"),
    (shape.GetItem, "getitem by integers"),
    (linalg.MatMul, "matmul"),
    (linalg.Dense, "dense"),
    (conv.Conv2d, "conv2d"),
    (conv.Conv2dInputGrad, "conv2d_input_grad"),
    (conv.Conv2dWeightGrad, "conv2d_weight_grad"),
    (pool.MaxPool2d, "max_pool2d"),
    (pool.AvgPool2d, "avg_pool2d"),
    (activation.Activation, "tanh"),
    (activation.Softmax, "softmax"),
    (norm.BatchNorm, "batch_norm"),
    (norm.GroupNorm, "group_norm"),
    (loss.SoftmaxCrossEntropy, "cross_entropy"),
]


def found_by_the_suite(name: str) -> bool:
    """Whether any check of this sample fails, or the engine itself refuses."""
    sample = SAMPLES[name]
    try:
        return not all(report for options in sample.options for report in check_sample(sample, options))
    except (RuntimeError, ValueError):
        return True


def turned(gradient: Tensor) -> Tensor:
    """The gradient with its elements in another order, its shape kept."""
    return gradient.reshape(-1).flip(0).reshape(*gradient.shape)


@pytest.mark.parametrize(
    "spoil",
    [lambda g: g * 0.0, lambda g: -g, lambda g: g * 1.01, turned],
    ids=["zeroed", "negated", "scaled", "reordered"],
)
@pytest.mark.parametrize(("function", "name"), VICTIMS, ids=[function.__name__ for function, _ in VICTIMS])
def test_a_spoiled_backward_is_found(
    function: type[Function], name: str, spoil: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = function.backward

    def wrong(self: Function, *gradients: Tensor) -> Any:
        result = right(self, *gradients)
        parts = result if isinstance(result, tuple) else (result,)
        return tuple(None if part is None else spoil(part) for part in parts)

    assert not found_by_the_suite(name)
    monkeypatch.setattr(function, "backward", wrong)
    assert found_by_the_suite(name)


@pytest.mark.parametrize(
    ("function", "name"), [(elementwise.Add, "add"), (elementwise.Mul, "mul"), (elementwise.Where, "where")]
)
def test_a_forgotten_sum_over_broadcast_axes_is_found(
    function: type[Function], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(function, "broadcasts", False)
    assert found_by_the_suite(name)


def running_mean_after(batches: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    mean, var = Tensor(np.zeros(2)), Tensor(np.ones(2))
    for batch in batches:
        F.batch_norm(Tensor(batch), None, None, mean, var, momentum=0.9)
    return mean.data


def check_running_mean() -> None:
    """Two batches by hand: 0.9 * (0.9 * 0 + 0.1 * m1) + 0.1 * m2."""
    batches = [np.array([[1.0, 2.0], [3.0, 6.0]]), np.array([[5.0, 0.0], [7.0, -2.0]])]
    np.testing.assert_allclose(running_mean_after(batches), [0.9 * 0.1 * 2.0 + 0.1 * 6.0, 0.9 * 0.1 * 4.0 - 0.1 * 1.0])


def test_a_stale_running_mean_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    check_running_mean()
    monkeypatch.setattr(norm, "_move", lambda running, batch, momentum: None)
    with pytest.raises(AssertionError):
        check_running_mean()
