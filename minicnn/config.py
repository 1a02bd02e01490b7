"""Settings of the whole engine."""

from __future__ import annotations

import numpy as np

_floatx = "float32"


def floatx() -> str:
    """The dtype that new layers compute with, "float32" or "float64". As keras.config.floatx."""
    return _floatx


def set_floatx(dtype: str) -> None:
    """Set the dtype of layers made from here on.

    Raises ValueError for another dtype than float32 and float64.
    """
    global _floatx
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in ("float32", "float64"):
        raise ValueError(f"floatx must be 'float32' or 'float64'. Received: {dtype!r}")
    _floatx = name
