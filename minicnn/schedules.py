"""Learning-rate schedules: the rate as a function of the step. Names and formulas of keras.optimizers.schedules.

A schedule stands in for the number: `optimizers.SGD(learning_rate=CosineDecay(0.1, decay_steps=1000))`. `step` counts
the optimizer's steps from 0. Rates are Python floats (Keras computes them in float32).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from minicnn.functional.arguments import check_number, check_positive
from minicnn.registry import Configurable, Registry


class LearningRateSchedule(Configurable):
    """Base class: `__call__(step)` returns the rate; `get_config` returns the arguments.

    class Halving(LearningRateSchedule):
        def __call__(self, step):
            return 0.1 * 0.5 ** (step // 1000)
    """

    def __call__(self, step: int) -> float:
        raise TypeError(f"{type(self).__name__} must define __call__(self, step).")


def _check_rate(rate: Any, name: str) -> None:
    check_number(rate, name, 0, math.inf, "[)")


class ExponentialDecay(LearningRateSchedule):
    """initial_learning_rate * decay_rate ** (step / decay_steps); staircase rounds the exponent down."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        _check_rate(initial_learning_rate, "ExponentialDecay: initial_learning_rate")
        check_positive(decay_steps, "ExponentialDecay: decay_steps")
        check_positive(decay_rate, "ExponentialDecay: decay_rate")
        self.initial_learning_rate, self.decay_steps, self.decay_rate = initial_learning_rate, decay_steps, decay_rate
        self.staircase, self.name = staircase, name

    def __call__(self, step: int) -> float:
        p = step / self.decay_steps
        return self.initial_learning_rate * self.decay_rate ** (math.floor(p) if self.staircase else p)

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


class InverseTimeDecay(LearningRateSchedule):
    """initial_learning_rate / (1 + decay_rate * step / decay_steps), the "time-based" decay; staircase rounds down."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        _check_rate(initial_learning_rate, "InverseTimeDecay: initial_learning_rate")
        check_positive(decay_steps, "InverseTimeDecay: decay_steps")
        check_number(decay_rate, "InverseTimeDecay: decay_rate", 0, math.inf, "[)")
        self.initial_learning_rate, self.decay_steps, self.decay_rate = initial_learning_rate, decay_steps, decay_rate
        self.staircase, self.name = staircase, name

    def __call__(self, step: int) -> float:
        p = step / self.decay_steps
        return self.initial_learning_rate / (1 + self.decay_rate * (math.floor(p) if self.staircase else p))

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[i] up to and including step boundaries[i], values[-1] after the last boundary: a hand-made staircase.

    Raises ValueError unless there is one value more than boundaries, and these rise.
    """

    def __init__(self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant") -> None:
        if len(boundaries) == 0 or len(boundaries) != len(values) - 1:
            raise ValueError(
                "PiecewiseConstantDecay: values must be one longer than boundaries, of which there is at least one. "
                f"Received: boundaries={boundaries}, values={values}"
            )
        if any(low >= high for low, high in pairwise(boundaries)):
            raise ValueError(f"PiecewiseConstantDecay: boundaries must rise. Received: boundaries={boundaries}")
        for value in values:
            _check_rate(value, "PiecewiseConstantDecay: each value")
        self.boundaries, self.values, self.name = list(boundaries), list(values), name

    def __call__(self, step: int) -> float:
        return self.values[bisect_left(self.boundaries, step)]

    def get_config(self) -> dict[str, Any]:
        return {"boundaries": self.boundaries, "values": self.values, "name": self.name}


class PolynomialDecay(LearningRateSchedule):
    """From the initial to the end rate in decay_steps: (initial - end) * (1 - step / decay_steps) ** power + end.

    It stays at the end rate after that; with cycle=True decay_steps grows to its next multiple instead, so that the
    rate jumps up and falls again.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        _check_rate(initial_learning_rate, "PolynomialDecay: initial_learning_rate")
        _check_rate(end_learning_rate, "PolynomialDecay: end_learning_rate")
        check_positive(decay_steps, "PolynomialDecay: decay_steps")
        check_number(power, "PolynomialDecay: power", 0, math.inf, "[)")
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.end_learning_rate, self.power, self.cycle, self.name = end_learning_rate, power, cycle, name

    def __call__(self, step: int) -> float:
        steps = self.decay_steps
        if self.cycle:
            steps *= max(1, math.ceil(step / steps))
        done = min(step, steps) / steps
        return (self.initial_learning_rate - self.end_learning_rate) * (1 - done) ** self.power + self.end_learning_rate

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "end_learning_rate": self.end_learning_rate,
            "power": self.power,
            "cycle": self.cycle,
            "name": self.name,
        }


def _half_cosine(done: float, alpha: float) -> float:
    """From 1 to alpha along half a cosine wave, as `done` goes from 0 to 1."""
    return (1 - alpha) * 0.5 * (1 + math.cos(math.pi * done)) + alpha


class CosineDecay(LearningRateSchedule):
    """Half a cosine wave from the initial rate to alpha times it (Loshchilov and Hutter 2017), after a warmup if any.

    warmup_target, warmup_steps: rise in a straight line from the initial rate to the target first, decay from there.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        _check_rate(initial_learning_rate, "CosineDecay: initial_learning_rate")
        check_positive(decay_steps, "CosineDecay: decay_steps")
        check_number(alpha, "CosineDecay: alpha", 0, math.inf, "[)")
        check_number(warmup_steps, "CosineDecay: warmup_steps", 0, math.inf, "[)")
        if warmup_target is not None:
            _check_rate(warmup_target, "CosineDecay: warmup_target")
        self.initial_learning_rate, self.decay_steps, self.alpha = initial_learning_rate, decay_steps, alpha
        self.name, self.warmup_target, self.warmup_steps = name, warmup_target, warmup_steps

    def __call__(self, step: int) -> float:
        top = self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return top + (self.warmup_target - top) * step / self.warmup_steps
            step, top = step - self.warmup_steps, self.warmup_target
        return top * _half_cosine(min(step / self.decay_steps, 1.0), self.alpha)

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "alpha": self.alpha,
            "name": self.name,
            "warmup_target": self.warmup_target,
            "warmup_steps": self.warmup_steps,
        }


class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decay again and again ("SGDR", Loshchilov and Hutter 2017).

    The first period takes first_decay_steps, each later one t_mul times the period before; the wave's height is
    multiplied by m_mul at each restart.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        _check_rate(initial_learning_rate, "CosineDecayRestarts: initial_learning_rate")
        check_positive(first_decay_steps, "CosineDecayRestarts: first_decay_steps")
        check_number(t_mul, "CosineDecayRestarts: t_mul", 1, math.inf, "[)")
        check_number(m_mul, "CosineDecayRestarts: m_mul", 0, math.inf, "[)")
        check_number(alpha, "CosineDecayRestarts: alpha", 0, math.inf, "[)")
        self.initial_learning_rate, self.first_decay_steps = initial_learning_rate, first_decay_steps
        self.t_mul, self.m_mul, self.alpha, self.name = t_mul, m_mul, alpha, name

    def __call__(self, step: int) -> float:
        restarts, done = self._position(step / self.first_decay_steps)
        wave = 0.5 * (1 + math.cos(math.pi * done))
        return self.initial_learning_rate * ((1 - self.alpha) * self.m_mul**restarts * wave + self.alpha)

    def _position(self, t: float) -> tuple[int, float]:
        """Restarts until t, counted in first periods, and the part of the present period that is done."""
        if self.t_mul == 1:
            return math.floor(t), t % 1.0
        restarts, length = 0, 1.0
        while t >= length:
            t, length, restarts = t - length, length * self.t_mul, restarts + 1
        return restarts, t / length

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "first_decay_steps": self.first_decay_steps,
            "t_mul": self.t_mul,
            "m_mul": self.m_mul,
            "alpha": self.alpha,
            "name": self.name,
        }


_registry = Registry(
    "learning-rate schedule",
    "keras.optimizers.schedules",
    [
        ExponentialDecay,
        InverseTimeDecay,
        PiecewiseConstantDecay,
        PolynomialDecay,
        CosineDecay,
        CosineDecayRestarts,
    ],
)


def get(identifier: Any) -> Any:
    """The schedule for a config dict, or an instance as it is; None for None.

    Raises ValueError for an unknown class name, TypeError for a bare name: every schedule needs arguments.
    """
    if isinstance(identifier, str):
        raise TypeError(
            "a learning-rate schedule needs its arguments: pass an instance, such as "
            f"CosineDecay(0.1, decay_steps=1000). Received: {identifier!r}"
        )
    return _registry.get(identifier)


def serialize(schedule: LearningRateSchedule) -> Any:
    """The schedule as plain data, as Keras writes it."""
    return _registry.serialize(schedule)


def deserialize(config: dict[str, Any]) -> Any:
    """The schedule that `serialize`, or Keras, wrote down."""
    return _registry.deserialize(config)
