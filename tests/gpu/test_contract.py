"""The rules of the contract, held against every function of the GPU backend; its results against the reference's."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from minicnn.kernels import gpu, reference
from tests.gpu.comparing import assert_near, in_float64, to_device, to_host
from tests.kernels.cases import CASES, SLOTS, Case, arguments
from tests.kernels.test_contract import CONTRACT, arrays_in

KERNEL_CASES = [case for case in CASES if not case.kernel.endswith("_step")]
STEP_CASES = [case for case in CASES if case.kernel.endswith("_step")]
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
LIMITS = {"float32": 1e-5, "float64": 1e-12}


def test_gpu_exports_exactly_the_contract() -> None:
    assert sorted(gpu.__all__) == sorted(CONTRACT)


@pytest.mark.parametrize("name", CONTRACT)
def test_parameters_and_annotations_are_those_of_the_contract(name: str) -> None:
    expected = [p for p in inspect.signature(CONTRACT[name]).parameters.values() if p.name != "self"]
    received = list(inspect.signature(getattr(gpu, name)).parameters.values())
    assert [(p.name, p.kind, p.default) for p in received] == [(p.name, p.kind, p.default) for p in expected]
    annotations = {key: value for key, value in CONTRACT[name].__annotations__.items() if key != "self"}
    assert getattr(gpu, name).__annotations__ == annotations


@pytest.mark.parametrize("name", CONTRACT)
def test_every_function_is_of_this_backend(name: str) -> None:
    assert getattr(gpu, name).__module__.startswith("minicnn.kernels.gpu.")


@both_dtypes
@pytest.mark.parametrize("case", KERNEL_CASES, ids=str)
def test_kernel_equals_the_reference_in_float64_twice_and_leaves_its_inputs(case: Case, dtype: str) -> None:
    given = arguments(case, dtype)
    on_device = to_device(given)
    first, second = (to_host(getattr(gpu, case.kernel)(**on_device)) for _ in range(2))
    outputs = getattr(reference, case.kernel)(**given)
    exact = getattr(reference, case.kernel)(**in_float64(given))
    for array, again, like, oracle in zip(*map(arrays_in, ([first], [second], [outputs], [exact])), strict=True):
        assert array.dtype == like.dtype
        assert_near(array, oracle, LIMITS[dtype])
        assert array.tobytes() == again.tobytes()
    for name, value in to_host(on_device).items():
        for array, before in zip(arrays_in(value), arrays_in(given[name]), strict=True):
            np.testing.assert_array_equal(array, before)


@both_dtypes
@pytest.mark.parametrize("case", STEP_CASES, ids=str)
def test_step_equals_the_reference_in_float64_and_leaves_gradients_alone(case: Case, dtype: str) -> None:
    given = arguments(case, dtype)
    on_device, expected = to_device(given), in_float64(given)
    held: dict[str, Any] = {name: list(value) for name, value in on_device.items() if isinstance(value, list)}
    assert getattr(gpu, case.kernel)(**on_device) is None
    getattr(reference, case.kernel)(**expected)
    for name in ("params", "grads", *SLOTS):
        arrays = on_device.get(name) or []
        assert all(a is b for a, b in zip(arrays, held.get(name, []), strict=True))
        for array, oracle in zip(to_host(list(arrays)), expected.get(name) or [], strict=True):
            assert_near(array, oracle, LIMITS[dtype])
