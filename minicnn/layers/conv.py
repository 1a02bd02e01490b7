"""Convolution layers. Arguments and defaults as in keras.layers.

Glossary  N batch, H W height and width, C channels, F filters, KH KW kernel size, M depth multiplier, G groups.
          Weights are laid out as Keras', whatever the data_format.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from minicnn import activations
from minicnn import functional as F
from minicnn.functional.arguments import check_choice, check_integer
from minicnn.functional.geometry import output_size, pair, resolve_padding, transposed_size, window_reach
from minicnn.functional.pool import pooling_geometry
from minicnn.kernels.contract import EpilogueName, Padding2D, Pair
from minicnn.layers.arguments import activate, get_activation, serialize_activation
from minicnn.layers.base import Layer
from minicnn.layers.images import ImageLayer, Size, windows_size
from minicnn.layers.parameter import Parameter
from minicnn.layers.pooling import MaxPooling2D
from minicnn.layers.prepared import Preparation, Prepared, arrays_of, lie_ready
from minicnn.layers.symbolic import Shape
from minicnn.layers.weights import WeightOptions
from minicnn.tensor import Tensor


class _Convolution(ImageLayer, WeightOptions):
    """What the four kinds share: geometry, activation and bias."""

    unsupported: ClassVar[dict[str, Any]] = {"lora_rank": None, "lora_alpha": None}

    _kernels: ClassVar[tuple[str, ...]] = ("kernel",)
    """Names under which the options of the kernels are given."""

    def __init__(
        self,
        kernel_size: int | Pair,
        strides: int | Pair,
        padding: str,
        dilation_rate: int | Pair,
        activation: Any,
        use_bias: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = pair(kernel_size, f"{self.name}: kernel_size")
        self.strides = pair(strides, f"{self.name}: strides")
        self.dilation_rate = pair(dilation_rate, f"{self.name}: dilation_rate")
        self.padding = str(padding).lower()
        check_choice(self.padding, ("valid", "same"), f"{self.name}: padding")
        self.activation = get_activation(activation)
        self.use_bias = use_bias

    def convolve(self, images: Tensor, activation: EpilogueName | None) -> Tensor:
        """The layer on images (N, H, W, C), with an activation that the kernel applies in passing."""
        raise TypeError(f"{type(self).__name__} must define convolve(self, images, activation).")

    def call_images(self, images: Tensor) -> Tensor:
        return activate(self.convolve, images, self.activation)

    def call_with_epilogue(self, activation: EpilogueName) -> Callable[..., Any] | None:
        if self.activation is not activations.linear or type(self) not in (Conv2D, DepthwiseConv2D, SeparableConv2D):
            return None
        return partial(self._call_with_epilogue, activation=activation)

    def _call_with_epilogue(self, inputs: Tensor, activation: EpilogueName) -> Tensor:
        return self._restored(self.convolve(self._channels_last(inputs), activation))

    def _geometry_for(self, shape: tuple[int, ...], kernel: Tensor, groups: int) -> tuple[Pair, Padding2D, Pair, int]:
        """Strides, padding, dilation and groups for images of a shape, as kernels take them."""
        size, window = (shape[1], shape[2]), (kernel.shape[0], kernel.shape[1])
        padding = resolve_padding(self.padding, size, window, self.strides, self.dilation_rate)
        return self.strides, padding, self.dilation_rate, groups

    def _prepare(self, preparation: Preparation, kernel: Parameter, groups: int) -> Prepared | None:
        """A convolution, its kernel (KH, KW, ...) read as (KH, KW, C / groups, F), with an activation behind it."""
        if self.data_format != "channels_last" or not lie_ready(kernel, self.bias):
            return None
        w, b = kernel.data, None if self.bias is None else self.bias.data
        fused, own = self.fused_activation(preparation.following), activations.epilogue_name(self.activation)
        run = preparation.kernels.prepare_conv2d(
            preparation.shape, w.reshape(*w.shape[:2], preparation.shape[3] // groups, -1), b,
            *self._geometry_for(preparation.shape, kernel, groups), fused or own, preparation.layouts_of(kernel),
        )  # fmt: skip
        rest = None if own is not None or self.activation is activations.linear else self.activation
        return Prepared(run, rest, fused is not None)

    def _make_bias(self, filters: int) -> None:
        self.bias = self._make_weight("bias", (filters,)) if self.use_bias else None

    def _output_size(self, size: Size) -> Size:
        return windows_size(size, self.kernel_size, self.strides, self.padding, self.dilation_rate, self.name)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
            "activation": serialize_activation(self.activation),
            "use_bias": self.use_bias,
            **self._weight_options_config(*self._kernels, "bias"),
        }


class Conv2D(_Convolution):
    """2-D convolution: (N, H, W, C) -> (N, OH, OW, F). As keras.layers.Conv2D.

    padding: "valid", or "same" for OH = ceil(H / stride), the odd row or column at the bottom and right.
    groups: each group of C / G channels is read by F / G filters of its own.
    Weights: kernel (KH, KW, C // G, F), bias (F,).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Pair,
        strides: int | Pair = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Pair = (1, 1),
        groups: int = 1,
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
        super().__init__(
            kernel_size, strides, padding, dilation_rate, activation, use_bias,
            data_format=data_format, activity_regularizer=activity_regularizer, **kwargs,
        )  # fmt: skip
        check_integer(filters, f"{self.name}: filters")
        check_integer(groups, f"{self.name}: groups")
        if filters % groups:
            raise ValueError(
                f"{self.name}: filters must divide evenly into groups. Received: filters={filters}, groups={groups}"
            )
        self.filters, self.groups = int(filters), int(groups)
        self._set_weight_options("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self._set_weight_options("bias", bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape: Shape) -> None:
        channels = self._known_channels(input_shape)
        if channels % self.groups:
            raise ValueError(
                f"{self.name}: channels must divide evenly into groups. Received: {channels} channels, "
                f"groups={self.groups}"
            )
        self.compute_output_shape(input_shape)  # refuses an image that is smaller than the kernel
        self.kernel = self._make_weight("kernel", (*self.kernel_size, channels // self.groups, self.filters))
        self._make_bias(self.filters)

    def convolve(self, images: Tensor, activation: EpilogueName | None) -> Tensor:
        return F.conv2d(
            images, self.kernel, self.bias, self.strides, self.padding, self.dilation_rate, self.groups, activation
        )

    def fused_with(self, following: Layer) -> Callable[..., Any] | None:
        """Pooling too is computed while the convolution's numbers are near: they never get to memory."""
        if type(following) is not MaxPooling2D or type(self) is not Conv2D:
            return super().fused_with(following)
        named = self.activation is activations.linear or activations.epilogue_name(self.activation) is not None
        alike = (self.dtype, self.data_format) == (following.dtype, following.data_format)
        if not (named and alike) or self.activity_regularizer or following.activity_regularizer:
            return None
        return partial(self._call_and_pool, pooling=following)

    def _call_and_pool(self, inputs: Tensor, pooling: MaxPooling2D) -> Tensor:
        y = F.conv2d_max_pool2d(
            self._channels_last(inputs), self.kernel, self.bias, pooling.pool_size, pooling.strides, pooling.padding,
            self.strides, self.padding, self.dilation_rate, self.groups, activations.epilogue_name(self.activation),
        )  # fmt: skip
        return self._restored(y)

    def prepare_call(self, preparation: Preparation) -> Prepared | None:
        following = preparation.following
        if type(self) is Conv2D and type(following) is MaxPooling2D and self.fused_with(following) is not None:
            return self._prepare_with_pooling(preparation, following)
        return self._prepare(preparation, self.kernel, self.groups) if type(self) is Conv2D else None

    def _prepare_with_pooling(self, preparation: Preparation, pooling: MaxPooling2D) -> Prepared | None:
        if self.data_format != "channels_last" or not lie_ready(self.kernel, self.bias):
            return None
        geometry = self._geometry_for(preparation.shape, self.kernel, self.groups)
        _, h, w, _ = preparation.shape
        size = output_size((h, w), self.kernel_size, *geometry[:3])
        run = preparation.kernels.prepare_conv2d_max_pool2d(
            preparation.shape, *arrays_of(self.kernel, self.bias), *geometry,
            activations.epilogue_name(self.activation),
            *pooling_geometry(size, pooling.pool_size, pooling.strides, pooling.padding, False, pooling.name),
            preparation.layouts_of(self.kernel),
        )  # fmt: skip
        return Prepared(run, with_following=True)

    def images_shape(self, n: int | None, size: Size, channels: int | None) -> Shape:
        return (n, *self._output_size(size), self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "groups": self.groups}


class DepthwiseConv2D(_Convolution):
    """Each channel convolved with M kernels of its own: (N, H, W, C) -> (N, OH, OW, C * M). As keras.layers.

    Weights: kernel (KH, KW, C, M), bias (C * M,).
    """

    _kernels = ("depthwise",)

    def __init__(
        self,
        kernel_size: int | Pair,
        strides: int | Pair = (1, 1),
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: int | Pair = (1, 1),
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size, strides, padding, dilation_rate, activation, use_bias,
            data_format=data_format, activity_regularizer=activity_regularizer, **kwargs,
        )  # fmt: skip
        check_integer(depth_multiplier, f"{self.name}: depth_multiplier")
        self.depth_multiplier = int(depth_multiplier)
        self._set_weight_options("depthwise", depthwise_initializer, depthwise_regularizer, depthwise_constraint)
        self._set_weight_options("bias", bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape: Shape) -> None:
        channels = self._known_channels(input_shape)
        self.compute_output_shape(input_shape)
        self.kernel = self._make_weight("depthwise", (*self.kernel_size, channels, self.depth_multiplier), "kernel")
        self._make_bias(channels * self.depth_multiplier)

    def convolve(self, images: Tensor, activation: EpilogueName | None) -> Tensor:
        return F.depthwise_conv2d(
            images, self.kernel, self.bias, self.strides, self.padding, self.dilation_rate, activation
        )

    def prepare_call(self, preparation: Preparation) -> Prepared | None:
        if type(self) is not DepthwiseConv2D:
            return None
        return self._prepare(preparation, self.kernel, preparation.shape[3])

    def images_shape(self, n: int | None, size: Size, channels: int | None) -> Shape:
        return (n, *self._output_size(size), None if channels is None else channels * self.depth_multiplier)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "depth_multiplier": self.depth_multiplier}


class SeparableConv2D(_Convolution):
    """A depthwise convolution, then a 1x1 one that mixes the channels: (N, H, W, C) -> (N, OH, OW, F).

    As keras.layers.SeparableConv2D: no activation in between, one bias at the end.
    Weights: depthwise_kernel (KH, KW, C, M), pointwise_kernel (1, 1, C * M, F), bias (F,).
    """

    _kernels = ("depthwise", "pointwise")

    def __init__(
        self,
        filters: int,
        kernel_size: int | Pair,
        strides: int | Pair = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Pair = (1, 1),
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            kernel_size, strides, padding, dilation_rate, activation, use_bias,
            data_format=data_format, activity_regularizer=activity_regularizer, **kwargs,
        )  # fmt: skip
        check_integer(filters, f"{self.name}: filters")
        check_integer(depth_multiplier, f"{self.name}: depth_multiplier")
        self.filters, self.depth_multiplier = int(filters), int(depth_multiplier)
        self._set_weight_options("depthwise", depthwise_initializer, depthwise_regularizer, depthwise_constraint)
        self._set_weight_options("pointwise", pointwise_initializer, pointwise_regularizer, pointwise_constraint)
        self._set_weight_options("bias", bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape: Shape) -> None:
        channels = self._known_channels(input_shape)
        self.compute_output_shape(input_shape)
        multiplier = self.depth_multiplier
        self.depthwise_kernel = self._make_weight(
            "depthwise", (*self.kernel_size, channels, multiplier), "depthwise_kernel"
        )
        self.pointwise_kernel = self._make_weight(
            "pointwise", (1, 1, channels * multiplier, self.filters), "pointwise_kernel"
        )
        self._make_bias(self.filters)

    def convolve(self, images: Tensor, activation: EpilogueName | None) -> Tensor:
        kernels = self.depthwise_kernel, self.pointwise_kernel
        return F.separable_conv2d(
            images, *kernels, self.bias, self.strides, self.padding, self.dilation_rate, activation
        )

    def images_shape(self, n: int | None, size: Size, channels: int | None) -> Shape:
        return (n, *self._output_size(size), self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "depth_multiplier": self.depth_multiplier}


class Conv2DTranspose(_Convolution):
    """Transposed convolution, which enlarges: (N, H, W, C) -> (N, OH, OW, F). As keras.layers.Conv2DTranspose.

    padding: "valid" for OH = (H - 1) * stride + max(K, stride), "same" for OH = H * stride; output_padding chooses
    another OH among those that a convolution of the same stride would bring down to H.
    Weights: kernel (KH, KW, F, C), bias (F,).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Pair,
        strides: int | Pair = (1, 1),
        padding: str = "valid",
        output_padding: int | Pair | None = None,
        data_format: str | None = None,
        dilation_rate: int | Pair = (1, 1),
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
        super().__init__(
            kernel_size, strides, padding, dilation_rate, activation, use_bias,
            data_format=data_format, activity_regularizer=activity_regularizer, **kwargs,
        )  # fmt: skip
        check_integer(filters, f"{self.name}: filters")
        self.filters = int(filters)
        self.output_padding = self._checked_output_padding(output_padding)
        self._set_weight_options("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self._set_weight_options("bias", bias_initializer, bias_regularizer, bias_constraint)

    def _checked_output_padding(self, output_padding: int | Pair | None) -> Pair | None:
        if output_padding is None:
            return None
        extra = pair(output_padding, f"{self.name}: output_padding", at_least=0)
        if extra[0] >= self.strides[0] or extra[1] >= self.strides[1]:
            raise ValueError(
                f"{self.name}: output_padding must be smaller than the stride. Received: output_padding={extra}, "
                f"strides={self.strides}"
            )
        return extra

    def build(self, input_shape: Shape) -> None:
        channels = self._known_channels(input_shape)
        self.kernel = self._make_weight("kernel", (*self.kernel_size, self.filters, channels))
        self._make_bias(self.filters)

    def call_images(self, images: Tensor) -> Tensor:
        return self.activation(self.convolve(images, None))

    def convolve(self, images: Tensor, activation: None) -> Tensor:  # type: ignore[override]
        geometry = (self.strides, self.padding, self.output_padding, self.dilation_rate)
        return F.conv2d_transpose(images, self.kernel, self.bias, *geometry)

    def images_shape(self, n: int | None, size: Size, channels: int | None) -> Shape:
        known = (size[0] or 1, size[1] or 1)
        reach = window_reach(self.kernel_size, self.dilation_rate)
        (oh, ow), _ = transposed_size(known, reach, self.strides, self.padding, self.output_padding)
        return (n, oh if size[0] else None, ow if size[1] else None, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "output_padding": self.output_padding}
