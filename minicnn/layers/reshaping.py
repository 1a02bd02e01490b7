"""Layers that move, cut, pad or repeat elements. Arguments and defaults as in keras.layers.

Glossary  N batch, H W height and width, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minicnn import functional as F
from minicnn.functional.arguments import check_choice, is_integer
from minicnn.functional.geometry import pair
from minicnn.functional.resize import upsample_bilinear2d, upsample_nearest2d
from minicnn.kernels.contract import Padding2D, Pair
from minicnn.layers.base import Layer
from minicnn.layers.images import ImageLayer, Size
from minicnn.layers.input_spec import InputSpec
from minicnn.layers.prepared import Preparation, Prepared
from minicnn.layers.symbolic import Shape
from minicnn.tensor import Tensor


class Flatten(Layer):
    """Each sample as one row: (N, ...) -> (N, product of the rest). As keras.layers.Flatten.

    data_format: with "channels_first" (N, C, ...) channels are moved last before, so that both formats give equal rows.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = "channels_last" if data_format is None else data_format
        check_choice(self.data_format, ("channels_last", "channels_first"), f"{self.name}: data_format")
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs: Tensor) -> Tensor:
        if self.data_format == "channels_first" and inputs.ndim > 1:
            inputs = inputs.permute(0, *range(2, inputs.ndim), 1)
        return inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))

    def prepare_call(self, preparation: Preparation) -> Prepared | None:
        if type(self) is not Flatten or self.data_format != "channels_last":
            return None
        rows = preparation.shape[0], math.prod(preparation.shape[1:])
        return Prepared(lambda x: x.reshape(rows))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], _product(input_shape[1:]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}


class Reshape(Layer):
    """The same elements under another shape: (N, ...) -> (N, *target_shape). As keras.layers.Reshape.

    target_shape: of one sample; one size may be -1 and is found.
    """

    def __init__(self, target_shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_shape = tuple(target_shape) if isinstance(target_shape, (tuple, list)) else (target_shape,)
        wrong = [size for size in self.target_shape if not is_integer(size) or (size < 1 and size != -1)]
        if wrong or self.target_shape.count(-1) > 1:
            raise ValueError(
                f"{self.name}: target_shape must be positive integers, one of which may be -1. Received: "
                f"target_shape={target_shape!r}"
            )

    def call(self, inputs: Tensor) -> Tensor:
        self.compute_output_shape(inputs.shape)  # its error speaks of samples, without the batch
        return inputs.reshape(inputs.shape[0], *self.target_shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        total = _product(input_shape[1:])
        given = math.prod(size for size in self.target_shape if size != -1)
        if total is not None and (total % given if -1 in self.target_shape else total != given):
            raise ValueError(
                f"{self.name}: target_shape must hold the {total} elements of a sample of shape {input_shape[1:]}. "
                f"Received: target_shape={self.target_shape}"
            )
        found = None if total is None else total // given
        return (input_shape[0], *(found if size == -1 else size for size in self.target_shape))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "target_shape": self.target_shape}


class Permute(Layer):
    """Axes in another order, the batch staying first: axis i of the output is axis dims[i - 1] of the input, from 1.

    As keras.layers.Permute: Permute((2, 1)) transposes each sample.
    """

    def __init__(self, dims: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(f"{self.name}: dims must name each axis once, counted from 1. Received: dims={dims}")
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, inputs: Tensor) -> Tensor:
        return inputs.permute(0, *self.dims)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], *(input_shape[dim] for dim in self.dims))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dims": self.dims}


class ZeroPadding2D(ImageLayer):
    """Zeros around each image: (N, H, W, C) -> (N, top + H + bottom, left + W + right, C). As keras.layers.

    padding: an int, (vertical, horizontal), or ((top, bottom), (left, right)).
    """

    def __init__(self, padding: int | Pair | Padding2D = (1, 1), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.padding = _margins(padding, f"{self.name}: padding")

    def call_images(self, images: Tensor) -> Tensor:
        return F.pad(images, ((0, 0), *self.padding, (0, 0)))

    def images_shape(self, n: int | None, size: Size, channels: int | None) -> Shape:
        sizes = (None if s is None else s + sum(margin) for s, margin in zip(size, self.padding, strict=True))
        return (n, *sizes, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding": self.padding}


class Cropping2D(ImageLayer):
    """Each image without its margins: (N, H, W, C) -> (N, H - top - bottom, W - left - right, C). As keras.layers.

    cropping: an int, (vertical, horizontal), or ((top, bottom), (left, right)).
    """

    def __init__(
        self, cropping: int | Pair | Padding2D = ((0, 0), (0, 0)), data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(data_format, **kwargs)
        self.cropping = _margins(cropping, f"{self.name}: cropping")

    def call_images(self, images: Tensor) -> Tensor:
        n, h, w, c = images.shape
        self.images_shape(n, (h, w), c)  # refuses to crop all
        (top, bottom), (left, right) = self.cropping
        return images[:, top : h - bottom, left : w - right]

    def images_shape(self, n: int | None, size: Size, channels: int | None) -> Shape:
        left_over = [None if s is None else s - sum(margin) for s, margin in zip(size, self.cropping, strict=True)]
        if any(s is not None and s <= 0 for s in left_over):
            raise ValueError(
                f"{self.name}: cropping must leave something of the image. Received: cropping={self.cropping}, image "
                f"of size {size}"
            )
        return (n, *left_over, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "cropping": self.cropping}


class UpSampling2D(ImageLayer):
    """Images enlarged by whole factors: (N, H, W, C) -> (N, H * size[0], W * size[1], C). As keras.layers.

    interpolation: "nearest" or "bilinear".
    """

    def __init__(
        self, size: int | Pair = (2, 2), data_format: str | None = None, interpolation: str = "nearest", **kwargs: Any
    ) -> None:
        super().__init__(data_format, **kwargs)
        self.size = pair(size, f"{self.name}: size")
        self.interpolation = str(interpolation).lower()
        check_choice(self.interpolation, ("nearest", "bilinear"), f"{self.name}: interpolation")

    def call_images(self, images: Tensor) -> Tensor:
        enlarge = upsample_nearest2d if self.interpolation == "nearest" else upsample_bilinear2d
        return enlarge(images, self.size)

    def images_shape(self, n: int | None, size: Size, channels: int | None) -> Shape:
        sizes = (None if s is None else s * factor for s, factor in zip(size, self.size, strict=True))
        return (n, *sizes, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "interpolation": self.interpolation}


def _product(sizes: Sequence[int | None]) -> int | None:
    """Product of the sizes, None where one of them is not known."""
    known = [size for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None


def _margins(value: Any, name: str) -> Padding2D:
    """An int, a pair, or a pair of pairs, as ((top, bottom), (left, right))."""
    both = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(both) != 2:
        raise ValueError(f"{name} must be an int, a pair, or ((top, bottom), (left, right)). Received: {value!r}")
    return pair(both[0], name, at_least=0), pair(both[1], name, at_least=0)
