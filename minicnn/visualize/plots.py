"""Plots of how a network trained and what it gets wrong: curves and a confusion matrix.

Every function returns matplotlib's Figure and, where `path` is given, saves it as PNG, whole or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.visualize.figures import (
    BLUE,
    FAINT,
    HEADER,
    INK,
    MUTED,
    SMALL,
    TEXT,
    TITLE,
    VERMILLION,
    PathLike,
    check_path,
    headline,
    new_figure,
    place,
    save,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 8.6  # inches: 1,376 pixels, sharp at a README's 830
_STRONG_ERROR = 0.05  # share of a row: where no error is larger, one of this size takes the full colour
_SETTINGS = ("learning_rate", "lr")  # logged among the metrics, but of neither training nor validation data
_MAX_LABELLED_CLASSES = 20  # above it a confusion matrix shows colours without numbers


def plot_history(history: Mapping[str, Sequence[float]], path: PathLike | None = None) -> Figure:
    """Curves of a training run, one panel for the loss and one for each metric: training in blue, validation in orange.

    history: metric name -> one number an epoch, as `History.history`; a validation series is named "val_" + its metric
        and may be shorter, after `fit(validation_freq=k)`: its points then lie at every k-th epoch.

    Raises ValueError where history is empty or its other series differ in length.
    """
    check_path(path)
    lengths = {name: len(values) for name, values in history.items()}
    own = {length for name, length in lengths.items() if not name.startswith("val_")} or set(lengths.values())
    if len(own) != 1 or not 0 < min(lengths.values()) <= max(lengths.values()) <= max(own):
        raise ValueError(f"plot_history: expected series of one length, an epoch or more. Received lengths: {lengths}")
    metrics = list(dict.fromkeys(name.removeprefix("val_") for name in history))
    columns = min(len(metrics), 2)
    rows = math.ceil(len(metrics) / columns)
    panel, height, labels = _WIDTH / 2, 3.0, 1.35  # inches; labels: the room at the right of the curves
    figure = new_figure(columns * panel, rows * height)
    for index, metric in enumerate(metrics):
        row, column = divmod(index, columns)
        axes = place(figure, column * panel + 0.6, row * height + 0.5, panel - 0.6 - labels, height - 1.05)
        series = {"train": history.get(metric), "validation": history.get(f"val_{metric}")}
        _draw_curves(axes, metric, {name: values for name, values in series.items() if values is not None}, max(own))
    return save(figure, path)


def _draw_curves(axes: Axes, metric: str, series: Mapping[str, Sequence[float]], count: int) -> None:
    """Draw the one or two `series` of a panel over `count` epochs."""
    from matplotlib.ticker import MaxNLocator

    ends = []
    for name, values in series.items():
        color = BLUE if name == "train" else VERMILLION
        y = np.asarray(values, np.float64)
        epochs = np.arange(1, len(y) + 1) * (count // len(y))
        marker = 3.5 if len(y) <= 30 else 0
        axes.plot(epochs, y, color=color, linewidth=1.8, marker="o", markersize=marker, clip_on=False)
        finite = np.flatnonzero(np.isfinite(y))
        if len(finite):
            text = _short(y[-1]) if metric in _SETTINGS else f"{name} {_short(y[-1])}"
            ends.append((y[finite[-1]], text, color))
    axes.set_title(metric.replace("_", " "), loc="left", size=TITLE, weight="bold", color=INK, pad=10, parse_math=False)
    axes.set_xlabel("epoch", size=TEXT, color=MUTED, labelpad=6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlim(0.5 if count == 1 else 1, max(count, 1.5))
    axes.margins(y=0.08)
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=MUTED, pad=5)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    _label_ends(axes, ends)


def _short(value: float) -> str:
    return f"{value:.4f}" if 1e-3 <= abs(value) < 10 else f"{value:.4g}"


def _label_ends(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Name each curve at its end, the names pushed apart where the curves meet."""
    low, high = axes.get_ylim()
    gap = 0.09  # of the axes' height: a line of text
    ends = sorted(ends)
    heights = [(y - low) / (high - low) for y, _, _ in ends]
    if len(heights) == 2 and heights[1] - heights[0] < gap:
        middle = min(max(sum(heights) / 2, gap / 2), 1 - gap / 2)
        heights = [middle - gap / 2, middle + gap / 2]
    for height, (_, text, color) in zip(heights, ends, strict=True):
        axes.annotate(
            text, (1, height), xytext=(8, 0), xycoords="axes fraction", textcoords="offset points",
            va="center", size=TEXT, color=color, annotation_clip=False,
        )  # fmt: skip


def plot_confusion_matrix(
    matrix: Any, class_names: Sequence[str], path: PathLike | None = None, normalize: bool = False
) -> Figure:
    """A confusion matrix: a row for each true class, a column for each predicted one.

    Right answers are blue, errors orange, both the stronger the larger their share of the row; the errors' colour is
    scaled to the largest of them, so that a good network's few are seen. At the right stands each class's recall.

    matrix: (K, K) counts, as `metrics.confusion_matrix` gives them. normalize: show percent of the row, not counts.

    Raises ValueError for a matrix that is not square, counts that are negative or not finite, or K names missing.
    """
    check_path(path)
    counts = np.asarray(matrix, np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ValueError(f"plot_confusion_matrix: matrix must be (K, K). Received shape: {counts.shape}")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("plot_confusion_matrix: counts must be finite and not negative. Received others")
    if len(class_names) != len(counts):
        raise ValueError(
            f"plot_confusion_matrix: expected {len(counts)} class_names. Received: {len(class_names)}: {class_names!r}"
        )
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros_like(counts), where=rows > 0)
    names = [str(name) for name in class_names]
    longest = max(map(len, names))
    left, top = 0.75 + 0.075 * longest, HEADER + 0.5 + (0.045 * longest if longest > 3 else 0)
    side = min(_WIDTH - left - 0.85, 0.62 * max(len(counts), 5))
    figure = new_figure(left + side + 0.85, top + side + 0.4)
    axes = place(figure, left, top, side, side)
    axes.imshow(_confusion_colors(shares), aspect="equal", interpolation="nearest")
    if len(counts) <= _MAX_LABELLED_CLASSES:
        _write_cells(axes, counts, shares, normalize)
    _label_classes(axes, names, shares.diagonal(), slanted=longest > 3)
    right = counts.trace() / max(counts.sum(), 1)
    subtitle = f"{_count(counts.trace())} of {_count(counts.sum())}" + (", percent of each row" if normalize else "")
    headline(figure, f"{100 * right:.2f} % right", subtitle, left)
    return save(figure, path)


def _confusion_colors(shares: np.ndarray) -> np.ndarray:
    """(K, K, 3) colours: from white to blue on the diagonal, from white to vermillion off it."""
    from matplotlib.colors import to_rgb

    right = np.eye(len(shares), dtype=bool)
    errors = np.where(right, 0, shares)
    strength = np.where(right, 0.75 * shares, 0.85 * (errors / max(errors.max(), _STRONG_ERROR)) ** 0.7)[:, :, None]
    full = np.where(right[:, :, None], to_rgb(BLUE), to_rgb(VERMILLION))
    return 1 - strength * (1 - full)


def _write_cells(axes: Axes, counts: np.ndarray, shares: np.ndarray, normalize: bool) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count == 0:
            continue
        text = f"{100 * shares[row, column]:.1f}" if normalize else _count(count)
        color, weight = ("white", "bold") if row == column and shares[row, column] > 0.75 else (INK, "normal")
        axes.text(column, row, text, ha="center", va="center", size=TEXT, color=color, weight=weight)


def _count(count: float) -> str:
    return f"{count:,.0f}" if count == int(count) else f"{count:,.1f}"


def _label_classes(axes: Axes, names: Sequence[str], recalls: np.ndarray, slanted: bool) -> None:
    ticks = np.arange(len(names))
    axes.set_xticks(ticks, names, rotation=40 if slanted else 0, ha="left" if slanted else "center")
    axes.set_yticks(ticks, names)
    axes.xaxis.tick_top()
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)  # a dollar sign in a name is a dollar sign
    axes.tick_params(length=0, labelsize=min(TEXT, 220 / len(names)), labelcolor=INK, pad=3)
    axes.set_xlabel("predicted", size=TEXT, color=MUTED, loc="left", labelpad=8)
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("true", size=TEXT, color=MUTED, loc="top", labelpad=8)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    edge = len(names) - 0.5
    notes = [(row, f"{100 * recall:.1f} %", 0) for row, recall in enumerate(recalls)]
    for row, text, drop in [*notes, (edge, "recall", -8)]:
        axes.annotate(
            text, (edge, row), xytext=(8, drop), textcoords="offset points",
            va="center", size=min(SMALL, 220 / len(names)), color=MUTED, annotation_clip=False,
        )  # fmt: skip
