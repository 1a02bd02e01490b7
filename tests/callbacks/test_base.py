"""Callbacks: which turns are called, in which order and with what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn import Input, Sequential, layers, optimizers
from minicnn.callbacks import Callback, CallbackList, History, LambdaCallback

X, Y = np.ones((4, 2)), np.ones(4)


def model() -> Sequential:
    made = Sequential([Input((2,)), layers.Dense(1, kernel_initializer="zeros")])
    made.compile(optimizers.SGD(0.0), "mse")
    return made


class Diary(Callback):
    """Writes every turn down."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[Any] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        return lambda *args: self.turns.append((name, *args[:-1], sorted(args[-1])))


def test_turns_of_fit_come_in_keras_order_with_their_logs() -> None:
    diary = Diary()
    model().fit(X, Y, batch_size=2, validation_data=(X, Y), callbacks=[diary], verbose=0)
    assert diary.turns == [
        ("on_train_begin", []),
        ("on_epoch_begin", 0, []),
        ("on_train_batch_begin", 0, []),
        ("on_train_batch_end", 0, ["loss"]),
        ("on_train_batch_begin", 1, []),
        ("on_train_batch_end", 1, ["loss"]),
        ("on_test_begin", []),
        ("on_test_batch_begin", 0, []),
        ("on_test_batch_end", 0, ["loss"]),
        ("on_test_batch_begin", 1, []),
        ("on_test_batch_end", 1, ["loss"]),
        ("on_test_end", ["loss"]),
        ("on_epoch_end", 0, ["loss", "val_loss"]),
        ("on_train_end", ["loss", "val_loss"]),
    ]


def test_turns_of_evaluate_and_predict() -> None:
    diary, made = Diary(), model()
    made.evaluate(X, Y, callbacks=[diary], verbose=0)
    made.predict(X, callbacks=diary, verbose=0)
    assert [turn[0] for turn in diary.turns] == [
        "on_test_begin", "on_test_batch_begin", "on_test_batch_end", "on_test_end",
        "on_predict_begin", "on_predict_batch_begin", "on_predict_batch_end", "on_predict_end",
    ]  # fmt: skip
    assert diary.turns[-2][-1] == ["outputs"]


def test_model_and_params_are_known_to_callbacks() -> None:
    callback, made = Callback(), model()
    made.fit(X, Y, batch_size=3, epochs=5, callbacks=[callback], verbose=0)
    assert callback.model is made
    assert callback.params == {"verbose": 0, "epochs": 5, "steps": 2, "samples": 4}


def test_older_batch_names_still_work() -> None:
    seen = []

    class Old(Callback):
        def on_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append((batch, list(logs)))

    model().fit(X, Y, batch_size=2, callbacks=[Old()], verbose=0)
    assert seen == [(0, ["loss"]), (1, ["loss"])]


def test_history_keeps_epochs_and_logs_and_may_be_given() -> None:
    history = History()
    returned = model().fit(X, Y, epochs=3, callbacks=[history], verbose=0)
    assert returned is history
    assert history.epoch == [0, 1, 2]
    assert history.history == {"loss": [1.0, 1.0, 1.0]}


def test_lambda_callback_calls_its_functions() -> None:
    seen: list[Any] = []
    callback = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["loss"])), on_train_end=None)
    model().fit(X, Y, epochs=2, callbacks=CallbackList([callback], add_history=True), verbose=0)
    assert seen == [(0, 1.0), (1, 1.0)]


def test_what_is_no_callback_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Received: <class.*Make one first: History\(...\)"):
        CallbackList([History])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="Received: on_epoch_and"):
        LambdaCallback(on_epoch_and=print)
