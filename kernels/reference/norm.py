"""Normalization: batch, group (with layer norm as its one-group case) and local response.

N batch, C channels, P positions (height times width), G groups.
Statistics are summed in float64: a float32 sum of millions of values loses the digits that a variance lives on.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minicnn.kernels.contract import Array

# ---------------------------------------------------------------------------------------------------- batch norm


def batch_norm(
    x: Array, gamma: Array, beta: Array, epsilon: float, activation: Literal["relu"] | None = None
) -> tuple[Array, Array, Array]:
    """x (..., C); gamma, beta (C,) -> y (..., C), mean (C,), var (C,), the statistics of this batch."""
    mean = _channel_mean(x)
    var = _channel_mean(np.square(x - mean))
    return batch_norm_inference(x, gamma, beta, mean, var, epsilon, activation), mean, var


def batch_norm_inference(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    var: Array,
    epsilon: float,
    activation: Literal["relu"] | None = None,
) -> Array:
    """x (..., C), the rest (C,) -> act(gamma * (x - mean) / sqrt(var + epsilon) + beta), (..., C)."""
    y = gamma * ((x - mean) / np.sqrt(var + epsilon)) + beta
    return y if activation is None else np.maximum(y, 0)


def batch_norm_backward(
    gy: Array, x: Array, gamma: Array, mean: Array, var: Array, epsilon: float, y: Array | None = None
) -> tuple[Array, Array, Array]:
    """gy, x (..., C), the rest (C,) -> gx (..., C), ggamma (C,), gbeta (C,); y is the output if a relu made it."""
    if y is not None:
        gy = np.where(y > 0, gy, 0)
    std = np.sqrt(var + epsilon)
    u = (x - mean) / std  # the normalized x
    gx = gamma / std * (gy - _channel_mean(gy) - u * _channel_mean(gy * u))
    return gx, _channel_sum(gy * u), _channel_sum(gy)


def _channel_sum(x: Array) -> Array:
    """Sum over all axes but the last: (..., C) -> (C,)."""
    return x.reshape(-1, x.shape[-1]).sum(axis=0, dtype=np.float64).astype(x.dtype)


def _channel_mean(x: Array) -> Array:
    """Mean over all axes but the last: (..., C) -> (C,)."""
    return x.reshape(-1, x.shape[-1]).mean(axis=0, dtype=np.float64).astype(x.dtype)


# ---------------------------------------------------------------------------------------------------- group norm


def group_norm(x: Array, gamma: Array, beta: Array, groups: int, epsilon: float) -> tuple[Array, Array, Array]:
    """x (N, P, C); gamma, beta (P or 1, C) -> y (N, P, C), mean (N, G), var (N, G)."""
    grouped = _split_channels(x, groups)  # (N, P, G, C/G)
    mean = _group_mean(grouped)  # (N, 1, G, 1)
    var = _group_mean(np.square(grouped - mean))
    u = ((grouped - mean) / np.sqrt(var + epsilon)).reshape(x.shape)
    return gamma * u + beta, mean[:, 0, :, 0], var[:, 0, :, 0]


def group_norm_backward(
    gy: Array, x: Array, gamma: Array, mean: Array, var: Array, groups: int, epsilon: float
) -> tuple[Array, Array, Array]:
    """gy, x (N, P, C), gamma (P or 1, C), mean, var (N, G) -> gx (N, P, C), ggamma and gbeta of gamma's shape."""
    std = np.sqrt(var + epsilon)[:, None, :, None]  # (N, 1, G, 1)
    u = (_split_channels(x, groups) - mean[:, None, :, None]) / std  # the normalized x, (N, P, G, C/G)
    gu = _split_channels(gy * gamma, groups)
    gx = (gu - _group_mean(gu) - u * _group_mean(gu * u)) / std
    return gx.reshape(x.shape), _sum_to(gy * u.reshape(x.shape), gamma), _sum_to(gy, gamma)


def _split_channels(x: Array, groups: int) -> Array:
    """(N, P, C) -> (N, P, G, C/G)."""
    n, p, c = x.shape
    return x.reshape(n, p, groups, c // groups)


def _group_mean(grouped: Array) -> Array:
    """Mean over a group's positions and channels: (N, P, G, C/G) -> (N, 1, G, 1)."""
    return grouped.mean(axis=(1, 3), keepdims=True, dtype=np.float64).astype(grouped.dtype)


def _sum_to(x: Array, gamma: Array) -> Array:
    """x (N, P, C) summed over the axes that gamma (P or 1, C) was broadcast over."""
    axes = (0, 1) if len(gamma) == 1 else 0
    return x.sum(axis=axes, dtype=np.float64).reshape(gamma.shape).astype(x.dtype)


# ---------------------------------------------------------------------------------------------------- local response


def local_response_norm(x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    """x (..., C) -> x / (k + alpha * energy of the `size` channels around) ** beta, (..., C)."""
    return x * _response(x, size, alpha, k) ** -beta


def local_response_norm_backward(gy: Array, x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    """gy, x (..., C) -> gx (..., C).

    With s the bracket: gx[j] = gy[j] * s[j]**-beta - 2 * alpha * beta * x[j] * sum_c gy[c] * x[c] * s[c]**(-beta - 1)
    over the channels c whose window holds j, which reach as far to the other side.
    """
    s = _response(x, size, alpha, k)
    inner = _window_sum(gy * x * s ** (-beta - 1), before=(size - 1) // 2, after=size // 2)
    return gy * s**-beta - 2 * alpha * beta * x * inner


def _response(x: Array, size: int, alpha: float, k: float) -> Array:
    """k + alpha * sum of x**2 over each channel's window: (..., C) -> (..., C)."""
    return k + alpha * _window_sum(np.square(x), before=size // 2, after=(size - 1) // 2)


def _window_sum(x: Array, before: int, after: int) -> Array:
    """y[c] = x[c - before] + ... + x[c + after], nothing beyond the ends: (..., C) -> (..., C)."""
    padded = np.zeros((*x.shape[:-1], before + x.shape[-1] + after), x.dtype)
    padded[..., before : before + x.shape[-1]] = x
    return sliding_window_view(padded, before + 1 + after, axis=-1).sum(axis=-1)
