"""What a layer can take: the number of axes and the sizes that must be right. As keras.layers.InputSpec."""

from __future__ import annotations

from typing import Any


class InputSpec:
    """Checked at each call of a layer that has one as its `input_spec`.

    ndim: number of axes, the batch included; min_ndim: the least number; axes: sizes that certain axes must have.
    layout: what the axes mean, for the error message.
    """

    def __init__(
        self,
        ndim: int | None = None,
        min_ndim: int | None = None,
        axes: dict[int, int | None] | None = None,
        layout: str = "",
    ) -> None:
        self.ndim, self.min_ndim, self.axes, self.layout = ndim, min_ndim, axes or {}, layout

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether one tensor of this shape may come in."""
        rank = len(shape)
        if (self.ndim is not None and rank != self.ndim) or (self.min_ndim is not None and rank < self.min_ndim):
            return False
        return not [axis for axis, size in self.axes.items() if size is not None and shape[axis] != size]

    def check(self, layer_name: str, shape: Any) -> None:
        """Raise ValueError, naming the layer, where an input of this shape does not fit."""
        if not isinstance(shape, tuple) or any(isinstance(size, (tuple, list, dict)) for size in shape):
            raise ValueError(f"{layer_name}: expected one tensor. Received: shapes {shape}")
        rank = len(shape)
        if self.ndim is not None and rank != self.ndim:
            hint = self._hint(rank)
            raise ValueError(f"{layer_name}: expected {self._axes(self.ndim)}. Received: shape {shape}{hint}")
        if self.min_ndim is not None and rank < self.min_ndim:
            raise ValueError(f"{layer_name}: expected at least {self._axes(self.min_ndim)}. Received: shape {shape}")
        for axis, size in self.axes.items():
            if size is not None and shape[axis] not in (size, None):
                raise ValueError(f"{layer_name}: expected size {size} on axis {axis}. Received: shape {shape}")

    def _axes(self, count: int) -> str:
        return f"{count} axes{' ' + self.layout if self.layout else ''}"

    def _hint(self, rank: int) -> str:
        if self.ndim == 4 and rank == 3:
            return ". A single image is x[None]; grayscale images without a channel axis are x[..., None]"
        return ""
