"""Each network once, as plain data that every framework's worker builds from; its shapes, weights and FLOPs.

A network is {"name", "input_shape" (H, W, C), "classes", "optimizer", "nodes"}; a node {"op", options, "from": indices
of the nodes it reads (-1: the input)}. Padding "same" is Keras': the odd row and column at the bottom and right.

Letters are those of the project's list of systems. C4 is LeNet-5 with its trainable pooling coefficients (op "scale")
and a softmax in place of the ten RBF outputs. RMSprop's epsilon is 1e-14 inside the root in minicnn and Keras, 1e-7
outside of it in the others, which is the same for all gradients that are not vanishing, so that losses can be compared.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Node = dict[str, Any]
Network = dict[str, Any]
Shape = tuple[int, ...]
Weights = list[dict[str, np.ndarray[Any, Any]]]


class _Builder:
    """Collects nodes; each reads the one before unless told otherwise."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def add(self, op: str, *sources: int, **options: Any) -> int:
        self.nodes.append({"op": op, "from": list(sources or (len(self.nodes) - 1,)), **options})
        return len(self.nodes) - 1

    def conv(
        self, filters: int, kernel: int, strides: int = 1, padding: str = "valid", *sources: int, **opt: Any
    ) -> int:
        options = {"activation": None, "bias": True, **opt}
        return self.add("conv2d", *sources, filters=filters, kernel=kernel, strides=strides, padding=padding, **options)

    def depthwise(self, kernel: int, strides: int = 1) -> int:
        return self.add("depthwise_conv2d", kernel=kernel, strides=strides, padding="same", activation=None, bias=False)

    def pool(self, kind: str, size: int = 2, strides: int | None = None, padding: str = "valid") -> int:
        return self.add(f"{kind}_pool2d", size=size, strides=strides or size, padding=padding)

    def dense(self, units: int, activation: str | None = "relu") -> int:
        return self.add("dense", units=units, activation=activation, bias=True)

    def network(self, name: str, input_shape: Shape, classes: int, optimizer: dict[str, Any]) -> Network:
        self.dense(classes, "softmax")
        return {
            "name": name,
            "input_shape": list(input_shape),
            "classes": classes,
            "optimizer": optimizer,
            "nodes": self.nodes,
        }


ADAM = {"name": "adam", "learning_rate": 1e-3}
NADAM = {"name": "nadam", "learning_rate": 1e-3}
RMSPROP = {"name": "rmsprop", "learning_rate": 1e-3}
SGD = {"name": "sgd", "learning_rate": 1e-2, "momentum": 0.9}
SLOW_SGD = {**SGD, "learning_rate": 1e-4}
"""For the deep networks with batch norm, which blow up rounding errors from step to step."""


def a2() -> Network:
    net = _Builder()
    net.conv(32, 3, activation="relu")
    net.pool("max")
    net.conv(64, 3, activation="relu")
    net.pool("max")
    net.conv(64, 3, activation="relu")
    net.add("flatten")
    net.dense(64)
    return net.network("A2", (28, 28, 1), 10, RMSPROP)


def b2() -> Network:
    net = _Builder()
    net.conv(64, 3, activation="relu")
    net.pool("max")
    net.add("flatten")
    net.dense(256)
    net.dense(128)
    return net.network("B2", (28, 28, 1), 47, ADAM)


def b3(name: str = "B3", normalized: bool = False) -> Network:
    """B3, and B6 with batch normalization and dropout after each convolution."""
    net = _Builder()
    for filters, padding in ((128, "same"), (64, "valid")):
        for _ in range(2):
            net.conv(filters, 3, 1, padding, activation="relu")
            if normalized:
                net.add("batch_norm")
                net.add("dropout", rate=0.2)
        net.pool("max")
    net.add("flatten")
    net.dense(256)
    net.dense(128)
    return net.network(name, (28, 28, 1), 47, ADAM)


def c3() -> Network:
    net = _Builder()
    net.conv(64, 7, 1, "same", activation="relu")
    net.pool("max")
    for filters in (128, 256):
        net.conv(filters, 3, 1, "same", activation="relu")
        net.conv(filters, 3, 1, "same", activation="relu")
        net.pool("max")
    net.add("flatten")
    for units in (128, 64):
        net.dense(units)
        net.add("dropout", rate=0.5)
    return net.network("C3", (28, 28, 1), 10, NADAM)


def c4() -> Network:
    net = _Builder()
    for filters in (6, 16):
        net.conv(filters, 5, activation="tanh")
        net.pool("avg")
        net.add("scale")
        net.add("activation", name="tanh")
    net.conv(120, 5, activation="tanh")
    net.add("flatten")
    net.dense(84, "tanh")
    return net.network("C4", (32, 32, 1), 10, SGD)


def d6() -> Network:
    net = _Builder()
    net.add("flatten")
    net.dense(512)
    net.dense(512)
    return net.network("D6", (28, 28, 1), 10, ADAM)


def d15() -> Network:
    net = _Builder()
    net.conv(32, 3, activation="relu")
    net.conv(64, 3, activation="relu")
    net.pool("max")
    net.add("flatten")
    net.dense(128)
    return net.network("D15", (32, 32, 3), 10, ADAM)


def e6() -> Network:
    net = _Builder()
    for filters in (16, 32, 64, 32):
        net.conv(filters, 2, 1, "same", activation="relu")
        net.pool("max")
    net.add("dropout", rate=0.3)
    net.add("flatten")
    net.dense(500)
    net.add("dropout", rate=0.4)
    return net.network("E6", (32, 32, 3), 10, RMSPROP)


def e10() -> Network:
    net = _Builder()
    for filters in (32, 32, 64):
        net.conv(filters, 3, 1, "same")
        net.pool("max")
        net.add("activation", name="relu")
    net.add("flatten")
    net.dense(128)
    return net.network("E10", (128, 128, 3), 2, {**ADAM, "learning_rate": 1e-4})


def resnet18() -> Network:
    """He et al. 2016, table 1, on 64x64 pictures: 18 layers of weights, projections where the size changes."""
    net = _Builder()
    net.conv(64, 7, 2, "same", bias=False)
    net.add("batch_norm")
    net.add("activation", name="relu")
    x = net.pool("max", 3, 2, "same")
    for filters in (64, 128, 256, 512):
        for block in range(2):
            strides = 2 if block == 0 and filters > 64 else 1
            skip = x
            net.conv(filters, 3, strides, "same", x, bias=False)
            net.add("batch_norm")
            net.add("activation", name="relu")
            net.conv(filters, 3, 1, "same", bias=False)
            y = net.add("batch_norm")
            if strides == 2:
                net.conv(filters, 1, 2, "valid", x, bias=False)
                skip = net.add("batch_norm")
            net.add("add", y, skip)
            x = net.add("activation", name="relu")
    net.add("global_avg_pool2d")
    return net.network("ResNet-18", (64, 64, 3), 200, SLOW_SGD)


def mobilenet() -> Network:
    """Howard et al. 2017, table 1, on 64x64 pictures: depthwise 3x3, then 1x1, each with batch norm and ReLU."""
    net = _Builder()
    net.conv(32, 3, 2, "same", bias=False)
    net.add("batch_norm")
    net.add("activation", name="relu")
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for filters, strides in blocks:
        net.depthwise(3, strides)
        net.add("batch_norm")
        net.add("activation", name="relu")
        net.conv(filters, 1, bias=False)
        net.add("batch_norm")
        net.add("activation", name="relu")
    net.add("global_avg_pool2d")
    return net.network("MobileNet", (64, 64, 3), 200, SLOW_SGD)


def equal_layers(kind: str, count: int) -> Network:
    """`count` equal layers on tiny inputs between a first and a last layer with weights: shows what a layer costs."""
    net = _Builder()
    if kind == "dense":
        net.add("flatten")
        net.dense(4, None)
    else:
        net.conv(4, 1)
    for _ in range(count):
        if kind == "conv":
            net.conv(4, 3, 1, "same")
        elif kind == "batch_norm":
            net.add("batch_norm")
        elif kind == "dropout":
            net.add("dropout", rate=0.5)
        elif kind == "pool":
            net.pool("max", 2, 1, "same")
        elif kind == "relu":
            net.add("activation", name="relu")
        else:
            net.dense(4, None)
    if kind != "dense":
        net.add("flatten")
    return net.network(f"{count} x {kind}", (4, 4, 1), 2, SGD)


# --------------------------------------------------------------------------------------------------- facts


def shapes(network: Network) -> list[Shape]:
    """Output shape of each node, without the batch."""
    found: list[Shape] = []
    for node in network["nodes"]:
        found.append(_output_shape(node, input_shapes(network, node, found)[0]))
    return found


def input_shapes(network: Network, node: Node, found: list[Shape]) -> list[Shape]:
    """Shapes of what a node reads, `found` being those of the nodes before it."""
    return [tuple(network["input_shape"]) if i < 0 else found[i] for i in node["from"]]


def _output_shape(node: Node, shape: Shape) -> Shape:
    match node["op"]:
        case "conv2d" | "depthwise_conv2d" | "max_pool2d" | "avg_pool2d":
            size = node["kernel"] if "kernel" in node else node["size"]
            h, w = (output_length(length, size, node["strides"], node["padding"]) for length in shape[:2])
            return h, w, node.get("filters", shape[2])
        case "flatten":
            return (math.prod(shape),)
        case "global_avg_pool2d":
            return shape[2:]
        case "dense":
            return (node["units"],)
    return shape


def output_length(length: int, size: int, strides: int, padding: str) -> int:
    return -(-length // strides) if padding == "same" else (length - size) // strides + 1


def same_padding(length: int, size: int, strides: int) -> tuple[int, int]:
    """Rows before and after that padding "same" adds."""
    total = max((output_length(length, size, strides, "same") - 1) * strides + size - length, 0)
    return total // 2, total - total // 2


def weight_shapes(network: Network) -> list[dict[str, Shape]]:
    """Names and shapes of the weights of each node: kernels (KH, KW, C // G, F), dense (K, U), statistics included."""
    result, found = [], shapes(network)
    for index, node in enumerate(network["nodes"]):
        c = input_shapes(network, node, found)[0][-1]
        match node["op"]:
            case "conv2d":
                own = {"w": (node["kernel"], node["kernel"], c, node["filters"]), "b": (node["filters"],)}
            case "depthwise_conv2d":
                own = {"w": (node["kernel"], node["kernel"], 1, c), "b": (c,)}
            case "dense":
                own = {"w": (c, found[index][0]), "b": (found[index][0],)}
            case "batch_norm":
                own = dict.fromkeys(("gamma", "beta", "mean", "var"), (c,))
            case "scale":
                own = {"gamma": (c,), "beta": (c,)}
            case _:
                own = {}
        result.append({name: shape for name, shape in own.items() if name != "b" or node["bias"]})
    return result


def initial_weights(network: Network, seed: int = 1) -> Weights:
    """He-uniform kernels (signals keep their size through ReLU layers), ones and zeros; the same in every worker."""
    rng = np.random.default_rng(seed)
    return [{name: _initial(rng, name, shape) for name, shape in own.items()} for own in weight_shapes(network)]


def _initial(rng: np.random.Generator, name: str, shape: Shape) -> np.ndarray[Any, Any]:
    if name in ("gamma", "var"):
        return np.ones(shape, np.float32)
    if name != "w":
        return np.zeros(shape, np.float32)
    limit = math.sqrt(6 / math.prod(shape[:-1]))
    return rng.uniform(-limit, limit, shape).astype(np.float32)


def channels_first_weights(network: Network, seed: int = 1) -> Weights:
    """`initial_weights` with the rows of a dense kernel after a flatten reordered from (H, W, C) to (C, H, W)."""
    weights, found = initial_weights(network, seed), shapes(network)
    for node, own in zip(network["nodes"], weights, strict=True):
        before = network["nodes"][node["from"][0]]
        if node["op"] == "dense" and node["from"][0] >= 0 and before["op"] == "flatten":
            shape = input_shapes(network, before, found)[0]
            own["w"] = own["w"].reshape(*shape, -1).transpose(2, 0, 1, 3).reshape(own["w"].shape)
    return weights


def count_parameters(network: Network) -> int:
    """All weights, running statistics included, as `summary()` counts."""
    return sum(math.prod(shape) for own in weight_shapes(network) for shape in own.values())


def forward_flops(network: Network) -> list[int]:
    """Multiplications and additions of each node with a kernel, for one picture; other nodes count 0."""
    outputs = shapes(network)
    return [
        2 * math.prod(own["w"]) * math.prod(out[:-1]) if "w" in own else 0
        for own, out in zip(weight_shapes(network), outputs, strict=True)
    ]


def training_flops(network: Network) -> int:
    """Forward, weight gradient and input gradient for one picture; the first layer needs no input gradient."""
    forward = [count for count in forward_flops(network) if count]
    return 3 * sum(forward) - forward[0]
