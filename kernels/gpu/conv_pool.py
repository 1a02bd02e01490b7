"""Convolution and max pooling on the device."""

from __future__ import annotations

from minicnn.kernels.contract import Array, EpilogueName, Padding2D, Pair
from minicnn.kernels.gpu.conv import conv2d
from minicnn.kernels.gpu.pool import max_pool2d


def conv2d_max_pool2d(
    x: Array,
    w: Array,
    b: Array | None,
    strides: Pair,
    padding: Padding2D,
    dilation: Pair,
    groups: int,
    activation: EpilogueName | None,
    window: Pair,
    pool_strides: Pair,
    pool_padding: Padding2D,
) -> tuple[Array, Array]:
    """x (N, H, W, C), w (KH, KW, C/G, F), b (F,) or None -> y and `where` (int32), both (N, PH, PW, F)."""
    y = conv2d(x, w, b, strides, padding, dilation, groups, activation)  # (N, OH, OW, F)
    return max_pool2d(y, window, pool_strides, pool_padding)
