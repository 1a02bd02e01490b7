"""The `activation` argument of layers: a name, a function, or itself a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minicnn import activations
from minicnn.activations import Activation
from minicnn.kernels.contract import EpilogueName
from minicnn.layers.base import Layer
from minicnn.tensor import Tensor


def get_activation(identifier: Any) -> Activation:
    """The activation for a name, a callable, a layer, or what `serialize_activation` wrote down; linear for None."""
    if isinstance(identifier, dict) and identifier.get("class_name") != "function":
        from minicnn.layers.serialization import deserialize  # knows all layers, those that import this file too

        return deserialize(identifier)
    return activations.get(identifier)


def serialize_activation(activation: Activation) -> Any:
    """A name, or for a layer its config. Raises TypeError for a function that cannot be saved."""
    if isinstance(activation, Layer):
        from minicnn.layers.serialization import serialize

        return serialize(activation)
    return activations.serialize(activation)


def activate(
    compute: Callable[[Tensor, EpilogueName | None], Tensor], inputs: Tensor, activation: Activation
) -> Tensor:
    """`compute(inputs, epilogue)`, then the activation, unless the kernel applies it in passing."""
    epilogue = activations.epilogue_name(activation)
    y = compute(inputs, epilogue)
    return activation(y) if epilogue is None else y
