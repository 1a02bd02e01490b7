"""Derivatives of fused kernels: by a composed twin, the same function written in differentiable operations.

A fused backward (batch norm's, say) is one kernel and a Function of its own. Its derivative, wanted only for gradients
of gradients, is not worth a kernel: it is found by differentiating a twin of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minicnn import autograd
from minicnn.modes import enable_grad, is_grad_enabled
from minicnn.tensor import Tensor


def vjp(
    twin: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], cotangents: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Gradients of sum_i sum(cotangents[i] * twin(*inputs)[i]) with respect to the inputs; None where none is required.

    Called within a backward that is recorded itself, the gradients can be differentiated further.
    """
    recorded = is_grad_enabled()
    with enable_grad():
        # Stand-ins, because one input may have been computed from another: the walk must end at each of them.
        entries = [x.reshape(x.shape) if recorded else x.detach().requires_grad_(x.requires_grad) for x in inputs]
        outputs = twin(*entries)
    wanted = [entry for entry in entries if entry.requires_grad]
    pairs = [(y, g) for y, g in zip(outputs, cotangents, strict=True) if y.requires_grad]
    gradients = iter(
        autograd.grad([y for y, _ in pairs], wanted, [g for _, g in pairs], create_graph=recorded, allow_unused=True)
    )
    return tuple(next(gradients) if entry.requires_grad else None for entry in entries)
