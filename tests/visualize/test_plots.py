"""The plots: what they draw, that nothing is cut off, that files are whole, and what wrong input is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib")
from matplotlib.colors import to_rgb  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.text import Text  # noqa: E402

from minicnn.visualize import (  # noqa: E402
    plot_confusion_matrix,
    plot_feature_maps,
    plot_filters,
    plot_history,
    plot_images,
)

HISTORY = {
    "loss": [0.9, 0.4, 0.3, 0.25],
    "accuracy": [0.7, 0.85, 0.9, 0.92],
    "val_loss": [0.5, 0.4, 0.35, 0.25],
    "val_accuracy": [0.8, 0.86, 0.89, 0.9],
}
MATRIX = np.array([[90, 7, 0], [2, 48, 0], [0, 1, 9]])
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
BLUE, VERMILLION = to_rgb("#0072B2"), to_rgb("#D55E00")


def ramp(*shape: int) -> np.ndarray:
    return np.linspace(-1.5, 2.5, int(np.prod(shape))).reshape(shape)


FIGURES: dict[str, Callable[..., Figure]] = {
    "history": lambda path=None: plot_history(HISTORY, path),
    "history_of_one_epoch": lambda path=None: plot_history({"loss": [1.25]}, path),
    "history_of_three_metrics": lambda path=None: plot_history(
        {"loss": [1, 2], "mae": [3, 4], "mse": [5e-7, 6e5]}, path
    ),
    "confusion": lambda path=None: plot_confusion_matrix(MATRIX, "abc", path),
    "confusion_long_names": lambda path=None: plot_confusion_matrix(12345 * np.eye(10), CLOTHES, path, normalize=True),
    "confusion_many": lambda path=None: plot_confusion_matrix(np.eye(30), [str(name) for name in range(30)], path),
    "images": lambda path=None: plot_images(ramp(7, 5, 4), path, titles=["true 4, read 9 (87 %)"] * 7),
    "filters_grey": lambda path=None: plot_filters(ramp(3, 3, 1, 6), path),
    "filters_rgb": lambda path=None: plot_filters(ramp(5, 4, 3, 8), path),
    "filters_deep": lambda path=None: plot_filters(ramp(3, 2, 20, 4), path),
    "feature_maps": lambda path=None: plot_feature_maps(ramp(6, 7, 5), path),
    "one_feature_map": lambda path=None: plot_feature_maps(np.zeros((6, 7, 1)), path),
}


def texts(figure: Figure) -> list[Text]:
    """The texts that are seen; matplotlib also keeps labels of ticks beyond the axes' ends, and does not draw them."""
    beyond = set()
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            low, high = sorted((low, high))
            outside = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
            beyond |= {label for tick in outside for label in (tick.label1, tick.label2)}
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible() and text not in beyond]


def image(axes: Any) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


@pytest.mark.parametrize("name", FIGURES)
def test_every_text_is_inside_the_picture_and_none_covers_another(name: str) -> None:
    figure = FIGURES[name]()
    figure.canvas.draw()
    frame, shown = figure.bbox, [text for text in texts(figure) if not text.get_rotation()]
    boxes = {index: text.get_window_extent() for index, text in enumerate(shown)}
    for index, box in boxes.items():
        inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        assert inside, f"{shown[index].get_text()!r} is cut off"
        covered = [shown[other].get_text() for other, second in boxes.items() if other > index and box.overlaps(second)]
        assert not covered, f"{shown[index].get_text()!r} covers {covered}"


@pytest.mark.parametrize("name", FIGURES)
def test_a_png_is_saved_and_the_figure_returned(tmp_path: Path, name: str) -> None:
    figure = FIGURES[name](tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        picture.load()
        assert picture.format == "PNG"
        np.testing.assert_allclose(picture.size, figure.get_size_inches() * figure.dpi, atol=1)
        assert picture.convert("RGB").getpixel((1, 1)) == (255, 255, 255)
        assert len(picture.convert("RGB").getcolors(maxcolors=1 << 24)) > 2  # something is drawn
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]


def test_the_same_plot_makes_the_same_file(tmp_path: Path) -> None:
    for name in ("first.png", "second.png"):
        plot_history(HISTORY, tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_a_failure_while_saving_keeps_the_old_file_and_leaves_no_part(tmp_path: Path, monkeypatch) -> None:
    def broken(self: Figure, file: Any, **kwargs: Any) -> None:
        file.write(b"\x89PNG half of it")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", broken)
    target = tmp_path / "plot.png"
    target.write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"):
        plot_history(HISTORY, target)
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]
    assert target.read_bytes() == b"old"


def test_history_has_a_panel_a_metric_and_counts_epochs_from_one() -> None:
    figure = plot_history(HISTORY)
    loss, accuracy = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss", "accuracy"]
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        train, validation = axes.lines
        for line, series in ((train, HISTORY[name]), (validation, HISTORY[f"val_{name}"])):
            np.testing.assert_array_equal(line.get_xydata(), np.column_stack([[1, 2, 3, 4], series]))
        assert (to_rgb(train.get_color()), to_rgb(validation.get_color())) == (BLUE, VERMILLION)
        ticks = np.array(axes.get_xticks())
        np.testing.assert_array_equal(ticks, ticks.round())
    shown = {text.get_text() for text in texts(figure)}
    assert {"train 0.2500", "validation 0.2500", "train 0.9200", "validation 0.9000"} <= shown


def test_validation_every_other_epoch_stands_at_those_epochs() -> None:
    train, validation = plot_history({"loss": [5, 4, 3, 2, 1], "val_loss": [4.5, 2.5]}).axes[0].lines
    assert train.get_xdata().tolist() == [1, 2, 3, 4, 5]
    assert validation.get_xdata().tolist() == [2, 4]


def test_a_learning_rate_is_labelled_as_neither_train_nor_validation() -> None:
    figure = plot_history({"loss": [3, 2], "learning_rate": [0.1, 0.05]})
    shown = [text.get_text() for text in texts(figure)]
    assert "train 2.0000" in shown
    assert "0.0500" in shown
    assert "train 0.0500" not in shown


def test_dollar_signs_are_not_mathematics() -> None:
    names = [r"$\money$", r"$\frac$"]
    for figure in (plot_confusion_matrix(np.eye(2), names), plot_images(np.zeros((2, 3, 3)), titles=names)):
        figure.canvas.draw()  # raised a parser's error
        assert set(names) <= {text.get_text() for text in texts(figure)}


def test_history_with_a_diverged_loss_draws_what_is_finite() -> None:
    figure = plot_history({"loss": [1.0, float("inf"), float("nan")], "val_loss": [float("nan")] * 3})
    assert "train nan" in {text.get_text() for text in texts(figure)}
    figure.canvas.draw()


def test_confusion_matrix_writes_counts_and_leaves_zeros_empty() -> None:
    axes = plot_confusion_matrix(MATRIX, ["cat", "dog", "owl"]).axes[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts if text.get_ha() == "center"}
    assert cells == {(0, 0): "90", (1, 0): "7", (0, 1): "2", (1, 1): "48", (1, 2): "1", (2, 2): "9"}
    assert [text.get_text() for text in axes.texts[-4:]] == ["92.8 %", "96.0 %", "90.0 %", "recall"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "owl"]


def test_confusion_matrix_normalized_writes_percent_of_the_row() -> None:
    figure = plot_confusion_matrix(MATRIX, "abc", normalize=True)
    cells = {text.get_position(): text.get_text() for text in figure.axes[0].texts if text.get_ha() == "center"}
    assert cells[(1, 0)] == "7.2"
    assert cells[(2, 2)] == "90.0"
    assert {"93.63 % right", "147 of 157, percent of each row"} <= {text.get_text() for text in texts(figure)}


def test_confusion_matrix_is_blue_where_right_and_orange_where_wrong_by_share_of_the_row() -> None:
    colors = image(plot_confusion_matrix(MATRIX, "abc").axes[0])
    np.testing.assert_allclose(colors[1, 1], 1 - 0.75 * 0.96 * (1 - np.array(BLUE)))
    np.testing.assert_allclose(colors[2, 1], 1 - 0.85 * (1 - np.array(VERMILLION)))  # 1 of 10: the largest share
    np.testing.assert_allclose(colors[0, 2], 1)
    assert (colors[1, 0] > colors[0, 1])[1:].all()  # 2 of 50 is paler than 7 of 97


def test_images_stand_in_rows_under_their_titles() -> None:
    figure = plot_images(ramp(5, 4, 6), titles=list("abcde"), columns=3)
    assert [axes.get_title() for axes in figure.axes] == list("abcde")
    corners = np.array([axes.get_position().bounds[:2] for axes in figure.axes])
    np.testing.assert_allclose(corners[:3, 1], corners[0, 1])
    np.testing.assert_allclose(corners[3:, 0], corners[:2, 0])
    assert corners[3, 1] < corners[0, 1]
    width, height = figure.axes[0].get_position().size * figure.get_size_inches()
    assert width / height == pytest.approx(6 / 4)  # pixels stay square


def test_uint8_images_keep_their_brightness_and_others_are_stretched_together() -> None:
    gray = np.array([[[10, 20], [30, 40]]], np.uint8)
    np.testing.assert_allclose(image(plot_images(gray).axes[0]), gray[0] / 255)
    first, second = plot_images(np.array([[[0.0, 1.0]], [[2.0, 4.0]]])).axes
    np.testing.assert_allclose(image(first), [[0, 0.25]])
    np.testing.assert_allclose(image(second), [[0.5, 1]])
    assert first.images[0].get_clim() == (0, 1)  # not stretched again, each for itself


def test_color_and_single_channel_images_are_understood() -> None:
    color = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    np.testing.assert_allclose(image(plot_images(color).axes[1]), color[1] / 255)
    np.testing.assert_allclose(image(plot_images(color[..., :1]).axes[1]), color[1, :, :, 0] / 255)


def test_filters_of_one_channel_are_a_tile_each_white_at_zero() -> None:
    kernels = np.zeros((2, 3, 1, 4))
    kernels[0, 1, 0, 2], kernels[1, 2, 0, 2] = -0.5, 0.25
    tiles = [image(axes) for axes in plot_filters(kernels).axes]
    expected = np.full((2, 3), 0.5)
    np.testing.assert_allclose(tiles[0], expected)
    expected[0, 1], expected[1, 2] = 0, 0.75  # of 0 .. 1, -0.5 to 0.5
    np.testing.assert_allclose(tiles[2], expected)
    colormap = plot_filters(kernels).axes[0].images[0].get_cmap()
    np.testing.assert_allclose(colormap([0.0, 1.0])[:, :3], [VERMILLION, BLUE], atol=1e-6)
    np.testing.assert_allclose(colormap([0.5])[0, :3], 1, atol=0.01)


def test_filters_of_three_channels_are_colored_and_of_many_a_row_each() -> None:
    rgb = ramp(3, 3, 3, 2)
    np.testing.assert_allclose(image(plot_filters(rgb).axes[1]), 0.5 + 0.5 * rgb[..., 1] / 2.5)
    deep = ramp(2, 2, 4, 3)
    tiles = [image(axes) for axes in plot_filters(deep).axes]
    assert len(tiles) == 12
    np.testing.assert_allclose(tiles[1 * 4 + 2], 0.5 + 0.5 * deep[:, :, 2, 1] / 2.5)  # second filter, third channel


def test_feature_maps_are_a_tile_a_channel_and_flat_ones_grey() -> None:
    maps = np.stack([ramp(4, 5), np.full((4, 5), 3.0), -ramp(4, 5)], axis=-1)
    for given in (maps, maps[None]):
        axes = plot_feature_maps(given).axes
        np.testing.assert_allclose(image(axes[2]), -ramp(4, 5))
        assert axes[2].images[0].get_clim() == (-2.5, 1.5)  # its own scale
        assert axes[0].images[0].get_cmap().name == "viridis"
        assert axes[1].images[0].get_cmap()(0.5)[:3] == to_rgb("#e4e4e4")


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: plot_history({}), "an epoch or more"),
        (lambda: plot_history({"loss": []}), "an epoch or more"),
        (lambda: plot_history({"loss": [1, 2], "mae": [1]}), r"'mae': 1"),
        (lambda: plot_history({"loss": [1], "val_loss": [1, 2]}), r"'val_loss': 2"),
        (lambda: plot_history({"loss": [1], "val_loss": []}), r"'val_loss': 0"),
        (lambda: plot_confusion_matrix(np.ones((2, 3)), "ab"), r"\(K, K\). Received shape: \(2, 3\)"),
        (lambda: plot_confusion_matrix(-np.eye(2), "ab"), "not negative"),
        (lambda: plot_confusion_matrix(np.full((2, 2), np.nan), "ab"), "finite"),
        (lambda: plot_confusion_matrix(np.eye(2), "abc"), "expected 2 class_names. Received: 3"),
        (lambda: plot_images(np.zeros((2, 3))), r"Received shape: \(2, 3\)"),
        (lambda: plot_images(np.zeros((0, 3, 3))), r"Received shape: \(0, 3, 3\)"),
        (lambda: plot_images(np.zeros((1, 3, 3, 2))), r"C = 1, 3 or 4"),
        (lambda: plot_images(np.full((1, 3, 3), np.nan)), "finite"),
        (lambda: plot_images(np.zeros((2, 3, 3)), titles=["a"]), "expected 2 titles"),
        (lambda: plot_images(np.zeros((2, 3, 3)), columns=0), "columns=0"),
        (lambda: plot_filters(np.zeros((3, 3, 4))), r"\(KH, KW, C, F\)"),
        (lambda: plot_filters(np.full((3, 3, 1, 1), np.inf)), "finite"),
        (lambda: plot_feature_maps(np.zeros((2, 4, 4, 3))), "of one picture"),
        (lambda: plot_feature_maps(np.full((4, 4, 3), np.nan)), "finite"),
        (lambda: plot_history(HISTORY, "curves.pdf"), r"must end in .png. Received: 'curves.pdf'"),
    ],
)
def test_wrong_input_is_refused_with_a_reason(call: Callable[[], Figure], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        plot_history(HISTORY, tmp_path / "missing" / "plot.png")


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "minicnn-engine\[plot\]"'):
        plot_history(HISTORY)


def test_threads_draw_the_same_as_one_alone(tmp_path: Path) -> None:
    plot_history(HISTORY, tmp_path / "alone.png")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: plot_history(HISTORY, tmp_path / f"{number}.png"), range(4)))
    alone = (tmp_path / "alone.png").read_bytes()
    assert all((tmp_path / f"{number}.png").read_bytes() == alone for number in range(4))


def test_neither_pyplot_nor_global_settings_are_touched_and_matplotlib_is_imported_late() -> None:
    program = """
import sys
from minicnn.visualize import plot_history
assert "matplotlib" not in sys.modules
import matplotlib
before = {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}
plot_history({"loss": [2, 1]})
assert "matplotlib.pyplot" not in sys.modules
assert all(matplotlib.rcParams[name] == value for name, value in before.items())
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
