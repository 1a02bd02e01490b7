"""Initial weights: distributions, fans, seeds, names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import initializers

MANY = (200, 300)


def test_constants_fill_the_shape() -> None:
    np.testing.assert_array_equal(initializers.Zeros()((2, 3), "float32"), np.zeros((2, 3)))
    np.testing.assert_array_equal(initializers.Ones()((2,), "float64"), np.ones(2))
    np.testing.assert_array_equal(initializers.Constant(0.05)((2, 2)), np.full((2, 2), np.float32(0.05)))
    np.testing.assert_array_equal(initializers.Constant([1, 2])((3, 2)), [[1, 2], [1, 2], [1, 2]])
    np.testing.assert_array_equal(initializers.Identity(2.0)((2, 3)), [[2, 0, 0], [0, 2, 0]])


def test_the_dtype_is_the_one_asked_for_and_float32_otherwise() -> None:
    for name in ("zeros", "ones", "constant", "identity", "random_normal", "glorot_uniform", "orthogonal"):
        assert initializers.get(name)((4, 4)).dtype == np.float32
        assert initializers.get(name)((4, 4), "float64").dtype == np.float64


@pytest.mark.parametrize(
    ("shape", "fans"),
    [((), (1, 1)), ((7,), (7, 7)), ((3, 5), (3, 5)), ((3, 2, 5, 7), (30, 42)), ((4, 5, 7), (20, 28))],
)
def test_fans_count_the_receptive_field(shape: tuple[int, ...], fans: tuple[int, int]) -> None:
    assert initializers.compute_fans(shape) == fans


def test_fans_can_be_told_by_axes() -> None:
    assert initializers.compute_fans((2, 3, 5, 7), input_axes=[0, 2], output_axes=[3]) == (10, 7)


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_uniform", 2 / 500),
        ("glorot_normal", 2 / 500),
        ("he_uniform", 2 / 200),
        ("he_normal", 2 / 200),
        ("lecun_uniform", 1 / 200),
        ("lecun_normal", 1 / 200),
    ],
)
def test_scaled_initializers_have_mean_0_and_the_variance_of_their_rule(name: str, variance: float) -> None:
    values = initializers.get(name)(MANY, "float64")
    assert abs(values.mean()) < 5 * math.sqrt(variance / values.size)
    assert values.var() == pytest.approx(variance, rel=0.03)
    if name.endswith("uniform"):
        limit = math.sqrt(3 * variance)
        assert np.abs(values).max() < limit
        assert np.abs(values).max() > 0.999 * limit
    else:
        widened = math.sqrt(variance) / 0.87962566103423978
        assert 1.99 * widened < np.abs(values).max() <= 2 * widened


def test_a_convolution_kernel_is_scaled_by_its_receptive_field() -> None:
    values = initializers.HeUniform(seed=1)((5, 4, 30, 40), "float64")
    assert np.abs(values).max() == pytest.approx(math.sqrt(6 / (5 * 4 * 30)), rel=1e-3)


def test_truncated_normal_ends_at_two_standard_deviations_and_is_normal_within() -> None:
    values = (initializers.TruncatedNormal(mean=3.0, stddev=0.5, seed=4)(MANY, "float64") - 3.0) / 0.5
    assert np.abs(values).max() <= 2
    within_one = math.erf(1 / math.sqrt(2)) / math.erf(2 / math.sqrt(2))
    assert (np.abs(values) < 1).mean() == pytest.approx(within_one, abs=0.01)


def test_random_normal_and_uniform_take_their_parameters() -> None:
    normal = initializers.RandomNormal(mean=2.0, stddev=0.1, seed=4)(MANY, "float64")
    assert normal.mean() == pytest.approx(2.0, abs=0.002)
    assert normal.std() == pytest.approx(0.1, rel=0.02)
    assert (np.abs(normal - 2.0) > 0.2).mean() == pytest.approx(1 - math.erf(2 / math.sqrt(2)), abs=0.005)
    uniform = initializers.RandomUniform(-1.0, 3.0, seed=4)(MANY, "float64")
    counts, _ = np.histogram(uniform, bins=8, range=(-1, 3))
    np.testing.assert_allclose(counts / uniform.size, 1 / 8, atol=0.01)


def test_variance_scaling_modes_choose_the_fan() -> None:
    for mode, fan in (("fan_in", 200), ("fan_out", 300), ("fan_avg", 250)):
        values = initializers.VarianceScaling(0.5, mode, "untruncated_normal", seed=3)(MANY, "float64")
        assert values.var() == pytest.approx(0.5 / fan, rel=0.03)
        assert np.abs(values).max() > 2.5 * values.std()


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (3, 2, 2, 5)])
def test_orthogonal_kernels_have_orthonormal_columns_or_rows(shape: tuple[int, ...]) -> None:
    q = initializers.Orthogonal(gain=3.0)(shape, "float64").reshape(-1, shape[-1]) / 3.0
    gram = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
    np.testing.assert_allclose(gram, np.eye(min(q.shape)), atol=1e-12)


def test_a_number_as_seed_repeats_and_a_generator_goes_on() -> None:
    numbered = initializers.GlorotUniform(seed=5)
    np.testing.assert_array_equal(numbered((3, 4)), numbered((3, 4)))
    running = initializers.GlorotUniform(seed=minicnn.random.Generator(5))
    assert not np.array_equal(running((3, 4)), running((3, 4)))


def test_manual_seed_repeats_initializers_without_a_seed() -> None:
    initializer = initializers.HeNormal()
    minicnn.manual_seed(7)
    first, second = initializer((3, 4)), initializer((3, 4))
    minicnn.manual_seed(7)
    np.testing.assert_array_equal(initializer((3, 4)), first)
    assert not np.array_equal(first, second)


def test_both_dtypes_start_from_the_same_numbers() -> None:
    initializer = initializers.TruncatedNormal(seed=9)
    np.testing.assert_array_equal(initializer((3, 4), "float32"), initializer((3, 4), "float64").astype(np.float32))


def test_get_takes_names_classes_configs_callables_and_arrays() -> None:
    assert isinstance(initializers.get("HeNormal"), initializers.HeNormal)
    assert isinstance(initializers.get("he_normal"), initializers.HeNormal)
    assert isinstance(initializers.get(initializers.Zeros), initializers.Zeros)
    assert initializers.get({"class_name": "Constant", "config": {"value": 2.0}}).value == 2.0
    made = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(initializers.get(made)((2, 3), "float64"), made)

    def custom(shape: Any, dtype: Any = None) -> np.ndarray:
        return np.ones(shape, dtype)

    assert initializers.get(custom) is custom
    assert initializers.get(None) is None


def test_serialized_initializers_come_back_equal() -> None:
    for initializer in (
        initializers.VarianceScaling(2.0, "fan_out", "uniform", seed=3, input_axes=[0], output_axes=[1]),
        initializers.TruncatedNormal(1.0, 2.0, seed=4),
        initializers.GlorotUniform(seed=2),
        initializers.Constant(np.arange(3.0)),
        initializers.Orthogonal(2.0, seed=1),
        initializers.RandomUniform(-1, 1, seed=2),
    ):
        shape = (4, 3)
        copy = initializers.deserialize(initializers.serialize(initializer))
        assert type(copy) is type(initializer)
        np.testing.assert_array_equal(copy(shape), initializer(shape))


def test_unknown_names_bring_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"no initializer.*'glorot_unifrom'.*Did you mean 'glorot_uniform'"):
        initializers.get("glorot_unifrom")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: initializers.VarianceScaling(scale=0), ValueError, "scale"),
        (lambda: initializers.VarianceScaling(mode="fan_inn"), ValueError, "Did you mean 'fan_in'"),
        (lambda: initializers.VarianceScaling(distribution="gauss"), ValueError, "distribution"),
        (lambda: initializers.GlorotUniform(seed=-1), ValueError, "seed"),
        (lambda: initializers.Orthogonal()((3,)), ValueError, "two axes"),
        (lambda: initializers.Identity()((3, 3, 3)), ValueError, "two axes"),
        (lambda: initializers.Constant([1, 2])((3, 3)), ValueError, r"must fit shape \(3, 3\)"),
        (lambda: initializers.get(3), TypeError, "initializer must be"),
        (lambda: initializers.get({"config": {}}), ValueError, "class_name"),
        (lambda: initializers.serialize(np.zeros), TypeError, "get_config"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
