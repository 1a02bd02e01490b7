"""Tiny convolutions: so few products that looking up a plan, packing weights and calling twice would cost more.

Plain loops over output pixels, taps and channels, in one call of compiled code, on the calling thread. Forward and the
weight gradient go along the filters by vectors; the input gradient adds up over the filters, number by number. Forward
adds in the order of the micro-kernel: the bits are those of a direct convolution of few channels.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.cpu.gather import zeros
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.simd import clamp, fma, lanes, load_first, store_first
from minicnn.kernels.cpu.vector_math import splat_as, zeros_like

PRODUCTS = 1 << 13
"""Up to so many products a convolution is tiny."""


def is_tiny(pixels: int, weights: int, groups: int) -> bool:
    """Whether so many weights at so many pixels make a tiny convolution."""
    return groups == 1 and pixels * weights <= PRODUCTS


@helper
def _input_row(i, stride, element, dilation, before, size):  # type: ignore[no-untyped-def]
    """The row (or column) of the input that output i reads through an element of the window; -1 outside."""
    row = i * stride + element * dilation - before
    return row if row < size else -1


@kernel
def _conv2d(x, w, b, y, sh, sw, top, left, dh, dw, low, high):  # type: ignore[no-untyped-def]
    n, h, width, c = x.shape
    kh, kw, _, f = w.shape
    _, oh, ow, _ = y.shape
    x, w, y = x.reshape(-1), w.reshape(-1), y.reshape(-1)
    step = lanes(y)
    for q in range(0, f, step):
        count = min(step, f - q)
        start = load_first(b, q, count)
        for pixel in range(n * oh * ow):
            image, i, j = pixel // (oh * ow), pixel // ow % oh, pixel % ow
            total = zeros_like(start)
            for k in range(kh):
                row = _input_row(i, sh, k, dh, top, h)
                for l in range(kw):
                    column = _input_row(j, sw, l, dw, left, width)
                    if row >= 0 and column >= 0:
                        source, weights = ((image * h + row) * width + column) * c, (k * kw + l) * c * f + q
                        for channel in range(c):
                            factor = splat_as(total, x[source + channel])
                            total = fma(factor, load_first(w, weights + channel * f, count), total)
            total = clamp(start + total, splat_as(total, low), splat_as(total, high))
            store_first(y, pixel * f + q, total, count)


@kernel
def _input_grad(gy, w, gx, sh, sw, top, left, dh, dw):  # type: ignore[no-untyped-def]
    n, oh, ow, f = gy.shape
    kh, kw, _, _ = w.shape
    _, h, width, c = gx.shape
    gy, w, gx = gy.reshape(-1), w.reshape(-1), gx.reshape(-1)
    for position in range(gx.size):
        gx[position] = 0
    for pixel in range(n * oh * ow):
        image, i, j = pixel // (oh * ow), pixel // ow % oh, pixel % ow
        for k in range(kh):
            row = _input_row(i, sh, k, dh, top, h)
            for l in range(kw):
                column = _input_row(j, sw, l, dw, left, width)
                if row >= 0 and column >= 0:
                    goal = ((image * h + row) * width + column) * c
                    for channel in range(c):
                        weights = ((k * kw + l) * c + channel) * f
                        total = gx.dtype.type(0)
                        for q in range(f):
                            total += gy[pixel * f + q] * w[weights + q]
                        gx[goal + channel] += total


@kernel
def _weight_grad(x, gy, gw, sh, sw, top, left, dh, dw):  # type: ignore[no-untyped-def]
    n, h, width, c = x.shape
    _, oh, ow, f = gy.shape
    kh, kw, _, _ = gw.shape
    x, gy, gw = x.reshape(-1), gy.reshape(-1), gw.reshape(-1)
    step = lanes(gw)
    for q in range(0, f, step):
        count = min(step, f - q)
        for term in range(kh * kw * c):
            k, l, channel = term // (kw * c), term // c % kw, term % c
            total = zeros_like(load_first(gy, 0, 0))
            for image in range(n):
                for i in range(oh):
                    row = _input_row(i, sh, k, dh, top, h)
                    if row >= 0:
                        for j in range(ow):
                            column = _input_row(j, sw, l, dw, left, width)
                            if column >= 0:
                                factor = splat_as(total, x[((image * h + row) * width + column) * c + channel])
                                pixel = (image * oh + i) * ow + j
                                total = fma(factor, load_first(gy, pixel * f + q, count), total)
            store_first(gw, term * f + q, total, count)


def tiny_conv2d(
    x: Array, w: Array, b: Array | None, strides: Pair, padding: Padding2D, dilation: Pair, low: float, high: float
) -> Array:
    """x (N, H, W, C), w (KH, KW, C, F), b (F,) or None -> conv(x, w) + b between low and high, (N, OH, OW, F)."""
    n, h, width, _ = x.shape
    kh, kw, _, f = w.shape
    (top, bottom), (left, right) = padding
    sh, sw = strides
    dh, dw = dilation
    oh, ow = (h + top + bottom - (kh - 1) * dh - 1) // sh + 1, (width + left + right - (kw - 1) * dw - 1) // sw + 1
    y = np.empty((n, oh, ow, f), x.dtype)
    _conv2d(x, w, zeros(f, x.dtype.char) if b is None else b, y, sh, sw, top, left, dh, dw, low, high)
    return y


def tiny_input_grad(gy: Array, w: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair) -> Array:
    """gy (N, OH, OW, F), w (KH, KW, C, F), input_size (H, W) -> (N, H, W, C)."""
    gx = np.empty((gy.shape[0], *input_size, w.shape[2]), gy.dtype)
    _input_grad(gy, w, gx, *strides, padding[0][0], padding[1][0], *dilation)
    return gx


def tiny_weight_grad(
    x: Array, gy: Array, kernel_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair
) -> Array:
    """x (N, H, W, C), gy (N, OH, OW, F), kernel_size (KH, KW) -> (KH, KW, C, F)."""
    gw = np.empty((*kernel_size, x.shape[3], gy.shape[3]), x.dtype)
    _weight_grad(x, gy, gw, *strides, padding[0][0], padding[1][0], *dilation)
    return gw
