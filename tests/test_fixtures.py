"""minicnn against what PyTorch and Keras computed once; neither is needed here. See tests/fixtures/make_fixtures.py."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import Input, Sequential, Tensor, layers, losses, optimizers
from tests.fixtures.cases import recorded

FOLDER = Path(__file__).parent / "fixtures"
PEERS = ["torch", "keras"]
STEPS = 50


@functools.cache
def read(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / name, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


OPERATIONS = {
    f"{peer}: {name}": case for peer in PEERS for name, case in recorded(read(f"operations_{peer}.npz")).items()
}


def having(key: str) -> list[str]:
    """The cases in which an array of this kind was recorded."""
    return [name for name, case in OPERATIONS.items() if any(found.startswith(key) for found in case["arrays"])]


def run(name: str) -> tuple[dict[str, np.ndarray], list[Tensor], Tensor]:
    """What was recorded of a case, our inputs and our output."""
    case = OPERATIONS[name]
    arrays = case["arrays"]
    inputs = [_input(arrays, place) for place in range(sum(key[0] == "x" for key in arrays))]
    module, function = case["function"].split(".")
    options = {key: _tuples(value) for key, value in case["options"].items()}
    return arrays, inputs, getattr(getattr(minicnn, module), function)(*inputs, **options)


def _input(arrays: dict[str, np.ndarray], place: int) -> Tensor:
    """Labels, which are whole numbers of one axis, as integers."""
    array = arrays[f"x{place}"]
    if place and array.ndim == 1 and f"g{place}" not in arrays and not (array % 1).any():
        return Tensor(array.astype("i8"))
    return Tensor(array, requires_grad=f"g{place}" in arrays)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("peer", PEERS)
def test_versions_and_seed_are_in_the_files(peer: str) -> None:
    made_with = json.loads(str(read(f"operations_{peer}.npz")["made_with"]))
    assert made_with["torch"].startswith("2.13")
    assert made_with["keras"].startswith("3.")
    assert made_with["seed"] == 20261121


@pytest.mark.parametrize("name", having("y"))
def test_outputs_are_the_peers(name: str) -> None:
    arrays, _, y = run(name)
    np.testing.assert_allclose(y.numpy(), arrays["y"], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", having("g"))
def test_gradients_are_the_peers(name: str) -> None:
    arrays, inputs, y = run(name)
    y.backward(Tensor(arrays["gy"]))
    for i, x in enumerate(inputs):
        if f"g{i}" in arrays:
            assert x.grad is not None
            np.testing.assert_allclose(x.grad.numpy(), arrays[f"g{i}"], rtol=2e-6, atol=2e-6, err_msg=f"input {i}")


@pytest.mark.parametrize("name", having("after"))
def test_running_statistics_are_the_peers(name: str) -> None:
    arrays, inputs, _ = run(name)
    for key in [key for key in arrays if key.startswith("after")]:
        place = int(key.removeprefix("after"))
        assert not np.allclose(arrays[f"x{place}"], arrays[key])
        np.testing.assert_allclose(inputs[place].numpy(), arrays[key], rtol=2e-6, atol=1e-6)


# ------------------------------------------------------------------------------------------------- files of Keras


def numbered(arrays: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    return [arrays[f"{name}{i}"] for i in range(sum(key.startswith(name) for key in arrays))]


def test_a_keras_file_predicts_what_keras_predicted() -> None:
    arrays = read("model.npz")
    model = minicnn.models.load_model(FOLDER / "model.keras")
    for ours, theirs in zip(model.get_weights(), numbered(arrays, "weights"), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(model.predict(arrays["x"], verbose=0), arrays["predictions"], rtol=1e-5, atol=1e-6)


def test_training_of_a_keras_file_goes_on_as_it_did_in_keras() -> None:
    arrays = read("model.npz")
    model = minicnn.models.load_model(FOLDER / "model.keras")
    assert model.optimizer.iterations == 3
    for i in range(2):
        model.train_on_batch(arrays[f"batch{i}_x"], arrays[f"batch{i}_y"])
    for ours, theirs, weight in zip(model.get_weights(), numbered(arrays, "trained"), model.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=weight.path)


def test_a_weights_file_of_keras_fills_our_model() -> None:
    arrays = read("model.npz")
    model = minicnn.models.clone_model(minicnn.models.load_model(FOLDER / "model.keras"))
    assert not np.allclose(model.predict(arrays["x"], verbose=0), arrays["predictions"], atol=1e-3)
    model.load_weights(FOLDER / "model.weights.h5")
    np.testing.assert_allclose(model.predict(arrays["x"], verbose=0), arrays["predictions"], rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize(
    ("curve", "dtype", "tolerance"),
    [
        ("torch_momentum", "float64", 1e-9),
        ("torch_momentum", "float32", 1e-4),
        ("keras_adam", "float64", 1e-4),
        ("keras_adam", "float32", 1e-4),
    ],
)
def test_the_loss_curve_of_fifty_steps_is_the_peers(curve: str, dtype: str, tolerance: float) -> None:
    arrays = read("curves.npz")
    model = Sequential(
        [
            Input(shape=(8, 7, 2), dtype=dtype),
            layers.Conv2D(4, 3, activation="relu", dtype=dtype),
            layers.BatchNormalization(dtype=dtype),
            layers.MaxPooling2D(2, dtype=dtype),
            layers.Flatten(dtype=dtype),
            layers.Dense(3, dtype=dtype),
        ]
    )
    model.set_weights(numbered(arrays, "weights"))
    optimizer = optimizers.Adam(0.02) if curve == "keras_adam" else optimizers.SGD(0.01, momentum=0.9)
    model.compile(optimizer, losses.SparseCategoricalCrossentropy(from_logits=True))
    found = []
    for step in range(STEPS):
        model.reset_metrics()
        batch = step % len(arrays["pictures"])
        pictures = arrays["pictures"][batch].astype(dtype) / 64
        found.append(float(np.ravel(model.train_on_batch(pictures, arrays["labels"][batch]))[0]))
    assert arrays[curve][-10:].mean() < arrays[curve][:10].mean() / 2  # it learned
    np.testing.assert_allclose(found, arrays[curve], rtol=tolerance)
