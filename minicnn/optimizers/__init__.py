"""Optimizers, under Keras' names: what turns gradients into better parameters. See `optimizers/base.py` for a loop."""

from __future__ import annotations

from typing import Any

from minicnn import schedules
from minicnn.optimizers.adagrad import Adadelta, Adagrad
from minicnn.optimizers.adam import Adam, Adamax, AdamW, Nadam
from minicnn.optimizers.base import Optimizer
from minicnn.optimizers.sgd import SGD, RMSprop
from minicnn.registry import Registry

_MEMBERS: tuple[type[Optimizer], ...] = (SGD, RMSprop, Adam, AdamW, Adamax, Nadam, Adagrad, Adadelta)
_registry = Registry("optimizer", "keras.optimizers", _MEMBERS, {m.__name__.lower(): m for m in _MEMBERS})


def get(identifier: Any) -> Optimizer | None:
    """The optimizer for a name in any case ("adam", with its defaults), a config dict, a class or an instance.

    None for None. Raises ValueError for an unknown name, with a suggestion; TypeError for what is no optimizer.
    """
    if isinstance(identifier, str) and identifier not in _registry.members:
        identifier = identifier.lower()
    found = _registry.get(identifier)
    if found is None or isinstance(found, Optimizer):
        return found
    raise TypeError(f"optimizer must be a name, a config dict, a class or an Optimizer. Received: {identifier!r}")


def serialize(optimizer: Optimizer) -> Any:
    """The optimizer's options as plain data, as Keras writes them."""
    return _registry.serialize(optimizer)


def deserialize(config: dict[str, Any]) -> Any:
    """The optimizer that `serialize`, or Keras, wrote down; its state arrays are not part of it."""
    return _registry.deserialize(config)


__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "deserialize",
    "get",
    "schedules",
    "serialize",
]
