"""CIFAR-10: 50,000 + 10,000 colour pictures, 32x32, in ten classes.

A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009; cs.toronto.edu/~kriz/cifar.html.

The binary version is read: six batches of 10,000 records, each a label byte and 3,072 bytes of 32x32 planes R, G, B.
The python version is pickle, which can run any program it likes while it is read, and is not.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import warnings
import zlib
from pathlib import Path
from typing import TypeAlias

import numpy as np

from minicnn.datasets.cifar10_jpeg import read_jpeg_archive
from minicnn.datasets.files import Dataset, RemoteFile, fetch, find_all, how_to_get, search_folders

Split: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Pictures (N, 32, 32, 3) uint8 and labels (N, 1) uint8."""

class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

ARCHIVE = "cifar-10-binary.tar.gz"
JPEG_ARCHIVE = "cifar10_jpeg_60000.tar.xz"
BATCHES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
BATCHES_FOLDER = "cifar-10-batches-bin"
BATCH_RECORDS = 10_000
_RECORD_BYTES = 1 + 3 * 32 * 32

DATASET = Dataset(
    title="CIFAR-10",
    folder="cifar-10",
    files=(
        RemoteFile(
            ARCHIVE,
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
        ),
    ),
    note=(
        f"or what is in it: {', '.join(BATCHES)}.\n"
        "The python version (cifar-10-python.tar.gz, data_batch_1 ...) is pickle and is not read: take the binary one."
    ),
)


def load_data(path: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """(x_train, y_train), (x_test, y_test): uint8 pictures (50000, 32, 32, 3) and (10000, 32, 32, 3), labels (N, 1).

    Looked for in `path` and nowhere else where it is given; else in $MINICNN_DATA, then in the cache ($MINICNN_CACHE
    or ~/.cache/minicnn/datasets), each time also in the sub-folder cifar-10; else downloaded into the cache. The rows
    are never sorted by class. As keras.datasets.cifar10.load_data.

    Of a folder it takes the first that is there: the six batches data_batch_1.bin ... test_batch.bin (gzipped or not,
    in it or in its sub-folder cifar-10-batches-bin), cifar-10-binary.tar.gz, or, with a warning because JPEG loses
    detail, cifar10_jpeg_60000.tar.xz.

    Raises FileNotFoundError, saying which files to put where, when they cannot be had; ValueError, naming the file,
    when one is damaged.
    """
    folders = search_folders(DATASET, path)
    for folder in folders:
        if files := find_all(folder, BATCHES) or find_all(folder / BATCHES_FOLDER, BATCHES):
            return _join([read_batch(file) for file in files], files)
        if (folder / ARCHIVE).is_file():
            return _read_archive(folder / ARCHIVE)
        if (folder / JPEG_ARCHIVE).is_file():
            return _read_jpegs(folder / JPEG_ARCHIVE)
    if path is not None:
        raise FileNotFoundError(how_to_get(DATASET, folders, f"none of its files, or not all, are in {path}"))
    return _read_archive(fetch(DATASET, folders) / ARCHIVE)


def read_batch(path: str | os.PathLike[str]) -> Split:
    """The pictures (N, 32, 32, 3) and labels (N, 1), both uint8, of one batch file, gzipped where its name ends in .gz.

    Raises ValueError, naming the file, where it is damaged, not a whole number of records, or a label is above 9.
    """
    path = Path(path)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            return _parse_batch(file.read(BATCH_RECORDS * _RECORD_BYTES + 1), path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged gzip data ({error}). Fetch or unpack the file again") from error


def _parse_batch(data: bytes, path: Path) -> Split:
    count, rest = divmod(len(data), _RECORD_BYTES)
    if rest or not 1 <= count <= BATCH_RECORDS:
        raise ValueError(
            f"{path}: a batch of CIFAR-10's binary version is 1 to {BATCH_RECORDS:,} records of {_RECORD_BYTES:,} "
            f"bytes. Received: {len(data):,} bytes{' or more' if count >= BATCH_RECORDS else ''}"
        )
    records = np.frombuffer(data, np.uint8).reshape(count, _RECORD_BYTES)
    labels = records[:, :1].copy()
    if labels.max() >= len(class_names):
        raise ValueError(f"{path}: the labels must be 0 to {len(class_names) - 1}. Received: {labels.max()}")
    planes = records[:, 1:].reshape(count, 3, 32, 32)  # (N, C, H, W)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _join(batches: list[Split], files: list[Path]) -> tuple[Split, Split]:
    for (images, _), file in zip(batches, files, strict=True):
        if len(images) != BATCH_RECORDS:
            raise ValueError(f"{file}: a batch of CIFAR-10 has {BATCH_RECORDS:,} pictures. Received: {len(images):,}")
    *train, test = batches
    return (np.concatenate([images for images, _ in train]), np.concatenate([labels for _, labels in train])), test


def _read_archive(path: Path) -> tuple[Split, Split]:
    """The batches straight from the archive: nothing is unpacked to the disk, so no name in it can do harm."""
    found: dict[str, Split] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                name = os.path.basename(member.name)
                if name in BATCHES and (file := archive.extractfile(member)):
                    found[name] = _parse_batch(file.read(BATCH_RECORDS * _RECORD_BYTES + 1), path / name)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged archive ({error}). Delete it and fetch it again") from error
    if missing := [name for name in BATCHES if name not in found]:
        raise ValueError(f"{path}: the archive lacks {', '.join(missing)}. Delete it and fetch it again")
    return _join([found[name] for name in BATCHES], [path / name for name in BATCHES])


def _read_jpegs(path: Path) -> tuple[Split, Split]:
    warnings.warn(
        f"CIFAR-10 is read from {path}, lossy JPEG pictures: accuracies differ a little from those on the original. "
        f"For the original put {ARCHIVE} beside it",
        stacklevel=1,  # one place in the program, whoever calls, so that Python shows it once
    )
    return read_jpeg_archive(path, class_names)
