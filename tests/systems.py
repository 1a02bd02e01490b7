"""The networks of the teaching texts, spelled as their readers spell them.

Letters and numbers are those of the project's list of systems; `SYSTEMS[name]()` gives the uncompiled model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minicnn import Input, Model, Sequential
from minicnn.initializers import Constant, TruncatedNormal
from minicnn.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
    ReLU,
    Reshape,
    ZeroPadding2D,
    add,
)
from minicnn.regularizers import l2


def a1() -> Model:
    model = Sequential()
    model.add(Conv2D(32, (3, 3), activation="relu", input_shape=(28, 28, 1)))
    model.add(MaxPooling2D((2, 2)))
    model.add(Conv2D(64, (3, 3), activation="relu"))
    model.add(MaxPooling2D((2, 2)))
    model.add(Conv2D(64, (3, 3), activation="relu"))
    return model


def a2() -> Model:
    model = a1()
    model.add(Flatten())
    model.add(Dense(64, activation="relu"))
    model.add(Dense(10, activation="softmax"))
    return model


def a4() -> Model:
    model = Sequential()
    model.add(Conv2D(32, (3, 3), activation="relu", input_shape=(28, 28, 1)))
    model.add(Conv2D(64, (3, 3), activation="relu"))
    model.add(Conv2D(64, (3, 3), activation="relu"))
    return model


def b2() -> Model:
    inputs = Input(shape=(28, 28))
    x = Reshape(target_shape=(28, 28, 1))(inputs)
    x = Conv2D(64, kernel_size=(3, 3), activation="relu")(x)
    x = MaxPooling2D(pool_size=(2, 2))(x)
    x = Flatten()(x)
    x = Dense(256, activation="relu")(x)
    x = Dense(128, activation="relu")(x)
    return Model(inputs=inputs, outputs=Dense(47, activation="softmax")(x))


def b3(regularizer: Any = None, dropout: float = 0.0, normalized: bool = False, conv_dropout: float = 0.2) -> Model:
    """B3, and with options B4 (regularizer), B5 (dropout) and B6 (normalized)."""
    inputs = Input(shape=(28, 28))
    x = Reshape((28, 28, 1))(inputs)
    for filters, padding in ((128, "same"), (64, "valid")):
        for _ in range(2):
            x = Conv2D(filters, (3, 3), padding=padding, activation="relu")(x)
            if normalized:
                x = BatchNormalization()(x)
                x = Dropout(conv_dropout)(x) if conv_dropout else x
        x = MaxPooling2D((2, 2))(x)
        x = Dropout(dropout)(x) if dropout else x
    x = Flatten()(x)
    for units in (256, 128):
        x = Dense(units, activation="relu", kernel_regularizer=regularizer)(x)
        x = Dropout(dropout)(x) if dropout else x
    return Model(inputs, Dense(47, activation="softmax")(x))


def c3() -> Model:
    return Sequential(
        [
            Conv2D(64, 7, activation="relu", padding="same", input_shape=[28, 28, 1]),
            MaxPooling2D(2),
            Conv2D(128, 3, activation="relu", padding="same"),
            Conv2D(128, 3, activation="relu", padding="same"),
            MaxPooling2D(2),
            Conv2D(256, 3, activation="relu", padding="same"),
            Conv2D(256, 3, activation="relu", padding="same"),
            MaxPooling2D(2),
            Flatten(),
            Dense(128, activation="relu"),
            Dropout(0.5),
            Dense(64, activation="relu"),
            Dropout(0.5),
            Dense(10, activation="softmax"),
        ]
    )


def d1_by_add() -> Model:
    model = Sequential()
    model.add(Dense(10, input_shape=(13,)))
    model.add(ReLU())
    model.add(Dense(10))
    model.add(ReLU())
    model.add(Dense(1))
    return model


def d1_by_list() -> Model:
    return Sequential([Dense(10, activation="relu", input_shape=(13,)), Dense(10, activation="relu"), Dense(1)])


def d1_functional() -> Model:
    inputs = Input((13,))
    x = ReLU()(Dense(10)(inputs))
    x = ReLU()(Dense(10)(x))
    return Model(inputs, Dense(1)(x))


def mlp(inputs: int, outputs: int, activation: str) -> Model:
    """D2, D3 and D4."""
    layers = [Dense(10, activation="relu", input_shape=(inputs,)), Dense(10, activation="relu")]
    return Sequential([*layers, Dense(outputs, activation=activation)])


def d5() -> Model:
    inputs = Input((3,))
    x = Dense(10, activation="relu")(inputs)
    x = Dense(10, activation="relu")(x)
    return Model(inputs, [Dense(5, activation="softmax")(x), Dense(2, activation="softmax")(x)])


def d6(dropout: float = 0.0) -> Model:
    """D6, and with dropout D7 (between the dense layer and its activation)."""
    model = Sequential()
    model.add(Flatten(input_shape=(28, 28)))
    for _ in range(2):
        model.add(Dense(512))
        if dropout:
            model.add(Dropout(dropout))
        model.add(ReLU())
    model.add(Dense(10, activation="softmax"))
    return model


def d9() -> Model:
    model = Sequential()
    model.add(
        Conv2D(16, kernel_size=(3, 3), strides=(2, 2), padding="same", activation="relu", input_shape=(128, 128, 1))
    )
    model.add(MaxPooling2D(pool_size=(2, 2), strides=(2, 2)))
    model.add(Flatten())
    model.add(Dense(512, activation="relu"))
    model.add(Dense(26, activation="softmax"))
    return model


def d11() -> Model:
    def residual_block(n_filters: int, x: Any) -> Any:
        shortcut = x
        x = Conv2D(n_filters, (3, 3), strides=(1, 1), padding="same", activation="relu")(x)
        x = Conv2D(n_filters, (3, 3), strides=(1, 1), padding="same", activation="relu")(x)
        return add([shortcut, x])

    def conv_block(n_filters: int, x: Any) -> Any:
        x = Conv2D(n_filters, (3, 3), strides=(2, 2), padding="same", activation="relu")(x)
        return Conv2D(n_filters, (3, 3), strides=(2, 2), padding="same", activation="relu")(x)

    inputs = Input(shape=(224, 224, 3))
    x = Conv2D(64, kernel_size=(7, 7), strides=(2, 2), padding="same", activation="relu")(inputs)
    x = MaxPooling2D(pool_size=(3, 3), strides=(2, 2), padding="same")(x)
    for filters, blocks in ((64, 2), (128, 3), (256, 5), (512, 2)):
        if filters > 64:
            x = conv_block(filters, x)
        for _ in range(blocks):
            x = residual_block(filters, x)
    x = GlobalAveragePooling2D()(x)
    return Model(inputs, Dense(1000, activation="softmax")(x))


def d13(version: str) -> Model:
    """ResNet50: v1 strides in the first 1x1 convolution, v1.5 in the 3x3, v2 normalizes before each convolution."""

    def normalized(x: Any, *args: Any, relu: bool = True, **options: Any) -> Any:
        if version == "v2":
            x = ReLU()(BatchNormalization()(x))
            return Conv2D(*args, **options)(x)
        x = BatchNormalization()(Conv2D(*args, **options)(x))
        return ReLU()(x) if relu else x

    def bottleneck(x: Any, filters: int, strides: tuple[int, int], project: bool) -> Any:
        shortcut = normalized(x, 4 * filters, (1, 1), strides=strides, relu=False) if project else x
        first, second = ((1, 1), strides) if version == "v1.5" else (strides, (1, 1))
        x = normalized(x, filters, (1, 1), strides=first)
        x = normalized(x, filters, (3, 3), strides=second, padding="same")
        x = normalized(x, 4 * filters, (1, 1), relu=False)
        x = add([x, shortcut])
        return x if version == "v2" else ReLU()(x)

    inputs = Input((224, 224, 3))
    x = ZeroPadding2D((3, 3))(inputs)
    x = ReLU()(BatchNormalization()(Conv2D(64, (7, 7), strides=(2, 2))(x)))
    x = ZeroPadding2D((1, 1))(x)
    x = MaxPooling2D((3, 3), strides=(2, 2))(x)
    for filters, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for i in range(blocks):
            x = bottleneck(x, filters, (2, 2) if i == 0 and filters > 64 else (1, 1), project=i == 0)
    if version == "v2":
        x = ReLU()(BatchNormalization()(x))
    x = GlobalAveragePooling2D()(x)
    return Model(inputs, Dense(1000, activation="softmax")(x))


def d14(dropout: float = 0.0) -> Model:
    model = Sequential()
    model.add(Conv2D(32, (3, 3), activation="relu", input_shape=(32, 32, 3)))
    model.add(MaxPooling2D((2, 2)))
    if dropout:
        model.add(Dropout(dropout))
    model.add(Flatten())
    model.add(Dense(10, activation="softmax"))
    return model


def d15() -> Model:
    model = Sequential()
    model.add(Conv2D(32, (3, 3), activation="relu", input_shape=(32, 32, 3)))
    model.add(Conv2D(64, (3, 3), activation="relu"))
    model.add(MaxPooling2D((2, 2)))
    model.add(Flatten())
    model.add(Dense(128, activation="relu"))
    model.add(Dense(10, activation="softmax"))
    return model


def d16() -> Model:
    model = Sequential()
    model.add(Flatten(input_shape=(28, 28)))
    for _ in range(41):
        model.add(Dense(64, activation="relu"))
    model.add(Dense(10, activation="softmax"))
    return model


def e4() -> Model:
    model = Sequential()
    model.add(Dense(512, input_dim=784, activation="relu"))
    model.add(Dropout(0.2))
    model.add(Dense(512, activation="relu"))
    model.add(Dropout(0.2))
    model.add(Dense(10, activation="softmax"))
    return model


def e6() -> Model:
    model = Sequential()
    for i, filters in enumerate((16, 32, 64, 32)):
        first = {"input_shape": (32, 32, 3)} if i == 0 else {}
        model.add(Conv2D(filters=filters, kernel_size=2, padding="same", activation="relu", **first))
        model.add(MaxPooling2D(pool_size=2))
    model.add(Dropout(0.3))
    model.add(Flatten())
    model.add(Dense(500, activation="relu"))
    model.add(Dropout(0.4))
    model.add(Dense(10, activation="softmax"))
    return model


def e10() -> Model:
    start = {"kernel_initializer": TruncatedNormal(stddev=0.05), "bias_initializer": Constant(0.05)}
    model = Sequential([Input((128, 128, 3))])
    for filters in (32, 32, 64):
        model.add(Conv2D(filters, 3, padding="same", **start))
        model.add(MaxPooling2D(2))
        model.add(Activation("relu"))
    model.add(Flatten())
    model.add(Dense(128, activation="relu", **start))
    model.add(Dense(2, activation="softmax", **start))
    return model


def e11() -> Model:
    model = Sequential()
    model.add(Conv2D(128, (6, 6), padding="same", activation="relu", input_shape=(32, 32, 3)))
    model.add(BatchNormalization())
    model.add(MaxPooling2D((2, 2)))
    model.add(Conv2D(256, (4, 4), strides=2, padding="same", activation="relu"))
    model.add(BatchNormalization())
    model.add(MaxPooling2D((2, 2)))
    model.add(Flatten())
    model.add(Dense(512, activation="relu"))
    model.add(BatchNormalization())
    model.add(Dropout(0.25))
    model.add(Dense(62, activation="softmax"))
    return model


SYSTEMS: dict[str, Callable[[], Model]] = {
    "A1": a1,
    "A2": a2,
    "A3": a2,
    "A4": a4,
    "B2": b2,
    "B3": b3,
    "B4": lambda: b3(regularizer=l2(0.001)),
    "B5": lambda: b3(dropout=0.2),
    "B6": lambda: b3(normalized=True),
    "C3": c3,
    "D1 by add": d1_by_add,
    "D1 by list": d1_by_list,
    "D1 functional": d1_functional,
    "D2": lambda: mlp(13, 1, "sigmoid"),
    "D3": lambda: mlp(4, 5, "softmax"),
    "D4": lambda: mlp(3, 7, "sigmoid"),
    "D5": d5,
    "D6": d6,
    "D7": lambda: d6(dropout=0.5),
    "D8": d6,
    "D9": d9,
    "D11": d11,
    "D13 v1": lambda: d13("v1"),
    "D13 v1.5": lambda: d13("v1.5"),
    "D13 v2": lambda: d13("v2"),
    "D14": d14,
    "D14 with dropout": lambda: d14(dropout=0.5),
    "D15": d15,
    "D16": d16,
    "E4": e4,
    "E6": e6,
    "E10": e10,
    "E11": e11,
}
