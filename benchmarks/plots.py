"""Pictures of a run: a curve a sweep, bars of the ratios."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks import ratios
from benchmarks.ratios import OURS, Result


def draw(run: dict[str, Any], folder: Path) -> list[Path]:
    """Write the pictures that the run has data for; their paths. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    written = _curves(run["results"], folder)
    for group in ("kernels", "steps", "inference"):
        bars = [r for r in ratios.of_group(run["results"], group) if ratios.against_best(r)[0] is not None]
        if bars:
            written.append(_bars(group, bars, folder / f"{group}.png"))
    return written


def _curves(results: list[Result], folder: Path) -> list[Path]:
    from matplotlib import pyplot

    sweeps: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in ratios.of_group(results, "scaling"):
        curve, axis, _ = result["case"]["sweep"]
        sweeps[curve, axis].append(result)
    written = []
    for (curve, axis), points in sweeps.items():
        figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
        for name in dict.fromkeys(name for point in points for name in point["measurements"]):
            timed = [(p["case"]["sweep"][2], s) for p in points if (s := ratios.seconds(p, name)) is not None]
            if timed:
                axes.plot(
                    [x for x, _ in timed],
                    [1e3 * s for _, s in timed],
                    marker="o",
                    label=name,
                    linewidth=2.5 if name == OURS else 1.2,
                )
        axes.set(xlabel=axis, ylabel="milliseconds", title=curve, xscale="log", yscale="log")
        values = sorted({point["case"]["sweep"][2] for point in points})
        axes.set_xticks(values, [str(value) for value in values])
        axes.xaxis.minorticks_off()
        axes.legend()
        written.append(folder / f"{curve} {axis}.png".replace(" ", "_"))
        figure.savefig(written[-1], dpi=120)
        pyplot.close(figure)
    return written


def _bars(group: str, results: list[Result], path: Path) -> Path:
    """Ratio to default PyTorch and to the best, a pair of bars a case."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.32 * len(results)), layout="constrained")
    rows = range(len(results))
    for offset, label, values in (
        (-0.2, "default PyTorch", [ratios.against_default(r) or 1.0 for r in results]),
        (0.2, "the best form", [ratios.against_best(r)[0] or 1.0 for r in results]),
    ):
        axes.barh([row + offset for row in rows], [value - 1 for value in values], 0.4, left=1.0, label=label)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(rows, [r["case"]["name"] for r in results], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="peer's time / minicnn's: above 1 minicnn is faster", title=group)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path
