"""Optimizers and schedules against Keras 3, and against PyTorch where it has the same algorithm: 100 steps, float64."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs keras")
torch = pytest.importorskip("torch", reason="needs torch")

from minicnn import optimizers, schedules  # noqa: E402
from minicnn.layers.parameter import Parameter  # noqa: E402
from minicnn.tensor import Tensor  # noqa: E402

STEPS = 100
SHAPES = [(3, 4), (4,), ()]


@pytest.fixture(autouse=True)
def _float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keras in float64 throughout: its promotion rules end at float32, except under TensorFlow."""
    monkeypatch.setitem(keras.src.backend.common.dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


def start() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.normal(size=shape) for shape in SHAPES]


def gradients(values: list[np.ndarray], step: int) -> list[np.ndarray]:
    """Those of a curved valley, with noise of many magnitudes; they depend on where the parameters are."""
    rng = np.random.default_rng(1000 + step)
    return [np.sin(3 * v) + 0.5 * v + rng.normal(size=v.shape) * 10.0 ** rng.integers(-2, 2) for v in values]


def our_trajectory(optimizer: Any) -> list[list[np.ndarray]]:
    parameters = [Parameter(value, f"p{i}") for i, value in enumerate(start())]
    path = []
    for step in range(STEPS):
        optimizer.apply([Tensor(g) for g in gradients([p.numpy() for p in parameters], step)], parameters)
        path.append([p.numpy().copy() for p in parameters])
    return path


def keras_trajectory(optimizer: Any) -> list[list[np.ndarray]]:
    variables = [keras.Variable(value, dtype="float64", name=f"p{i}") for i, value in enumerate(start())]
    path = []
    for step in range(STEPS):
        values = [v.numpy().copy() for v in variables]
        optimizer.apply([torch.tensor(g) for g in gradients(values, step)], variables)
        path.append([v.numpy().copy() for v in variables])
    return path


def torch_trajectory(make: Callable[[Any], Any]) -> list[list[np.ndarray]]:
    tensors = [torch.tensor(value, requires_grad=True) for value in start()]
    optimizer = make(tensors)
    path = []
    for step in range(STEPS):
        for tensor, g in zip(tensors, gradients([t.detach().numpy() for t in tensors], step), strict=True):
            tensor.grad = torch.tensor(g)
        optimizer.step()
        path.append([t.detach().numpy().copy() for t in tensors])
    return path


def assert_same_path(ours: list[list[np.ndarray]], theirs: list[list[np.ndarray]]) -> None:
    for step, (here, there) in enumerate(zip(ours, theirs, strict=True)):
        for a, b in zip(here, there, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9, err_msg=f"step {step}")
    assert not np.allclose(ours[0][0], ours[-1][0], rtol=1e-3)  # it went somewhere


OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"learning_rate": 0.05, "momentum": 0.9}),
    ("SGD", {"learning_rate": 0.05, "momentum": 0.8, "nesterov": True}),
    ("SGD", {"learning_rate": 0.05, "weight_decay": 0.1}),
    ("SGD", {"learning_rate": 0.05, "clipnorm": 0.7}),
    ("SGD", {"learning_rate": 0.05, "clipvalue": 0.2}),
    ("SGD", {"learning_rate": 0.05, "global_clipnorm": 1.5}),
    ("RMSprop", {}),
    ("RMSprop", {"learning_rate": 0.01, "rho": 0.8, "momentum": 0.5, "epsilon": 1e-3}),
    ("RMSprop", {"learning_rate": 0.01, "centered": True}),
    ("RMSprop", {"learning_rate": 0.01, "centered": True, "momentum": 0.9, "weight_decay": 0.01}),
    ("Adam", {}),
    ("Adam", {"learning_rate": 0.02, "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-2}),
    ("Adam", {"learning_rate": 0.02, "amsgrad": True, "global_clipnorm": 2.0}),
    ("AdamW", {}),
    ("AdamW", {"learning_rate": 0.02, "weight_decay": 0.3, "amsgrad": True}),
    ("Adamax", {}),
    ("Adamax", {"learning_rate": 0.02, "beta_1": 0.7, "beta_2": 0.95, "clipvalue": 1.0}),
    ("Nadam", {}),
    ("Nadam", {"learning_rate": 0.02, "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-4}),
    ("Adagrad", {"learning_rate": 0.05}),
    ("Adagrad", {"learning_rate": 0.5, "initial_accumulator_value": 0.0, "epsilon": 1e-3}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Adadelta", {"learning_rate": 0.5, "rho": 0.8, "epsilon": 1e-4, "weight_decay": 0.02}),
]


def _id(case: Any) -> str:
    return f"{case[0]}-{case[1]}" if isinstance(case, tuple) and isinstance(case[1], dict) else ""


@pytest.mark.parametrize("case", OPTIMIZERS, ids=_id)
def test_100_steps_are_those_of_keras(case: Any) -> None:
    name, options = case
    ours, theirs = getattr(optimizers, name)(**options), getattr(keras.optimizers, name)(**options)
    assert_same_path(our_trajectory(ours), keras_trajectory(theirs))
    assert ours.iterations == int(theirs.iterations) == STEPS


TORCH: list[tuple[Any, Callable[[Any], Any]]] = [
    (optimizers.SGD(0.05), lambda p: torch.optim.SGD(p, 0.05)),
    # Keras' velocity holds the rate, PyTorch's does not: the same steps while the rate is constant
    (optimizers.SGD(0.05, momentum=0.9), lambda p: torch.optim.SGD(p, 0.05, momentum=0.9)),
    (
        optimizers.SGD(0.05, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
    ),
    (optimizers.RMSprop(0.01, rho=0.9, epsilon=1e-30), lambda p: torch.optim.RMSprop(p, 0.01, alpha=0.9, eps=0)),
    (
        optimizers.RMSprop(0.01, rho=0.9, momentum=0.5, epsilon=1e-30, centered=True),
        lambda p: torch.optim.RMSprop(p, 0.01, alpha=0.9, momentum=0.5, eps=0, centered=True),
    ),
    (optimizers.Adam(0.02, epsilon=1e-30), lambda p: torch.optim.Adam(p, 0.02, eps=0)),
    (
        optimizers.AdamW(0.02, weight_decay=0.1, epsilon=1e-30),
        lambda p: torch.optim.AdamW(p, 0.02, weight_decay=0.1, eps=0),
    ),
    (optimizers.Adamax(0.02, epsilon=1e-30), lambda p: torch.optim.Adamax(p, 0.02, eps=0)),
    (
        optimizers.Adagrad(0.1, initial_accumulator_value=0.1, epsilon=1e-30),
        lambda p: torch.optim.Adagrad(p, 0.1, initial_accumulator_value=0.1, eps=0),
    ),
    (optimizers.Adadelta(1.0, rho=0.9, epsilon=1e-6), lambda p: torch.optim.Adadelta(p, 1.0, rho=0.9, eps=1e-6)),
]


@pytest.mark.parametrize("case", TORCH, ids=[f"{o.name}{i}" for i, (o, _) in enumerate(TORCH)])
def test_100_steps_are_those_of_pytorch(case: Any) -> None:
    optimizer, make = case
    assert_same_path(our_trajectory(optimizer), torch_trajectory(make))


def test_adam_with_epsilon_is_pytorchs_with_epsilon_corrected_for_bias() -> None:
    """Keras adds epsilon to sqrt(s), PyTorch to sqrt(s / (1 - beta_2**t)): theirs is ours / sqrt(1 - beta_2**t)."""

    def make(tensors: Any) -> Any:
        optimizer = torch.optim.Adam(tensors, 0.02)
        take, steps = optimizer.step, iter(range(1, STEPS + 1))

        def step() -> None:
            optimizer.param_groups[0]["eps"] = 1e-2 / (1 - 0.999 ** next(steps)) ** 0.5
            take()

        optimizer.step = step
        return optimizer

    assert_same_path(our_trajectory(optimizers.Adam(0.02, epsilon=1e-2)), torch_trajectory(make))


# --------------------------------------------------------------------------------------------------- state and configs


@pytest.mark.parametrize("case", OPTIMIZERS, ids=_id)
def test_state_arrays_have_the_order_shapes_and_values_of_keras(case: Any) -> None:
    name, options = case
    ours, theirs = getattr(optimizers, name)(**options), getattr(keras.optimizers, name)(**options)
    our_trajectory(ours)
    keras_trajectory(theirs)
    assert len(ours.variables) == len(theirs.variables)
    for array, variable in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(array, variable.numpy(), rtol=1e-6, atol=1e-12, err_msg=variable.path)
    expected = [variable.path.split("/", 1)[-1] for variable in theirs.variables]
    found = [variable.split("/", 1)[-1] for variable in ours.variable_names]
    assert found == ["momentum_product" if path.startswith("variable") else path for path in expected]


@pytest.mark.parametrize("case", OPTIMIZERS, ids=_id)
def test_state_written_by_keras_is_taken_over(case: Any) -> None:
    name, options = case
    theirs = getattr(keras.optimizers, name)(**options)
    keras_trajectory(theirs)
    store: dict[str, np.ndarray] = {}
    theirs.save_own_variables(store)

    ours = getattr(optimizers, name)(**options)
    ours.build([Parameter(value, f"p{i}") for i, value in enumerate(start())])
    ours.load_own_variables(store)

    assert ours.iterations == STEPS
    for array, variable in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_array_equal(array, variable.numpy())


@pytest.mark.parametrize("case", OPTIMIZERS, ids=_id)
def test_configs_go_to_keras_and_back(case: Any) -> None:
    name, options = case
    ours, theirs = getattr(optimizers, name)(**options), getattr(keras.optimizers, name)(**options)
    there = keras.optimizers.deserialize(optimizers.serialize(ours))
    here = optimizers.deserialize(keras.optimizers.serialize(theirs))
    assert isinstance(there, getattr(keras.optimizers, name))
    for key, value in ours.get_config().items():
        if key != "name":
            assert there.get_config()[key] == pytest.approx(value), key
            assert here.get_config()[key] == pytest.approx(value), key


def test_defaults_are_those_of_keras() -> None:
    for name in ("SGD", "RMSprop", "Adam", "AdamW", "Adamax", "Nadam", "Adagrad", "Adadelta"):
        ours, theirs = getattr(optimizers, name)().get_config(), getattr(keras.optimizers, name)().get_config()
        for key in ours.keys() - {"name"}:
            assert ours[key] == pytest.approx(theirs[key]), (name, key)


SCHEDULES: list[tuple[str, dict[str, Any]]] = [
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.8}),
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.8, "staircase": True}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.8}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.8, "staircase": True}),
    ("PiecewiseConstantDecay", {"boundaries": [5, 20], "values": [0.1, 0.05, 0.01]}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 20, "power": 2.0}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 20, "end_learning_rate": 0.01, "cycle": True}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 30, "alpha": 0.1}),
    ("CosineDecay", {"initial_learning_rate": 0.0, "decay_steps": 30, "warmup_target": 0.1, "warmup_steps": 9}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 7}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 7, "t_mul": 1.0, "m_mul": 0.9}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 5, "m_mul": 0.5, "alpha": 0.2}),
]


@pytest.mark.parametrize("case", SCHEDULES, ids=_id)
def test_schedules_are_those_of_keras_and_their_configs_go_both_ways(case: Any) -> None:
    name, options = case
    ours, theirs = getattr(schedules, name)(**options), getattr(keras.optimizers.schedules, name)(**options)
    # Keras finds the restarts of a cosine by a logarithm, which may miss the very step of a restart
    steps = [s for s in range(60) if name != "CosineDecayRestarts" or s % options["first_decay_steps"]]
    np.testing.assert_allclose([ours(s) for s in steps], [float(theirs(s)) for s in steps], rtol=1e-9, atol=1e-12)
    assert ours.get_config() == theirs.get_config()
    assert keras.optimizers.schedules.deserialize(schedules.serialize(ours)).get_config() == theirs.get_config()
    assert schedules.deserialize(keras.optimizers.schedules.serialize(theirs)).get_config() == ours.get_config()


@pytest.mark.parametrize("case", SCHEDULES[:5], ids=_id)
def test_100_scheduled_steps_are_those_of_keras(case: Any) -> None:
    name, options = case
    ours = optimizers.SGD(getattr(schedules, name)(**options), momentum=0.5)
    theirs = keras.optimizers.SGD(getattr(keras.optimizers.schedules, name)(**options), momentum=0.5)
    assert_same_path(our_trajectory(ours), keras_trajectory(theirs))
