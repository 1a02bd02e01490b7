"""Where a model's data comes in: `Input` makes the first symbolic tensor of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicnn import config
from minicnn.functional.arguments import is_integer
from minicnn.layers.base import Layer
from minicnn.layers.symbolic import Node, Shape, SymbolicTensor


class InputLayer(Layer):
    """The layer behind `Input`: it computes nothing, its output is the model's data.

    shape: of one sample, None for sizes that may vary. batch_size: None for any. batch_shape: both in one.
    dtype: "float32" by default; integers and bools are possible, for indices and masks.
    """

    def __init__(
        self,
        shape: Sequence[int | None] | None = None,
        batch_size: int | None = None,
        dtype: Any = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape: Sequence[int | None] | None = None,
        optional: bool = False,
        name: str | None = None,
        input_shape: Sequence[int | None] | None = None,
        batch_input_shape: Sequence[int | None] | None = None,
    ) -> None:
        super().__init__(name=name)
        if sparse or ragged or optional:
            raise ValueError(
                f"{self.name}: inputs are dense tensors, and must be given. Received: sparse={sparse}, "
                f"ragged={ragged}, optional={optional}"
            )
        shape = input_shape if shape is None else shape
        batch_shape = batch_input_shape if batch_shape is None else batch_shape
        if (shape is None) == (batch_shape is None) or (batch_shape is not None and batch_size is not None):
            raise ValueError(
                f"{self.name}: give shape (and batch_size, if it is fixed), or batch_shape alone. Received: "
                f"shape={shape}, batch_size={batch_size}, batch_shape={batch_shape}"
            )
        given = batch_shape if shape is None else (batch_size, *_as_shape(shape, self.name))
        self.batch_shape = _as_shape(given, self.name)
        self.dtype = _input_dtype(dtype, self.name)
        self.built = True
        self._nodes.append(Node(self, (), {}, SymbolicTensor(self.batch_shape, self.dtype, name=self.name)))

    def call(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{self.name} is where data enters a model; it cannot be called. Call the model instead.")

    def compute_output_shape(self, input_shape: Any = None) -> Shape:
        return self.batch_shape

    def get_config(self) -> dict[str, Any]:
        return {"batch_shape": self.batch_shape, "dtype": self.dtype, "sparse": False, "name": self.name}


def _as_shape(shape: Any, name: str) -> Shape:
    if not isinstance(shape, (tuple, list)):
        raise ValueError(f"{name}: the shape must be a tuple, such as (784,) or (28, 28, 1). Received: {shape!r}")
    for size in shape:
        if size is not None and not (is_integer(size) and size > 0):
            raise ValueError(f"{name}: sizes must be positive integers, or None where they vary. Received: {shape!r}")
    return tuple(None if size is None else int(size) for size in shape)


def _input_dtype(dtype: Any, name: str) -> str:
    wanted = np.dtype(config.floatx() if dtype is None else dtype)
    if wanted.kind not in "iub" and wanted.name not in ("float32", "float64"):
        raise TypeError(f"{name}: dtype must be float32, float64, an integer type or bool. Received: {dtype!r}")
    return wanted.name


def Input(
    shape: Sequence[int | None] | None = None,
    batch_size: int | None = None,
    dtype: Any = None,
    sparse: bool | None = None,
    ragged: bool | None = None,
    batch_shape: Sequence[int | None] | None = None,
    name: str | None = None,
) -> SymbolicTensor:
    """The symbolic tensor that stands for a model's data; see `InputLayer` for the arguments. As keras.Input.

    inputs = Input(shape=(28, 28, 1))
    outputs = Dense(10, activation="softmax")(Flatten()(inputs))
    model = Model(inputs, outputs)
    """
    layer = InputLayer(shape, batch_size, dtype, sparse, ragged, batch_shape, name=name)
    return layer.output
