"""Pictures from files to arrays and back: keras.utils' load_img, img_to_array, array_to_img and save_img."""

from __future__ import annotations

import io
import os
import warnings
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from minicnn.atomic import atomic_write

if TYPE_CHECKING:
    from PIL.Image import Image

PathLike = str | os.PathLike[str]

_MODES = {"rgb": ("RGB",), "rgba": ("RGBA",), "grayscale": ("L", "I;16", "I")}  # grey of 16 and 32 bits stays so
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "hamming", "box", "lanczos")


def load_img(
    path: PathLike | io.BytesIO,
    color_mode: str = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
) -> Image:
    """The picture in a file as a Pillow image. Arguments and defaults as keras.utils.load_img.

    path: a file's name, or its contents as io.BytesIO. color_mode: "rgb", "rgba" or "grayscale".
    target_size: (height, width) to resize to by `interpolation` ("nearest", "bilinear", "bicubic", "hamming", "box",
        "lanczos"). keep_aspect_ratio: cut the middle out in the target's proportions before, instead of distorting.

    Raises FileNotFoundError; ValueError, naming the file, where it is no picture, cut short, damaged, or larger than
    Pillow takes for safe (PIL.Image.MAX_IMAGE_PIXELS), and for an unknown color_mode or interpolation.
    """
    _check_name("color_mode", color_mode, tuple(_MODES))
    _check_name("interpolation", interpolation, _INTERPOLATIONS)
    image = open_picture(path)
    if image.mode not in _MODES[color_mode]:
        image = image.convert(_MODES[color_mode][0])
    if target_size is None:
        return image
    height, width = _check_size(target_size)
    if image.size == (width, height):
        return image
    box = _middle(image.size, (width, height)) if keep_aspect_ratio else None
    return image.resize((width, height), _resampling(interpolation), box=box)


def open_picture(source: PathLike | io.BytesIO) -> Image:
    """Open and decode a picture with Pillow. Raises as load_img does."""
    from PIL import Image

    if isinstance(source, io.BytesIO):
        name, data = "these bytes", source.getvalue()
    elif isinstance(source, (str, os.PathLike)):
        name, data = os.fspath(source), Path(source).read_bytes()
    else:
        raise TypeError(f"path must be a file's name or io.BytesIO. Received: {source!r}")
    try:
        image = Image.open(io.BytesIO(data))  # reads the header only
    except Image.UnidentifiedImageError:
        raise ValueError(f"{name}: not a picture of a kind that Pillow reads ({len(data):,} bytes)") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{name}: {error}") from error
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(
            f"{name}: {image.width}x{image.height} pixels are more than the {Image.MAX_IMAGE_PIXELS:,} taken for safe. "
            "Raise PIL.Image.MAX_IMAGE_PIXELS if you trust this file"
        )
    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more on damaged data
        raise ValueError(f"{name}: the picture is damaged or cut short ({error})") from error
    return image


def img_to_array(img: Any, data_format: str | None = None, dtype: Any = None) -> np.ndarray[Any, Any]:
    """A Pillow image (or an array) as an array (H, W, C), grey with C = 1; (C, H, W) for "channels_first".

    dtype: float32 unless given. The values stay as they are, 0 .. 255. As keras.utils.img_to_array.
    """
    x = np.array(img, dtype="float32" if dtype is None else dtype)
    if x.ndim == 2:
        x = x[:, :, None]
    if x.ndim != 3:
        raise ValueError(f"img_to_array: expected a picture, (H, W) or (H, W, C). Received shape: {x.shape}")
    return x.transpose(2, 0, 1) if _channels_first(data_format) else x


def array_to_img(x: Any, data_format: str | None = None, scale: bool = True, dtype: Any = None) -> Image:
    """An array (H, W, C), C being 1, 3 or 4, as a Pillow image. As keras.utils.array_to_img.

    scale: stretch the values so that the smallest becomes 0 and the largest 255; without it they are taken as they are.

    Raises ValueError for another shape, values that are not finite, or, without scale, not in 0 .. 255.
    """
    from PIL import Image

    x = np.array(x, dtype="float32" if dtype is None else dtype)
    if x.ndim == 3 and _channels_first(data_format):
        x = x.transpose(1, 2, 0)
    if x.ndim != 3 or x.shape[2] not in (1, 3, 4) or not x.size:
        raise ValueError(f"array_to_img: x must be (H, W, C) with C = 1, 3 or 4. Received shape: {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("array_to_img: x must be finite. Received: NaN or infinity")
    if scale:
        x = x - x.min()
        x = x / (x.max() or 1) * 255
    elif x.min() < 0 or x.max() > 255:
        raise ValueError(
            f"array_to_img: with scale=False values must lie in 0 .. 255. Received: {x.min():g} .. {x.max():g}"
        )
    pixels = x.astype(np.uint8)  # cut off, not rounded, as Keras does
    return Image.fromarray(pixels[:, :, 0] if x.shape[2] == 1 else pixels)


def save_img(
    path: PathLike | BinaryIO,
    x: Any,
    data_format: str | None = None,
    file_format: str | None = None,
    scale: bool = True,
    **kwargs: Any,
) -> None:
    """Save an array (H, W, C) as a picture, whole or not at all. Arguments and defaults as keras.utils.save_img.

    path: a file's name, or a binary file to write to. file_format: "png", "jpeg" ...; else the name's ending says.
    kwargs: for Pillow's save, say quality=95.

    Raises ValueError for an unknown format and as array_to_img does.
    """
    image = array_to_img(x, data_format=data_format, scale=scale)
    file_format = _file_format(path, file_format)
    if image.mode == "RGBA" and file_format == "JPEG":
        warnings.warn("JPEG keeps no transparency: the picture is saved as RGB", stacklevel=2)
        image = image.convert("RGB")
    if not isinstance(path, (str, os.PathLike)):
        image.save(path, format=file_format, **kwargs)
        return
    with atomic_write(path) as file:
        image.save(file, format=file_format, **kwargs)


def _file_format(path: Any, file_format: str | None) -> str:
    from PIL import Image

    if file_format is None and isinstance(path, (str, os.PathLike)):
        file_format = Path(path).suffix.removeprefix(".")
    known = Image.registered_extensions()  # ".jpg" -> "JPEG"
    name = known.get(f".{file_format}".lower(), "")
    if name not in Image.SAVE:
        raise ValueError(f'save_img: unknown picture format. Expected "png", "jpeg" ... Received: {file_format!r}')
    return name


def _check_name(argument: str, name: str, known: tuple[str, ...]) -> None:
    if name in known:
        return
    close = get_close_matches(str(name), known, n=1)
    hint = f". Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"load_img: {argument} must be one of {', '.join(known)}. Received: {name!r}{hint}")


def _check_size(size: Any) -> tuple[int, int]:
    whole = isinstance(size, (tuple, list)) and all(isinstance(side, (int, np.integer)) for side in size)
    if not whole or len(size) != 2 or min(size) < 1:
        raise ValueError(f"load_img: target_size must be (height, width), both positive. Received: {size!r}")
    return int(size[0]), int(size[1])


def _middle(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest box in the middle of a (width, height) picture in the proportions of `target`."""
    width = min(size[0], max(size[1] * target[0] // target[1], 1))
    height = min(size[1], max(size[0] * target[1] // target[0], 1))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return left, top, left + width, top + height


def _resampling(interpolation: str) -> Any:
    from PIL import Image

    return Image.Resampling[interpolation.upper()]


def _channels_first(data_format: str | None) -> bool:
    if data_format not in (None, "channels_last", "channels_first"):
        raise ValueError(f'data_format must be "channels_last" or "channels_first". Received: {data_format!r}')
    return data_format == "channels_first"
