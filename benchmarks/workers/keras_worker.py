"""Keras 3 on TensorFlow as its users run it: `compile`, `train_on_batch`, `predict_on_batch`.

Its default compiles the graph with XLA, `jit_compile=False` leaves it to oneDNN: the faster of the two is taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"  # before anything imports keras

import keras
import tensorflow as tf

from benchmarks.workers import data, keras_style
from benchmarks.workers.protocol import Case, Unsupported, Work, Worker, serve, warm_seconds

_FORMS: dict[str, str | bool] = {"XLA": "auto", "oneDNN": False}


class ChannelScale(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
    """x * gamma + beta, a pair a channel."""

    def build(self, input_shape: Any) -> None:
        self.gamma = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="beta")

    def call(self, inputs: Any) -> Any:
        return inputs * self.gamma + self.beta


class KerasWorker(Worker):
    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)

    def describe(self) -> dict[str, Any]:
        return {"version": f"{keras.__version__}, TensorFlow {tf.__version__}"}

    def model(self, case: Case) -> Any:
        keras.utils.set_random_seed(case["seed"])
        return keras_style.build(case["network"], keras.layers, keras.Model, ChannelScale)

    def choose(self, case: Case) -> str | None:
        return min(_FORMS, key=lambda name: warm_seconds(self.build({**case, "choice": name}).call))

    def train(self, case: Case) -> Callable[[], float]:
        x, y = data.batch(case)
        model = self.compiled(case)
        return lambda: float(model.train_on_batch(x, y))

    def predict(self, case: Case) -> Callable[[], Any]:
        x, _ = data.batch(case)
        model = self.compiled(case)
        return lambda: model.predict_on_batch(x)

    def compiled(self, case: Case) -> Any:
        jit_compile = _FORMS[case.get("choice") or "XLA"]
        return keras_style.compiled(case["network"], self.model(case), keras.optimizers, jit_compile=jit_compile)

    def kernel(self, case: Case) -> Work:
        raise Unsupported("networks only")


if __name__ == "__main__":
    serve(KerasWorker)
