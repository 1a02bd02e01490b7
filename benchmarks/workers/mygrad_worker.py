"""MyGrad, a teaching framework on NumPy. Its optimizers are the textbook's, written here: it has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mygrad as mg
import numpy as np
from mygrad.nnet.activations import relu, tanh
from mygrad.nnet.layers import conv_nd, max_pool
from mygrad.nnet.losses import softmax_crossentropy

from benchmarks import networks
from benchmarks.networks import Network, Node
from benchmarks.workers import data
from benchmarks.workers.protocol import Case, Unsupported, Work, Worker, serve

Array = np.ndarray[Any, Any]
_ACTIVATIONS = {"relu": relu, "tanh": tanh}
_KNOWN = {"conv2d", "max_pool2d", "flatten", "dense", "activation"}


class MygradWorker(Worker):
    def describe(self) -> dict[str, Any]:
        return {"version": mg.__version__}

    def kernel(self, case: Case) -> Work:
        raise Unsupported("networks only")

    def train(self, case: Case) -> Callable[[], float]:
        network = MygradNetwork(case["network"])
        x, y = _images(case), data.batch(case)[1]
        update = _optimizer(case["network"]["optimizer"], network.parameters())

        def step() -> float:
            loss = softmax_crossentropy(network(x), y)
            loss.backward()
            update()
            return float(loss.data)

        return step

    def predict(self, case: Case) -> Callable[[], Any]:
        network, x = MygradNetwork(case["network"]), _images(case)

        def predict() -> Any:
            with mg.no_autodiff:
                return mg.nnet.activations.softmax(network(x)).data

        return predict


def _images(case: Case) -> Array:
    return np.ascontiguousarray(data.batch(case)[0].transpose(0, 3, 1, 2))


class MygradNetwork:
    """A chain of layers, without the softmax."""

    def __init__(self, network: Network) -> None:
        missing = {node["op"] for node in network["nodes"]} - _KNOWN
        if missing:
            raise Unsupported(f"no {', '.join(sorted(missing))}")
        self.nodes, found = network["nodes"], networks.shapes(network)
        self.weights, self.sides = [], []
        for node, own in zip(self.nodes, networks.channels_first_weights(network), strict=True):
            self.weights.append({name: mg.tensor(_native(name, value)) for name, value in own.items()})
            shape = networks.input_shapes(network, node, found)[0]
            self.sides.append(_sides(node, shape) if node["op"] == "conv2d" else 0)

    def parameters(self) -> list[Any]:
        return [tensor for own in self.weights for tensor in own.values()]

    def __call__(self, x: Any) -> Any:
        for node, own, sides in zip(self.nodes, self.weights, self.sides, strict=True):
            x = _apply(node, own, sides, x)
        return x


def _native(name: str, value: Array) -> Array:
    """Kernels as (F, C, KH, KW), their biases as they are broadcast."""
    return np.ascontiguousarray(value.transpose(3, 2, 0, 1)) if value.ndim == 4 else value


def _sides(node: Node, shape: networks.Shape) -> int:
    """Symmetric padding only, which is all that conv_nd knows."""
    if node["padding"] == "valid":
        return 0
    before, after = networks.same_padding(shape[0], node["kernel"], node["strides"])
    if before != after:
        raise Unsupported("padding is symmetric only")
    return before


def _apply(node: Node, own: dict[str, Any], sides: int, x: Any) -> Any:
    match node["op"]:
        case "conv2d":
            x = conv_nd(x, own["w"], stride=node["strides"], padding=sides) + own["b"].reshape(1, -1, 1, 1)
        case "max_pool2d":
            rest_h, rest_w = ((x.shape[axis] - node["size"]) % node["strides"] for axis in (2, 3))
            if rest_h or rest_w:  # max_pool wants windows that fit
                x = x[:, :, : x.shape[2] - rest_h, : x.shape[3] - rest_w]
            x = max_pool(x, (node["size"],) * 2, node["strides"])
        case "flatten":
            x = x.reshape(x.shape[0], -1)
        case "dense":
            x = mg.matmul(x, own["w"]) + own["b"]
    name = node["name"] if node["op"] == "activation" else node.get("activation")
    return _ACTIVATIONS[name](x) if name in _ACTIVATIONS else x


def _optimizer(options: dict[str, Any], parameters: list[Any]) -> Callable[[], None]:
    rate, name = options["learning_rate"], options["name"]
    first = [np.zeros_like(p.data) for p in parameters]
    second = [np.zeros_like(p.data) for p in parameters]
    count = 0

    def update() -> None:
        nonlocal count
        count += 1
        for p, m, s in zip(parameters, first, second, strict=True):
            if name == "adam":
                m += 0.1 * (p.grad - m)
                s += 0.001 * (p.grad**2 - s)
                p.data[...] -= rate * np.sqrt(1 - 0.999**count) / (1 - 0.9**count) * m / (np.sqrt(s) + 1e-7)
            elif name == "rmsprop":
                s += 0.1 * (p.grad**2 - s)
                p.data[...] -= rate * p.grad / (np.sqrt(s) + 1e-7)
            else:
                m[...] = options["momentum"] * m - rate * p.grad
                p.data[...] += m
            p.null_grad()

    if name not in ("adam", "rmsprop", "sgd"):
        raise Unsupported(f"no {name}")
    return update


if __name__ == "__main__":
    serve(MygradWorker)
