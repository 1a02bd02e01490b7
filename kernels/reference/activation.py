"""Activations: functions of one number, and their derivatives told from what they returned."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minicnn.kernels.contract import ActivationName, Array


def activation(x: Array, name: ActivationName, alpha: float = 0.0) -> Array:
    """x of any shape -> the same shape; NaN passes through."""
    return np.asarray(_FUNCTIONS[name](x, alpha))


def activation_backward(gy: Array, y: Array, name: ActivationName, alpha: float = 0.0) -> Array:
    """gy and the activation's output y, of one shape -> gy times the derivative."""
    return np.asarray(_BACKWARDS[name](gy, y, alpha))


def _sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written so that exp never sees a positive number and cannot overflow."""
    z = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, z) / (1 + z)


_FUNCTIONS: dict[str, Callable[[Array, float], Array]] = {
    "relu": lambda x, alpha: np.maximum(x, 0),
    "relu6": lambda x, alpha: np.clip(x, 0, 6),
    "leaky_relu": lambda x, alpha: np.where(x > 0, x, alpha * x),
    "elu": lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "sigmoid": lambda x, alpha: _sigmoid(x),
    "tanh": lambda x, alpha: np.tanh(x),
}

_BACKWARDS: dict[str, Callable[[Array, Array, float], Array]] = {
    "relu": lambda gy, y, alpha: np.where(y > 0, gy, 0),
    "relu6": lambda gy, y, alpha: np.where((y > 0) & (y < 6), gy, 0),
    "leaky_relu": lambda gy, y, alpha: np.where(y > 0, gy, alpha * gy),
    "elu": lambda gy, y, alpha: np.where(y > 0, gy, (y + alpha) * gy),
    "sigmoid": lambda gy, y, alpha: gy * y * (1 - y),
    "tanh": lambda gy, y, alpha: gy * (1 - y * y),
}
