"""Small classifiers of the teaching texts. Each takes the shape of one picture and the number of classes.

All end in a softmax over the classes and are returned uncompiled, with fresh weights.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, TypeAlias

from minicnn.layers import (
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    Layer,
    MaxPooling2D,
)
from minicnn.models import Sequential
from minicnn.regularizers import L2

PictureShape: TypeAlias = tuple[int, int, int]
"""Height, width, channels."""


def first_convnet(input_shape: PictureShape = (28, 28, 1), classes: int = 10) -> Sequential:
    """Three convolutions, two poolings, two dense layers: the first convnet of many a book. 93,322 weights on MNIST."""
    return Sequential(
        [
            Input(input_shape),
            Conv2D(32, 3, activation="relu"),
            MaxPooling2D(2),
            Conv2D(64, 3, activation="relu"),
            MaxPooling2D(2),
            Conv2D(64, 3, activation="relu"),
            Flatten(),
            Dense(64, activation="relu"),
            Dense(classes, activation="softmax"),
        ],
        name="first_convnet",
    )


def mlp(input_shape: PictureShape = (28, 28, 1), classes: int = 10, dropout: float = 0.0) -> Sequential:
    """Two dense layers of 512, and no convolution at all. 669,706 weights on MNIST.

    dropout: rate after each hidden layer; 0 leaves dropout out.
    """
    layers: list[Any] = [Input(input_shape), Flatten()]
    for _ in range(2):
        layers.append(Dense(512, activation="relu"))
        if dropout:
            layers.append(Dropout(dropout))
    return Sequential([*layers, Dense(classes, activation="softmax")], name="mlp")


def lenet5(input_shape: PictureShape = (28, 28, 1), classes: int = 10) -> Sequential:
    """LeNet-5 as it is built today: tanh convolutions, average pooling, softmax (LeCun et al. 1998 had RBF outputs)."""
    return Sequential(
        [
            Input(input_shape),
            Conv2D(6, 5, padding="same", activation="tanh"),
            AveragePooling2D(2),
            Conv2D(16, 5, activation="tanh"),
            AveragePooling2D(2),
            Flatten(),
            Dense(120, activation="tanh"),
            Dense(84, activation="tanh"),
            Dense(classes, activation="softmax"),
        ],
        name="lenet5",
    )


def small_cnn(input_shape: PictureShape = (28, 28, 1), classes: int = 47) -> Sequential:
    """One convolution, then dense layers. 2,808,751 weights for the 47 classes of EMNIST."""
    return Sequential(
        [
            Input(input_shape),
            Conv2D(64, 3, activation="relu"),
            MaxPooling2D(2),
            Flatten(),
            Dense(256, activation="relu"),
            Dense(128, activation="relu"),
            Dense(classes, activation="softmax"),
        ],
        name="small_cnn",
    )


def deep_cnn(
    input_shape: PictureShape = (28, 28, 1),
    classes: int = 47,
    l2: float = 0.0,
    dropout: float = 0.0,
    batch_norm: bool = False,
) -> Sequential:
    """Four convolutions without padding in pairs, then dense layers. 708,399 weights for the 47 classes of EMNIST.

    l2: penalty on the hidden dense layers' weights. dropout: rate after each pooling and between dense layers; with
    batch_norm both batch normalization and dropout follow each convolution instead.
    """
    layers: list[Any] = [Input(input_shape)]
    for filters, padding in ((128, "same"), (64, "valid")):
        for _ in range(2):
            layers.append(Conv2D(filters, 3, padding=padding, activation="relu"))
            if batch_norm:
                layers.append(BatchNormalization())
                layers += _dropout(dropout)
        layers.append(MaxPooling2D(2))
        if not batch_norm:
            layers += _dropout(dropout)
    layers.append(Flatten())
    for units in (256, 128):
        layers.append(Dense(units, activation="relu", kernel_regularizer=L2(l2) if l2 else None))
        if not batch_norm:
            layers += _dropout(dropout)
    return Sequential([*layers, Dense(classes, activation="softmax")], name="deep_cnn")


def _dropout(rate: float) -> list[Layer]:
    return [Dropout(rate)] if rate else []


def fashion_cnn(input_shape: PictureShape = (28, 28, 1), classes: int = 10) -> Sequential:
    """Five convolutions of growing width and two dropouts. 1,413,834 weights on Fashion-MNIST."""
    layers: list[Any] = [
        Input(input_shape),
        Conv2D(64, 7, padding="same", activation="relu"),
        MaxPooling2D(2),
    ]
    for filters in (128, 256):
        layers += [Conv2D(filters, 3, padding="same", activation="relu") for _ in range(2)]
        layers.append(MaxPooling2D(2))
    layers.append(Flatten())
    for units in (128, 64):
        layers += [Dense(units, activation="relu"), Dropout(0.5)]
    return Sequential([*layers, Dense(classes, activation="softmax")], name="fashion_cnn")


def cifar_cnn(input_shape: PictureShape = (32, 32, 3), classes: int = 10) -> Sequential:
    """Two convolutions and a wide dense layer, which learn CIFAR-10 by heart. 1,626,442 weights."""
    return Sequential(
        [
            Input(input_shape),
            Conv2D(32, 3, activation="relu"),
            Conv2D(64, 3, activation="relu"),
            MaxPooling2D(2),
            Flatten(),
            Dense(128, activation="relu"),
            Dense(classes, activation="softmax"),
        ],
        name="cifar_cnn",
    )


NETWORKS: dict[str, Callable[..., Sequential]] = {
    network.__name__: network for network in (first_convnet, mlp, lenet5, small_cnn, deep_cnn, fashion_cnn, cifar_cnn)
}
"""All networks by name."""


def build_network(name: str, input_shape: PictureShape, classes: int) -> Sequential:
    """The network of that name for pictures of a shape.

    Raises ValueError for an unknown name, with the nearest known one.
    """
    if name not in NETWORKS:
        close = difflib.get_close_matches(name, NETWORKS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"model must be one of {list(NETWORKS)}. Received: {name!r}.{hint}")
    return NETWORKS[name](input_shape, classes)
