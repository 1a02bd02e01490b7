"""Ratios, comparisons, checks and tables, on made-up results."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks import peers, plots, ratios, report
from benchmarks.__main__ import main
from benchmarks.check import compare
from benchmarks.workers.protocol import digest


def _result(group: str, name: str, times: dict[str, float], **case: Any) -> dict[str, Any]:
    described = {"group": group, "name": name, "target": None, "flops": 2e9, "bytes": 0, "batch": 1, "sweep": None}
    measurements = {framework: {"median_s": time, "samples": [time]} for framework, time in times.items()}
    return {"case": {**described, **case}, "measurements": measurements}


def _run(*results: dict[str, Any], frameworks: dict[str, Any] | None = None) -> dict[str, Any]:
    machine = {
        "processor": "a processor",
        "cores": 2,
        "flags": [],
        "commit": "abc",
        "time": "now",
        "load": [0.0, 0.0, 0.0],
        "gemm_flops": 2e11,
        "copy_bytes": 2e10,
    }
    known = frameworks or {"minicnn": {"version": "0"}, "torch": {"version": "2"}, "torch-best": {"version": "2"}}
    options = {"rounds": 5, "threads": 2, "sample_s": 0.1, "pause": 0.1}
    return {"format": 1, "machine": machine, "options": options, "frameworks": known, "results": list(results)}


def _shown(run: dict[str, Any]) -> str:
    console = Console(width=220, record=True, file=io.StringIO())
    report.show(run, console)
    return console.export_text()


def test_kernels_are_compared_with_pytorch_and_networks_with_all() -> None:
    times = {"minicnn": 1.0, "torch": 4.0, "torch-best": 3.0, "tensorflow": 2.0}
    assert ratios.against_default(_result("kernels", "k", times)) == 4.0
    assert ratios.against_best(_result("kernels", "k", times)) == (3.0, "torch-best")
    assert ratios.against_best(_result("steps", "s", times)) == (2.0, "tensorflow")


def test_missing_times_give_no_ratio() -> None:
    assert ratios.against_default(_result("kernels", "k", {"minicnn": 1.0})) is None
    assert ratios.against_best(_result("kernels", "k", {"minicnn": 1.0})) == (None, "")
    assert ratios.geometric_mean([None]) is None


def test_geometric_mean() -> None:
    assert ratios.geometric_mean([2.0, 8.0, None]) == pytest.approx(4.0)


def test_cost_of_a_layer_is_the_difference_of_two_depths() -> None:
    results = [
        _result("overhead", "relu x 2", {"minicnn": 100e-6}),
        _result("overhead", "relu x 22", {"minicnn": 300e-6}),
    ]
    assert ratios.seconds_a_layer(results, "minicnn") == {"relu": pytest.approx(10e-6)}


def test_changes_are_old_over_new_for_cases_of_both_runs() -> None:
    old = _run(_result("steps", "a", {"minicnn": 3.0}), _result("steps", "gone", {"minicnn": 1.0}))
    new = _run(_result("steps", "a", {"minicnn": 2.0}), _result("steps", "fresh", {"minicnn": 1.0}))
    (change,) = ratios.changes(old, new)
    assert (change.name, change.speedup) == ("steps/a", 1.5)


def test_table_shows_ratio_target_rate_and_share_of_the_limit() -> None:
    times = {"minicnn": 0.02, "torch": 0.05, "torch-best": 0.04}
    text = _shown(_run(_result("kernels", "c2", times, target="3x3 forward")))
    assert "2.50 (2)" in text
    assert "2.00 (1.8)" in text
    assert "100 GF/s" in text
    assert "50 %" in text


def test_absent_frameworks_are_told() -> None:
    absent = {"minicnn": {"version": "0"}, "torch": {"absent": "not installed (python -m benchmarks peers)"}}
    text = _shown(_run(_result("steps", "A2", {"minicnn": 1.0}), frameworks=absent))
    assert "not installed (python -m benchmarks peers)" in text


def test_failures_are_told() -> None:
    failed = {"case": _result("steps", "A2", {})["case"], "measurements": {"minicnn": {"error": "wrong by 1.0e+00"}}}
    assert report.problems([failed]) == ["A2: minicnn: wrong by 1.0e+00"]
    assert "failed" in _shown(_run(failed))


def test_memory_is_compared_with_the_thriftiest_form() -> None:
    result = _result("steps", "A2", {"minicnn": 1.0})
    result["measurements"] = {n: {"peak_bytes": p} for n, p in (("minicnn", 110), ("torch", 220), ("torch-best", 100))}
    assert report.memory_ratios(result) == (0.5, 1.1)


def test_check_finds_one_wrong_element_and_a_wrong_shape() -> None:
    right = np.linspace(-1, 2, 30).reshape(5, 6)
    wrong = right.copy()
    wrong[3, 2] += 0.01
    expected = {"0": digest(right)}
    assert compare({"0": digest(right)}, expected, 1e-4)["passed"]
    assert compare({"0": digest(wrong)}, expected, 1e-4) == {"passed": False, "error": pytest.approx(0.005)}
    assert not compare({"0": digest(right.T)}, expected, 1e-4)["passed"]
    assert not compare({"0": digest(np.full(3, np.nan))}, {}, 1e-4)["passed"]


def test_random_outputs_need_only_be_finite() -> None:
    outputs, others = {"0": digest(np.ones(3))}, {"0": digest(np.zeros(3))}
    assert compare(outputs, others, 1e-4, compared=False) == {"passed": True, "error": None}


def test_environments_are_looked_for_where_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINICNN_PEERS", str(tmp_path))
    assert {peers.absence(peer) for peer in peers.PEERS} == {"not installed (python -m benchmarks peers)"}
    assert peers.absence(peers.MINICNN) is None


def test_pictures_are_written(tmp_path: Path) -> None:
    times = {"minicnn": 1.0, "torch": 2.0}
    swept = [_result("scaling", f"b {n}", times, sweep=["a step", "batch size", n]) for n in (1, 8)]
    written = plots.draw(_run(_result("steps", "A2", times), *swept), tmp_path)
    assert sorted(path.name for path in written) == ["a_step_batch_size.png", "steps.png"]
    assert all(path.stat().st_size > 5_000 for path in written)


def test_show_reads_results_and_refuses_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(_run(_result("steps", "A2", {"minicnn": 1.0, "torch": 2.0}))))
    bad.write_text("{}")
    assert main(["show", str(good), "--compare", str(good)]) == 0
    assert "old run and new" in capsys.readouterr().out
    assert main(["show", str(bad)]) == 2
    assert "another format" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--group", "nonsense"], "--group must be some of"),
        (["--only", "no such case"], "no case matches"),
        (["--peers", "nobody"], "--peers must be some of"),
        (["--rounds", "0"], "--rounds must be positive"),
        (["--threads", "4096"], "--threads must be 1 to"),
    ],
)
def test_wrong_arguments_say_what_is_right(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_markdown_holds_times_ratios_and_what_was_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = {"minicnn": 0.010, "torch": 0.040, "torch-best": 0.030, "tensorflow": 0.020}
    run = _run(_result("steps", "A2 batch 128", times), _result("kernels", "k", times, target="batch norm"))
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run))
    assert main(["show", str(path), "--markdown"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "| A2 batch 128 | 10 ms | 40 ms | 30 ms | 20 ms | 4.00 | 2.00 (Keras on TensorFlow) | - |" in told
    assert "| batch norm | 4.00 (1.2) | 3.00 (1) |" in told
    assert "| training steps | 4.00 (3) | 2.00 (1.5) |" in told
