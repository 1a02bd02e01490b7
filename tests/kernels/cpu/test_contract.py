"""The rules of the contract, held against every function of the CPU backend; its results against the reference's."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from minicnn.kernels import cpu, reference
from minicnn.kernels.contract import Array
from minicnn.kernels.preparing import Preparing
from tests.kernels.cases import CASES, SLOTS, Case, arguments
from tests.kernels.test_contract import CONTRACT, arrays_in

KERNEL_CASES = [case for case in CASES if not case.kernel.endswith("_step")]
STEP_CASES = [case for case in CASES if case.kernel.endswith("_step")]
PREPARING = [name for name in vars(Preparing) if name.startswith("prepare")]
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def doubled(value: Any) -> Any:
    """The same arguments in float64."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float64) if value.dtype.kind == "f" else value
    if isinstance(value, dict):
        return {name: doubled(part) for name, part in value.items()}
    return [doubled(part) for part in value] if isinstance(value, list) else value


def assert_near(received: Array, expected: Array, dtype: str) -> None:
    """Within 1e-5 (float32) or 1e-12 of the largest number; integers exactly."""
    assert received.shape == expected.shape
    if expected.dtype.kind in "iu":
        np.testing.assert_array_equal(received, expected)
        return
    limit = (1e-5 if dtype == "float32" else 1e-12) * max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(received, expected, rtol=0, atol=limit)


def test_cpu_exports_exactly_the_contract() -> None:
    assert sorted(cpu.__all__) == sorted([*CONTRACT, *PREPARING])


@pytest.mark.parametrize("name", CONTRACT)
def test_parameters_and_annotations_are_those_of_the_contract(name: str) -> None:
    expected = [p for p in inspect.signature(CONTRACT[name]).parameters.values() if p.name != "self"]
    received = list(inspect.signature(getattr(cpu, name)).parameters.values())
    assert [(p.name, p.kind, p.default) for p in received] == [(p.name, p.kind, p.default) for p in expected]
    annotations = {key: value for key, value in CONTRACT[name].__annotations__.items() if key != "self"}
    assert getattr(cpu, name).__annotations__ == annotations


@pytest.mark.parametrize("name", CONTRACT)
def test_every_function_is_of_this_backend(name: str) -> None:
    assert getattr(cpu, name).__module__.startswith("minicnn.kernels.cpu.")


@both_dtypes
@pytest.mark.parametrize("case", KERNEL_CASES, ids=str)
def test_kernel_equals_the_reference_in_float64(case: Case, dtype: str) -> None:
    received = arrays_in(getattr(cpu, case.kernel)(**arguments(case, dtype)))
    expected = arrays_in(getattr(reference, case.kernel)(**doubled(arguments(case, dtype))))
    for array, oracle in zip(received, expected, strict=True):
        assert_near(array, oracle, dtype)


@both_dtypes
@pytest.mark.parametrize("case", KERNEL_CASES, ids=str)
def test_outputs_are_new_the_same_bits_each_time_and_inputs_stay(case: Case, dtype: str) -> None:
    given, untouched = arguments(case, dtype), arguments(case, dtype)
    first = getattr(cpu, case.kernel)(**given)
    expected_dtypes = [array.dtype for array in arrays_in(getattr(reference, case.kernel)(**untouched))]
    outputs = arrays_in(first if isinstance(first, tuple) else (first,))
    assert [array.dtype for array in outputs] == expected_dtypes
    for output in outputs:
        assert output.flags.carray
        assert not any(np.shares_memory(output, array) for array in arrays_in(list(given.values())))
    second = arrays_in(getattr(cpu, case.kernel)(**given))
    assert [array.tobytes() for array in outputs] == [array.tobytes() for array in second]
    for name, value in given.items():
        for array, before in zip(arrays_in(value), arrays_in(untouched[name]), strict=True):
            np.testing.assert_array_equal(array, before)


@both_dtypes
@pytest.mark.parametrize("case", STEP_CASES, ids=str)
def test_step_equals_the_reference_in_float64_and_leaves_gradients_alone(case: Case, dtype: str) -> None:
    received, expected = arguments(case, dtype), doubled(arguments(case, dtype))
    held = {name: arrays_in(value) for name, value in received.items()}
    assert getattr(cpu, case.kernel)(**received) is None
    getattr(reference, case.kernel)(**expected)
    for name in ("params", "grads", *SLOTS):
        new, old = arrays_in(received.get(name)), held.get(name, [])
        assert all(a is b for a, b in zip(new, old, strict=True))
        for array, oracle in zip(new, arrays_in(expected.get(name)), strict=True):
            assert_near(array, oracle, dtype)
