"""Pooling: one number for each window of each channel, and the way back.

N batch, H W image, C channels, KH KW window, OH OW output. `where` holds flat pixel indices h*W + w.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.contract import Array, EpilogueName, Padding2D, Pair
from minicnn.kernels.reference.conv import col2im, conv2d
from minicnn.kernels.reference.windows import sliding_windows


def max_pool2d(x: Array, window: Pair, strides: Pair, padding: Padding2D) -> tuple[Array, Array]:
    """x (N, H, W, C) -> y and where (int32), both (N, OH, OW, C)."""
    windows = sliding_windows(x, window, strides, padding, fill=-np.inf)
    n, oh, ow, kh, kw, c = windows.shape
    flat = windows.reshape(n, oh, ow, kh * kw, c)
    best = flat.argmax(axis=3)  # (N, OH, OW, C); NumPy's argmax takes the first of equals, and NaN before all
    y = np.take_along_axis(flat, best[:, :, :, None], axis=3)[:, :, :, 0]
    return y, _pixel_index(best, x.shape[1:3], kw, strides, padding)


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
    """x (N, H, W, C), w (KH, KW, C/G, F), b (F,) or None -> y and where (int32), both (N, PH, PW, F)."""
    y = conv2d(x, w, b, strides, padding, dilation, groups, activation)
    return max_pool2d(y, window, pool_strides, pool_padding)


def _pixel_index(best: Array, input_size: Pair, kw: int, strides: Pair, padding: Padding2D) -> Array:
    """Position k*KW + l in the window of each output -> flat index in the image, (N, OH, OW, C) int32."""
    (h, w), (sh, sw) = input_size, strides
    (top, _), (left, _) = padding
    _, oh, ow, _ = best.shape
    rows = best // kw + (np.arange(oh) * sh - top)[:, None, None]
    columns = best % kw + (np.arange(ow) * sw - left)[:, None]
    # Padding is only found where all the window is -inf; the nearest pixel is then the first of the equals.
    return (np.clip(rows, 0, h - 1) * w + np.clip(columns, 0, w - 1)).astype(np.int32)


def adaptive_max_pool2d(x: Array, output_size: Pair) -> tuple[Array, Array]:
    """x (N, H, W, C) -> y and where (int32), both (N, OH, OW, C)."""
    n, h, w, c = x.shape
    y = np.empty((n, *output_size, c), x.dtype)
    where = np.empty(y.shape, np.int32)
    for i, (top, bottom) in enumerate(_bins(h, output_size[0])):
        for j, (left, right) in enumerate(_bins(w, output_size[1])):
            pixels = x[:, top:bottom, left:right].reshape(n, (bottom - top) * (right - left), c)
            best = pixels.argmax(axis=1)  # (N, C)
            y[:, i, j] = np.take_along_axis(pixels, best[:, None], axis=1)[:, 0]
            row, column = np.divmod(best, right - left)
            where[:, i, j] = (top + row) * w + left + column
    return y, where


def _bins(size: int, count: int) -> list[Pair]:
    """The `count` nearly equal bins of range(size), each (start, stop); neighbours overlap where it does not divide."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]  # -(-a // b) rounds up


def gather2d(x: Array, where: Array) -> Array:
    """x (N, H, W, C), where (N, OH, OW, C) int32 -> (N, OH, OW, C)."""
    n, h, w, c = x.shape
    _, oh, ow, _ = where.shape
    pixels = x.reshape(n, h * w, c)
    return np.take_along_axis(pixels, where.reshape(n, oh * ow, c), axis=1).reshape(where.shape)


def scatter2d(gy: Array, where: Array, input_size: Pair) -> Array:
    """gy and where (N, OH, OW, C), input_size (H, W) -> (N, H, W, C)."""
    n, _, _, c = gy.shape
    h, w = input_size
    gx = np.zeros(n * h * w * c, gy.dtype)
    index = ((np.arange(n) * h * w)[:, None, None, None] + where) * c + np.arange(c)  # (N, OH, OW, C), into gx
    np.add.at(gx, index.ravel(), gy.ravel())  # one after another, so the same bits on every run
    return gx.reshape(n, h, w, c)


def avg_pool2d(x: Array, window: Pair, strides: Pair, padding: Padding2D) -> Array:
    """x (N, H, W, C) -> (N, OH, OW, C)."""
    sums = sliding_windows(x, window, strides, padding).sum(axis=(3, 4))
    return np.ascontiguousarray(sums / _pixels_inside(x.shape[1:3], window, strides, padding).astype(x.dtype))


def avg_pool2d_backward(gy: Array, input_size: Pair, window: Pair, strides: Pair, padding: Padding2D) -> Array:
    """gy (N, OH, OW, C), input_size (H, W) -> (N, H, W, C)."""
    n, oh, ow, c = gy.shape
    share = gy / _pixels_inside(input_size, window, strides, padding).astype(gy.dtype)
    patches = np.broadcast_to(share[:, :, :, None, None], (n, oh, ow, *window, c))  # every pixel gets the same
    return col2im(patches, input_size, strides, padding, dilation=(1, 1))


def _pixels_inside(input_size: Pair, window: Pair, strides: Pair, padding: Padding2D) -> Array:
    """How many pixels of each window lie in the image, (1, OH, OW, 1); 1 for none, the divisor of an empty sum."""
    image = np.ones((1, *input_size, 1))
    return np.maximum(sliding_windows(image, window, strides, padding).sum(axis=(3, 4)), 1)
