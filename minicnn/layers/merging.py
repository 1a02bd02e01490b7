"""Layers that make one tensor of several, and their functional spellings. As in keras.layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from minicnn import functional as F
from minicnn.functional.arguments import is_integer
from minicnn.layers.base import Layer
from minicnn.layers.prepared import Preparation, Prepared
from minicnn.layers.shapes import is_shape
from minicnn.layers.symbolic import Shape
from minicnn.tensor import Tensor


class _Merge(Layer):
    """Takes a list of tensors. They broadcast; one with fewer axes gets new ones behind the batch."""

    def merge(self, tensors: Sequence[Tensor]) -> Tensor:
        """The tensors, of equal rank, as one."""
        raise TypeError(f"{type(self).__name__} must define merge(self, tensors).")

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        self.compute_output_shape([tensor.shape for tensor in inputs])
        rank = max(tensor.ndim for tensor in inputs)
        return self.merge([_with_rank(tensor, rank) for tensor in inputs])

    def compute_output_shape(self, input_shape: Any) -> Shape:
        shapes = self._shapes(input_shape)
        rank = max(len(shape) for shape in shapes)
        aligned = [(*shape[:1], *[1] * (rank - len(shape)), *shape[1:]) for shape in shapes]
        return tuple(self._common_size(sizes, shapes) for sizes in zip(*aligned, strict=True))

    def build(self, input_shape: Any) -> None:
        self.compute_output_shape(input_shape)  # refuses what does not fit, at the first call already

    def _shapes(self, input_shape: Any) -> list[Shape]:
        """The shapes of a list of inputs; ValueError where it is none."""
        if is_shape(input_shape) or not isinstance(input_shape, (list, tuple)) or not input_shape:
            raise ValueError(
                f"{self.name}: expected a list of tensors, {type(self).__name__}()([x, y]). Received: one of shape "
                f"{input_shape}"
            )
        return [tuple(shape) for shape in input_shape]

    def _common_size(self, sizes: Sequence[int | None], shapes: list[Shape]) -> int | None:
        known = {size for size in sizes if size not in (1, None)}
        if len(known) > 1:
            raise ValueError(f"{self.name}: the shapes must be equal, or broadcast. Received: {shapes}")
        if known:
            return known.pop()
        return None if None in sizes else 1


class Add(_Merge):
    """Sum of the tensors. As keras.layers.Add."""

    def merge(self, tensors: Sequence[Tensor]) -> Tensor:
        return reduce(F.add, tensors)

    def prepare_call(self, preparation: Preparation) -> Prepared | None:
        two_alike = len(preparation.shapes) == 2 and preparation.shapes[0] == preparation.shapes[1]
        return Prepared(np.add) if type(self) is Add and two_alike else None


class Subtract(_Merge):
    """The first of two tensors minus the second. As keras.layers.Subtract."""

    def merge(self, tensors: Sequence[Tensor]) -> Tensor:
        return F.sub(*tensors)

    def _shapes(self, input_shape: Any) -> list[Shape]:
        shapes = super()._shapes(input_shape)
        if len(shapes) != 2:
            raise ValueError(f"{self.name}: expected exactly two tensors. Received: {len(shapes)}")
        return shapes


class Multiply(_Merge):
    """Product of the tensors, element by element. As keras.layers.Multiply."""

    def merge(self, tensors: Sequence[Tensor]) -> Tensor:
        return reduce(F.mul, tensors)


class Average(_Merge):
    """Mean of the tensors, element by element. As keras.layers.Average."""

    def merge(self, tensors: Sequence[Tensor]) -> Tensor:
        return reduce(F.add, tensors) / len(tensors)


class Maximum(_Merge):
    """Largest of the tensors, element by element. As keras.layers.Maximum."""

    def merge(self, tensors: Sequence[Tensor]) -> Tensor:
        return reduce(F.maximum, tensors)


class Minimum(_Merge):
    """Smallest of the tensors, element by element. As keras.layers.Minimum."""

    def merge(self, tensors: Sequence[Tensor]) -> Tensor:
        return reduce(F.minimum, tensors)


class Concatenate(_Merge):
    """The tensors end to end along `axis` (0 is the batch); other sizes must agree. As keras.layers.Concatenate."""

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not is_integer(axis):
            raise TypeError(f"{self.name}: axis must be an integer. Received: axis={axis!r}")
        self.axis = axis

    def merge(self, tensors: Sequence[Tensor]) -> Tensor:
        return F.concatenate(tensors, self.axis)

    def compute_output_shape(self, input_shape: Any) -> Shape:
        shapes = self._shapes(input_shape)
        rank = len(shapes[0])
        if any(len(shape) != rank for shape in shapes) or not -rank <= self.axis < rank:
            raise ValueError(
                f"{self.name}: all tensors must have the same number of axes, axis={self.axis} among them. Received: "
                f"{shapes}"
            )
        joined = self.axis % rank
        return tuple(
            _total(sizes) if axis == joined else self._equal_size(sizes, shapes)
            for axis, sizes in enumerate(zip(*shapes, strict=True))
        )

    def _equal_size(self, sizes: Sequence[int | None], shapes: list[Shape]) -> int | None:
        known = {size for size in sizes if size is not None}
        if len(known) > 1:
            raise ValueError(f"{self.name}: shapes may differ along axis={self.axis} only. Received: {shapes}")
        return known.pop() if known else None

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis}


def _total(sizes: Sequence[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return int(np.sum(known)) if len(known) == len(sizes) else None


def _with_rank(tensor: Tensor, rank: int) -> Tensor:
    """(N, ...) with axes of length 1 behind the batch."""
    if tensor.ndim == rank:
        return tensor
    return tensor.reshape(tensor.shape[0], *[1] * (rank - tensor.ndim), *tensor.shape[1:])


def _spelling(kind: type[_Merge]) -> Callable[..., Any]:
    """add([x, y]) for Add()([x, y])."""

    def merge(inputs: Sequence[Any], **kwargs: Any) -> Any:
        return kind(**kwargs)(inputs)

    merge.__name__ = merge.__qualname__ = kind.__name__.lower()
    merge.__doc__ = f"{kind.__name__}(**kwargs)(inputs): see the layer."
    return merge


add = _spelling(Add)
subtract = _spelling(Subtract)
multiply = _spelling(Multiply)
average = _spelling(Average)
maximum = _spelling(Maximum)
minimum = _spelling(Minimum)


def concatenate(inputs: Sequence[Any], axis: int = -1, **kwargs: Any) -> Any:
    """Concatenate(axis)(inputs): see the layer."""
    return Concatenate(axis, **kwargs)(inputs)
