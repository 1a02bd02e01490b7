"""Penalties on weights: `regularizer(w)` gives a scalar tensor that training adds to the loss. Keras' names."""

from __future__ import annotations

import math
from typing import Any

from minicnn import functional as F
from minicnn.functional.arguments import check_number
from minicnn.registry import Configurable, Registry
from minicnn.tensor import Tensor


class Regularizer(Configurable):
    """Base class: `__call__(x)` returns a scalar tensor; `get_config` its arguments."""

    def __call__(self, x: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} must define __call__(self, x).")


def _factor(value: float | None, default: float, name: str) -> float:
    """A penalty's weight; None, which old Keras files hold, means the default."""
    factor = default if value is None else value
    check_number(factor, name, 0, math.inf, "[)")
    return float(factor)


class L1(Regularizer):
    """l1 * sum(|x|): pushes weights to exactly 0."""

    def __init__(self, l1: float | None = 0.01) -> None:
        self.l1 = _factor(l1, 0.01, "L1: l1")

    def __call__(self, x: Tensor) -> Tensor:
        return self.l1 * F.sum(F.abs(x))

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1}


class L2(Regularizer):
    """l2 * sum(x**2): weight decay; note that Keras has no factor 1/2."""

    def __init__(self, l2: float | None = 0.01) -> None:
        self.l2 = _factor(l2, 0.01, "L2: l2")

    def __call__(self, x: Tensor) -> Tensor:
        return self.l2 * F.sum(F.square(x))

    def get_config(self) -> dict[str, Any]:
        return {"l2": self.l2}


class L1L2(Regularizer):
    """l1 * sum(|x|) + l2 * sum(x**2): the elastic net (Zou and Hastie 2005). Both factors are 0 unless given."""

    def __init__(self, l1: float | None = 0.0, l2: float | None = 0.0) -> None:
        self.l1, self.l2 = _factor(l1, 0.0, "L1L2: l1"), _factor(l2, 0.0, "L1L2: l2")

    def __call__(self, x: Tensor) -> Tensor:
        return self.l1 * F.sum(F.abs(x)) + self.l2 * F.sum(F.square(x))

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1, "l2": self.l2}


l1, l2, l1_l2 = L1, L2, L1L2

_registry = Registry("regularizer", "keras.regularizers", [L1, L2, L1L2], aliases={"l1_l2": L1L2})


def get(identifier: Any) -> Any:
    """The regularizer for a name ("l2"), a config dict, a class, an instance or a callable; None for None.

    Raises ValueError for an unknown name.
    """
    return _registry.get(identifier)


def serialize(regularizer: Any) -> Any:
    """The regularizer as plain data, as Keras writes it."""
    return _registry.serialize(regularizer)


def deserialize(config: dict[str, Any]) -> Any:
    """The regularizer that `serialize` wrote down."""
    return _registry.deserialize(config)
