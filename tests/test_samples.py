"""Every operation of the table: gradients of both orders, dtypes, strides, inputs left alone, the same bits twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn.autograd import grad
from minicnn.samples import SAMPLES, Sample, check_sample, find_samples
from minicnn.tensor import Tensor

CASES = [(sample, options) for sample in SAMPLES.values() for options in sample.options]
IDS = [f"{sample.name} {options or ''}".strip() for sample, options in CASES]

NOT_DIFFERENTIABLE = {
    "all", "any", "argmax", "argmin", "eq", "ge", "gt", "isfinite", "isnan", "le", "logical_and", "logical_not",
    "logical_or", "lt", "ne", "sign",
    "arange", "as_tensor", "eye", "from_dlpack", "from_numpy", "full", "linspace", "one_hot", "ones", "ones_like",
    "rand", "randint", "randn", "randperm", "tensor", "zeros", "zeros_like",
}  # fmt: skip


def run(sample: Sample, options: dict[str, Any], arguments: list[Any]) -> list[Tensor]:
    result = sample.function(*arguments, **options)
    return list(result) if isinstance(result, tuple) else [result]


def leaves_of(arguments: list[Any]) -> list[Tensor]:
    return [a.requires_grad_() for a in arguments if isinstance(a, Tensor) and a.dtype.kind == "f"]


def outputs_and_gradients(sample: Sample, options: dict[str, Any], arguments: list[Any]) -> list[np.ndarray[Any, Any]]:
    leaves = leaves_of(arguments)
    outputs = run(sample, options, arguments)
    rng = np.random.default_rng(11)
    cotangents = [Tensor(rng.standard_normal(y.shape), y.dtype) for y in outputs]
    gradients = grad(outputs, leaves, cotangents, allow_unused=True)
    return [y.data for y in outputs] + [g.data for g in gradients if g is not None]


@pytest.mark.parametrize(("sample", "options"), CASES, ids=IDS)
def test_gradients_of_both_orders_agree_with_differences(sample: Sample, options: dict[str, Any]) -> None:
    for report in check_sample(sample, options):
        assert report, str(report)


@pytest.mark.parametrize(("sample", "options"), CASES, ids=IDS)
def test_float32_gives_float32_near_the_float64_result(sample: Sample, options: dict[str, Any]) -> None:
    exact = outputs_and_gradients(sample, options, sample.arguments(np.float64))
    single = outputs_and_gradients(sample, options, sample.arguments(np.float32))
    for wide, narrow in zip(exact, single, strict=True):
        assert wide.dtype == np.float64
        assert narrow.dtype == (np.float32 if sample.name != "cast" or narrow is not single[0] else np.float64)
        np.testing.assert_allclose(narrow, wide, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(wide).max(initial=0))))


@pytest.mark.parametrize(("sample", "options"), CASES, ids=IDS)
def test_a_second_run_gives_the_same_bits_and_inputs_stay(sample: Sample, options: dict[str, Any]) -> None:
    arguments = sample.arguments()
    first = outputs_and_gradients(sample, options, arguments)
    second = outputs_and_gradients(sample, options, arguments)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    for used, fresh in zip(arguments, sample.arguments(), strict=True):
        if isinstance(used, Tensor):
            np.testing.assert_array_equal(used.data, fresh.data)


@pytest.mark.parametrize(("sample", "options"), CASES, ids=IDS)
def test_strided_inputs_give_what_contiguous_ones_give(sample: Sample, options: dict[str, Any]) -> None:
    contiguous = outputs_and_gradients(sample, options, sample.arguments())
    strided = []
    for argument in sample.arguments():
        if isinstance(argument, Tensor) and argument.ndim:
            wide = np.repeat(argument.data, 2, axis=-1)
            argument = Tensor._wrap(wide[..., ::2])
        strided.append(argument)
    for a, b in zip(contiguous, outputs_and_gradients(sample, options, strided), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-14)


def test_every_public_operation_has_a_sample() -> None:
    sampled = {name.split()[0] for name in SAMPLES}
    public = set(F.__all__)
    assert public - sampled - NOT_DIFFERENTIABLE == set()
    assert sampled - public == set()
    assert sampled & NOT_DIFFERENTIABLE == set()


def test_operations_that_have_no_gradient_return_tensors_that_need_none() -> None:
    x = minicnn.tensor([[1.0, -2.0], [0.0, 3.0]], requires_grad=True)
    for name in ("argmax", "argmin", "all", "any", "sign", "isnan", "isfinite", "logical_not"):
        assert not getattr(F, name)(x).requires_grad, name
    for name in ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or"):
        assert not getattr(F, name)(x, 1.0).requires_grad, name


def test_an_unknown_operation_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="conv2d"):
        find_samples("conv2")
