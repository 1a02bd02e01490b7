"""Parameter: a tensor that a layer owns; and the names that layers get where they are given none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.backend import Backend, as_host
from minicnn.layers.structure import structure
from minicnn.modes import no_grad
from minicnn.tensor import Tensor

_names: Counter[str] = Counter()


def unique_name(base: str) -> str:
    """base, base_1, base_2, ...: as Keras names layers."""
    count = _names[base]
    _names[base] += 1
    return base if count == 0 else f"{base}_{count}"


def reset_names() -> None:
    """Start the numbering of layer names afresh (keras.utils.clear_session)."""
    _names.clear()


class Parameter(Tensor):
    """A tensor that a layer owns: a weight that training changes, or a statistic that it only keeps."""

    __slots__ = ("_trainable", "constraint", "name", "path", "regularizer")

    def __init__(
        self,
        data: Any,
        name: str,
        trainable: bool = True,
        regularizer: Callable[[Tensor], Tensor] | None = None,
        constraint: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(data, requires_grad=trainable)
        self.name, self.path = name, name
        self.trainable, self.regularizer, self.constraint = trainable, regularizer, constraint

    @property
    def trainable(self) -> bool:
        """Whether training changes it unless its layer is frozen (`requires_grad` says whether it does now)."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = value
        structure.changed()  # the order of a layer's weights depends on it

    def numpy(self) -> np.ndarray[Any, Any]:
        """The same memory (a copy from the GPU) as a NumPy array, read-only: `assign` overwrites a parameter."""
        view = as_host(self.data).view()
        view.flags.writeable = False
        return view

    def assign(self, value: Any) -> None:
        """Overwrite the values; the shape must be the same.

        Raises ValueError for another shape.
        """
        array = as_host(value.data if isinstance(value, Tensor) else value)
        if array.shape != self.shape:
            raise ValueError(f"{self.path}: expected values of shape {self.shape}. Received: shape {array.shape}")
        with no_grad():
            self.copy_(array)

    def move_to(self, backend: Backend) -> None:
        """Take the values into a backend's memory; a gradient is forgotten."""
        self.data = backend.place(self.data)
        self.grad = None
        self._version[0] += 1

    def __repr__(self) -> str:
        return f"<Parameter {self.path} shape={self.shape}, dtype={self.dtype}>"
