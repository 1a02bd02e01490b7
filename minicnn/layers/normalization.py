"""Normalization layers. Arguments and defaults as in keras.layers.

Glossary  N batch, C channels (the size of `axis`), G groups of channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from minicnn import functional as F
from minicnn import initializers
from minicnn.functional.arguments import check_number, check_positive, is_integer
from minicnn.kernels.contract import Array, EpilogueName
from minicnn.layers.images import known_size
from minicnn.layers.input_spec import InputSpec
from minicnn.layers.prepared import Preparation, Prepared, arrays_of, lie_ready
from minicnn.layers.symbolic import Shape
from minicnn.layers.weights import WeightOptions
from minicnn.tensor import Tensor


class _Normalization(WeightOptions):
    """What the three share: gamma and beta, their options, and the axis."""

    def __init__(
        self,
        axis: Any,
        epsilon: float,
        center: bool,
        scale: bool,
        beta: tuple[Any, Any, Any],
        gamma: tuple[Any, Any, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive(epsilon, f"{self.name}: epsilon")
        self.axis, self.epsilon, self.center, self.scale = axis, epsilon, center, scale
        self._set_weight_options("beta", *beta)
        self._set_weight_options("gamma", *gamma)

    def _make_gamma_and_beta(self, shape: tuple[int, ...]) -> None:
        self.gamma = self._make_weight("gamma", shape) if self.scale else None
        self.beta = self._make_weight("beta", shape) if self.center else None

    def _size_of(self, axis: int, input_shape: Shape) -> int:
        if not -len(input_shape) <= axis < len(input_shape) or axis % len(input_shape) == 0:
            raise ValueError(
                f"{self.name}: axis must be one of the input's, and not the batch. Received: axis={self.axis}, "
                f"shape {input_shape}"
            )
        return known_size(self, input_shape, axis)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "axis": self.axis,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            **self._weight_options_config("beta", "gamma"),
        }


class BatchNormalization(_Normalization):
    """Normalize each channel by the batch's mean and variance, at inference by moving averages of them.

    As keras.layers.BatchNormalization (Ioffe and Szegedy 2015): gamma * (x - mean) / sqrt(variance + epsilon) + beta.

    axis: that of the channels. momentum: moving = momentum * moving + (1 - momentum) * batch, with the population
    variance. center, scale: whether there are beta and gamma.
    With trainable=False the layer uses, and keeps, the moving averages in training too.
    Weights: gamma, beta (C,), then moving_mean, moving_variance (C,), which training does not change by gradients.
    """

    unsupported: ClassVar[dict[str, Any]] = {
        "synchronized": False,
        "renorm": False,
        "renorm_clipping": None,
        "renorm_momentum": 0.99,
    }

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        beta = (beta_initializer, beta_regularizer, beta_constraint)
        gamma = (gamma_initializer, gamma_regularizer, gamma_constraint)
        super().__init__(_one_axis(axis), epsilon, center, scale, beta, gamma, **kwargs)
        check_number(momentum, f"{self.name}: momentum", 0, 1)
        self.momentum = momentum
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)

    def build(self, input_shape: Shape) -> None:
        channels = self._size_of(self.axis, input_shape)
        self._make_gamma_and_beta((channels,))
        self.moving_mean = self.add_weight(
            (channels,), self.moving_mean_initializer, trainable=False, name="moving_mean"
        )
        self.moving_variance = self.add_weight(
            (channels,), self.moving_variance_initializer, trainable=False, name="moving_variance"
        )
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        return self._normalize(inputs, training)

    def _normalize(self, inputs: Tensor, training: bool, activation: Literal["relu"] | None = None) -> Tensor:
        y = F.batch_norm(
            _channels_last(inputs, self.axis),
            self.gamma,
            self.beta,
            self.moving_mean,
            self.moving_variance,
            training=training and self.trainable,
            momentum=self.momentum,
            epsilon=self.epsilon,
            activation=activation,
        )
        return _restored(y, self.axis)

    def call_with_epilogue(self, activation: EpilogueName) -> Callable[..., Any] | None:
        if activation != "relu" or type(self) is not BatchNormalization:
            return None
        return partial(self._normalize, activation=activation)

    def prepare_call(self, preparation: Preparation) -> Prepared | None:
        weights = self.gamma, self.beta, self.moving_mean, self.moving_variance
        whole = self.scale and self.center and self.axis in (-1, len(preparation.shape) - 1)
        if type(self) is not BatchNormalization or not whole or not lie_ready(*weights):
            return None
        activation = self.fused_activation(preparation.following)
        normalize, arrays = preparation.kernels.batch_norm_inference, arrays_of(*weights)
        epsilon = self.epsilon

        def run(x: Array) -> Array:
            return normalize(x, *arrays, epsilon, activation)

        return Prepared(run, with_following=activation is not None)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "moving_mean_initializer": initializers.serialize(self.moving_mean_initializer),
            "moving_variance_initializer": initializers.serialize(self.moving_variance_initializer),
        }


class LayerNormalization(_Normalization):
    """Normalize each sample over `axis`, one axis or several. As keras.layers.LayerNormalization (Ba et al. 2016).

    Weights: gamma, beta, of the lengths of these axes.
    """

    unsupported: ClassVar[dict[str, Any]] = {"rms_scaling": False}

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        axes = [_one_axis(a) for a in axis] if isinstance(axis, (list, tuple)) else _one_axis(axis)
        beta = (beta_initializer, beta_regularizer, beta_constraint)
        gamma = (gamma_initializer, gamma_regularizer, gamma_constraint)
        super().__init__(axes, epsilon, center, scale, beta, gamma, **kwargs)

    def build(self, input_shape: Shape) -> None:
        self._axes = sorted(self.axis) if isinstance(self.axis, list) else [self.axis]  # as Keras orders its weights
        sizes = tuple(self._size_of(axis, input_shape) for axis in self._axes)
        self._make_gamma_and_beta(sizes)
        self.input_spec = InputSpec(ndim=len(input_shape), axes=dict(zip(self._axes, sizes, strict=True)))

    def call(self, inputs: Tensor) -> Tensor:
        return F.layer_norm(inputs, self.gamma, self.beta, self._axes, self.epsilon)


class GroupNormalization(_Normalization):
    """Normalize each sample's groups of channels over all positions. As keras.layers.GroupNormalization.

    groups: must divide the channels; -1 for as many as there are channels (instance normalization).
    Weights: gamma, beta (C,). (Wu and He 2018)
    """

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        beta = (beta_initializer, beta_regularizer, beta_constraint)
        gamma = (gamma_initializer, gamma_regularizer, gamma_constraint)
        super().__init__(_one_axis(axis), epsilon, center, scale, beta, gamma, **kwargs)
        if not is_integer(groups) or (groups < 1 and groups != -1):
            raise ValueError(f"{self.name}: groups must be a positive integer, or -1. Received: groups={groups!r}")
        self.groups = groups

    def build(self, input_shape: Shape) -> None:
        channels = self._size_of(self.axis, input_shape)
        if self.groups != -1 and channels % self.groups:
            raise ValueError(
                f"{self.name}: channels must divide evenly into groups. Received: {channels} channels, "
                f"groups={self.groups}"
            )
        self._make_gamma_and_beta((channels,))
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})

    def call(self, inputs: Tensor) -> Tensor:
        x = _channels_last(inputs, self.axis)
        groups = x.shape[-1] if self.groups == -1 else self.groups
        return _restored(F.group_norm(x, self.gamma, self.beta, groups, self.epsilon), self.axis)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups}


def _one_axis(axis: Any) -> int:
    """An axis, or a list that holds just one, as older Keras files have it."""
    if isinstance(axis, (list, tuple)) and len(axis) == 1:
        axis = axis[0]
    if not is_integer(axis):
        raise TypeError(f"axis must be an integer. Received: axis={axis!r}")
    return int(axis)


def _channels_last(x: Tensor, axis: int) -> Tensor:
    """x with `axis` moved to the end."""
    if axis % x.ndim == x.ndim - 1:
        return x
    return x.permute([i for i in range(x.ndim) if i != axis % x.ndim] + [axis % x.ndim])


def _restored(y: Tensor, axis: int) -> Tensor:
    """y with the last axis moved back to `axis`."""
    axis = axis % y.ndim
    return y if axis == y.ndim - 1 else y.permute([*range(axis), y.ndim - 1, *range(axis, y.ndim - 1)])
