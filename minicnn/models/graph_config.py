"""A graph as plain data and back, in the very form in which Keras 3 writes a functional model into its files.

    {"layers": [{"module", "class_name", "config", "registered_name", "build_config", "name", "inbound_nodes"}, ...],
     "input_layers": ["input_layer", 0, 0], "output_layers": ["dense_1", 0, 0]}

inbound_nodes holds the calls of a layer: {"args": [...], "kwargs": {...}}, where a tensor is written as
{"class_name": "__keras_tensor__", "config": {"shape", "dtype", "keras_history": [layer, call, output]}}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from minicnn.backend import as_host
from minicnn.layers.base import Layer
from minicnn.layers.symbolic import Node, SymbolicTensor, flatten, map_structure
from minicnn.models.functional import Graph, Nest
from minicnn.models.serialization import deserialize, serialize
from minicnn.tensor import Tensor

Config: TypeAlias = dict[str, Any]


def graph_config(graph: Graph) -> Config:
    """The graph as plain data."""
    layers = []
    for layer in graph.layers:
        calls = [_node_config(graph, node) for node in graph.nodes_of(layer) if node.inputs]
        layers.append({**serialize(layer), "name": layer.name, "inbound_nodes": calls})
    return {
        "layers": layers,
        "input_layers": map_structure(lambda tensor: _end(graph, tensor), graph.inputs),
        "output_layers": map_structure(lambda tensor: _end(graph, tensor), graph.outputs),
    }


def graph_from_config(config: Config, custom_objects: Mapping[str, Any] | None = None) -> tuple[Nest, Nest]:
    """Inputs and outputs of a new graph: its layers are made and called as the config says.

    Raises ValueError where a call refers to a layer or tensor that the config does not make.
    """
    layers = {entry["name"]: deserialize(entry, custom_objects) for entry in config["layers"]}
    waiting = {entry["name"]: list(entry["inbound_nodes"]) for entry in config["layers"]}
    while any(waiting.values()):
        if not any(_make_calls(layers, name, calls) for name, calls in waiting.items()):
            stuck = sorted(name for name, calls in waiting.items() if calls)
            raise ValueError(f"a model's config has calls that wait for each other, or for nothing. Received: {stuck}")

    def end(entry: Any) -> Any:
        if isinstance(entry, dict):
            return {key: end(part) for key, part in entry.items()}
        if len(entry) == 3 and isinstance(entry[0], str):
            name, call, index = entry
            return _tensor(layers, name, call - _calls_before(_layer(layers, name)), index)
        return [end(part) for part in entry]

    return end(config["input_layers"]), end(config["output_layers"])


def _make_calls(layers: Mapping[str, Layer], name: str, calls: list[Config]) -> bool:
    """Make a layer's calls, and take them off the list, as long as the tensors they read are there; whether any was."""
    made = False
    while calls and all(_is_made(layers, leaf) for leaf in _leaves(calls[0])):
        args, kwargs = _read(layers, calls[0]["args"]), _read(layers, calls[0]["kwargs"])
        layers[name](*args, **{key: value for key, value in kwargs.items() if value is not None})
        calls.pop(0)
        made = True
    return made


def _is_tensor(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("class_name") == "__keras_tensor__"


def _leaves(entry: Any) -> list[Any]:
    """The tensors within an entry."""
    if _is_tensor(entry):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, (list, tuple)) else ()
    return [leaf for part in parts for leaf in _leaves(part)]


def _is_made(layers: Mapping[str, Layer], entry: Config) -> bool:
    name, call, _ = entry["config"]["keras_history"]
    return len(_layer(layers, name)._nodes) > call


def _read(layers: Mapping[str, Layer], entry: Any) -> Any:
    """Arguments of a call, with the tensors themselves in the place of what was written for them."""
    if _is_tensor(entry):
        return _tensor(layers, *entry["config"]["keras_history"])
    if isinstance(entry, dict) and entry.get("class_name") in _CONSTANTS:
        return _CONSTANTS[entry["class_name"]](entry.get("config") or {})
    if isinstance(entry, dict):
        return {key: _read(layers, part) for key, part in entry.items()}
    return [_read(layers, part) for part in entry] if isinstance(entry, (list, tuple)) else entry


def _layer(layers: Mapping[str, Layer], name: str) -> Layer:
    if name not in layers:
        raise ValueError(f"a model's config refers to a layer that it does not hold. Received: {name!r}")
    return layers[name]


def _tensor(layers: Mapping[str, Layer], name: str, call: int, index: int) -> SymbolicTensor:
    return flatten(_layer(layers, name)._nodes[call].outputs)[index]


def _node_config(graph: Graph, node: Node) -> Config:
    def written(leaf: Any) -> Any:
        if not isinstance(leaf, SymbolicTensor):
            return _constant(leaf)
        config = {"shape": list(leaf.shape), "dtype": leaf.dtype, "keras_history": list(graph.position(leaf))}
        return {"class_name": "__keras_tensor__", "config": config}

    return {"args": list(map_structure(written, node.args)), "kwargs": map_structure(written, node.kwargs)}


def _constant(value: Any) -> Any:
    """An argument that is no tensor of the graph, as Keras writes it: an index, a number, an array."""
    if isinstance(value, slice):
        config = {"start": value.start, "stop": value.stop, "step": value.step}
        return {"class_name": "__slice__", "config": config}
    if value is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(value, (np.ndarray, Tensor)):
        array = as_host(value.data if isinstance(value, Tensor) else value)
        return {"class_name": "__numpy__", "config": {"value": array.tolist(), "dtype": str(array.dtype)}}
    return value.item() if isinstance(value, np.generic) else value


_CONSTANTS: dict[str, Callable[[Config], Any]] = {
    "__slice__": lambda config: slice(config["start"], config["stop"], config["step"]),
    "__ellipsis__": lambda config: Ellipsis,
    "__numpy__": lambda config: np.array(config["value"], config["dtype"]),
    "__tensor__": lambda config: np.array(config["value"], config["dtype"]),
}
"""What an argument of a call can be besides a tensor of the graph and plain data, and how it is read."""


def _end(graph: Graph, tensor: SymbolicTensor) -> list[Any]:
    name, call, index = graph.position(tensor)
    assert tensor.node is not None
    return [name, call + _calls_before(tensor.node.layer), index]


def _calls_before(layer: Layer) -> int:
    """Keras counts the making of a functional model as its first call, but only where inputs and outputs are named."""
    return int(getattr(layer, "is_functional", False))
