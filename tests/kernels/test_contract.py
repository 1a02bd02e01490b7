"""The rules of the contract, held against every function of the reference backend."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from minicnn.kernels import reference
from minicnn.kernels.contract import Array, Kernels
from tests import loops
from tests.kernels.cases import CASES, SLOTS, Case, arguments

CONTRACT = {
    name: function for name, function in vars(Kernels).items() if inspect.isfunction(function) and name[0] != "_"
}
STEPS = [name for name in CONTRACT if name.endswith("_step")]
KERNEL_CASES = [case for case in CASES if case.kernel not in STEPS]
STEP_CASES = [case for case in CASES if case.kernel in STEPS]
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def satisfies_the_protocol() -> Kernels:
    """Nothing to run: mypy checks here that the module is a backend."""
    return reference


def arrays_in(value: Any) -> list[Array]:
    """Every array among some arguments or results."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, (list, tuple)):
        return [array for item in value for array in arrays_in(item)]
    return []


def test_reference_exports_exactly_the_contract() -> None:
    assert sorted(reference.__all__) == sorted(CONTRACT)


def test_every_kernel_has_a_nested_loop_oracle_and_cases() -> None:
    assert [name for name in CONTRACT if not hasattr(loops, name)] == []
    assert sorted({case.kernel for case in CASES}) == sorted(CONTRACT)


def test_labels_of_cases_are_unique() -> None:
    assert len({str(case) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("module", [reference, loops], ids=["reference", "loops"])
@pytest.mark.parametrize("name", CONTRACT)
def test_parameters_are_named_ordered_and_defaulted_as_in_the_contract(name: str, module: Any) -> None:
    expected = [p for p in inspect.signature(CONTRACT[name]).parameters.values() if p.name != "self"]
    received = list(inspect.signature(getattr(module, name)).parameters.values())
    assert [(p.name, p.kind, p.default) for p in received] == [(p.name, p.kind, p.default) for p in expected]


@pytest.mark.parametrize("name", CONTRACT)
def test_annotations_are_those_of_the_contract(name: str) -> None:
    expected = {key: value for key, value in CONTRACT[name].__annotations__.items() if key != "self"}
    assert getattr(reference, name).__annotations__ == expected


@both_dtypes
@pytest.mark.parametrize("case", KERNEL_CASES, ids=str)
def test_outputs_are_new_contiguous_arrays_of_the_input_dtype(case: Case, dtype: str) -> None:
    given = arguments(case, dtype)
    outputs = arrays_in(getattr(reference, case.kernel)(**given))
    assert outputs
    for output in outputs:
        assert output.flags.c_contiguous
        assert output.flags.writeable
        assert not any(np.shares_memory(output, array) for array in arrays_in(list(given.values())))
    expected = {
        "max_pool2d": [dtype, "int32"],
        "conv2d_max_pool2d": [dtype, "int32"],
        "adaptive_max_pool2d": [dtype, "int32"],
        "dropout": [dtype, "uint8"],
        "philox_words": ["uint32"],
    }
    assert [str(v.dtype) for v in outputs] == expected.get(case.kernel, [dtype] * len(outputs))


@both_dtypes
@pytest.mark.parametrize("case", KERNEL_CASES, ids=str)
def test_inputs_are_never_written(case: Case, dtype: str) -> None:
    given, untouched = arguments(case, dtype), arguments(case, dtype)
    for array in arrays_in(list(given.values())):
        array.flags.writeable = False
    getattr(reference, case.kernel)(**given)
    for name, value in given.items():
        for array, before in zip(arrays_in(value), arrays_in(untouched[name]), strict=True):
            np.testing.assert_array_equal(array, before)


@both_dtypes
@pytest.mark.parametrize("case", KERNEL_CASES, ids=str)
def test_a_second_run_gives_the_same_bits(case: Case, dtype: str) -> None:
    kernel = getattr(reference, case.kernel)
    first = arrays_in(kernel(**arguments(case, dtype)))
    second = arrays_in(kernel(**arguments(case, dtype)))
    assert [a.tobytes() for a in first] == [a.tobytes() for a in second]


@both_dtypes
@pytest.mark.parametrize("case", STEP_CASES, ids=str)
def test_steps_write_parameters_and_slots_in_place_and_never_gradients(case: Case, dtype: str) -> None:
    given, before = arguments(case, dtype), arguments(case, dtype)
    for g in given["grads"]:
        g.flags.writeable = False
    held = {name: arrays_in(value) for name, value in given.items()}
    assert getattr(reference, case.kernel)(**given) is None
    for name in ("params", *SLOTS):
        for array, same, old in zip(
            arrays_in(given.get(name)), held.get(name, []), arrays_in(before.get(name)), strict=True
        ):
            assert array is same
            assert array.dtype == np.dtype(dtype)
            changed = array != old
            assert changed.any() or array.size == 0 or name == "max_squares"


@both_dtypes
@pytest.mark.parametrize("case", STEP_CASES, ids=str)
def test_a_second_step_from_the_same_state_gives_the_same_bits(case: Case, dtype: str) -> None:
    states = []
    for _ in range(2):
        given = arguments(case, dtype)
        getattr(reference, case.kernel)(**given)
        states.append([array.tobytes() for name in ("params", *SLOTS) for array in arrays_in(given.get(name))])
    assert states[0] == states[1]
