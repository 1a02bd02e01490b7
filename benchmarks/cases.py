"""A case: what is run, as plain data, and what is known of it beforehand."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

GROUPS = ("kernels", "steps", "inference", "overhead", "startup", "scaling")


@dataclass(frozen=True)
class Case:
    """One row of the tables.

    op: the kernel, or "train", "predict", "gradients"; for startup "import", "first_batch", "cold_first_batch".
    args: shapes and options of a kernel. network, batch: of the others.
    flops, bytes: of one call; bytes are those that must be read and written at least. 0 where it says little.
    target: row of `targets.KERNELS`. tolerance: of outputs, relative to their largest. compared: whether the outputs of
    all frameworks must agree (a network with dropout must only stay finite).
    fresh: in processes of its own, for peak memory and first-call times that nothing before has touched.
    sweep: (curve, axis, value on it) of a scaling case. threads: other than the run's.
    """

    name: str
    group: str
    op: str
    args: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] | None = None
    batch: int = 0
    flops: float = 0
    bytes: float = 0
    target: str | None = None
    tolerance: float = 1e-4
    compared: bool = True
    fresh: bool = False
    threads: int | None = None
    sweep: tuple[str, str, int] | None = None
    seed: int = 7

    def to_json(self) -> dict[str, Any]:
        """All of it, as a worker gets it."""
        return dataclasses.asdict(self)

    def to_record(self) -> dict[str, Any]:
        """The same for the results, with no more of a network than its name."""
        return {**dataclasses.asdict(self), "network": self.network and self.network["name"]}


def all_cases() -> list[Case]:
    from benchmarks import kernel_cases, network_cases

    cases = [*kernel_cases.cases(), *network_cases.cases()]
    return sorted(cases, key=lambda case: GROUPS.index(case.group))


def select(cases: list[Case], groups: list[str], only: str | None) -> list[Case]:
    """Cases of these groups whose name, group or group/name holds the pattern."""
    wanted = (only or "").lower()
    return [case for case in cases if case.group in groups and wanted in f"{case.group}/{case.name}".lower()]
