"""Layers as plain data and back, in the form that Keras 3 writes and reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minicnn import layers
from minicnn.layers.base import Layer
from minicnn.layers.operator import KERAS_CLASSES, Operator
from minicnn.registry import unknown_name

_OPERATIONS_MODULE = "keras.src.ops.numpy"


def serialize(layer: Layer) -> dict[str, Any]:
    """{"module", "class_name", "config", "registered_name"}, as keras.layers.serialize.

    A layer of a class of your own is written under its own module; whoever reads it passes the class in custom_objects.
    """
    if isinstance(layer, Operator):
        operation = {"name": layer.name}
        return _written(_OPERATIONS_MODULE, KERAS_CLASSES[layer.operator], operation)
    kind = type(layer)
    if _built_in(kind.__name__) is kind:
        return _written("keras.layers", kind.__name__, layer.get_config())
    return _written(kind.__module__, kind.__name__, layer.get_config(), kind.__name__)


def deserialize(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Layer:
    """The layer that `serialize`, or keras.layers.serialize, wrote down, with fresh weights.

    custom_objects: classes (and functions of Lambda layers) of your own, by name.
    Raises ValueError for a class that is not known.
    """
    if "class_name" not in config:
        raise ValueError(f"a layer's config needs 'class_name' and 'config'. Received: {dict(config)!r}")
    name, options = config["class_name"], dict(config.get("config") or {})
    own = custom_objects or {}
    if config.get("module") == _OPERATIONS_MODULE:
        return _operator(name, options)
    registered = config.get("registered_name") or name  # Keras writes "package>Name"
    kind = own.get(registered) or own.get(registered.rpartition(">")[2]) or _built_in(name)
    if kind is None:
        raise unknown_name("layer", name, [*layers.__all__, *own])
    if issubclass(kind, layers.Lambda):
        return kind.from_config(options, own)
    return kind.from_config(options)


def _operator(keras_class: str, options: dict[str, Any]) -> Operator:
    for operator, name in KERAS_CLASSES.items():
        if name == keras_class:
            return Operator(operator, name=options.get("name"))
    raise unknown_name("operator", keras_class, KERAS_CLASSES.values())


def _built_in(name: str) -> Any:
    """The class of that name among minicnn's own layers, None where there is none."""
    found = getattr(layers, name, None) if name in layers.__all__ else None
    return found if isinstance(found, type) and issubclass(found, Layer) else None


def _written(module: str, name: str, config: dict[str, Any], registered: str | None = None) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config, "registered_name": registered}
