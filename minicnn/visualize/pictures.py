"""Grids of pictures: images with titles, a layer's kernels, a layer's feature maps.

Glossary: N pictures, H x W pixels, C channels, F filters of KH x KW weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.visualize.figures import (
    BLUE,
    FAINT,
    HEADER,
    INK,
    MARGIN,
    SMALL,
    VERMILLION,
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
_MIN_WIDTH = 5.6  # inches that a title and subtitle need
_MAX_COLUMNS = 16
_MAX_TILES = _MAX_COLUMNS**2  # more would be specks


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
        axes.set_title(name, size=SMALL, color=INK, pad=3, linespacing=1.15, parse_math=False)
        bare(axes, frame=FAINT)
    return save(figure, path)


def plot_filters(kernels: Any, path: PathLike | None = None) -> Figure:
    """The kernels of a convolution, (KH, KW, C, F), say `layer.get_weights()[0]`.

    One input channel: a tile a filter. Three: a tile a filter, in red, green and blue, grey being zero. Any other
    number: a row a filter, a column a channel. All tiles share one scale, which the subtitle gives; at most 16 columns
    and 16 rows are drawn.

    Raises ValueError for another shape or weights that are not finite.
    """
    check_path(path)
    weights = np.asarray(kernels, np.float64)
    if weights.ndim != 4 or not weights.size or not np.isfinite(weights).all():
        raise ValueError(f"plot_filters: kernels must be finite and (KH, KW, C, F). Received shape: {weights.shape}")
    height, width, channels, filters = weights.shape
    limit = np.abs(weights).max() or 1.0
    tiles, columns = _filter_tiles(0.5 + 0.5 * weights / limit)  # 0.5: a weight of zero
    figure, places = _grid(len(tiles), columns, _tile_width(columns), (height, width), HEADER, caption=0.0)
    for axes, tile in zip(places, tiles, strict=True):
        axes.imshow(tile, cmap=_weight_colors(), vmin=0, vmax=1, interpolation="nearest")
        bare(axes, frame=FAINT)
    colors = "grey is 0" if channels == 3 else "orange is negative, white 0, blue positive"
    subtitle = f"{colors}, full colour ±{limit:.2g}{_left_out(weights, len(tiles))}"
    headline(figure, f"{_counted(filters, 'filter')}, {height}x{width}x{channels}", subtitle)
    return save(figure, path)


def _filter_tiles(scaled: np.ndarray) -> tuple[np.ndarray, int]:
    """The tiles to draw, (T, KH, KW) or (T, KH, KW, 3), and how many stand in a row."""
    channels = scaled.shape[2]
    if channels in (1, 3):
        tiles = scaled.transpose(3, 0, 1, 2)[:_MAX_TILES]  # (F, KH, KW, C)
        return (tiles if channels == 3 else tiles[..., 0]), _columns(len(tiles))
    grid = scaled[:, :, :_MAX_COLUMNS, :_MAX_COLUMNS].transpose(3, 2, 0, 1)  # (F, C, KH, KW)
    return grid.reshape(-1, *grid.shape[2:]), grid.shape[1]


def _left_out(weights: np.ndarray, tiles: int) -> str:
    channels, filters = weights.shape[2:]
    if channels in (1, 3):
        return "" if tiles == filters else f"; the first {tiles}"
    rows, columns = min(filters, _MAX_COLUMNS), min(channels, _MAX_COLUMNS)
    return f"; rows: filters 1 to {rows}, columns: channels 1 to {columns}"


def plot_feature_maps(maps: Any, path: PathLike | None = None) -> Figure:
    """What a layer answers to one picture: maps (H, W, C) or (1, H, W, C), a tile a channel.

    Each map is drawn on a scale of its own, dark to bright, since channels differ much in strength; a map with one
    value everywhere, as of a dead filter, is grey. At most 256 maps are drawn.

    Raises ValueError for another shape or values that are not finite.
    """
    check_path(path)
    values = np.asarray(maps, np.float64)
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim != 3 or not values.size or not np.isfinite(values).all():
        raise ValueError(
            f"plot_feature_maps: maps must be finite and (H, W, C), of one picture. Received shape: {np.shape(maps)}"
        )
    height, width, channels = values.shape
    tiles = values.transpose(2, 0, 1)[:_MAX_TILES]  # (C, H, W)
    columns = _columns(len(tiles))
    figure, places = _grid(len(tiles), columns, _tile_width(columns), (height, width), HEADER, caption=0.0)
    for axes, tile in zip(places, tiles, strict=True):
        flat = tile.min() == tile.max()
        axes.imshow(tile, cmap=_flat_color() if flat else "viridis", interpolation="nearest")
        bare(axes)
    flat_tiles = int((np.ptp(tiles, axis=(1, 2)) == 0).sum())
    silent = f"; grey: {flat_tiles} without an answer" if flat_tiles else ""
    few = "" if len(tiles) == channels else f"; the first {len(tiles)}"
    subtitle = f"dark to bright, each on its own scale{silent}{few}"
    headline(figure, f"{_counted(channels, 'feature map')}, {height}x{width}", subtitle)
    return save(figure, path)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _as_pictures(images: Any) -> np.ndarray:
    """Images as (N, H, W) or (N, H, W, 3 or 4) in 0 .. 1."""
    pictures = np.asarray(images)
    if pictures.ndim == 4 and pictures.shape[3] == 1:
        pictures = pictures[..., 0]
    in_color = pictures.ndim == 4 and pictures.shape[3] in (3, 4)
    if not (pictures.ndim == 3 or in_color) or not pictures.size:
        raise ValueError(
            f"plot_images: images must be (N, H, W) or (N, H, W, C), C = 1, 3 or 4. Received shape: {pictures.shape}"
        )
    if pictures.dtype == np.uint8:
        return pictures / 255
    if not np.isfinite(pictures).all():
        raise ValueError("plot_images: images must be finite. Received: NaN or infinity among the pixels")
    low, high = float(pictures.min()), float(pictures.max())
    return (pictures.astype(np.float64) - low) / ((high - low) or 1)


def _columns(count: int) -> int:
    """Columns of a grid about twice as wide as high, its last row full where that can be."""
    wanted = min(_MAX_COLUMNS, math.ceil(math.sqrt(2 * count)))
    low, high = math.ceil(0.7 * wanted), min(_MAX_COLUMNS, math.ceil(1.5 * wanted))
    full = [columns for columns in range(low, high + 1) if count % columns == 0]
    return min(full, key=lambda columns: abs(columns - wanted), default=wanted)


def _tile_width(columns: int) -> float:
    return min(0.9, (_WIDTH - 2 * MARGIN + _GAP) / columns - _GAP)


def _grid(
    count: int, columns: int, width: float, size: tuple[int, int], header: float, caption: float
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` tiles of `width` inches for pictures of `size` pixels, `caption` inches free above each."""
    height = width * size[0] / size[1]
    rows = math.ceil(count / columns)
    top = max(header, MARGIN)
    figure = new_figure(
        max(2 * MARGIN + columns * (width + _GAP) - _GAP, _MIN_WIDTH if header else 0.0),
        top + rows * (caption + height + _GAP) - _GAP + MARGIN,
    )
    corners = [divmod(index, columns) for index in range(count)]
    return figure, [
        place(figure, MARGIN + column * (width + _GAP), top + row * (caption + height + _GAP) + caption, width, height)
        for row, column in corners
    ]


def _weight_colors() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("weights", [VERMILLION, "white", BLUE])


def _flat_color() -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap([FAINT])
