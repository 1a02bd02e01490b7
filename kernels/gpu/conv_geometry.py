"""The sizes of a convolution, worked out once for each set of shapes: the struct of conv_geometry.cuh."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from minicnn.kernels.contract import Padding2D, Pair


class Sizes(NamedTuple):
    """Fields as the struct ConvGeometry: `module(...).struct("ConvGeometry", **sizes._asdict())`."""

    n: int
    h: int
    w: int
    c: int
    f: int
    kh: int
    kw: int
    oh: int
    ow: int
    sh: int
    sw: int
    top: int
    left: int
    dh: int
    dw: int
    groups: int

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return self.n, self.h, self.w, self.c

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        return self.kh, self.kw, self.c // self.groups, self.f

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        return self.n, self.oh, self.ow, self.f

    @property
    def is_depthwise(self) -> bool:
        """Whether each of several groups has a single input channel."""
        return self.c == self.groups > 1

    @property
    def is_pointwise(self) -> bool:
        """Whether each output pixel reads the input pixel at its own place, and no other: one matrix product."""
        unmoved = (self.sh, self.sw, self.top, self.left) == (1, 1, 0, 0) and (self.oh, self.ow) == (self.h, self.w)
        return (self.kh, self.kw, self.groups) == (1, 1, 1) and unmoved


@lru_cache(maxsize=4096)
def convolution_sizes(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    strides: Pair,
    padding: Padding2D,
    dilation: Pair,
    groups: int,
) -> Sizes:
    """Of x (N, H, W, C) and w (KH, KW, C/G, F)."""
    (n, h, w, c), (kh, kw, _, f) = x_shape, w_shape
    (sh, sw), (dh, dw), ((top, bottom), (left, right)) = strides, dilation, padding
    oh = (h + top + bottom - ((kh - 1) * dh + 1)) // sh + 1
    ow = (w + left + right - ((kw - 1) * dw + 1)) // sw + 1
    return Sizes(n, h, w, c, f, kh, kw, oh, ow, sh, sw, top, left, dh, dw, groups)


def input_grad_sizes(
    gy_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    input_size: Pair,
    strides: Pair,
    padding: Padding2D,
    dilation: Pair,
    groups: int,
) -> Sizes:
    """Of gy (N, OH, OW, F), w (KH, KW, C/G, F) and input_size (H, W)."""
    x_shape = (gy_shape[0], *input_size, w_shape[2] * groups)
    return convolution_sizes(x_shape, w_shape, strides, padding, dilation, groups)


def weight_grad_sizes(
    x_shape: tuple[int, ...],
    gy_shape: tuple[int, ...],
    kernel_size: Pair,
    strides: Pair,
    padding: Padding2D,
    dilation: Pair,
    groups: int,
) -> Sizes:
    """Of x (N, H, W, C), gy (N, OH, OW, F) and kernel_size (KH, KW)."""
    w_shape = (*kernel_size, x_shape[3] // groups, gy_shape[3])
    return convolution_sizes(x_shape, w_shape, strides, padding, dilation, groups)
