"""The tables: one a group, with ratios to PyTorch and to the fastest, beside the targets."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import ratios, targets
from benchmarks.network_cases import LAYER_KINDS
from benchmarks.ratios import DEFAULT, OURS, Change, Result, against_best, against_default
from benchmarks.targets import Target

NOTICEABLE = 1.1
"""A change of a time that is not taken for noise."""


def show(run: dict[str, Any], console: Console) -> None:
    """All tables of a run."""
    _heading(run, console)
    results: list[Result] = run["results"]
    shown = (("kernels", _kernels), ("steps", _steps), ("inference", _inference), ("scaling", _scaling))
    for group, table in shown:
        if ratios.of_group(results, group):
            console.print(table(run, ratios.of_group(results, group)))
    if ratios.of_group(results, "steps"):
        console.print(_first_calls(run, ratios.of_group(results, "steps")))
        console.print(_memory(run, ratios.of_group(results, "steps")))
    if ratios.of_group(results, "overhead"):
        console.print(_overhead(run, results))
    if ratios.of_group(results, "startup"):
        console.print(_startup(run, ratios.of_group(results, "startup")))
    if summary(results):
        console.print(_summary(results))
    for line in problems(results):
        console.print(f"[red]{line}[/red]")


def problems(results: list[Result]) -> list[str]:
    """Every failure and wrong result, in words."""
    return [
        f"{result['case']['name']}: {name}: {measured['error']}"
        for result in results
        for name, measured in result["measurements"].items()
        if "error" in measured
    ]


def _heading(run: dict[str, Any], console: Console) -> None:
    machine, table = run["machine"], Table(show_header=False, box=None, pad_edge=False)
    table.add_row("processor", f"{machine['processor']}, {machine['cores']} cores; {' '.join(machine['flags'])}")
    if "gemm_flops" in machine:
        rates = f"GEMM {machine['gemm_flops'] / 1e9:.0f} GFLOP/s, copy {machine['copy_bytes'] / 1e9:.1f} GB/s"
        table.add_row("measured limits", rates)
    load = " ".join(f"{value:.2f}" for value in machine["load"] or [])
    table.add_row("run", f"commit {machine['commit']}, {machine['time']}, load {load}")
    options = run["options"]
    table.add_row("threads, rounds", f"{options['threads']}, {options['rounds']}")
    for name, about in run["frameworks"].items():
        told = about.get("absent") or ", ".join(f"{key} {value}" for key, value in about.items())
        table.add_row(name, f"[yellow]{told}[/yellow]" if "absent" in about else told)
    console.print(table)


def _others(run: dict[str, Any], results: list[Result]) -> list[str]:
    """Frameworks that have something to say on these results, and those that are absent."""
    names = [name for name in run["frameworks"] if name != OURS]
    seen = {name for result in results for name, m in result["measurements"].items() if "unsupported" not in m}
    return [name for name in names if name in seen]


# --------------------------------------------------------------------------------------------------- cells


def time_cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def _cell(result: Result, framework: str) -> str:
    """A framework's time, or why there is none."""
    measured = result["measurements"].get(framework)
    if measured is None or "unsupported" in measured:
        return "-"
    return "[red]failed[/red]" if "error" in measured else time_cell(measured.get("median_s"))


def ratio_cell(value: float | None, target: float | None = None) -> str:
    """2.31 (2.0), green where the target is met."""
    if value is None:
        return "-"
    if target is None:
        return f"{value:.2f}"
    return f"[{'green' if value >= target else 'red'}]{value:.2f}[/] ({target:g})"


def _rates(result: Result, machine: dict[str, Any]) -> tuple[str, str]:
    """GFLOP/s or GB/s of ours, and the share of the machine's limit. Winograd's share may be above 100 %."""
    time, case = ratios.seconds(result, OURS), result["case"]
    if time is None or "gemm_flops" not in machine:
        return "-", "-"
    if case["flops"]:
        return f"{case['flops'] / time / 1e9:.0f} GF/s", f"{100 * case['flops'] / time / machine['gemm_flops']:.0f} %"
    if case["bytes"]:
        return f"{case['bytes'] / time / 1e9:.1f} GB/s", f"{100 * case['bytes'] / time / machine['copy_bytes']:.0f} %"
    return "-", "-"


def _throughput(result: Result) -> str:
    """Pictures that minicnn takes through the network in a second."""
    time, case = ratios.seconds(result, OURS), result["case"]
    return f"{case['batch'] / time:,.0f}" if time is not None and case["batch"] else "-"


def _check_cell(result: Result) -> str:
    measured = result["measurements"].get(OURS, {})
    if "check" not in measured:
        return "-"
    error = measured["check"]["error"]
    return "finite" if error is None else f"{error:.0e}"


# --------------------------------------------------------------------------------------------------- tables


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _kernels(run: dict[str, Any], results: list[Result]) -> Table:
    others = _others(run, results)
    columns = (OURS, "rate", "of limit", *others, "vs default", "vs best form", "error", "first call")
    table = _table("Kernels: median time, ratio (target)", "operation", *columns)
    for result in results:
        target = targets.KERNELS.get(result["case"]["target"] or "", None)
        default, best = target or (None, None)
        table.add_row(
            result["case"]["name"],
            _cell(result, OURS),
            *_rates(result, run["machine"]),
            *[_cell(result, name) for name in others],
            ratio_cell(against_default(result), default),
            ratio_cell(against_best(result)[0], best),
            _check_cell(result),
            time_cell(result["measurements"].get(OURS, {}).get("first_call_s")),
        )
    return table


def _networks(run: dict[str, Any], results: list[Result], title: str) -> Table:
    """Times of all frameworks, ratios, GFLOP/s."""
    others = _others(run, results)
    columns = (OURS, *others, "vs default", "vs fastest", "fastest", "pictures/s", "rate", "of limit", "error")
    table = _table(title, "network", *columns)
    for result in results:
        best, fastest = against_best(result)
        table.add_row(
            result["case"]["name"],
            *[_cell(result, name) for name in (OURS, *others)],
            ratio_cell(against_default(result)),
            ratio_cell(best),
            fastest or "-",
            _throughput(result),
            *_rates(result, run["machine"]),
            _check_cell(result),
        )
    return table


def _steps(run: dict[str, Any], results: list[Result]) -> Table:
    return _networks(run, results, "Training steps: median time, ratio to default PyTorch and to the fastest")


def _inference(run: dict[str, Any], results: list[Result]) -> Table:
    return _networks(run, results, "Inference: latency at batch 1, time of a batch of 128")


def _scaling(run: dict[str, Any], results: list[Result]) -> Table:
    return _networks(run, results, "Cost against batch size, image size, channels and threads")


def _first_calls(run: dict[str, Any], results: list[Result]) -> Table:
    names = [OURS, *_others(run, results)]
    table = _table("First calls: building the network and its first two steps, in a fresh process", "network", *names)
    for result in results:
        firsts = [result["measurements"].get(name, {}).get("first_call_s") for name in names]
        table.add_row(result["case"]["name"], *map(time_cell, firsts))
    return table


def _memory(run: dict[str, Any], results: list[Result]) -> Table:
    others = [name for name in _others(run, results) if name.startswith(DEFAULT)]
    names = [OURS, *others]
    columns = [*(f"{n} peak" for n in names), "/ default", "/ best", *(f"{n} faults" for n in names), "new blocks"]
    title = "Peak memory of building and training, and page faults and new pool blocks a step"
    table = _table(title, "network", *columns)
    for result in results:
        measured = result["measurements"]
        peaks = {name: measured.get(name, {}).get("peak_bytes") for name in names}
        default, best = memory_ratios(result)
        table.add_row(
            result["case"]["name"],
            *["-" if peaks[name] is None else f"{peaks[name] / 2**20:.0f} MiB" for name in names],
            _at_most(default, targets.MEMORY_AT_MOST.default),
            _at_most(best, targets.MEMORY_AT_MOST.best),
            *[_count(measured.get(name, {}).get("minor_faults")) for name in names],
            _count(measured.get(OURS, {}).get("allocations")),
        )
    return table


def memory_ratios(result: Result) -> tuple[float | None, float | None]:
    """Our peak / default PyTorch's, and / the least of PyTorch's forms."""
    measured = result["measurements"]
    peaks = {name: m["peak_bytes"] for name, m in measured.items() if m.get("peak_bytes")}
    ours, forms = peaks.get(OURS), [peak for name, peak in peaks.items() if name.startswith(DEFAULT)]
    if ours is None or not forms:
        return None, None
    return ratios.ratio(ours, peaks.get(DEFAULT)), ours / min(forms)


def _at_most(value: float | None, target: float) -> str:
    return "-" if value is None else f"[{'green' if value <= target else 'red'}]{value:.2f}[/] ({target:g})"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _overhead(run: dict[str, Any], results: list[Result]) -> Table:
    names = [OURS, *_others(run, ratios.of_group(results, "overhead"))]
    costs = {name: ratios.seconds_a_layer(results, name) for name in names}
    table = _table("What one layer more costs on tiny inputs, forward and backward", "layer", *names)
    for kind in LAYER_KINDS:
        cells = [f"{costs[name][kind] * 1e6:.1f} us" if kind in costs[name] else "-" for name in names]
        if kind in costs[OURS]:
            met = costs[OURS][kind] * 1e6 <= targets.MICROSECONDS_A_LAYER
            cells[0] = f"[{'green' if met else 'red'}]{cells[0]}[/] ({targets.MICROSECONDS_A_LAYER:g})"
        table.add_row(kind, *cells)
    return table


def _startup(run: dict[str, Any], results: list[Result]) -> Table:
    names = [OURS, *_others(run, results)]
    table = _table("The start of a process", "from, to", *names)
    for result in results:
        table.add_row(result["case"]["name"], *[_cell(result, name) for name in names])
    return table


def _summary(results: list[Result]) -> Table:
    """Geometric means and worst cases beside their targets."""
    table = _table(
        "Summary: ratio (target); above 1 minicnn is faster", "", "against default PyTorch", "against the best"
    )
    for label, default, best, target in summary(results):
        table.add_row(label, ratio_cell(default, target and target.default), ratio_cell(best, target and target.best))
    return table


def summary(results: list[Result]) -> list[tuple[str, float | None, float | None, Target | None]]:
    """Rows of label, ratio to default PyTorch, ratio to the best, target."""
    rows: list[tuple[str, float | None, float | None, Target | None]] = []
    kernels = ratios.of_group(results, "kernels")
    for name, target in targets.KERNELS.items():
        rows.append(_mean_row(name, [r for r in kernels if r["case"]["target"] == name], target))
    steps, inference = ratios.of_group(results, "steps"), ratios.of_group(results, "inference")
    rows.append(_mean_row("training steps", steps, targets.STEPS_GEOMETRIC_MEAN))
    worst = ratios.worst(map(against_default, steps)), ratios.worst(against_best(r)[0] for r in steps)
    rows.append(("training steps, worst", *worst, targets.STEPS_WORST))
    for batch in (1, 128):
        chosen = [r for r in inference if r["case"]["batch"] == batch]
        rows.append(_mean_row(f"inference, batch {batch}", chosen, targets.INFERENCE_GEOMETRIC_MEAN))
    return [row for row in rows if row[1] is not None or row[2] is not None]


def _mean_row(
    label: str, results: list[Result], target: Target
) -> tuple[str, float | None, float | None, Target | None]:
    default = ratios.geometric_mean(map(against_default, results))
    return label, default, ratios.geometric_mean(against_best(r)[0] for r in results), target


def show_changes(found: list[Change], console: Console) -> None:
    """An old run against this one."""
    table = _table("minicnn, old run and new: above 1 the new one is faster", "case", "old", "new", "old / new")
    for change in found:
        colour = "green" if change.speedup > NOTICEABLE else "red" if change.speedup < 1 / NOTICEABLE else "default"
        table.add_row(
            change.name, time_cell(change.old), time_cell(change.new), f"[{colour}]{change.speedup:.2f}[/{colour}]"
        )
    mean = ratios.geometric_mean(change.speedup for change in found)
    table.add_row("geometric mean", "", "", "-" if mean is None else f"{mean:.2f}")
    console.print(table)
