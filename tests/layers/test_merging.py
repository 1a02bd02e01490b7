"""Layers that merge several tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import pytest

from minicnn import layers

NUMPY: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


@pytest.mark.parametrize("name", NUMPY)
def test_three_tensors_are_merged_and_broadcast(name: str, rng: np.random.Generator) -> None:
    arrays = [rng.standard_normal(shape) for shape in ((2, 3, 4), (2, 1, 4), (2, 3, 1))]
    y = getattr(layers, name)(arrays, dtype="float64").numpy()
    np.testing.assert_allclose(y, reduce(NUMPY[name], arrays), atol=1e-12)
    assert type(getattr(layers, name.title())()).__name__ == name.title()


def test_average_and_subtract(rng: np.random.Generator) -> None:
    a, b, c = (rng.standard_normal((2, 3)) for _ in range(3))
    np.testing.assert_allclose(layers.average([a, b, c], dtype="float64").numpy(), (a + b + c) / 3, atol=1e-12)
    np.testing.assert_allclose(layers.subtract([a, b], dtype="float64").numpy(), a - b, atol=1e-12)


def test_a_tensor_of_fewer_axes_gets_new_ones_behind_the_batch(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 4))
    np.testing.assert_allclose(layers.Add(dtype="float64")([a, b]).numpy(), a + b[:, None], atol=1e-12)


@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_concatenate_joins_along_its_axis(axis: int, rng: np.random.Generator) -> None:
    shape = [3, 4, 5]
    shape[axis] = 2
    a, b = rng.standard_normal((3, 4, 5)), rng.standard_normal(shape)
    y = layers.concatenate([a, b], axis=axis, dtype="float64").numpy()
    np.testing.assert_array_equal(y, np.concatenate([a, b], axis))


def test_shapes_with_unknown_sizes() -> None:
    assert layers.Add().compute_output_shape([(None, 3, 1), (None, 1, 4)]) == (None, 3, 4)
    assert layers.Add().compute_output_shape([(None, None, 4), (None, 1, 4)]) == (None, None, 4)
    assert layers.Concatenate().compute_output_shape([(None, 3, 1), (None, 3, 4)]) == (None, 3, 5)
    assert layers.Concatenate(1).compute_output_shape([(None, None, 4), (None, 3, 4)]) == (None, None, 4)
    inputs = [layers.Input((4, 4, 2)), layers.Input((4, 4, 3))]
    assert layers.concatenate(inputs).shape == (None, 4, 4, 5)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: layers.Add()(np.ones((2, 3))), ValueError, r"add: expected a list of tensors, Add\(\)\(\[x, y\]\)"),
        (lambda: layers.Add()([]), ValueError, "expected a list of tensors"),
        (lambda: layers.Add()([np.ones((2, 3)), np.ones((2, 4))]), ValueError, r"Received: \[\(2, 3\), \(2, 4\)\]"),
        (lambda: layers.add([layers.Input((3,)), layers.Input((4,))]), ValueError, r"\(None, 3\), \(None, 4\)"),
        (lambda: layers.Subtract()([np.ones((2, 3))] * 3), ValueError, "exactly two tensors. Received: 3"),
        (lambda: layers.Concatenate()([np.ones((2, 3)), np.ones((4, 3))]), ValueError, "differ along axis=-1 only"),
        (lambda: layers.Concatenate(2)([np.ones((2, 3))] * 2), ValueError, "axis=2 among them"),
        (lambda: layers.Concatenate()([np.ones((2, 3)), np.ones((2, 3, 1))]), ValueError, "same number of axes"),
        (lambda: layers.Concatenate("last"), TypeError, "axis must be an integer"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
