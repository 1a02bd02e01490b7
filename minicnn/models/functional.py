"""Graph: the layers between symbolic inputs and outputs, in an order in which they can run.

Layers called on symbolic tensors leave nodes behind (see layers/symbolic.py). A graph collects those that lead from its
inputs to its outputs, runs them on data, and writes them down and reads them back as Keras 3 does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from minicnn.dtypes import named_dtype
from minicnn.layers import Input, InputLayer
from minicnn.layers.base import Layer
from minicnn.layers.shapes import map_shapes
from minicnn.layers.symbolic import Node, Shape, SymbolicTensor, flatten, map_structure
from minicnn.tensor import Tensor

Nest: TypeAlias = Any
"""A tensor, or lists, tuples and dicts of them."""


class Graph:
    """Nodes from `inputs` to `outputs`, both nests of symbolic tensors.

    nodes: calls of layers, each after those it reads from; input layers among them.
    layers: each layer once, in Keras' order (by depth, inputs first), which is the order of the model's weights.
    steps: the nodes that compute, as `run` goes through them.

    Raises TypeError where inputs or outputs are not symbolic, ValueError where an output does not depend on the inputs
    alone, or where two layers share a name.
    """

    def __init__(self, inputs: Nest, outputs: Nest) -> None:
        _check_symbolic("inputs", inputs)
        _check_symbolic("outputs", outputs)
        if isinstance(outputs, (list, tuple)) and len(outputs) == 1:
            outputs = outputs[0]  # as in Keras, a single output is no list
        if not all(_is_input(tensor) for tensor in flatten(inputs)):
            inputs, outputs = _cut(inputs, outputs)
        self.inputs, self.outputs = inputs, outputs
        parents_first, walk = _collect(inputs, outputs)
        self.nodes = sorted(parents_first, key=lambda node: node.order)
        self.layers = _by_depth(parents_first, walk)
        self.steps = _steps(self.nodes, flatten(outputs))
        _check_names(self.layers)

    def run(self, inputs: Nest) -> Nest:
        """Outputs for inputs of the same nest: tensors, or symbolic tensors (which adds nodes to the layers)."""
        values = dict(zip(map(id, flatten(self.inputs)), flatten(inputs), strict=True))
        _run(self.steps, values)
        return map_structure(lambda symbol: values[id(symbol)], self.outputs)

    def output_shapes(self, input_shapes: Nest) -> Nest:
        """Shapes of the outputs for other shapes of the inputs, in the same nests."""
        given: list[Shape] = []
        map_shapes(given.append, input_shapes)
        shapes = {id(symbol): shape for symbol, shape in zip(flatten(self.inputs), given, strict=True)}

        def reshaped(leaf: Any) -> Any:
            return SymbolicTensor(shapes[id(leaf)], leaf.dtype) if isinstance(leaf, SymbolicTensor) else leaf

        for node in self.nodes:
            if not isinstance(node.layer, InputLayer):
                found: list[Shape] = []
                map_shapes(found.append, node.layer._output_shape(map_structure(reshaped, node.args)))
                shapes |= {id(symbol): shape for symbol, shape in zip(flatten(node.outputs), found, strict=True)}
        return map_structure(lambda symbol: shapes[id(symbol)], self.outputs)

    def fit_inputs(self, inputs: Nest) -> Nest:
        """Inputs as this graph takes them: its nest, its dtypes; a last axis of length 1 is added or taken away.

        Raises ValueError where an input is missing or has another shape, TypeError where one is not a tensor.
        """
        if isinstance(self.inputs, SymbolicTensor) and isinstance(inputs, Tensor):
            return fit_input(self.inputs, inputs)
        nest = self._in_order(inputs)
        fitted = iter([fit_input(s, value) for s, value in zip(flatten(self.inputs), flatten(nest), strict=True)])
        return map_structure(lambda _: next(fitted), self.inputs)

    def _in_order(self, inputs: Nest) -> list[Any]:
        """The leaves of `inputs` in the order of this graph's: by name where a dict is given."""
        expected = flatten(self.inputs)
        if isinstance(inputs, dict):
            names = list(self.inputs) if isinstance(self.inputs, dict) else [symbol.name for symbol in expected]
            missing = [name for name in names if name not in inputs]
            if missing:
                raise ValueError(f"the model takes inputs named {names}. Received: {list(inputs)}, without {missing}.")
            return flatten([inputs[name] for name in names])
        given = flatten(inputs)
        if len(given) != len(expected):
            names = [symbol.name for symbol in expected]
            raise ValueError(f"the model takes {len(expected)} inputs, {names}. Received: {len(given)}.")
        return given

    def nodes_of(self, layer: Layer) -> list[Node]:
        """The calls of a layer within this graph, first one first."""
        return [node for node in self.nodes if node.layer is layer]

    def position(self, tensor: SymbolicTensor) -> tuple[str, int, int]:
        """Where a tensor comes from: name of the layer, which of its calls here, which of the call's outputs."""
        node = _node_of(tensor)
        return node.layer.name, self.nodes_of(node.layer).index(node), tensor.index


class Step(NamedTuple):
    """One call of a layer, as `run` makes it."""

    node: Node
    plain: bool  # one symbolic tensor in, one out, and no further arguments
    reader: Node | None  # the plain node that alone reads the output of this plain one
    unneeded: list[SymbolicTensor]  # what nobody reads after this step: its memory can go


def _steps(nodes: Sequence[Node], outputs: Sequence[SymbolicTensor]) -> list[Step]:
    readers: dict[int, list[Node]] = {id(tensor): [] for tensor in outputs}
    for node in nodes:
        for tensor in node.inputs:
            readers.setdefault(id(tensor), []).append(node)
    kept = {id(tensor) for tensor in outputs}
    steps = []
    for node, unneeded in zip(nodes, _last_readers(nodes, outputs), strict=True):
        if isinstance(node.layer, InputLayer):
            continue
        reader = None
        if _is_plain(node) and id(node.outputs) not in kept and len(readers.get(id(node.outputs), ())) == 1:
            (only,) = readers[id(node.outputs)]
            reader = only if _is_plain(only) else None
        steps.append(Step(node, _is_plain(node), reader, unneeded))
    return steps


def _is_plain(node: Node) -> bool:
    alone = len(node.args) == 1 and isinstance(node.args[0], SymbolicTensor)
    return alone and not node.kwargs and isinstance(node.outputs, SymbolicTensor)


def _run(steps: Sequence[Step], values: dict[int, Any]) -> None:
    """Call the layers in order; `values` holds the tensor for each symbol's id, and forgets those no longer needed."""
    for node, plain, reader, unneeded in steps:
        layer = node.layer
        if id(node) in values:  # its output is there already: computed together with its input
            values[id(node.outputs)] = values.pop(id(node))
        elif not plain:
            call_layer(node, values)
        else:
            x = values[id(node.args[0])]
            fused = None if reader is None or isinstance(x, SymbolicTensor) else layer.fused_with(reader.layer)
            if fused is None:
                values[id(node.outputs)] = layer(x)
            else:
                values[id(node.outputs)] = None  # read by nobody else
                values[id(reader)] = layer._run(fused, (x,), {})
            del x
        for symbol in unneeded:
            del values[id(symbol)]


def call_layer(node: Node, values: dict[int, Any]) -> None:
    """Call a layer that may read and make nests of tensors: from `values` to `values`."""

    def value_of(leaf: Any) -> Any:
        return values[id(leaf)] if isinstance(leaf, SymbolicTensor) else leaf

    results = node.layer(*map_structure(value_of, node.args), **map_structure(value_of, node.kwargs))
    for symbol, result in zip(flatten(node.outputs), flatten(results), strict=True):
        values[id(symbol)] = result


# --------------------------------------------------------------------------------------------------- fitting inputs


def fit_input(symbol: SymbolicTensor, value: Any) -> Tensor:
    """`value` as the input `symbol` stands for: its dtype; a last axis of length 1 is added or taken away."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"the model's input {symbol.name!r} must be an array or a Tensor. Received: {type(value).__name__}"
        )
    expected = symbol.shape
    if not _fits(expected, value.data.shape):
        if value.ndim == len(expected) + 1 and value.shape[-1] == 1:
            value = value.squeeze(-1)
        elif value.ndim == len(expected) - 1 and expected[-1] == 1:
            value = value.unsqueeze(-1)
    if not _fits(expected, value.data.shape):
        raise ValueError(
            f"the model's input {symbol.name!r} must have shape {expected}, the batch first. Received: {value.shape}."
        )
    return value if value.data.dtype == named_dtype(symbol.dtype) else value.to(symbol.dtype)


def _fits(expected: Shape, shape: tuple[int, ...]) -> bool:
    """Whether a shape is the expected one, in which None stands for any size; the batch may have any."""
    sizes = zip(expected[1:], shape[1:], strict=False)
    return len(shape) == len(expected) and all(size is None or size == given for size, given in sizes)


# --------------------------------------------------------------------------------------------------- collecting


def _node_of(tensor: SymbolicTensor) -> Node:
    if tensor.node is None:
        raise ValueError(f"{tensor!r} was not made by a layer: start from minicnn.Input(shape).")
    return tensor.node


def _is_input(tensor: SymbolicTensor) -> bool:
    return isinstance(_node_of(tensor).layer, InputLayer)


def _check_symbolic(role: str, nest: Nest) -> None:
    leaves = flatten(nest)
    if not leaves:
        raise ValueError(f"Model: {role} must hold at least one tensor. Received: {role}={nest!r}")
    for leaf in leaves:
        if not isinstance(leaf, SymbolicTensor):
            kind = type(leaf).__name__
            raise TypeError(f"Model: {role} must come from minicnn.Input(...) and layers on it. Received: {kind}")


def _cut(inputs: Nest, outputs: Nest) -> tuple[Nest, Nest]:
    """The same computation from fresh inputs in place of tensors in the middle of another model."""
    fresh = map_structure(lambda t: t if _is_input(t) else Input(batch_shape=t.shape, dtype=t.dtype), inputs)
    values = dict(zip(map(id, flatten(inputs)), flatten(fresh), strict=True))
    nodes = sorted(_collect(inputs, outputs)[0], key=lambda node: node.order)
    _run(_steps(nodes, flatten(outputs)), values)
    return fresh, map_structure(lambda tensor: values[id(tensor)], outputs)


def _collect(inputs: Nest, outputs: Nest) -> tuple[list[Node], list[Layer]]:
    """Nodes between inputs and outputs, each after its parents; their layers as a walk from the outputs meets them."""
    given = {id(tensor): tensor for tensor in flatten(inputs)}

    # What a node reads, short of tensors given in the middle of a graph; input layers are part of it.
    def parents(tensors: Sequence[SymbolicTensor]) -> list[Node]:
        return [_node_of(tensor) for tensor in tensors if id(tensor) not in given or _is_input(tensor)]

    finished: dict[int, Node] = {}
    met: dict[int, Layer] = {}
    # Keras walks the outputs of a dict by name. The stack holds nodes, and whether their parents are done.
    ends = flatten(dict(sorted(outputs.items())) if isinstance(outputs, dict) else outputs)
    stack = [(node, False) for node in reversed(parents(ends))]
    while stack:
        node, parents_done = stack.pop()
        if parents_done:
            finished[id(node)] = node
        elif id(node) not in finished:
            _check_connected(node, given)
            met.setdefault(id(node.layer), node.layer)
            stack.append((node, True))
            stack += [(parent, False) for parent in reversed(parents(node.inputs))]
    unread = [_node_of(tensor) for tensor in given.values() if _is_input(tensor) and id(tensor.node) not in finished]
    return [*unread, *finished.values()], [*(node.layer for node in unread), *met.values()]


def _check_connected(node: Node, given: Mapping[int, SymbolicTensor]) -> None:
    if isinstance(node.layer, InputLayer) and not any(id(tensor) in given for tensor in flatten(node.outputs)):
        names = [tensor.name for tensor in given.values()]
        raise ValueError(
            f"Model: the outputs depend on the input {node.layer.name!r}, which is not among the model's inputs: the "
            f"graph is disconnected. Received: inputs {names}"
        )


def _by_depth(nodes: Sequence[Node], walk: Sequence[Layer]) -> list[Layer]:
    """Layers as Keras orders them: farthest from the outputs first, those of one depth in the order of the walk."""
    depth_of_node: dict[int, int] = {}
    depth_of_layer: dict[int, int] = {}
    for node in reversed(nodes):
        depth = max(depth_of_node.get(id(node), 0), depth_of_layer.get(id(node.layer), 0))
        depth_of_node[id(node)] = depth_of_layer[id(node.layer)] = depth
        for tensor in node.inputs:
            parent = id(tensor.node)
            depth_of_node[parent] = max(depth + 1, depth_of_node.get(parent, 0))
    return sorted(walk, key=lambda layer: -depth_of_layer[id(layer)])


def _last_readers(nodes: Sequence[Node], outputs: Sequence[SymbolicTensor]) -> list[list[SymbolicTensor]]:
    """For each node, the tensors that nobody reads after it: their memory can go."""
    kept = {id(tensor) for tensor in outputs}
    last: dict[int, tuple[int, SymbolicTensor]] = {}
    for position, node in enumerate(nodes):
        for tensor in [*node.inputs, *flatten(node.outputs)]:
            last[id(tensor)] = position, tensor
    unneeded: list[list[SymbolicTensor]] = [[] for _ in nodes]
    for position, tensor in last.values():
        if id(tensor) not in kept:
            unneeded[position].append(tensor)
    return unneeded


def _check_names(layers: Sequence[Layer]) -> None:
    for name, count in Counter(layer.name for layer in layers).items():
        if count > 1:
            raise ValueError(f"Model: {count} layers share the name {name!r}. Give each its own: name=...")
