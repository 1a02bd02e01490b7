"""What the GPU tests share: arrays to the device and back, and how near is near."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.gpu.runtime import cp


def to_device(value: Any) -> Any:
    """NumPy arrays, alone or in lists, tuples and dicts, copied to the device."""
    if isinstance(value, np.ndarray):
        return cp.asarray(value)
    if isinstance(value, dict):
        return {name: to_device(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(part) for part in value)
    return value


def to_host(value: Any) -> Any:
    """Device arrays, alone or in lists, tuples and dicts, copied back."""
    if isinstance(value, cp.ndarray):
        return value.get()
    if isinstance(value, dict):
        return {name: to_host(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_host(part) for part in value)
    return value


def in_float64(value: Any) -> Any:
    """The same host arguments with float64 for float32."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float64) if value.dtype.kind == "f" else value
    if isinstance(value, dict):
        return {name: in_float64(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(in_float64(part) for part in value)
    return value


def assert_near(received: Array, expected: Array, limit: float) -> None:
    """Host arrays within `limit` of the largest number expected (at least 1); integers exactly."""
    assert received.shape == expected.shape
    if expected.dtype.kind in "iub":
        np.testing.assert_array_equal(received, expected)
        return
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(received, expected, rtol=0, atol=limit * scale)
