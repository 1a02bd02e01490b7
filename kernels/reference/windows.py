"""Windows sliding over images: what convolution and pooling share.

N batch, H W height and width, C channels, KH KW window size, OH OW number of window positions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minicnn.kernels.contract import Array, Padding2D, Pair


def sliding_windows(
    x: Array, window: Pair, strides: Pair, padding: Padding2D, dilation: Pair = (1, 1), fill: float = 0.0
) -> Array:
    """Each position of a window over x (N, H, W, C) padded with `fill`, a read-only view: (N, OH, OW, KH, KW, C)."""
    (kh, kw), (sh, sw), (dh, dw) = window, strides, dilation
    span = ((kh - 1) * dh + 1, (kw - 1) * dw + 1)  # what the window covers with its gaps
    windows = sliding_window_view(pad2d(x, padding, fill), span, axis=(1, 2))  # one for each pixel
    return windows[:, ::sh, ::sw, :, ::dh, ::dw].transpose(0, 1, 2, 4, 5, 3)


def taps(window: Pair, output_size: Pair, strides: Pair, dilation: Pair) -> Iterator[tuple[int, int, slice, slice]]:
    """For each element (k, l) of the window, the rows and columns of the padded image that it visits."""
    (kh, kw), (oh, ow), (sh, sw), (dh, dw) = window, output_size, strides, dilation
    for k in range(kh):
        for l in range(kw):
            yield k, l, slice(k * dh, k * dh + oh * sh, sh), slice(l * dw, l * dw + ow * sw, sw)


def pad2d(x: Array, padding: Padding2D, fill: float = 0.0) -> Array:
    """Pixels of `fill` around each image: x (N, H, W, C) -> (N, H + top + bottom, W + left + right, C).

    Negative padding crops, so that with zeros the adjoint of padding by p is padding by -p (see unpad2d).
    """
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right):
        return x
    padded = np.full(padded_shape(x.shape, padding), fill, x.dtype)
    to_rows, from_rows = _overlap(x.shape[1], top, bottom)
    to_columns, from_columns = _overlap(x.shape[2], left, right)
    padded[:, to_rows, to_columns] = x[:, from_rows, from_columns]
    return padded


def unpad2d(padded: Array, padding: Padding2D) -> Array:
    """The adjoint of pad2d: crop what it added, put zeros where it cropped."""
    (top, bottom), (left, right) = padding
    return pad2d(padded, ((-top, -bottom), (-left, -right)))


def padded_shape(shape: tuple[int, int, int, int], padding: Padding2D) -> tuple[int, int, int, int]:
    """The shape of images (N, H, W, C) after pad2d."""
    (n, h, w, c), ((top, bottom), (left, right)) = shape, padding
    return n, h + top + bottom, w + left + right, c


def _overlap(size: int, before: int, after: int) -> tuple[slice, slice]:
    """Where an axis and its padded self hold the same pixels: a slice of the padded axis, and one of the original."""
    start = max(before, 0)
    stop = max(start, size + before + min(after, 0))
    return slice(start, stop), slice(start - before, stop - before)
