"""What all plots share: colours, a figure without global state, tiles in a grid, and saving whole or not at all.

Only matplotlib's object interface is used (Figure and its Agg canvas, never pyplot), so plots can be made without a
display, in several threads, and without changing a caller's settings.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from minicnn.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PathLike = str | os.PathLike[str]

# Okabe and Ito's palette, told apart by colour-blind readers too, and three greys for all that is not data.
BLUE, VERMILLION = "#0072B2", "#D55E00"
INK, MUTED, FAINT = "#222222", "#6b6b6b", "#e4e4e4"

TITLE, TEXT, SMALL = 12, 9.5, 8  # font sizes in points
MARGIN = 0.25  # inches
HEADER = 0.72  # inches that title and subtitle take
_DOTS_PER_INCH = 160


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of that many inches. Raises ImportError, saying what to install, without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib. Install it with: pip install "minicnn-engine[plot]"') from error
    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: PathLike | None) -> Figure:
    """Write `figure` to `path` as PNG, whole or not at all; nothing where path is None. Returns the figure."""
    if path is None:
        return figure
    with atomic_write(path) as file:
        figure.savefig(file, format="png", facecolor="white", metadata={"Software": None})
    return figure


def check_path(path: PathLike | None) -> None:
    """Refuse, before any work is done, a path that no PNG should be written to."""
    if path is not None and Path(path).suffix.lower() != ".png":
        raise ValueError(f"plots are saved as PNG: path must end in .png. Received: {os.fspath(path)!r}")


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at so many inches from the figure's left and top edges."""
    figure_width, figure_height = figure.get_size_inches()
    bottom = figure_height - top - height
    return figure.add_axes((left / figure_width, bottom / figure_height, width / figure_width, height / figure_height))


def headline(figure: Figure, title: str, subtitle: str, left: float = MARGIN) -> None:
    """A title and, in grey below it, a sentence, both flush left at `left` inches."""
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - 0.2 / height, title, size=TITLE, weight="bold", color=INK, va="top")
    figure.text(left / width, 1 - 0.43 / height, subtitle, size=TEXT, color=MUTED, va="top")


def bare(axes: Axes, frame: str | None = None) -> None:
    """Take ticks and labels away, and the frame, or draw it in the colour `frame`."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(frame is not None)
        spine.set(color=frame or "none", linewidth=0.6)
