"""Model: layers put together, that can be trained. Made of symbolic tensors, or by subclassing."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from typing import Any, Self

from minicnn.layers.base import Layer
from minicnn.layers.parameter import unique_name
from minicnn.layers.symbolic import SymbolicTensor, flatten
from minicnn.models.functional import Graph, Nest
from minicnn.models.graph_config import graph_config, graph_from_config
from minicnn.models.inference import Plans
from minicnn.models.summary import print_summary
from minicnn.models.training import Trainer
from minicnn.modes import no_grad


class Model(Trainer, Layer):
    """A layer of layers that can be compiled, fitted, evaluated and saved. As keras.Model.

    The functional way, for any graph of layers with one or more inputs and outputs (lists or dicts of them):

        inputs = Input(shape=(28, 28, 1))
        x = Conv2D(32, 3, activation="relu")(inputs)
        outputs = Dense(10, activation="softmax")(Flatten()(x))
        model = Model(inputs, outputs)

    Inputs and outputs may lie in the middle of other models, whose layers and weights are then shared:
    Model(model.input, model.get_layer("conv2d").output). A model is a layer, to be called in another one.

    By subclassing, where the computation is not a fixed graph:

        class Classifier(Model):
            def __init__(self):
                super().__init__()
                self.dense = Dense(10, activation="softmax")

            def call(self, x):
                return self.dense(x)

    Raises TypeError or ValueError where inputs and outputs are no tensors of one graph; see `functional.Graph`.
    """

    def __init__(
        self,
        inputs: Nest = None,
        outputs: Nest = None,
        name: str | None = None,
        trainable: bool = True,
        **kwargs: Any,
    ) -> None:
        if (inputs is None) != (outputs is None):
            raise ValueError("Model takes inputs and outputs together: Model(inputs, outputs).")
        if name is None and inputs is not None and type(self) is Model:
            name = unique_name("functional")
        super().__init__(name=name, trainable=trainable, **kwargs)
        self._graph: Graph | None = None
        self._plans = Plans()
        self._init_training()
        if inputs is not None:
            self._graph = Graph(inputs, outputs)
            self._layers = list(self._graph.layers)
            self._build_shape = _nest_of_shapes(self._graph.inputs)
            self.built = True
            if not trainable:
                self.trainable = False

    # ------------------------------------------------------------------------------------------------- computing

    def call(self, inputs: Nest) -> Nest:
        """Outputs for inputs. Subclasses define it; it may take `training`."""
        if self._graph is None:
            raise TypeError(
                f"{type(self).__name__} must define call(self, inputs), or be made as Model(inputs, outputs)."
            )
        return self._plans.run(self._graph, self._graph.fit_inputs(inputs))

    def build(self, input_shape: Any) -> None:
        """Make all weights for inputs of this shape, the batch first: a trial run on zeros.

        Raises ValueError where the input shape leaves out a size that the layers need.
        """
        if self._graph is None:
            with no_grad():
                self._trial_run(input_shape)

    def _build(self, input_shape: Any) -> None:
        """The first call itself builds the layers within; only a subclass's own `build` is to be run before."""
        if type(self).build is Model.build:
            self._finish_build(input_shape)
        else:
            self.build(input_shape)

    def compute_output_shape(self, input_shape: Any) -> Any:
        if self._graph is None:
            return super().compute_output_shape(input_shape)
        return self._graph.output_shapes(input_shape)

    def to(self, device: str) -> Self:
        """Move weights and the optimizer's state into the memory of a backend, "cpu" or "gpu"; returns the model.

        Batches follow: `fit`, `evaluate` and `predict` take their data to where the weights are. Errors as Layer.to.
        """
        super().to(device)
        if self.optimizer is not None:
            self.optimizer.to(self.backend)
        return self

    # ------------------------------------------------------------------------------------------------- layers

    @property
    def layers(self) -> list[Layer]:
        """The layers of which the model is made, inputs first."""
        return list(self._layers)

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of that name, or at that place in `layers`.

        Raises ValueError where there is none, or where not exactly one of the two is given.
        """
        if (name is None) == (index is None):
            raise ValueError(f"get_layer takes a name or an index. Received: name={name!r}, index={index!r}")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise ValueError(f"get_layer: the model has {len(self.layers)} layers. Received: index={index}")
            return self.layers[index]
        names = [layer.name for layer in self.layers]
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Its layers are {names}."
            raise ValueError(f"the model has no layer of that name. Received: {name!r}. {hint}")
        return self.layers[names.index(name)]

    # ------------------------------------------------------------------------------------------------- files

    def save(self, path: str | os.PathLike[str], overwrite: bool = True, include_optimizer: bool = True) -> None:
        """Write the whole model to a `.keras` file; see `saving.save_model`."""
        from minicnn import saving  # one floor up, met only here

        saving.save_model(self, path, overwrite, include_optimizer)

    def save_weights(self, path: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Write the weights to a `.weights.h5`, `.safetensors` or `.npz` file; see `saving.save_weights`."""
        from minicnn import saving

        saving.save_weights(self, path, overwrite)

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Read weights that `save_weights`, or Keras 3, wrote; see `saving.load_weights`."""
        from minicnn import saving

        saving.load_weights(self, path)

    # ------------------------------------------------------------------------------------------------- the graph

    @property
    def is_functional(self) -> bool:
        """Whether the model was made from symbolic inputs and outputs."""
        return self._graph is not None

    def _known_graph(self) -> Graph:
        if self._graph is None:
            raise AttributeError(
                f"{self.name} has no symbolic input and output: it was not made as Model(inputs, outputs)."
            )
        return self._graph

    @property
    def input(self) -> Nest:
        """The symbolic input, or the nest of them."""
        return self._known_graph().inputs

    @property
    def output(self) -> Nest:
        """The symbolic output, or the nest of them."""
        return self._known_graph().outputs

    @property
    def inputs(self) -> list[SymbolicTensor]:
        """All symbolic inputs in a list."""
        return flatten(self.input)

    @property
    def outputs(self) -> list[SymbolicTensor]:
        """All symbolic outputs in a list."""
        return flatten(self.output)

    @property
    def input_shape(self) -> Any:
        """Shape of the input, the batch first; a nest of shapes for several inputs."""
        return _nest_of_shapes(self.input)

    @property
    def output_shape(self) -> Any:
        """Shape of the output, the batch first; a nest of shapes for several outputs."""
        return _nest_of_shapes(self.output)

    @property
    def output_names(self) -> list[str] | None:
        """Names of the outputs in logs and in dicts of losses and targets: keys, else the layers they come from."""
        if self._graph is None:
            return None
        if isinstance(self.output, dict):
            return list(self.output)
        return _distinct([tensor.node.layer.name for tensor in self.outputs if tensor.node is not None])

    # ------------------------------------------------------------------------------------------------- as data and text

    def get_config(self) -> dict[str, Any]:
        """The model as plain data, in Keras 3's form: a functional one with its whole graph."""
        if self._graph is None:
            return super().get_config()
        return {"name": self.name, "trainable": self.trainable, **graph_config(self._graph)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Model:
        """A model from what `get_config` returned, here or in Keras 3, with fresh weights."""
        if "input_layers" not in config:
            return cls(**config)
        inputs, outputs = graph_from_config(config, custom_objects)
        return cls(inputs, outputs, name=config.get("name"), trainable=config.get("trainable", True))

    def summary(
        self,
        line_length: int | None = None,
        positions: Any = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
    ) -> None:
        """Print a table of the layers: output shapes, numbers of parameters, and in a branched model their connections.

        line_length: characters a line (default: as many as the table needs, at most the terminal's width).
        print_fn: called with each line in place of printing. expand_nested: show the layers of models within.
        show_trainable: add a column that says which layers are trained. positions: Keras', without effect.
        """
        print_summary(self, line_length, print_fn, expand_nested, show_trainable)


def clone_model(model: Model) -> Model:
    """A model of the same layers with fresh weights. As keras.models.clone_model."""
    own = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}
    return type(model).from_config(model.get_config(), own)


def load_model(
    path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None, compile: bool = True
) -> Model:
    """The model in a `.keras` file; see `saving.load_model`."""
    from minicnn import saving

    return saving.load_model(path, custom_objects, compile)


def _nest_of_shapes(tensors: Nest) -> Any:
    if isinstance(tensors, SymbolicTensor):
        return tensors.shape
    if isinstance(tensors, dict):
        return {key: _nest_of_shapes(part) for key, part in tensors.items()}
    return [_nest_of_shapes(part) for part in tensors]


def _distinct(names: list[str]) -> list[str]:
    """Names with _1, _2, ... after those that came before."""
    return [f"{name}_{count}" if (count := names[:place].count(name)) else name for place, name in enumerate(names)]
