"""How launches run and what is known of them afterwards: settings, records, statistics."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

ORDERS = {"forward": 0, "reverse": 1, "random": 2}


@dataclass
class Settings:
    """In force for every launch.

    order            in which blocks, and threads of a block, get their turn: a kernel's result must not depend on it;
                     at first what MINICNN_EMULATOR_ORDER says
    seed             of the random order
    flush_denormals  treat float denormals as zero, as CuPy's -ftz=true does
    """

    order: str = os.environ.get("MINICNN_EMULATOR_ORDER", "") or "forward"
    seed: int = 0
    flush_denormals: bool = True


@dataclass
class Record:
    """What has happened since the last `clear()`; `launched` is never cleared: the names of all kernels that ran."""

    launched: set[str] = field(default_factory=set)
    launches: Counter[str] = field(default_factory=Counter)  # by the name of the kernel
    totals: Counter[str] = field(default_factory=Counter)  # of all statistics
    last: dict[str, int] = field(default_factory=dict)  # statistics of the last launch

    def add(self, kernel: str, statistics: dict[str, int]) -> None:
        self.launched.add(kernel)
        self.launches[kernel] += 1
        self.totals.update(statistics)
        self.last = statistics

    def clear(self) -> None:
        self.launches.clear()
        self.totals.clear()
        self.last = {}


settings = Settings()
record = Record()


@contextmanager
def thread_order(order: str, seed: int = 0) -> Iterator[None]:
    """Within the block, threads and blocks run "forward", in "reverse", or at "random".

    Raises ValueError for another word.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {list(ORDERS)}. Received: {order!r}")
    before = settings.order, settings.seed
    settings.order, settings.seed = order, seed
    try:
        yield
    finally:
        settings.order, settings.seed = before


@contextmanager
def denormals() -> Iterator[None]:
    """Within the block, denormals are kept."""
    before, settings.flush_denormals = settings.flush_denormals, False
    try:
        yield
    finally:
        settings.flush_denormals = before
