"""Arithmetic and indexing on symbolic tensors, `x + y` or `x[:, 0]`: each of them is a layer without weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minicnn import functional as F
from minicnn.functional.arguments import check_choice
from minicnn.layers.base import Layer
from minicnn.layers.inference import infer_shape
from minicnn.layers.parameter import unique_name
from minicnn.tensor import Tensor


def _getitem(x: Tensor, key: Any) -> Tensor:
    """x[key]; the list that a tuple becomes in a file counts as the tuple, as in Keras."""
    return F.getitem(x, tuple(key) if isinstance(key, list) else key)


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "add": F.add,
    "sub": F.sub,
    "mul": F.mul,
    "div": F.div,
    "pow": F.pow,
    "matmul": F.matmul,
    "neg": F.neg,
    "getitem": _getitem,
}

KERAS_CLASSES = {
    "add": "Add",
    "sub": "Subtract",
    "mul": "Multiply",
    "div": "TrueDivide",
    "pow": "Power",
    "matmul": "Matmul",
    "neg": "Negative",
    "getitem": "GetItem",
}
"""Keras' operations (in keras.src.ops.numpy) of the same meaning, under which an operator is saved."""


class Operator(Layer):
    """One operator: "add", "sub", "mul", "div", "pow", "matmul", "neg" or "getitem".

    Its arguments are tensors, numbers, arrays, and for "getitem" an index.
    """

    def __init__(self, operator: str, name: str | None = None, **kwargs: Any) -> None:
        check_choice(operator, tuple(_FUNCTIONS), "Operator: operator")
        super().__init__(name=name or unique_name(operator), **kwargs)
        self.operator = operator

    def call(self, *operands: Any) -> Tensor:
        return _FUNCTIONS[self.operator](*operands)

    def _output_shape(self, args: tuple[Any, ...]) -> Any:
        """From the operands themselves: a number or an index has no shape that could be handed on."""
        try:
            return infer_shape(self.call, args)
        except (ValueError, IndexError) as error:
            raise ValueError(f"{self.name}: the operands do not fit together. Received: {list(args)}") from error

    def get_build_config(self) -> dict[str, Any]:
        """Nothing: to Keras an operation is no layer, and is never built."""
        return {}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "operator": self.operator}
