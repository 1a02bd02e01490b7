"""What workers share: the protocol, and that it runs where minicnn is not installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks import machine
from benchmarks.workers import data, keras_style
from benchmarks.workers.protocol import Case, Session, Unsupported, Work, Worker


class Counting(Worker):
    """A framework that counts its calls."""

    calls = 0

    def describe(self) -> dict[str, Any]:
        return {"version": "1"}

    def kernel(self, case: Case) -> Work:
        if case["op"] == "strange":
            raise Unsupported("too strange")
        return Work(self.count, lambda: {"0": np.array([self.calls])})

    def count(self) -> float:
        self.calls += 1
        return 1.0 / self.calls

    def train(self, case: Case) -> Callable[[], float]:
        return self.count

    def predict(self, case: Case) -> Callable[[], Any]:
        return self.count


def test_preparing_a_kernel_calls_it_once_before_its_outputs() -> None:
    reply = Session(Counting(1)).answer({"command": "prepare", "case": {"op": "relu"}})
    assert reply["outputs"]["0"]["values"] == [1.0]
    assert reply["first_call_s"] >= 0


def test_preparing_a_training_step_tells_two_losses() -> None:
    reply = Session(Counting(1)).answer({"command": "prepare", "case": {"op": "train"}})
    assert reply["outputs"]["losses"]["values"] == [1.0, 0.5]


def test_many_iterations_warm_up_with_one_more() -> None:
    worker = Counting(1)
    session = Session(worker)
    session.answer({"command": "prepare", "case": {"op": "relu"}})
    session.answer({"command": "run", "iterations": 1})
    assert worker.calls == 2
    reply = session.answer({"command": "run", "iterations": 10})
    assert worker.calls == 2 + 11
    assert reply["allocations"] is None


def test_unsupported_is_raised_to_the_talk() -> None:
    with pytest.raises(Unsupported, match="too strange"):
        Session(Counting(1)).answer({"command": "prepare", "case": {"op": "strange"}})


def test_inputs_are_the_same_each_time() -> None:
    case = {"args": {"shapes": {"x": (3, 5), "w": (5, 2)}, "classes": 4}, "seed": 3}
    first, second = data.kernel_inputs(case), data.kernel_inputs(case)
    assert first.keys() == {"x", "w", "target"}
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_dropout_is_compared_by_share_and_scale() -> None:
    x = np.full(1000, 3.0)
    case = {"op": "dropout", "args": {"rate": 0.5}}
    y = np.where(np.arange(1000) % 2, 6.0, 0.0)
    right, wrong = (data.comparable(case, {"x": x}, [array]) for array in (y, y * 1.5))
    assert right == {"share": [0.5], "scale": [2.0]}
    assert wrong["scale"] == [3.0]


def test_workers_need_neither_minicnn_nor_rich() -> None:
    """They run in the other frameworks' environments."""
    hidden = "import sys; sys.modules.update(dict.fromkeys(['minicnn', 'rich', 'numba']))"
    modules = ", ".join(module.__name__ for module in (data, keras_style, sys.modules[Session.__module__]))
    code = f"{hidden}; import {modules}, benchmarks.networks"
    assert subprocess.run([sys.executable, "-c", code], cwd=machine.ROOT).returncode == 0


def test_worker_environment_has_equal_threads_and_no_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    environment = machine.worker_environment(3, {"MALLOC_TRIM_THRESHOLD_": "7"})
    assert "OPENBLAS_CORETYPE" not in environment
    assert "MALLOC_TOP_PAD_" not in environment
    assert environment["MALLOC_TRIM_THRESHOLD_"] == "7"
    assert {environment[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")} == {"3"}
