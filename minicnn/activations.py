"""Activations by name, as keras.activations has them: functions of a tensor of any shape.

`softmax` and `sigmoid` remember what they were computed from (`y.logits`), so that a cross-entropy behind them can be
computed on the logits, where nothing saturates; Keras does the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

from minicnn import functional as F
from minicnn.kernels.contract import EpilogueName
from minicnn.registry import unknown_name
from minicnn.tensor import Tensor

Activation: TypeAlias = Callable[[Tensor], Tensor]


def linear(x: Tensor) -> Tensor:
    """x itself."""
    return x


def relu(x: Tensor, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Tensor:
    """min(x, max_value) above the threshold, negative_slope * (x - threshold) at and below it."""
    if threshold == 0 and max_value is None:
        return F.leaky_relu(x, negative_slope) if negative_slope else F.relu(x)
    above = x if max_value is None else F.clip(x, max=max_value)
    below = negative_slope * (x - threshold) if negative_slope else 0.0
    return F.where(x <= threshold, below, above)


def relu6(x: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    return F.relu6(x)


def leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Tensor:
    """x where positive, negative_slope * x elsewhere."""
    return F.leaky_relu(x, negative_slope)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where positive, alpha * (exp(x) - 1) elsewhere."""
    return F.elu(x, alpha)


def selu(x: Tensor) -> Tensor:
    """The scaled ELU that keeps mean 0 and variance 1; goes with lecun_normal."""
    return F.selu(x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)); the result remembers x as its logits."""
    y = F.sigmoid(x)
    y._squashed = "sigmoid", x
    return y


def hard_sigmoid(x: Tensor) -> Tensor:
    """min(max(x + 3, 0), 6) / 6."""
    return F.hard_sigmoid(x)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return F.tanh(x)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x))."""
    return F.softplus(x)


def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return F.softsign(x)


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x); also called swish."""
    return F.silu(x)


def gelu(x: Tensor, approximate: bool = False) -> Tensor:
    """x times the normal distribution function at x."""
    return F.gelu(x, approximate)


def mish(x: Tensor) -> Tensor:
    """x * tanh(softplus(x))."""
    return F.mish(x)


def exponential(x: Tensor) -> Tensor:
    """e ** x."""
    return F.exponential(x)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis; over the last one, the result remembers x as its logits."""
    y = F.softmax(x, axis)
    if axis in (-1, x.ndim - 1):
        y._squashed = "softmax", x
    return y


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """The logarithm of softmax."""
    return F.log_softmax(x, axis)


# --------------------------------------------------------------------------------------------------- by name

_FUNCTIONS: dict[str, Activation] = {
    function.__name__: function
    for function in (
        linear, relu, relu6, leaky_relu, elu, selu, sigmoid, hard_sigmoid, tanh, softplus, softsign, silu, gelu, mish,
        exponential, softmax, log_softmax,
    )
}  # fmt: skip
_ALIASES: dict[str, Activation] = {"swish": silu}

_EPILOGUES: dict[Activation, EpilogueName] = {relu: "relu", relu6: "relu6", tanh: "tanh"}
"""What kernels apply in passing. Not sigmoid: a kernel would not give out the logits."""


def get(identifier: Any) -> Activation:
    """The activation for a name, a config dict, a class, an instance or a callable; `linear` for None.

    Functions of `minicnn.functional` become those of the same name here, which keep logits and can be saved.
    Raises ValueError for an unknown name, TypeError for what is no activation.
    """
    if identifier is None:
        return linear
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str):
        known = _FUNCTIONS | _ALIASES
        if identifier not in known:
            raise unknown_name("activation", identifier, known)
        return known[identifier]
    if inspect.isclass(identifier):
        return get(identifier())
    if not callable(identifier):
        raise TypeError(f"activation must be a name, a config dict or a callable. Received: {identifier!r}")
    name = getattr(identifier, "__name__", "")
    return _FUNCTIONS[name] if name in _FUNCTIONS and identifier is getattr(F, name, None) else identifier


def serialize(activation: Activation) -> str | dict[str, Any]:
    """The activation as Keras writes it: its name.

    Raises TypeError for a function that is not one of these.
    """
    for name, function in _FUNCTIONS.items():
        if activation is function:
            return name
    raise TypeError(
        "an activation that is to be saved must be one of minicnn.activations, or a Layer of your own. "
        f"Received: {activation!r}"
    )


def deserialize(config: str | dict[str, Any]) -> Activation:
    """The activation that `serialize`, or Keras, wrote down: a name, or {"class_name": "function", "config": name}."""
    if isinstance(config, dict):
        wrapped = config.get("class_name") == "function"
        config = str(config.get("config") if wrapped else config.get("class_name"))
    return get(config)


def epilogue_name(activation: Activation) -> EpilogueName | None:
    """The name under which a dense or convolution kernel applies this activation in passing; None where it cannot."""
    return _EPILOGUES.get(activation)
