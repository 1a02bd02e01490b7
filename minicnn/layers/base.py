"""Layer: weights and a `call` that uses them; the base of every layer and model. Keras' names and rules.

A layer is made with its options, gets its weights in `build` when the first input's shape is known, computes in `call`.
Layers and parameters set as attributes (lists of them too) are found and tracked in the order in which they were set.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from minicnn import config, constraints, initializers, regularizers
from minicnn.dtypes import named_dtype
from minicnn.kernels.contract import EpilogueName
from minicnn.layers.holder import WeightHolder
from minicnn.layers.input_spec import InputSpec
from minicnn.layers.parameter import Parameter, unique_name
from minicnn.layers.prepared import Preparation, Prepared
from minicnn.layers.shapes import map_shapes, shape_of
from minicnn.layers.structure import Contents, contents_of, structure
from minicnn.layers.symbolic import Node, Shape, SymbolicTensor, flatten, map_structure
from minicnn.modes import no_grad
from minicnn.registry import snake_case
from minicnn.tensor import Tensor


class _Call(threading.local):
    """Whether the layer call under way is for training; layers within layers inherit it."""

    training: bool | None = None


_call = _Call()


def is_training() -> bool:
    """Whether the layer call under way is for training."""
    return bool(_call.training)


_UNTRACKED = frozenset({"_layers", "_weights", "_compiled_trainable", "_contents"})
"""Attributes in which the engine itself keeps layers and parameters."""


class Layer(WeightHolder):
    """Base class of layers. Subclasses define `call`, and where they have weights `build`.

        class Scale(Layer):
            def build(self, input_shape):
                self.factor = self.add_weight((input_shape[-1],), initializer="ones", name="factor")

            def call(self, x):
                return x * self.factor

    trainable: whether training changes the weights; may be set later, and counts for all layers within.
    name: unique within a model; made from the class name where none is given.
    dtype: of the weights and of the computation, "float32" or "float64" (default: config.floatx()).
    input_shape, batch_input_shape: shape of one sample, or with the batch, for the first layer of a Sequential.
    input_dim: the same for samples of one axis.
    """

    casts_integers = False
    """Whether integer inputs are cast to the layer's dtype; otherwise they stay as they are: they may be indices."""

    unsupported: ClassVar[dict[str, Any]] = {}
    """Keras' arguments that this layer does not have, each with the one value that a config may hold."""

    def __init__(
        self,
        *,
        trainable: bool = True,
        name: str | None = None,
        dtype: str | None = None,
        input_shape: Sequence[int | None] | int | None = None,
        batch_input_shape: Sequence[int | None] | None = None,
        input_dim: int | None = None,
        activity_regularizer: Any = None,
    ) -> None:
        self._contents: Contents | None = None
        self._weights: list[Parameter] = []
        self._layers: list[Layer] = []
        self._losses: list[Tensor] = []
        self._nodes: list[Node] = []
        self._trainable = trainable
        self._build_shape: Any = None
        self.built = False
        self.name = name or unique_name(snake_case(type(self).__name__))
        self.dtype = dtype_name(dtype)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.input_spec: InputSpec | None = None
        self.batch_input_shape: Shape | None = None
        input_shape = input_dim if input_shape is None else input_shape
        if batch_input_shape is not None:
            self.batch_input_shape = tuple(batch_input_shape)
        elif input_shape is not None:
            sample = (input_shape,) if isinstance(input_shape, int) else tuple(input_shape)
            self.batch_input_shape = (None, *sample)

    def __init_subclass__(cls, **options: Any) -> None:
        """Whoever calls `build` (a layer may do so for the layers within), the layer counts as built afterwards."""
        super().__init_subclass__(**options)
        if "build" in vars(cls):
            cls.build = _finishing(cls.build)  # type: ignore[method-assign]

    # ------------------------------------------------------------------------------------------------- to define

    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs of this shape (batch first; a list of shapes for several inputs)."""
        self._finish_build(input_shape)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output: tensors in, a tensor (or a list of tensors) out. May take `training`."""
        raise TypeError(f"{type(self).__name__} must define call(self, inputs).")

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape of the output for an input shape. The default runs `call` once on zeros."""
        outputs = self._trial_run(input_shape)
        return map_structure(lambda y: (None, *y.shape[1:]), outputs)

    def _trial_run(self, input_shape: Any) -> Any:
        def zeros(shape: Shape) -> Tensor:
            zeros = np.zeros([1 if size is None else size for size in shape], self.dtype)
            return Tensor._wrap(self.backend.place(zeros))

        with no_grad(), np.errstate(all="ignore"):  # the numbers mean nothing
            return self.call(map_shapes(zeros, input_shape))

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs to make this layer again; plain data that fits into JSON."""
        config: dict[str, Any] = {"name": self.name, "trainable": self.trainable, "dtype": self.dtype}
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        """A layer from what `get_config` returned, here or in Keras, with fresh weights.

        Raises ValueError where the config asks for something that only Keras has.
        """
        config = dict(config)
        for name, value in cls.unsupported.items():
            if (given := config.pop(name, value)) != value:
                raise ValueError(f"{cls.__name__}: only {name}={value!r} can be read. Received: {name}={given!r}")
        return cls(**config)

    def get_build_config(self) -> dict[str, Any]:
        """What `build` was called with: {"input_shape": ...}, or {} before that. Keras writes it into its files."""
        return {} if self._build_shape is None else {"input_shape": self._build_shape}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Make the weights for the input shape that `get_build_config` wrote down."""
        if not self.built and config.get("input_shape") is not None:
            with no_grad():
                self.build(map_shapes(tuple, config["input_shape"]))

    # ------------------------------------------------------------------------------------------------- weights

    def add_weight(
        self,
        shape: Sequence[int] = (),
        initializer: Any = "glorot_uniform",
        trainable: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        name: str = "weight",
        dtype: str | None = None,
    ) -> Parameter:
        """Make, track and return a parameter."""
        values = initializers.get(initializer)(tuple(shape), dtype or self.dtype)
        parameter = Parameter(
            values, name, trainable and self.trainable, regularizers.get(regularizer), constraints.get(constraint)
        )
        parameter.trainable = trainable
        parameter.path = f"{self.name}/{name}"
        self._track(parameter)
        return parameter

    def add_loss(self, loss: Tensor) -> None:
        """Add a scalar to the training loss; call it from within `call`."""
        self._losses.append(loss)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _UNTRACKED:
            for leaf in flatten(value) if isinstance(value, (list, tuple, dict)) else [value]:
                if isinstance(leaf, (Parameter, Layer)):
                    self._track(leaf)
        elif name != "_contents":
            structure.changed()
        if type(self).prepare_call is not Layer.prepare_call and name != "_contents":
            structure.options += 1
        object.__setattr__(self, name, value)

    def _track(self, value: Any) -> None:
        """Remember a parameter or a layer, once."""
        if "_layers" not in self.__dict__:
            raise RuntimeError(f"{type(self).__name__}: call super().__init__() before setting layers or weights.")
        if isinstance(value, Parameter) and not any(value is other for other in self._weights):
            self._weights.append(value)
            structure.changed()
        elif isinstance(value, Layer) and not any(value is other for other in self._layers):
            self._layers.append(value)
            structure.changed()

    def _known_contents(self) -> Contents:
        """All layers and parameters within: looked up in each step of training, gathered once."""
        if self._contents is None or self._contents.version != structure.version:
            self._contents = contents_of(self)
        return self._contents

    def _flatten_layers(self) -> Sequence[Layer]:
        """This layer and all within, each once."""
        return self._known_contents().layers

    @property
    def trainable(self) -> bool:
        """Whether training changes this layer. Setting it sets all layers within; compile again after that."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self._flatten_layers():
            layer._set_own_trainable(bool(value))

    def _set_own_trainable(self, value: bool) -> None:
        """`trainable` of this layer alone, without those within."""
        self._trainable = value
        for parameter in self._weights:
            parameter.requires_grad = value and parameter.trainable

    @property
    def losses(self) -> list[Tensor]:
        """Scalars to add to the loss: weight penalties, and what `add_loss` collected in the last call."""
        collected = [loss for layer in self._flatten_layers() for loss in layer._losses]
        penalties = [p.regularizer(p) for p in self.trainable_weights if p.regularizer is not None]
        return collected + penalties

    # ------------------------------------------------------------------------------------------------- calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Build if this is the first time, then compute; on symbolic tensors only shapes are worked out.

        training: True or False; where it is left out, that of the layer calling, else False.
        """
        return self._run(self.call, args, kwargs)

    def _run(self, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Everything that a call of the layer does, around `call`."""
        if len(args) == 1 and isinstance(args[0], Tensor) and (not kwargs or [*kwargs] == ["training"]):
            symbolic = False  # the ordinary call, without a search through nests of arguments
            if args[0].data.dtype != named_dtype(self.dtype):
                args = (self._to_tensor(args[0]),)
            input_shape = args[0].data.shape
            fits = self.input_spec is None or self.input_spec.fits(input_shape)
        else:
            symbolic = any(isinstance(leaf, SymbolicTensor) for leaf in flatten((args, kwargs)))
            if not symbolic:
                args = map_structure(self._to_tensor, args)
            input_shape = shape_of(args[0]) if args else None
            fits = False
        if self.input_spec is not None and not fits:
            self.input_spec.check(self.name, input_shape)
        if not self.built:
            with no_grad():
                self._build(input_shape)
        if symbolic:
            return self._call_symbolic(args, kwargs)
        return self._call_now(call, args, kwargs)

    def _call_now(self, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        training = kwargs.pop("training", None)
        before = _call.training
        if training is None:
            training = bool(before)
        if before is None:  # the outermost call: what add_loss collected belongs to the last one
            for layer in self._flatten_layers():
                if layer._losses:
                    layer._losses.clear()
        _call.training = training
        try:
            if _takes_training(type(self)):  # type: ignore[arg-type]  # mypy takes classes for unhashable
                kwargs["training"] = training
            outputs = call(*args, **kwargs)
        finally:
            _call.training = before
        if self.activity_regularizer is not None:
            for output in flatten(outputs):
                self.add_loss(self.activity_regularizer(output) / float(max(len(output), 1)))
        return outputs

    # Two layers as one operation: kernels apply some activations in passing, without a way to memory and back.

    def as_epilogue(self) -> EpilogueName | None:
        """The activation that this layer is, by the name that kernels know; None where it is anything else."""
        return None

    def call_with_epilogue(self, activation: EpilogueName) -> Callable[..., Any] | None:
        """`call` with that activation of its output, as one operation; None where there is none."""
        return None

    def fused_with(self, following: Layer) -> Callable[..., Any] | None:
        """`call` of this layer and the one that alone reads its output, as one operation; None where they are two."""
        activation = following.as_epilogue()
        if activation is None or self.activity_regularizer is not None or self.dtype != following.dtype:
            return None
        return self.call_with_epilogue(activation)

    def fused_activation(self, following: Layer | None) -> EpilogueName | None:
        """The activation that the following layer is, where the two are one operation."""
        return None if following is None or self.fused_with(following) is None else following.as_epilogue()

    # A call at inference as a plain function of arrays, worked out once: see prepared.py.

    def prepare_call(self, preparation: Preparation) -> Prepared | None:
        """What `call` does at inference to an array of preparation.shape; None where it has to be called."""
        return None

    def _call_symbolic(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        outputs = map_shapes(lambda shape: SymbolicTensor(shape, self.dtype), self._output_shape(args))
        self._nodes.append(Node(self, args, kwargs, outputs))
        return outputs

    def _output_shape(self, args: tuple[Any, ...]) -> Any:
        """Shape of the output for these arguments, of which only the shapes matter."""
        shapes = [shape_of(arg) for arg in args]
        return self.compute_output_shape(*shapes[: max(1, _count_inputs(args))])

    def _build(self, input_shape: Any) -> None:
        """Build for the first call."""
        self.build(input_shape)

    def _finish_build(self, input_shape: Any) -> None:
        self._build_shape = input_shape
        self.built = True
        if not self._trainable:  # what `build` made is frozen too
            self.trainable = False

    def _to_tensor(self, value: Any) -> Any:
        """Arrays as tensors; floating ones of the layer's dtype, integers too where the layer computes with them."""
        if isinstance(value, np.ndarray):
            known = value.dtype in ("f4", "f8") or value.dtype.kind in "iub"
            value = Tensor(self.backend.place(value)) if known else _reject(self, value)
        if isinstance(value, Tensor) and value.data.dtype != named_dtype(self.dtype):
            return value.to(self.dtype) if value.data.dtype.kind == "f" or self.casts_integers else value
        return value

    # ------------------------------------------------------------------------------------------------- graph

    @property
    def input(self) -> Any:
        """The symbolic input of the layer's one call."""
        inputs = self._only_node().inputs
        return inputs[0] if len(inputs) == 1 else inputs

    @property
    def output(self) -> Any:
        """The symbolic output of the layer's one call; Model(inputs, layer.output) reads a layer in the middle."""
        return self._only_node().outputs

    def _only_node(self) -> Node:
        if not self._nodes:
            raise AttributeError(f"{self.name} was never called on a symbolic tensor: it has no input or output yet.")
        return self._nodes[0]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


def _finishing(build: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(build)
    def build_and_finish(self: Layer, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        self._finish_build(args[0] if args else kwargs.get("input_shape"))

    return build_and_finish


def _reject(layer: Layer, value: np.ndarray[Any, Any]) -> Any:
    raise TypeError(
        f"{layer.name}: expected an array of float32 or float64 (or integers). Received: dtype {value.dtype}. "
        "Convert with array.astype('float32')."
    )


@functools.cache
def _takes_training(kind: Any) -> bool:
    parameters = inspect.signature(kind.call).parameters
    return "training" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _count_inputs(args: tuple[Any, ...]) -> int:
    """How many positional arguments hold symbolic tensors."""
    return sum(any(isinstance(leaf, SymbolicTensor) for leaf in flatten(arg)) for arg in args)


def dtype_name(dtype: Any) -> str:
    """ "float32" or "float64": config.floatx() for None. TypeError for anything else."""
    if dtype is None:
        return config.floatx()
    if isinstance(dtype, dict):  # Keras writes a dtype policy into its files
        dtype = dtype.get("config", {}).get("name", dtype)
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in ("float32", "float64"):
        raise TypeError(f"dtype must be 'float32' or 'float64'. Received: {dtype!r}")
    return name
