"""What a run shows of itself: a live bar on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from minicnn.callbacks.base import Callback, Logs

if TYPE_CHECKING:
    from rich.progress import Progress

_SECONDS_BETWEEN_REFRESHES = 0.1


def progress_display(verbose: str | int) -> Display | None:
    """The display for an argument `verbose`: "auto", 0 (None), 1 (a bar, if there is a terminal) or 2 (lines).

    Raises ValueError for anything else.
    """
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"verbose must be 'auto', 0 (silent), 1 (a bar) or 2 (a line an epoch). Received: {verbose!r}")
    if verbose == 0:
        return None
    if verbose != 2 and sys.stdout.isatty():
        return BarDisplay()
    return LineDisplay(shows_predictions=verbose != "auto")


def format_logs(logs: Logs, between: str = ": ") -> list[str]:
    """["loss: 0.1234", ...]; very small and very large numbers with an exponent, arrays left out."""
    numbers = {name: value for name, value in (logs or {}).items() if isinstance(value, (int, float))}
    return [f"{name}{between}{_format_number(value)}" for name, value in numbers.items()]


def _format_number(value: float) -> str:
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.4e}"


def format_seconds(seconds: float) -> str:
    """20ms, 3.2s, 45s, 2:05, 1:02:05"""
    if seconds < 0.1:
        return f"{1000 * seconds:.0f}ms"
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Display(Callback):
    """Base of both: tells the phases of a run apart, and measures their time and rate.

    Subclasses say what to do when a phase (an epoch, an evaluation, a prediction) opens, goes on and ends. Validation
    within `fit` is part of the epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._in_fit = False
        self.steps_done = 0
        self.started = self.steps_seconds = 0.0

    def open(self, title: str) -> None:
        """A phase begins."""

    def step(self, logs: Logs) -> None:
        """A batch is done."""

    def end(self, title: str, logs: Logs) -> None:
        """The phase is over."""

    def close(self) -> None:
        """The run is over, by an error perhaps: leave the terminal in order."""

    def rate(self) -> str:
        """Samples a second, or where their number is not known the time a step takes."""
        seconds = max(self.steps_seconds, 1e-9)
        steps, samples = self.params.get("steps"), self.params.get("samples")
        if steps and samples:
            return f"{samples * min(self.steps_done / steps, 1) / seconds:,.0f} samples/s"
        return f"{1000 * seconds / max(self.steps_done, 1):.3g} ms/step"

    def _open(self, title: str) -> None:
        self._title, self.steps_done = title, 0
        self.started = time.perf_counter()
        self.steps_seconds = 0.0
        self.open(title)

    def _step(self, logs: Logs) -> None:
        self.steps_done += 1
        self.steps_seconds = time.perf_counter() - self.started
        self.step(logs)

    def on_train_begin(self, logs: Logs = None) -> None:
        self._in_fit = True

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._open(f"Epoch {epoch + 1}/{self.params['epochs']}")

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._step(logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.end(self._title, logs)

    def on_test_begin(self, logs: Logs = None) -> None:
        if not self._in_fit:
            self._open("Evaluate")

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        if not self._in_fit:
            self._step(logs)

    def on_test_end(self, logs: Logs = None) -> None:
        if not self._in_fit:
            self.end(self._title, logs)

    def on_predict_begin(self, logs: Logs = None) -> None:
        self._open("Predict")

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._step(None)

    def on_predict_end(self, logs: Logs = None) -> None:
        self.end(self._title, None)


class LineDisplay(Display):
    """One line of plain text an epoch: Epoch 1/5 - 12s - 5,000 samples/s - loss: 0.1234 - val_loss: 0.2345"""

    def __init__(self, shows_predictions: bool = False) -> None:
        super().__init__()
        self.shows_predictions = shows_predictions

    def end(self, title: str, logs: Logs) -> None:
        if logs or self.shows_predictions:
            seconds = format_seconds(time.perf_counter() - self.started)
            print(" - ".join([title, seconds, self.rate(), *format_logs(logs)]), flush=True)


class BarDisplay(Display):
    """A live bar with loss, metrics, rate and the time that is left. A line takes its place when the phase is over."""

    def __init__(self) -> None:
        super().__init__()
        self._progress: Progress | None = None
        self._refreshed = 0.0

    def open(self, title: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.close()
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn(" [yellow]{task.fields[state]}"),
            TextColumn(" {task.fields[logs]}"),
            auto_refresh=False,  # drawn between batches: no thread that takes time from the training
            transient=True,
        )
        self._task = self._progress.add_task(title, total=self.params.get("steps"), state="", logs="")
        self._progress.start()

    def step(self, logs: Logs) -> None:
        now = time.perf_counter()
        if now - self._refreshed >= _SECONDS_BETWEEN_REFRESHES:
            self._refreshed = now
            self._draw("  ".join([*self._time_left(), self.rate()]), logs)

    def on_test_begin(self, logs: Logs = None) -> None:
        super().on_test_begin(logs)
        if self._in_fit:
            self._draw("validating", None)

    def _time_left(self) -> list[str]:
        steps = self.params.get("steps")
        if not steps:
            return []
        seconds = self.steps_seconds / self.steps_done * (steps - self.steps_done)
        return [f"{format_seconds(max(seconds, 0.1))} left"]

    def _draw(self, state: str, logs: Logs) -> None:
        if self._progress is not None:
            fields: dict[str, Any] = {} if logs is None else {"logs": _coloured(logs)}
            self._progress.update(self._task, completed=self.steps_done, state=state, **fields)
            self._progress.refresh()

    def end(self, title: str, logs: Logs) -> None:
        console = None if self._progress is None else self._progress.console
        self.close()
        if console is not None and logs:
            seconds = format_seconds(time.perf_counter() - self.started)
            console.print(f"[bold]{title}[/]  [dim]{seconds}  {self.rate()}[/]  {_coloured(logs)}", highlight=False)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _coloured(logs: Logs) -> str:
    """Names in grey, numbers in colour; those of the validation in another."""
    parts: list[Any] = []
    for text in format_logs(logs, " "):
        name, number = text.rsplit(" ", 1)
        parts.append(f"[dim]{name}[/] [{'magenta' if name.startswith('val_') else 'cyan'}]{number}[/]")
    return "  ".join(parts)
