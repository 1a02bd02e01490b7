"""Convolution and max pooling as one operation: what lies between them need not be kept.

Glossary  N batch, H W height and width of the input, C its channels, KH KW kernel size, F filters, PH PW height and
          width of the pooled output, G groups. `where` (N, PH, PW, F) holds flat pixel indices of the convolution.
"""

from __future__ import annotations

from typing import Any

from minicnn.autograd import Function
from minicnn.functional.activation import epilogue_backward
from minicnn.functional.arguments import as_kernel_input
from minicnn.functional.conv import Geometry, conv2d_arguments, input_grad, kernel_size_of, weight_grad
from minicnn.functional.geometry import image_size, output_size
from minicnn.functional.pool import pooling_geometry, scatter2d
from minicnn.kernels.contract import Array, EpilogueName, Padding2D, Pair
from minicnn.tensor import Tensor

__all__ = ["conv2d_max_pool2d"]


class Conv2dMaxPool2d(Function):
    """y = max_pool(act(conv(x, w) + b)). Every activation that kernels apply rises, so its derivative at the largest
    number of a window is told from y, and the way back goes through the activation after, not before, the pooling."""

    def forward(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        geometry: Geometry,
        activation: EpilogueName | None,
        pooling: tuple[Pair, Pair, Padding2D],
        conv_size: Pair,
    ) -> Array:
        y, self.where = self.kernels.conv2d_max_pool2d(
            x,
            w,
            b,
            **geometry,
            activation=activation,
            window=pooling[0],
            pool_strides=pooling[1],
            pool_padding=pooling[2],
        )
        self.geometry, self.activation, self.conv_size = geometry, activation, conv_size
        self.save_for_backward(x, w, None if activation is None else y)
        return y

    def backward(self, gy: Tensor) -> Any:
        x, w, y = self.saved_tensors
        gy = as_kernel_input(gy, "conv2d_max_pool2d: gy")
        largest, gb = epilogue_backward(gy, y, self.activation, self.needs_input_grad[2])
        gz = scatter2d(largest, self.where, self.conv_size)
        gx = input_grad(gz, w, image_size(x), self.geometry) if self.needs_input_grad[0] else None
        gw = weight_grad(x, gz, kernel_size_of(w), self.geometry) if self.needs_input_grad[1] else None
        return gx, gw, gb


def conv2d_max_pool2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    window: int | Pair,
    pool_strides: int | Pair | None = None,
    pool_padding: str | int | Pair | Padding2D = "valid",
    strides: int | Pair = 1,
    padding: str | int | Pair | Padding2D = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
    activation: EpilogueName | None = None,
) -> Tensor:
    """max_pool2d(conv2d(x, w, b, ...), window, pool_strides, pool_padding) as one operation.

    The numbers are those of the two; memory for what lies between them is needed in backward only.
    x (N, H, W, C), w (KH, KW, C // G, F), b (F,) or None -> (N, PH, PW, F). Options and errors: see the two.
    """
    x, w, b, geometry = conv2d_arguments(x, w, b, strides, padding, dilation, groups, activation)
    conv_size = output_size(
        image_size(x), kernel_size_of(w), geometry["strides"], geometry["padding"], geometry["dilation"]
    )
    pooling = pooling_geometry(conv_size, window, pool_strides, pool_padding, False, "conv2d_max_pool2d")
    return Conv2dMaxPool2d.apply(
        x, w, b, geometry=geometry, activation=activation, pooling=pooling, conv_size=conv_size
    )
