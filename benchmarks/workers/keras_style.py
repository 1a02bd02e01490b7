"""A network in Keras' functional style, for the two frameworks that speak it: minicnn and Keras itself."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks import networks
from benchmarks.networks import Network, Node


def build(network: Network, layers: ModuleType, model: Callable[..., Any], scale: type) -> Any:
    """The model with the benchmark's initial weights. `scale`: a layer class for op "scale"."""
    start = layers.Input(tuple(network["input_shape"]))
    values: list[Any] = []
    made: list[Any] = []
    for node in network["nodes"]:
        sources = [start if i < 0 else values[i] for i in node["from"]]
        made.append(_layer(node, layers, scale))
        values.append(made[-1](sources if node["op"] == "add" else sources[0]))
    built = model(start, values[-1])
    for layer, node, weights in zip(made, network["nodes"], networks.initial_weights(network), strict=True):
        if weights:
            arrays = list(weights.values())
            if node["op"] == "depthwise_conv2d":
                arrays[0] = np.swapaxes(arrays[0], 2, 3)  # (KH, KW, C, 1)
            layer.set_weights(arrays)
    return built


def _layer(node: Node, layers: ModuleType, scale: type) -> Any:
    match node["op"]:
        case "conv2d":
            return layers.Conv2D(
                node["filters"],
                node["kernel"],
                strides=node["strides"],
                padding=node["padding"],
                activation=node["activation"],
                use_bias=node["bias"],
            )
        case "depthwise_conv2d":
            return layers.DepthwiseConv2D(
                node["kernel"], strides=node["strides"], padding=node["padding"], use_bias=node["bias"]
            )
        case "max_pool2d":
            return layers.MaxPooling2D(node["size"], strides=node["strides"], padding=node["padding"])
        case "avg_pool2d":
            return layers.AveragePooling2D(node["size"], strides=node["strides"], padding=node["padding"])
        case "dense":
            return layers.Dense(node["units"], activation=node["activation"])
        case "activation":
            return layers.Activation(node["name"])
        case "dropout":
            return layers.Dropout(node["rate"])
        case "scale":
            return scale()
    plain = {
        "batch_norm": layers.BatchNormalization,
        "flatten": layers.Flatten,
        "global_avg_pool2d": layers.GlobalAveragePooling2D,
        "add": layers.Add,
    }
    return plain[node["op"]]()


def optimizer(network: Network, optimizers: ModuleType) -> Any:
    options = {name: value for name, value in network["optimizer"].items() if name != "name"}
    names = {"adam": "Adam", "nadam": "Nadam", "rmsprop": "RMSprop", "sgd": "SGD"}
    if network["optimizer"]["name"] == "rmsprop":
        options["epsilon"] = 1e-14  # see benchmarks.networks
    return getattr(optimizers, names[network["optimizer"]["name"]])(**options)


def compiled(network: Network, built: Any, optimizers: ModuleType, **options: Any) -> Any:
    """The model, ready for `train_on_batch`, as the texts compile it."""
    built.compile(optimizer=optimizer(network, optimizers), loss="sparse_categorical_crossentropy", **options)
    return built
