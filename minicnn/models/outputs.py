"""Losses and metrics of all outputs of a model, as `compile` was told: by list, by name, or one for all.

They are looked up at the first batch, when the number of outputs and the shapes of labels are known.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, TypeAlias

from minicnn import losses
from minicnn import metrics as metrics_module
from minicnn.layers.symbolic import flatten
from minicnn.losses import Loss
from minicnn.metrics import Mean, Metric
from minicnn.modes import no_grad
from minicnn.tensor import Tensor

Nest: TypeAlias = Any
"""A tensor, or lists, tuples and dicts of them."""


def output_names(y_pred: Nest, names: Sequence[str] | None) -> list[str]:
    """A name an output: the keys of a dict, the names the model knows, or output_1, output_2, ..."""
    if isinstance(y_pred, dict):
        return list(y_pred)
    count = len(flatten(y_pred))
    return list(names) if names and len(names) == count else [f"output_{i + 1}" for i in range(count)]


def per_output(option: str, value: Any, names: Sequence[str]) -> list[Any]:
    """One entry an output: from a dict by name (None for those left out), from a list in order, or the same for all.

    Raises ValueError for a list of another length and for a name that no output has.
    """
    if len(names) == 1 and not isinstance(value, (dict, list, tuple)):
        return [value]
    if isinstance(value, dict):
        for key in value:
            if key not in names:
                close = difflib.get_close_matches(str(key), names, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"{option}: the outputs of the model are {list(names)}. Received: {key!r}.{hint}")
        return [value.get(name) for name in names]
    if isinstance(value, (list, tuple)):
        if len(value) != len(names):
            raise ValueError(f"{option}: one an output is needed, for {list(names)}. Received: {len(value)}")
        return list(value)
    return [value] * len(names)


class OutputLosses:
    """The total loss: the sum of each output's, times its weight.

    loss, loss_weights: a list, a dict by name, or one for all outputs; an output of loss None is left to itself.
    trackers: means of each output's own loss over an epoch, where there are several.
    """

    def __init__(self, loss: Any, loss_weights: Any, names: Sequence[str] | None) -> None:
        self._loss, self._loss_weights, self._known_names = loss, loss_weights, names
        self.names: list[str] | None = None
        self.trackers: list[Mean | None] = []

    def _resolve(self, y_pred: Nest) -> None:
        names = output_names(y_pred, self._known_names)
        self.losses: list[Loss | None] = [losses.get(loss) for loss in per_output("loss", self._loss, names)]
        self.factors = per_output("loss_weights", self._loss_weights, names)
        several = sum(loss is not None for loss in self.losses) > 1
        self.trackers = [
            Mean(name=f"{name}_loss") if several and loss is not None else None
            for name, loss in zip(names, self.losses, strict=True)
        ]
        self.names = names  # last: after an error all is tried again

    def __call__(self, y: Nest, y_pred: Nest, sample_weight: Nest) -> Tensor | None:
        """The total, None where no output has a loss.

        Raises ValueError where labels of an output with a loss are missing.
        """
        if self.names is None:
            self._resolve(y_pred)
        assert self.names is not None
        total = None
        labels = self.targets(y)
        weights = targets_of("sample_weight", sample_weight, self.names)
        outputs = flatten(y_pred)
        for place, loss in enumerate(self.losses):
            if loss is None:
                continue
            if labels[place] is None:
                raise ValueError(f"the output {self.names[place]!r} has a loss, so labels y are needed. Received: None")
            value = loss(labels[place], outputs[place], sample_weight=weights[place])
            tracker = self.trackers[place]
            if tracker is not None:
                tracker.update_state(value.item(), sample_weight=len(outputs[place]))
            if self.factors[place] is not None:
                value = value * float(self.factors[place])
            total = value if total is None else total + value
        return total

    def targets(self, y: Nest) -> list[Any]:
        """Labels in the order of the outputs; those for outputs of loss None may be left out of a list."""
        assert self.names is not None
        if not isinstance(y, list):
            return targets_of("y", y, self.names)
        wanted = [place for place, loss in enumerate(self.losses) if loss is not None]
        if len(y) == len(wanted) < len(self.names):
            given = dict(zip(wanted, y, strict=True))
            return [given.get(place) for place in range(len(self.names))]
        return targets_of("y", y, self.names)

    @property
    def metrics(self) -> list[Metric]:
        return [tracker for tracker in self.trackers if tracker is not None]


class OutputMetrics:
    """Metrics of all outputs. Their names in logs carry the output's name in front where there are several outputs.

    metrics: for one output a list of them. For several a list with an entry (or a list) an output, a dict by name, or a
    list of names of another length, for all outputs alike. weighted: the same, weighted by the sample weights.
    """

    def __init__(self, metrics: Any, weighted: Any, names: Sequence[str] | None) -> None:
        self._metrics, self._weighted, self._known_names = metrics, weighted, names
        self.wanted = bool(metrics or weighted)
        self._by_output: list[tuple[list[Metric], list[Metric]]] | None = None
        self.named: dict[str, Metric] = {}

    @no_grad()
    def update(self, y: list[Any], y_pred: Nest, sample_weight: Nest, output_losses: Sequence[Loss | None]) -> None:
        """Take a batch into account; y holds the labels of each output."""
        outputs = flatten(y_pred)
        names = output_names(y_pred, self._known_names)
        if self._by_output is None:
            self._resolve(y, outputs, names, output_losses)
        weights = targets_of("sample_weight", sample_weight, names)
        for place, (plain, weighted) in enumerate(self._by_output or ()):
            if y[place] is None:
                continue
            for metric in plain:
                metric.update_state(y[place], outputs[place])
            for metric in weighted:
                metric.update_state(y[place], outputs[place], sample_weight=weights[place])

    def _resolve(
        self, y: list[Any], outputs: list[Tensor], names: list[str], output_losses: Sequence[Loss | None]
    ) -> None:
        options = [("metrics", self._metrics), ("weighted_metrics", self._weighted)]
        wanted = [_identifiers(option, given, names) for option, given in options]
        by_output = []
        self.named.clear()
        for place, name in enumerate(names):
            loss, labels, output = output_losses[place], y[place], outputs[place]
            found = [
                [metrics_module.resolve(identifier, loss, labels.shape, output.shape) for identifier in group[place]]
                if labels is not None
                else []
                for group in wanted
            ]
            by_output.append((found[0], found[1]))
            prefix = f"{name}_" if len(names) > 1 else ""
            self._name(found[0], prefix, "")
            self._name(found[1], prefix, "weighted_")
        self._by_output = by_output

    def _name(self, metrics: list[Metric], prefix: str, if_taken: str) -> None:
        for metric in metrics:
            name = f"{prefix}{metric.name}"
            if name in self.named and if_taken:
                name = f"{prefix}{if_taken}{metric.name}"
            unique, number = name, 0
            while unique in self.named:
                number += 1
                unique = f"{name}_{number}"
            self.named[unique] = metric


def _identifiers(option: str, given: Any, names: Sequence[str]) -> list[list[Any]]:
    """A list of metrics an output."""
    if given is None:
        return [[] for _ in names]
    if len(names) == 1 and not isinstance(given, dict):
        return [flatten(given)]
    flat = isinstance(given, (list, tuple)) and not any(isinstance(part, (list, tuple, dict)) for part in given)
    if flat and len(given) != len(names):
        if any(isinstance(part, Metric) for part in given):
            raise ValueError(
                f"{option}: a metric object measures one output; give a list an output, for {list(names)}. "
                f"Received: {given}"
            )
        return [list(given) for _ in names]
    return [[] if part is None else flatten(part) for part in per_output(option, given, names)]


def targets_of(role: str, nest: Nest, names: Sequence[str]) -> list[Any]:
    """Labels or weights in the order of the outputs: from a dict by name, from a list in order.

    One array of weights serves all outputs; one array of labels only one.
    Raises ValueError where their number or names do not fit.
    """
    if nest is None:
        return [None] * len(names)
    if not isinstance(nest, (dict, list, tuple)) and len(names) > 1 and role == "y":
        raise ValueError(f"the model has {len(names)} outputs, {list(names)}: y must be a list or a dict for them.")
    return per_output(role, nest, names)
