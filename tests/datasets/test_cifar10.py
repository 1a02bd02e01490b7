"""CIFAR-10: records by hand, the three forms it is read from, the order of rows, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minicnn.datasets import cifar10, cifar10_jpeg
from tests.datasets.fakes import Network

RECORDS = 4  # a batch of the tests; the real one has 10,000


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Folders `data`, `cache` and `own`, no network, and batches of 4 records."""
    for name in ("data", "cache", "own"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MINICNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(urllib.request, "urlopen", Network())
    monkeypatch.setattr(cifar10, "BATCH_RECORDS", RECORDS)
    return tmp_path


def batch_bytes(images: np.ndarray, labels: list[int]) -> bytes:
    """Records by the format's own words: the label, 1,024 red bytes row by row, then green, then blue."""
    records = bytearray()
    for image, label in zip(images, labels, strict=True):
        records.append(label)
        for channel in range(3):
            for row in range(32):
                records += bytes(image[row, :, channel].tolist())
    return bytes(records)


def random_batches(rng: np.random.Generator) -> dict[str, tuple[np.ndarray, list[int]]]:
    return {
        name: (rng.integers(0, 256, (RECORDS, 32, 32, 3), np.uint8), rng.integers(0, 10, RECORDS).tolist())
        for name in cifar10.BATCHES
    }


def write_archive(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def assert_is(loaded, batches) -> None:
    (x_train, y_train), (x_test, y_test) = loaded
    names = cifar10.BATCHES
    np.testing.assert_array_equal(x_train, np.concatenate([batches[name][0] for name in names[:5]]))
    np.testing.assert_array_equal(y_train[:, 0], np.concatenate([batches[name][1] for name in names[:5]]))
    np.testing.assert_array_equal(x_test, batches["test_batch.bin"][0])
    np.testing.assert_array_equal(y_test[:, 0], batches["test_batch.bin"][1])
    assert (y_train.shape, y_test.shape) == ((5 * RECORDS, 1), (RECORDS, 1))  # Keras' labels are a column
    assert {array.dtype for array in (x_train, y_train, x_test, y_test)} == {np.dtype("uint8")}


@pytest.mark.parametrize(
    "folder", ["own", "own/cifar-10", "own/cifar-10-batches-bin", "own/cifar-10/cifar-10-batches-bin"]
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_six_batches_are_read_in_order(places: Path, rng: np.random.Generator, folder: str, suffix: str) -> None:
    batches = random_batches(rng)
    (places / folder).mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in batches.items():
        content = batch_bytes(images, labels)
        (places / folder / (name + suffix)).write_bytes(gzip.compress(content) if suffix else content)
    assert_is(cifar10.load_data(places / "own"), batches)


def test_the_archive_is_read_whatever_the_order_in_it(places: Path, rng: np.random.Generator) -> None:
    batches = random_batches(rng)
    files = {f"cifar-10-batches-bin/{name}": batch_bytes(*batches[name]) for name in reversed(cifar10.BATCHES)}
    write_archive(
        places / "data/cifar-10/cifar-10-binary.tar.gz", {"cifar-10-batches-bin/readme.html": b"<p>", **files}
    )
    assert_is(cifar10.load_data(), batches)


def test_a_download_goes_to_the_cache_and_is_read_from_there_next_time(
    places: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = random_batches(rng)
    write_archive(places / "served.tar.gz", {name: batch_bytes(*batches[name]) for name in cifar10.BATCHES})
    content = (places / "served.tar.gz").read_bytes()
    url = cifar10.DATASET.files[0].urls[0]
    file = cifar10.RemoteFile(cifar10.ARCHIVE, len(content), hashlib.sha256(content).hexdigest(), (url,))
    monkeypatch.setattr(cifar10, "DATASET", cifar10.Dataset("CIFAR-10", "cifar-10", (file,), "note"))
    network = Network({url: content})
    monkeypatch.setattr(urllib.request, "urlopen", network)
    assert_is(cifar10.load_data(), batches)
    assert_is(cifar10.load_data(), batches)
    assert network.asked == [url]
    assert (places / "cache/cifar-10" / cifar10.ARCHIVE).read_bytes() == content


def test_without_files_the_error_names_them_and_warns_of_the_pickled_version(places: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        cifar10.load_data()
    message = str(caught.value)
    archive = cifar10.DATASET.files[0]
    for part in (archive.name, archive.urls[0], *cifar10.BATCHES, str(places / "cache/cifar-10"), "pickle"):
        assert part in message


def test_the_pickled_version_is_not_read(places: Path) -> None:
    for name in ("data_batch_1", "test_batch", "cifar-10-python.tar.gz"):
        (places / "own" / name).write_bytes(b"\x80\x04.")
    with pytest.raises(FileNotFoundError, match=r"python version .* is pickle and is not read"):
        cifar10.load_data(places / "own")


def test_a_short_batch_among_whole_ones_is_refused(places: Path, rng: np.random.Generator) -> None:
    for name, (images, labels) in random_batches(rng).items():
        count = 3 if name == "data_batch_4.bin" else RECORDS
        (places / "own" / name).write_bytes(batch_bytes(images[:count], labels[:count]))
    with pytest.raises(ValueError, match=r"data_batch_4\.bin: a batch of CIFAR-10 has 4 pictures. Received: 3"):
        cifar10.load_data(places / "own")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "Received: 0 bytes"),
        (bytes(3072), "records of 3,073 bytes. Received: 3,072 bytes"),
        (bytes(5 * 3073), "1 to 4 records .* Received: 12,293 bytes or more"),
        (bytes(3073) + b"\x0a" + bytes(3072), "labels must be 0 to 9. Received: 10"),
    ],
)
def test_a_wrong_batch_is_refused(places: Path, content: bytes, match: str) -> None:
    file = places / "data_batch_1.bin"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=match) as caught:
        cifar10.read_batch(file)
    assert str(file) in str(caught.value)


def test_a_damaged_gzip_batch_is_refused(places: Path) -> None:
    file = places / "test_batch.bin.gz"
    file.write_bytes(gzip.compress(bytes(3073))[:-5])
    with pytest.raises(ValueError, match=r"test_batch\.bin\.gz: damaged gzip"):
        cifar10.read_batch(file)


def test_a_damaged_archive_is_refused(places: Path, rng: np.random.Generator) -> None:
    file = places / "own/cifar-10-binary.tar.gz"
    batches = random_batches(rng)
    write_archive(file, {name: batch_bytes(*batches[name]) for name in cifar10.BATCHES})
    whole = file.read_bytes()
    for damaged in (b"", b"no archive", whole[: len(whole) // 2], whole[:1000] + bytes(100) + whole[1100:]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"cifar-10-binary\.tar\.gz"):
            cifar10.load_data(places / "own")


def test_an_archive_without_a_batch_is_refused(places: Path) -> None:
    write_archive(places / "own/cifar-10-binary.tar.gz", {name: bytes(4 * 3073) for name in cifar10.BATCHES[:-1]})
    with pytest.raises(ValueError, match=r"the archive lacks test_batch\.bin"):
        cifar10.load_data(places / "own")


def jpeg(value: int, size: tuple[int, int] = (32, 32)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, value // 2, 255 - value)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def jpeg_files(per_class: int = 3) -> dict[str, bytes]:
    """Plain pictures whose red, divided by 20, is their class."""
    return {
        f"{split}/{name}/{number:04}.jpg": jpeg(20 * label + number + 5)
        for split in ("train", "test")
        for label, name in enumerate(cifar10.class_names)
        for number in range(per_class)
    }


@pytest.fixture
def small_jpeg_set(places: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cifar10_jpeg, "PER_CLASS", {"train": 3, "test": 3})
    return places / "own" / cifar10.JPEG_ARCHIVE


def load_jpegs(folder: Path):
    with pytest.warns(UserWarning, match="lossy JPEG"):
        return cifar10.load_data(folder)


def test_jpegs_are_read_with_a_warning_and_never_sorted_by_class(small_jpeg_set: Path) -> None:
    files = jpeg_files()
    write_archive(small_jpeg_set, files, "w:xz")
    (x_train, y_train), (x_test, y_test) = load_jpegs(small_jpeg_set.parent)
    assert (x_train.shape, y_train.shape, x_test.shape, y_test.shape) == ((30, 32, 32, 3), (30, 1)) * 2
    for images, labels in ((x_train, y_train), (x_test, y_test)):
        np.testing.assert_array_equal(images[:, 5, 5, 0] // 20, labels[:, 0])
        assert np.bincount(labels[:, 0]).tolist() == [3] * 10
        assert (np.diff(labels[:, 0].astype(int)) < 0).sum() > 5
    assert y_train[:, 0].tolist() != y_test[:, 0].tolist()


def test_the_order_of_jpegs_does_not_depend_on_the_archive_s(small_jpeg_set: Path) -> None:
    files = jpeg_files()
    write_archive(small_jpeg_set, files, "w:xz")
    first = load_jpegs(small_jpeg_set.parent)
    write_archive(small_jpeg_set, {f"./{name}": files[name] for name in reversed(files)}, "w:xz")
    second = load_jpegs(small_jpeg_set.parent)
    for (images, labels), (other_images, other_labels) in zip(first, second, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


def test_batches_are_preferred_to_jpegs(small_jpeg_set: Path, rng: np.random.Generator) -> None:
    write_archive(small_jpeg_set, jpeg_files(), "w:xz")
    batches = random_batches(rng)
    for name in cifar10.BATCHES:
        (small_jpeg_set.parent / name).write_bytes(batch_bytes(*batches[name]))
    assert_is(cifar10.load_data(small_jpeg_set.parent), batches)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"test/cat/0001.jpg": b"no picture"}, r"test/cat/0001\.jpg: not a JPEG picture"),
        ({"test/cat/0001.jpg": jpeg(3)[:-200]}, r"test/cat/0001\.jpg: not a JPEG picture, or cut short"),
        ({"test/cat/0001.jpg": jpeg(3, (32, 31))}, r"0001\.jpg: a picture of CIFAR-10 is 32x32. Received: \(32, 31\)"),
        ({"train/dog/0009.jpg": jpeg(3)}, "train/dog: expected 3 pictures. Received: 4"),
        ({"train/zebra/0000.jpg": jpeg(3)}, "train/zebra/0000.jpg is of no class"),
        ({"train/dog/0000.jpg": bytes(70_000)}, "too large for a 32x32 picture: 70,000 bytes"),
    ],
)
def test_a_wrong_picture_is_named(small_jpeg_set: Path, change: dict[str, bytes], match: str) -> None:
    write_archive(small_jpeg_set, jpeg_files() | change, "w:xz")
    with pytest.raises(ValueError, match=match), pytest.warns(UserWarning, match="lossy"):
        cifar10.load_data(small_jpeg_set.parent)


def test_a_damaged_jpeg_archive_is_refused(small_jpeg_set: Path) -> None:
    write_archive(small_jpeg_set, jpeg_files(), "w:xz")
    whole = small_jpeg_set.read_bytes()
    for damaged in (b"", b"no archive", whole[: len(whole) // 2], whole[:300] + bytes(50) + whole[350:]):
        small_jpeg_set.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"jpeg_60000\.tar\.xz"), pytest.warns(UserWarning, match="lossy"):
            cifar10.load_data(small_jpeg_set.parent)


def test_the_real_jpegs_hold_the_pictures_of_the_real_batch(data_folder: Path) -> None:
    """The 2,000 lossless test pictures of the data folder are each found, with their label, among the JPEGs."""
    batch = data_folder / "cifar-10/cifar-10-batches-bin/test_batch.bin.gz"
    (x_train, y_train), (x_test, y_test) = load_jpegs(data_folder)
    assert (x_train.shape, y_train.shape) == ((50_000, 32, 32, 3), (50_000, 1))
    np.testing.assert_allclose(x_train.mean(axis=(0, 1, 2)) / 255, [0.4913, 0.4821, 0.4465], atol=1e-4)
    assert (
        np.bincount(y_train[-10_000:, 0], minlength=10).min() > 850
    )  # what validation_split=0.2 takes holds all classes
    images, labels = cifar10.read_batch(batch)
    assert np.bincount(labels[:, 0]).tolist() == [200] * 10
    for image, label in zip(images[:40].astype(np.int16), labels[:40], strict=True):
        distance = np.abs(x_test[:, ::4, ::4] - image[::4, ::4]).mean(axis=(1, 2, 3))
        nearest = int(distance.argmin())
        assert y_test[nearest] == label
        assert np.abs(x_test[nearest] - image).mean() < 8  # of 255, what JPEG of quality 75 loses
