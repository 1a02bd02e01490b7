"""Where each array of a model lives in a file: Keras 3's own layout.

Keras addresses weights by the path of attributes that leads to their layer ("layers/conv2d", "encoder/blocks/dense_1"),
then "vars/0", "vars/1", ... in the order of the layer's weights. Layers in a list are named after their class, numbered in
order, so that the name a layer was given does not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from minicnn.layers.base import Layer, Parameter, snake_case


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
    for attribute, value in _children(layer):
        inner = f"{path}/{attribute}" if path else attribute
        if isinstance(value, Layer):
            yield from _visit(value, inner, seen)
        elif isinstance(value, (list, tuple, dict)):
            yield from _visit_all(value, inner, seen)


def _visit_all(container: Any, path: str, seen: set[int]) -> Iterator[Place]:
    names: Counter[str] = Counter()
    for value in container.values() if isinstance(container, dict) else container:
        if isinstance(value, Layer):
            base = snake_case(type(value).__name__)
            number = names[base]
            names[base] += 1
            yield from _visit(value, f"{path}/{base}_{number}" if number else f"{path}/{base}", seen)


def _children(layer: Layer) -> list[tuple[str, Any]]:
    """Attributes by name, private ones last; a graph's list of layers before all others."""
    own = {name: value for name, value in vars(layer).items() if name not in _INTERNAL}
    graph = [("layers", layer.layers)] if hasattr(layer, "layers") else []
    if graph and hasattr(layer, "get_layer") and type(layer).__name__ in ("Sequential", "Model", "Functional"):
        return graph
    return sorted([*own.items(), *graph], key=lambda item: (item[0].startswith("_"), item[0]))


_INTERNAL = frozenset(vars(Layer(name="any")))
