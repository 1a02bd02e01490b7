"""Pooling layers. Arguments and defaults as in keras.layers.

Glossary  N batch, H W height and width, C channels, OH OW number of windows down and across.
"""

from __future__ import annotations

from typing import Any

from minicnn import functional as F
from minicnn.functional.arguments import check_choice
from minicnn.functional.geometry import pair
from minicnn.functional.pool import pooling_geometry
from minicnn.kernels.contract import Padding2D, Pair
from minicnn.layers.images import ImageLayer, Size, windows_size
from minicnn.layers.prepared import Preparation, Prepared
from minicnn.layers.symbolic import Shape
from minicnn.tensor import Tensor


class _Pooling(ImageLayer):
    """A window that moves over the image; its strides are its own size where not given."""

    def __init__(
        self,
        pool_size: int | Pair = (2, 2),
        strides: int | Pair | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format, name=name, **kwargs)
        self.pool_size = pair(pool_size, f"{self.name}: pool_size")
        self.strides = self.pool_size if strides is None else pair(strides, f"{self.name}: strides")
        self.padding = str(padding).lower()
        check_choice(self.padding, ("valid", "same"), f"{self.name}: padding")

    def _geometry_for(self, shape: tuple[int, ...]) -> tuple[Pair, Pair, Padding2D]:
        """Window, strides and padding over images of a shape, as kernels take them."""
        return pooling_geometry((shape[1], shape[2]), self.pool_size, self.strides, self.padding, False, self.name)

    def images_shape(self, n: int | None, size: Size, channels: int | None) -> Shape:
        return (n, *windows_size(size, self.pool_size, self.strides, self.padding, caller=self.name), channels)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
        }


class MaxPooling2D(_Pooling):
    """Largest value of each window: (N, H, W, C) -> (N, OH, OW, C). As keras.layers.MaxPooling2D.

    padding: "valid", or "same" for OH = ceil(H / stride); padding never wins.
    """

    def call_images(self, images: Tensor) -> Tensor:
        return F.max_pool2d(images, self.pool_size, self.strides, self.padding)

    def prepare_call(self, preparation: Preparation) -> Prepared | None:
        if type(self) is not MaxPooling2D or self.data_format != "channels_last":
            return None
        pool, geometry = preparation.kernels.max_pool2d, self._geometry_for(preparation.shape)
        return Prepared(lambda x: pool(x, *geometry)[0])


class AveragePooling2D(_Pooling):
    """Mean of each window: (N, H, W, C) -> (N, OH, OW, C). As keras.layers.AveragePooling2D.

    padding: "valid", or "same" for OH = ceil(H / stride); padding is left out of the mean.
    """

    def call_images(self, images: Tensor) -> Tensor:
        return F.avg_pool2d(images, self.pool_size, self.strides, self.padding)

    def prepare_call(self, preparation: Preparation) -> Prepared | None:
        if type(self) is not AveragePooling2D or self.data_format != "channels_last":
            return None
        pool, geometry = preparation.kernels.avg_pool2d, self._geometry_for(preparation.shape)
        return Prepared(lambda x: pool(x, *geometry))


class _GlobalPooling(ImageLayer):
    """One number a channel."""

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.keepdims = keepdims

    def images_shape(self, n: int | None, size: Size, channels: int | None) -> Shape:
        return (n, 1, 1, channels) if self.keepdims else (n, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "keepdims": self.keepdims}


class GlobalAveragePooling2D(_GlobalPooling):
    """Mean of each channel: (N, H, W, C) -> (N, C), with keepdims (N, 1, 1, C). As keras.layers."""

    def call_images(self, images: Tensor) -> Tensor:
        return F.global_avg_pool2d(images, self.keepdims)


class GlobalMaxPooling2D(_GlobalPooling):
    """Largest value of each channel: (N, H, W, C) -> (N, C), with keepdims (N, 1, 1, C). As keras.layers."""

    def call_images(self, images: Tensor) -> Tensor:
        return F.global_max_pool2d(images, self.keepdims)
