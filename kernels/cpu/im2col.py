"""Patches laid out as a matrix, and added back: what convolution is usually taught with, and does without here.

One task an image, so that no two tasks write to the same pixel. Both run along the channels, which lie side by side.
"""

from __future__ import annotations

from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.gather import forward_axis
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.parallel import parallel_for


def im2col(x: Array, window: Pair, strides: Pair, padding: Padding2D, dilation: Pair) -> Array:
    """x (N, H, W, C), window (KH, KW) -> the patch under every output pixel, (N, OH, OW, KH, KW, C)."""
    n, _, _, c = x.shape
    oh, ow = (
        forward_axis(x.shape[axis + 1], window[axis], strides[axis], padding[axis], dilation[axis]).positions
        for axis in (0, 1)
    )
    cols = buffers.empty((n, oh, ow, *window, c), x.dtype)
    _im2col(x, cols, *strides, padding[0][0], padding[1][0], *dilation)
    return cols


def col2im(cols: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair) -> Array:
    """cols (N, OH, OW, KH, KW, C), input_size (H, W) -> every patch added back where it was read, (N, H, W, C)."""
    gx = buffers.empty((cols.shape[0], *input_size, cols.shape[5]), cols.dtype)
    _col2im(cols, gx, *strides, padding[0][0], padding[1][0], *dilation)
    return gx


@helper
def _im2col_image(n, x, cols, stride_h, stride_w, top, left, dilation_h, dilation_w):  # type: ignore[no-untyped-def]
    _, h, w, c = x.shape
    _, oh, ow, kh, kw, _ = cols.shape
    for i in range(oh):
        for j in range(ow):
            for k in range(kh):
                for l in range(kw):
                    row, column = i * stride_h + k * dilation_h - top, j * stride_w + l * dilation_w - left
                    inside = 0 <= row < h and 0 <= column < w
                    for channel in range(c):
                        cols[n, i, j, k, l, channel] = x[n, row, column, channel] if inside else 0


@helper
def _col2im_image(n, cols, gx, stride_h, stride_w, top, left, dilation_h, dilation_w):  # type: ignore[no-untyped-def]
    _, h, w, c = gx.shape
    _, oh, ow, kh, kw, _ = cols.shape
    for row in range(h):
        for column in range(w):
            for channel in range(c):
                gx[n, row, column, channel] = 0
    for i in range(oh):
        for k in range(kh):
            row = i * stride_h + k * dilation_h - top
            if row < 0 or row >= h:
                continue
            for j in range(ow):
                for l in range(kw):
                    column = j * stride_w + l * dilation_w - left
                    if 0 <= column < w:
                        for channel in range(c):
                            gx[n, row, column, channel] += cols[n, i, j, k, l, channel]


@kernel
def _im2col(x, cols, stride_h, stride_w, top, left, dilation_h, dilation_w):  # type: ignore[no-untyped-def]
    arguments = (x, cols, stride_h, stride_w, top, left, dilation_h, dilation_w)
    parallel_for(_im2col_image, x.shape[0], arguments)


@kernel
def _col2im(cols, gx, stride_h, stride_w, top, left, dilation_h, dilation_w):  # type: ignore[no-untyped-def]
    arguments = (cols, gx, stride_h, stride_w, top, left, dilation_h, dilation_w)
    parallel_for(_col2im_image, cols.shape[0], arguments)
