"""Arguments of the neural-network operations, checked where they come in: kernels trust what they are given."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from minicnn.backend import is_kernel_input
from minicnn.functional.shape import clone
from minicnn.tensor import Tensor


def as_kernel_input(x: Any, name: str) -> Tensor:
    """x as kernels take it: a tensor of floating dtype in C-contiguous, writable memory (copied where it is not).

    Raises TypeError for integers, bools and what is no array of numbers.
    """
    tensor = x if isinstance(x, Tensor) else Tensor(x)
    data = tensor.data
    if data.dtype.kind != "f":
        raise TypeError(f"{name} must be float32 or float64: convert with x.to('float32'). Received: {data.dtype}")
    return tensor if is_kernel_input(data) else clone(tensor)


def check_same_dtype(caller: str, **tensors: Tensor | None) -> None:
    """Raise TypeError where the tensors that are given differ in dtype: kernels compute in one."""
    first = None
    for tensor in tensors.values():
        if tensor is not None:
            dtype = tensor.data.dtype
            first = dtype if first is None else first
            if dtype is not first and dtype != first:
                dtypes = {name: str(t.dtype) for name, t in tensors.items() if t is not None}
                raise TypeError(
                    f"{caller}: all tensors must have one dtype; cast with t.to('float32'). Received: {dtypes}"
                )


def check_shape(tensor: Tensor | None, shape: tuple[int, ...], name: str) -> None:
    """Raise ValueError where a tensor that is given has another shape."""
    if tensor is not None and tensor.data.shape != shape:
        raise ValueError(f"{name} must have shape {shape}. Received: shape {tensor.shape}")


def check_choice(value: Any, choices: Sequence[str], name: str) -> None:
    """Raise ValueError, with a suggestion, for a name that is not among the choices."""
    if value in choices:
        return
    close = difflib.get_close_matches(str(value), choices, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{name} must be one of {list(choices)}. Received: {value!r}.{hint}")


def is_integer(value: Any) -> bool:
    """Whether it is an int of Python or NumPy; True and False are not."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_integer(value: Any, name: str, at_least: int = 1) -> None:
    """Raise ValueError for all but an integer of at least that much."""
    if not is_integer(value) or value < at_least:
        raise ValueError(f"{name} must be an integer of at least {at_least}. Received: {value!r}")


def check_number(value: Any, name: str, low: float, high: float, ends: Literal["[]", "[)", "(]", "()"] = "[]") -> None:
    """Raise ValueError for all but a number between low and high; `ends` says which ends belong. NaN lies nowhere."""
    if type(value) is float and low < value < high:
        return
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        above = value > low or (ends[0] == "[" and value == low)
        below = value < high or (ends[1] == "]" and value == high)
        if above and below:
            return
    raise ValueError(f"{name} must be a number in {ends[0]}{low}, {high}{ends[1]}. Received: {value!r}")


def check_positive(value: Any, name: str) -> None:
    """Raise ValueError for all but a finite number above 0."""
    check_number(value, name, 0, math.inf, "()")
