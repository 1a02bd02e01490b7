"""Convolution: three bilinear maps, closed under differentiation, and the layers' forms built on them.

Glossary  N batch, H W height and width of the input, C its channels, KH KW kernel size, F filters (output channels),
          OH OW height and width of the output, G groups, M multiplier of a depthwise convolution.
          Images are NHWC, kernels (KH, KW, C // G, F). Pairs are (height, width), an int stands for both.

One trilinear form T(x, w, gy) = sum(gy * conv2d(x, w)) holds all of it: conv2d is its derivative with respect to gy,
conv2d_input_grad to x, conv2d_weight_grad to w. Each is linear in both of its arguments, so the backward of any one of
them is made of the other two, and gradients of gradients need nothing further.
"""

from __future__ import annotations

import functools
from typing import Any

from minicnn.autograd import Function
from minicnn.functional.activation import EPILOGUES, epilogue_backward
from minicnn.functional.arguments import as_kernel_input, check_choice, check_integer, check_same_dtype, check_shape
from minicnn.functional.geometry import (
    Geometry,
    as_images,
    check_images,
    explicit_padding,
    image_size,
    output_size,
    pair,
    resolve_padding,
    transposed_size,
    window_reach,
)
from minicnn.kernels.contract import Array, EpilogueName, Padding2D, Pair
from minicnn.tensor import Tensor

__all__ = [
    "conv2d",
    "conv2d_input_grad",
    "conv2d_transpose",
    "conv2d_weight_grad",
    "depthwise_conv2d",
    "separable_conv2d",
]


# --------------------------------------------------------------------------------------------------- the three maps


class Conv2d(Function):
    """y = act(conv(x, w) + b)."""

    def forward(
        self, x: Array, w: Array, b: Array | None, geometry: Geometry, activation: EpilogueName | None = None
    ) -> Array:
        y = self.kernels.conv2d(x, w, b, **geometry, activation=activation)
        self.geometry, self.activation = geometry, activation
        self.save_for_backward(x, w, None if activation is None else y)
        return y

    def backward(self, gy: Tensor) -> Any:
        x, w, y = self.saved_tensors
        gy = as_kernel_input(gy, "conv2d: gy")
        gz, gb = epilogue_backward(gy, y, self.activation, self.needs_input_grad[2])
        gx = input_grad(gz, w, image_size(x), self.geometry) if self.needs_input_grad[0] else None
        gw = weight_grad(x, gz, kernel_size_of(w), self.geometry) if self.needs_input_grad[1] else None
        return gx, gw, gb


class Conv2dInputGrad(Function):
    """gx = dT/dx, linear in gy and w."""

    def forward(self, gy: Array, w: Array, input_size: Pair, geometry: Geometry) -> Array:
        self.geometry = geometry
        self.save_for_backward(gy, w)
        return self.kernels.conv2d_input_grad(gy, w, input_size, **geometry)

    def backward(self, ggx: Tensor) -> Any:
        gy, w = self.saved_tensors
        ggx = as_kernel_input(ggx, "conv2d: ggx")
        ggy = _conv(ggx, w, self.geometry) if self.needs_input_grad[0] else None
        gw = weight_grad(ggx, gy, kernel_size_of(w), self.geometry) if self.needs_input_grad[1] else None
        return ggy, gw


class Conv2dWeightGrad(Function):
    """gw = dT/dw, linear in x and gy."""

    def forward(self, x: Array, gy: Array, kernel_size: Pair, geometry: Geometry) -> Array:
        self.geometry = geometry
        self.save_for_backward(x, gy)
        return self.kernels.conv2d_weight_grad(x, gy, kernel_size, **geometry)

    def backward(self, ggw: Tensor) -> Any:
        x, gy = self.saved_tensors
        ggw = as_kernel_input(ggw, "conv2d: ggw")
        gx = input_grad(gy, ggw, image_size(x), self.geometry) if self.needs_input_grad[0] else None
        ggy = _conv(x, ggw, self.geometry) if self.needs_input_grad[1] else None
        return gx, ggy


# Gradients arrive as any view, and kernels take C-contiguous memory: each backward sees to what it is given, once.
# What it saved was checked on its way into forward.


def _conv(x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
    return Conv2d.apply(x, w, None, geometry=geometry)


def input_grad(gy: Tensor, w: Tensor, input_size: Pair, geometry: Geometry) -> Tensor:
    return Conv2dInputGrad.apply(gy, w, input_size=input_size, geometry=geometry)


def weight_grad(x: Tensor, gy: Tensor, kernel_size: Pair, geometry: Geometry) -> Tensor:
    return Conv2dWeightGrad.apply(x, gy, kernel_size=kernel_size, geometry=geometry)


# --------------------------------------------------------------------------------------------------- checks


def _kernel(w: Any, shape: str, caller: str) -> Tensor:
    kernel = as_kernel_input(w, f"{caller}: w")
    _check_kernel(kernel.data.shape, shape, caller)
    return kernel


def _check_kernel(shape: tuple[int, ...], layout: str, caller: str) -> None:
    if len(shape) != 4 or 0 in shape:
        raise ValueError(f"{caller}: w must have four axes {layout}, none empty. Received: shape {shape}")


def kernel_size_of(w: Tensor) -> Pair:
    height, width, _, _ = w.data.shape
    return height, width


def _geometry(
    size: Pair, kernel_size: Pair, strides: Any, padding: Any, dilation: Any, groups: Any, caller: str
) -> tuple[Geometry, Pair]:
    """The options of a convolution over an image of that size, checked and spelt out; and (OH, OW).

    Raises ValueError for options of a wrong kind, and where the kernel does not fit into the padded image.
    """
    strides, dilation = pair(strides, f"{caller}: strides"), pair(dilation, f"{caller}: dilation")
    check_integer(groups, f"{caller}: groups")
    padding = resolve_padding(padding, size, kernel_size, strides, dilation, f"{caller}: padding")
    outputs = output_size(size, kernel_size, strides, padding, dilation, caller)
    return Geometry(strides=strides, padding=padding, dilation=dilation, groups=int(groups)), outputs


@functools.lru_cache(maxsize=4096)
def _conv2d_geometry(
    x: tuple[int, ...],
    w: tuple[int, ...],
    b: tuple[int, ...] | None,
    strides: Pair,
    padding: str | Padding2D,
    dilation: Pair,
    groups: int,
) -> Geometry:
    """The geometry of a conv2d of these shapes, checked; kept, because a network asks for the same in each step."""
    check_images(x, "conv2d: x")
    _check_kernel(w, "(KH, KW, C // groups, F)", "conv2d")
    if b not in (None, w[3:]):
        raise ValueError(f"conv2d: b must have shape {w[3:]}. Received: shape {b}")
    geometry, _ = _geometry((x[1], x[2]), (w[0], w[1]), strides, padding, dilation, groups, "conv2d")
    if x[3] != w[2] * groups:
        raise ValueError(
            f"conv2d: x must have as many channels as the kernel reads, w.shape[2] * groups. Received: {x[3]} "
            f"channels, w of shape {w}, groups={groups}"
        )
    _check_divides(w[3], groups, "filters", "conv2d")
    return geometry


def _check_divides(count: int, groups: int, what: str, caller: str) -> None:
    if count % groups:
        raise ValueError(f"{caller}: {what} must divide evenly into groups. Received: {what} {count}, groups={groups}")


# --------------------------------------------------------------------------------------------------- public


def conv2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    strides: int | Pair = 1,
    padding: str | int | Pair | Padding2D = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
    activation: EpilogueName | None = None,
) -> Tensor:
    """2-D convolution (cross-correlation: the kernel is not flipped), as keras.ops.conv and torch's conv2d.

    x (N, H, W, C), w (KH, KW, C // G, F), b (F,) -> (N, OH, OW, F), all of one floating dtype.
    padding: "valid", "same" (the odd row or column at the bottom and right), an int, a pair, or ((top, bottom),
    (left, right)). groups: filter f reads the channels of group f // (F // G) alone. activation: None, or "relu",
    "relu6", "sigmoid", "tanh", applied in passing.

    Raises ValueError where shapes do not agree or the kernel is larger than the padded image, TypeError for dtypes.
    """
    x, w, b, geometry = conv2d_arguments(x, w, b, strides, padding, dilation, groups, activation)
    return Conv2d.apply(x, w, b, geometry=geometry, activation=activation)


def conv2d_arguments(
    x: Any, w: Any, b: Any, strides: Any, padding: Any, dilation: Any, groups: Any, activation: Any
) -> tuple[Tensor, Tensor, Tensor | None, Geometry]:
    """Tensors as kernels take them, and the geometry; all checked."""
    x, w = as_kernel_input(x, "conv2d: x"), as_kernel_input(w, "conv2d: w")
    b = None if b is None else as_kernel_input(b, "conv2d: b")
    check_same_dtype("conv2d", x=x, w=w, b=b)
    if activation is not None:
        check_choice(activation, EPILOGUES, "conv2d: activation")
    strides, dilation = pair(strides, "conv2d: strides"), pair(dilation, "conv2d: dilation")
    check_integer(groups, "conv2d: groups")
    padding = padding if isinstance(padding, str) else explicit_padding(padding, "conv2d: padding")
    shapes = x.data.shape, w.data.shape, None if b is None else b.data.shape
    return x, w, b, _conv2d_geometry(*shapes, strides, padding, dilation, groups)


def conv2d_input_grad(
    gy: Tensor,
    w: Tensor,
    input_size: Pair,
    strides: int | Pair = 1,
    padding: str | int | Pair | Padding2D = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Gradient of sum(gy * conv2d(x, w)) with respect to x.

    gy (N, OH, OW, F), w (KH, KW, C // G, F), input_size (H, W) -> (N, H, W, C). Options as conv2d.
    Raises ValueError where gy is not of the shape that conv2d makes of such an input.
    """
    caller = "conv2d_input_grad"
    gy, w = as_images(gy, f"{caller}: gy"), _kernel(w, "(KH, KW, C // groups, F)", caller)
    check_same_dtype(caller, gy=gy, w=w)
    size, kernel_size = pair(input_size, f"{caller}: input_size"), kernel_size_of(w)
    geometry, outputs = _geometry(size, kernel_size, strides, padding, dilation, groups, caller)
    _check_divides(w.shape[3], groups, "filters", caller)
    check_shape(gy, (gy.shape[0], *outputs, w.shape[3]), f"{caller}: gy")
    return input_grad(gy, w, size, geometry)


def conv2d_weight_grad(
    x: Tensor,
    gy: Tensor,
    kernel_size: Pair,
    strides: int | Pair = 1,
    padding: str | int | Pair | Padding2D = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Gradient of sum(gy * conv2d(x, w)) with respect to w.

    x (N, H, W, C), gy (N, OH, OW, F), kernel_size (KH, KW) -> (KH, KW, C // G, F). Options as conv2d.
    Raises ValueError where gy is not of the shape that conv2d makes of x, or channels do not divide into the groups.
    """
    caller = "conv2d_weight_grad"
    x, gy = as_images(x, f"{caller}: x"), as_images(gy, f"{caller}: gy")
    check_same_dtype(caller, x=x, gy=gy)
    window, size = pair(kernel_size, f"{caller}: kernel_size"), image_size(x)
    geometry, outputs = _geometry(size, window, strides, padding, dilation, groups, caller)
    _check_divides(x.shape[3], groups, "channels", caller)
    _check_divides(gy.shape[3], groups, "filters", caller)
    check_shape(gy, (x.shape[0], *outputs, gy.shape[3]), f"{caller}: gy")
    return weight_grad(x, gy, window, geometry)


def depthwise_conv2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    strides: int | Pair = 1,
    padding: str | int | Pair | Padding2D = "valid",
    dilation: int | Pair = 1,
    activation: EpilogueName | None = None,
) -> Tensor:
    """Each channel convolved on its own with M kernels, as keras.ops.depthwise_conv.

    x (N, H, W, C), w (KH, KW, C, M), b (C * M,) -> (N, OH, OW, C * M); output c * M + m is channel c under kernel m.
    Options and errors as conv2d, of which this is the case groups = C.
    """
    kernel = _kernel(w, "(KH, KW, C, M)", "depthwise_conv2d")
    kh, kw, c, m = kernel.shape
    x = as_images(x, "depthwise_conv2d: x")
    if x.shape[3] != c:
        raise ValueError(
            f"depthwise_conv2d: w (KH, KW, C, M) must have the channels of x. Received: x {x.shape}, w {kernel.shape}"
        )
    return conv2d(x, kernel.reshape(kh, kw, 1, c * m), b, strides, padding, dilation, c, activation)


def separable_conv2d(
    x: Tensor,
    depthwise_w: Tensor,
    pointwise_w: Tensor,
    b: Tensor | None = None,
    strides: int | Pair = 1,
    padding: str | int | Pair | Padding2D = "valid",
    dilation: int | Pair = 1,
    activation: EpilogueName | None = None,
) -> Tensor:
    """A depthwise convolution, then one of 1x1 that mixes its channels, as keras.ops.separable_conv.

    x (N, H, W, C), depthwise_w (KH, KW, C, M), pointwise_w (1, 1, C * M, F), b (F,) -> (N, OH, OW, F).
    Options and errors as conv2d; strides, padding and dilation are those of the depthwise part.
    """
    pointwise = _kernel(pointwise_w, "(1, 1, C * M, F)", "separable_conv2d")
    if pointwise.shape[:2] != (1, 1):
        raise ValueError(f"separable_conv2d: pointwise_w must be (1, 1, C * M, F). Received: shape {pointwise.shape}")
    maps = depthwise_conv2d(x, depthwise_w, None, strides, padding, dilation)
    return conv2d(maps, pointwise, b, activation=activation)


# --------------------------------------------------------------------------------------------------- transposed


def conv2d_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    strides: int | Pair = 1,
    padding: str | int | Pair | Padding2D = "valid",
    output_padding: int | Pair | None = None,
    dilation: int | Pair = 1,
) -> Tensor:
    """Transposed convolution: every pixel stamps its multiple of the kernel. As keras.ops.conv_transpose.

    x (N, H, W, C), w (KH, KW, F, C), b (F,) -> (N, OH, OW, F). With K the reach of the (dilated) kernel:
    "valid"   OH = (H - 1) * stride + max(K, stride); output_padding takes the place of max(K, stride) - K
    "same"    OH = H * stride; with output_padding (H - 1) * stride + K % 2 + output_padding
    numbers   OH = (H - 1) * stride + K - top - bottom + output_padding, as torch's conv_transpose2d

    Raises ValueError where shapes do not agree, output_padding is not below the stride, or no output is left.
    """
    caller = "conv2d_transpose"
    x, w = as_images(x, f"{caller}: x"), _kernel(w, "(KH, KW, F, C)", caller)
    b = None if b is None else as_kernel_input(b, f"{caller}: b")
    check_same_dtype(caller, x=x, w=w, b=b)
    check_shape(b, w.shape[2:3], f"{caller}: b")
    if x.shape[3] != w.shape[3]:
        raise ValueError(
            f"{caller}: w (KH, KW, F, C) must have the channels of x on its last axis. Received: x {x.shape}, "
            f"w {w.shape}"
        )
    strides, dilation = pair(strides, f"{caller}: strides"), pair(dilation, f"{caller}: dilation")
    reach = window_reach(kernel_size_of(w), dilation)
    size, crops = transposed_size(image_size(x), reach, strides, padding, output_padding)
    y = input_grad(x, w, size, Geometry(strides=strides, padding=crops, dilation=dilation, groups=1))
    return y if b is None else y + b
