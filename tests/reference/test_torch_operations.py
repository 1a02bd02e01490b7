"""Every operation of the table against PyTorch in float64: outputs, and gradients under random cotangents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn.autograd import grad
from minicnn.samples import SAMPLES, Sample
from minicnn.tensor import Tensor

torch = pytest.importorskip("torch")

from tests.reference.torch_operations import OPERATIONS, WITHOUT_A_COUNTERPART  # noqa: E402

CASES = [(s, options) for s in SAMPLES.values() for options in s.options if s.name not in WITHOUT_A_COUNTERPART]


def to_torch(argument: Any) -> Any:
    if not isinstance(argument, Tensor):
        return argument
    made = torch.from_numpy(argument.data.copy())
    return made.requires_grad_() if made.dtype == torch.float64 else made


@pytest.mark.parametrize(("sample", "options"), CASES, ids=[f"{s.name} {o or ''}".strip() for s, o in CASES])
def test_outputs_and_gradients_equal_torch(sample: Sample, options: dict[str, Any]) -> None:
    ours = sample.arguments()
    theirs = [to_torch(argument) for argument in ours]
    leaves = [a.requires_grad_() for a in ours if isinstance(a, Tensor) and a.dtype == np.float64]
    torch_leaves = [t for t in theirs if isinstance(t, torch.Tensor) and t.requires_grad]

    result = sample.function(*ours, **options)
    torch_result = OPERATIONS[sample.name](*theirs, **options)
    outputs = list(result) if isinstance(result, tuple) else [result]
    torch_outputs = list(torch_result) if isinstance(torch_result, tuple) else [torch_result]
    for y, t in zip(outputs, torch_outputs, strict=True):
        np.testing.assert_allclose(y.data, t.detach().numpy(), rtol=1e-10, atol=1e-10)

    rng = np.random.default_rng(5)
    cotangents = [rng.standard_normal(y.shape) for y in outputs]
    found = grad(outputs, leaves, [Tensor(np.asarray(v)) for v in cotangents], allow_unused=True)
    expected = torch.autograd.grad(
        torch_outputs, torch_leaves, [torch.as_tensor(v) for v in cotangents], allow_unused=True
    )
    for g, t in zip(found, expected, strict=True):
        if g is not None and t is not None:
            np.testing.assert_allclose(g.data, t.numpy(), rtol=1e-10, atol=1e-10)
        else:
            assert g is None or not np.any(g.data)
            assert t is None or not t.any()


def test_every_sample_is_compared_or_excused() -> None:
    assert OPERATIONS.keys() | WITHOUT_A_COUNTERPART == SAMPLES.keys()
    assert OPERATIONS.keys() & WITHOUT_A_COUNTERPART == set()
