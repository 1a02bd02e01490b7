"""A model whose losses can be told by hand, and a callback that remembers what each step got."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn import Input, Model, Sequential, layers
from minicnn.callbacks import Callback


def linear_model(kernel: Any = ((1.0,), (-2.0,)), **options: Any) -> Sequential:
    """y = x @ kernel, so that losses can be told by hand."""
    model = Sequential([Input((2,)), layers.Dense(1, use_bias=False, **options)])
    model.set_weights([np.array(kernel)])
    return model


X = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.5], [0.0, 3.0]])
Y = np.array([1.0, 1.0, -1.0, 3.0, 0.0])
ERRORS = (X @ np.array([1.0, -2.0]) - Y) ** 2  # squared, one a row
SUMS = X.sum(axis=1)


class Recorder(Callback):
    """Inputs and weights that each training step got."""

    def __init__(self, model: Sequential) -> None:
        super().__init__()
        self.batches: list[Any] = []
        original = model.train_step

        def recording(data: Any) -> Any:
            self.batches.append([None if part is None else part.numpy().copy() for part in data])
            return original(data)

        model.train_step = recording  # type: ignore[method-assign]


def rows_seen(recorder: Recorder) -> list[list[float]]:
    """The first column of x in each batch."""
    return [batch[0][:, 0].tolist() for batch in recorder.batches]


def two_outputs() -> Model:
    x = Input((2,))
    first = layers.Dense(1, use_bias=False, name="first", kernel_initializer="ones")(x)
    second = layers.Dense(2, use_bias=False, name="second", kernel_initializer="ones")(x)
    return Model(x, [first, second])
