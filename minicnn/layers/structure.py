"""What a layer holds, all the way down; and a count of all changes to that, so that it need not be gathered again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from minicnn.layers.base import Layer
    from minicnn.layers.parameter import Parameter


class Structure:
    """`version` grows whenever any layer gets or loses a layer or a weight, or a weight's `trainable` is set; `options`
    whenever an attribute is set of a layer that can be prepared (see prepared.py)."""

    version = 0
    options = 0

    def changed(self) -> None:
        """What was gathered so far is out of date."""
        self.version += 1


structure = Structure()


class Contents(NamedTuple):
    """A layer with all layers within, and all their parameters in Keras' order, as of a version of the structure."""

    version: int
    layers: list[Layer]
    weights: list[Parameter]


def contents_of(outermost: Layer) -> Contents:
    """Walk through the layers: each once, before those within it; a layer's trainable weights before its others."""
    layers: dict[int, Layer] = {}
    weights: dict[int, Parameter] = {}
    stack = [outermost]
    while stack:
        layer = stack.pop()
        if id(layer) not in layers:
            layers[id(layer)] = layer
            for parameter in sorted(layer._weights, key=lambda parameter: not parameter.trainable):
                weights.setdefault(id(parameter), parameter)
            stack.extend(reversed(layer._layers))
    return Contents(structure.version, list(layers.values()), list(weights.values()))
