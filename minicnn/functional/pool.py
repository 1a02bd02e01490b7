"""Pooling: each window of each channel becomes one number.

Glossary  N batch, H W height and width of the input, C channels, KH KW window, OH OW height and width of the output.
          `where` (N, OH, OW, C) holds flat pixel indices h*W + w. Pairs are (height, width), an int stands for both.

Pooling is linear: average pooling as it stands, max pooling once `where` is known. So backward is the adjoint map, and
the adjoint's backward is the map itself: gather and scatter, average and its backward, come in pairs.
"""

from __future__ import annotations

import functools
from typing import Any

from minicnn.autograd import Function
from minicnn.backend import backend_of
from minicnn.functional.arguments import as_kernel_input
from minicnn.functional.geometry import (
    as_images,
    ceil_mode_padding,
    explicit_padding,
    image_size,
    output_size,
    pair,
    resolve_padding,
)
from minicnn.functional.linalg import matmul
from minicnn.functional.shape import pad
from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.tensor import Tensor

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "global_avg_pool2d",
    "global_max_pool2d",
    "max_pool2d",
]

# --------------------------------------------------------------------------------------------------- maximum


class MaxPool2d(Function):
    def forward(self, x: Array, window: Pair, strides: Pair, padding: Padding2D) -> Array:
        y, self.where = self.kernels.max_pool2d(x, window, strides, padding)
        self.input_size = x.shape[1:3]
        return y

    def backward(self, gy: Tensor) -> Tensor:
        return scatter2d(gy, self.where, self.input_size)


class AdaptiveMaxPool2d(Function):
    def forward(self, x: Array, size: Pair) -> Array:
        y, self.where = self.kernels.adaptive_max_pool2d(x, size)
        self.input_size = x.shape[1:3]
        return y

    def backward(self, gy: Tensor) -> Tensor:
        return scatter2d(gy, self.where, self.input_size)


class Scatter2d(Function):
    """Add each gy[n, i, j, c] to pixel where[n, i, j, c] of zeros."""

    def forward(self, gy: Array, where: Array, input_size: Pair) -> Array:
        self.where = where
        return self.kernels.scatter2d(gy, where, input_size)

    def backward(self, ggx: Tensor) -> Tensor:
        return gather2d(ggx, self.where)


class Gather2d(Function):
    """Read pixel where[n, i, j, c] for each output."""

    def forward(self, x: Array, where: Array) -> Array:
        self.where, self.input_size = where, x.shape[1:3]
        return self.kernels.gather2d(x, where)

    def backward(self, gy: Tensor) -> Tensor:
        return scatter2d(gy, self.where, self.input_size)


def scatter2d(gy: Tensor, where: Array, input_size: Pair) -> Tensor:
    """gy, where (N, OH, OW, C), input_size (H, W) -> (N, H, W, C), the adjoint of gather2d."""
    gy = as_kernel_input(gy, "scatter2d: gy")
    return Scatter2d.apply(gy, where=where, input_size=input_size)


def gather2d(x: Tensor, where: Array) -> Tensor:
    """x (N, H, W, C), where (N, OH, OW, C) -> (N, OH, OW, C)."""
    return Gather2d.apply(as_kernel_input(x, "gather2d: x"), where=where)


# --------------------------------------------------------------------------------------------------- average


class AvgPool2d(Function):
    def forward(self, x: Array, window: Pair, strides: Pair, padding: Padding2D) -> Array:
        self.input_size, self.geometry = x.shape[1:3], (window, strides, padding)
        return self.kernels.avg_pool2d(x, window, strides, padding)

    def backward(self, gy: Tensor) -> Tensor:
        gy = as_kernel_input(gy, "avg_pool2d: gy")
        return AvgPool2dBackward.apply(gy, input_size=self.input_size, geometry=self.geometry)


class AvgPool2dBackward(Function):
    """The adjoint of AvgPool2d."""

    def forward(self, gy: Array, input_size: Pair, geometry: tuple[Pair, Pair, Padding2D]) -> Array:
        self.geometry = geometry
        return self.kernels.avg_pool2d_backward(gy, input_size, *geometry)

    def backward(self, ggx: Tensor) -> Tensor:
        return _average(as_kernel_input(ggx, "avg_pool2d: ggx"), *self.geometry)


def _average(x: Tensor, window: Pair, strides: Pair, padding: Padding2D) -> Tensor:
    return AvgPool2d.apply(x, window=window, strides=strides, padding=padding)


# --------------------------------------------------------------------------------------------------- public


def max_pool2d(
    x: Tensor,
    window: int | Pair,
    strides: int | Pair | None = None,
    padding: str | int | Pair | Padding2D = "valid",
    ceil_mode: bool = False,
) -> Tensor:
    """Largest value of each window: x (N, H, W, C) -> (N, OH, OW, C). NaN wins, padding never does.

    strides: those of the window where left out, as in Keras and PyTorch.
    padding: "valid", "same" (the odd row or column at the bottom and right), an int, a pair, or ((top, bottom),
    (left, right)). ceil_mode: keep a last window that fits only in part, by PyTorch's rule.

    Raises ValueError where x is not 4-D, the window larger than the padded input or not larger than the padding.
    """
    x = as_images(x, "max_pool2d: x")
    window, strides, padding = pooling_geometry(image_size(x), window, strides, padding, ceil_mode, "max_pool2d")
    return MaxPool2d.apply(x, window=window, strides=strides, padding=padding)


def avg_pool2d(
    x: Tensor,
    window: int | Pair,
    strides: int | Pair | None = None,
    padding: str | int | Pair | Padding2D = "valid",
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Tensor:
    """Mean of each window: x (N, H, W, C) -> (N, OH, OW, C). Options and errors as max_pool2d.

    count_include_pad: count the padding's zeros in the mean. Left out by default, as in Keras; PyTorch counts them.
    What ceil_mode adds is never counted, in PyTorch either.
    """
    x = as_images(x, "avg_pool2d: x")
    window, strides, padding = pooling_geometry(image_size(x), window, strides, padding, False, "avg_pool2d")
    extended = ceil_mode_padding(image_size(x), window, strides, padding) if ceil_mode else padding
    if not count_include_pad:
        return _average(x, window, strides, extended)
    beyond = tuple((0, wide[1] - narrow[1]) for wide, narrow in zip(extended, padding, strict=True))
    padded = as_kernel_input(pad(x, ((0, 0), *padding, (0, 0))), "avg_pool2d: x")
    return _average(padded, window, strides, (beyond[0], beyond[1]))


def pooling_geometry(
    size: Pair, window: Any, strides: Any, padding: Any, ceil_mode: bool, caller: str
) -> tuple[Pair, Pair, Padding2D]:
    """Window, strides and padding over an image of this size, checked and spelt out."""
    window = pair(window, f"{caller}: window")
    strides = window if strides is None else pair(strides, f"{caller}: strides")
    padding = padding if isinstance(padding, str) else explicit_padding(padding, f"{caller}: padding")
    return _resolved(size, window, strides, padding, bool(ceil_mode), caller)


@functools.lru_cache(maxsize=4096)
def _resolved(
    size: Pair, window: Pair, strides: Pair, padding: str | Padding2D, ceil_mode: bool, caller: str
) -> tuple[Pair, Pair, Padding2D]:
    """`pooling_geometry` of plain integers, worked out once: a network asks the same in each step."""
    padding = resolve_padding(padding, size, window, strides, name=f"{caller}: padding")
    if max(padding[0]) >= window[0] or max(padding[1]) >= window[1]:
        raise ValueError(
            f"{caller}: padding must be smaller than the window, or some windows would see no pixel. Received: "
            f"padding={padding}, window={window}"
        )
    output_size(size, window, strides, padding, caller=caller)
    if ceil_mode:
        padding = ceil_mode_padding(size, window, strides, padding)
    return window, strides, padding


def global_avg_pool2d(x: Tensor, keepdims: bool = False) -> Tensor:
    """Mean of each channel: x (N, H, W, C) -> (N, C), or (N, 1, 1, C) with keepdims."""
    return as_images(x, "global_avg_pool2d: x").mean((1, 2), keepdims)


def global_max_pool2d(x: Tensor, keepdims: bool = False) -> Tensor:
    """Largest value of each channel: x (N, H, W, C) -> (N, C), or (N, 1, 1, C) with keepdims.

    Among equals the first gets the gradient, as in any max pooling.
    """
    x = as_images(x, "global_max_pool2d: x")
    n, h, w, c = x.shape
    y = max_pool2d(x, (h, w))  # (N, 1, 1, C)
    return y if keepdims else y.reshape(n, c)


# --------------------------------------------------------------------------------------------------- adaptive


def adaptive_max_pool2d(x: Tensor, output_size: int | Pair) -> Tensor:
    """Largest value of each bin of an OH x OW grid: x (N, H, W, C) -> (N, OH, OW, C), as torch's adaptive_max_pool2d.

    Bin i spans rows floor(i * H / OH) to ceil((i + 1) * H / OH); neighbours overlap where H does not divide.
    """
    size = pair(output_size, "adaptive_max_pool2d: output_size")
    return AdaptiveMaxPool2d.apply(as_images(x, "adaptive_max_pool2d: x"), size=size)


def adaptive_avg_pool2d(x: Tensor, output_size: int | Pair) -> Tensor:
    """Mean of each bin of an OH x OW grid: x (N, H, W, C) -> (N, OH, OW, C), as torch's adaptive_avg_pool2d.

    The bins are those of adaptive_max_pool2d. Rows and columns are averaged one after the other, each by a matrix.
    """
    x = as_images(x, "adaptive_avg_pool2d: x")
    oh, ow = pair(output_size, "adaptive_avg_pool2d: output_size")
    n, h, w, c = x.shape
    rows = matmul(_averaging_matrix(oh, h, x), x.reshape(n, h, w * c))  # (OH, H) @ (N, H, W*C) -> (N, OH, W*C)
    y = matmul(_averaging_matrix(ow, w, x), rows.reshape(n * oh, w, c))  # (OW, W) @ (N*OH, W, C) -> (N*OH, OW, C)
    return y.reshape(n, oh, ow, c)


def _averaging_matrix(bins: int, size: int, like: Tensor) -> Tensor:
    """Row i holds 1 / length over bin i, zeros elsewhere: (bins, size), of the dtype and backend of `like`."""
    matrix = backend_of(like.data).xp.zeros((bins, size), like.dtype)
    for i in range(bins):
        start, stop = i * size // bins, -(-(i + 1) * size // bins)  # floor, ceil
        matrix[i, start:stop] = 1 / (stop - start)
    return Tensor._wrap(matrix)
