"""Arithmetic on results: ratios, geometric means, the cost of a layer, old runs against new ones."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.network_cases import FEW_LAYERS, LAYER_KINDS, MANY_LAYERS

Result = dict[str, Any]
OURS, DEFAULT = "minicnn", "torch"


def seconds(result: Result, framework: str) -> float | None:
    """Median of a framework, None where it was not measured."""
    value = result["measurements"].get(framework, {}).get("median_s")
    return None if value is None else float(value)


def against_default(result: Result) -> float | None:
    """Default PyTorch's time / ours: above 1 ours is faster."""
    return ratio(seconds(result, DEFAULT), seconds(result, OURS))


def against_best(result: Result) -> tuple[float | None, str]:
    """The same against the fastest form of PyTorch (kernels) or the fastest of all (networks); and its name."""
    rivals = [name for name in result["measurements"] if name != OURS]
    if result["case"]["group"] == "kernels":
        rivals = [name for name in rivals if name.startswith(DEFAULT)]
    timed = {name: value for name in rivals if (value := seconds(result, name)) is not None}
    if not timed:
        return None, ""
    fastest = min(timed, key=timed.__getitem__)
    return ratio(timed[fastest], seconds(result, OURS)), fastest


def ratio(theirs: float | None, ours: float | None) -> float | None:
    return None if theirs is None or not ours else theirs / ours


def geometric_mean(values: Iterable[float | None]) -> float | None:
    """Of those that are there; None where none is."""
    present = [value for value in values if value is not None]
    return math.exp(sum(map(math.log, present)) / len(present)) if present else None


def worst(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def of_group(results: list[Result], group: str) -> list[Result]:
    return [result for result in results if result["case"]["group"] == group]


def seconds_a_layer(results: list[Result], framework: str) -> dict[str, float]:
    """Kind of layer -> what one more of it costs, forward and backward: the difference of a deep and a shallow net."""
    named = {result["case"]["name"]: seconds(result, framework) for result in of_group(results, "overhead")}
    found = {}
    for kind in LAYER_KINDS:
        few, many = named.get(f"{kind} x {FEW_LAYERS}"), named.get(f"{kind} x {MANY_LAYERS}")
        if few is not None and many is not None:
            found[kind] = (many - few) / (MANY_LAYERS - FEW_LAYERS)
    return found


# --------------------------------------------------------------------------------------------------- old and new


@dataclass(frozen=True)
class Change:
    """minicnn's time of a case in two runs. speedup: old / new; above 1 the new one is faster."""

    name: str
    old: float
    new: float

    @property
    def speedup(self) -> float:
        return self.old / self.new


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Cases that both runs measured, in the order of the new one."""
    before = {_key(result): seconds(result, OURS) for result in old["results"]}
    found = []
    for result in new["results"]:
        was, now = before.get(_key(result)), seconds(result, OURS)
        if was is not None and now is not None:
            found.append(Change(_key(result), was, now))
    return found


def _key(result: Result) -> str:
    return f"{result['case']['group']}/{result['case']['name']}"
