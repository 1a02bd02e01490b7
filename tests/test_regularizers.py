"""Penalties on weights: values, gradients, names."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn import Tensor, regularizers

WEIGHTS = np.array([[1.0, -2.0], [0.5, -3.0]])  # |w| sums to 6.5, w**2 to 14.25


@pytest.mark.parametrize(
    ("regularizer", "penalty", "gradient"),
    [
        (regularizers.L1(0.1), 0.65, 0.1 * np.sign(WEIGHTS)),
        (regularizers.L2(0.1), 1.425, 0.2 * WEIGHTS),
        (regularizers.L1L2(0.1, 0.2), 0.65 + 2.85, 0.1 * np.sign(WEIGHTS) + 0.4 * WEIGHTS),
        (regularizers.l2(0.001), 0.01425, 0.002 * WEIGHTS),
    ],
)
def test_penalties_and_their_gradients(regularizer: regularizers.Regularizer, penalty: float, gradient: object) -> None:
    w = Tensor(WEIGHTS, requires_grad=True)
    loss = regularizer(w)
    loss.backward()
    assert loss.item() == pytest.approx(penalty, abs=1e-12)
    np.testing.assert_allclose(w.grad.numpy(), gradient, atol=1e-12)


def test_a_penalty_keeps_the_dtype_of_the_weights() -> None:
    assert regularizers.L1L2(0.1, 0.1)(Tensor(WEIGHTS, dtype="float32")).dtype == np.float32


def test_names_and_configs_lead_to_regularizers() -> None:
    assert regularizers.get("l2").l2 == 0.01
    assert regularizers.get("L1").l1 == 0.01
    assert regularizers.get({"class_name": "L1L2", "config": {"l1": 0.1, "l2": None}}).get_config() == {
        "l1": 0.1,
        "l2": 0.0,
    }
    assert isinstance(regularizers.get("l1_l2"), regularizers.L1L2)
    assert regularizers.get(None) is None


def test_serialized_regularizers_come_back_equal() -> None:
    written = regularizers.serialize(regularizers.L1L2(0.1, 0.2))
    assert written["module"] == "keras.regularizers"
    assert regularizers.deserialize(written).get_config() == {"l1": 0.1, "l2": 0.2}


@pytest.mark.parametrize("factor", [-0.1, float("nan"), float("inf"), "0.1", True])
def test_factors_that_are_no_non_negative_number_are_refused(factor: object) -> None:
    with pytest.raises(ValueError, match="L2: l2 must be a number"):
        regularizers.L2(factor)


def test_unknown_names_bring_a_suggestion() -> None:
    with pytest.raises(ValueError, match="Did you mean 'l1l2'"):
        regularizers.get("l1-l2")
