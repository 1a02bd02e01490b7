"""The ratios to reach: (against default PyTorch, against the best peer form), peer's time / minicnn's.

Kernels and optimizers have one pair a row; networks are judged together, by geometric mean and worst case.
"""

from __future__ import annotations

from typing import NamedTuple


class Target(NamedTuple):
    default: float
    best: float


def _convolution(row: str, default: tuple[float, float, float], best: tuple[float, float, float]) -> dict[str, Target]:
    passes = ("forward", "input gradient", "weight gradient")
    return {f"{row} {name}": Target(d, b) for name, d, b in zip(passes, default, best, strict=True)}


KERNELS: dict[str, Target] = {
    **_convolution("3x3", (2.0, 1.5, 1.7), (1.8, 1.35, 1.6)),
    **_convolution("first layer", (1.6, 3.0, 1.9), (1.5, 2.9, 1.9)),
    **_convolution("small map", (1.9, 1.3, 1.5), (1.3, 1.2, 1.4)),
    **_convolution("three channels", (2.5, 2.5, 1.9), (1.0, 1.3, 1.15)),
    **_convolution("1x1, depthwise", (1.4, 2.5, 2.0), (1.0, 1.0, 1.0)),
    "max pool": Target(1.3, 1.3),
    "batch norm": Target(1.2, 1.0),
    "dropout": Target(10.0, 10.0),
    "softmax cross-entropy": Target(1.3, 1.0),
    "optimizer": Target(1.5, 0.95),
    "dense": Target(0.95, 0.95),
}

STEPS_GEOMETRIC_MEAN = Target(3.0, 1.5)
STEPS_WORST = Target(1.5, 1.0)
INFERENCE_GEOMETRIC_MEAN = Target(3.0, 1.0)
MEMORY_AT_MOST = Target(1.0, 1.1)
"""minicnn's peak / PyTorch's: the only ratio that is to be small."""
MICROSECONDS_A_LAYER = 25.0
