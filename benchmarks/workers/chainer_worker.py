"""Chainer, the swiftest of the frameworks on NumPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

with warnings.catch_warnings(action="ignore"):  # its last release is older than the NumPy it runs on
    import chainer
    from chainer import functions as F
    from chainer import links as L

from benchmarks import networks
from benchmarks.networks import Network, Node
from benchmarks.workers import data
from benchmarks.workers.protocol import Case, Unsupported, Work, Worker, serve

chainer.config.dtype = np.float32


class ChainerWorker(Worker):
    def describe(self) -> dict[str, Any]:
        return {"version": chainer.__version__}

    def kernel(self, case: Case) -> Work:
        raise Unsupported("networks only")

    def train(self, case: Case) -> Callable[[], float]:
        model, x, y = ChainerNetwork(case["network"]), _images(case), data.batch(case)[1].astype(np.int32)
        optimizer = _optimizer(case["network"]["optimizer"])
        optimizer.setup(model)

        def step() -> float:
            loss = F.softmax_cross_entropy(model(x), y)
            model.cleargrads()
            loss.backward()
            optimizer.update()
            return float(loss.array)

        return step

    def predict(self, case: Case) -> Callable[[], Any]:
        model, x = ChainerNetwork(case["network"]), _images(case)

        def predict() -> Any:
            with chainer.using_config("train", False), chainer.no_backprop_mode():
                return F.softmax(model(x)).array

        return predict


def _images(case: Case) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(data.batch(case)[0].transpose(0, 3, 1, 2))


class ChainerNetwork(chainer.ChainList):  # type: ignore[misc, unused-ignore]
    """The network without its softmax."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.nodes, self.functions = network["nodes"], []
        found = networks.shapes(network)
        for node, own in zip(network["nodes"], networks.channels_first_weights(network), strict=True):
            shape = networks.input_shapes(network, node, found)[0]
            function = _link(node, own) if own else _function(node, shape)
            if own:
                self.add_link(function)
            padded = "kernel" in node and node["padding"] == "same"
            pad = _pad(node, shape, node["kernel"], 0.0) if padded else None
            self.functions.append((pad, function, node.get("activation")))

    def forward(self, x: Any) -> Any:
        values: list[Any] = []
        for node, (pad, function, activation) in zip(self.nodes, self.functions, strict=True):
            inputs = [x if i < 0 else values[i] for i in node["from"]]
            y = function(*(inputs if pad is None else [pad(inputs[0])]))
            values.append(_ACTIVATIONS.get(activation, _unchanged)(y))
        return values[-1]


def _unchanged(x: Any) -> Any:
    return x


_ACTIVATIONS: dict[str | None, Callable[[Any], Any]] = {"relu": F.relu, "tanh": F.tanh}


def _link(node: Node, own: dict[str, Any]) -> Any:
    if "gamma" in own:
        c = own["gamma"].shape[0]
        return L.BatchNormalization(c, decay=0.99, eps=1e-3) if "mean" in own else L.Scale(1, (c,), bias_term=True)
    if node["op"] == "dense":
        return L.Linear(*own["w"].shape, initialW=np.ascontiguousarray(own["w"].T))
    w = np.ascontiguousarray(own["w"].transpose(3, 2, 0, 1))
    depthwise = node["op"] == "depthwise_conv2d"
    channels = w.shape[0] if depthwise else w.shape[1]
    options = {"groups": channels} if depthwise else {}
    return L.Convolution2D(
        channels, w.shape[0], node["kernel"], node["strides"], nobias="b" not in own, initialW=w, **options
    )


def _function(node: Node, shape: networks.Shape) -> Callable[..., Any]:
    match node["op"]:
        case "max_pool2d":
            size, strides = node["size"], node["strides"]
            pad = _pad(node, shape, size, -np.inf)
            return lambda x: F.max_pooling_2d(pad(x), size, strides, cover_all=False)
        case "avg_pool2d":
            return lambda x: F.average_pooling_2d(x, node["size"], node["strides"])
        case "dropout":
            return lambda x: F.dropout(x, node["rate"])
        case "flatten":
            return lambda x: F.reshape(x, (x.shape[0], -1))
        case "global_avg_pool2d":
            return lambda x: F.mean(x, axis=(2, 3))
        case "activation":
            return _ACTIVATIONS[node["name"]]
    return F.add


def _pad(node: Node, shape: networks.Shape, size: int, value: float) -> Callable[[Any], Any]:
    if node["padding"] == "valid":
        return _unchanged
    sides = [networks.same_padding(length, size, node["strides"]) for length in shape[:2]]
    return lambda x: F.pad(x, [(0, 0), (0, 0), *sides], "constant", constant_values=value)


def _optimizer(options: dict[str, Any]) -> Any:
    rate = options["learning_rate"]
    match options["name"]:
        case "adam":
            return chainer.optimizers.Adam(rate, eps=1e-7)
        case "rmsprop":
            return chainer.optimizers.RMSprop(rate, alpha=0.9, eps=1e-7)
        case "sgd":
            return chainer.optimizers.MomentumSGD(rate, options["momentum"])
    raise Unsupported(f"no {options['name']}")


if __name__ == "__main__":
    serve(ChainerWorker)
