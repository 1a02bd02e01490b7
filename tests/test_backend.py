"""Which kernels serve an array, and how they are chosen."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import backend
from minicnn import functional as F


@pytest.fixture
def doubling(monkeypatch: pytest.MonkeyPatch) -> str:
    """A second backend for the time of a test: the reference, but with a softmax that gives twice too much."""

    def softmax(x: Any) -> Any:
        return 2 * reference.softmax(x)

    reference = backend.get_backend("reference").kernels
    kernels = SimpleNamespace(**{name: getattr(reference, name) for name in backend.kernel_names()})
    kernels.softmax = softmax
    monkeypatch.setitem(sys.modules, "tests.doubling_kernels", kernels)
    monkeypatch.setitem(backend._backends, "doubling", backend.Backend("doubling", np, "tests.doubling_kernels"))
    return "doubling"


def test_the_chosen_backend_computes_within_the_block_and_the_old_one_after(doubling: str) -> None:
    x = minicnn.tensor([[0.0, 0.0]])
    with minicnn.use_backend(doubling) as chosen:
        assert chosen.name == minicnn.current_backend().name == "doubling"
        np.testing.assert_array_equal(F.softmax(x).data, [[1.0, 1.0]])
    np.testing.assert_array_equal(F.softmax(x).data, [[0.5, 0.5]])


def test_the_old_backend_comes_back_after_an_error(doubling: str) -> None:
    with pytest.raises(KeyError), minicnn.use_backend(doubling):
        raise KeyError
    assert minicnn.current_backend().name == "cpu"


def test_use_backend_as_a_call_lasts(doubling: str) -> None:
    minicnn.use_backend(doubling)
    try:
        assert minicnn.current_backend().name == "doubling"
    finally:
        minicnn.use_backend("cpu")


def test_a_node_goes_back_through_the_kernels_that_it_came_by(doubling: str) -> None:
    """Softmax' backward needs no kernel of its own; what it saved is the doubled output y: y * (g - sum(g * y))."""
    x = minicnn.tensor(np.zeros((1, 2)), requires_grad=True)
    with minicnn.use_backend(doubling):
        y = F.softmax(x)
    y[0, 0].backward()
    np.testing.assert_array_equal(x.grad.data, [[1.0 * (1.0 - 1.0), 1.0 * (0.0 - 1.0)]])


def test_implementation_names_the_function_that_runs(doubling: str) -> None:
    assert backend.implementation("conv2d") == "minicnn.kernels.cpu.conv.conv2d"
    assert backend.implementation("conv2d", doubling) == "minicnn.kernels.reference.conv.conv2d"
    assert backend.implementation("softmax", doubling).endswith("doubling.<locals>.softmax")
    with pytest.raises(ValueError, match="Did you mean 'conv2d'"):
        backend.implementation("conv2")


def run_python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_the_environment_chooses_the_first_backend() -> None:
    program = "import minicnn; print(minicnn.current_backend().name)"
    assert run_python(program, MINICNN_BACKEND="reference").stdout == "reference\n"
    failed = run_python(program, MINICNN_BACKEND="referense")
    assert failed.returncode != 0
    assert "MINICNN_BACKEND: backend must be one of ['cpu', 'reference', 'gpu']" in failed.stderr
    assert "Did you mean 'reference'?" in failed.stderr


def test_only_arrays_of_a_backend_are_served() -> None:
    with pytest.raises(TypeError, match="Received: list"):
        backend.backend_of([1.0])


def test_the_gpu_is_refused_with_the_reason_where_there_is_none() -> None:
    failed = run_python("import minicnn; minicnn.use_backend('gpu')", MINICNN_CUPY="no_such_module")
    assert failed.returncode != 0
    assert "RuntimeError: the backend 'gpu' cannot compute here" in failed.stderr
    assert 'pip install "minicnn-engine[gpu]"' in failed.stderr


def test_the_precision_of_the_gpu_can_be_set_anywhere() -> None:
    program = "import minicnn; minicnn.config.precision = 'tf32'; print(minicnn.config.precision)"
    assert run_python(program, MINICNN_CUPY="no_such_module").stdout == "tf32\n"
    assert run_python("import minicnn; print(minicnn.config.precision)", MINICNN_PRECISION="bf16").stdout == "bf16\n"
    with pytest.raises(ValueError, match=r"config\.precision must be one of .* Received: 'fp16'"):
        minicnn.config.precision = "fp16"
