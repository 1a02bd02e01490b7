"""Numbers that change from step to step while a captured step is replayed: they live in device memory.

A CUDA graph repeats its launches with the very arguments of the capture, so a learning rate passed by value would stay
what it was then. While `capturing(live)` is in force, the optimizer kernels read the rate and the step's number, and
dropout the place in its random streams, from a `LiveScalars`, whose arrays `advance` rewrites before each replay.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.gpu.runtime import cp

SCHEDULE = ("lr", "step", "momentum_now", "momentum_next", "momentum_product")
"""What the elements of LiveScalars.schedule mean; the last three are those of Nadam."""


class LiveScalars:
    """Device memory for the numbers of the next step.

    schedule       (5,) float64, see SCHEDULE
    stream_offset  (1,) uint64, added to the stream of every dropout
    """

    def __init__(self) -> None:
        self.schedule: Array = cp.zeros(len(SCHEDULE), np.float64)
        self.stream_offset: Array = cp.zeros(1, np.uint64)

    def advance(
        self, lr: float, step: int, momentum_schedule: tuple[float, float, float] = (0, 0, 0), stream_offset: int = 0
    ) -> None:
        """Set the numbers of the next replay."""
        self.schedule.set(np.array([lr, step, *momentum_schedule], np.float64))
        self.stream_offset.set(np.array([stream_offset], np.uint64))


class _Capture(threading.local):
    live: LiveScalars | None = None


_capture = _Capture()


@contextmanager
def capturing(live: LiveScalars) -> Iterator[None]:
    """Within the block, kernels launched by this thread read their changing numbers from `live`."""
    before, _capture.live = _capture.live, live
    try:
        yield
    finally:
        _capture.live = before


def live_schedule() -> Array | None:
    """Where an optimizer kernel is to read the schedule; None: it was given the numbers themselves."""
    return None if _capture.live is None else _capture.live.schedule


def live_stream_offset() -> Array | None:
    """Where dropout is to read what is added to its stream; None: nothing is."""
    return None if _capture.live is None else _capture.live.stream_offset
