"""Metric: what is measured over an epoch and not differentiated. The base class, and means of values.

Metrics see batches (`update_state`), tell what they found (`result`), and start again (`reset_state`). They compute on
NumPy arrays and add up in float64, whatever the model's dtype. Names, arguments and defaults are Keras 3's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn import config
from minicnn.backend import as_host
from minicnn.modes import no_grad
from minicnn.registry import Configurable, snake_case
from minicnn.tensor import Tensor

NDArray = np.ndarray[Any, Any]


class Metric(Configurable):
    """Base class of metrics. Subclasses define `update_state`, `result` and `reset_state`.

    class LargestError(Metric):
        def __init__(self, name="largest_error"):
            super().__init__(name)
            self.reset_state()

        def reset_state(self):
            self.largest = 0.0

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.largest = max(self.largest, np.abs(np.asarray(y_true) - np.asarray(y_pred)).max())

        def result(self):
            return self.largest

    name: under which it is logged; the class name in snake case where none is given. dtype: written into Keras' files.
    """

    def __init__(self, name: str | None = None, dtype: str | None = None) -> None:
        self.name = name or snake_case(type(self).__name__)
        self.dtype = dtype or config.floatx()

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Take one batch into account: (y_true, y_pred, sample_weight=None) for all metrics of a model."""
        raise TypeError(f"{type(self).__name__} must define update_state(self, y_true, y_pred, sample_weight=None).")

    def result(self) -> Any:
        """The measure over all batches since the last reset: a float, or an array."""
        raise TypeError(f"{type(self).__name__} must define result(self).")

    def reset_state(self) -> None:
        """Forget all batches."""
        raise TypeError(f"{type(self).__name__} must define reset_state(self).")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`update_state`, then `result`."""
        self.update_state(*args, **kwargs)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


# --------------------------------------------------------------------------------------------------- arguments


def as_array(values: Any) -> NDArray:
    """A tensor's array in the host's memory, anything else as a NumPy array."""
    return as_host(values.data if isinstance(values, Tensor) else values)


def matched(y_true: Any, y_pred: Any, caller: str) -> tuple[NDArray, NDArray]:
    """Both as arrays of one shape; (n,) goes with (n, 1).

    Raises ValueError for other shapes that differ, and for an empty batch.
    """
    t, y = as_array(y_true), as_array(y_pred)
    if y.size == 0:
        raise ValueError(f"{caller}: an empty batch cannot be measured. Received: y_pred of shape {y.shape}")
    if t.shape == (*y.shape, 1) or y.shape == (*t.shape, 1):
        shape = max(t.shape, y.shape, key=len)
        return t.reshape(shape), y.reshape(shape)
    if t.shape != y.shape:
        raise ValueError(
            f"{caller}: y_true and y_pred must have one shape. Received: y_true of shape {t.shape}, y_pred of shape "
            f"{y.shape}"
        )
    return t, y


def aligned_weights(sample_weight: Any, shape: tuple[int, ...], caller: str) -> NDArray:
    """Weights as float64 for values of this shape: (n,), or of more of its axes, which are kept.

    Raises ValueError where they do not fit.
    """
    weights = as_array(sample_weight).astype(np.float64)
    if weights.ndim == len(shape) + 1 and weights.shape[-1] == 1:
        weights = weights[..., 0]
    if weights.ndim > len(shape) or any(w not in (1, size) for w, size in zip(weights.shape, shape, strict=False)):
        raise ValueError(
            f"{caller}: sample_weight must hold one weight a sample, or one a value: the values have shape {shape}. "
            f"Received: sample_weight of shape {weights.shape}"
        )
    return np.broadcast_to(weights, shape[: weights.ndim])


def full_weights(sample_weight: Any, shape: tuple[int, ...], caller: str) -> NDArray:
    """`aligned_weights`, repeated to the whole shape; ones for None."""
    weights = aligned_weights(1.0 if sample_weight is None else sample_weight, shape, caller)
    return np.broadcast_to(weights.reshape(*weights.shape, *[1] * (len(shape) - weights.ndim)), shape)


# --------------------------------------------------------------------------------------------------- means


class Mean(Metric):
    """Weighted mean of all values seen; 0 before the first."""

    def __init__(self, name: str | None = None, dtype: str | None = None) -> None:
        super().__init__(name, dtype)
        self.reset_state()

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """values: a number or (n, ...), of which each sample counts once; sample_weight: (n,) or of more axes."""
        if isinstance(values, float) and isinstance(sample_weight, int):  # a mean loss, in each step of training
            self.total += values * sample_weight
            self.count += sample_weight
            return
        array = as_array(values).astype(np.float64, copy=False)
        array = array if array.ndim else array.reshape(1)
        if array.size == 0:
            raise ValueError(f"{self.name}: an empty batch cannot be measured. Received: shape {array.shape}")
        if sample_weight is None:
            self.total += _sum_of_sample_means(array)
            self.count += len(array)
            return
        weights = aligned_weights(sample_weight, array.shape, self.name)
        array = array.reshape(*weights.shape, -1).mean(axis=-1)
        self.total += _sum_of_sample_means(array * weights)
        self.count += _sum_of_sample_means(weights)

    def result(self) -> float:
        return self.total / self.count if self.count else 0.0

    def reset_state(self) -> None:
        self.total, self.count = 0.0, 0.0


def _sum_of_sample_means(values: NDArray) -> float:
    """(n, ...) -> a number: the mean of each sample, summed."""
    return float(values.sum() if values.ndim == 1 else values.reshape(len(values), -1).mean(axis=-1).sum())


class MeanMetricWrapper(Mean):
    """Mean of any function of y_true and y_pred that gives one value a sample, or more.

    kwargs: options that are passed on to the function.
    """

    def __init__(
        self, fn: Callable[..., Any], name: str | None = None, dtype: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name or getattr(fn, "__name__", None), dtype)
        self.fn, self.options = fn, kwargs

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        with no_grad():
            values = self.fn(y_true, y_pred, **self.options)
        super().update_state(values, sample_weight)

    def get_config(self) -> dict[str, Any]:
        raise TypeError(
            f"{self.name}: a metric that is a plain function cannot be written to a file. Write it as a class: "
            "class MyMetric(minicnn.metrics.Metric)."
        )


class FunctionMetric(MeanMetricWrapper):
    """The class form of one of this package's functions, or of a loss; options are the function's own."""

    function: Callable[..., Any]

    def __init__(self, name: str | None = None, dtype: str | None = None, **options: Any) -> None:
        super().__init__(self.function, name or snake_case(type(self).__name__), dtype, **options)

    def get_config(self) -> dict[str, Any]:
        return Mean.get_config(self) | self.options
