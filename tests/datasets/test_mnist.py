"""MNIST and Fashion-MNIST: where they are looked for, what is refused, and the real files."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import numpy as np
import pytest

from minicnn.datasets import fashion_mnist, mnist
from minicnn.datasets.idx import write_idx
from minicnn.datasets.mnist_like import NAMES
from tests.datasets.fakes import Network, write_mnist_like

SAMPLE = Path(mnist.__file__).parent / "sample"


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with empty `data` and `cache`, which MINICNN_DATA and MINICNN_CACHE name, and `own`; no network."""
    for name in ("data", "cache", "own"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MINICNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(urllib.request, "urlopen", Network())
    return tmp_path


def mark_of(loaded) -> int:
    return int(loaded[0][0][0, 0, 0])


def test_the_order_is_data_folder_then_cache_and_sub_folders_come_first(places: Path) -> None:
    order = ["data/mnist", "data", "cache/mnist", "cache"]
    for mark, folder in reversed(list(enumerate(order))):
        write_mnist_like(places / folder, mark)
        assert mark_of(mnist.load_data()) == mark


@pytest.mark.parametrize("folder", ["own", "own/mnist"])
@pytest.mark.parametrize("gz", [True, False], ids=["gzipped", "unpacked"])
def test_a_path_comes_before_every_other_place(places: Path, folder: str, gz: bool) -> None:
    write_mnist_like(places / "data/mnist", 1)
    write_mnist_like(places / folder, 2, gz)
    assert mark_of(mnist.load_data(places / "own")) == 2
    assert mark_of(mnist.load_data(str(places / "own"))) == 2


def test_a_path_without_the_files_is_an_error_not_another_place(places: Path) -> None:
    write_mnist_like(places / "data/mnist", 1)
    with pytest.raises(FileNotFoundError, match=r"not all of its files are in .*own"):
        mnist.load_data(places / "own")


def test_a_folder_that_lacks_one_file_is_passed_over(places: Path) -> None:
    write_mnist_like(places / "data/mnist", 1)
    (places / "data/mnist" / NAMES[3]).unlink()
    write_mnist_like(places / "cache/mnist", 2)
    assert mark_of(mnist.load_data()) == 2


@pytest.mark.parametrize(("module", "folder"), [(mnist, "mnist"), (fashion_mnist, "fashion-mnist")])
def test_without_files_or_network_the_error_says_what_to_put_where(places: Path, module, folder: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        module.load_data()
    message = str(caught.value)
    for part in (*NAMES, *(file.urls[0] for file in module.DATASET.files), str(places / "cache" / folder)):
        assert part in message


def test_a_path_that_is_no_folder_is_refused(places: Path) -> None:
    (places / "mnist.npz").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match=r"path must name a folder.*mnist\.npz"):
        mnist.load_data(places / "mnist.npz")
    with pytest.raises(FileNotFoundError, match=r"path names a folder that does not exist.*nowhere"):
        mnist.load_data(places / "nowhere")
    with pytest.raises(TypeError, match="Received: 3"):
        mnist.load_data(3)


def test_a_mistyped_data_variable_is_refused(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINICNN_DATA", str(places / "typo"))
    with pytest.raises(FileNotFoundError, match=r"MINICNN_DATA names a folder that does not exist.*typo"):
        mnist.load_data()


@pytest.mark.parametrize(
    ("index", "array", "match"),
    [
        (0, np.zeros((6, 28, 27), np.uint8), r"uint8 of shape \(N, 28, 28\).*\(6, 28, 27\)"),
        (0, np.zeros((6, 28, 28), np.int32), "Received: int32"),
        (0, np.zeros((0, 28, 28), np.uint8), "N > 0"),
        (1, np.zeros(5, np.uint8), r"each of the 6 pictures.*\(5,\)"),
        (1, np.zeros((6, 1), np.uint8), r"Received: uint8 of shape \(6, 1\)"),
        (3, np.full(4, 10, np.uint8), "0 to 9. Received: 10"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(places: Path, index: int, array: np.ndarray, match: str) -> None:
    write_mnist_like(places / "own", 1)
    write_idx(places / "own" / NAMES[index], array)
    with pytest.raises(ValueError, match=match) as caught:
        mnist.load_data(places / "own")
    assert NAMES[index] in str(caught.value)


def test_a_damaged_file_is_named(places: Path) -> None:
    write_mnist_like(places / "own", 1)
    file = places / "own" / NAMES[2]
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=rf"{NAMES[2]}: damaged gzip"):
        mnist.load_data(places / "own")


def test_the_sample_is_in_load_data_s_form() -> None:
    (x_train, y_train), (x_test, y_test) = mnist.load_sample()
    assert (x_train.shape, x_test.shape) == ((10_000, 28, 28), (2_000, 28, 28))
    assert (y_train.shape, y_test.shape) == ((10_000,), (2_000,))
    assert {array.dtype for array in (x_train, y_train, x_test, y_test)} == {np.dtype("uint8")}
    assert y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]  # MNIST begins so
    assert np.bincount(y_train).tolist() == [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]
    assert np.bincount(y_test).tolist() == [189, 222, 212, 242, 196, 186, 158, 215, 193, 187]


def test_the_sample_needs_neither_data_folder_nor_network(places: Path) -> None:
    assert len(mnist.load_sample()[0][0]) == 10_000


def test_the_sample_ships_with_its_licence_and_is_small() -> None:
    text = (SAMPLE / "ATTRIBUTION.md").read_text()
    for part in ("Yann LeCun", "Corinna Cortes", "Burges", "Attribution-ShareAlike 3.0", "10,000", "every fifth"):
        assert part in text
    assert sum(file.stat().st_size for file in SAMPLE.iterdir()) < 2_200_000


def test_the_sample_s_rows_are_rows_of_mnist(data_folder: Path) -> None:
    (x_train, y_train), (x_test, y_test) = mnist.load_data(data_folder)
    sample_train, sample_test = mnist.load_sample()
    np.testing.assert_array_equal(sample_train[0], x_train[:10_000])
    np.testing.assert_array_equal(sample_train[1], y_train[:10_000])
    np.testing.assert_array_equal(sample_test[0], x_test[::5])
    np.testing.assert_array_equal(sample_test[1], y_test[::5])


def test_mnist_is_mnist(data_folder: Path) -> None:
    (x_train, y_train), (x_test, y_test) = mnist.load_data(data_folder)
    assert (x_train.shape, x_test.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert np.bincount(y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert round(float(x_train.mean()) / 255, 5) == 0.13066


def test_fashion_mnist_is_fashion_mnist(data_folder: Path) -> None:
    (x_train, y_train), (x_test, y_test) = fashion_mnist.load_data(data_folder)
    assert (x_train.shape, x_test.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert np.bincount(y_train).tolist() == [6000] * 10
    assert np.bincount(y_test).tolist() == [1000] * 10
    assert round(float(x_train.mean()) / 255, 5) == 0.28604


def test_one_data_set_is_not_taken_for_the_other(data_folder: Path, places: Path) -> None:
    with pytest.raises(ValueError, match="holds MNIST, not Fashion-MNIST"):
        fashion_mnist.load_data(data_folder / "mnist")
    with pytest.raises(ValueError, match="holds Fashion-MNIST, not MNIST"):
        mnist.load_data(data_folder / "fashion-mnist")


def test_a_flat_data_folder_with_the_other_data_set_is_passed_over(
    data_folder: Path, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINICNN_DATA", str(data_folder / "mnist"))
    write_mnist_like(places / "cache/fashion-mnist", 7)
    assert mark_of(fashion_mnist.load_data()) == 7


def test_each_class_has_a_name() -> None:
    assert mnist.class_names == tuple(map(str, range(10)))
    assert len(set(fashion_mnist.class_names)) == 10
    assert fashion_mnist.class_names[9] == "Ankle boot"
