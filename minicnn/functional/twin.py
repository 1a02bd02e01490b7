"""Derivatives of fused kernels: by a composed twin, the same function written in differentiable operations.

A fused backward (batch norm's, say) is one kernel and a Function of its own. Its derivative, wanted only for gradients
of gradients, is not worth a kernel: it is found by differentiating a twin of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minicnn import autograd
from minicnn.kernels.contract import Array
from minicnn.tensor import Tensor


class Entry(autograd.Function):
    """The identity, as a node of its own: where the twin begins and the walk over it ends, wherever its inputs are from."""

    def forward(self, x: Array) -> Array:
        return x

    def backward(self, gy: Tensor) -> Tensor:
        return gy


def vjp(
    twin: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], cotangents: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Gradients of sum_i sum(cotangents[i] * twin(*inputs)[i]) with respect to the inputs; None where none is required.

    Called within a backward that is recorded itself, the gradients can be differentiated further.
    """
    create_graph = autograd.is_grad_enabled()
    with autograd.enable_grad():
        entries = [Entry.apply(x) for x in inputs]
        outputs = twin(*entries)
    pairs = [(y, g) for y, g in zip(outputs, cotangents, strict=True) if y.requires_grad]
    wanted = [entry for entry in entries if entry.requires_grad]
    ys, gs = [y for y, _ in pairs], [g for _, g in pairs]
    gradients = iter(autograd.grad(ys, wanted, gs, create_graph=create_graph, allow_unused=True))
    return tuple(next(gradients) if entry.requires_grad else None for entry in entries)
