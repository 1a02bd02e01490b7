"""Zip files from anywhere, read with care: no member may unpack to more than such a file can honestly hold."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterable
from typing import BinaryIO

DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,  # with RecursionError and NotImplementedError
    MemoryError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)
"""What readers of zip, HDF5, NumPy and JSON raise on bytes that are not theirs."""


def honest_size(file: BinaryIO) -> int:
    """Bytes that a file of weights may at most unpack to: weights are noise and hardly shrink. 64 MiB always pass."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return 20 * size + (64 << 20)


def read_members(file: BinaryIO, names: Iterable[str] | None = None) -> dict[str, bytes]:
    """The members of a zip file by name: all, or those named.

    Raises ValueError for one that is not there, for a zip bomb and for a member of another size than it announces;
    any of `DAMAGE` where the file is no sound zip file.
    """
    room = honest_size(file)
    contents = {}
    with zipfile.ZipFile(file) as archive:
        there = archive.namelist()
        for name in there if names is None else names:
            if name not in there:
                raise ValueError(f"it holds no {name}. Received: {there[:5]}")
            info = archive.getinfo(name)
            room -= info.file_size
            if room < 0:
                raise ValueError(
                    f"{name} would unpack from {info.compress_size:,} to {info.file_size:,} bytes, which no weights do"
                )
            with archive.open(info) as member:
                contents[name] = member.read(info.file_size + 1)
            if len(contents[name]) != info.file_size:
                raise ValueError(f"{name} does not unpack to the {info.file_size:,} bytes that it announces")
    return contents
