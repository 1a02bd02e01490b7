"""What MNIST and Fashion-MNIST share: four IDX files, 28x28 grey pictures and labels 0..9, for training and test."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from minicnn.datasets.files import Dataset, RemoteFile, fetch, find_all, how_to_get, search_folders
from minicnn.datasets.idx import read_idx

Split: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Pictures (N, 28, 28) uint8 and labels (N,) uint8."""

NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

# The two datasets' files bear the same names; the training labels (their SHA-256) tell which is which.
_TITLE_OF_LABELS = {
    "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13": "MNIST",
    "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7": "Fashion-MNIST",
}


def remote_files(sizes: Sequence[int], sha256: Sequence[str], bases: Sequence[str]) -> tuple[RemoteFile, ...]:
    """The four files, in the order of NAMES, each to be had at every address of `bases`."""
    return tuple(
        RemoteFile(name, size, digest, tuple(base + name for base in bases))
        for name, size, digest in zip(NAMES, sizes, sha256, strict=True)
    )


def load(dataset: Dataset, path: str | os.PathLike[str] | None) -> tuple[Split, Split]:
    """(x_train, y_train), (x_test, y_test) of `dataset`, found or fetched as `files` describes.

    Raises FileNotFoundError, saying what to put where; ValueError for damaged files or, in `path`, another dataset's.
    """
    folders = search_folders(dataset, path)
    for folder in folders:
        files = find_all(folder, NAMES)
        if files and (path is not None or _title_of(read_idx(files[1])) in (None, dataset.title)):
            return _read(dataset, files)
    if path is not None:
        raise FileNotFoundError(how_to_get(dataset, folders, f"not all of its files are in {path}"))
    folder = fetch(dataset, folders)
    return _read(dataset, find_all(folder, NAMES) or [])


def _title_of(labels: np.ndarray) -> str | None:
    return _TITLE_OF_LABELS.get(hashlib.sha256(labels.tobytes()).hexdigest())


def _read(dataset: Dataset, files: Sequence[Path]) -> tuple[Split, Split]:
    x_train, y_train, x_test, y_test = (read_idx(file) for file in files)
    title = _title_of(y_train)
    if title not in (None, dataset.title):
        raise ValueError(f"{files[0].parent} holds {title}, not {dataset.title}: the files bear the same names")
    _check_split(x_train, y_train, *files[:2])
    _check_split(x_test, y_test, *files[2:])
    return (x_train, y_train), (x_test, y_test)


def _check_split(images: np.ndarray, labels: np.ndarray, images_file: Path, labels_file: Path) -> None:
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28) or not len(images):
        raise ValueError(
            f"{images_file}: the pictures must be uint8 of shape (N, 28, 28), N > 0. "
            f"Received: {images.dtype} of shape {images.shape}"
        )
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{labels_file}: there must be one uint8 label for each of the {len(images):,} pictures of "
            f"{images_file.name}. Received: {labels.dtype} of shape {labels.shape}"
        )
    if labels.max() > 9:
        raise ValueError(f"{labels_file}: the labels must be 0 to 9. Received: {labels.max()}")
