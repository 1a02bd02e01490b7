"""Grids of pictures: images with titles, a layer's kernels, a layer's feature maps.

Glossary: N pictures, H x W pixels, C channels, F filters of KH x KW weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.visualize.figures import (
    FAINT,
    HEADER,
    INK,
    MARGIN,
    SMALL,
    PathLike,
    bare,
    check_path,
    headline,
    new_figure,
    place,
    save,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 8.6  # inches at most, where the number of columns is not given
_GAP = 0.12
_LINE = 0.15  # inches of a line of small text
_MAX_ROWS = _MAX_COLUMNS = 16  # of kernels and feature maps: more would be specks


def plot_images(
    images: Any,
    path: PathLike | None = None,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    cmap: str = "gray",
) -> Figure:
    """Pictures side by side, each under its title: say the misread digits, "true 4, read 9 (87 %)".

    images: (N, H, W), or (N, H, W, C) with 1 (grey), 3 (RGB) or 4 (RGBA) channels. uint8 is 0 .. 255; other numbers
        are shown between the smallest and the largest of all the pictures.
    columns: pictures in a row; without it as many as fit. cmap: matplotlib's name of the colours of grey pictures;
        "gray_r" shows MNIST as ink on paper.

    Raises ValueError for another shape, no pictures, numbers that are not finite, or not one title a picture.
    """
    check_path(path)
    pictures = _as_pictures(images)
    names = [str(title) for title in titles] if titles is not None else [""] * len(pictures)
    if len(names) != len(pictures):
        raise ValueError(f"plot_images: expected {len(pictures)} titles, one a picture. Received: {len(names)}")
    lines = [line for name in names for line in name.split("\n")]
    width = max(1.05, 0.1 + 0.065 * max(map(len, lines)))  # inches: room for the longest title
    if columns is None:
        columns = max(1, int((_WIDTH - 2 * MARGIN + _GAP) / (width + _GAP)))
    if columns < 1:
        raise ValueError(f"plot_images: columns must be positive. Received: columns={columns}")
    caption = _LINE * max(name.count("\n") + 1 for name in names) + 0.04 if titles is not None else 0.0
    figure, tiles = _grid(len(pictures), min(columns, len(pictures)), width, pictures.shape[1:3], 0.0, caption)
    for axes, picture, name in zip(tiles, pictures, names, strict=True):
        axes.imshow(picture, cmap=cmap, vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(name, size=SMALL, color=INK, pad=3, linespacing=1.15)
    return save(figure, path)


def plot_filters(kernels: Any, path: PathLike | None = None) -> Figure:
    """The kernels of a convolution, (KH, KW, C, F): each filter a picture where C is 1 or 3, else a row of C pictures.

    One input channel: orange weights are negative, white ones zero, blue ones positive, all on one scale. Three: red,
    green and blue, grey being zero. At most 16 input channels and 256 pictures are drawn; the subtitle says so.

    Raises ValueError for another shape or weights that are not finite.
    """
    check_path(path)
    weights = np.asarray(kernels, np.float64)
    if weights.ndim != 4 or not weights.size or not np.isfinite(weights).all():
        raise ValueError(
            f"plot_filters: kernels must be finite and (KH, KW, C, F), say layer.get_weights()[0]. "
            f"Received shape: {weights.shape}"
        )
    height, width, channels, filters = weights.shape
    limit = np.abs(weights).max() or 1.0
    scaled = 0.5 + 0.5 * weights / limit  # 0.5: a weight of zero
    if channels == 3:
        pictures = scaled.transpose(3, 0, 1, 2)[: _MAX_ROWS * _MAX_COLUMNS]  # (F, KH, KW, 3)
        columns = math.ceil(math.sqrt(2 * len(pictures)))
        key = f"red, green and blue weights, grey is zero, full colour ±{limit:.2g}"
    else:
        shown = scaled[:, :, :_MAX_COLUMNS, :_MAX_ROWS] if channels > 1 else scaled[..., : _MAX_ROWS * _MAX_COLUMNS]
        pictures = shown.transpose(3, 2, 0, 1).reshape(-1, height, width)  # (F * C, KH, KW), a filter's channels in a row
        columns = shown.shape[2] if channels > 1 else math.ceil(math.sqrt(2 * len(pictures)))
        key = f"orange is negative, white zero, blue positive, full colour ±{limit:.2g}"
    columns = min(columns, _MAX_COLUMNS)
    figure, tiles = _grid(len(pictures), columns, _tile_width(columns), (height, width), HEADER, 0.0)
    for axes, picture in zip(tiles, pictures, strict=True):
        axes.imshow(picture, cmap=_weight_colors(), vmin=0, vmax=1, interpolation="nearest")
    of = "" if channels == 1 else f" over {channels} channels"
    few = "" if pictures[..., :1].size * 1 == 0 or len(pictures) >= filters * (1 if channels == 3 else channels) else "; the first are shown"
    headline(figure, f"{filters} filters of {height}×{width}{of}", key + few)
    return save(figure, path)
