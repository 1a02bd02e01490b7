"""A photograph or drawing of one digit, made to look as MNIST's digits do.

MNIST's makers scaled each digit to a box of 20x20, kept its proportions, and put its centre of mass into the middle of
28x28 (LeCun, Bottou, Bengio and Haffner 1998, section III). A network trained on MNIST expects the same of its input.

Within this file `light` is brightness with the ink lighter than the paper, `ink` is what remains without the paper.
Both are (H, W) float64, 0 .. 255.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from minicnn.preprocessing.images import open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

Array: TypeAlias = np.ndarray[Any, Any]

_BOX = 20 / 28  # of the picture's sides that the digit may take
_STROKE = 0.1  # of the digit's longer side: what a pen drew thinner is thickened; MNIST's strokes are 0.1 to 0.15
_LEAST_CONTRAST = 16  # of 255, between paper and ink
_LEAST_INK = 5e-4  # of the picture's pixels; fewer are specks
_WORK_SIDE = 400  # pixels: a photograph is shrunk to this first, which averages its noise, too


def as_digit(
    source: str | os.PathLike[str] | io.BytesIO | Image, size: tuple[int, int] = (28, 28), invert: str | bool = "auto"
) -> Array:
    """The one digit in a picture as MNIST would have it: (H, W) uint8, light ink on black, in the middle.

    source: a file or a Pillow image. Its rotation tag is obeyed; transparency is laid on white or, under light ink, on
        black. A picture that has `size` already is inverted where that is needed, and else left as it is.
    invert: True for dark ink on light paper, False for light on dark; "auto" takes the border for paper and looks.

    Raises ValueError where the picture shows no ink, for an unknown `invert`, and as load_img does.
    """
    from PIL import Image

    if invert not in ("auto", True, False):
        raise ValueError(f'as_digit: invert must be "auto", True or False. Received: {invert!r}')
    image = source if isinstance(source, Image.Image) else open_picture(source)
    gray = _to_gray(image)
    dark_ink = _border(gray) > (gray.min() + gray.max()) / 2 if invert == "auto" else invert
    light = 255 - gray if dark_ink else gray
    if light.shape == tuple(size):
        return light.round().astype(np.uint8)
    ink = _without_paper(light)
    if not ink.any():
        name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "the picture"
        raise ValueError(
            f"as_digit: {name} shows no digit, or too small or faint a one: cut it out larger. "
            f"Received: {image.width}x{image.height}, brightness {gray.min():.0f} .. {gray.max():.0f}"
        )
    return _center(_shrink(_thicken(_crop(ink)), size), size)


def _to_gray(image: Image) -> Array:
    """Brightness (H, W) in 0 .. 255, the right way up, transparency filled, no side longer than _WORK_SIDE."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":  # 16 or 32 bits: nothing says which number is white
        values = np.asarray(image, np.float64)
        image = Image.fromarray(((values - values.min()) * (255 / (np.ptp(values) or 1))).astype(np.uint8))
    image = image.convert("LA")
    image.thumbnail((_WORK_SIDE, _WORK_SIDE), Image.Resampling.BOX)
    values, alpha = (np.asarray(band, np.float64) for band in image.split())
    dark_ink = (values * alpha).sum() < 128 * alpha.sum()
    paper = 255 if dark_ink else 0
    return paper + (values - paper) * alpha / 255


def _border(gray: Array) -> float:
    return float(np.median(np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])))


def _without_paper(light: Array) -> Array:
    """The ink alone, 0 .. 255: the paper becomes 0 whatever its lighting, and so does its grain; all 0 without ink."""
    above = light - _lighting(light)
    threshold = _ink_threshold(above)
    inked = above[above > threshold]
    full = np.percentile(inked, 75) if inked.size >= _LEAST_INK * above.size else 0.0  # not the highlights
    if full < _LEAST_CONTRAST:
        return np.zeros_like(light)
    return np.clip((above - threshold / 2) / (full - threshold / 2), 0, 1) * 255


def _lighting(light: Array) -> Array:
    """The paper's brightness (H, W): a surface of second degree, fitted to what lies below the ink."""
    height, width = light.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)  # (H, W, 6)
    paper = light <= np.median(light)
    for _ in range(4):  # each fit tells better what is paper
        coefficients, *_ = np.linalg.lstsq(terms[paper], light[paper], rcond=None)
        surface = terms @ coefficients
        paper = light - surface <= _ink_threshold(light - surface)
    return surface


def _ink_threshold(above: Array) -> float:
    """What parts ink from paper: Otsu's threshold, but at least 5 standard deviations of the paper's grain.

    Otsu alone parts the grain itself where the ink covers less than a hundredth of the picture. The deviation is taken
    from the median, 1.4826 times the median distance to it, so that the ink does not count.
    """
    distance = np.abs(above - np.median(above))
    return max(_otsu(above), 5 * 1.4826 * float(np.median(distance)))


def _otsu(values: Array) -> float:
    """The threshold that parts the values into the two classes of least variance (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum()
    above = below[-1] - below
    mass = (counts * middles).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = mass / below - (mass[-1] - mass) / above
        between = np.where((below > 0) & (above > 0), below * above * distance**2, -1.0)
    return float(edges[1 + between.argmax()])


def _crop(ink: Array) -> Array:
    """The part of `ink` that the digit fills; specks that a slight blur wipes out do not count."""
    from PIL import Image, ImageFilter

    blur = ImageFilter.GaussianBlur(max(ink.shape) / 150)
    smooth = np.asarray(Image.fromarray(ink.astype(np.uint8)).filter(blur))
    digit = smooth > smooth.max() / 3
    rows, columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _thicken(ink: Array) -> Array:
    """Widen thin strokes, a ballpoint's say, which would fade when the picture is made small."""
    from PIL import Image, ImageFilter

    inked = np.pad(ink > 128, 1)
    edges = (inked[1:] != inked[:-1]).sum() + (inked[:, 1:] != inked[:, :-1]).sum()
    width = 2 * inked.sum() / max(edges * np.pi / 4, 1)  # a long stroke has half its edge on either side
    missing = round((_STROKE * max(ink.shape) - width) / 2)
    if missing < 1:
        return ink
    picture = Image.fromarray(np.pad(ink, missing).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.MaxFilter(2 * missing + 1)), np.float64)


def _shrink(ink: Array, size: tuple[int, int]) -> Array:
    """The digit scaled into MNIST's box, proportions kept, its darkest ink 255."""
    from PIL import Image

    scale = _BOX * min(size[0] / ink.shape[0], size[1] / ink.shape[1])
    height, width = (max(round(side * scale), 1) for side in ink.shape)
    picture = Image.fromarray(ink.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    small = np.asarray(picture, np.float64)
    return small * (255 / small.max())


def _center(ink: Array, size: tuple[int, int]) -> Array:
    """`ink` on black of `size`, its centre of mass in the middle as far as whole pixels and the frame allow; uint8.

    The middle of 28 pixels is number 14, counted from 0, not 13.5: so it is in MNIST's own digits, on average 14.00.
    """
    canvas = np.zeros(size, np.uint8)
    height, width = ink.shape
    row = (ink.sum(axis=1) * np.arange(height)).sum() / ink.sum()
    column = (ink.sum(axis=0) * np.arange(width)).sum() / ink.sum()
    top = min(max(round(size[0] / 2 - row), 0), size[0] - height)
    left = min(max(round(size[1] / 2 - column), 0), size[1] - width)
    canvas[top : top + height, left : left + width] = ink.round()
    return canvas
