"""Dropout: zero some elements at random, scale the others so that the expected value stays (Srivastava et al. 2014).

Which elements fall is a function of (seed, stream) alone. The way back reads it from one bit an element.
"""

from __future__ import annotations

from typing import Any

from minicnn.autograd import Function
from minicnn.backend import backend_of
from minicnn.functional.arguments import as_kernel_input, check_number
from minicnn.functional.geometry import as_images
from minicnn.kernels.contract import Array
from minicnn.random import Generator, generator_for
from minicnn.tensor import Tensor

__all__ = ["dropout", "spatial_dropout2d"]


class Dropout(Function):
    def forward(self, x: Array, rate: float, seed: int, stream: int) -> Array:
        self.rate = rate
        y, self.kept = self.kernels.dropout(x, rate, seed, stream)
        return y

    def backward(self, gy: Tensor) -> Any:
        return _keep(gy, self.kept, self.rate)


class Keep(Function):
    """Multiplication by a mask that is given: linear, and its own adjoint."""

    def forward(self, gy: Array, kept: Array, rate: float) -> Array:
        self.kept, self.rate = kept, rate
        return self.kernels.dropout_backward(gy, kept, rate)

    def backward(self, ggx: Tensor) -> Any:
        return _keep(ggx, self.kept, self.rate)


def _keep(gy: Tensor, kept: Array, rate: float) -> Tensor:
    return Keep.apply(as_kernel_input(gy, "dropout: gy"), kept=kept, rate=rate)


def dropout(x: Tensor, rate: float = 0.5, training: bool = True, seed: int | Generator | None = None) -> Tensor:
    """Zero each element with probability `rate`, multiply the rest by 1 / (1 - rate); x itself outside of training.

    seed: None draws from the default generator (`minicnn.manual_seed`), a Generator gives its next stream, a number the
    same mask on every call. Raises ValueError unless 0 <= rate < 1.
    """
    check_number(rate, "dropout: rate", 0, 1, "[)")
    x = as_kernel_input(x, "dropout: x")
    if not training or rate == 0:
        return x
    seed, stream = generator_for(seed).next_stream()
    return Dropout.apply(x, rate=rate, seed=seed, stream=stream)


def spatial_dropout2d(
    x: Tensor, rate: float = 0.5, training: bool = True, seed: int | Generator | None = None
) -> Tensor:
    """Dropout of whole feature maps, whose pixels are too much alike to be dropped alone (Tompson et al. 2015).

    x (N, H, W, C) -> the same shape; each (n, c) is kept or dropped as one. Arguments and errors as dropout.
    """
    x = as_images(x, "spatial_dropout2d: x")
    n, _, _, c = x.shape
    ones = Tensor._wrap(backend_of(x.data).xp.ones((n, 1, 1, c), x.dtype))
    mask = dropout(ones, rate, training, seed)  # (N, 1, 1, C): 0 or 1 / (1 - rate)
    return x * mask if training and rate else x
