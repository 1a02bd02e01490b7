"""Tensors from one memory to another."""

from __future__ import annotations

from typing import Any

from minicnn.autograd import Function
from minicnn.backend import Backend, backend_of, get_backend
from minicnn.kernels.contract import Array
from minicnn.tensor import Tensor


class ToDevice(Function):
    """The same numbers in another memory; gradients come back the other way."""

    def forward(self, x: Array, target: Backend) -> Array:
        self.source = backend_of(x)
        return target.place(x)

    def backward(self, gy: Tensor) -> Any:
        return ToDevice.apply(gy, self.source), None


def to_device(x: Tensor, name: str) -> Tensor:
    """x in the memory of a backend, "cpu", "reference" or "gpu"; x itself where it is there. As torch.Tensor.to.

    Raises ValueError for an unknown backend, RuntimeError for one that cannot compute on this machine.
    """
    target = get_backend(name)
    return x if backend_of(x.data).device == target.device else ToDevice.apply(x, target)
