"""What a backend may provide besides the contract: kernels with their weights prepared once, for inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from minicnn.kernels.contract import Array, EpilogueName, Padding2D, Pair


class Preparing(Protocol):
    """Kernels as functions of x alone, for weights that stay as they are.

    run = prepare_conv2d(x.shape, w, b, ..., layouts={}); run(x) is then conv2d(x, w, b, ...), and need not pack w or
    look at shapes again. `layouts` keeps what was made of w; calls with the same w, for other shapes, may share it.
    Whoever keeps `run` makes it anew when w was written to or `prepared_under()` returns something else.
    """

    def prepare_conv2d(
        self,
        x_shape: tuple[int, int, int, int],
        w: Array,
        b: Array | None,
        strides: Pair,
        padding: Padding2D,
        dilation: Pair,
        groups: int,
        activation: EpilogueName | None,
        layouts: dict[Any, Array],
    ) -> Callable[[Array], Array]:
        """conv2d with all arguments but x."""
        ...

    def prepare_conv2d_max_pool2d(
        self,
        x_shape: tuple[int, int, int, int],
        w: Array,
        b: Array | None,
        strides: Pair,
        padding: Padding2D,
        dilation: Pair,
        groups: int,
        activation: EpilogueName | None,
        window: Pair,
        pool_strides: Pair,
        pool_padding: Padding2D,
        layouts: dict[Any, Array],
    ) -> Callable[[Array], Array]:
        """conv2d_max_pool2d with all arguments but x; the function returns y alone."""
        ...

    def prepare_dense(
        self, x_shape: tuple[int, int], w: Array, b: Array | None, activation: EpilogueName | None
    ) -> Callable[[Array], Array]:
        """dense with all arguments but x."""
        ...

    def prepared_under(self) -> object:
        """The settings on which prepared functions depend."""
        ...
