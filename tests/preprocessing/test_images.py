"""Pictures in and out: what comes back from a file, and what is said of files that are wrong."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minicnn.preprocessing import array_to_img, img_to_array, load_img, save_img


@pytest.fixture
def colors(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (5, 8, 3), dtype=np.uint8)


@pytest.fixture
def png(tmp_path: Path, colors: np.ndarray) -> Path:
    path = tmp_path / "colors.png"
    Image.fromarray(colors).save(path)
    return path


def test_a_png_comes_back_to_the_pixel(png: Path, colors: np.ndarray) -> None:
    x = img_to_array(load_img(png))
    np.testing.assert_array_equal(x, colors)
    assert x.dtype == np.float32
    x[0] = 0  # writable
    np.testing.assert_array_equal(img_to_array(load_img(str(png)), dtype="uint8"), colors)
    np.testing.assert_array_equal(img_to_array(load_img(io.BytesIO(png.read_bytes()))), colors)


def test_channels_first_moves_the_channels(png: Path, colors: np.ndarray) -> None:
    x = img_to_array(load_img(png), data_format="channels_first")
    np.testing.assert_array_equal(x, colors.transpose(2, 0, 1))
    np.testing.assert_array_equal(np.asarray(array_to_img(x, "channels_first", scale=False)), colors)


def test_grayscale_is_the_luma_of_itu_r_601_and_has_one_channel(png: Path, colors: np.ndarray) -> None:
    x = img_to_array(load_img(png, color_mode="grayscale"))
    assert x.shape == (5, 8, 1)
    np.testing.assert_allclose(x[:, :, 0], colors @ [0.299, 0.587, 0.114], atol=1)


def test_rgba_adds_an_opaque_channel(png: Path, colors: np.ndarray) -> None:
    x = img_to_array(load_img(png, color_mode="rgba"))
    np.testing.assert_array_equal(x[:, :, :3], colors)
    np.testing.assert_array_equal(x[:, :, 3], 255)


def test_grey_of_16_bits_keeps_its_values(tmp_path: Path) -> None:
    deep = np.array([[0, 256, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(img_to_array(load_img(tmp_path / "deep.png", "grayscale"))[:, :, 0], deep)


def test_nearest_resizing_takes_the_pixel_at_the_middle(png: Path, colors: np.ndarray) -> None:
    x = img_to_array(load_img(png, target_size=(10, 4)))
    rows = ((np.arange(10) + 0.5) * 5 / 10).astype(int)
    columns = ((np.arange(4) + 0.5) * 8 / 4).astype(int)
    np.testing.assert_array_equal(x, colors[rows][:, columns])


def test_box_resizing_averages(png: Path, colors: np.ndarray) -> None:
    x = img_to_array(load_img(png, target_size=(5, 4), interpolation="box"))
    np.testing.assert_allclose(x, colors.reshape(5, 4, 2, 3).mean(axis=2), atol=0.5)


def test_keep_aspect_ratio_cuts_the_middle_out(png: Path, colors: np.ndarray) -> None:
    np.testing.assert_array_equal(
        img_to_array(load_img(png, target_size=(5, 5), keep_aspect_ratio=True)), colors[:, 1:6]
    )
    np.testing.assert_array_equal(img_to_array(load_img(png, target_size=(2, 8), keep_aspect_ratio=True)), colors[1:3])


def test_array_to_img_stretches_to_the_whole_range_and_cuts_off_fractions() -> None:
    x = np.array([[[-1.0], [0.0], [1.0]]])
    np.testing.assert_array_equal(np.asarray(array_to_img(x)), [[0, 127, 255]])
    np.testing.assert_array_equal(np.asarray(array_to_img(np.full((2, 2, 3), 7.0))), np.zeros((2, 2, 3)))
    np.testing.assert_array_equal(np.asarray(array_to_img([[[3.9], [255]]], scale=False)), [[3, 255]])


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_array_to_img_picks_the_mode_by_the_channels(channels: int, mode: str) -> None:
    assert array_to_img(np.zeros((2, 3, channels))).mode == mode
    assert array_to_img(np.zeros((2, 3, channels))).size == (3, 2)


def test_saved_pictures_come_back(tmp_path: Path, colors: np.ndarray) -> None:
    save_img(tmp_path / "a.png", colors, scale=False)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), colors)
    save_img(tmp_path / "b.jpg", colors, scale=False, quality=100, subsampling=0)
    with Image.open(tmp_path / "b.jpg") as picture:
        assert picture.format == "JPEG"
        np.testing.assert_allclose(np.asarray(picture, float), colors, atol=6)
    memory = io.BytesIO()
    save_img(memory, colors, file_format="png", scale=False)
    np.testing.assert_array_equal(np.asarray(Image.open(memory)), colors)


def test_jpeg_drops_transparency_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no transparency"):
        save_img(tmp_path / "a.jpg", np.zeros((8, 8, 4)))
    with Image.open(tmp_path / "a.jpg") as picture:
        assert picture.mode == "RGB"


def test_a_failed_save_keeps_the_old_file_and_leaves_no_part(tmp_path: Path, colors: np.ndarray) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(AttributeError):
        save_img(tmp_path / "a.png", colors, pnginfo=object())  # no PngInfo: Pillow fails when it has begun to write
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        load_img(tmp_path / "nowhere.png")


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"text\.png: not a picture"):
        load_img(tmp_path / "text.png")


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "tif"])
def test_a_picture_cut_short_is_refused_by_name(tmp_path: Path, rng: np.random.Generator, ending: str) -> None:
    path = tmp_path / f"cut.{ending}"
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"cut\.{ending}: "):
        load_img(path)


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of few bytes whose header claims a picture of any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_000, 60_000])  # Pillow only warns of the first, which is an error in these tests
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_by_name(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(png_claiming(side, side))
    with pytest.raises(ValueError, match=r"bomb\.png: .*pixels"):
        load_img(tmp_path / "bomb.png")


def test_a_bomb_is_refused_where_warnings_are_errors(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_claiming(10_000, 10_000))
    with pytest.raises(ValueError, match=r"bomb\.png: .*pixels"):
        load_img(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"color_mode": "gray"}, "Received: 'gray'. Did you mean 'grayscale'"),
        ({"interpolation": "bilinaer"}, "Did you mean 'bilinear'"),
        ({"target_size": 28}, r"must be \(height, width\).*Received: 28"),
        ({"target_size": (28, 0)}, r"both positive. Received: \(28, 0\)"),
        ({"target_size": (28.0, 28)}, r"Received: \(28.0, 28\)"),
    ],
)
def test_wrong_arguments_of_load_img_are_refused(png: Path, arguments: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load_img(png, **arguments)


def test_load_img_wants_a_name_or_bytes() -> None:
    with pytest.raises(TypeError, match="Received: 3"):
        load_img(3)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: array_to_img(np.zeros((4, 4))), r"Received shape: \(4, 4\)"),
        (lambda: array_to_img(np.zeros((4, 4, 2))), "C = 1, 3 or 4"),
        (lambda: array_to_img(np.zeros((0, 4, 3))), r"Received shape: \(0, 4, 3\)"),
        (lambda: array_to_img(np.full((2, 2, 1), np.nan)), "finite"),
        (lambda: array_to_img(np.full((2, 2, 1), 256), scale=False), r"256 \.\. 256"),
        (lambda: array_to_img(np.zeros((2, 2, 1)), data_format="NHWC"), "Received: 'NHWC'"),
        (lambda: img_to_array(np.zeros(4)), r"Received shape: \(4,\)"),
        (lambda: save_img("a.picture", np.zeros((2, 2, 1))), "Received: 'picture'"),
        (lambda: save_img(io.BytesIO(), np.zeros((2, 2, 1))), "Received: None"),
    ],
)
def test_wrong_arrays_and_formats_are_refused(call, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()
