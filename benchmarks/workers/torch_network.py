"""A network of the benchmark as a torch.nn.Module, and its optimizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import networks
from benchmarks.networks import Network, Node


class SamePad(nn.Module):
    """The part of Keras' "same" padding that PyTorch's symmetric padding cannot express."""

    def __init__(self, sides: tuple[int, int, int, int], value: float) -> None:
        super().__init__()
        self.sides, self.value = sides, value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, self.sides, value=self.value)


class ChannelScale(nn.Module):
    """x * gamma + beta, a pair a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = (nn.Parameter(torch.empty(channels, 1, 1)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma + self.beta


class Add(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class Graph(nn.Module):
    """Layers that are not in one chain: each says which outputs it reads."""

    def __init__(self, layers: list[nn.Module], sources: list[list[int]]) -> None:
        super().__init__()
        self.layers, self.sources = nn.ModuleList(layers), sources

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values: list[torch.Tensor] = []
        for layer, sources in zip(self.layers, self.sources, strict=True):
            values.append(layer(*[x if i < 0 else values[i] for i in sources]))
        return values[-1]


def build(network: Network, inplace: bool = False) -> nn.Module:
    """The network with the benchmark's initial weights, without its softmax (the loss has it).

    inplace: let ReLU write over its input, as hand-tuned models do.
    """
    found = networks.shapes(network)
    layers, sources = [], []
    for node, weights in zip(network["nodes"], networks.channels_first_weights(network), strict=True):
        layers.append(_module(node, networks.input_shapes(network, node, found)[0], weights, inplace))
        sources.append(node["from"])
    if all(source == [i - 1] for i, source in enumerate(sources)):
        return nn.Sequential(*layers)
    return Graph(layers, sources)


def _module(node: Node, shape: networks.Shape, weights: dict[str, Any], inplace: bool) -> nn.Module:
    match node["op"]:
        case "conv2d" | "depthwise_conv2d":
            return _convolution(node, shape, weights, inplace)
        case "max_pool2d":
            pad, symmetric = _padding(node, shape, node["size"], float("-inf"))
            return _chain(pad, nn.MaxPool2d(node["size"], node["strides"], symmetric))
        case "avg_pool2d":
            return nn.AvgPool2d(node["size"], node["strides"])
        case "batch_norm":
            return _filled(nn.BatchNorm2d(shape[-1], eps=1e-3, momentum=0.01), weights)
        case "scale":
            return _filled(ChannelScale(shape[-1]), weights)
        case "dense":
            layer = _filled(nn.Linear(shape[0], node["units"]), {**weights, "w": weights["w"].T})
            return _chain(layer, _activation(node["activation"], inplace))
        case "activation":
            return _activation(node["name"], inplace) or nn.Identity()
        case "dropout":
            return nn.Dropout(node["rate"])
        case "flatten":
            return nn.Flatten()
        case "global_avg_pool2d":
            return _chain(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Add()


def _convolution(node: Node, shape: networks.Shape, weights: dict[str, Any], inplace: bool) -> nn.Module:
    depthwise = node["op"] == "depthwise_conv2d"
    pad, symmetric = _padding(node, shape, node["kernel"], 0.0)
    layer = nn.Conv2d(
        shape[-1],
        shape[-1] if depthwise else node["filters"],
        node["kernel"],
        node["strides"],
        symmetric,
        groups=shape[-1] if depthwise else 1,
        bias=node["bias"],
    )
    filled = _filled(layer, {**weights, "w": weights["w"].transpose(3, 2, 0, 1)})
    return _chain(pad, filled, _activation(node["activation"], inplace))


def _padding(node: Node, shape: networks.Shape, size: int, value: float) -> tuple[nn.Module | None, tuple[int, int]]:
    """Padding "same" as a module of its own where it is lopsided, else as a number for the layer."""
    if node["padding"] == "valid":
        return None, (0, 0)
    (top, bottom), (left, right) = (networks.same_padding(length, size, node["strides"]) for length in shape[:2])
    if (top, left) == (bottom, right):
        return None, (top, left)
    return SamePad((left, right, top, bottom), value), (0, 0)


def _activation(name: str | None, inplace: bool) -> nn.Module | None:
    if name == "relu":
        return nn.ReLU(inplace)
    return nn.Tanh() if name == "tanh" else None


def _chain(*modules: nn.Module | None) -> nn.Module:
    present = [module for module in modules if module is not None]
    return present[0] if len(present) == 1 else nn.Sequential(*present)


_NAMES = {"w": "weight", "b": "bias", "mean": "running_mean", "var": "running_var"}


def _filled(layer: nn.Module, weights: dict[str, Any]) -> nn.Module:
    """The layer with these values."""
    names = {**_NAMES, "gamma": "weight", "beta": "bias"} if isinstance(layer, nn.BatchNorm2d) else _NAMES
    with torch.no_grad():
        for name, value in weights.items():
            target = getattr(layer, names.get(name, name))
            target.copy_(torch.from_numpy(np.ascontiguousarray(value)).reshape(target.shape))
    return layer


ADAM_EPSILON = 1e-7 / (1 - 0.999) ** 0.5
"""Keras adds its epsilon, 1e-7, to the root before the bias is corrected, PyTorch after: at the first step, which
decides the second loss that is compared, this one is the same."""


def optimizer(options: dict[str, Any], parameters: Any, best: bool) -> torch.optim.Optimizer:
    """As Keras defines it; the best form takes PyTorch's fused or grouped implementation."""
    fused, grouped = ({"fused": True}, {"foreach": True}) if best else ({}, {})
    rate = options["learning_rate"]
    match options["name"]:
        case "adam":
            return torch.optim.Adam(parameters, rate, eps=ADAM_EPSILON, **fused)
        case "nadam":
            return torch.optim.NAdam(parameters, rate, eps=1e-7, momentum_decay=1.0, **grouped)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, rate, alpha=0.9, eps=1e-7, **grouped)
    return torch.optim.SGD(parameters, rate, momentum=options.get("momentum", 0.0), **fused)
