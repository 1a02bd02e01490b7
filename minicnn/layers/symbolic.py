"""Symbolic tensors: shapes that travel through layers before there is any data.

Calling a layer on a `SymbolicTensor` computes no numbers: it builds the layer, works out the output shape, and leaves a
`Node` behind. A functional `Model` follows these nodes from its outputs back to its inputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from minicnn.layers.base import Layer

Shape: TypeAlias = tuple[int | None, ...]
"""Sizes; None stands for one that is not known yet, such as the batch."""

_counter = itertools.count()


class SymbolicTensor:
    """The promise of a tensor: `shape` (None for the batch), `dtype`, and the node that will make it.

    Arithmetic with + - * / ** and @, and indexing, give symbolic tensors again.
    """

    __array_ufunc__ = None

    def __init__(self, shape: Shape, dtype: str, name: str | None = None) -> None:
        self.shape = tuple(shape)
        self.dtype = dtype
        self.name = name or f"keras_tensor_{next(_counter)}"
        self.node: Node | None = None
        self.index = 0

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        return f"<SymbolicTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"

    def __bool__(self) -> bool:
        raise TypeError("a symbolic tensor has no value yet: decide inside of a layer's call() instead.")

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("a symbolic tensor cannot be iterated: it has no values yet.")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a symbolic tensor has no values: call the model on data, or wrap the function in a Lambda.")

    # fmt: off
    def __add__(self, other: Any) -> Any: return _operator("add", self, other)
    def __radd__(self, other: Any) -> Any: return _operator("add", other, self)
    def __sub__(self, other: Any) -> Any: return _operator("sub", self, other)
    def __rsub__(self, other: Any) -> Any: return _operator("sub", other, self)
    def __mul__(self, other: Any) -> Any: return _operator("mul", self, other)
    def __rmul__(self, other: Any) -> Any: return _operator("mul", other, self)
    def __truediv__(self, other: Any) -> Any: return _operator("div", self, other)
    def __rtruediv__(self, other: Any) -> Any: return _operator("div", other, self)
    def __pow__(self, other: Any) -> Any: return _operator("pow", self, other)
    def __matmul__(self, other: Any) -> Any: return _operator("matmul", self, other)
    def __neg__(self) -> Any: return _operator("neg", self)
    def __getitem__(self, index: Any) -> Any: return _operator("getitem", self, index)
    # fmt: on


def _operator(name: str, *operands: Any) -> Any:
    from minicnn.layers.operator import Operator  # a layer: one floor up, met only when an operator is used

    return Operator(name)(*operands)


class Node:
    """One call of a layer on symbolic tensors: the layer, its arguments, and the symbolic tensors that came out."""

    def __init__(self, layer: Layer, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> None:
        self.layer, self.args, self.kwargs, self.outputs = layer, args, kwargs, outputs
        self.order = next(_counter)  # a node is made after all nodes it reads from
        for index, output in enumerate(flatten(outputs)):
            output.node, output.index = self, index

    @property
    def inputs(self) -> list[SymbolicTensor]:
        """Symbolic tensors among the arguments."""
        return [leaf for leaf in flatten((self.args, self.kwargs)) if isinstance(leaf, SymbolicTensor)]


def map_structure(function: Callable[[Any], Any], structure: Any) -> Any:
    """The same nest of lists, tuples and dicts with `function` applied to each leaf."""
    if isinstance(structure, (list, tuple)):
        return type(structure)(map_structure(function, part) for part in structure)
    if isinstance(structure, dict):
        return {key: map_structure(function, part) for key, part in structure.items()}
    return function(structure)


def flatten(structure: Any) -> list[Any]:
    """The leaves of nested lists, tuples and dicts, in order."""
    if isinstance(structure, (list, tuple)):
        return [leaf for part in structure for leaf in flatten(part)]
    if isinstance(structure, dict):
        return [leaf for part in structure.values() for leaf in flatten(part)]
    return [structure]
