"""Layers that disturb their input in training and hand it on unchanged otherwise. As in keras.layers.

seed: a number, from which the layer draws its own stream of masks; None for the default generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minicnn import functional as F
from minicnn.functional.arguments import check_number, is_integer
from minicnn.layers.base import Layer
from minicnn.layers.images import ImageLayer
from minicnn.layers.input_spec import InputSpec
from minicnn.layers.prepared import Preparation, Prepared
from minicnn.layers.symbolic import Shape
from minicnn.random import Generator
from minicnn.tensor import Tensor


class Dropout(Layer):
    """Zero each element with probability `rate`, multiply the rest by 1 / (1 - rate). As keras.layers.Dropout.

    noise_shape: shape of the mask, where it is to be the same along some axes: (None, 1, 1, None) drops whole feature
    maps; None stands for the input's own size. (Srivastava et al. 2014)
    """

    casts_integers = True

    def __init__(
        self, rate: float, noise_shape: Sequence[int | None] | None = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_number(rate, f"{self.name}: rate", 0, 1, "[)")
        self.rate, self.seed = rate, seed
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)
        if any(size is not None and not (is_integer(size) and size > 0) for size in self.noise_shape or ()):
            raise ValueError(f"{self.name}: noise_shape must hold positive integers or None. Received: {noise_shape}")
        if self.noise_shape is not None:
            self.input_spec = InputSpec(ndim=len(self.noise_shape))
        self._generator = None if seed is None else Generator(seed)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        if self.noise_shape is None or not training:
            return F.dropout(inputs, self.rate, training, self._generator)
        sizes = zip(self.noise_shape, inputs.shape, strict=True)
        ones = F.ones(*[own if size is None else size for size, own in sizes], dtype=inputs.dtype)
        return inputs * F.dropout(ones.to(inputs.device), self.rate, training, self._generator)

    def prepare_call(self, preparation: Preparation) -> Prepared | None:
        return Prepared(lambda x: x) if type(self) is Dropout else None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed, "noise_shape": self.noise_shape}


class SpatialDropout2D(ImageLayer):
    """Dropout of whole feature maps, whose pixels are too much alike to be dropped alone. As keras.layers.

    (Tompson et al. 2015)
    """

    def __init__(self, rate: float, data_format: str | None = None, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        check_number(rate, f"{self.name}: rate", 0, 1, "[)")
        self.rate, self.seed = rate, seed
        self._generator = None if seed is None else Generator(seed)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        images = self._channels_last(inputs)
        return self._restored(F.spatial_dropout2d(images, self.rate, training, self._generator))

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "rate": self.rate, "seed": self.seed}
        del config["trainable"]  # Keras' constructor of this layer does not take it
        return config


class GaussianNoise(Layer):
    """Add normal noise of standard deviation `stddev`. As keras.layers.GaussianNoise."""

    casts_integers = True

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_number(stddev, f"{self.name}: stddev", 0, 1)
        self.stddev, self.seed = stddev, seed
        self._generator = None if seed is None else Generator(seed)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        if not training:
            return inputs
        noise = F.randn(*inputs.shape, dtype=inputs.dtype, seed=self._generator)
        return inputs + self.stddev * noise.to(inputs.device)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stddev": self.stddev, "seed": self.seed}
