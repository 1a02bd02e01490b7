"""Layers as plain functions of arrays: what a call at inference needs, worked out once for a shape of the input.

An ordinary call checks its arguments, makes tensors, looks up how to compute and packs weights for the kernels. For a
small picture that takes longer than the computation. `Layer.prepare_call` does all of it ahead; models/inference.py
keeps the functions, and has them made anew when a weight or an option has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from minicnn.backend import is_kernel_input
from minicnn.kernels.contract import Array
from minicnn.tensor import Tensor

if TYPE_CHECKING:
    from minicnn.layers.base import Layer


class Prepared(NamedTuple):
    """A call at inference."""

    run: Callable[..., Array]
    """From the input (or several) to the output, all C-contiguous; out of date once a weight has changed."""
    rest: Callable[[Tensor], Tensor] | None = None
    """What is to be done to the output after that: an activation that kernels do not apply in passing."""
    with_following: bool = False
    """Whether the next layer is part of it."""


class Preparation(NamedTuple):
    """What a call is prepared for."""

    shapes: list[tuple[int, ...]]  # of the inputs
    kernels: Any  # of a backend that can prepare: `kernels/preparing.py`
    following: Layer | None  # the layer that alone reads the output
    layouts_of: Callable[[Tensor], dict[Any, Array]]  # what kernels made of a weight

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the one input of most layers."""
        return self.shapes[0]


def lie_ready(*weights: Tensor | None) -> bool:
    """Whether kernels can read these weights where they lie, and every edit of them is counted."""
    return all(t is None or (is_kernel_input(t.data) and not t.is_exported) for t in weights)


def arrays_of(*tensors: Tensor | None) -> list[Array | None]:
    """Their arrays; None for None."""
    return [None if t is None else t.data for t in tensors]
