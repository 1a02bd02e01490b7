"""Callback: what runs at the turns of training, evaluation and prediction; CallbackList, History, LambdaCallback."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from minicnn.models import Model

Logs: TypeAlias = dict[str, Any] | None
"""What was measured so far: {"loss": 0.3, "accuracy": 0.9, "val_loss": ...}."""


class Callback:
    """Base class of callbacks: override the turns that matter, all do nothing. As keras.callbacks.Callback.

    model: the model at work, to read, or to stop with `self.model.stop_training = True`.
    params: {"verbose", "epochs", "steps", "samples"}; steps and samples are None where they are not known.
    """

    model: Model
    params: dict[str, Any]

    def __init__(self) -> None:
        self.params = {}

    def set_model(self, model: Model) -> None:
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params

    def on_train_begin(self, logs: Logs = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs = None) -> None:
        """After the last epoch; logs are that epoch's."""

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Before an epoch, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """After an epoch and its validation, whose results are the `val_` logs."""

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Before a batch, counted from 0 in each epoch."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """After a batch; logs are the means over the epoch so far."""
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """The same as on_train_batch_begin, under its older name."""

    def on_batch_end(self, batch: int, logs: Logs = None) -> None:
        """The same as on_train_batch_end, under its older name."""

    def on_test_begin(self, logs: Logs = None) -> None:
        """Before an evaluation, validation included."""

    def on_test_end(self, logs: Logs = None) -> None:
        """After an evaluation."""

    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Before a batch of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """After a batch of an evaluation."""

    def on_predict_begin(self, logs: Logs = None) -> None:
        """Before a prediction."""

    def on_predict_end(self, logs: Logs = None) -> None:
        """After a prediction."""

    def on_predict_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Before a batch of a prediction."""

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        """After a batch of a prediction; logs are {"outputs": ...}."""


class CallbackList(Callback):
    """Callbacks called one after the other, in their order. As keras.callbacks.CallbackList.

    callbacks: callbacks, one of them, or None. model and params are handed on to each.
    add_history: append a History unless there is one; it becomes `model.history`.

    Raises TypeError where something in the list is not a callback.
    """

    def __init__(
        self,
        callbacks: Callback | Iterable[Callback] | None = None,
        add_history: bool = False,
        model: Model | None = None,
        **params: Any,
    ) -> None:
        super().__init__()
        given = [callbacks] if isinstance(callbacks, Callback) else callbacks
        self.callbacks = [_checked(callback) for callback in given or ()]
        if add_history and not any(isinstance(callback, History) for callback in self.callbacks):
            self.callbacks.append(History())
        if model is not None:
            self.set_model(model)
        if params:
            self.set_params(params)

    def append(self, callback: Callback) -> None:
        """Add one at the end."""
        self.callbacks.append(_checked(callback))

    def set_model(self, model: Model) -> None:
        self.model = model
        for callback in self.callbacks:
            callback.set_model(model)
            if isinstance(callback, History):
                model.history = callback

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params
        for callback in self.callbacks:
            callback.set_params(params)

    def _each(self, turn: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, turn)(*args)

    def on_train_begin(self, logs: Logs = None) -> None:
        self._each("on_train_begin", logs or {})

    def on_train_end(self, logs: Logs = None) -> None:
        self._each("on_train_end", logs or {})

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._each("on_epoch_begin", epoch, logs or {})

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._each("on_epoch_end", epoch, logs or {})

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._each("on_train_batch_begin", batch, logs or {})

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._each("on_train_batch_end", batch, logs or {})

    def on_test_begin(self, logs: Logs = None) -> None:
        self._each("on_test_begin", logs or {})

    def on_test_end(self, logs: Logs = None) -> None:
        self._each("on_test_end", logs or {})

    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._each("on_test_batch_begin", batch, logs or {})

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._each("on_test_batch_end", batch, logs or {})

    def on_predict_begin(self, logs: Logs = None) -> None:
        self._each("on_predict_begin", logs or {})

    def on_predict_end(self, logs: Logs = None) -> None:
        self._each("on_predict_end", logs or {})

    def on_predict_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._each("on_predict_batch_begin", batch, logs or {})

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._each("on_predict_batch_end", batch, logs or {})


def _checked(callback: Any) -> Callback:
    if isinstance(callback, Callback):
        return callback
    made = f" Make one first: {callback.__name__}(...)." if isinstance(callback, type) else ""
    raise TypeError(f"callbacks must hold Callback objects. Received: {callback!r}.{made}")


class History(Callback):
    """Remembers the logs of every epoch; `fit` returns one. As keras.callbacks.History.

    history: {"loss": [first epoch, second, ...], "val_loss": [...], ...}
    epoch: the numbers of the epochs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs = None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        return f"<History of {len(self.epoch)} epochs: {', '.join(self.history)}>"


class LambdaCallback(Callback):
    """A callback made of functions: LambdaCallback(on_epoch_end=lambda epoch, logs: print(logs["loss"])).

    Takes the name of any turn of Callback; each function gets what that turn gets. As keras.callbacks.LambdaCallback.

    Raises ValueError for a name that is no turn.
    """

    def __init__(self, **functions: Callable[..., Any] | None) -> None:
        super().__init__()
        for name, function in functions.items():
            if not name.startswith("on_") or not hasattr(Callback, name):
                turns = ", ".join(turn for turn in vars(Callback) if turn.startswith("on_"))
                raise ValueError(f"LambdaCallback takes functions for {turns}. Received: {name}")
            if function is not None:
                setattr(self, name, function)
