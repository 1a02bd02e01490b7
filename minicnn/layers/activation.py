"""Activation layers: shapes stay as they are. Arguments and defaults as in keras.layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from minicnn import activations
from minicnn import functional as F
from minicnn.functional.arguments import check_number, check_positive, is_integer
from minicnn.kernels.contract import EpilogueName
from minicnn.layers.arguments import get_activation, serialize_activation
from minicnn.layers.base import Layer
from minicnn.layers.images import known_size
from minicnn.layers.input_spec import InputSpec
from minicnn.layers.prepared import Preparation, Prepared
from minicnn.layers.symbolic import Shape
from minicnn.layers.weights import WeightOptions
from minicnn.tensor import Tensor


class _Elementwise(Layer):
    """A layer whose output has the shape of its input."""

    casts_integers = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def _is_only(self, kind: type[Layer]) -> bool:
        """Whether a call does what that class does, and nothing beside it."""
        return type(self) is kind and self.activity_regularizer is None and self.built


def _prepare_activation(preparation: Preparation, name: EpilogueName | None) -> Prepared | None:
    """An activation that kernels know by name."""
    return None if name is None else Prepared(partial(preparation.kernels.activation, name=name))


class Activation(_Elementwise):
    """Any activation, by name or function: `Activation("relu")`. As keras.layers.Activation."""

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = get_activation(activation)

    def call(self, inputs: Tensor) -> Tensor:
        return self.activation(inputs)

    def as_epilogue(self) -> EpilogueName | None:
        return activations.epilogue_name(self.activation) if self._is_only(Activation) else None

    def prepare_call(self, preparation: Preparation) -> Prepared | None:
        return _prepare_activation(preparation, self.as_epilogue())

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "activation": serialize_activation(self.activation)}


class ReLU(_Elementwise):
    """min(x, max_value) above the threshold, negative_slope * (x - threshold) at and below it. As keras.layers.ReLU."""

    def __init__(
        self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if max_value is not None:
            check_number(max_value, f"{self.name}: max_value", 0, math.inf)
        check_number(negative_slope, f"{self.name}: negative_slope", 0, math.inf, "[)")
        check_number(threshold, f"{self.name}: threshold", 0, math.inf, "[)")
        self.max_value, self.negative_slope, self.threshold = max_value, negative_slope, threshold

    def call(self, inputs: Tensor) -> Tensor:
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)

    def as_epilogue(self) -> EpilogueName | None:
        plain = self.max_value is None and not self.negative_slope and not self.threshold
        return "relu" if plain and self._is_only(ReLU) else None

    def prepare_call(self, preparation: Preparation) -> Prepared | None:
        return _prepare_activation(preparation, self.as_epilogue())

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "max_value": self.max_value,
            "negative_slope": self.negative_slope,
            "threshold": self.threshold,
        }


class LeakyReLU(_Elementwise):
    """x where positive, negative_slope * x elsewhere. As keras.layers.LeakyReLU, whose default is 0.3.

    alpha: the name that Keras 2 had for negative_slope.
    """

    def __init__(self, negative_slope: float = 0.3, *, alpha: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.negative_slope = negative_slope if alpha is None else alpha
        check_number(self.negative_slope, f"{self.name}: negative_slope", 0, math.inf, "[)")

    def call(self, inputs: Tensor) -> Tensor:
        return activations.relu(inputs, self.negative_slope)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "negative_slope": self.negative_slope}


class PReLU(WeightOptions):
    """x where positive, alpha * x elsewhere, alpha being learned. As keras.layers.PReLU (He et al. 2015).

    shared_axes: axes, counted from 1, along which alpha is the same: (1, 2) for one a feature map.
    Weights: alpha, of the shape of a sample, 1 on the shared axes.
    """

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._set_weight_options("alpha", alpha_initializer, alpha_regularizer, alpha_constraint)
        self.shared_axes: list[int] | None = None
        if shared_axes is not None:
            self.shared_axes = [shared_axes] if isinstance(shared_axes, int) else list(shared_axes)
        if any(not is_integer(axis) or axis < 1 for axis in self.shared_axes or ()):
            raise ValueError(f"{self.name}: shared_axes must be positive, the batch being 0. Received: {shared_axes}")

    def build(self, input_shape: Shape) -> None:
        shared = self.shared_axes or []
        if shared and max(shared) >= len(input_shape):
            raise ValueError(f"{self.name}: the input has no axis {max(shared)}. Received: shape {input_shape}")
        own = {axis: known_size(self, input_shape, axis) for axis in range(1, len(input_shape)) if axis not in shared}
        self.alpha = self._make_weight("alpha", [own.get(axis, 1) for axis in range(1, len(input_shape))])
        self.input_spec = InputSpec(ndim=len(input_shape), axes=dict(own))

    def call(self, inputs: Tensor) -> Tensor:
        return F.prelu(inputs, self.alpha)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._weight_options_config("alpha"), "shared_axes": self.shared_axes}


class ELU(_Elementwise):
    """x where positive, alpha * (exp(x) - 1) elsewhere. As keras.layers.ELU (Clevert et al. 2016)."""

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_positive(alpha, f"{self.name}: alpha")
        self.alpha = alpha

    def call(self, inputs: Tensor) -> Tensor:
        return activations.elu(inputs, self.alpha)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}


class Softmax(_Elementwise):
    """exp(x) / sum(exp(x)) along an axis. As keras.layers.Softmax."""

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not is_integer(axis):
            raise TypeError(f"{self.name}: axis must be an integer. Received: axis={axis!r}")
        self.axis = axis

    def call(self, inputs: Tensor) -> Tensor:
        return activations.softmax(inputs, self.axis)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis}
