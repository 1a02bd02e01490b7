"""Convolution as matrix multiplication (Chellapilla et al. 2006).

N batch, H W height and width of the input, C its channels, KH KW kernel size, F filters, OH OW height and width of
the output, G groups. Images are NHWC, kernels HWIO (KH, KW, C/G, F).

im2col lays the patch under each output pixel out as a row of a matrix; then one product does all the work:

    y = cols @ w,   gradient of w = cols.T @ gy,   gradient of cols = gy @ w.T,   gradient of x = col2im of that.

Groups are a leading axis of each matrix, and the product is a batched one. Only a depthwise convolution (one input
channel a group) goes another way: its matrices would be a single column wide.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.contract import Array, EpilogueName, Padding2D, Pair
from minicnn.kernels.reference.activation import activation as apply_activation
from minicnn.kernels.reference.windows import padded_shape, sliding_windows, taps, unpad2d


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
    if _is_depthwise(w, groups):
        y = _depthwise_conv2d(x, w, strides, padding, dilation)
    else:
        windows = sliding_windows(x, w.shape[:2], strides, padding, dilation)  # (N, OH, OW, KH, KW, C)
        product = _window_matrix(windows, groups) @ _kernel_matrix(w, groups)  # (G, N*OH*OW, F/G)
        y = _join_groups(product).reshape(*windows.shape[:3], w.shape[3])  # (N, OH, OW, F)
    if b is not None:
        y += b
    return y if activation is None else apply_activation(y, activation)


def conv2d_input_grad(
    gy: Array, w: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair, groups: int
) -> Array:
    """gy (N, OH, OW, F), w (KH, KW, C/G, F), input_size (H, W) -> (N, H, W, C)."""
    if _is_depthwise(w, groups):
        return _depthwise_input_grad(gy, w, input_size, strides, padding, dilation, channels=groups)
    n, oh, ow, _ = gy.shape
    kh, kw, c_group, _ = w.shape
    product = _pixel_matrix(gy, groups) @ _kernel_matrix(w, groups).swapaxes(1, 2)  # (G, N*OH*OW, KH*KW*C/G)
    cols = _join_groups(product.reshape(groups, n, oh, ow, kh, kw, c_group))  # (N, OH, OW, KH, KW, C)
    return col2im(cols, input_size, strides, padding, dilation)


def conv2d_weight_grad(
    x: Array, gy: Array, kernel_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair, groups: int
) -> Array:
    """x (N, H, W, C), gy (N, OH, OW, F), kernel_size (KH, KW) -> (KH, KW, C/G, F)."""
    c, f = x.shape[3], gy.shape[3]
    if c == groups > 1:
        return _depthwise_weight_grad(x, gy, kernel_size, strides, padding, dilation)
    windows = sliding_windows(x, kernel_size, strides, padding, dilation)  # (N, OH, OW, KH, KW, C)
    product = _window_matrix(windows, groups).swapaxes(1, 2) @ _pixel_matrix(gy, groups)  # (G, KH*KW*C/G, F/G)
    return _join_groups(product.reshape(groups, *kernel_size, c // groups, f // groups))


def im2col(x: Array, window: Pair, strides: Pair, padding: Padding2D, dilation: Pair) -> Array:
    """x (N, H, W, C), window (KH, KW) -> the patch under every output pixel, (N, OH, OW, KH, KW, C)."""
    return sliding_windows(x, window, strides, padding, dilation).copy()


def col2im(cols: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair) -> Array:
    """cols (N, OH, OW, KH, KW, C), input_size (H, W) -> every patch added back where it was read, (N, H, W, C)."""
    n, oh, ow, kh, kw, c = cols.shape
    padded = np.zeros(padded_shape((n, *input_size, c), padding), cols.dtype)
    for k, l, rows, columns in taps((kh, kw), (oh, ow), strides, dilation):
        padded[:, rows, columns] += cols[:, :, :, k, l]
    return unpad2d(padded, padding)


# ---------------------------------------------------------------------------------------------------- matrices


def _window_matrix(windows: Array, groups: int) -> Array:
    """Windows (N, OH, OW, KH, KW, C), one a row: (G, N*OH*OW, KH*KW*C/G)."""
    n, oh, ow, kh, kw, c = windows.shape
    return _split_groups(windows, groups).reshape(groups, n * oh * ow, kh * kw * (c // groups))


def _kernel_matrix(w: Array, groups: int) -> Array:
    """Filters (KH, KW, C/G, F), one a column: (G, KH*KW*C/G, F/G)."""
    kh, kw, c_group, f = w.shape
    return _split_groups(w, groups).reshape(groups, kh * kw * c_group, f // groups)


def _pixel_matrix(gy: Array, groups: int) -> Array:
    """Output pixels (N, OH, OW, F), one a row: (G, N*OH*OW, F/G)."""
    n, oh, ow, f = gy.shape
    return _split_groups(gy, groups).reshape(groups, n * oh * ow, f // groups)


def _split_groups(a: Array, groups: int) -> Array:
    """(..., C) -> (G, ..., C/G), a view."""
    return np.moveaxis(a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups), -2, 0)


def _join_groups(a: Array) -> Array:
    """(G, ..., C/G) -> (..., C), the inverse of _split_groups, contiguous."""
    return np.ascontiguousarray(np.moveaxis(a, 0, -2)).reshape(*a.shape[1:-1], a.shape[0] * a.shape[-1])


# ---------------------------------------------------------------------------------------------------- depthwise
# G = C: channel c alone feeds the filters c*M to c*M + M - 1, where M = F/C is the multiplier. With each channel
# repeated M times, filter f reads channel f and nothing mixes: the convolution is elementwise in f.


def _is_depthwise(w: Array, groups: int) -> bool:
    """Whether each of several groups has a single input channel; w (KH, KW, C/G, F)."""
    return groups > 1 and w.shape[2] == 1


def _depthwise_conv2d(x: Array, w: Array, strides: Pair, padding: Padding2D, dilation: Pair) -> Array:
    """x (N, H, W, C), w (KH, KW, 1, F) -> (N, OH, OW, F)."""
    repeated = np.repeat(x, w.shape[3] // x.shape[3], axis=3)  # (N, H, W, F)
    windows = sliding_windows(repeated, w.shape[:2], strides, padding, dilation)  # (N, OH, OW, KH, KW, F)
    return np.einsum("nijklf,klf->nijf", windows, w[:, :, 0])


def _depthwise_input_grad(
    gy: Array, w: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair, channels: int
) -> Array:
    """gy (N, OH, OW, F), w (KH, KW, 1, F) -> (N, H, W, C)."""
    n, oh, ow, f = gy.shape
    padded = np.zeros(padded_shape((n, *input_size, f), padding), gy.dtype)
    for k, l, rows, columns in taps(w.shape[:2], (oh, ow), strides, dilation):
        padded[:, rows, columns] += gy * w[k, l, 0]
    repeated = unpad2d(padded, padding)  # (N, H, W, F)
    return repeated.reshape(n, *input_size, channels, f // channels).sum(axis=4)


def _depthwise_weight_grad(
    x: Array, gy: Array, kernel_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair
) -> Array:
    """x (N, H, W, C), gy (N, OH, OW, F) -> (KH, KW, 1, F)."""
    repeated = np.repeat(x, gy.shape[3] // x.shape[3], axis=3)  # (N, H, W, F)
    windows = sliding_windows(repeated, kernel_size, strides, padding, dilation)  # (N, OH, OW, KH, KW, F)
    of_each_image = np.einsum("nijklf,nijf->nklf", windows, gy)  # short sums first: fewer roundings
    return of_each_image.sum(axis=0)[:, :, None]
