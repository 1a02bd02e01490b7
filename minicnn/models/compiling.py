"""Compilable: the part of a model that `compile` settles: optimizer, losses, metrics, and which layers are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from minicnn import losses, optimizers
from minicnn import metrics as metrics_module
from minicnn.backend import as_host
from minicnn.layers.symbolic import flatten
from minicnn.metrics import Mean, Metric
from minicnn.models.data import Nest
from minicnn.models.outputs import OutputLosses, OutputMetrics
from minicnn.optimizers import Optimizer
from minicnn.tensor import Tensor

if TYPE_CHECKING:
    from minicnn.backend import Backend
    from minicnn.callbacks.base import History
    from minicnn.layers.base import Layer
    from minicnn.layers.parameter import Parameter

Logs = dict[str, Any]


class Compilable:
    """Mixin of `Model`; see `compile`."""

    if TYPE_CHECKING:  # what Layer and Model bring
        name: str
        trainable_weights: list[Parameter]
        losses: list[Tensor]

        def _flatten_layers(self) -> Sequence[Layer]: ...
        @property
        def backend(self) -> Backend: ...
        @property
        def output_names(self) -> list[str] | None: ...

    def _init_training(self) -> None:
        self.optimizer: Optimizer | None = None
        self.history: History | None = None
        self.loss: Any = None
        self.compiled = False
        self._compiled_trainable: list[tuple[Layer, bool]] = []
        self._loss_tracker = Mean(name="loss")
        self.stop_training = self.stop_evaluating = self.stop_predicting = False

    # ------------------------------------------------------------------------------------------------- compile

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
    ) -> None:
        """Say how the model learns. As keras.Model.compile.

        optimizer: a name, or an optimizer object.
        loss: a name, a Loss, a function of (y_true, y_pred); for several outputs also a list, or a dict by output name.
        loss_weights: what each output's loss counts in the total.
        metrics: a list of names, Metric objects or functions; for several outputs a list or a dict of such lists; a
        plain list of names for all outputs alike. "accuracy" is binary, categorical or sparse by loss and shapes.
        weighted_metrics: the same, weighted by the sample or class weights.

        Which layers are trained is settled here: `trainable` set later takes effect at the next compile, as in Keras.
        run_eagerly, steps_per_execution and jit_compile are there for Keras' programs and change nothing.

        Raises ValueError for unknown names, with a suggestion. Outputs named wrongly are found at the first batch.
        """
        loss = _revived(losses.deserialize, loss)
        metrics = _revived(metrics_module.deserialize, metrics)
        weighted_metrics = _revived(metrics_module.deserialize, weighted_metrics)
        _check_names(loss, [metrics, weighted_metrics])
        self.optimizer = optimizers.get(optimizer)
        self.loss = loss
        self._compile_arguments = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }
        self._output_losses = OutputLosses(loss, loss_weights, self.output_names)
        self._output_metrics = OutputMetrics(metrics, weighted_metrics, self.output_names)
        self._loss_tracker.reset_state()
        self._compiled_trainable = [(layer, layer._trainable) for layer in self._flatten_layers()]
        self.compiled = True

    def get_compile_config(self) -> dict[str, Any]:
        """What `compile` was given as plain data, in Keras 3's form; {} before that.

        Raises TypeError where a loss or metric is a plain function, which cannot be written down.
        """
        if not self.compiled or self.optimizer is None:
            return {}
        given = self._compile_arguments
        return {
            "optimizer": optimizers.serialize(self.optimizer),
            "loss": _written(losses.serialize, given["loss"]),
            "loss_weights": given["loss_weights"],
            "metrics": _written(metrics_module.serialize, given["metrics"]),
            "weighted_metrics": _written(metrics_module.serialize, given["weighted_metrics"]),
            "run_eagerly": False,
            "steps_per_execution": 1,
            "jit_compile": False,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as `get_compile_config`, here or in Keras 3, wrote down."""
        if not config:
            return
        options = ("optimizer", "loss", "loss_weights", "metrics", "weighted_metrics")
        given: dict[str, Any] = {option: config.get(option) for option in options}
        self.compile(**given)

    @property
    def metrics(self) -> list[Metric]:
        """What `fit` resets at each epoch's start: mean losses, compiled metrics, and metrics set as attributes."""
        own = [value for value in vars(self).values() if isinstance(value, Metric) and value is not self._loss_tracker]
        if not self.compiled:
            return own
        return [self._loss_tracker, *self._output_losses.metrics, *self._output_metrics.named.values(), *own]

    @property
    def metrics_names(self) -> list[str]:
        """Names of what `evaluate` returns, in its order. Known after the first batch."""
        return list(self.get_metrics_result())

    def get_metrics_result(self) -> Logs:
        """Loss and metrics so far, by their names in logs."""
        if not self.compiled:
            return {metric.name: _number(metric.result()) for metric in self.metrics}
        named = {"loss": self._loss_tracker, **{metric.name: metric for metric in self._output_losses.metrics}}
        named |= self._output_metrics.named
        known = set(map(id, named.values()))
        named |= {metric.name: metric for metric in self.metrics if id(metric) not in known}
        return {name: _number(metric.result()) for name, metric in named.items()}

    def reset_metrics(self) -> None:
        """Forget all that was measured."""
        for metric in self.metrics:
            metric.reset_state()

    def _check_compiled(self, caller: str) -> None:
        if not self.compiled:
            raise ValueError(
                f"{caller}: say how the model learns first: model.compile(optimizer='adam', loss='mse', metrics=[...])."
            )

    def _as_compiled(self) -> AbstractContextManager[None]:
        """Within the block, what is trainable is what was when `compile` was called."""
        changed = [(layer, then) for layer, then in self._compiled_trainable if layer._trainable is not then]
        return _trainable_as(changed) if changed else nullcontext()

    # ------------------------------------------------------------------------------------------------- measuring

    def compute_loss(
        self, x: Nest = None, y: Nest = None, y_pred: Nest = None, sample_weight: Nest = None, training: bool = True
    ) -> Tensor:
        """The number to make small: the outputs' losses, weight penalties, and what layers added. May be overridden.

        Raises ValueError where there is nothing to minimize.
        """
        total = self._output_losses(y, y_pred, sample_weight)
        for penalty in self.losses:
            total = penalty if total is None else total + penalty
        if total is None:
            raise ValueError(f"{self.name} has no loss: compile(optimizer, loss=...), or add_loss() in a layer.")
        return total

    def compute_metrics(self, x: Nest, y: Nest, y_pred: Nest, sample_weight: Nest = None) -> Logs:
        """Take a batch into the compiled metrics; loss and metrics so far. May be overridden."""
        if self._output_losses.names is not None and self._output_metrics.wanted:
            labels = self._output_losses.targets(y)
            self._output_metrics.update(labels, y_pred, sample_weight, self._output_losses.losses)
        return self.get_metrics_result()


@contextmanager
def _trainable_as(changed: list[tuple[Layer, bool]]) -> Iterator[None]:
    """Within the block, these layers are trainable as given; afterwards as they were."""
    for layer, then in changed:
        layer._set_own_trainable(then)
    try:
        yield
    finally:
        for layer, then in changed:
            layer._set_own_trainable(not then)


def _check_names(loss: Any, metrics: Any) -> None:
    """Unknown names are told in `compile` rather than at the first batch. ValueError with a suggestion."""
    for leaf in flatten(loss):
        if isinstance(leaf, str):
            losses.get(leaf)
    for leaf in flatten(metrics):
        if isinstance(leaf, str) and leaf.lower() not in ("accuracy", "acc"):
            metrics_module.get(leaf)


def _written(serialize: Callable[[Any], Any], nest: Any) -> Any:
    """The nest with a config in the place of each loss or metric object; names stay."""
    if isinstance(nest, dict):
        return {key: _written(serialize, part) for key, part in nest.items()}
    if isinstance(nest, (list, tuple)):
        return [_written(serialize, part) for part in nest]
    return nest if nest is None or isinstance(nest, str) else serialize(nest)


def _revived(deserialize: Callable[[Any], Any], nest: Any) -> Any:
    """The nest with an object in the place of each config; a function of Keras' own becomes its name."""
    if isinstance(nest, dict) and nest.get("class_name") == "function":
        return nest["config"]
    if isinstance(nest, dict) and "class_name" in nest:
        return deserialize(nest)
    if isinstance(nest, dict):
        return {key: _revived(deserialize, part) for key, part in nest.items()}
    return [_revived(deserialize, part) for part in nest] if isinstance(nest, (list, tuple)) else nest


def _number(result: Any) -> Any:
    """A float where there is one number; an array (a confusion matrix) as it is."""
    if isinstance(result, float):
        return result
    array = as_host(result.data if isinstance(result, Tensor) else result)
    return float(array) if array.ndim == 0 else array
