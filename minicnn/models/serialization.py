"""Layers and models as plain data and back, in Keras 3's form: `layers.serialization`, and models within models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minicnn.layers import serialization
from minicnn.layers.base import Layer


def serialize(layer: Layer) -> dict[str, Any]:
    """{"module", "class_name", "config", "registered_name", "build_config"}, as Keras writes a layer into its files."""
    from minicnn.models import Model, Sequential  # models know how to serialize; only here is it the other way round

    if type(layer) is Sequential:
        written = _written("keras", "Sequential", layer)
    elif type(layer) is Model:
        written = _written("keras.src.models.functional", "Functional", layer)
    else:
        written = serialization.serialize(layer)
    build_config = layer.get_build_config()
    return {**written, "build_config": build_config} if build_config else written


def deserialize(entry: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Layer:
    """The layer or model that `serialize`, or Keras, wrote down, with fresh weights.

    custom_objects: classes and functions of your own, by name.
    Raises ValueError for a class that is not known.
    """
    from minicnn.models import Model, Sequential

    own = custom_objects or {}
    name = entry.get("class_name", "")
    kind = {"Functional": Model, "Model": Model, "Sequential": Sequential}.get(name) or own.get(name)
    if isinstance(kind, type) and issubclass(kind, Model):
        return kind.from_config(dict(entry["config"]), custom_objects)
    return serialization.deserialize(entry, custom_objects)


def _written(module: str, name: str, layer: Layer) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": layer.get_config(), "registered_name": None}
