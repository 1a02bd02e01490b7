"""The normalizations of the contract, one number at a time: part of `tests.loops`.

The gradients multiply by the Jacobian of (x - mean) / sqrt(var + epsilon), element by element.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from minicnn.kernels.contract import Array

Index = tuple[int, ...]


def _mean_var(values: list[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((v - mean) ** 2 for v in values) / len(values)


def _standardized_jacobian(i: int, j: int, u: list[float], var: float, epsilon: float) -> float:
    """d u[j] / d x[i] of u = (x - mean(x)) / sqrt(var(x) + epsilon)."""
    return ((i == j) - 1 / len(u) - u[i] * u[j] / len(u)) / math.sqrt(var + epsilon)


def _standardize(values: list[float], mean: float, var: float, epsilon: float) -> list[float]:
    return [(v - mean) / math.sqrt(var + epsilon) for v in values]


def _standardize_backward(gu: list[float], u: list[float], var: float, epsilon: float) -> list[float]:
    return [
        math.fsum(gu[j] * _standardized_jacobian(i, j, u, var, epsilon) for j in range(len(u))) for i in range(len(u))
    ]


def _read(a: Array, indices: list[Index]) -> list[float]:
    return [float(a[index]) for index in indices]


def batch_norm(
    x: Array, gamma: Array, beta: Array, epsilon: float, activation: Literal["relu"] | None = None
) -> tuple[Array, Array, Array]:
    mean, var = np.zeros(x.shape[-1]), np.zeros(x.shape[-1])
    for c in range(x.shape[-1]):
        mean[c], var[c] = _mean_var([float(x[(*at, c)]) for at in np.ndindex(x.shape[:-1])])
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
    y = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        c = at[-1]
        [u] = _standardize([float(x[at])], float(mean[c]), float(var[c]), epsilon)
        y[at] = float(gamma[c]) * u + float(beta[c])
        if activation == "relu" and y[at] < 0:
            y[at] = 0.0
    return y


def batch_norm_backward(
    gy: Array, x: Array, gamma: Array, mean: Array, var: Array, epsilon: float, y: Array | None = None
) -> tuple[Array, Array, Array]:
    gx, ggamma, gbeta = np.zeros(x.shape), np.zeros(gamma.shape), np.zeros(gamma.shape)
    if y is not None:
        gy = gy.copy()
        for at in np.ndindex(y.shape):
            gy[at] = float(gy[at]) if float(y[at]) > 0 else 0.0
    for c in range(x.shape[-1]):
        members = [(*at, c) for at in np.ndindex(x.shape[:-1])]
        u = _standardize(_read(x, members), float(mean[c]), float(var[c]), epsilon)
        gu = [float(gamma[c]) * g for g in _read(gy, members)]
        for at, g in zip(members, _standardize_backward(gu, u, float(var[c]), epsilon), strict=True):
            gx[at] = g
        ggamma[c] = math.fsum(g * v for g, v in zip(_read(gy, members), u, strict=True))
        gbeta[c] = math.fsum(_read(gy, members))
    return gx, ggamma, gbeta


def _group_members(shape: Index, n: int, group: int, groups: int) -> list[Index]:
    """The elements (n, p, c) of one sample's group of channels."""
    _, positions, channels = shape
    width = channels // groups
    return [(n, p, c) for p in range(positions) for c in range(group * width, (group + 1) * width)]


def _affine_index(gamma: Array, at: Index) -> Index:
    """Where gamma (P or 1, C) holds the factor of x[n, p, c]."""
    return (at[1] if gamma.shape[0] > 1 else 0, at[2])


def group_norm(x: Array, gamma: Array, beta: Array, groups: int, epsilon: float) -> tuple[Array, Array, Array]:
    y, mean, var = np.zeros(x.shape), np.zeros((x.shape[0], groups)), np.zeros((x.shape[0], groups))
    for n, group in np.ndindex(mean.shape):
        members = _group_members(x.shape, n, group, groups)
        mean[n, group], var[n, group] = _mean_var(_read(x, members))
        u = _standardize(_read(x, members), float(mean[n, group]), float(var[n, group]), epsilon)
        for at, value in zip(members, u, strict=True):
            y[at] = float(gamma[_affine_index(gamma, at)]) * value + float(beta[_affine_index(beta, at)])
    return y, mean, var


def group_norm_backward(
    gy: Array, x: Array, gamma: Array, mean: Array, var: Array, groups: int, epsilon: float
) -> tuple[Array, Array, Array]:
    gx, ggamma, gbeta = np.zeros(x.shape), np.zeros(gamma.shape), np.zeros(gamma.shape)
    for n, group in np.ndindex(mean.shape):
        members = _group_members(x.shape, n, group, groups)
        u = _standardize(_read(x, members), float(mean[n, group]), float(var[n, group]), epsilon)
        gu = [float(gy[at]) * float(gamma[_affine_index(gamma, at)]) for at in members]
        for at, g, value in zip(members, _standardize_backward(gu, u, float(var[n, group]), epsilon), u, strict=True):
            gx[at] = g
            ggamma[_affine_index(gamma, at)] += float(gy[at]) * value
            gbeta[_affine_index(gamma, at)] += float(gy[at])
    return gx, ggamma, gbeta


def _neighbours(c: int, channels: int, size: int) -> list[int]:
    """The channels whose energy divides channel c."""
    return [j for j in range(channels) if c - size // 2 <= j <= c + (size - 1) // 2]


def _energy(row: list[float], c: int, size: int, alpha: float, k: float) -> float:
    return k + alpha * math.fsum(row[j] ** 2 for j in _neighbours(c, len(row), size))


def local_response_norm(x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    y = np.zeros(x.shape)
    for at in np.ndindex(x.shape[:-1]):
        row = [float(v) for v in x[at]]
        for c, value in enumerate(row):
            y[(*at, c)] = value / _energy(row, c, size, alpha, k) ** beta
    return y


def local_response_norm_backward(gy: Array, x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    gx = np.zeros(x.shape)
    for at in np.ndindex(x.shape[:-1]):
        row = [float(v) for v in x[at]]
        for c, value in enumerate(row):
            s, g = _energy(row, c, size, alpha, k), float(gy[(*at, c)])
            gx[(*at, c)] += g / s**beta
            for j in _neighbours(c, len(row), size):
                gx[(*at, j)] -= g * value * beta / s ** (beta + 1) * alpha * 2 * row[j]
    return gx
