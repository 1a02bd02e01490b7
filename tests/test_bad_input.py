"""Bad input, as a user gives it: each mistake is an error at the call that was wrong, which says how to mend it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import Input, Sequential, functional, layers
from minicnn import optimizers as optimizers_module

X = np.random.default_rng(0).random((6, 8, 8, 1), dtype=np.float32)
INTEGERS = np.array([0, 1, 2, 0, 1, 2])
ONE_HOT = np.eye(3, dtype=np.float32)[INTEGERS]


def classifier(loss: Any = "categorical_crossentropy", optimizer: Any = "sgd") -> minicnn.Model:
    model = Sequential([Input((8, 8, 1)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3, activation="softmax")])
    model.compile(optimizer=optimizer, loss=loss)
    return model


def fit(x: Any, y: Any, loss: str = "categorical_crossentropy", **options: Any) -> Any:
    return classifier(loss).fit(x, y, verbose=0, **options)


WITH_NAN = X.copy()
WITH_NAN[4, 2, 2, 0] = np.nan

MISTAKES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "wrong rank": (lambda: fit(X[..., 0, 0], ONE_HOT), ValueError, r"8, 8, 1.*Received: .*\(.*, 8\)"),
    "wrong size": (lambda: fit(X[:, :5], ONE_HOT), ValueError, r"Received: .*5, 8, 1"),
    "wrong channels": (
        lambda: functional.conv2d(minicnn.ones(1, 5, 5, 3), minicnn.ones(3, 3, 2, 4)),
        ValueError,
        "Received",
    ),
    "different lengths": (lambda: fit(X, ONE_HOT[:4]), ValueError, "6.*4|4.*6"),
    "unknown activation": (lambda: layers.Dense(3, activation="rellu"), ValueError, "Did you mean 'relu'"),
    "unknown loss": (lambda: classifier("categorical_crossentropi"), ValueError, "Did you mean 'categorical_cross"),
    "unknown optimizer": (lambda: classifier(optimizer="addam"), ValueError, "Did you mean 'adam'"),
    "unknown initializer": (
        lambda: layers.Dense(3, kernel_initializer="he_nornal"), ValueError, "Did you mean 'he_normal'"
    ),
    "unknown metric": (lambda: fit_metric("acuracy"), ValueError, "Did you mean"),
    "unknown backend": (lambda: minicnn.use_backend("cuda"), ValueError, "backend must be one of"),
    "integer labels to the dense loss": (lambda: fit(X, INTEGERS), ValueError, "sparse_categorical_crossentropy"),
    "one-hot labels to the sparse loss": (
        lambda: fit(X, ONE_HOT, "sparse_categorical_crossentropy"),
        ValueError,
        "(?s)Received.*categorical_crossentropy|categorical_crossentropy.*Received",
    ),
    "a label too large": (lambda: fit(X, INTEGERS + 1, "sparse_categorical_crossentropy"), ValueError, "3"),
    "NaN in the data": (lambda: fit(WITH_NAN, ONE_HOT, check_nan=True), ValueError, "row 4"),
    "empty data": (lambda: fit(X[:0], ONE_HOT[:0]), ValueError, "x has no rows"),
    "empty batch": (
        lambda: functional.conv2d(minicnn.zeros(0, 5, 5, 1), minicnn.ones(3, 3, 1, 1)), ValueError, "0, 5, 5"
    ),
    "float16": (lambda: fit(X.astype(np.float16), ONE_HOT), TypeError, "float16"),
    "strings": (lambda: fit(np.array([["a"] * 3] * 6), ONE_HOT), TypeError, "Received"),
    "integers where numbers are convolved": (
        lambda: functional.conv2d(minicnn.tensor(np.ones((1, 5, 5, 1), int)), minicnn.ones(3, 3, 1, 1)),
        TypeError,
        "float32",
    ),
    "a kernel of size 0": (lambda: layers.Conv2D(2, (3, 0)), ValueError, r"Received: .*\(3, 0\)"),
    "a window larger than the image": (
        lambda: functional.max_pool2d(minicnn.ones(1, 3, 3, 1), 4),
        ValueError,
        "Received",
    ),
    "a negative rate": (lambda: optimizers_module.SGD(-1.0), ValueError, "learning_rate.*Received: -1"),
    "a rate of dropout above 1": (lambda: layers.Dropout(1.5), ValueError, "Received: .*1.5"),
    "fit before compile": (lambda: Sequential([Input((2,)), layers.Dense(1)]).fit(X, X), ValueError, "compile"),
    "weights that do not fit": (lambda: classifier().set_weights([np.zeros(3)]), ValueError, "Received: 1"),
    "no such layer": (lambda: classifier().get_layer("dens"), ValueError, "Did you mean"),
}  # fmt: skip


def fit_metric(name: str) -> Any:
    model = classifier()
    model.compile("sgd", "categorical_crossentropy", metrics=[name])
    return model.fit(X, ONE_HOT, verbose=0)


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_and_the_mend_is_told(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert len(str(caught.value)) > 30


def test_integer_pictures_are_taken_as_numbers() -> None:
    """The texts feed 0 ... 255 as bytes: a model casts its inputs."""
    model = classifier()
    pictures = (X * 255).astype(np.uint8)
    np.testing.assert_array_equal(
        model.predict(pictures, verbose=0), model.predict(pictures.astype(np.float32), verbose=0)
    )


def test_after_a_fit_that_raised_the_model_can_be_fitted_again() -> None:
    model = classifier()
    with pytest.raises(ValueError, match="sparse_categorical_crossentropy"):
        model.fit(X, INTEGERS, verbose=0)
    history = model.fit(X, ONE_HOT, epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2
