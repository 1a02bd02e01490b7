"""Rules that weights must obey after each step: `constraint(w)` gives the nearest allowed tensor. Keras' names.

`axis` names the axes over which a norm is taken: 0 for dense kernels (inputs, units), so that each unit's incoming
weights have a norm; (0, 1, 2) for convolution kernels (KH, KW, C, F), so that each filter has one.
"""

from __future__ import annotations

from typing import Any

from minicnn import functional as F
from minicnn.functional.arguments import check_number
from minicnn.registry import Configurable, Registry
from minicnn.tensor import Dims, Tensor

_EPSILON = 1e-7
"""Keeps 0 / 0 away; keras.config.epsilon()."""


class Constraint(Configurable):
    """Base class: `__call__(w)` returns the constrained tensor; `get_config` its arguments."""

    def __call__(self, w: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} must define __call__(self, w).")


class NonNeg(Constraint):
    """Negative weights become 0."""

    def __call__(self, w: Tensor) -> Tensor:
        return F.maximum(w, 0)


class MinMaxNorm(Constraint):
    """Norms are brought to between min_value and max_value, at once (rate=1) or by that part of the way."""

    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Dims = 0) -> None:
        check_number(min_value, "MinMaxNorm: min_value", 0, max_value)
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w: Tensor) -> Tensor:
        norms = _norms(w, self.axis)
        desired = self.rate * F.clip(norms, self.min_value, self.max_value) + (1 - self.rate) * norms
        return w * (desired / (_EPSILON + norms))

    def get_config(self) -> dict[str, Any]:
        return {"min_value": self.min_value, "max_value": self.max_value, "rate": self.rate, "axis": self.axis}


class MaxNorm(Constraint):
    """Norms above max_value are brought down to it (Srivastava et al. 2014)."""

    def __init__(self, max_value: float = 2, axis: Dims = 0) -> None:
        check_number(max_value, "MaxNorm: max_value", 0, float("inf"))
        self.max_value, self.axis = max_value, axis

    def __call__(self, w: Tensor) -> Tensor:
        norms = _norms(w, self.axis)
        return w * (F.clip(norms, 0, self.max_value) / (_EPSILON + norms))

    def get_config(self) -> dict[str, Any]:
        return {"max_value": self.max_value, "axis": self.axis}


class UnitNorm(Constraint):
    """Every norm becomes 1."""

    def __init__(self, axis: Dims = 0) -> None:
        self.axis = axis

    def __call__(self, w: Tensor) -> Tensor:
        return w / (_EPSILON + _norms(w, self.axis))

    def get_config(self) -> dict[str, Any]:
        return {"axis": self.axis}


def _norms(w: Tensor, axis: Dims) -> Tensor:
    """Euclidean norms, with axes of length 1 where they were taken."""
    return F.sqrt(F.sum(F.square(w), dim=axis, keepdim=True))


max_norm, min_max_norm, non_neg, unit_norm = MaxNorm, MinMaxNorm, NonNeg, UnitNorm

_registry = Registry("constraint", "keras.constraints", [MaxNorm, MinMaxNorm, NonNeg, UnitNorm])


def get(identifier: Any) -> Any:
    """The constraint for a name ("max_norm"), a config dict, a class, an instance or a callable; None for None.

    Raises ValueError for an unknown name.
    """
    return _registry.get(identifier)


def serialize(constraint: Any) -> Any:
    """The constraint as plain data, as Keras writes it."""
    return _registry.serialize(constraint)


def deserialize(config: dict[str, Any]) -> Any:
    """The constraint that `serialize` wrote down."""
    return _registry.deserialize(config)
