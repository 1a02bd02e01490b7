"""Constraints on weights: norms after, names."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn import Tensor, constraints

KERNEL = np.array([[3.0, 0.1], [4.0, 0.2]])  # the columns' norms are 5 and 0.2236
NORMS = np.array([5.0, np.sqrt(0.05)])


@pytest.mark.parametrize(
    ("constraint", "norms"),
    [
        (constraints.MaxNorm(2.0), [2.0, NORMS[1]]),
        (constraints.UnitNorm(), [1.0, 1.0]),
        (constraints.MinMaxNorm(0.5, 3.0), [3.0, 0.5]),
        (constraints.MinMaxNorm(0.5, 3.0, rate=0.25), [0.25 * 3 + 0.75 * 5, 0.25 * 0.5 + 0.75 * NORMS[1]]),
    ],
)
def test_each_unit_gets_the_norm_of_the_rule_and_keeps_its_direction(
    constraint: constraints.Constraint, norms: list[float]
) -> None:
    after = constraint(Tensor(KERNEL)).numpy()
    np.testing.assert_allclose(after, KERNEL / NORMS * norms, rtol=1e-5)


def test_axes_of_a_convolution_kernel_give_each_filter_a_norm(rng: np.random.Generator) -> None:
    kernel = rng.standard_normal((3, 2, 4, 5))
    after = constraints.UnitNorm(axis=(0, 1, 2))(Tensor(kernel)).numpy()
    for f in range(5):
        np.testing.assert_allclose(after[..., f], kernel[..., f] / np.linalg.norm(kernel[..., f]), rtol=1e-6)


def test_non_neg_cuts_at_0() -> None:
    np.testing.assert_array_equal(constraints.NonNeg()(Tensor([-1.0, 0.0, 2.0])).numpy(), [0, 0, 2])


def test_a_weight_of_norm_0_stays_0() -> None:
    np.testing.assert_array_equal(constraints.UnitNorm()(Tensor(np.zeros((3, 2)))).numpy(), np.zeros((3, 2)))


@pytest.mark.parametrize("name", ["max_norm", "min_max_norm", "non_neg", "unit_norm"])
def test_names_lead_to_constraints_and_back(name: str) -> None:
    constraint = constraints.get(name)
    copy = constraints.deserialize(constraints.serialize(constraint))
    assert type(copy) is type(constraint)
    assert copy.get_config() == constraint.get_config()


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'max_norm'"):
        constraints.get("maxnorm")
    with pytest.raises(ValueError, match="MinMaxNorm: min_value"):
        constraints.MinMaxNorm(2.0, 1.0)
    with pytest.raises(ValueError, match="MaxNorm: max_value"):
        constraints.MaxNorm(-1)
