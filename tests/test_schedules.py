"""Schedules: closed forms at chosen steps, the steps where something changes, and errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from minicnn import optimizers, schedules
from minicnn.schedules import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    LearningRateSchedule,
    PiecewiseConstantDecay,
    PolynomialDecay,
)


def test_exponential_decay_multiplies_by_the_rate_every_decay_steps() -> None:
    smooth, stairs = ExponentialDecay(0.4, 10, 0.5), ExponentialDecay(0.4, 10, 0.5, staircase=True)
    assert [smooth(s) for s in (0, 5, 10, 30)] == pytest.approx([0.4, 0.4 * 0.5**0.5, 0.2, 0.05])
    assert [stairs(s) for s in (0, 9, 10, 29)] == pytest.approx([0.4, 0.4, 0.2, 0.1])


def test_inverse_time_decay_is_the_time_based_rule() -> None:
    smooth, stairs = InverseTimeDecay(0.1, 1, 0.01), InverseTimeDecay(0.1, 10, 0.5, staircase=True)
    assert [smooth(s) for s in (0, 50, 100)] == pytest.approx([0.1, 0.1 / 1.5, 0.05])
    assert [stairs(s) for s in (0, 9, 10, 25)] == pytest.approx([0.1, 0.1, 0.1 / 1.5, 0.05])


def test_piecewise_constant_decay_changes_after_each_boundary() -> None:
    schedule = PiecewiseConstantDecay([100, 200], [1.0, 0.5, 0.1])
    assert [schedule(s) for s in (0, 100, 101, 200, 201, 10**6)] == [1.0, 1.0, 0.5, 0.5, 0.1, 0.1]


def test_polynomial_decay_ends_and_stays() -> None:
    schedule = PolynomialDecay(1.0, 10, end_learning_rate=0.2, power=2.0)
    assert [schedule(s) for s in (0, 5, 10, 99)] == pytest.approx([1.0, 0.8 * 0.25 + 0.2, 0.2, 0.2])


def test_polynomial_decay_with_cycles_stretches_to_the_next_multiple() -> None:
    schedule = PolynomialDecay(1.0, 10, end_learning_rate=0.0, cycle=True)
    assert [schedule(s) for s in (0, 10, 11, 20, 25)] == pytest.approx([1.0, 0.0, 1 - 11 / 20, 0.0, 1 - 25 / 30])


def test_cosine_decay_falls_along_half_a_wave() -> None:
    schedule = CosineDecay(0.2, 8, alpha=0.1)
    expected = [0.2 * (0.9 * 0.5 * (1 + math.cos(math.pi * s / 8)) + 0.1) for s in range(9)]
    assert [schedule(s) for s in range(9)] == pytest.approx(expected)
    assert [schedule(0), schedule(8), schedule(100)] == pytest.approx([0.2, 0.02, 0.02])


def test_cosine_decay_warms_up_in_a_straight_line_first() -> None:
    schedule = CosineDecay(0.1, 10, warmup_target=0.5, warmup_steps=4)
    assert [schedule(s) for s in (0, 1, 3, 4)] == pytest.approx([0.1, 0.2, 0.4, 0.5])
    assert [schedule(s) for s in (9, 14, 50)] == pytest.approx([0.25, 0.0, 0.0])


def test_cosine_restarts_start_again_with_longer_and_lower_waves() -> None:
    schedule = CosineDecayRestarts(1.0, 10, t_mul=2.0, m_mul=0.5)  # waves from 0, 10, 30, 70
    assert [schedule(s) for s in (0, 10, 30, 70)] == pytest.approx([1.0, 0.5, 0.25, 0.125])
    assert [schedule(s) for s in (5, 20, 50)] == pytest.approx([0.5, 0.25, 0.125])
    assert schedule(9) == pytest.approx(0.5 * (1 + math.cos(0.9 * math.pi)))


def test_cosine_restarts_of_equal_length_find_any_step_at_once() -> None:
    schedule = CosineDecayRestarts(1.0, 3, t_mul=1.0, alpha=0.2)
    assert [schedule(s) for s in (0, 3, 3 * 10**9)] == pytest.approx([1.0, 1.0, 1.0])
    assert schedule(3 * 10**6 + 1) == pytest.approx(0.8 * 0.75 + 0.2)


def test_an_optimizer_follows_its_schedule() -> None:
    optimizer = optimizers.SGD(PiecewiseConstantDecay([1], [0.5, 0.1]))
    rates = []
    for step in range(4):
        optimizer.iterations = step
        rates.append(optimizer.learning_rate)
    assert rates == [0.5, 0.5, 0.1, 0.1]
    with pytest.raises(TypeError, match="follows a PiecewiseConstantDecay"):
        optimizer.learning_rate = 0.3
    optimizer.learning_rate = ExponentialDecay(0.2, 1, 0.5)
    assert optimizer.learning_rate == pytest.approx(0.2 * 0.5**3)


def test_a_schedule_of_ones_own_needs_only_a_call() -> None:
    class Halving(LearningRateSchedule):
        def __call__(self, step: int) -> float:
            return 0.5**step

    optimizer = optimizers.Adam(Halving())
    optimizer.iterations = 3
    assert optimizer.learning_rate == 0.125
    with pytest.raises(TypeError, match="must define __call__"):
        LearningRateSchedule()(1)


@pytest.mark.parametrize(
    "schedule",
    [
        ExponentialDecay(0.1, 10, 0.5, staircase=True, name="mine"),
        InverseTimeDecay(0.1, 10, 0.5),
        PiecewiseConstantDecay([1, 2], [0.1, 0.2, 0.3]),
        PolynomialDecay(0.1, 10, 0.01, 2.0, cycle=True),
        CosineDecay(0.1, 10, 0.2, warmup_target=0.3, warmup_steps=4),
        CosineDecayRestarts(0.1, 10, 3.0, 0.9, 0.1),
    ],
)
def test_a_config_makes_an_equal_schedule_alone_and_within_an_optimizer(schedule: LearningRateSchedule) -> None:
    again = schedules.deserialize(schedules.serialize(schedule))
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()
    optimizer = optimizers.deserialize(optimizers.serialize(optimizers.SGD(schedule)))
    optimizer.iterations = 7
    assert optimizer.learning_rate == schedule(7)
    assert schedules.get(schedule) is schedule


@pytest.mark.parametrize(
    "make",
    [
        lambda: ExponentialDecay(0.1, 0, 0.5),
        lambda: ExponentialDecay(-0.1, 10, 0.5),
        lambda: ExponentialDecay(0.1, 10, math.nan),
        lambda: InverseTimeDecay(0.1, 10, -1),
        lambda: PiecewiseConstantDecay([1, 2], [0.1, 0.2]),
        lambda: PiecewiseConstantDecay([2, 1], [0.1, 0.2, 0.3]),
        lambda: PiecewiseConstantDecay([], [0.1]),
        lambda: PiecewiseConstantDecay([1], [0.1, math.inf]),
        lambda: PolynomialDecay(0.1, -5),
        lambda: CosineDecay(0.1, 0),
        lambda: CosineDecay(0.1, 10, warmup_steps=-1),
        lambda: CosineDecayRestarts(0.1, 0),
        lambda: CosineDecayRestarts(0.1, 10, t_mul=0.5),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="Received"):
        make()


def test_a_bare_name_is_refused_since_arguments_are_missing() -> None:
    with pytest.raises(TypeError, match="needs its arguments"):
        schedules.get("CosineDecay")
    with pytest.raises(ValueError, match="Did you mean 'CosineDecay'"):
        schedules.get({"class_name": "CosinDecay", "config": {}})
