"""Every differentiable operation on the device: its results and gradients against the reference backend's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn.autograd import grad
from minicnn.samples import SAMPLES, Sample
from minicnn.tensor import Tensor
from tests.gpu.comparing import assert_near

CASES = [(sample, options) for sample in SAMPLES.values() for options in sample.options]
IDS = [f"{sample.name} {options or ''}".strip() for sample, options in CASES]

STAYS_ON_THE_HOST = {"to_device"}
"""Operations whose results lie on the host by their meaning."""


def results(sample: Sample, options: dict[str, Any], dtype: Any, device: str) -> list[np.ndarray[Any, Any]]:
    """Outputs and the gradients of all inputs, on the host."""
    arguments = [a.to(device) if isinstance(a, Tensor) else a for a in sample.arguments(dtype)]
    leaves = [a.requires_grad_() for a in arguments if isinstance(a, Tensor) and a.dtype.kind == "f"]
    with minicnn.use_backend("reference" if device == "cpu" else device):
        made = sample.function(*arguments, **options)
    outputs = list(made) if isinstance(made, tuple) else [made]
    rng = np.random.default_rng(11)
    cotangents = [Tensor(rng.standard_normal(y.shape), y.dtype).to(y.device) for y in outputs]
    gradients = [g for g in grad(outputs, leaves, cotangents, allow_unused=True) if g is not None]
    places = {t.device for t in [*outputs, *gradients]}
    assert places == {device} or sample.name in STAYS_ON_THE_HOST
    return [t.numpy() for t in [*outputs, *gradients]]


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-5), ("float64", 1e-11)])
@pytest.mark.parametrize(("sample", "options"), CASES, ids=IDS)
def test_operation_equals_the_reference(sample: Sample, options: dict[str, Any], dtype: str, limit: float) -> None:
    with minicnn.use_backend("reference"):
        exact = results(sample, options, np.float64, "cpu")
    received = results(sample, options, np.dtype(dtype), "gpu")
    for array, oracle in zip(received, exact, strict=True):
        assert_near(array, oracle, limit)
