"""Trainer: fit, evaluate and predict, in epochs of batches or on a single batch. Keras' names and rules."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.autograd import grad
from minicnn.backend import as_host
from minicnn.callbacks.base import CallbackList, History
from minicnn.layers.symbolic import flatten, map_structure
from minicnn.models.compiling import Compilable, Logs
from minicnn.models.data import (
    BatchSource,
    Epochs,
    Nest,
    batch_source,
    class_weights,
    make_batch,
    split_off_validation,
    unpack_x_y_sample_weight,
)
from minicnn.models.progress import progress_display
from minicnn.modes import no_grad
from minicnn.tensor import Tensor


class Trainer(Compilable):
    """Mixin of `Model`. Steps can be changed: override `train_step`, `test_step`, `predict_step` or `compute_loss`."""

    if TYPE_CHECKING:  # what Layer brings

        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    # ------------------------------------------------------------------------------------------------- steps

    def train_step(self, data: Any) -> Logs:
        """Learn from one batch: x, (x, y) or (x, y, sample_weight). May be overridden; returns the logs."""
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        y_pred = self(x, training=True)
        loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
        self._loss_tracker.update_state(loss.item(), sample_weight=len(flatten(x)[0]))
        weights = self.trainable_weights
        if weights:
            assert self.optimizer is not None
            self.optimizer.apply(grad(loss, weights, allow_unused=True), weights)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def test_step(self, data: Any) -> Logs:
        """Measure one batch. May be overridden; returns the logs."""
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)
        loss = self.compute_loss(x, y, y_pred, sample_weight, training=False)
        self._loss_tracker.update_state(loss.item(), sample_weight=len(flatten(x)[0]))
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def predict_step(self, data: Any) -> Nest:
        """Outputs for one batch. May be overridden."""
        return self(unpack_x_y_sample_weight(data)[0], training=False)

    # ------------------------------------------------------------------------------------------------- fit

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: float | None = None,
        validation_steps: float | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
        check_nan: bool = False,
    ) -> History:
        """Train for some epochs; returns the History, whose `history` holds the logs of each. As keras.Model.fit.

        x, y: arrays or tensors, lists or dicts of them for several inputs and outputs; or x alone yields batches (x, y)
        or (x, y, sample_weight): a generator, any iterable, an object with __len__ and __getitem__.
        batch_size: 32 where it is not given. A smaller last batch is used too.
        verbose: 0 silent, 1 a live bar, 2 a line an epoch; "auto" is 1 on a terminal and 2 elsewhere.
        validation_split: the share of rows, the last ones, to measure on rather than learn from, at each epoch's end.
        validation_data: (x, y) or (x, y, sample_weight), or what yields batches, to measure on.
        shuffle: take the rows (or a sequence's batches) in a new order each epoch.
        class_weight: {class: weight} for the loss; sample_weight: a weight a row.
        epochs, initial_epoch: the number of the last epoch, and how many are done already.
        steps_per_epoch: batches an epoch; the next one goes on from there. Data that runs out ends an epoch early.
        validation_freq: validate every so many epochs, or after those listed (counted from 1).
        check_nan: look for NaNs in the data before they get into the weights. Not an argument of Keras'.

        Raises ValueError before `compile`, and for data that does not fit; see `data.batch_source`.
        """
        self._check_compiled("fit")
        if validation_split and validation_data is None:
            train, validation_data = split_off_validation("fit", x, y, sample_weight, validation_split)
            x, y, sample_weight = train
        training = batch_source(
            "fit", x, y, sample_weight, batch_size, _ceil(steps_per_epoch), shuffle, class_weight, check_nan
        )
        data = Epochs(training, steps_per_epoch)
        validation = None
        if validation_data is not None:
            size = validation_batch_size or batch_size
            validation = Epochs(
                _validation_source(validation_data, size, validation_steps, check_nan), validation_steps
            )
        with self._running(callbacks, verbose, epochs, data, add_history=True) as turns, self._as_compiled():
            self.stop_training = False
            turns.on_train_begin()
            logs: Logs = {}
            for epoch in range(initial_epoch, epochs):
                turns.on_epoch_begin(epoch)
                trained = self._train_epoch(data, turns)
                if data.exhausted:
                    break
                logs = trained
                if validation is not None and _is_due(epoch, validation_freq):
                    measured = self._test(validation, turns)
                    logs = {**logs, **{f"val_{name}": value for name, value in measured.items()}}
                turns.on_epoch_end(epoch, logs)
                if self.stop_training:
                    break
            turns.on_train_end(logs)
        assert self.history is not None
        return self.history

    def _train_epoch(self, data: Epochs, turns: CallbackList) -> Logs:
        self.reset_metrics()
        logs: Logs = {}
        for step, batch in data.epoch():
            turns.on_train_batch_begin(step)
            logs = self.train_step(batch.packed(self.backend))
            turns.on_train_batch_end(step, logs)
            if self.stop_training:
                break
        return logs

    # ------------------------------------------------------------------------------------------------- evaluate

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight: Any = None,
        steps: float | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        check_nan: bool = False,
    ) -> Any:
        """Loss and metrics on data, without learning. As keras.Model.evaluate.

        Returns [loss, metric, ...] in the order of `metrics_names`, the loss alone, or a dict. Arguments as `fit`.
        """
        self._check_compiled("evaluate")
        source = batch_source("evaluate", x, y, sample_weight, batch_size, _ceil(steps), check_nan=check_nan)
        data = Epochs(source, steps)
        with self._running(callbacks, verbose, 1, data) as turns:
            logs = self._test(data, turns)
        return logs if return_dict else _values(logs)

    def _test(self, data: Epochs, turns: CallbackList) -> Logs:
        self.stop_evaluating = False
        turns.on_test_begin()
        self.reset_metrics()
        logs: Logs = {}
        with no_grad():
            for step, batch in data.epoch():
                turns.on_test_batch_begin(step)
                logs = self.test_step(batch.packed(self.backend))
                turns.on_test_batch_end(step, logs)
                if self.stop_evaluating:
                    break
        turns.on_test_end(logs)
        return logs

    # ------------------------------------------------------------------------------------------------- predict

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: float | None = None,
        callbacks: Any = None,
        check_nan: bool = False,
    ) -> Nest:
        """Outputs for all rows as arrays, computed in batches. As keras.Model.predict.

        Arguments as `fit`; "auto" shows a bar on a terminal while it lasts and nothing elsewhere.
        """
        data = Epochs(batch_source("predict", x, None, None, batch_size, _ceil(steps), check_nan=check_nan), steps)
        self.stop_predicting = False
        pieces: list[Nest] = []
        with self._running(callbacks, verbose, 1, data) as turns, no_grad():
            turns.on_predict_begin()
            for step, batch in data.epoch():
                turns.on_predict_batch_begin(step)
                outputs = map_structure(_as_array, self.predict_step(batch.packed(self.backend)))
                pieces.append(outputs)
                turns.on_predict_batch_end(step, {"outputs": outputs})
                if self.stop_predicting:
                    break
            turns.on_predict_end()
        joined = iter([np.concatenate(parts) for parts in zip(*map(flatten, pieces), strict=True)])
        return map_structure(lambda _: next(joined), pieces[0])

    # ------------------------------------------------------------------------------------------------- on one batch

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """One step of learning; loss and metrics before it, as `evaluate` returns them."""
        self._check_compiled("train_on_batch")
        batch = make_batch("train_on_batch", x, y, sample_weight)
        if class_weight is not None:
            batch = batch._replace(sample_weight=class_weights("train_on_batch", batch.y, class_weight))
        self.reset_metrics()
        with self._as_compiled():
            logs = self.train_step(batch.packed(self.backend))
        return logs if return_dict else _values(logs)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Loss and metrics on one batch, as `evaluate` returns them."""
        self._check_compiled("test_on_batch")
        self.reset_metrics()
        with no_grad():
            logs = self.test_step(make_batch("test_on_batch", x, y, sample_weight).packed(self.backend))
        return logs if return_dict else _values(logs)

    def predict_on_batch(self, x: Any) -> Nest:
        """Outputs for one batch, as arrays."""
        with no_grad():
            return map_structure(_as_array, self.predict_step(make_batch("predict_on_batch", x).packed(self.backend)))

    # ------------------------------------------------------------------------------------------------- callbacks

    @contextmanager
    def _running(
        self, callbacks: Any, verbose: str | int, epochs: int, data: Epochs, add_history: bool = False
    ) -> Iterator[CallbackList]:
        """The callbacks, told what goes on, with a progress display among them that is closed whatever happens."""
        given = callbacks.callbacks if isinstance(callbacks, CallbackList) else callbacks
        turns = CallbackList(given, add_history)
        display = progress_display(verbose)
        if display is not None:
            turns.append(display)
        turns.set_params({"verbose": verbose, "epochs": epochs, "steps": data.num_batches, "samples": data.num_samples})
        turns.set_model(self)  # type: ignore[arg-type]
        try:
            yield turns
        finally:
            if display is not None:
                display.close()


def _validation_source(given: Any, batch_size: int | None, steps: float | None, check_nan: bool) -> BatchSource:
    """`validation_data`: (x, y), (x, y, sample_weight), or what yields batches."""
    parts = given if isinstance(given, (tuple, list)) and 2 <= len(given) <= 3 else (given,)
    x, y, sample_weight = (*parts, None, None)[:3]
    return batch_source("fit, validation_data", x, y, sample_weight, batch_size, _ceil(steps), check_nan=check_nan)


def _is_due(epoch: int, validation_freq: int | Sequence[int]) -> bool:
    number = epoch + 1
    return number % validation_freq == 0 if isinstance(validation_freq, int) else number in validation_freq


def _ceil(steps: float | None) -> int | None:
    """Programs write steps_per_epoch = len(x) / batch_size."""
    return None if steps is None else math.ceil(steps)


def _values(logs: Logs) -> Any:
    values = list(logs.values())
    return values[0] if len(values) == 1 else values


def _as_array(output: Tensor) -> np.ndarray[Any, Any]:
    return as_host(output.data)
