"""Where the files of a dataset are found, and how they are fetched where they are not.

The order of places: the folder the caller names (then no other), `$MINICNN_DATA`, the user's cache, the network. In
each of them the dataset's own sub-folder (say mnist/) comes before the folder itself.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from minicnn.atomic import atomic_write

TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file as its publisher serves it: `size` in bytes, `sha256`, and the https addresses to try in turn."""

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """A dataset's name for people, its folder's name, and its files; `note` says what may be put in their place."""

    title: str
    folder: str
    files: tuple[RemoteFile, ...]
    note: str


def cache_folder() -> Path:
    """The folder that downloads are kept in: `$MINICNN_CACHE`, else ~/.cache/minicnn/datasets."""
    named = os.environ.get("MINICNN_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "minicnn" / "datasets"


def search_folders(dataset: Dataset, path: str | os.PathLike[str] | None) -> list[Path]:
    """The folders to look through, best first. A `path` is a promise: where it is given, no other place is looked at.

    Raises TypeError where `path` is not a path, FileNotFoundError where it, or $MINICNN_DATA, does not exist,
    NotADirectoryError where it is a file.
    """
    if path is not None:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"{dataset.title}: path must be the name of a folder, or None. Received: {path!r}")
        return _with_subfolder(_existing(Path(path), "path", dataset), dataset)
    named = os.environ.get("MINICNN_DATA")
    chosen = _with_subfolder(_existing(Path(named), "MINICNN_DATA", dataset), dataset) if named else []
    return chosen + _with_subfolder(cache_folder(), dataset)


def _existing(folder: Path, what: str, dataset: Dataset) -> Path:
    folder = folder.expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"{dataset.title}: {what} names a folder that does not exist. Received: {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"{dataset.title}: {what} must name a folder with the files. Received: {folder}")
    return folder


def _with_subfolder(folder: Path, dataset: Dataset) -> list[Path]:
    return [folder / dataset.folder, folder]


def find_file(folder: Path, name: str) -> Path | None:
    """The file `name` of `folder`, whether kept with its .gz or without; None where it is not there."""
    plain = name.removesuffix(".gz")
    return next((path for path in (folder / plain, folder / f"{plain}.gz") if path.is_file()), None)


def find_all(folder: Path, names: Sequence[str]) -> list[Path] | None:
    """The path of every file of `names` in `folder`, or None where one is missing."""
    paths = [path for name in names if (path := find_file(folder, name))]
    return paths if len(paths) == len(names) else None


def fetch(dataset: Dataset, searched: Sequence[Path]) -> Path:
    """Download what the cache lacks of `dataset` and return its folder there.

    Raises FileNotFoundError, saying which files to put where, when that fails.
    """
    folder = cache_folder() / dataset.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in dataset.files:
            if find_file(folder, file.name) is None:
                download(file, folder)
    except OSError as error:
        raise FileNotFoundError(how_to_get(dataset, searched, str(error))) from error
    return folder


def download(file: RemoteFile, folder: Path) -> Path:
    """Fetch `file` into `folder` from the first of its addresses that serves it whole and unchanged.

    Raises ConnectionError with the reason of each address; nothing partial or wrong is left in `folder`.
    """
    from http.client import HTTPException  # here, not above: the import costs more than the rest of the package

    failures = []
    for url in file.urls:
        print(f"Downloading {url} ({file.size / 1e6:.1f} MB)", file=sys.stderr)
        try:
            with atomic_write(folder / file.name) as target:
                _copy_checked(url, file, target)
            return folder / file.name
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"{url}: {error or type(error).__name__}")
    raise ConnectionError("\n    ".join([f"{file.name} could not be downloaded", *failures]))


def _copy_checked(url: str, file: RemoteFile, target: BinaryIO) -> None:
    """Copy `url` to `target`. Raises ValueError where it is not https, or not the file that was published."""
    from urllib.request import urlopen

    _require_https(url)
    digest, received = hashlib.sha256(), 0
    with urlopen(url, timeout=TIMEOUT) as response:
        _require_https(response.geturl())  # where redirections led
        while chunk := response.read(_CHUNK):
            received += len(chunk)
            if received > file.size:
                raise ValueError(f"longer than the {file.size:,} bytes published")
            digest.update(chunk)
            target.write(chunk)
    if received < file.size:
        raise ValueError(f"ended after {received:,} of {file.size:,} bytes")
    if digest.hexdigest() != file.sha256:
        raise ValueError(f"SHA-256 is {digest.hexdigest()}, expected {file.sha256}")


def _require_https(url: str) -> None:
    if not url.startswith("https://"):
        raise ValueError(f"{url} is not an https address")


def how_to_get(dataset: Dataset, searched: Sequence[Path], reason: str) -> str:
    """What to tell a user whose files are missing: which files, from where, into which folder."""
    width = max(len(file.name) for file in dataset.files)
    return "\n".join(
        [
            f"{dataset.title} is not here: {reason}",
            "Put these files into one folder:",
            *(f"    {file.name:<{width}}  {file.urls[0]}" for file in dataset.files),
            dataset.note,
            f"The folder may be {cache_folder() / dataset.folder},",
            f"$MINICNN_DATA/{dataset.folder}, or any that you name: load_data(path)",
            f"Looked in: {', '.join(map(str, searched))}",
        ]
    )
