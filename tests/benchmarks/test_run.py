"""The whole way, with minicnn alone: worker process, talk, check, table, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.peers import MINICNN
from benchmarks.process import Process, WorkerError


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No other frameworks, and the backend that has nothing to compile."""
    monkeypatch.setenv("MINICNN_PEERS", str(tmp_path / "nothing"))
    monkeypatch.setenv("MINICNN_BACKEND", "reference")


def test_quick_run_without_other_frameworks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "folder" / "run.json"
    assert main(["--quick", "--only", "kernels/c6", "--json", str(path)]) == 0
    assert "not installed (python -m benchmarks peers)" in capsys.readouterr().out
    run = json.loads(path.read_text())
    assert run["frameworks"]["torch"]["absent"]
    assert run["machine"]["gemm_flops"] > 0
    assert [result["case"]["op"] for result in run["results"]] == ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]
    for result in run["results"]:
        measured = result["measurements"]["minicnn"]
        assert measured["median_s"] > 0
        assert len(measured["samples"]) == 2
        assert measured["check"]["error"] < 1e-4


def test_worker_tells_its_errors_and_lives_on() -> None:
    worker = Process(MINICNN, threads=1)
    try:
        with pytest.raises(WorkerError, match="KeyError"):
            worker.ask("prepare", case={})
        assert worker.ask("hello")["version"]
        worker._process.kill()
        with pytest.raises(WorkerError, match="exit status"):
            worker.ask("hello")
    finally:
        worker.close()
