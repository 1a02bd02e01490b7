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
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from minicnn.backend import backend_of, common_backend, current_backend, host_backend
from minicnn.kernels.contract import Array, Kernels
from minicnn.modes import mode, set_grad_enabled
from minicnn.tensor import Tensor
from minicnn.values import fingerprint

# A training step makes a few nodes a layer, of which each costs a few microseconds of Python: what runs once a node,
# below, is kept plain for that reason (tuples for small records, loops in place of generators).

# --------------------------------------------------------------------------------------------------- the graph

_creation_order = itertools.count()

Edge: TypeAlias = tuple["Function | Tensor", int, tuple[int, ...], np.dtype[Any]]
"""Where the gradient of an input goes: the Function that made it (or the leaf), which of its outputs it is, and what
the gradient must look like, shape and dtype."""


_Saved: TypeAlias = tuple[Any, int | None, int | None, int | None]
"""A value kept for backward. For an array: an input's own tensor, or one that knows nothing of the graph (an output's
own would make a cycle); the output's number, or None; how often it had been edited; its fingerprint, where anomalies
are looked for. For anything else: the value itself and three times None."""


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

    materialize_grads = True
    """Whether backward gets zeros for outputs that nobody used, rather than None. As torch's set_materialize_grads."""

    order: int
    edges: list[Edge | None]
    outputs: list[tuple[tuple[int, ...], np.dtype[Any]]]
    hooks: dict[int, list[Hook]] | None = None
    _recording = False
    _to_save: tuple[Any, ...] = ()
    _saved: list[_Saved]
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
        values, recorded = [], mode.grad_enabled
        for value, output, version_then, print_then in self._saved:
            if version_then is not None:
                version = value._version
                if version[0] != version_then or (print_then is not None and print_then != fingerprint(value.data)):
                    raise RuntimeError(
                        f"{self.name}: an array of shape {value.shape} that backward needs was edited in place "
                        f"after the forward call. Received: edit number {version[0]}, expected {version_then}. "
                        "Edit a copy instead: t.clone(), or write t = t + 1 for t += 1."
                    )
                if output is not None and recorded:
                    value = Tensor._wrap(value.data, self, output, version)
            values.append(value)
        return tuple(values)

    @classmethod
    def apply(cls, *args: Any, **options: Any) -> Any:
        """Run `forward` on the arrays of the tensors among `args`; record it where a gradient may be asked for.

        Raises TypeError for a tensor among the keyword options: it would get no gradient.
        """
        for option in options.values():
            if isinstance(option, Tensor):
                raise TypeError(
                    f"{cls.__name__}.apply takes tensors as positional arguments only. Received: {[*options]}"
                )
        arrays, needs, backend = [], [], None
        for arg in args:
            if isinstance(arg, Tensor):
                array = arg.data
                if type(array) is np.ndarray:
                    backend = backend or host_backend()
                elif backend is None or backend.on_host:
                    backend = common_backend([t.data for t in args if isinstance(t, Tensor)], cls.__name__)
                arrays.append(array)
                needs.append(arg._requires_grad)
            else:
                arrays.append(arg)
                needs.append(False)
        if backend is None:
            backend = current_backend()
        node = cls()
        node.kernels, node.xp, node.needs_input_grad = backend.kernels, backend.xp, tuple(needs)
        recording = node._recording = True in needs and mode.grad_enabled

        result = node.forward(*arrays, **options)

        if not isinstance(result, tuple):
            y = _as_output(result, arrays)
            if not recording:
                return Tensor._wrap(y)
            tensor = Tensor._wrap(y, node)
            node._record(args, arrays, (result,), (tensor,))
            return tensor
        outputs = [_as_output(y, arrays) for y in result]
        if not recording:
            return tuple([Tensor._wrap(y) for y in outputs])
        tensors = tuple([Tensor._wrap(y, node, index) for index, y in enumerate(outputs)])
        node._record(args, arrays, result, tensors)
        return tensors

    def _record(
        self, args: Sequence[Any], arrays: Sequence[Any], results: Sequence[Any], outputs: Sequence[Tensor]
    ) -> None:
        """Become a node of the graph: link to the inputs' nodes, place the saved arrays, number itself."""
        self.order = next(_creation_order)
        needs = self.needs_input_grad
        self.edges = [_edge_of(arg) if needed else None for arg, needed in zip(args, needs, strict=True)]
        self.outputs = [(y.data.shape, y.data.dtype) for y in outputs]
        self._saved = []
        if self._to_save:
            inputs = dict(zip(map(id, arrays), args, strict=True))  # each tensor has an array object of its own
            for value in self._to_save:
                self._saved.append(_save(value, inputs.get(id(value)), results, outputs))
            self._to_save = ()
        if mode.detect_anomaly:
            self._origin = "".join(traceback.format_list(traceback.extract_stack()[:-2]))

    def hooks_of(self, output: int) -> list[Hook]:
        """The list of hooks on one of the outputs, to be added to."""
        if self.hooks is None:
            self.hooks = {}
        return self.hooks.setdefault(output, [])

    def _release(self) -> None:
        """Let go of everything: arrays, links, attributes that forward set."""
        order = self.order
        self.__dict__.clear()
        self.order, self._released = order, True

    def __repr__(self) -> str:
        return f"<{self.name}>"


Hook: TypeAlias = Callable[[Tensor], Tensor | None]


def _save(value: Any, source: Any, results: Sequence[Any], outputs: Sequence[Tensor]) -> _Saved:
    """What is kept of a value; source: the argument that it is the array of, if any."""
    if isinstance(source, Tensor):
        tensor, output = source, None
    elif value is None or not hasattr(value, "dtype"):
        return value, None, None, None
    else:
        tensor, output = _own_or_output(value, results, outputs)
    return tensor, output, tensor._version[0], fingerprint(tensor.data) if mode.detect_anomaly else None


def _own_or_output(value: Array, results: Sequence[Any], outputs: Sequence[Tensor]) -> tuple[Tensor, int | None]:
    """A tensor over an array that is no input's; and which output it is, if one."""
    for index, result in enumerate(results):
        if result is value:
            output = outputs[index]
            return Tensor._wrap(output.data, version=output._version), index
    return Tensor._wrap(np.asarray(value) if isinstance(value, np.generic) else value), None


def _as_output(y: Any, arrays: Sequence[Any]) -> Array:
    """An array object that no other tensor holds: NumPy's scalars become arrays, an input passed through a view."""
    for array in arrays:
        if y is array:
            return y.view()
    return y if type(y) is np.ndarray or hasattr(y, "__cuda_array_interface__") else np.asarray(y)


def _edge_of(tensor: Tensor) -> Edge:
    data, node = tensor.data, tensor.grad_fn
    if node is None:
        return tensor, 0, data.shape, data.dtype
    return node, tensor._output_index, data.shape, data.dtype


# --------------------------------------------------------------------------------------------------- backward

_Captured: TypeAlias = dict[int, dict[int, Tensor | None]]
"""Gradients asked for: by the id of a Function or leaf, and by the number of its output."""


class _Tape:
    """One walk over the graph: gradients that wait for their node, newest node first, and those of the leaves."""

    def __init__(self) -> None:
        self.waiting: dict[int, list[Tensor | None]] = {}
        self.queue: list[tuple[int, int, Function]] = []
        self.leaves: dict[int, tuple[Tensor, Tensor]] = {}

    def add(self, edge: Edge, gradient: Tensor) -> None:
        """Add `gradient` to what has arrived for this edge."""
        target, output, _, _ = edge
        if isinstance(target, Tensor):
            before = self.leaves.get(id(target))
            self.leaves[id(target)] = target, gradient if before is None else before[1] + gradient
            return
        slots = self.waiting.get(id(target))
        if slots is None:
            slots = self.waiting[id(target)] = [None] * len(_live(target).outputs)
            # Every node is newer than all it was computed from: falling creation order is a topological order.
            heapq.heappush(self.queue, (-target.order, id(target), target))
        present = slots[output]
        slots[output] = gradient if present is None else present + gradient


def _walk(
    roots: Sequence[Tensor],
    gradients: Sequence[Tensor],
    retain_graph: bool,
    create_graph: bool,
    captured: _Captured | None,
) -> None:
    """Push gradients from the roots to the leaves' `.grad`; or into `captured`, walking only where that leads."""
    tape = _Tape()
    useful = None if captured is None else _paths_to(captured, roots)
    with set_grad_enabled(create_graph):
        for root, gradient in zip(roots, gradients, strict=True):
            tape.add(_edge_of(root), gradient)
        while tape.queue:
            _visit(tape, retain_graph, captured, useful)
        for leaf, gradient in tape.leaves.values():
            whole = gradient if leaf._hooks is None else _run_hooks(gradient, leaf._hooks)
            if captured is None:
                leaf.grad = whole if leaf.grad is None else leaf.grad + whole
            elif id(leaf) in captured:
                captured[id(leaf)][0] = whole


def _visit(tape: _Tape, retain_graph: bool, captured: _Captured | None, useful: set[int] | None) -> None:
    """One node's step. A function of its own, so that nothing holds its gradients while the next one's are made."""
    node = heapq.heappop(tape.queue)[2]
    arrived = tape.waiting.pop(id(node))
    if node.hooks is not None:
        arrived = [g if g is None else _run_hooks(g, node.hooks.get(i, ())) for i, g in enumerate(arrived)]
    if captured is not None and id(node) in captured:
        for output in captured[id(node)]:
            captured[id(node)][output] = arrived[output]
    if useful is None:
        node.needs_input_grad = tuple([edge is not None for edge in node.edges])
    else:
        node.needs_input_grad = tuple([edge is not None and id(edge[0]) in useful for edge in node.edges])
    if True in node.needs_input_grad:
        _differentiate(node, arrived, tape)
        if not retain_graph:
            node._release()


def _paths_to(captured: _Captured, roots: Sequence[Tensor]) -> set[int] | None:
    """Ids of all nodes from which one of the captured can be reached, and of those themselves; None: of all."""
    nodes: dict[int, Function] = {}
    stack = [root.grad_fn for root in roots if root.grad_fn is not None]
    stray = False  # whether some way leads elsewhere
    while stack:
        node = stack.pop()
        if node._released:
            stray = True
        elif id(node) not in nodes:
            nodes[id(node)] = node
            for edge in node.edges:
                if edge is not None:
                    target = edge[0]
                    if isinstance(target, Function):
                        stack.append(target)
                    elif id(target) not in captured:
                        stray = True
    if not stray:
        return None
    found = set(captured)
    for node in sorted(nodes.values(), key=lambda node: node.order):  # what a node was computed from comes before it
        for edge in node.edges:
            if edge is not None and id(edge[0]) in found:
                found.add(id(node))
                break
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


def _differentiate(node: Function, arrived: list[Tensor | None], tape: _Tape) -> None:
    """Run one backward function; hand each gradient, checked and folded back, to the edge it belongs to."""
    if node.materialize_grads and len(arrived) > 1:
        arrived = [
            Tensor._wrap(node.xp.zeros(shape, dtype)) if g is None else g
            for g, (shape, dtype) in zip(arrived, node.outputs, strict=True)
        ]
    result = node.backward(*arrived)
    gradients = result if isinstance(result, tuple) else (result,)
    edges, needs = node.edges, node.needs_input_grad
    if len(gradients) != len(edges):
        raise RuntimeError(
            f"{node.name}.backward must return one gradient (or None) for each of the {len(edges)} arguments of "
            f"forward. Received: {len(gradients)}"
        )
    for position, edge in enumerate(edges):
        gradient = gradients[position]
        if edge is None or gradient is None or not needs[position]:
            continue
        if not isinstance(gradient, Tensor):
            raise TypeError(
                f"{node.name}.backward must return Tensors: compute with the tensors it is given, not with arrays. "
                f"Received: {type(gradient).__name__} for argument {position}"
            )
        data = gradient.data
        if data.shape != edge[2] or data.dtype != edge[3]:
            gradient = _fitted(node, position, edge, gradient)
        if node._origin is not None and node.xp.isnan(gradient.data).any():
            raise RuntimeError(
                f"{node.name}.backward made a NaN in the gradient of argument {position}. Its forward call was:\n"
                f"{node._origin}"
            )
        if isinstance(edge[0], Tensor) and _is_borrowed(gradient, arrived, gradients):
            gradient = gradient.clone()
        tape.add(edge, gradient)


def _fitted(node: Function, position: int, edge: Edge, gradient: Tensor) -> Tensor:
    """A gradient of the edge's shape and dtype. Raises RuntimeError where broadcasting does not explain another."""
    _, _, shape, dtype = edge
    if node.broadcasts:
        if gradient.data.shape != shape:
            gradient = gradient.sum_to_size(shape)
        if gradient.data.dtype != dtype:
            gradient = gradient.to(dtype)
    if gradient.data.shape != shape or gradient.data.dtype != dtype:
        raise RuntimeError(
            f"{node.name}.backward: the gradient of argument {position} must have shape {shape} and dtype "
            f"{dtype}. Received: shape {gradient.data.shape}, dtype {gradient.data.dtype}"
        )
    return gradient


def _is_borrowed(gradient: Tensor, incoming: Sequence[Tensor | None], gradients: Sequence[Tensor | None]) -> bool:
    """Whether this memory is seen elsewhere too: a leaf's `.grad` must be its own."""
    data = gradient.data
    if type(data.base) is type(data):  # a view; what lies in a backend's pool of memory has a base of another type
        return True
    holders = 0
    for other in (*incoming, *gradients):
        if other is not None and other.data is data:
            holders += 1
    return holders > 1


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
            made.append(Tensor._wrap(backend_of(output.data).xp.ones(output.data.shape, output.data.dtype)))
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
    places = [(id(target), output) for target, output, _, _ in map(_edge_of, wanted)]
    captured: _Captured = {}
    for target, output in places:
        captured.setdefault(target, {})[output] = None
    _walk(roots, seeds, create_graph if retain_graph is None else retain_graph, create_graph, captured)
    found = tuple([captured[target][output] for target, output in places])
    unused = [position for position, gradient in enumerate(found) if gradient is None]
    if unused and not allow_unused:
        raise RuntimeError(
            f"grad(): input {unused[0]} was not used to compute the outputs. Pass allow_unused=True to get "
            "None in its place."
        )
    return found
