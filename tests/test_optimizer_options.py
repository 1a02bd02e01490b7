"""Optimizers: the rate, names and configs, and errors that teach."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minicnn import optimizers
from minicnn.layers.base import Parameter
from minicnn.optimizers import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Nadam, Optimizer, RMSprop
from tests.test_optimizers import MAKERS, gradients, parameters


def test_the_rate_can_be_set_between_steps() -> None:
    p, optimizer = Parameter(np.zeros(1), "p"), SGD(1.0)
    for rate in (np.float32(0.5), 0.25, np.array(0.125), 2):
        optimizer.learning_rate = rate
        optimizer.apply([np.ones(1)], [p])
    assert p.item() == -2.875
    assert optimizer.iterations == 4


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sgd", SGD),
        ("SGD", SGD),
        ("rmsprop", RMSprop),
        ("RMSprop", RMSprop),
        ("rm_sprop", RMSprop),
        ("adam", Adam),
        ("ADAM", Adam),
        ("adamw", AdamW),
        ("adamax", Adamax),
        ("nadam", Nadam),
        ("adagrad", Adagrad),
        ("adadelta", Adadelta),
        (Adam, Adam),
        ({"class_name": "Adam", "config": {"learning_rate": 0.5, "use_ema": False, "ema_momentum": 0.99}}, Adam),
    ],
)
def test_get_makes_a_fresh_optimizer_by_name_class_or_config(name: Any, kind: type) -> None:
    first, second = optimizers.get(name), optimizers.get(name)
    assert type(first) is type(second) is kind
    assert first is not second


def test_get_passes_optimizers_through_and_refuses_other_things() -> None:
    optimizer = Adam()
    assert optimizers.get(optimizer) is optimizer
    assert optimizers.get(None) is None
    with pytest.raises(ValueError, match="Did you mean 'adam'"):
        optimizers.get("adamm")
    for wrong in (3, print):
        with pytest.raises(TypeError, match="optimizer must be"):
            optimizers.get(wrong)


@pytest.mark.parametrize("make", MAKERS)
def test_a_config_makes_an_equal_optimizer(make: Any) -> None:
    optimizer = make()
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    assert type(optimizers.deserialize(optimizers.serialize(optimizer))) is type(optimizer)


# --------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("kind", [SGD, RMSprop, Adam, AdamW, Adamax, Nadam, Adagrad, Adadelta])
@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf])
def test_a_rate_that_is_negative_or_not_finite_is_refused(kind: type[Optimizer], rate: float) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__}: learning_rate"):
        kind(rate)
    optimizer = kind()
    with pytest.raises(ValueError, match="learning_rate"):
        optimizer.learning_rate = rate


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(momentum=1.5),
        lambda: SGD(momentum=math.nan),
        lambda: RMSprop(rho=-0.1),
        lambda: RMSprop(epsilon=0),
        lambda: Adam(beta_1=1.0),
        lambda: Adam(beta_2=math.nan),
        lambda: Adam(epsilon=-1e-7),
        lambda: AdamW(weight_decay=None),
        lambda: AdamW(weight_decay=-0.1),
        lambda: Adagrad(initial_accumulator_value=-1),
        lambda: Adadelta(rho=2),
        lambda: SGD(clipnorm=0),
        lambda: SGD(clipvalue=-1),
        lambda: SGD(global_clipnorm=math.nan),
        lambda: SGD(clipnorm=1.0, clipvalue=1.0),
        lambda: SGD(weight_decay=math.inf),
    ],
)
def test_options_that_make_no_sense_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="Received"):
        make()


def test_unknown_options_name_the_right_one() -> None:
    with pytest.raises(ValueError, match="called learning_rate"):
        SGD(lr=0.1)
    with pytest.raises(ValueError, match="InverseTimeDecay"):
        SGD(0.1, decay=1e-6)
    with pytest.raises(ValueError, match="Did you mean 'momentum'"):
        SGD(0.1, momentun=0.9)
    with pytest.raises(ValueError, match=r"Adam has no such option.*use_ema"):
        Adam(use_ema=True)


def test_a_rate_that_is_no_number_is_refused() -> None:
    for wrong in ("0.1", None, True, [0.1]):
        with pytest.raises(TypeError, match="learning_rate must be a number"):
            Adam(wrong)


def test_gradients_that_do_not_fit_are_refused_before_anything_changes() -> None:
    params, optimizer = parameters(), Adam()
    good = gradients(0)
    for bad, message in [
        (good[:2], "one gradient a parameter"),
        ([good[0].T, good[1], good[2]], r"the shape of its parameter p0, \(2, 3\)"),
        ([None, None, None], "all gradients are None"),
    ]:
        with pytest.raises(ValueError, match=message):
            optimizer.apply(bad, params)
    for p, before in zip(params, parameters(), strict=True):
        np.testing.assert_array_equal(p.numpy(), before.numpy())
    assert optimizer.iterations == 0


def test_parameters_the_optimizer_does_not_know_are_refused() -> None:
    optimizer = Adam()
    optimizer.apply(gradients(0), parameters())
    with pytest.raises(ValueError, match="Make a new optimizer"):
        optimizer.apply([np.ones(2)], [Parameter(np.zeros(2), "new")])
    with pytest.raises(ValueError, match="pass the parameters"):
        Adam().apply([np.ones(2)])


def test_nothing_to_do_is_no_step() -> None:
    optimizer = Adam()
    optimizer.apply([], [])
    assert optimizer.iterations == 0


def test_an_unfinished_class_says_what_is_missing() -> None:
    with pytest.raises(TypeError, match="must define update"):
        Optimizer(0.1).apply(gradients(0), parameters())
