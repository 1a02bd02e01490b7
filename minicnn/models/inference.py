"""Inference plans: what a model does to inputs of one shape, as a short list of functions of arrays.

Called layer by layer, a small network spends most of its time on what does not depend on the picture: checks, tensors
that nobody keeps, weights packed for the kernels once more. So where nothing is recorded and nobody trains, a model
that sees a shape for the second time makes a plan: layers that can be prepared (layers/prepared.py) become functions,
others are called as ever. The plan is used until one of these changes:

- a weight: another array, or an edit that its version counts (an optimizer's step, `assign`, `set_weights`, loading,
  any operation in place). A weight whose memory was given out to be written to (`t.detach().numpy()`) is not planned
  with. The one way past all this is to write to `t.data` itself, which the engine never sees: use `assign`, or predict
  within `detect_anomaly`, where nothing is kept;
- an option of a layer, the layers of a model, the backend, the threads, `config.winograd`.

Memory: a model keeps plans for MOST_SHAPES shapes. They share what kernels made of a weight, which is at most one copy
of it in panels and one transformed by Winograd's algorithm, four times as large. All goes with the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from minicnn.backend import backend_of
from minicnn.kernels.contract import Array
from minicnn.layers.base import Layer, is_training
from minicnn.layers.prepared import Preparation, Prepared
from minicnn.layers.structure import structure
from minicnn.layers.symbolic import Node, SymbolicTensor, flatten, map_structure
from minicnn.models.functional import Graph, Step, call_layer
from minicnn.modes import mode
from minicnn.tensor import Tensor

Nest: TypeAlias = Any
"""A tensor, or lists, tuples and dicts of them."""

MOST_SHAPES = 8
"""For so many input shapes a model keeps plans; for more, those that were made first go."""


class _Layout(NamedTuple):
    """What kernels made of a weight, and the weight as it was then."""

    array: Array
    version: int
    made: dict[Any, Array]


class Plans:
    """The plans of one model. Copies and pickled ones are empty."""

    def __init__(self) -> None:
        self._plans: dict[tuple[tuple[int, ...], str], Plan | None] = {}  # None for shapes seen once
        self._layouts: dict[int, _Layout] = {}
        self._structure = structure.version

    def __reduce__(self) -> Any:
        return Plans, ()

    def run(self, graph: Graph, x: Nest) -> Nest:
        """graph.run(x), by a plan where there may be one."""
        recorded = mode.grad_enabled or mode.detect_anomaly or is_training()
        if recorded or not isinstance(x, Tensor):
            return graph.run(x)
        kernels = backend_of(x.data).kernels
        if not hasattr(kernels, "prepared_under"):
            return graph.run(x)
        if self._structure != structure.version:  # weights may be gone for good
            self._plans.clear()
            self._layouts.clear()
            self._structure = structure.version
        key = x.data.shape, x.data.dtype.char
        state = graph, kernels, kernels.prepared_under(), structure.version, structure.options
        plan = self._plans.get(key)
        if plan is None or plan.state != state or not plan.is_valid():
            if key not in self._plans:
                while len(self._plans) >= MOST_SHAPES:
                    self._plans.pop(next(iter(self._plans)), None)  # the oldest
                self._plans[key] = None
                return graph.run(x)
            plan = Plan(graph, state, self._layouts_of)
            outputs = plan.make(x)
            self._plans[key] = plan
            return outputs
        return plan.run(x)

    def _layouts_of(self, weight: Tensor) -> dict[Any, Array]:
        layout = self._layouts.get(id(weight))
        if layout is None or layout.array is not weight.data or layout.version != weight._version[0]:
            layout = self._layouts[id(weight)] = _Layout(weight.data, weight._version[0], {})
        return layout.made


class _Task(NamedTuple):
    """One step of a plan: prepared layers, one after the other; or a call of a layer."""

    sources: list[int]  # ids of the symbols that stand for what is read and made
    goal: int
    expected: list[tuple[tuple[int, ...], np.dtype[Any]]]  # shape and dtype of what is read
    chain: list[Callable[..., Array]]
    rest: Callable[[Tensor], Tensor] | None  # what follows the chain, or is all there is
    layers: list[Layer]  # what the chain and the rest are made of
    node: Node | None  # a call of a layer that reads or makes nests of tensors, which is all there is to do then
    unneeded: list[int]

    def perform(self, values: dict[int, Any]) -> None:
        """From `values`, tensors by the ids of their symbols, to `values`."""
        sources, goal, expected, chain, rest, layers, node, unneeded = self
        if node is not None:
            call_layer(node, values)
        elif chain:
            arrays = [values[source].data for source in sources]
            for position, (shape, dtype) in enumerate(expected):
                array = arrays[position]
                if array.shape != shape or array.dtype != dtype:  # from a layer that was called: it may do as it likes
                    values[goal] = _call_all(layers, [values[source] for source in sources])
                    break
                if not array.flags.carray:
                    arrays[position] = array.copy()
            else:
                functions = iter(chain)
                array = next(functions)(*arrays)
                for function in functions:
                    array = function(array)
                y = Tensor._wrap(array)
                values[goal] = y if rest is None else rest(y)
        elif rest is not None:
            values[goal] = rest(values[sources[0]])
        for key in unneeded:
            values.pop(key, None)


class Plan:
    """What to do to inputs of one shape, as long as `state` and the weights are the same."""

    def __init__(self, graph: Graph, state: tuple[Any, ...], layouts_of: Callable[[Tensor], dict[Any, Array]]) -> None:
        self.state = state
        self._outputs, self._input = graph.outputs, id(flatten(graph.inputs)[0])
        self._tasks: list[_Task] = []
        self._watched: list[tuple[Tensor, Array, list[int]]] = []  # weights, and what they were
        self._layouts_of, self._kernels = layouts_of, state[1]

    def make(self, x: Tensor) -> Nest:
        """Plan for inputs like x, and compute its outputs: layers are prepared for what those before them put out."""
        values: dict[int, Any] = {self._input: x}
        done: set[int] = set()
        for step in self.state[0].steps:
            if id(step.node) not in done:
                task, reader = self._plan_step(step, values)
                if reader is not None:
                    done.add(id(reader))
                task.perform(values)
                self._add(task)
        return self._outputs_of(values)

    def is_valid(self) -> bool:
        """Whether all weights are what they were."""
        for weight, array, version in self._watched:
            if weight.data is not array or weight._version != version:
                return False
        return True

    def run(self, x: Tensor) -> Nest:
        """Outputs for an input of the shape that the plan is for."""
        values: dict[int, Any] = {self._input: x}
        for task in self._tasks:
            task.perform(values)
        return self._outputs_of(values)

    def _outputs_of(self, values: dict[int, Any]) -> Nest:
        if isinstance(self._outputs, SymbolicTensor):
            return values[id(self._outputs)]
        return map_structure(lambda symbol: values[id(symbol)], self._outputs)

    def _plan_step(self, step: Step, values: dict[int, Any]) -> tuple[_Task, Node | None]:
        """The task for a call of a layer, and the following call if that is part of it."""
        node, layer, reader = step.node, step.node.layer, step.reader
        inputs, unneeded = _inputs(node), [id(symbol) for symbol in step.unneeded]
        if inputs is None:
            return _Task([], 0, [], [], None, [], node, unneeded), None
        sources = [id(symbol) for symbol in inputs]
        arrays = [values[source].data for source in sources]
        following = reader.layer if reader is not None and _is_ordinary(reader.layer) else None
        prepared = self._prepare(layer, arrays, following)
        if prepared is not None:
            with_following, chain, rest = prepared.with_following, [prepared.run], prepared.rest
        elif not step.plain:
            return _Task([], 0, [], [], None, [], node, unneeded), None
        else:
            fused = None if following is None else layer.fused_with(following)
            with_following, chain = fused is not None, []
            rest = layer if fused is None else lambda x: layer._run(fused, (x,), {})
        absorbed = reader if with_following else None
        goal = id((absorbed or node).outputs)
        parts = [layer] if absorbed is None else [layer, absorbed.layer]
        expected = [(array.shape, array.dtype) for array in arrays]
        return _Task(sources, goal, expected, chain, rest, parts, None, unneeded), absorbed

    def _prepare(self, layer: Layer, arrays: list[Array], following: Layer | None) -> Prepared | None:
        """The layer prepared for these inputs, its weights watched from now on; None where it has to be called."""
        if not _is_ordinary(layer) or layer.activity_regularizer is not None:
            return None
        shapes = [array.shape for array in arrays]
        if any(array.dtype.name != layer.dtype for array in arrays):
            return None
        if layer.input_spec is not None and not layer.input_spec.fits(shapes[0]):
            return None
        before = [(weight, weight.data, list(weight._version)) for weight in layer._weights]
        prepared = layer.prepare_call(Preparation(shapes, self._kernels, following, self._layouts_of))
        if prepared is not None:
            self._watched += before
        return prepared

    def _add(self, task: _Task) -> None:
        """Append a task, or its functions to those of the task before, whose output nobody else reads."""
        if self._tasks and task.chain:
            last, source = self._tasks[-1], task.sources[0]
            if last.chain and last.rest is None and task.sources == [last.goal] and source in task.unneeded:
                unneeded = [key for key in last.unneeded + task.unneeded if key != source]
                chain, parts = last.chain + task.chain, last.layers + task.layers
                self._tasks[-1] = last._replace(
                    goal=task.goal, chain=chain, rest=task.rest, layers=parts, unneeded=unneeded
                )
                return
        self._tasks.append(task)


def _call_all(layers: list[Layer], inputs: list[Tensor]) -> Tensor:
    """The layers one after the other, the first one on a list where there are several inputs."""
    y: Any = inputs[0] if len(inputs) == 1 else inputs
    for layer in layers:
        y = layer(y)
    return y


def _is_ordinary(layer: Layer) -> bool:
    """Whether the layer does what its class says."""
    return "call" not in vars(layer)


def _inputs(node: Node) -> list[SymbolicTensor] | None:
    """What a call reads that takes one tensor or a list of them and makes one; None for other calls."""
    if node.kwargs or len(node.args) != 1 or not isinstance(node.outputs, SymbolicTensor):
        return None
    inputs = list(node.args[0]) if isinstance(node.args[0], (list, tuple)) else [node.args[0]]
    return inputs if all(isinstance(symbol, SymbolicTensor) for symbol in inputs) else None
