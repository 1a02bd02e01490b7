"""Small helpers that Keras programs import from keras.utils."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn import random
from minicnn.functional.creation import one_hot
from minicnn.layers.parameter import reset_names


def set_random_seed(seed: int) -> None:
    """Make initial weights, shuffles and dropout repeatable, and NumPy's draws; as keras.utils.set_random_seed."""
    random.manual_seed(seed)
    np.random.seed(seed % (1 << 32))  # noqa: NPY002 -- programs that draw from NumPy's global state expect this


def to_categorical(x: Any, num_classes: int | None = None) -> np.ndarray[Any, Any]:
    """Integer labels (...) or (..., 1) as one-hot rows (..., num_classes), float32; as keras.utils.to_categorical.

    Raises ValueError for a label outside of [0, num_classes), TypeError for labels that are not whole numbers.
    """
    labels = np.asarray(x)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.dtype.kind not in "iubf" or not np.array_equal(labels.astype(np.int64), labels):
        raise TypeError(f"to_categorical: labels must be whole numbers. Received: dtype {labels.dtype}, {labels!r}")
    return one_hot(labels.astype(np.int64), num_classes).numpy()


def clear_session() -> None:
    """Start layer names afresh, as keras.utils.clear_session."""
    reset_names()
