"""Grids of small pictures: images with captions, the filters of a convolution, the feature maps of a layer."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from minicnn.visualize.figure import GREY, INK, PALE, SMALL_SIZE, TEXT_SIZE, WIDTH, check_path, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

PathLike: TypeAlias = str | os.PathLike[str]

_LARGEST_TILE = 1.5  # inches
_LINE_HEIGHT = 0.2  # inches, of a caption


def plot_images(
    images: np.ndarray,
    path: PathLike | None = None,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
) -> Figure:
    """Pictures side by side, each with its title below, say "true 4, read 9 (87 %)".

    images: (N, H, W), (N, H, W, 1), (N, H, W, 3) or (N, H, W, 4), any real dtype. uint8 is taken as 0..255 and
    floating values within 0..1 as that; other values are stretched from the smallest to the largest of all.
    titles: N strings. columns: pictures in a row, 6 with titles and 10 without where None. path: the PNG to save it as.

    Raises ValueError where images has another shape, is empty or is not finite, where the number of titles is
    another, columns is below 1 or path does not end in .png.
    """
    check_path(path, "plot_images")
    pictures = _unit_range(_checked_images(images))
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(f"plot_images: {len(pictures)} images need as many titles. Received: {len(titles)}")
    if columns is not None and columns < 1:
        raise ValueError(f"plot_images: columns must be at least 1. Received: {columns}")
    columns = min(columns or (6 if titles is not None else 10), len(pictures))
    lines = 0 if titles is None else max(title.count("\n") + 1 for title in map(str, titles))
    figure, tiles = _grid(len(pictures), columns, pictures.shape[1] / pictures.shape[2], lines * _LINE_HEIGHT)
    for index, (axes, picture) in enumerate(zip(tiles, pictures, strict=True)):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        if titles is not None:
            axes.set_xlabel(str(titles[index]), fontsize=SMALL_SIZE, color=INK, labelpad=4, parse_math=False)
    return save(figure, path)


def _checked_images(images: np.ndarray) -> np.ndarray:
    pictures = np.asarray(images)
    if pictures.ndim == 4 and pictures.shape[3] == 1:
        pictures = pictures[..., 0]
    if not pictures.size or not (pictures.ndim == 3 or (pictures.ndim == 4 and pictures.shape[3] in (3, 4))):
        raise ValueError(
            "plot_images: images must be (N, H, W), (N, H, W, 1), (N, H, W, 3) or (N, H, W, 4), N > 0. "
            f"Received: shape {pictures.shape}"
        )
    _require_finite(pictures, "plot_images: images")
    return pictures


def _unit_range(pictures: np.ndarray) -> np.ndarray:
    """The same pictures with values in 0..1."""
    if pictures.dtype == np.uint8:
        return pictures / np.float32(255)
    low, high = float(pictures.min()), float(pictures.max())
    if low >= 0 and high <= 1:
        return pictures.astype(np.float32)
    return (pictures.astype(np.float64) - low) / max(high - low, 1e-12)


def plot_filters(kernels: np.ndarray, path: PathLike | None = None, limit: int = 64) -> Figure:
    """The filters of a convolution: blue weights are negative, red ones positive, on one scale for all.

    kernels: (KH, KW, C, F), a Conv2D layer's own; the first `limit` filters are shown. With one input channel each
    filter is a picture; with three each is shown in colour, red, green and blue weights stretched to 0..1 about 0; with
    more a row is an input channel and a column a filter, and the first of both are shown. path: the PNG to save it as.

    Raises ValueError where kernels has another rank, is empty or is not finite, limit is below 1 or path does not end
    in .png.
    """
    check_path(path, "plot_filters")
    weights = _checked_stack(kernels, 4, "plot_filters: kernels must be (KH, KW, C, F)", limit)
    kernel_height, kernel_width, channels, filters = weights.shape
    size = float(np.abs(weights).max()) or 1.0
    if channels == 3:
        return save(_plot_colour_filters(weights[..., :limit] / size, filters), path)
    if channels == 1:
        count = min(filters, limit)
        columns, rows = min(count, _even_columns(count)), 1
        shown = weights[:, :, 0, :count]  # (KH, KW, tiles)
    else:
        rows, columns = min(channels, 16), min(filters, 16, limit)
        shown = weights[:, :, :rows, :columns].reshape(kernel_height, kernel_width, rows * columns)
    figure, tiles = _grid(shown.shape[2], columns, kernel_height / kernel_width)
    for index, axes in enumerate(tiles):
        drawn = axes.imshow(shown[:, :, index], cmap="RdBu_r", vmin=-size, vmax=size, interpolation="nearest")
    _add_scale(figure, drawn, tiles, "weight")
    _say_what_is_shown(figure, _filters_caption(channels, filters, rows, columns, shown.shape[2]))
    return save(figure, path)


def _plot_colour_filters(weights: np.ndarray, filters: int) -> Figure:
    count = weights.shape[3]
    figure, tiles = _grid(count, _even_columns(count), weights.shape[0] / weights.shape[1])
    for index, axes in enumerate(tiles):
        axes.imshow(0.5 + weights[..., index] / 2, interpolation="nearest")
    _say_what_is_shown(figure, f"{_part(count, filters)} filters, weights as red, green and blue; grey is 0")
    return figure


def _filters_caption(channels: int, filters: int, rows: int, columns: int, tiles: int) -> str:
    if channels == 1:
        return f"{_part(tiles, filters)} filters"
    return f"{_part(columns, filters)} filters (columns) on {_part(rows, channels)} input channels (rows)"


def plot_feature_maps(maps: np.ndarray, path: PathLike | None = None, limit: int = 64) -> Figure:
    """What each channel of a layer answers to one picture, on one scale for all: bright is a strong answer.

    maps: (H, W, C), or (1, H, W, C) as a model's predict returns it; the first `limit` channels are shown.
    path: the PNG to save it as.

    Raises ValueError where maps has another shape, is empty or is not finite, limit is below 1 or path does not end
    in .png.
    """
    check_path(path, "plot_feature_maps")
    maps = np.asarray(maps)
    if maps.ndim == 4 and maps.shape[0] == 1:
        maps = maps[0]
    maps = _checked_stack(maps, 3, "plot_feature_maps: maps must be (H, W, C) or (1, H, W, C)", limit)
    channels = maps.shape[2]
    shown = maps[:, :, :limit]
    low, high = float(shown.min()), float(shown.max())
    count = shown.shape[2]
    figure, tiles = _grid(count, _even_columns(count), maps.shape[0] / maps.shape[1])
    for index, axes in enumerate(tiles):
        drawn = axes.imshow(shown[:, :, index], cmap="magma", vmin=low, vmax=high, interpolation="nearest")
    _add_scale(figure, drawn, tiles, "activation")
    _say_what_is_shown(figure, f"{_part(count, channels)} feature maps, {maps.shape[0]} x {maps.shape[1]}")
    return save(figure, path)


def _checked_stack(x: np.ndarray, rank: int, what: str, limit: int) -> np.ndarray:
    x = np.asarray(x)
    if x.ndim != rank or not x.size:
        raise ValueError(f"{what}. Received: shape {x.shape}")
    _require_finite(x, what.split(" must")[0])
    if limit < 1:
        raise ValueError(f"{what.split(':')[0]}: limit must be at least 1. Received: {limit}")
    return x


def _require_finite(x: np.ndarray, what: str) -> None:
    if x.dtype.kind not in "biuf" or not np.isfinite(x).all():
        raise ValueError(f"{what} must hold finite real numbers. Received: {x.dtype}, or NaN or infinity")


def _grid(count: int, columns: int, aspect: float, caption: float = 0.0) -> tuple[Figure, list[Axes]]:
    """A figure of `count` tiles, `aspect` = height / width of each, with `caption` inches below each."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    side = min(WIDTH / columns, _LARGEST_TILE)
    figure = new_figure(
        max(side * columns, 2.4), rows * (side * min(aspect, 3.0) + caption) + 0.45, padding=min(0.05, 0.04 * side)
    )
    tiles = [figure.add_subplot(rows, columns, index + 1) for index in range(count)]
    for axes in tiles:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=PALE, linewidth=0.6)
    return figure, tiles


def _even_columns(count: int) -> int:
    """The columns, 16 at most, that fill `count` tiles without a gap in the last row, for rows about half as many."""
    wanted = min(16, max(1, math.ceil(math.sqrt(2 * count))))
    return next((columns for columns in range(wanted, wanted // 2, -1) if count % columns == 0), wanted)


def _part(shown: int, all_there_are: int) -> str:
    return f"{shown}" if shown == all_there_are else f"{shown} of {all_there_are}"


def _say_what_is_shown(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=TEXT_SIZE, color=GREY)


def _add_scale(figure: Figure, drawn: AxesImage, tiles: Sequence[Axes], label: str) -> Colorbar:
    """The bar that tells colours from values, at the right."""
    bar = figure.colorbar(drawn, ax=list(tiles), shrink=0.9, aspect=25, pad=0.015)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(length=0, labelsize=SMALL_SIZE, labelcolor=GREY)
    bar.set_label(label, fontsize=SMALL_SIZE, color=GREY)
    return bar
