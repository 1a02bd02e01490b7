"""Where each array of a model lives in a file: Keras 3's own layout.

Keras addresses weights by the path of attributes that leads to their layer ("layers/conv2d", "encoder/blocks/dense_1"),
then "vars/0", "vars/1", ... in the order of the layer's weights. Layers in a list are named after their class, numbered
in order, so that the name a layer was given does not matter; a list within a list is a "container".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from minicnn.layers.base import Layer
from minicnn.layers.parameter import Parameter
from minicnn.models import Model, Sequential
from minicnn.registry import snake_case


class Place(NamedTuple):
    """One owner of arrays: its path in the file, its name, and its arrays in order."""

    path: str
    name: str
    parameters: list[Parameter]


def places(model: Layer) -> Iterator[Place]:
    """All layers of a model, each once, in the order in which Keras visits them."""
    yield from _visit(model, "", set())


def _visit(layer: Layer, path: str, seen: set[int]) -> Iterator[Place]:
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield Place(path, layer.name, sorted(layer._weights, key=lambda parameter: not parameter.trainable))
    for attribute, value in _attributes(layer):
        inner = f"{path}/{attribute}" if path else attribute
        if isinstance(value, Layer):
            yield from _visit(value, inner, seen)
        elif isinstance(value, (list, tuple, dict)):
            yield from _visit_all(value, inner, seen, ())


def _visit_all(container: Any, path: str, seen: set[int], around: tuple[int, ...]) -> Iterator[Place]:
    """The layers in a list, tuple or dict, and in those within; `around` are those that this one is in."""
    if id(container) in around:  # a list may hold itself
        return
    names: Counter[str] = Counter()
    for value in container.values() if isinstance(container, dict) else container:
        if not isinstance(value, (Layer, list, tuple, dict)):
            continue
        base = _class_name(value) if isinstance(value, Layer) else "container"
        number = names[base]
        names[base] += 1
        inner = f"{path}/{base}_{number}" if number else f"{path}/{base}"
        if isinstance(value, Layer):
            yield from _visit(value, inner, seen)
        else:
            yield from _visit_all(value, inner, seen, (*around, id(container)))


def _class_name(layer: Layer) -> str:
    """Keras calls the class of a plain Model(inputs, outputs) Functional."""
    return "functional" if type(layer) is Model and layer.is_functional else snake_case(type(layer).__name__)


def _attributes(layer: Layer) -> list[tuple[str, Any]]:
    """What hangs on a layer, by name, private names last; but a graph's or stack's layers before all others."""
    own = [item for item in vars(layer).items() if item[0] not in _INTERNAL]
    if not isinstance(layer, Model):
        return sorted(own, key=_private_last)
    layers: list[tuple[str, Any]] = [("layers", layer.layers)]
    if layer.is_functional or isinstance(layer, Sequential):
        return layers + sorted(own, key=_private_last)
    return sorted(own + layers, key=_private_last)


def _private_last(item: tuple[str, Any]) -> tuple[bool, str]:
    return item[0].startswith("_"), item[0]


_INTERNAL = frozenset(vars(Sequential(name="any")))
"""Attributes that every model has: Keras looks at the like of them as little."""
