"""Where windows lie on an image: pairs, padding, output sizes, and the checks that convolution and pooling share.

Glossary  H W height and width of the input, KH KW of the window, OH OW number of windows down and across.
          Pairs are (height, width); padding is ((top, bottom), (left, right)); sizes are (H, W).
          A dilated window reaches over (K - 1) * dilation + 1 pixels.
"""

from __future__ import annotations

from typing import Any, TypedDict

from minicnn.functional.arguments import as_kernel_input, check_choice, is_integer
from minicnn.kernels.contract import Padding2D, Pair
from minicnn.tensor import Tensor


class Geometry(TypedDict):
    """How the kernel walks over the image: the options that the three kernels share."""

    strides: Pair
    padding: Padding2D
    dilation: Pair
    groups: int


def pair(value: Any, name: str, at_least: int = 1) -> Pair:
    """An int as (value, value), a sequence of two ints as a tuple.

    Raises ValueError for anything else and for numbers below `at_least`.
    """
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) == 2:
        first, second = values
        if type(first) is type(second) is int and first >= at_least and second >= at_least:
            return values  # the ordinary case, at once
    if len(values) != 2 or not all(is_integer(v) and v >= at_least for v in values):
        raise ValueError(
            f"{name} must be an integer of at least {at_least}, or a pair (height, width) of them. Received: {value!r}"
        )
    return int(values[0]), int(values[1])


def window_reach(window: Pair, dilation: Pair) -> Pair:
    """Pixels from the first row and column of a dilated window to its last, both included."""
    return (window[0] - 1) * dilation[0] + 1, (window[1] - 1) * dilation[1] + 1


def resolve_padding(
    padding: Any, size: Pair, window: Pair, strides: Pair, dilation: Pair = (1, 1), name: str = "padding"
) -> Padding2D:
    """Padding as ((top, bottom), (left, right)), from any of the ways to say it.

    "valid": none. "same": as much as makes OH = ceil(H / stride), the odd row or column at the bottom and right
    (TensorFlow's rule; PyTorch has none for strides above 1). An int or a pair: as much on both sides.

    Raises ValueError for an unknown name, negative numbers and any other structure.
    """
    if isinstance(padding, str):
        check_choice(padding.lower(), ("valid", "same"), name)
        if padding.lower() == "valid":
            return (0, 0), (0, 0)
        reach = window_reach(window, dilation)
        return _same(size[0], reach[0], strides[0]), _same(size[1], reach[1], strides[1])
    return explicit_padding(padding, name)


def explicit_padding(padding: Any, name: str = "padding") -> Padding2D:
    """Padding given by numbers as ((top, bottom), (left, right)). ValueError as `resolve_padding`."""
    if isinstance(padding, (tuple, list)) and len(padding) == 2 and all(isinstance(p, (tuple, list)) for p in padding):
        return pair(padding[0], name, at_least=0), pair(padding[1], name, at_least=0)
    try:
        vertical, horizontal = pair(padding, name, at_least=0)
    except ValueError:
        raise ValueError(
            f"{name} must be 'valid', 'same', a non-negative integer, a pair of them, or ((top, bottom), "
            f"(left, right)). Received: {padding!r}"
        ) from None
    return (vertical, vertical), (horizontal, horizontal)


def _same(size: int, reach: int, stride: int) -> Pair:
    windows = -(-size // stride)  # rounded up
    total = max((windows - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def output_size(
    size: Pair, window: Pair, strides: Pair, padding: Padding2D, dilation: Pair = (1, 1), caller: str = "output_size"
) -> Pair:
    """(OH, OW): how many windows fit into the padded image. Raises ValueError where none does."""
    reach = window_reach(window, dilation)
    padded = size[0] + sum(padding[0]), size[1] + sum(padding[1])
    if reach[0] > padded[0] or reach[1] > padded[1]:
        raise ValueError(
            f"{caller}: the window must fit into the padded input. Use a smaller window, padding='same', or a larger "
            f"image. Received: window {reach} (dilation included), padded input {padded}"
        )
    return (padded[0] - reach[0]) // strides[0] + 1, (padded[1] - reach[1]) // strides[1] + 1


def ceil_mode_padding(size: Pair, window: Pair, strides: Pair, padding: Padding2D) -> Padding2D:
    """More padding at the bottom and right, so that a last window that fits only in part is kept.

    PyTorch's rule: such a window must start within the image or its top (left) padding, not in the far one.
    """
    vertical, horizontal = (_ceil_mode(*axis) for axis in zip(size, window, strides, padding, strict=True))
    return vertical, horizontal


def _ceil_mode(size: int, window: int, stride: int, padding: Pair) -> Pair:
    before, after = padding
    start = -(-(size + before + after - window) // stride) * stride  # of the last window, the number rounded up
    if start >= size + before:
        start -= stride
    return before, max(after, start + window - size - before)


def as_images(x: Any, name: str) -> Tensor:
    """x (N, H, W, C) as kernels take it.

    Raises ValueError for another rank or an empty axis, TypeError for integers.
    """
    images = as_kernel_input(x, name)
    check_images(images.data.shape, name)
    return images


def check_images(shape: tuple[int, ...], name: str) -> None:
    """Raise ValueError for a shape that is not (N, H, W, C), or has an empty axis."""
    if len(shape) != 4:
        raise ValueError(
            f"{name} must have four axes (batch, height, width, channels); one image is x[None], a channel axis is "
            f"x[..., None]. Received: shape {shape}"
        )
    if 0 in shape:
        raise ValueError(f"{name} must not be empty: every axis needs a length of at least 1. Received: {shape}")


def image_size(x: Tensor) -> Pair:
    """(H, W) of images (N, H, W, C)."""
    _, height, width, _ = x.data.shape
    return height, width


# --------------------------------------------------------------------------------------------------- transposed


def transposed_size(
    size: Pair, reach: Pair, strides: Pair, padding: Any, output_padding: int | Pair | None
) -> tuple[Pair, Padding2D]:
    """Size of a transposed convolution's output, and what is cut off the full one: ((top, bottom), (left, right))."""
    extra: tuple[int | None, int | None] = (None, None)
    if output_padding is not None:
        extra = pair(output_padding, "conv2d_transpose: output_padding", at_least=0)
        if extra[0] >= strides[0] or extra[1] >= strides[1]:
            raise ValueError(
                f"conv2d_transpose: output_padding must be smaller than the stride. Received: output_padding={extra}, "
                f"strides={strides}"
            )
    if isinstance(padding, str):
        check_choice(padding.lower(), ("valid", "same"), "conv2d_transpose: padding")
        crop = _valid_crop if padding.lower() == "valid" else _same_crop
        crops = [crop(*axis) for axis in zip(reach, strides, extra, strict=True)]
    else:
        explicit = resolve_padding(padding, size, reach, strides, name="conv2d_transpose: padding")
        crops = [(before, after - (more or 0)) for (before, after), more in zip(explicit, extra, strict=True)]
    full = [(n - 1) * s + k for n, s, k in zip(size, strides, reach, strict=True)]
    height, width = (n - before - after for n, (before, after) in zip(full, crops, strict=True))
    if height <= 0 or width <= 0:
        raise ValueError(
            f"conv2d_transpose: no output is left; use less padding or a larger kernel. Received: full output "
            f"{tuple(full)}, of which padding cuts off {crops}"
        )
    # A negative cut at the end asks for rows beyond the last stamp: the kernel leaves them zero, no padding needed.
    vertical, horizontal = ((before, max(after, 0)) for before, after in crops)
    return (height, width), (vertical, horizontal)


def _valid_crop(reach: int, stride: int, extra: int | None) -> Pair:
    return 0, -(max(reach, stride) - reach if extra is None else extra)


def _same_crop(reach: int, stride: int, extra: int | None) -> Pair:
    """(before, after) cut off the full output (n - 1) * stride + reach, the larger part at the end.

    Equal to keras.src.backend.common.backend_utils, which states it as padding of the dilated input.
    """
    total = 2 * (reach - 1) - (stride + reach - 2 if extra is None else reach + reach % 2 - 2 + extra)
    before = max(total // 2, 0)
    return before, total - before
