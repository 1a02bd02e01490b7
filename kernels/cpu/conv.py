"""Convolution: which technique serves which shape.

N batch, H W height and width of the input, C its channels, KH KW kernel size, F filters, OH OW height and width of
the output, G groups. Images are NHWC, kernels HWIO (KH, KW, C/G, F).

    tiny         a few thousand products: plain loops, called once                                      tiny_conv.py
    product      1x1, stride 1: pixels are the rows of a matrix                                              gemm.py
    depthwise    each channel by itself (G = C): vectors along the channels                              depthwise.py
    Winograd     3x3, stride 1, many channels: 4 times fewer products, a little less exact   winograd.py,
                                                                                            winograd_scatter.py
    scatter      input gradient for images of few channels, the first layer's: gy @ w.T, each number
                 added to where its patch came from                                                      scatter.py
    direct       everything else                                                       direct.py, weight_grad.py

Convolution followed by max pooling is in conv_pool.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np

from minicnn.kernels.contract import Array, EpilogueName, Padding2D, Pair
from minicnn.kernels.cpu import settings
from minicnn.kernels.cpu.activation import activation_in_place
from minicnn.kernels.cpu.depthwise import depthwise_conv2d, depthwise_input_grad, depthwise_weight_grad
from minicnn.kernels.cpu.direct import direct_conv2d, direct_input_grad, prepare_direct
from minicnn.kernels.cpu.gemm import multiply, prepare_product
from minicnn.kernels.cpu.microkernel import panel_columns
from minicnn.kernels.cpu.parallel import get_num_threads
from minicnn.kernels.cpu.scatter import scatter_input_grad
from minicnn.kernels.cpu.tiny_conv import is_tiny, tiny_conv2d, tiny_input_grad, tiny_weight_grad
from minicnn.kernels.cpu.weight_grad import direct_weight_grad
from minicnn.kernels.cpu.winograd import (
    is_profitable,
    prepare_winograd,
    winograd_conv2d,
    winograd_input_grad,
    winograd_weight_grad,
)
from minicnn.kernels.cpu.winograd_scatter import scatter_is_profitable, winograd_scatter_input_grad

Shape: TypeAlias = tuple[int, int, int, int]

CLAMPS: dict[str | None, tuple[float, float]] = {
    None: (-np.inf, np.inf),
    "relu": (0.0, np.inf),
    "relu6": (0.0, 6.0),
}
"""The activations that limit sums from below and above, which costs nothing before they are written."""

PRODUCT_PIXELS = 1 << 14
"""Up to so many pixels the weight gradient of a 1x1 convolution is faster as one product, above in direct slices."""


def conv2d(
    x: Array,
    w: Array,
    b: Array | None,
    strides: Pair,
    padding: Padding2D,
    dilation: Pair,
    groups: int,
    activation: EpilogueName | None = None,
) -> Array:
    """x (N, H, W, C), w (KH, KW, C/G, F), b (F,) or None -> act(conv(x, w) + b), (N, OH, OW, F)."""
    low, high = CLAMPS.get(activation, CLAMPS[None])
    if is_tiny(x.size // x.shape[3], w.size, groups):
        y = tiny_conv2d(x, w, b, strides, padding, dilation, low, high)
    elif _is_product(w.shape[:2], strides, padding, groups):
        c, f = w.shape[2:]
        clamp = activation if activation in CLAMPS else None
        y = multiply(x.reshape(-1, c), w.reshape(c, f), bias=b, activation=clamp).reshape(*x.shape[:3], f)
    elif _is_depthwise(w, groups):
        y = depthwise_conv2d(x, w, b, strides, padding, dilation, low, high)
    elif is_direct(x.shape, w, strides, padding, dilation, groups):
        y = direct_conv2d(x, w, b, strides, padding, dilation, groups, low, high)
    else:
        y = winograd_conv2d(x, w, b, padding, low, high)
    if activation is not None and activation not in CLAMPS:
        activation_in_place(y, activation)
    return y


def prepare_conv2d(
    x_shape: Shape,
    w: Array,
    b: Array | None,
    strides: Pair,
    padding: Padding2D,
    dilation: Pair,
    groups: int,
    activation: EpilogueName | None,
    layouts: dict[Any, Array],
) -> Callable[[Array], Array]:
    """conv2d(x, w, b, ...) as a function of x alone, to be called many times without packing w anew.

    x_shape: of every x. layouts: what w was packed or transformed to, for other shapes too: calls with the same w share
    this dict, which is empty at first. The function is out of date once w is written to, or what `prepared_under` tells
    has changed; b is read in each call. The numbers are those of conv2d to the bit, unless Winograd's algorithm pays
    only now that w need not be transformed.
    """
    geometry = strides, padding, dilation, groups
    low, high = CLAMPS.get(activation, CLAMPS[None])
    linear: Callable[[Array], Array]
    if _is_product(w.shape[:2], strides, padding, groups):
        c, f = w.shape[2:]
        shape = (*x_shape[:3], f)
        clamp = activation if activation in CLAMPS else None
        product = prepare_product(math.prod(x_shape[:3]), w.reshape(c, f), b, clamp, layouts)

        def as_images(x: Array) -> Array:
            return product(x).reshape(shape)

        linear = as_images
    elif _is_depthwise(w, groups):

        def per_channel(x: Array) -> Array:
            return depthwise_conv2d(x, w, b, strides, padding, dilation, low, high)

        linear = per_channel
    elif is_direct(x_shape, w, *geometry, prepared=True):
        linear = prepare_direct(x_shape, w, b, *geometry, low, high, layouts)
    else:
        linear = prepare_winograd(x_shape, w, b, padding, low, high, layouts)
    return linear if activation is None or activation in CLAMPS else _then(linear, activation)


def prepared_under() -> tuple[bool, int]:
    """The settings that functions made by prepare_conv2d and its like were made for: Winograd or not, threads."""
    return settings.winograd, get_num_threads()


def _then(linear: Callable[[Array], Array], activation: EpilogueName) -> Callable[[Array], Array]:
    """`linear`, and the activation of its result."""

    def run(x: Array) -> Array:
        y = linear(x)
        activation_in_place(y, activation)
        return y

    return run


def conv2d_input_grad(
    gy: Array, w: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair, groups: int
) -> Array:
    """gy (N, OH, OW, F), w (KH, KW, C/G, F), input_size (H, W) -> (N, H, W, C)."""
    c, f = w.shape[2:]
    if is_tiny(gy.size // f, w.size, groups):
        return tiny_input_grad(gy, w, input_size, strides, padding, dilation)
    if _is_product(w.shape[:2], strides, padding, groups):
        return multiply(gy.reshape(-1, f), w.reshape(c, f), transpose_b=True).reshape(*gy.shape[:3], c)
    if _is_depthwise(w, groups):
        return depthwise_input_grad(gy, w, input_size, strides, padding, dilation, groups)
    if _can_be_winograd(w.shape[:2], strides, dilation, groups, gy.dtype):
        if scatter_is_profitable(gy.shape[0], input_size, gy.shape[1:3], c, f):
            return winograd_scatter_input_grad(gy, w, input_size, padding)
        if is_profitable(gy.shape[0], *input_size, f, c, "input_grad"):
            return winograd_input_grad(gy, w, input_size, padding)
    if groups == 1 and c * 2 <= panel_columns(gy.dtype) // 4:
        return scatter_input_grad(gy, w, input_size, strides, padding, dilation)
    return direct_input_grad(gy, w, input_size, strides, padding, dilation, groups)


def conv2d_weight_grad(
    x: Array, gy: Array, kernel_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair, groups: int
) -> Array:
    """x (N, H, W, C), gy (N, OH, OW, F), kernel_size (KH, KW) -> (KH, KW, C/G, F)."""
    c, f = x.shape[3], gy.shape[3]
    if c == groups > 1:
        return depthwise_weight_grad(x, gy, kernel_size, strides, padding, dilation)
    n, oh, ow, _ = gy.shape
    if is_tiny(n * oh * ow, kernel_size[0] * kernel_size[1] * c * f, groups):
        return tiny_weight_grad(x, gy, kernel_size, strides, padding, dilation)
    if _is_product(kernel_size, strides, padding, groups) and n * oh * ow <= PRODUCT_PIXELS:
        return multiply(x.reshape(-1, c), gy.reshape(-1, f), transpose_a=True).reshape(1, 1, c, f)
    if _can_be_winograd(kernel_size, strides, dilation, groups, x.dtype) and is_profitable(
        n, oh, ow, c, f, "weight_grad"
    ):
        return winograd_weight_grad(x, gy, padding)
    return direct_weight_grad(x, gy, kernel_size, strides, padding, dilation, groups)


def is_direct(
    x_shape: Shape, w: Array, strides: Pair, padding: Padding2D, dilation: Pair, groups: int, prepared: bool = False
) -> bool:
    """Whether conv2d, or what prepare_conv2d makes of it, computes this convolution directly."""
    if _is_product(w.shape[:2], strides, padding, groups) or _is_depthwise(w, groups):
        return False
    what: Literal["forward", "prepared"] = "prepared" if prepared else "forward"
    return not (
        _can_be_winograd(w.shape[:2], strides, dilation, groups, w.dtype)
        and is_profitable(x_shape[0], *_output_size(x_shape, w, padding), x_shape[3], w.shape[3], what)
    )


def _is_product(kernel_size: Pair, strides: Pair, padding: Padding2D, groups: int) -> bool:
    """Whether it is a matrix product of pixels and filters."""
    return kernel_size == (1, 1) and strides == (1, 1) and padding == ((0, 0), (0, 0)) and groups == 1


def _is_depthwise(w: Array, groups: int) -> bool:
    """Whether each of several groups has a single input channel; w (KH, KW, C/G, F)."""
    return groups > 1 and w.shape[2] == 1


def _can_be_winograd(kernel_size: Pair, strides: Pair, dilation: Pair, groups: int, dtype: Any) -> bool:
    """Whether it is the convolution that Winograd's algorithm computes, and may be: float64 asks for all digits."""
    return (
        settings.winograd
        and kernel_size == (3, 3)
        and strides == (1, 1)
        and dilation == (1, 1)
        and groups == 1
        and dtype == np.float32
    )


def _output_size(x_shape: Shape, w: Array, padding: Padding2D) -> Pair:
    """OH and OW of a convolution with strides and dilation 1."""
    return x_shape[1] + sum(padding[0]) - w.shape[0] + 1, x_shape[2] + sum(padding[1]) - w.shape[1] + 1
