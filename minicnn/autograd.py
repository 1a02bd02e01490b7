"""Automatic differentiation: Function (one node of the graph), the tape, backward, grad.

A `Function` computes arrays from arrays in `forward` and gradients from gradients in `backward`. Calling
`Function.apply` on tensors that require gradients leaves the instance behind as the result's `grad_fn`: these
instances, linked by their `edges`, are the tape. `backward` walks it from the newest node to the oldest. Backward
functions work on tensors, so with `create_graph=True` the walk itself is recorded and can be differentiated again.
"""

from __future__ import annotations

import heapq
import itertools
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from minicnn.backend import common_backend
from minicnn.kernels.contract import Array, Kernels
from minicnn.modes import mode, set_grad_enabled
from minicnn.tensor import Tensor

# --------------------------------------------------------------------------------------------------- the graph

_creation_order = itertools.count()


class Edge(NamedTuple):
    """Where the gradient of an input goes: to an output of a Function, or to a leaf; and what it must look like."""

    target: Function | Tensor
    output: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class _Saved:
    """An array kept for backward, with its place in the graph: a tensor, or (to make no cycle) an output's number."""

    __slots__ = ("data", "fingerprint", "output", "tensor", "version", "version_then")

    def __init__(self, data: Array, tensor: Tensor | None, output: int | None, version: list[int]) -> None:
        self.data, self.tensor, self.output = data, tensor, output
        self.version, self.version_then = version, version[0]
        self.fingerprint = _fingerprint(data) if mode.detect_anomaly else None

    def unpack(self, node: Function) -> Tensor:
        edited = self.version[0] != self.version_then
        if edited or (self.fingerprint is not None and self.fingerprint != _fingerprint(self.data)):
            raise RuntimeError(
                f"{node.name}: an array of shape {tuple(self.data.shape)} that backward needs was edited in place "
                f"after the forward call. Received: edit number {self.version[0]}, expected {self.version_then}. "
                "Edit a copy instead: t.clone(), or write t = t + 1 for t += 1."
            )
        if self.tensor is not None:
            return self.tensor
        if self.output is not None:
            return Tensor._wrap(self.data, node, self.output, self.version)
        return Tensor._wrap(self.data)


def _fingerprint(array: Array) -> int:
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


class Function:
    """One differentiable operation. Subclasses define `forward` and `backward`; callers use `apply`.

        class Square(Function):
            def forward(self, x):                # arrays in, an array (or a tuple of arrays) out
                self.save_for_backward(x)
                return x * x

            def backward(self, gy):              # tensors in, a tensor an argument of forward out
                (x,) = self.saved_tensors
                return 2 * x * gy

        y = Square.apply(x)

    The engine does the common work: it checks shape and dtype of every gradient, sums over broadcast axes where the
    class says `broadcasts = True`, adds up the gradients of a tensor used twice, and frees everything after backward.

    Within both methods: `self.kernels` and `self.xp` (the backend's kernels and array module) and
    `self.needs_input_grad` (a bool an argument: skip what nobody asked for, return None in its place).
    """

    broadcasts = False
    """Whether arguments are broadcast and promoted against each other, as in x + y."""

    kernels: Kernels
    xp: Any
    needs_input_grad: tuple[bool, ...]

    order: int
    edges: list[Edge | None]
    outputs: list[tuple[tuple[int, ...], np.dtype[Any]]]
    hooks: dict[int, list[Hook]]
    _recording: bool
    _to_save: tuple[Any, ...]
    _saved: list[Any]
    _released = False
    _origin: str | None = None

    def forward(self, *args: Any, **options: Any) -> Any:
        raise TypeError(f"{self.name} must define forward(self, *arrays).")

    def backward(self, *gradients: Any, **options: Any) -> Any:
        raise TypeError(f"{self.name} must define backward(self, *gradients) to be differentiated.")

    @property
    def name(self) -> str:
        return type(self).__name__

    def save_for_backward(self, *values: Any) -> None:
        """Keep inputs, outputs or other arrays for `saved_tensors`. Only these are watched for edits in place."""
        if self._recording:
            self._to_save = values

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What `save_for_backward` kept: inputs and outputs as tensors of the graph; non-arrays as they came."""
        return tuple(value.unpack(self) if isinstance(value, _Saved) else value for value in self._saved)

    @classmethod
    def apply(cls, *args: Any, **options: Any) -> Any:
        """Run `forward` on the arrays of the tensors among `args`; record it where a gradient may be asked for.

        Raises TypeError for a tensor among the keyword options: it would get no gradient.
        """
        if any(isinstance(option, Tensor) for option in options.values()):
            raise TypeError(f"{cls.__name__}.apply takes tensors as positional arguments only. Received: {[*options]}")
        node = cls()
        arrays = [arg.data if isinstance(arg, Tensor) else arg for arg in args]
        needs = tuple([isinstance(arg, Tensor) and arg._requires_grad for arg in args])
        backend = common_backend([arg.data for arg in args if isinstance(arg, Tensor)])
        node.kernels, node.xp = backend.kernels, backend.xp
        node.needs_input_grad = needs
        node._recording = mode.grad_enabled and True in needs
        node._to_save = ()

        result = node.forward(*arrays, **options)

        several = isinstance(result, tuple)
        outputs = [_as_output(y, arrays, backend.xp) for y in (result if several else (result,))]
        if node._recording:
            tensors = [Tensor._wrap(y, node, index) for index, y in enumerate(outputs)]
            node._record(args, result if several else (result,), tensors)
        else:
            tensors = [Tensor._wrap(y) for y in outputs]
        return tuple(tensors) if several else tensors[0]

    def _record(self, args: Sequence[Any], results: Sequence[Any], outputs: Sequence[Tensor]) -> None:
        """Become a node of the graph: link to the inputs' nodes, place the saved arrays, number itself."""
        self.order = next(_creation_order)
        self.edges = [
            _edge_of(arg) if needed else None for arg, needed in zip(args, self.needs_input_grad, strict=True)
        ]
        self.outputs = [(y.data.shape, y.data.dtype) for y in outputs]
        self.hooks = {}
        self._saved = [self._place(value, args, results, outputs) for value in self._to_save]
        del self._to_save
        if mode.detect_anomaly:
            self._origin = "".join(traceback.format_list(traceback.extract_stack()[:-2]))

    def _place(self, value: Any, args: Sequence[Any], results: Sequence[Any], outputs: Sequence[Tensor]) -> Any:
        """Find a saved value among inputs and results: each tensor has an array object of its own, so `is` tells."""
        if not hasattr(value, "dtype"):
            return value
        for arg in args:
            if isinstance(arg, Tensor) and arg.data is value:
                return _Saved(value, arg, None, arg._version)
        for index, result in enumerate(results):
            if result is value:
                return _Saved(outputs[index].data, None, index, outputs[index]._version)
        return _Saved(self.xp.asarray(value), None, None, [0])

    def _release(self) -> None:
        """Let go of everything: arrays, links, attributes that forward set."""
        order = self.order
        self.__dict__.clear()
        self.order, self._released = order, True

    def __repr__(self) -> str:
        return f"<{self.name}>"


Hook: TypeAlias = Callable[[Tensor], Tensor | None]


def _as_output(y: Any, arrays: Sequence[Any], xp: Any) -> Array:
    """An array object that no other tensor holds: NumPy's scalars become arrays, an input passed through a view."""
    if any(y is array for array in arrays):
        return y.view()
    return xp.asarray(y)


def _edge_of(tensor: Tensor) -> Edge:
    shape, dtype = tensor.data.shape, tensor.data.dtype
    if tensor.grad_fn is None:
        return Edge(tensor, 0, shape, dtype)
    return Edge(tensor.grad_fn, tensor._output_index, shape, dtype)


# --------------------------------------------------------------------------------------------------- backward

_Captured: TypeAlias = dict[tuple[int, int], Tensor | None]


class _Tape:
    """One walk over the graph: gradients that wait for their node, newest node first."""

    def __init__(self) -> None:
        self.waiting: dict[int, list[Tensor | None]] = {}
        self.queue: list[tuple[int, int, Function | Tensor]] = []

    def add(self, edge: Edge, gradient: Tensor) -> None:
        """Add `gradient` to what has arrived for this edge."""
        target = edge.target
        slots = self.waiting.get(id(target))
        if slots is None:
            # Every node is newer than all it was computed from, so falling creation order is a topological order;
            # leaves come last, when all of their gradient is there.
            count, order = (len(_live(target).outputs), -target.order) if isinstance(target, Function) else (1, 1)
            slots = self.waiting[id(target)] = [None] * count
            heapq.heappush(self.queue, (order, id(target), target))
        present = slots[edge.output]
        slots[edge.output] = gradient if present is None else present + gradient

    def pop(self) -> tuple[Function | Tensor, list[Tensor | None]]:
        target = heapq.heappop(self.queue)[2]
        return target, self.waiting.pop(id(target))


def _walk(
    roots: Sequence[Tensor],
    gradients: Sequence[Tensor],
    retain_graph: bool,
    create_graph: bool,
    captured: _Captured | None,
) -> None:
    """Push gradients from the roots to the leaves' `.grad`; or into `captured`, walking only where that leads."""
    tape = _Tape()
    useful = None if captured is None else _paths_to({target for target, _ in captured}, roots)
    with set_grad_enabled(create_graph):
        for root, gradient in zip(roots, gradients, strict=True):
            tape.add(_edge_of(root), gradient)
        while tape.queue:
            target, arrived = tape.pop()
            hooks = target._hooks if isinstance(target, Tensor) else target.hooks
            arrived = [g if g is None else _run_hooks(g, hooks.get(i, ())) for i, g in enumerate(arrived)]
            if captured is not None:
                for i, whole in enumerate(arrived):
                    if (id(target), i) in captured:
                        captured[id(target), i] = whole
            if isinstance(target, Function):
                target.needs_input_grad = tuple(
                    [edge is not None and (useful is None or id(edge.target) in useful) for edge in target.edges]
                )
                if True not in target.needs_input_grad:
                    continue
                for edge, gradient in _differentiate(target, arrived):
                    tape.add(edge, gradient)
                if not retain_graph:
                    target._release()
            elif captured is None and arrived[0] is not None:
                target.grad = arrived[0] if target.grad is None else target.grad + arrived[0]


def _paths_to(targets: set[int], roots: Sequence[Tensor]) -> set[int]:
    """Ids of all nodes from which one of the targets (ids too) can be reached, and of the targets themselves."""
    nodes: dict[int, Function] = {}
    stack: list[Function | Tensor | None] = [root.grad_fn for root in roots]
    while stack:
        node = stack.pop()
        if isinstance(node, Function) and not node._released and id(node) not in nodes:
            nodes[id(node)] = node
            stack += [edge.target for edge in node.edges if edge is not None]
    found = set(targets)
    for node in sorted(nodes.values(), key=lambda node: node.order):  # what a node was computed from comes before it
        if any(edge is not None and id(edge.target) in found for edge in node.edges):
            found.add(id(node))
    return found


def _live(node: Function) -> Function:
    if node._released:
        raise RuntimeError(
            f"{node.name}: this graph was already walked and freed. Call the first backward() or grad() with "
            "retain_graph=True to walk it twice."
        )
    return node


def _run_hooks(gradient: Tensor, hooks: Sequence[Hook]) -> Tensor:
    for hook in tuple(hooks):
        replaced = hook(gradient)
        if replaced is not None:
            gradient = replaced
    return gradient


def _differentiate(node: Function, arrived: list[Tensor | None]) -> Iterator[tuple[Edge, Tensor]]:
    """Run one backward function; yield each gradient, checked and folded back, with the edge it belongs to."""
    incoming = [
        Tensor._wrap(node.xp.zeros(shape, dtype)) if g is None else g
        for g, (shape, dtype) in zip(arrived, node.outputs, strict=True)
    ]
    result = node.backward(*incoming)
    gradients = result if isinstance(result, tuple) else (result,)
    if len(gradients) != len(node.edges):
        raise RuntimeError(
            f"{node.name}.backward must return one gradient (or None) for each of the {len(node.edges)} arguments of "
            f"forward. Received: {len(gradients)}"
        )
    for position, (edge, gradient) in enumerate(zip(node.edges, gradients, strict=True)):
        if edge is None or gradient is None or not node.needs_input_grad[position]:
            continue
        if not isinstance(gradient, Tensor):
            raise TypeError(
                f"{node.name}.backward must return Tensors: compute with the tensors it is given, not with arrays. "
                f"Received: {type(gradient).__name__} for argument {position}"
            )
        gradient = _fitted(node, position, edge, gradient)
        if node._origin is not None and node.xp.isnan(gradient.data).any():
            raise RuntimeError(
                f"{node.name}.backward made a NaN in the gradient of argument {position}. Its forward call was:\n"
                f"{node._origin}"
            )
        if isinstance(edge.target, Tensor) and _is_borrowed(gradient, incoming, gradients):
            gradient = gradient.clone()
        yield edge, gradient


def _fitted(node: Function, position: int, edge: Edge, gradient: Tensor) -> Tensor:
    if node.broadcasts:
        if gradient.data.shape != edge.shape:
            gradient = gradient.sum_to_size(edge.shape)
        if gradient.data.dtype != edge.dtype:
            gradient = gradient.to(edge.dtype)
    if gradient.data.shape != edge.shape or gradient.data.dtype != edge.dtype:
        raise RuntimeError(
            f"{node.name}.backward: the gradient of argument {position} must have shape {edge.shape} and dtype "
            f"{edge.dtype}. Received: shape {gradient.data.shape}, dtype {gradient.data.dtype}"
        )
    return gradient


def _is_borrowed(gradient: Tensor, incoming: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> bool:
    """Whether this memory is seen elsewhere too: a leaf's `.grad` must be its own."""
    data = gradient.data
    if data.base is not None or any(data is g.data for g in incoming):
        return True
    return sum(g is not None and g.data is data for g in gradients) > 1


def _initial_gradients(
    outputs: Sequence[Tensor], gradients: Sequence[Tensor | Array | None] | None, caller: str
) -> list[Tensor]:
    if gradients is None:
        gradients = [None] * len(outputs)
    if len(gradients) != len(outputs):
        raise ValueError(f"{caller}: one gradient an output is needed ({len(outputs)}). Received: {len(gradients)}")
    made = []
    for output, gradient in zip(outputs, gradients, strict=True):
        if not output.requires_grad:
            raise RuntimeError(
                f"{caller}: the output does not require a gradient, so there is nothing to differentiate. Set "
                f"requires_grad=True on an input, and compute outside of no_grad(). Received: {output!r}"
            )
        if gradient is None:
            if output.data.size != 1:
                raise RuntimeError(
                    f"{caller}: only a scalar has an implied gradient of 1. Reduce the output (y.sum()), or pass a "
                    f"gradient of its shape. Received: output of shape {output.shape}"
                )
            made.append(Tensor._wrap(np.ones_like(output.data)))
            continue
        given = gradient if isinstance(gradient, Tensor) else Tensor(gradient, dtype=output.dtype)
        if given.shape != output.shape or given.dtype != output.dtype:
            raise ValueError(
                f"{caller}: the gradient must match its output, shape {output.shape} and dtype {output.dtype}. "
                f"Received: shape {given.shape}, dtype {given.dtype}"
            )
        made.append(given)
    return made


def _roots(outputs: Tensor | Sequence[Tensor], gradients: Any, caller: str) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and their initial gradients as lists, where one of each may have been given."""
    if isinstance(outputs, Tensor):
        outputs, gradients = [outputs], None if gradients is None else [gradients]
    return list(outputs), _initial_gradients(outputs, gradients, caller)


def backward(
    outputs: Tensor | Sequence[Tensor],
    gradients: Tensor | Array | Sequence[Tensor | Array | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Add the gradient of `outputs` to `.grad` of every leaf they were computed from. As torch.autograd.backward.

    gradients: the gradient of some scalar with respect to each output; may be left out for outputs of one element.
    retain_graph: keep the graph for a second walk (default: create_graph). create_graph: record the walk itself.
    """
    roots, seeds = _roots(outputs, gradients, "backward()")
    _walk(roots, seeds, create_graph if retain_graph is None else retain_graph, create_graph, None)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Array | Sequence[Tensor | Array | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of `outputs` with respect to `inputs`, returned; no `.grad` is touched. As torch.autograd.grad.

    Raises RuntimeError where an input is not part of the graph, unless `allow_unused` (then its place holds None).
    """
    roots, seeds = _roots(outputs, grad_outputs, "grad()")
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for tensor in wanted:
        if not tensor.requires_grad:
            raise RuntimeError(f"grad(): an input does not require a gradient. Received: {tensor!r}")
    edges = [_edge_of(tensor) for tensor in wanted]
    captured: _Captured = {(id(edge.target), edge.output): None for edge in edges}
    _walk(roots, seeds, create_graph if retain_graph is None else retain_graph, create_graph, captured)
    found = tuple(captured[id(edge.target), edge.output] for edge in edges)
    if not allow_unused and any(gradient is None for gradient in found):
        raise RuntimeError(
            f"grad(): input {found.index(None)} was not used to compute the outputs. Pass allow_unused=True to get "
            "None in its place."
        )
    return found
