"""as_digit: drawings and photographs come out as MNIST's digits look."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from minicnn.datasets import mnist
from minicnn.preprocessing import as_digit


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return mnist.load_sample()[1][0][:20]


def drawing(width: int = 300, height: int = 200, paper: int = 255, ink: int = 0, line: int = 16) -> Image.Image:
    """A seven at the upper right."""
    image = Image.new("L", (width, height), paper)
    ImageDraw.Draw(image).line([(200, 20), (270, 20), (220, 120)], fill=ink, width=line, joint="curve")
    return image


def photograph(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A large copy somewhere on grey paper, lit from one side, with grain."""
    side = int(rng.integers(150, 250))
    ink = np.zeros((400, 500))
    top, left = rng.integers(0, 400 - side), rng.integers(0, 500 - side)
    ink[top : top + side, left : left + side] = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    y, x = np.mgrid[0:1:400j, 0:1:500j]
    paper = 190 + rng.uniform(-70, 40) * x + rng.uniform(-70, 30) * y
    light = paper * (1 - 0.7 * ink / 255) + rng.normal(0, 6, ink.shape)
    return Image.fromarray(light.clip(0, 255).astype(np.uint8))


def center_of_mass(digit: np.ndarray) -> np.ndarray:
    return np.argwhere(np.ones_like(digit)).T @ digit.ravel() / digit.sum()


def likeness(digit: np.ndarray, original: np.ndarray) -> float:
    """Correlation of the pixels, one of them shifted by up to a pixel: centring rounds to whole ones."""
    shifts = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return max(np.corrcoef(np.roll(digit, shift, (0, 1)).ravel(), original.ravel())[0, 1] for shift in shifts)


def box(digit: np.ndarray) -> tuple[int, int]:
    """Height and width of what is not black."""
    return int(digit.any(axis=1).sum()), int(digit.any(axis=0).sum())


def test_a_digit_of_mnist_is_left_as_it_is_and_its_negative_inverted(digits: np.ndarray, tmp_path: Path) -> None:
    for digit in digits:
        np.testing.assert_array_equal(as_digit(Image.fromarray(digit)), digit)
        np.testing.assert_array_equal(as_digit(Image.fromarray(255 - digit)), digit)
    Image.fromarray(digits[0]).save(tmp_path / "digit.png")
    np.testing.assert_array_equal(as_digit(tmp_path / "digit.png"), digits[0])
    np.testing.assert_array_equal(as_digit(io.BytesIO((tmp_path / "digit.png").read_bytes())), digits[0])


def test_invert_can_be_said_instead_of_guessed(digits: np.ndarray) -> None:
    np.testing.assert_array_equal(as_digit(Image.fromarray(digits[0]), invert=True), 255 - digits[0])
    np.testing.assert_array_equal(as_digit(Image.fromarray(digits[0]), invert=False), digits[0])


@pytest.mark.parametrize(("paper", "ink"), [(255, 0), (0, 255), (200, 60), (50, 150)])
def test_a_drawing_is_framed_as_mnist_frames_digits(digits: np.ndarray, paper: int, ink: int) -> None:
    original = np.array([center_of_mass(digit) for digit in digits])
    assert np.abs(original - 14).max() <= 0.5  # so MNIST itself is centred
    digit = as_digit(drawing(paper=paper, ink=ink))
    assert digit.shape == (28, 28)
    assert digit.dtype == np.uint8
    assert digit.max() == 255
    assert max(box(digit)) == 20
    assert np.abs(center_of_mass(digit) - 14).max() <= 0.5
    assert (digit == 0).mean() > 0.7


def test_proportions_are_kept() -> None:
    image = Image.new("L", (200, 300), 255)
    ImageDraw.Draw(image).rectangle([90, 50, 109, 249], fill=0)  # 20 wide, 200 high
    assert box(as_digit(image)) == (20, 2)


def test_another_size_has_the_same_share_of_margin() -> None:
    digit = as_digit(drawing(), size=(42, 56))
    assert digit.shape == (42, 56)
    assert box(digit)[0] == 30


def test_photographs_come_out_close_to_the_digit_that_was_photographed(digits: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    alike = [likeness(as_digit(photograph(digit, rng)), digit) for digit in digits]
    assert np.median(alike) > 0.96
    assert min(alike) > 0.85


def test_thin_strokes_are_thickened() -> None:
    thin, thick = as_digit(drawing(line=2)), as_digit(drawing(line=10))
    strokes = [(digit[14] > 128).sum() for digit in (thin, thick)]
    assert strokes[0] >= 2
    assert likeness(thin, thick) > 0.8


@pytest.mark.parametrize("ink", [0, 255])
def test_transparent_paper_is_not_taken_for_ink(ink: int) -> None:
    strokes = drawing(paper=0, ink=255)
    image = Image.merge("LA", (Image.new("L", strokes.size, ink), strokes))
    np.testing.assert_array_equal(as_digit(image), as_digit(strokes))
    np.testing.assert_array_equal(as_digit(image.convert("RGBA")), as_digit(strokes))


def test_the_rotation_tag_of_a_camera_is_obeyed(tmp_path: Path) -> None:
    turned = drawing().transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: to be turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(as_digit(tmp_path / "turned.png"), as_digit(drawing()))


def test_palette_and_16_bit_pictures_are_read() -> None:
    expected = as_digit(drawing()).astype(int)
    palette = drawing().convert("RGB").quantize(8)
    deep = Image.fromarray(np.asarray(drawing()).astype(np.uint16) * 200)
    assert np.abs(as_digit(palette) - expected).max() <= 2
    assert np.abs(as_digit(deep) - expected).max() <= 2


@pytest.mark.parametrize("kind", ["blank", "grain", "speck"])
def test_a_picture_without_a_digit_is_refused_by_name(tmp_path: Path, rng: np.random.Generator, kind: str) -> None:
    paper = np.full((200, 300), 210.0)
    if kind == "grain":
        paper += rng.normal(0, 8, paper.shape)
    if kind == "speck":
        paper[50:53, 60:63] = 0
    Image.fromarray(paper.astype(np.uint8)).save(tmp_path / "paper.png")
    with pytest.raises(ValueError, match=r"paper\.png shows no digit"):
        as_digit(tmp_path / "paper.png")


def test_an_unknown_invert_is_refused() -> None:
    with pytest.raises(ValueError, match="Received: 'yes'"):
        as_digit(drawing(), invert="yes")
