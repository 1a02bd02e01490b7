"""A photograph or drawing of one digit, made to look as MNIST's digits do.

MNIST's makers scaled each digit to a box of 20x20, kept its proportions, and put its centre of mass into the middle of
28x28 (LeCun, Bottou, Bengio and Haffner 1998, section III). A network trained on MNIST expects the same of its input.
"""

from __future__ import annotations

import io
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.preprocessing.images import open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

_BOX = 20 / 28  # of the picture's side that the digit may take
_LEAST_CONTRAST = 16  # of 255 between paper and ink
_WORK_SIDE = 400  # pixels: a photograph is shrunk to this first, which also takes out its noise


def as_digit(
    source: str | os.PathLike[str] | io.BytesIO | Image,
    size: tuple[int, int] = (28, 28),
    invert: str | bool = "auto",
) -> np.ndarray[Any, Any]:
    """The one digit of a picture as MNIST would have it: (H, W) uint8, light ink on black, in the middle.

    source: a file, or a Pillow image; its rotation tag is obeyed, transparency is laid on white or, for light ink, on
        black. A picture that has `size` already is only inverted where it needs to be.
    invert: True for dark ink on light paper, False for light on dark; "auto" takes the border for paper and looks which.

    Raises ValueError where the picture shows no ink, for an unknown `invert`, and as load_img does.
    """
    from PIL import Image

    if invert not in ("auto", True, False):
        raise ValueError(f'as_digit: invert must be "auto", True or False. Received: {invert!r}')
    image = source if isinstance(source, Image.Image) else open_picture(source)
    name = "the picture" if isinstance(source, (Image.Image, io.BytesIO)) else os.fspath(source)
    gray = _to_gray(image)
    if np.ptp(gray) < _LEAST_CONTRAST:
        raise ValueError(f"as_digit: {name} shows no digit: its brightness is {gray.min():.0f} .. {gray.max():.0f}")
    dark_ink = _paper(gray) > (gray.min() + gray.max()) / 2 if invert == "auto" else bool(invert)
    light = 255 - gray if dark_ink else gray
    if light.shape == tuple(size):
        return light.round().astype(np.uint8)
    ink = _cut_out(_without_paper(light))
    return _center(_resize(ink, _BOX * min(size[0] / ink.shape[0], size[1] / ink.shape[1])), size)


def _to_gray(image: Image) -> np.ndarray[Any, Any]:
    """Brightness (H, W), float64 in 0 .. 255, the right way up, transparency filled, no side above _WORK_SIDE."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    image.thumbnail((_WORK_SIDE, _WORK_SIDE), Image.Resampling.BOX)
    if image.mode.startswith("I") or image.mode == "F":  # 16 or 32 bits: no fixed white
        values = np.asarray(image, np.float64)
        return (values - values.min()) * (255 / (np.ptp(values) or 1))
    if not image.has_transparency_data:
        return np.asarray(image.convert("L"), np.float64)
    values, alpha = (np.asarray(band, np.float64) for band in image.convert("LA").split())
    covered = alpha.sum()
    dark = covered > 0 and (values * alpha).sum() / covered < 128
    paper = 255 if dark else 0
    return paper + (values - paper) * alpha / 255


def _paper(gray: np.ndarray[Any, Any]) -> float:
    border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    return float(np.median(border))


def _without_paper(light: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Light ink on black, 0 .. 255, whatever the lighting: paper, its shadows and its grain become 0.

    The paper's brightness about a pixel is the mean of the darker half of its surroundings, a sixth of the picture wide.
    """
    from PIL import Image, ImageFilter

    side = max(light.shape)
    small = Image.fromarray(light.astype(np.float32)).convert("L")
    small.thumbnail((48, 48), Image.Resampling.BOX)
    floor = small.filter(ImageFilter.MinFilter(9)).filter(ImageFilter.GaussianBlur(4))
    paper = np.asarray(floor.resize(light.shape[::-1], Image.Resampling.BICUBIC), np.float64)
    ink = np.clip(light - paper, 0, None)
    threshold = _otsu(ink)
    full = np.percentile(ink[ink > threshold], 75) if (ink > threshold).any() else ink.max()
    return np.clip((ink - threshold / 2) / max(full - threshold / 2, 1e-9), 0, 1) * 255 * (side > 0)
