"""Sequential: a model that is a plain stack of layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from minicnn.layers import InputLayer
from minicnn.layers.base import Layer
from minicnn.layers.shapes import is_shape
from minicnn.layers.structure import structure
from minicnn.layers.symbolic import Shape, SymbolicTensor
from minicnn.models.functional import Graph, Nest, fit_input
from minicnn.models.model import Model
from minicnn.models.serialization import deserialize, serialize


class Sequential(Model):
    """Layers one after the other, each with one input and one output. As keras.Sequential.

        model = Sequential([
            Input(shape=(28, 28, 1)),
            Conv2D(32, 3, activation="relu"),
            Flatten(),
            Dense(10, activation="softmax"),
        ])

    The weights are made as soon as the input's shape is known: from an Input in the first place, from the first layer's
    `input_shape`, from `build(input_shape)`, or else from the first data.

    Raises TypeError for what is no layer, ValueError for a layer that does not fit onto the one before it, for a name
    given twice and for a second input.
    """

    def __init__(self, layers: Iterable[Any] | None = None, trainable: bool = True, name: str | None = None) -> None:
        super().__init__(name=name, trainable=trainable)
        self._tips: list[SymbolicTensor] = []  # the input, then the output of each layer, once the input is known
        for layer in layers or ():
            self.add(layer)

    # ------------------------------------------------------------------------------------------------- stacking

    def add(self, layer: Layer | SymbolicTensor) -> None:
        """Put a layer on top; an Input (or a first layer that knows its input shape) builds the model."""
        layer = _as_layer(layer)
        self._check_fits(layer)
        if isinstance(layer, InputLayer):
            self._start(layer)
            return
        shape = _input_shape_of(layer)
        if not self._layers and shape is not None:
            self._start(InputLayer(batch_shape=shape, dtype=layer.dtype))
        if not self._trainable:
            layer.trainable = False
        if self._tips:
            self._extend(layer)
        self._layers.append(layer)
        structure.changed()

    def pop(self) -> Layer:
        """Take the top layer off again and return it.

        Raises ValueError where there is none.
        """
        if not self.layers:
            raise ValueError(f"{self.name} has no layer to take off.")
        if self._tips:
            self._tips.pop()
        top = self._layers.pop()
        structure.changed()
        self._graph = None
        self.built = bool(self._tips and self.layers)
        return top

    def _check_fits(self, layer: Layer) -> None:
        if isinstance(layer, InputLayer) and self._layers:
            raise ValueError(
                f"{self.name}: an Input comes first, and only once. Received: {layer!r} after {self._layers}"
            )
        for other in self._layers:
            if other.name == layer.name and other is not layer:
                raise ValueError(f"{self.name} has a layer named {layer.name!r} already. Give each its own: name=...")

    def _start(self, source: InputLayer) -> None:
        self._layers.insert(0, source)
        structure.changed()
        self._tips = [source.output]

    def _extend(self, layer: Layer) -> None:
        self._tips.append(layer(self._tips[-1]))
        self._graph = None
        self._finish_build(self._tips[0].shape)

    def build(self, input_shape: Any = None) -> None:
        """Make all weights for inputs of this shape, the batch first.

        Raises ValueError where there are no layers, or where the input is known already and has another shape.
        """
        if not self.layers:
            raise ValueError(f"{self.name} has no layers to build yet: add some.")
        if not is_shape(input_shape):
            return  # several inputs for the first layer: the layers build themselves when data comes
        shape: Shape = (None, *input_shape[1:])
        if self._tips:
            if self._tips[0].shape[1:] != shape[1:]:
                known = self._tips[0].shape
                raise ValueError(
                    f"{self.name} was made for inputs of shape {known}. Received: input_shape={input_shape}"
                )
            return
        layers = self.layers
        self._start(InputLayer(batch_shape=shape, dtype=layers[0].dtype))
        for layer in layers:
            self._extend(layer)

    # ------------------------------------------------------------------------------------------------- computing

    def call(self, inputs: Nest) -> Nest:
        if len(self._tips) > 1:
            return self._plans.run(self._known_graph(), fit_input(self._tips[0], inputs))
        x = inputs
        layers = self.layers
        position = 0
        while position < len(layers):
            layer = layers[position]
            fused = layer.fused_with(layers[position + 1]) if position + 1 < len(layers) else None
            x = layer(x) if fused is None else layer._run(fused, (x,), {})
            position += 1 if fused is None else 2
        return x

    def compute_output_shape(self, input_shape: Any) -> Any:
        for layer in self.layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    # ------------------------------------------------------------------------------------------------- what it is

    @property
    def layers(self) -> list[Layer]:
        """The layers in their order, without the input."""
        return [layer for layer in self._layers if not isinstance(layer, InputLayer)]

    @property
    def is_functional(self) -> bool:
        return False

    def _known_graph(self) -> Graph:
        if len(self._tips) < 2:
            mend = "put an Input(shape) first, or call build(input_shape)"
            raise AttributeError(f"{self.name} has no symbolic input and output yet: {mend}.")
        if self._graph is None:
            self._graph = Graph(self._tips[0], self._tips[-1])
        return self._graph

    @property
    def output_names(self) -> list[str] | None:
        return [layer.name for layer in self.layers[-1:]] or None

    def get_config(self) -> dict[str, Any]:
        config = {"name": self.name, "trainable": self.trainable, "dtype": self.dtype}
        shape = {"build_input_shape": list(self._tips[0].shape)} if self._tips else {}
        return {**config, "layers": [serialize(layer) for layer in self._layers], **shape}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Sequential:
        model = cls([deserialize(entry, custom_objects) for entry in config["layers"]], name=config["name"])
        if not model.built and config.get("build_input_shape") is not None:
            model.build(tuple(config["build_input_shape"]))
        return model


def _as_layer(layer: Any) -> Layer:
    if isinstance(layer, SymbolicTensor) and layer.node is not None and isinstance(layer.node.layer, InputLayer):
        return layer.node.layer
    if isinstance(layer, Layer):
        return layer
    made = f" Make one first: {layer.__name__}(...)." if isinstance(layer, type) else ""
    raise TypeError(f"a Sequential is made of layers. Received: {layer!r}.{made}")


def _input_shape_of(layer: Layer) -> Shape | None:
    """The shape a first layer asks for: its `input_shape` argument, or that of a model."""
    if isinstance(layer, Model):
        return getattr(layer, "input_shape", None)
    return layer.batch_input_shape
