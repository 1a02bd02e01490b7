"""Training against Keras: the same weights and batches give the same losses, logs and weights, step by step."""

from __future__ import annotations

import json
import os
import re
import warnings
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest

import minicnn

keras = pytest.importorskip("keras", reason="needs keras")
torch = pytest.importorskip("torch", reason="needs torch")

STEPS = 50


def convnet(api: Any) -> Any:
    """A small A2: convolutions, pooling, dense layers."""
    stack = api.layers
    return api.Sequential(
        [
            api.Input((14, 14, 1)),
            stack.Conv2D(8, 3, activation="relu"),
            stack.MaxPooling2D(2),
            stack.Conv2D(12, 3, activation="relu"),
            stack.Flatten(),
            stack.Dense(16, activation="relu"),
            stack.Dense(5, activation="softmax"),
        ]
    )


def normalized(api: Any) -> Any:
    """A small B6 with its batch norm kept and its dropout left out, and an L2 penalty."""
    stack = api.layers
    return api.Sequential(
        [
            api.Input((14, 14, 1)),
            stack.Conv2D(8, 3, padding="same", activation="relu"),
            stack.BatchNormalization(),
            stack.MaxPooling2D(2),
            stack.Conv2D(12, 3, activation="relu"),
            stack.BatchNormalization(),
            stack.Flatten(),
            stack.Dense(16, activation="relu", kernel_regularizer="l2"),
            stack.Dense(5, activation="softmax"),
        ]
    )


def branched(api: Any) -> Any:
    """Two inputs, a shared layer, a residual sum, a model within, two outputs."""
    stack = api.layers
    image, extra = api.Input((14, 14, 1), name="image"), api.Input((3,), name="extra")
    x = stack.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="stem")(image)
    y = stack.Conv2D(6, 3, padding="same", name="body")(x)
    x = stack.Add(name="residual")([stack.BatchNormalization(name="norm")(y), x])
    shared = stack.Conv2D(4, 3, activation="relu", name="shared")
    x = stack.Concatenate(name="both")([shared(x), shared(y)])
    inner = api.Sequential([api.Input((8,)), stack.Dense(7, activation="tanh", name="within")], name="inner")
    x = inner(stack.GlobalAveragePooling2D(name="pool")(x))
    x = stack.Concatenate(name="joined")([x, extra])
    return api.Model(
        [image, extra],
        [stack.Dense(5, activation="softmax", name="kind")(x), stack.Dense(2, name="box")(x)],
    )


MODELS = {"convnet": convnet, "normalized": normalized, "branched": branched}


def both(name: str, **options: Any) -> tuple[Any, Any]:
    """The model in minicnn and in Keras with the same weights, compiled alike."""
    keras.utils.set_random_seed(5)
    ours, theirs = MODELS[name](minicnn), MODELS[name](keras)
    ours.set_weights(theirs.get_weights())
    for api, model in ((minicnn, ours), (keras, theirs)):
        made = {**options, "optimizer": api.optimizers.get(options["optimizer"])}
        model.compile(**made)
    return ours, theirs


def image_data(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(0, 5, rows)
    images = rng.normal(0, 0.5, size=(rows, 14, 14, 1))
    images[np.arange(rows), labels * 2] += 1.0  # a bar whose height tells the class
    return images.astype(np.float32), labels


def branched_data(rng: np.random.Generator, rows: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    images, labels = image_data(rng, rows)
    extra = rng.normal(size=(rows, 3)).astype(np.float32)
    return [images, extra], [labels, extra[:, :2] * 2]


def loss_curves(name: str, optimizer: str, rng: np.random.Generator) -> np.ndarray:
    """Loss and accuracy of each step: (library, step, 2)."""
    ours, theirs = both(name, optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = image_data(rng, 16 * STEPS)
    return np.array(
        [
            [np.asarray(model.train_on_batch(x[i : i + 16], y[i : i + 16])) for i in range(0, len(x), 16)]
            for model in (ours, theirs)
        ]
    )


@pytest.mark.parametrize(("name", "optimizer"), [("convnet", "rmsprop"), ("convnet", "sgd"), ("normalized", "rmsprop")])
def test_loss_curve_of_50_steps_equals_keras(name: str, optimizer: str, rng: np.random.Generator) -> None:
    ours, theirs = loss_curves(name, optimizer, rng)
    np.testing.assert_allclose(ours[:, 0], theirs[:, 0], rtol=1e-4)
    np.testing.assert_allclose(ours[:, 1], theirs[:, 1], atol=1e-6)
    assert ours[-1, 0] < 0.95 * ours[0, 0]


def test_loss_curve_of_several_outputs_equals_keras(rng: np.random.Generator) -> None:
    ours, theirs = both(
        "branched",
        optimizer="adam",
        loss={"kind": "sparse_categorical_crossentropy", "box": "mse"},
        loss_weights={"kind": 1.0, "box": 0.3},
        metrics={"kind": ["accuracy"], "box": ["mae"]},
    )
    x, y = branched_data(rng, 16 * STEPS)
    for start in range(0, 16 * STEPS, 16):
        rows = slice(start, start + 16)
        mine, other = (
            model.train_on_batch([part[rows] for part in x], [part[rows] for part in y], return_dict=True)
            for model in (ours, theirs)
        )
        assert set(mine) == set(other)
        for key, value in other.items():
            assert mine[key] == pytest.approx(float(value), rel=1e-4, abs=1e-6), (start, key)
    for one, another in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, another, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"validation_split": 0.3},
        {"class_weight": {0: 2.0, 3: 0.5}},
        {"sample_weight": np.linspace(0, 2, 50)},
        {"steps_per_epoch": 2},
        {"validation_data": "rows and weights", "validation_freq": 2, "batch_size": 20},
    ],
    ids=lambda options: next(iter(options)),
)
def test_history_of_fit_equals_keras(options: dict[str, Any], rng: np.random.Generator) -> None:
    ours, theirs = both(
        "convnet",
        optimizer="adam",
        loss="sparse_categorical_crossentropy",
        metrics=["acc"],
        weighted_metrics=["sparse_categorical_crossentropy"],
    )
    x, y = image_data(rng, 50)
    if "validation_data" in options:
        options = {**options, "validation_data": (x[:9], y[:9], np.linspace(0, 1, 9))}
    run = {"epochs": 4, "shuffle": False, "verbose": 0, "batch_size": 12, **options}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*ran out of data|.*the data ran out")  # 5 batches, 8 steps
        mine, other = (model.fit(x, y, **run).history for model in (ours, theirs))
    assert set(mine) == set(other)
    for key, values in other.items():
        np.testing.assert_allclose(mine[key], values, rtol=1e-4, err_msg=key)


def test_evaluate_and_predict_equal_keras(rng: np.random.Generator) -> None:
    ours, theirs = both("normalized", optimizer="sgd", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = image_data(rng, 45)
    np.testing.assert_allclose(ours.evaluate(x, y, verbose=0), theirs.evaluate(x, y, verbose=0), rtol=1e-5)
    np.testing.assert_allclose(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), rtol=1e-4, atol=1e-6)


# --------------------------------------------------------------------------------------------------- structure


@pytest.mark.parametrize("name", MODELS)
def test_layers_and_weights_come_in_keras_order(name: str) -> None:
    ours, theirs = MODELS[name](minicnn), MODELS[name](keras)
    if name == "branched":  # the other's names are made by counting, which differs between libraries
        assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    assert [weight.shape for weight in ours.weights] == [tuple(weight.shape) for weight in theirs.weights]
    assert [weight.name for weight in ours.weights] == [weight.name for weight in theirs.weights]


@pytest.mark.parametrize("name", MODELS)
def test_summary_counts_equal_keras(name: str) -> None:
    totals = []
    for api in (minicnn, keras):
        lines: list[str] = []
        MODELS[name](api).summary(print_fn=lines.append)
        totals.append(re.findall(r"(Total|Trainable|Non-trainable) params: ([\d,]+)", "\n".join(lines)))
    assert len(totals[0]) == 3
    assert totals[0] == totals[1]


def plain(config: Any) -> Any:
    return json.loads(json.dumps(config))


@pytest.mark.parametrize("name", MODELS)
def test_keras_reads_our_config_and_we_read_keras(name: str, rng: np.random.Generator) -> None:
    ours, theirs = MODELS[name](minicnn), MODELS[name](keras)
    x, _ = (branched_data if name == "branched" else image_data)(rng, 3)
    revived = type(theirs).from_config(plain(ours.get_config()))
    adopted = type(ours).from_config(plain(theirs.get_config()))
    for model in (ours, revived, adopted):
        model.set_weights(theirs.get_weights())
    expected = keras.tree.flatten(theirs.predict(x, verbose=0))
    for model in (ours, revived, adopted):
        for output, wanted in zip(keras.tree.flatten(model.predict(x, verbose=0)), expected, strict=True):
            np.testing.assert_allclose(output, wanted, rtol=1e-4, atol=1e-6)


def test_a_functional_model_as_output_of_another_has_keras_numbering() -> None:
    def nested(api: Any) -> Any:
        x = api.Input((4,), name="within")
        inner = api.Model(x, api.layers.Dense(3, name="dense")(x), name="inner")
        a, b = api.Input((4,), name="a"), api.Input((4,), name="b")
        return api.Model([a, b], [inner(a), inner(b)], name="outer")

    ours, theirs = nested(minicnn).get_config(), nested(keras).get_config()
    assert plain(ours["output_layers"]) == plain(theirs["output_layers"])
    revived = keras.Model.from_config(plain(ours))
    assert [output.shape for output in revived.outputs] == [(None, 3), (None, 3)]
    assert minicnn.Model.from_config(plain(theirs)).output_shape == [(None, 3), (None, 3)]


def test_compile_config_is_read_by_keras_and_read_from_keras(rng: np.random.Generator) -> None:
    ours, theirs = convnet(minicnn), convnet(keras)
    ours.set_weights(theirs.get_weights())
    ours.compile(
        minicnn.optimizers.Adam(0.002),
        minicnn.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy", minicnn.metrics.SparseTopKCategoricalAccuracy(2)],
    )
    theirs.compile_from_config(plain(ours.get_compile_config()))
    adopted = convnet(minicnn)
    adopted.set_weights(theirs.get_weights())
    adopted.compile_from_config(plain(keras.saving.serialize_keras_object(theirs)["compile_config"]))
    x, y = image_data(rng, 20)
    expected = theirs.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(ours.evaluate(x, y, verbose=0), expected, rtol=1e-5)
    np.testing.assert_allclose(adopted.evaluate(x, y, verbose=0), expected, rtol=1e-5)
    assert adopted.optimizer.learning_rate == pytest.approx(0.002)
