"""`minicnn gradcheck [operation]`: a table of all operations, their gradients and gradients of gradients checked."""

from __future__ import annotations

import argparse
from typing import Any

from minicnn.gradcheck import GradcheckReport
from minicnn.samples import check_operations, find_samples


def run(options: argparse.Namespace) -> int:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    console = Console()
    cases = sum(len(sample.options) for sample in find_samples(options.operation))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("operation", no_wrap=True)
    table.add_column("options", overflow="fold")
    table.add_column("gradient", justify="right", no_wrap=True)
    table.add_column("2nd order", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    console.print("Largest errors of analytic gradients, of first and second order, against central differences.")
    failures: list[GradcheckReport] = []
    checks = check_operations(options.operation)
    for sample, chosen, first, second in track(checks, "checking", cases, console=console, transient=True):
        failures += [report for report in (first, second) if not report]
        verdict = "[green]right[/]" if first and second else "[bold red]WRONG[/]"
        table.add_row(sample.name, _words(chosen), _error(first), _error(second), verdict)
    console.print(table)
    for report in failures:
        console.print(str(report), markup=False)
    console.print(f"{cases} cases, {len(failures)} failures.")
    return 1 if failures else 0


def _words(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def _error(report: GradcheckReport) -> str:
    return "-" if report.worst is None else f"{report.worst.error:.1e}"
