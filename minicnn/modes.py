"""What is recorded: gradients on or off, and the search for anomalies. Each thread has its own mode."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Mode(threading.local):
    """What this thread records."""

    grad_enabled = True
    detect_anomaly = False


mode = Mode()


def is_grad_enabled() -> bool:
    """Whether operations are recorded in this thread."""
    return mode.grad_enabled


class set_grad_enabled:
    """Record operations, or do not, within the block or the decorated function. As torch.set_grad_enabled."""

    __slots__ = ("_before", "_enabled")

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled

    def __enter__(self) -> None:
        self._before, mode.grad_enabled = mode.grad_enabled, self._enabled

    def __exit__(self, *_: object) -> None:
        mode.grad_enabled = self._before

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def within(*args: Any, **kwargs: Any) -> Any:
            with set_grad_enabled(self._enabled):  # one of its own: the function may call itself
                return function(*args, **kwargs)

        return within


def no_grad() -> set_grad_enabled:
    """Within the block (or the decorated function) nothing is recorded: results require no gradient."""
    return set_grad_enabled(False)


def enable_grad() -> set_grad_enabled:
    """Record again within a `no_grad` block."""
    return set_grad_enabled(True)


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Find where a NaN comes from: a backward function that makes one raises, and names its forward call.

    Saved arrays are fingerprinted as well, so that an edit past the tensor (`t.data[...] = 0`) is found. Slow.
    """
    before, mode.detect_anomaly = mode.detect_anomaly, True
    try:
        yield
    finally:
        mode.detect_anomaly = before
