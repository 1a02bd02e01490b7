"""Files that Keras 3 writes open in minicnn and the other way round: equal predictions, equal further training.

Each network is written once, as a function of the library that builds it: both have the same names.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn.layers.symbolic import flatten

keras = pytest.importorskip("keras")

LIBRARIES = {"minicnn": minicnn, "keras": keras}
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def every_layer(lib: Any) -> Any:
    """A stack with each kind of layer that takes a picture."""
    L = lib.layers
    return lib.Sequential(
        [
            lib.Input(shape=(13, 11, 3)),
            L.Rescaling(1 / 127.5, offset=-1),
            L.ZeroPadding2D(((1, 0), (2, 1))),
            L.Conv2D(6, (3, 2), strides=(2, 1), padding="same", activation="relu"),
            L.BatchNormalization(),
            L.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
            L.GroupNormalization(groups=4),
            L.LeakyReLU(negative_slope=0.2),
            L.SpatialDropout2D(0.2),
            L.MaxPooling2D((2, 3), strides=2, padding="same"),
            L.SeparableConv2D(8, 3, padding="same", depth_multiplier=2),
            L.PReLU(shared_axes=[1, 2]),
            L.Conv2D(8, 2, groups=2, dilation_rate=2, padding="same", use_bias=False),
            L.LayerNormalization(axis=[1, 3]),
            L.UpSampling2D((2, 1)),
            L.Conv2DTranspose(5, (3, 4), strides=(2, 1), padding="same"),
            L.ELU(alpha=0.7),
            L.Cropping2D(((1, 0), (0, 1))),
            L.AveragePooling2D(2),
            L.Permute((2, 1, 3)),
            L.ReLU(max_value=4, negative_slope=0.1),
            L.GaussianNoise(0.1),
            L.Activation("tanh"),
            L.Flatten(),
            L.Dropout(0.5),
            L.Dense(12, activation="gelu"),
            L.Reshape((3, 4)),
            L.LayerNormalization(),
            L.Softmax(),
            L.Flatten(),
            L.Dense(4, activation="softmax"),
        ]
    )


def global_pools(lib: Any) -> Any:
    L = lib.layers
    inputs = lib.Input(shape=(6, 5, 2))
    x = L.Conv2D(3, 2, activation="elu")(inputs)
    pooled = [L.GlobalAveragePooling2D()(x), L.GlobalMaxPooling2D(keepdims=False)(x)]
    return lib.Model(inputs, L.Dense(2, activation="sigmoid")(L.Concatenate()(pooled)))


def merged(lib: Any) -> Any:
    L = lib.layers
    a, b = lib.Input(shape=(4,), name="a"), lib.Input(shape=(4,), name="b")
    x, y = L.Dense(5)(a), L.Dense(5)(b)
    kinds = [L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum]
    return lib.Model([a, b], L.Dense(2)(L.Concatenate(axis=1)([kind()([x, y]) for kind in kinds])))


def shared_and_nested(lib: Any) -> Any:
    """Two inputs, two outputs, a layer called twice, a stack and a graph within, each called twice, and a residual."""
    L = lib.layers
    left, right = lib.Input(shape=(7, 6, 2), name="left"), lib.Input(shape=(7, 6, 2), name="right")
    stack = lib.Sequential([L.Conv2D(3, 3), L.BatchNormalization(), L.ReLU(), L.Flatten()], name="stack")
    inner_input = lib.Input(shape=(60,), name="inner_input")
    inner = lib.Model(inner_input, [L.Dense(5)(inner_input), L.Dense(5, activation="tanh")(inner_input)], name="inner")
    shared = L.Dense(5, activation="relu", name="shared")
    first, second = inner(stack(left))
    third, fourth = inner(stack(right))
    x, y = shared(first) + first, shared(third) * second
    return lib.Model(
        [left, right], [L.Dense(3, activation="softmax", name="p")(x), L.Dense(2, name="q")(L.Add()([x, y, fourth]))]
    )


def dicts(lib: Any) -> Any:
    L = lib.layers
    inputs = {"z": lib.Input(shape=(3,), name="z"), "a": lib.Input(shape=(4,), name="a")}
    x = L.Concatenate()([inputs["a"], inputs["z"]])
    return lib.Model(inputs, {"v": L.Dense(2, name="v")(x), "k": L.Dense(3, name="k")(x)})


def operators(lib: Any) -> Any:
    L = lib.layers
    inputs = lib.Input(shape=(4, 6))
    x = inputs[:, 1:3, ::2] * 3.0 - 1.0 / (inputs[:, 0:2, 3:] ** 2.0 + 1.0) + 2.0
    return lib.Model(inputs, L.Dense(2)(L.Flatten()(-x)))


def optioned(lib: Any) -> Any:
    """Initializers, regularizers and constraints of all kinds, and a frozen layer."""
    L, I, R, C = lib.layers, lib.initializers, lib.regularizers, lib.constraints
    return lib.Sequential(
        [
            lib.Input(shape=(8, 7, 2)),
            L.Conv2D(
                4,
                3,
                kernel_initializer=I.HeNormal(seed=3),
                bias_initializer=I.Constant(0.2),
                kernel_regularizer=R.L2(0.03),
                bias_regularizer=R.L1(0.01),
                activity_regularizer=R.L2(0.001),
                kernel_constraint=C.MaxNorm(1.5, axis=[0, 1, 2]),
            ),
            L.BatchNormalization(momentum=0.8, gamma_regularizer="l2", beta_constraint=C.NonNeg()),
            L.Conv2D(3, 2, kernel_initializer=I.VarianceScaling(2.0, "fan_out", "uniform", seed=1), trainable=False),
            L.Flatten(),
            L.Dense(5, kernel_initializer=I.Orthogonal(gain=1.5, seed=2), kernel_constraint=C.UnitNorm(axis=0)),
            L.Dense(
                5,
                kernel_initializer=I.TruncatedNormal(0.1, 0.3, seed=5),
                kernel_regularizer=R.L1L2(0.01, 0.02),
                kernel_constraint=C.MinMaxNorm(0.3, 1.2, rate=0.7),
                bias_initializer=I.RandomUniform(-0.2, 0.3, seed=6),
            ),
            L.Dense(3, kernel_initializer="lecun_normal", bias_initializer=I.RandomNormal(0.1, 0.2, seed=4)),
        ]
    )


NETWORKS = [every_layer, global_pools, merged, shared_and_nested, dicts, operators, optioned]


def some_inputs(model: Any, rng: np.random.Generator, size: int = 4) -> Any:
    def draw(tensor: Any) -> np.ndarray:
        return rng.normal(size=(size, *tensor.shape[1:])).astype(np.float32)

    inputs = getattr(model, "input", model.inputs[0])  # a Sequential of Keras has but `inputs`
    if isinstance(inputs, dict):
        return {name: draw(tensor) for name, tensor in inputs.items()}
    return [draw(tensor) for tensor in inputs] if isinstance(inputs, list) else draw(inputs)


def leaves(nest: Any) -> list[np.ndarray]:
    return flatten(dict(sorted(nest.items())) if isinstance(nest, dict) else nest)


def scramble(model: Any, rng: np.random.Generator) -> None:
    model.set_weights([rng.uniform(-0.4, 0.6, w.shape) ** 2 + 0.01 for w in model.get_weights()])


def assert_equal_predictions(one: Any, other: Any, rng: np.random.Generator) -> None:
    x = some_inputs(one, rng)
    expected, found = leaves(one.predict(x, verbose=0)), leaves(other.predict(x, verbose=0))
    assert len(found) == len(expected)
    for y, z in zip(found, expected, strict=True):
        assert np.ptp(z) > 1e-3  # the network has not died
        np.testing.assert_allclose(y, z, **TOLERANCE)


def names(weights: Any) -> list[list[str]]:
    """Layer and weight; Keras puts the model's name before them."""
    return [weight.path.split("/")[-2:] for weight in weights]


def loaded(library: str, path: Path) -> Any:
    """The model in a file; Keras' own warnings are errors, or it may have left the weights as they were."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return LIBRARIES[library].models.load_model(path)


DIRECTIONS = pytest.mark.parametrize(("writer", "reader"), [("minicnn", "keras"), ("keras", "minicnn")])


@DIRECTIONS
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_keras_files_of_one_library_open_in_the_other(
    network: Callable, writer: str, reader: str, tmp_path, rng
) -> None:
    model = network(LIBRARIES[writer])
    scramble(model, rng)
    model.save(tmp_path / "model.keras")
    other = loaded(reader, tmp_path / "model.keras")
    assert names(other.weights) == names(model.weights)
    assert names(other.trainable_weights) == names(model.trainable_weights)
    assert_equal_predictions(model, other, rng)


@DIRECTIONS
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_a_file_may_go_there_and_back(network: Callable, writer: str, reader: str, tmp_path, rng) -> None:
    model = network(LIBRARIES[writer])
    scramble(model, rng)
    model.save(tmp_path / "model.keras")
    loaded(reader, tmp_path / "model.keras").save(tmp_path / "again.keras")
    again = loaded(writer, tmp_path / "again.keras")
    for one, other in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert_equal_predictions(model, again, rng)


@DIRECTIONS
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_weights_of_one_library_fill_the_other_model(
    network: Callable, writer: str, reader: str, tmp_path, rng
) -> None:
    model, other = network(LIBRARIES[writer]), network(LIBRARIES[reader])
    scramble(model, rng)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    assert_equal_predictions(model, other, rng)


@DIRECTIONS
def test_weights_of_subclassed_models_lie_in_the_same_places(writer: str, reader: str, tmp_path, rng) -> None:
    def make(lib: Any) -> Any:
        L = lib.layers

        class Blocks(lib.Model):
            def __init__(self) -> None:
                super().__init__()
                self.stem = lib.Sequential([L.Dense(4), L.BatchNormalization()])
                self.blocks = [[L.Dense(4), L.Dense(4)], L.Dense(4), [L.Dense(4)], L.LayerNormalization()]
                self.named = {"b": L.Dense(4), "a": L.Dense(4)}
                self.zeta = L.Dense(2)
                self.alias = self.blocks[1]
                self._private = L.Dense(4)

            def call(self, x: Any) -> Any:
                (one, two), three, (four,), norm = self.blocks
                x = self._private(norm(four(three(two(one(self.stem(x)))))))
                return self.zeta(self.named["b"](self.named["a"](self.alias(x))))

        model = Blocks()
        model(np.zeros((2, 3), np.float32))
        return model

    model, other = make(LIBRARIES[writer]), make(LIBRARIES[reader])
    scramble(model, rng)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    x = rng.normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_allclose(other.predict(x, verbose=0), model.predict(x, verbose=0), **TOLERANCE)


# ------------------------------------------------------------------------------------------------- training goes on

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda o: o.SGD(0.05),
    "momentum": lambda o: o.SGD(0.05, momentum=0.9, nesterov=True, clipvalue=0.5),
    "rmsprop": lambda o: o.RMSprop(0.01, momentum=0.5, centered=True),
    "adam": lambda o: o.Adam(0.01, clipnorm=1.0),
    "amsgrad": lambda o: o.Adam(0.01, amsgrad=True, global_clipnorm=2.0),
    "adamw": lambda o: o.AdamW(0.01, weight_decay=0.02),
    "adamax": lambda o: o.Adamax(0.01),
    "nadam": lambda o: o.Nadam(0.01),
    "adagrad": lambda o: o.Adagrad(0.05),
    "adadelta": lambda o: o.Adadelta(1.0),
    "exponential": lambda o: o.Adam(o.schedules.ExponentialDecay(0.01, 2, 0.5)),
    "cosine": lambda o: o.SGD(o.schedules.CosineDecay(0.05, 8, alpha=0.1, warmup_target=0.1, warmup_steps=2)),
    "piecewise": lambda o: o.RMSprop(o.schedules.PiecewiseConstantDecay([1, 3], [0.01, 0.005, 0.001])),
    "polynomial": lambda o: o.SGD(o.schedules.PolynomialDecay(0.05, 6, power=2.0), momentum=0.5),
    "inverse time": lambda o: o.SGD(o.schedules.InverseTimeDecay(0.05, 2, 0.5)),
}


@DIRECTIONS
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_in_the_other_library(name: str, writer: str, reader: str, tmp_path, rng) -> None:
    lib = LIBRARIES[writer]
    inputs = lib.Input(shape=(6, 5, 2))
    x = lib.layers.Conv2D(3, 3, activation="tanh", kernel_regularizer="l2")(inputs)
    x = lib.layers.Flatten()(lib.layers.BatchNormalization()(x))
    outputs = [lib.layers.Dense(3, activation="softmax", name="p")(x), lib.layers.Dense(2, name="q")(x)]
    model = lib.Model(inputs, outputs)
    scramble(model, rng)
    model.compile(
        OPTIMIZERS[name](lib.optimizers),
        loss=["sparse_categorical_crossentropy", lib.losses.Huber()],
        loss_weights=[1.0, 0.5],
        metrics=[["accuracy"], [lib.metrics.MeanAbsoluteError()]],
    )
    data = [
        (
            rng.normal(size=(8, 6, 5, 2)).astype(np.float32),
            [rng.integers(0, 3, 8), rng.normal(size=(8, 2)).astype(np.float32)],
        )
        for _ in range(5)
    ]
    for batch in data[:3]:
        model.train_on_batch(*batch)
    model.save(tmp_path / "model.keras")
    other = loaded(reader, tmp_path / "model.keras")
    for batch in data[3:]:
        model.reset_metrics()
        other.reset_metrics()
        np.testing.assert_allclose(other.train_on_batch(*batch), model.train_on_batch(*batch), rtol=1e-4, atol=1e-5)
    assert int(other.optimizer.iterations) == 5
    for one, peer, weight in zip(other.get_weights(), model.get_weights(), model.weights, strict=True):
        np.testing.assert_allclose(one, peer, rtol=1e-4, atol=2e-5, err_msg=weight.path)


LOSSES: dict[str, Callable[[Any], Any]] = {
    "name": lambda lib: "categorical_crossentropy",
    "short name": lambda lib: "mse",
    "object": lambda lib: lib.losses.CategoricalCrossentropy(label_smoothing=0.1, from_logits=True),
    "function": lambda lib: lib.losses.mean_squared_error,
    "sum": lambda lib: lib.losses.MeanSquaredError(reduction="sum"),
}


@DIRECTIONS
@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_metrics_come_over(name: str, writer: str, reader: str, tmp_path, rng) -> None:
    lib = LIBRARIES[writer]
    model = lib.Sequential([lib.Input(shape=(4,)), lib.layers.Dense(3)])
    model.compile(
        "adam",
        LOSSES[name](lib),
        metrics=["accuracy", "mae", lib.metrics.TopKCategoricalAccuracy(k=2), lib.metrics.Precision(thresholds=0.3)],
        weighted_metrics=[lib.metrics.MeanSquaredError(name="w")],
    )
    x, y = rng.normal(size=(20, 4)).astype(np.float32), np.eye(3, dtype=np.float32)[rng.integers(0, 3, 20)]
    model.save(tmp_path / "model.keras")
    other = loaded(reader, tmp_path / "model.keras")
    weights = rng.uniform(0.5, 2, 20).astype(np.float32)
    expected = model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    found = other.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    assert found.keys() == expected.keys()
    for key in expected:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-4, err_msg=key)


def test_seeds_of_random_layers_in_files_of_other_keras_backends_are_passed_over(tmp_path, rng) -> None:
    h5py = pytest.importorskip("h5py")
    model = keras.Sequential([keras.Input(shape=(4,)), keras.layers.Dropout(0.5), keras.layers.Dense(3)])
    model.save_weights(tmp_path / "model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5", "a") as file:
        file["layers/dropout/seed_generator/vars/0"] = np.array([1, 2], np.uint32)
    ours = minicnn.Sequential([minicnn.Input(shape=(4,)), minicnn.layers.Dropout(0.5), minicnn.layers.Dense(3)])
    ours.load_weights(tmp_path / "model.weights.h5")
    assert_equal_predictions(model, ours, rng)
