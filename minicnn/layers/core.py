"""Dense, Lambda and Rescaling. Arguments and defaults as in keras.layers.

Glossary  N batch, K inputs, U units.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from minicnn import activations
from minicnn import functional as F
from minicnn.functional.arguments import check_integer
from minicnn.kernels.contract import EpilogueName
from minicnn.layers.arguments import activate, get_activation, serialize_activation
from minicnn.layers.base import Layer
from minicnn.layers.images import known_size
from minicnn.layers.inference import infer_shape
from minicnn.layers.input_spec import InputSpec
from minicnn.layers.prepared import Preparation, Prepared, arrays_of, lie_ready
from minicnn.layers.shapes import is_shape, map_shapes
from minicnn.layers.symbolic import Shape, SymbolicTensor, flatten
from minicnn.layers.weights import WeightOptions
from minicnn.tensor import Tensor


class Dense(WeightOptions):
    """activation(x @ kernel + bias): (N, ..., K) -> (N, ..., U). As keras.layers.Dense.

    Weights: kernel (K, U), bias (U,).
    """

    unsupported: ClassVar[dict[str, Any]] = {"quantization_config": None, "lora_rank": None, "lora_alpha": None}

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        check_integer(units, f"{self.name}: units")
        self.units = int(units)
        self.activation = get_activation(activation)
        self.use_bias = use_bias
        self._set_weight_options("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self._set_weight_options("bias", bias_initializer, bias_regularizer, bias_constraint)
        self.input_spec = InputSpec(min_ndim=2, layout="(batch, inputs)")

    def build(self, input_shape: Shape) -> None:
        inputs = known_size(self, input_shape, -1)
        self.kernel = self._make_weight("kernel", (inputs, self.units))
        self.bias = self._make_weight("bias", (self.units,)) if self.use_bias else None
        self.input_spec = InputSpec(min_ndim=2, axes={-1: inputs}, layout="(batch, inputs)")

    def call(self, inputs: Tensor) -> Tensor:
        return activate(self._product, inputs, self.activation)

    def _product(self, inputs: Tensor, activation: EpilogueName | None) -> Tensor:
        return F.dense(inputs, self.kernel, self.bias, activation)

    def call_with_epilogue(self, activation: EpilogueName) -> Callable[..., Any] | None:
        if self.activation is not activations.linear or type(self) is not Dense:
            return None
        return partial(self._product, activation=activation)

    def prepare_call(self, preparation: Preparation) -> Prepared | None:
        if type(self) is not Dense or len(preparation.shape) != 2 or not lie_ready(self.kernel, self.bias):
            return None
        fused, own = self.fused_activation(preparation.following), activations.epilogue_name(self.activation)
        arrays = arrays_of(self.kernel, self.bias)
        run = preparation.kernels.prepare_dense(preparation.shape, *arrays, fused or own)
        rest = None if own is not None or self.activation is activations.linear else self.activation
        return Prepared(run, rest, fused is not None)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": serialize_activation(self.activation),
            "use_bias": self.use_bias,
            **self._weight_options_config("kernel", "bias"),
        }


class Lambda(Layer):
    """Any function of tensors as a layer: `Lambda(lambda x: x * 2)`. As keras.layers.Lambda.

    output_shape: of one sample, or a function of the input shape; found by trying the function out where not given.
    arguments: further keyword arguments for the function; `training` is passed on to a function that takes it.
    A layer whose function has no name (a lambda) works, but cannot be saved.
    """

    unsupported: ClassVar[dict[str, Any]] = {"mask": None}

    def __init__(
        self,
        function: Callable[..., Any],
        output_shape: Any = None,
        mask: None = None,
        arguments: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not callable(function):
            raise TypeError(f"{self.name}: function must be callable. Received: {function!r}")
        if mask is not None:
            raise ValueError(f"{self.name}: there are no masks here. Received: mask={mask!r}")
        self.function, self.arguments = function, dict(arguments or {})
        self._given_shape = output_shape
        self._takes_training = "training" in inspect.signature(function).parameters

    def call(self, inputs: Any, training: bool = False) -> Any:
        options = {"training": training} if self._takes_training else {}
        return self.function(inputs, **self.arguments, **options)

    def compute_output_shape(self, input_shape: Any) -> Any:
        if callable(self._given_shape):
            return self._given_shape(input_shape)
        if self._given_shape is not None:
            batch = flatten(input_shape)[0]
            return map_shapes(lambda shape: (batch, *shape), self._given_shape)
        stand_ins = map_shapes(lambda shape: SymbolicTensor(shape, self.dtype), input_shape)
        return infer_shape(self.call, (stand_ins,))

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "function": self._by_name(self.function), "arguments": self.arguments}
        if self._given_shape is not None:
            written = self._by_name(self._given_shape) if callable(self._given_shape) else list(self._given_shape)
            config["output_shape"] = written
        return config

    def _by_name(self, function: Callable[..., Any]) -> dict[str, Any]:
        """A function as Keras refers to it."""
        name = getattr(function, "__name__", "<lambda>")
        if name == "<lambda>":
            raise TypeError(
                f"{self.name}: a function without a name cannot be saved. Write it as `def name(x): ...`, and pass it "
                f"in custom_objects when loading; or write a Layer with a call method. Received: {function!r}"
            )
        return {"module": function.__module__, "class_name": "function", "config": name, "registered_name": name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Layer:
        """The layer again; functions are looked up by name in custom_objects, never in the file.

        Raises ValueError for a function that is not there.
        """
        found = dict(config)
        for key in ("function", "output_shape"):
            written = found.get(key)
            if isinstance(written, dict):
                name = written.get("config")
                if not isinstance(name, str) or name not in (custom_objects or {}):
                    raise ValueError(
                        "Lambda: its function must be given when it is loaded, custom_objects={name: function}; code "
                        f"in files is not run. Received: {written!r}"
                    )
                found[key] = (custom_objects or {})[name]
        return super().from_config(found)


class Rescaling(Layer):
    """inputs * scale + offset, scale and offset being numbers or one a channel. As keras.layers.Rescaling.

    Rescaling(1 / 255)            pixels to [0, 1]
    Rescaling(1 / 127.5, -1)      pixels to [-1, 1]
    """

    casts_integers = True

    def __init__(self, scale: float | Sequence[float], offset: float | Sequence[float] = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale, self.offset = _plain(scale), _plain(offset)

    def call(self, inputs: Tensor) -> Tensor:
        scale, offset = (Tensor(value, dtype=self.dtype).to(inputs.device) for value in (self.scale, self.offset))
        return inputs * scale + offset

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape) if is_shape(input_shape) else input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale, "offset": self.offset}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        """The layer again; Keras may have written an array as {"class_name": "__numpy__", ...}."""
        numbers = {key: config[key] for key in ("scale", "offset") if key in config}
        read: dict[str, Any] = {
            key: value["config"]["value"] if isinstance(value, dict) else value for key, value in numbers.items()
        }
        return super().from_config({**config, **read})


def _plain(value: Any) -> Any:
    """A number, or a list of them."""
    return np.asarray(value, np.float64).tolist()
