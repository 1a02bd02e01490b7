"""CIFAR-10 from an archive of JPEG pictures, a folder for each class: train/CLASS/*.jpg and test/CLASS/*.jpg."""

from __future__ import annotations

import hashlib
import io
import lzma
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

Split: TypeAlias = tuple[np.ndarray, np.ndarray]

PER_CLASS = {"train": 5_000, "test": 1_000}
_MEMBER = re.compile(r"(?:\./)?((train|test)/([a-z]+)/[^/]+\.jpg)")
_MAX_JPEG_BYTES = 2**16


def read_jpeg_archive(path: Path, class_names: Sequence[str]) -> tuple[Split, Split]:
    """((x_train, y_train), (x_test, y_test)): uint8 pictures (N, 32, 32, 3) and labels (N, 1).

    The rows come in the order of the SHA-256 of their names: shuffled, and the same on every machine.
    Raises ValueError, naming the archive, where it is damaged, a picture cannot be read or some are missing.
    """
    pictures: dict[str, dict[str, tuple[np.ndarray, int]]] = {split: {} for split in PER_CLASS}
    try:
        for name, split, class_name, data in _jpegs(path):
            if class_name not in class_names:
                raise ValueError(f"{path}: {name} is of no class of CIFAR-10: {', '.join(class_names)}")
            pictures[split][name] = _decode(data, path / name), class_names.index(class_name)
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{path}: damaged archive ({error}). Fetch it again") from error
    for split, count in PER_CLASS.items():
        _check_counts([label for _, label in pictures[split].values()], count, path / split, class_names)
    return _shuffled(pictures["train"]), _shuffled(pictures["test"])


def _jpegs(path: Path) -> Iterator[tuple[str, str, str, bytes]]:
    """Name, split, class and bytes of every picture of the archive, which is read as a stream."""
    with tarfile.open(path, "r|xz") as archive:
        for member in archive:
            match = _MEMBER.fullmatch(member.name)
            if not match or not (file := archive.extractfile(member)):
                continue
            if member.size > _MAX_JPEG_BYTES:
                raise ValueError(f"{path}: {member.name} is too large for a 32x32 picture: {member.size:,} bytes")
            yield match[1], match[2], match[3], file.read()


def _decode(data: bytes, name: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            if picture.size != (32, 32):
                raise ValueError(f"{name}: a picture of CIFAR-10 is 32x32. Received: {picture.size}")
            return np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise ValueError(f"{name}: not a JPEG picture, or cut short ({error})") from error


def _check_counts(labels: list[int], expected: int, name: Path, class_names: Sequence[str]) -> None:
    counts = np.bincount(labels, minlength=len(class_names))
    for class_name, count in zip(class_names, counts, strict=True):
        if count != expected:
            raise ValueError(f"{name}/{class_name}: expected {expected:,} pictures. Received: {count:,}")


def _shuffled(pictures: dict[str, tuple[np.ndarray, int]]) -> Split:
    rows = [pictures[name] for name in sorted(pictures, key=lambda name: hashlib.sha256(name.encode()).digest())]
    images, labels = zip(*rows, strict=True)
    return np.stack(images), np.array(labels, np.uint8)[:, None]
