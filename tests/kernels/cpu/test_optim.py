"""Optimizer steps over many parameters at once: sizes that end within a vector or a piece, arrays of any layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

from minicnn.kernels import reference
from minicnn.kernels.contract import Array
from minicnn.kernels.cpu import optim
from minicnn.kernels.cpu.optim import PIECE
from tests.kernels.cases import SLOTS
from tests.kernels.cpu.comparing import assert_close, assert_same_bits_on_any_number_of_threads, normal

SHAPES = [(1,), (3, 5, 7), (0, 4), (15,), (16,), (PIECE,), (PIECE + 1,), (), (2, PIECE + 100), (33,)]
ADAM = {"beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-7, "step": 3}

# name: (kernel, slots, settings)
STEPS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "sgd": ("sgd_step", (), {"velocities": None, "momentum": 0.0, "nesterov": False}),
    "momentum": ("sgd_step", ("velocities",), {"momentum": 0.9, "nesterov": False}),
    "nesterov": ("sgd_step", ("velocities",), {"momentum": 0.9, "nesterov": True}),
    "rmsprop": ("rmsprop_step", ("squares",), {"means": None, "velocities": None, "momentum": 0.0}),
    "rmsprop_momentum": ("rmsprop_step", ("squares", "velocities"), {"means": None, "momentum": 0.8}),
    "rmsprop_centered": ("rmsprop_step", ("squares", "means"), {"velocities": None, "momentum": 0.0}),
    "rmsprop_both": ("rmsprop_step", ("squares", "means", "velocities"), {"momentum": 0.8}),
    "adam": ("adam_step", ("means", "squares"), {"max_squares": None, **ADAM}),
    "amsgrad": ("adam_step", ("means", "squares", "max_squares"), ADAM),
    "adamax": ("adamax_step", ("means", "norms"), ADAM),
    "nadam": ("nadam_step", ("means", "squares"), {"momentum_schedule": (0.47, 0.49, 0.09), **ADAM}),
    "adagrad": ("adagrad_step", ("squares",), {"epsilon": 1e-7}),
    "adadelta": ("adadelta_step", ("squares", "delta_squares"), {"rho": 0.95, "epsilon": 1e-7}),
}
for _kernel, _, _settings in STEPS.values():
    _settings["lr"] = 0.01
    if _kernel == "rmsprop_step":
        _settings |= {"rho": 0.9, "epsilon": 1.0}


def drawn(name: str, dtype: str = "float32") -> dict[str, Any]:
    """The step's arguments; slots are positive."""
    _, slots, settings = STEPS[name]
    arrays = {
        key: [normal(*shape, dtype=dtype, seed=i) for shape in SHAPES] for i, key in enumerate(("params", "grads"))
    }
    filled = {key: [np.abs(normal(*s, dtype=dtype, seed=i + 2)) / 8 for s in SHAPES] for i, key in enumerate(slots)}
    for slot in filled.values():
        slot[7] = np.asarray(slot[7])  # np.abs makes a number of an array without axes
    return {**arrays, **filled, **settings}


def state(given: dict[str, Any]) -> list[Array]:
    return [array for key in ("params", *SLOTS) for array in given.get(key) or []]


def copied(given: dict[str, Any], dtype: str) -> dict[str, Any]:
    return {k: [np.array(a, dtype) for a in v] if isinstance(v, list) else v for k, v in given.items()}


def run(module: Any, name: str, given: dict[str, Any]) -> list[Array]:
    getattr(module, STEPS[name][0])(**given)
    return state(given)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", STEPS)
def test_steps_are_the_references(name: str, dtype: str) -> None:
    given = drawn(name, dtype)
    exact = run(reference, name, copied(given, "float64"))
    assert_close(run(optim, name, given), exact, 1e-6 if dtype == "float32" else 1e-14)


def test_arrays_that_are_not_contiguous_are_written_where_they_are() -> None:
    given = drawn("adam")
    wide = {key: np.zeros((3, 10, 14), np.float32) for key in ("params", "means")}
    for key, array in wide.items():
        given[key][1] = array[:, ::2, ::2]
        given[key][1][...] = normal(3, 5, 7, seed=9)
    given["grads"][1] = normal(7, 5, 3).T
    given["squares"][3] = np.abs(normal(30))[::2]
    exact = run(reference, "adam", copied(given, "float64"))
    assert_close(run(optim, "adam", given), exact, 1e-6)
    for array in wide.values():
        assert np.count_nonzero(array) == 3 * 5 * 7


def test_parameters_of_several_dtypes_take_one_step() -> None:
    given = drawn("momentum")
    for key in ("params", "grads", "velocities"):
        given[key][4] = given[key][4].astype("float64")
    given["grads"][8] = given["grads"][8].astype("float64")
    exact = run(reference, "momentum", copied(given, "float64"))
    received = run(optim, "momentum", given)
    assert [array.dtype == "float64" for array in given["params"]] == [i == 4 for i in range(len(SHAPES))]
    assert_close(received, exact, 1e-6)


def test_no_parameters_are_no_work() -> None:
    assert optim.sgd_step([], [], None, 0.1, 0.0, False) is None


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        optim.sgd_step([normal(3)], [], None, 0.1, 0.0, False)


def test_a_nan_gradient_makes_a_nan_parameter_and_no_other() -> None:
    given = drawn("adam")
    given["grads"][3][7] = np.nan
    run(optim, "adam", given)
    assert [int(np.isnan(p).sum()) for p in given["params"]] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]


def test_a_step_is_the_same_bits_on_any_number_of_threads() -> None:
    assert_same_bits_on_any_number_of_threads(lambda: run(optim, "adam", drawn("adam")))


def test_gradients_that_numpy_made_scalars_of_are_taken() -> None:
    parameter, gradient = np.array(2.0), np.array(0.5) * 2
    assert not isinstance(gradient, np.ndarray)
    optim.sgd_step([parameter, normal(3)], [gradient, normal(3)], None, 0.1, 0.0, False)
    assert parameter == 1.9
