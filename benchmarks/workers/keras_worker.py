"""Keras 3 on TensorFlow as its users run it: `compile` with its defaults, `train_on_batch`, `predict_on_batch`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"  # before anything imports keras

import keras
import tensorflow as tf

from benchmarks.workers import data, keras_style
from benchmarks.workers.protocol import Case, Unsupported, Work, Worker, serve


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

    def train(self, case: Case) -> Callable[[], float]:
        x, y = data.batch(case)
        model = keras_style.compiled(case["network"], self.model(case), keras.optimizers)
        return lambda: float(model.train_on_batch(x, y))

    def predict(self, case: Case) -> Callable[[], Any]:
        x, _ = data.batch(case)
        model = self.model(case)
        return lambda: model.predict_on_batch(x)

    def kernel(self, case: Case) -> Work:
        raise Unsupported("networks only")


if __name__ == "__main__":
    serve(KerasWorker)
