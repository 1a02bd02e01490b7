"""A run's main tables as Markdown, for the README: `python -m benchmarks show FILE --markdown`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.ratios import Result, against_best, against_default, of_group, seconds
from benchmarks.report import memory_ratios, summary, time_cell

FRAMEWORKS = {
    "minicnn": "minicnn",
    "torch": "PyTorch",
    "torch-best": "PyTorch, best form",
    "tensorflow": "Keras on TensorFlow",
    "jax": "JAX",
    "onnxruntime": "onnxruntime",
}


def tables(run: dict[str, Any]) -> str:
    """Training steps, inference, and all rows that have a target."""
    results = run["results"]
    parts = [
        _networks(of_group(results, "steps"), "training step", memory=True),
        _networks(of_group(results, "inference"), "inference", memory=False),
        _targets(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _networks(results: Sequence[Result], what: str, memory: bool) -> str:
    if not results:
        return ""
    present = [name for name in FRAMEWORKS if any(seconds(result, name) is not None for result in results)]
    head = [what, *(FRAMEWORKS[name] for name in present), "to PyTorch", "to the fastest"]
    rows = []
    for result in results:
        best, fastest = against_best(result)
        row = [result["case"]["name"], *(time_cell(seconds(result, name)) for name in present)]
        row += [_times(against_default(result)), f"{_times(best)} ({FRAMEWORKS.get(fastest, fastest)})"]
        if memory:
            row.append(_times(memory_ratios(result)[0]))
        rows.append(row)
    return _table([*head, "peak memory to PyTorch's"] if memory else head, rows)


def _targets(results: Sequence[Result]) -> str:
    rows = []
    for label, default, best, target in summary(list(results)):
        asked = ("", "") if target is None else (f" ({target.default:g})", f" ({target.best:g})")
        rows.append([label, _times(default) + asked[0], _times(best) + asked[1]])
    return _table(["ratio (asked)", "against default PyTorch", "against the best form"], rows) if rows else ""


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
