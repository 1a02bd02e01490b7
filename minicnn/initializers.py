"""Initial values of weights: `initializer(shape, dtype)` gives an array. Keras' names, arguments and defaults.

Glossary  fan_in, fan_out: how many inputs one output reads, and how many outputs read one input. Of a dense kernel
          (inputs, units) its two sizes; of a convolution kernel (KH, KW, C, F) KH * KW * C and KH * KW * F.

A `seed` is an int (the same values in every call), a `minicnn.random.Generator` (goes on from call to call) or None
(the default generator that `minicnn.manual_seed` sets).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minicnn import config
from minicnn.functional.arguments import check_choice, check_positive
from minicnn.random import Generator, generator_for
from minicnn.registry import Configurable, Registry
from minicnn.tensor import Tensor

Seed = int | Generator | None
Values = np.ndarray[Any, Any]
Axes = Sequence[int] | None


class Initializer(Configurable):
    """Base class: `__call__(shape, dtype)` returns a new array; `get_config` its arguments."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Values:
        raise TypeError(f"{type(self).__name__} must define __call__(self, shape, dtype=None).")


def _dtype(dtype: Any) -> np.dtype[Any]:
    return np.dtype(dtype or config.floatx())


# --------------------------------------------------------------------------------------------------- constants


class Zeros(Initializer):
    """All 0."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Values:
        return np.zeros(shape, _dtype(dtype))


class Ones(Initializer):
    """All 1."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Values:
        return np.ones(shape, _dtype(dtype))


class Constant(Initializer):
    """All `value`: a number, or an array that broadcasts to the shape."""

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Values:
        try:
            return np.full(shape, self.value, _dtype(dtype))
        except ValueError:
            received = np.shape(self.value)
            raise ValueError(f"Constant: the value must fit shape {tuple(shape)}. Received: shape {received}") from None

    def get_config(self) -> dict[str, Any]:
        if np.ndim(self.value) == 0:
            return {"value": float(self.value)}
        array = np.asarray(self.value)
        return {"value": {"class_name": "__numpy__", "config": {"value": array.tolist(), "dtype": array.dtype.name}}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Constant:
        value = config.get("value", 0.0)
        if isinstance(value, dict):  # as Keras writes arrays
            value = np.asarray(value["config"]["value"], value["config"].get("dtype"))
        return cls(value)


class Identity(Initializer):
    """`gain` on the diagonal of a matrix, 0 elsewhere. Raises ValueError for a shape that is not 2-D."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Values:
        if len(shape) != 2:
            raise ValueError(f"Identity makes matrices: the shape must have two axes. Received: shape={tuple(shape)}")
        rows, columns = shape
        return (self.gain * np.eye(rows, columns)).astype(_dtype(dtype))

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain}


# --------------------------------------------------------------------------------------------------- random


class _Random(Initializer):
    """Random values, drawn in float64 and then rounded, so that both dtypes start from the same numbers."""

    def __init__(self, seed: Seed = None) -> None:
        if seed is not None:
            generator_for(seed)  # refuses what is no seed, here and not at the first layer
        self.seed = seed

    def get_config(self) -> dict[str, Any]:
        # A generator is a place in a stream, not plain data: a copy draws from the default one.
        return {"seed": None if isinstance(self.seed, Generator) else self.seed}

    def _normal(self, shape: Sequence[int], mean: float, stddev: float, dtype: Any) -> Values:
        drawn = generator_for(self.seed).numpy().standard_normal(shape)
        return np.asarray(mean + stddev * drawn, _dtype(dtype))

    def _truncated_normal(self, shape: Sequence[int], mean: float, stddev: float, dtype: Any) -> Values:
        source = generator_for(self.seed).numpy()
        drawn = source.standard_normal(math.prod(shape))
        while (outside := np.abs(drawn) > 2).any():
            drawn[outside] = source.standard_normal(int(outside.sum()))
        return np.asarray(mean + stddev * drawn.reshape(shape), _dtype(dtype))

    def _uniform(self, shape: Sequence[int], low: float, high: float, dtype: Any) -> Values:
        return np.asarray(generator_for(self.seed).numpy().uniform(low, high, shape), _dtype(dtype))


class RandomNormal(_Random):
    """Normal distribution."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Seed = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Values:
        return self._normal(shape, self.mean, self.stddev, dtype)

    def get_config(self) -> dict[str, Any]:
        return {"mean": self.mean, "stddev": self.stddev, **super().get_config()}


class TruncatedNormal(RandomNormal):
    """Normal distribution; values beyond two standard deviations are drawn again."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Values:
        return self._truncated_normal(shape, self.mean, self.stddev, dtype)


class RandomUniform(_Random):
    """Uniform distribution on [minval, maxval)."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Seed = None) -> None:
        super().__init__(seed)
        self.minval, self.maxval = minval, maxval

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Values:
        return self._uniform(shape, self.minval, self.maxval, dtype)

    def get_config(self) -> dict[str, Any]:
        return {"minval": self.minval, "maxval": self.maxval, **super().get_config()}


_STDDEV_OF_TRUNCATED = 0.87962566103423978
"""Standard deviation of a standard normal distribution cut at -2 and 2."""


_DISTRIBUTIONS = ("truncated_normal", "untruncated_normal", "uniform")


class VarianceScaling(_Random):
    """Mean 0 and variance scale / n, where n is fan_in, fan_out or their average, as `mode` says.

    distribution: "truncated_normal" (at two standard deviations, widened so that the variance comes out), also called
    "normal"; "untruncated_normal"; "uniform" on +-sqrt(3 * scale / n).
    input_axes, output_axes: axes of the kernel whose sizes make up fan_in and fan_out, where another rule is meant.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Seed = None,
        input_axes: Axes = None,
        output_axes: Axes = None,
    ) -> None:
        super().__init__(seed)
        check_positive(scale, "VarianceScaling: scale")
        check_choice(mode, ("fan_in", "fan_out", "fan_avg"), "VarianceScaling: mode")
        distribution = "truncated_normal" if distribution.lower() == "normal" else distribution.lower()
        check_choice(distribution, _DISTRIBUTIONS, "VarianceScaling: distribution")
        self.scale, self.mode, self.distribution = scale, mode, distribution
        self.input_axes, self.output_axes = input_axes, output_axes

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Values:
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        stddev = math.sqrt(self.scale / max(1.0, fans[self.mode]))
        if self.distribution == "truncated_normal":
            return self._truncated_normal(shape, 0.0, stddev / _STDDEV_OF_TRUNCATED, dtype)
        if self.distribution == "untruncated_normal":
            return self._normal(shape, 0.0, stddev, dtype)
        limit = math.sqrt(3.0) * stddev
        return self._uniform(shape, -limit, limit, dtype)

    def get_config(self) -> dict[str, Any]:
        rule = {"scale": self.scale, "mode": self.mode, "distribution": self.distribution}
        return {**rule, **self._seed_and_axes()}

    def _seed_and_axes(self) -> dict[str, Any]:
        """The axes only where they are given: Keras before 3.13 does not know them."""
        axes = {"input_axes": self.input_axes, "output_axes": self.output_axes}
        return {**super().get_config(), **{name: list(value) for name, value in axes.items() if value is not None}}


class _NamedScaling(VarianceScaling):
    """A VarianceScaling that the field knows by name."""

    rule: tuple[float, str, str]

    def __init__(self, seed: Seed = None, input_axes: Axes = None, output_axes: Axes = None) -> None:
        super().__init__(*self.rule, seed, input_axes, output_axes)

    def get_config(self) -> dict[str, Any]:
        return self._seed_and_axes()


class GlorotUniform(_NamedScaling):
    """Uniform on +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010); the default of kernels."""

    rule = 1.0, "fan_avg", "uniform"


class GlorotNormal(_NamedScaling):
    """Truncated normal of variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010)."""

    rule = 1.0, "fan_avg", "truncated_normal"


class HeUniform(_NamedScaling):
    """Uniform on +-sqrt(6 / fan_in) (He et al. 2015)."""

    rule = 2.0, "fan_in", "uniform"


class HeNormal(_NamedScaling):
    """Truncated normal of variance 2 / fan_in (He et al. 2015); made for ReLU."""

    rule = 2.0, "fan_in", "truncated_normal"


class LecunUniform(_NamedScaling):
    """Uniform on +-sqrt(3 / fan_in) (LeCun et al. 1998)."""

    rule = 1.0, "fan_in", "uniform"


class LecunNormal(_NamedScaling):
    """Truncated normal of variance 1 / fan_in (LeCun et al. 1998); what SELU asks for."""

    rule = 1.0, "fan_in", "truncated_normal"


class Orthogonal(_Random):
    """`gain` times a matrix of orthonormal columns (rows, where it is wide), all axes but the last taken as rows.

    Saxe et al. 2014. Raises ValueError for a shape of fewer than two axes.
    """

    def __init__(self, gain: float = 1.0, seed: Seed = None) -> None:
        super().__init__(seed)
        self.gain = gain

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Values:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: the shape must have at least two axes. Received: shape={tuple(shape)}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        drawn = self._normal((max(rows, columns), min(rows, columns)), 0.0, 1.0, np.float64)
        q, r = np.linalg.qr(drawn)
        q = q * np.sign(np.diag(r))  # without this q is not uniformly distributed
        return (self.gain * (q if rows >= columns else q.T)).reshape(shape).astype(_dtype(dtype))

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain, **super().get_config()}


def compute_fans(shape: Sequence[int], input_axes: Axes = None, output_axes: Axes = None) -> tuple[int, int]:
    """(fan_in, fan_out) of a kernel of this shape; of convolution kernels (KH, KW, C, F) with the receptive field."""
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[axis] for axis in input_axes), math.prod(shape[axis] for axis in output_axes)
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    field = math.prod(shape[:-2])
    return field * shape[-2], field * shape[-1]


# --------------------------------------------------------------------------------------------------- by name

_registry = Registry(
    "initializer",
    "keras.initializers",
    [
        Zeros, Ones, Constant, Identity, RandomNormal, RandomUniform, TruncatedNormal, VarianceScaling, GlorotUniform,
        GlorotNormal, HeUniform, HeNormal, LecunUniform, LecunNormal, Orthogonal,
    ],
    aliases={
        "zero": Zeros, "one": Ones, "normal": RandomNormal, "uniform": RandomUniform, "IdentityInitializer": Identity,
        "OrthogonalInitializer": Orthogonal,
    },
)  # fmt: skip


def get(identifier: Any) -> Any:
    """The initializer for a name, a config dict, a class, an instance, a callable `(shape, dtype)`, or an array.

    Raises ValueError for an unknown name.
    """
    if isinstance(identifier, (np.ndarray, Tensor)):
        return Constant(np.asarray(identifier))
    return _registry.get(identifier)


def serialize(initializer: Any) -> Any:
    """The initializer as plain data, as Keras writes it."""
    return _registry.serialize(initializer)


def deserialize(config: dict[str, Any]) -> Any:
    """The initializer that `serialize` wrote down."""
    return _registry.deserialize(config)
