"""What is recorded: gradients on or off, and the search for anomalies. Each thread has its own mode."""

from __future__ import annotations

import threading
from collections.abc import Iterator
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


@contextmanager
def set_grad_enabled(enabled: bool) -> Iterator[None]:
    """Record operations, or do not, within the block. As torch.set_grad_enabled."""
    before, mode.grad_enabled = mode.grad_enabled, enabled
    try:
        yield
    finally:
        mode.grad_enabled = before


def no_grad() -> Any:
    """Within the block (or the decorated function) nothing is recorded: results require no gradient."""
    return set_grad_enabled(False)


def enable_grad() -> Any:
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
