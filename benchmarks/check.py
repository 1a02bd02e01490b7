"""Whether two frameworks computed the same: their digests of outputs, compared."""

from __future__ import annotations

from typing import Any

Outputs = dict[str, dict[str, Any]]


def compare(outputs: Outputs, expected: Outputs, tolerance: float, compared: bool = True) -> dict[str, Any]:
    """{"passed", "error"}: the largest difference, relative to the largest magnitude of the array expected.

    compared: False asks for finite outputs only. error is None where there was nothing to compare with.
    """
    if not all(array["finite"] for array in outputs.values()):
        return {"passed": False, "error": float("inf")}
    common = outputs.keys() & expected.keys()
    if not compared or not common:
        return {"passed": True, "error": None}
    error = max(_difference(outputs[name], expected[name]) for name in common)
    return {"passed": error <= tolerance, "error": error}


def _difference(array: dict[str, Any], expected: dict[str, Any]) -> float:
    if array["shape"] != expected["shape"]:
        return float("inf")
    pairs = zip(array["values"], expected["values"], strict=True)
    return max((abs(a - b) for a, b in pairs), default=0.0) / max(expected["scale"], 1e-30)
