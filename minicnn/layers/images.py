"""What all layers on images share: the place of the channel axis, and sizes that are not known yet.

Glossary  N batch, H W height and width, C channels. Inside of minicnn images are (N, H, W, C), "channels_last";
          a layer with data_format="channels_first" takes and gives (N, C, H, W) and transposes on the way in and out.
"""

from __future__ import annotations

from typing import Any

from minicnn.functional.arguments import check_choice
from minicnn.functional.geometry import output_size, resolve_padding, window_reach
from minicnn.kernels.contract import Pair
from minicnn.layers.base import Layer
from minicnn.layers.input_spec import InputSpec
from minicnn.layers.symbolic import Shape
from minicnn.tensor import Tensor

Size = tuple[int | None, int | None]
"""(H, W), None where it is not known yet."""

_LAYOUTS = {"channels_last": "(batch, height, width, channels)", "channels_first": "(batch, channels, height, width)"}


class ImageLayer(Layer):
    """Base of layers that work on images: subclasses say what they do to (N, H, W, C).

    data_format: "channels_last" (the default) or "channels_first".
    """

    casts_integers = True

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = "channels_last" if data_format is None else data_format
        check_choice(self.data_format, tuple(_LAYOUTS), f"{self.name}: data_format")
        self.input_spec = InputSpec(ndim=4, layout=_LAYOUTS[self.data_format])

    def call_images(self, images: Tensor) -> Tensor:
        """The layer on images (N, H, W, C)."""
        raise TypeError(f"{type(self).__name__} must define call_images(self, images) or call(self, inputs).")

    def images_shape(self, n: int | None, size: Size, channels: int | None) -> Shape:
        """Shape of the output for images of this size, (N, H, W, C); the default is that of the input."""
        return (n, *size, channels)

    def call(self, inputs: Tensor) -> Tensor:
        return self._restored(self.call_images(self._channels_last(inputs)))

    def compute_output_shape(self, input_shape: Any) -> Shape:
        n, height, width, channels = self._channels_last_shape(input_shape)
        shape = self.images_shape(n, (height, width), channels)
        if self.data_format == "channels_last" or len(shape) != 4:
            return shape
        return (shape[0], shape[3], shape[1], shape[2])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}

    def _channels_last(self, inputs: Tensor) -> Tensor:
        return inputs if self.data_format == "channels_last" else inputs.permute(0, 2, 3, 1)

    def _restored(self, outputs: Tensor) -> Tensor:
        """Outputs in the layer's own format; those that are no images any more stay as they are."""
        return outputs if self.data_format == "channels_last" or outputs.ndim != 4 else outputs.permute(0, 3, 1, 2)

    def _channels_last_shape(self, shape: Shape) -> Shape:
        return shape if self.data_format == "channels_last" else (shape[0], shape[2], shape[3], shape[1])

    def _known_channels(self, input_shape: Shape) -> int:
        """Number of channels, which from now on is fixed. Raises ValueError where it is not known."""
        axis = 3 if self.data_format == "channels_last" else 1
        channels = known_size(self, input_shape, axis)
        self.input_spec = InputSpec(ndim=4, axes={axis: channels}, layout=_LAYOUTS[self.data_format])
        return channels


def known_size(layer: Layer, input_shape: Shape, axis: int) -> int:
    """The size of one axis, from which weights are made. Raises ValueError where it is None."""
    size = input_shape[axis]
    if size is None:
        raise ValueError(
            f"{layer.name}: axis {axis} of the input must have a known size, for the weights' shape depends on it. "
            f"Received: shape {input_shape}"
        )
    return size


def windows_size(
    size: Size, window: Pair, strides: Pair, padding: str, dilation: Pair = (1, 1), caller: str = "windows_size"
) -> Size:
    """(OH, OW): number of windows down and across, None where the image's size is not known.

    Raises ValueError where the window does not fit into the image.
    """
    reach = window_reach(window, dilation)
    height, width = (least if given is None else given for given, least in zip(size, reach, strict=True))
    resolved = resolve_padding(padding, (height, width), window, strides, dilation)
    oh, ow = output_size((height, width), window, strides, resolved, dilation, caller)
    return (None if size[0] is None else oh, None if size[1] is None else ow)
