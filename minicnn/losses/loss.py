"""Losses as objects: a function of `losses/functions.py` with its options, weights and a reduction. Keras' names.

`loss(y_true, y_pred, sample_weight=None)` gives a tensor to differentiate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minicnn import functional as F
from minicnn.functional.arguments import check_choice, check_number, check_positive
from minicnn.losses import functions
from minicnn.registry import Configurable, snake_case
from minicnn.tensor import Tensor

_REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none")


class Loss(Configurable):
    """Base class of losses. Subclasses define `call(y_true, y_pred)`, which gives one value a sample.

    class MeanFourthPower(Loss):
        def call(self, y_true, y_pred):
            return ((y_true - y_pred) ** 4).mean(-1)

    name: the class name in snake case where none is given.
    reduction: "sum_over_batch_size" or "mean" (sum of the weighted values over their number), "sum",
    "mean_with_sample_weight" (sum over the sum of the weights), "none" or None (the weighted values themselves).

    Raises ValueError for another reduction, with a suggestion.
    """

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size") -> None:
        self.name = name or snake_case(type(self).__name__)
        check_choice("none" if reduction is None else reduction, _REDUCTIONS, f"{self.name}: reduction")
        self.reduction = reduction

    def call(self, y_true: Any, y_pred: Tensor) -> Tensor:
        """The loss of each sample: (n, ...) -> (n,) or more axes."""
        raise TypeError(f"{type(self).__name__} must define call(self, y_true, y_pred).")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """Losses of all samples, weighted and reduced.

        y_true: labels, as an array or a tensor. y_pred: the model's output. sample_weight: an array (n,), or of further
        axes of the losses.
        Raises ValueError for an empty batch, and for weights whose shape does not fit.
        """
        y_pred = functions.prediction(y_pred, self.name)
        if y_pred.data.size == 0:
            raise ValueError(f"{self.name}: an empty batch has no loss. Received: y_pred of shape {y_pred.shape}")
        losses = self.call(functions.beside(y_true, y_pred), y_pred)
        weights = None if sample_weight is None else _aligned_weights(sample_weight, losses, self.name)
        return _reduced(losses, weights, self.reduction)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "reduction": self.reduction}


def _aligned_weights(sample_weight: Any, losses: Tensor, caller: str) -> Tensor:
    """Weights in the losses' dtype, with axes of length 1 appended, so that (n,) weights whole samples of (n, h, w)."""
    weights = functions.beside(sample_weight, losses).to(losses.dtype)
    if weights.ndim == losses.ndim + 1 and weights.shape[-1] == 1:
        weights = weights.squeeze(-1)
    missing = losses.ndim - weights.ndim
    if missing < 0 or any(w not in (1, size) for w, size in zip(weights.shape, losses.shape, strict=False)):
        raise ValueError(
            f"{caller}: sample_weight must hold one weight a sample, or one a loss: the losses have shape "
            f"{losses.shape}. Received: sample_weight of shape {weights.shape}"
        )
    return weights.reshape(*weights.shape, *[1] * missing)


def _reduced(losses: Tensor, weights: Tensor | None, reduction: str | None) -> Tensor:
    if weights is not None:
        losses = losses * weights
    if reduction in (None, "none"):
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean_with_sample_weight" and weights is not None:
        return _over(losses.sum(), float(weights.data.sum()))
    return losses.mean()


def _over(total: Tensor, divisor: float) -> Tensor:
    """total / divisor, 0 where the divisor is 0."""
    return total / divisor if divisor else total * 0.0


class LossFunctionWrapper(Loss):
    """A loss made of any function of y_true and y_pred that gives one value a sample: what `losses.get(f)` returns.

    kwargs: options that are passed on to the function.
    """

    def __init__(
        self,
        fn: Callable[..., Tensor],
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name or getattr(fn, "__name__", None), reduction)
        self.fn, self.options = fn, kwargs

    def call(self, y_true: Any, y_pred: Tensor) -> Tensor:
        return self.fn(y_true, y_pred, **self.options)

    def get_config(self) -> dict[str, Any]:
        raise TypeError(
            f"{self.name}: a loss that is a plain function cannot be written to a file. Write it as a class: "
            "class MyLoss(minicnn.losses.Loss), with call(self, y_true, y_pred)."
        )


class FunctionLoss(Loss):
    """The class form of one of `losses/functions.py`; options are the function's own."""

    function: Callable[..., Tensor]

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = None, **options: Any) -> None:
        super().__init__(name, reduction)
        self.options = options

    def call(self, y_true: Any, y_pred: Tensor) -> Tensor:
        return self.function(y_true, y_pred, **self.options)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | self.options


# --------------------------------------------------------------------------------------------------- classification


class CategoricalCrossentropy(FunctionLoss):
    """Cross-entropy for one-hot labels; options as `categorical_crossentropy`."""

    function = staticmethod(functions.categorical_crossentropy)

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        check_number(label_smoothing, "CategoricalCrossentropy: label_smoothing", 0, 1)
        super().__init__(reduction, name, from_logits=from_logits, label_smoothing=label_smoothing, axis=axis)


class SparseCategoricalCrossentropy(FunctionLoss):
    """Cross-entropy for integer labels; options as `sparse_categorical_crossentropy`.

    Samples of `ignore_class` have no part in a mean: it is that of the others.
    """

    function = staticmethod(functions.sparse_categorical_crossentropy)

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = None,
    ) -> None:
        super().__init__(reduction, name, from_logits=from_logits, ignore_class=ignore_class, axis=axis)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        if self.options["ignore_class"] is None:
            return super().__call__(y_true, y_pred, sample_weight)
        counts = self._counts(y_true, F.as_tensor(y_pred))
        if sample_weight is not None:
            counts = counts * _aligned_weights(sample_weight, counts, self.name)
        return super().__call__(y_true, y_pred, counts)

    def _counts(self, y_true: Any, y_pred: Tensor) -> Tensor:
        """0 for ignored samples, 1 for the others; scaled for a mean over all, so that it is one over the others."""
        y_pred = functions.classes_last(y_pred, self.options["axis"])
        _, counted = functions.class_labels(y_true, y_pred, self.options["ignore_class"], self.name)
        assert counted is not None  # there is an ignore_class
        counts = counted.to(y_pred.dtype)
        if self.reduction not in ("sum_over_batch_size", "mean"):
            return counts
        return counts * (counts.numel() / max(float(counts.data.sum()), 1.0))


class BinaryCrossentropy(FunctionLoss):
    """Cross-entropy of yes-or-no outputs; options as `binary_crossentropy`."""

    function = staticmethod(functions.binary_crossentropy)

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        check_number(label_smoothing, "BinaryCrossentropy: label_smoothing", 0, 1)
        super().__init__(reduction, name, from_logits=from_logits, label_smoothing=label_smoothing, axis=axis)


class Hinge(FunctionLoss):
    """See `hinge`."""

    function = staticmethod(functions.hinge)


class SquaredHinge(FunctionLoss):
    """See `squared_hinge`."""

    function = staticmethod(functions.squared_hinge)


class CategoricalHinge(FunctionLoss):
    """See `categorical_hinge`."""

    function = staticmethod(functions.categorical_hinge)


class KLDivergence(FunctionLoss):
    """See `kl_divergence`."""

    function = staticmethod(functions.kl_divergence)


# --------------------------------------------------------------------------------------------------- regression


class MeanSquaredError(FunctionLoss):
    """See `mean_squared_error`."""

    function = staticmethod(functions.mean_squared_error)


class MeanAbsoluteError(FunctionLoss):
    """See `mean_absolute_error`."""

    function = staticmethod(functions.mean_absolute_error)


class MeanAbsolutePercentageError(FunctionLoss):
    """See `mean_absolute_percentage_error`."""

    function = staticmethod(functions.mean_absolute_percentage_error)


class MeanSquaredLogarithmicError(FunctionLoss):
    """See `mean_squared_logarithmic_error`."""

    function = staticmethod(functions.mean_squared_logarithmic_error)


class Huber(FunctionLoss):
    """See `huber`; delta is where the parabola becomes a straight line."""

    function = staticmethod(functions.huber)

    def __init__(
        self, delta: float = 1.0, reduction: str | None = "sum_over_batch_size", name: str | None = "huber_loss"
    ) -> None:
        check_positive(delta, "Huber: delta")
        super().__init__(reduction, name, delta=delta)


class LogCosh(FunctionLoss):
    """See `log_cosh`."""

    function = staticmethod(functions.log_cosh)


class Poisson(FunctionLoss):
    """See `poisson`."""

    function = staticmethod(functions.poisson)


class CosineSimilarity(FunctionLoss):
    """See `cosine_similarity`."""

    function = staticmethod(functions.cosine_similarity)

    def __init__(self, axis: int = -1, reduction: str | None = "sum_over_batch_size", name: str | None = None) -> None:
        super().__init__(reduction, name, axis=axis)
