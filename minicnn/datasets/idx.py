"""IDX, the file format of MNIST: a magic number, the sizes of the dimensions, then the numbers.

    00 00 | type code | D, the number of dimensions | D sizes, 4 bytes each | the elements, last dimension fastest

Everything is big-endian. Source: http://yann.lecun.com/exdb/mnist/, "The IDX file format".
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from minicnn.atomic import atomic_write

_DTYPES = {
    code: np.dtype(name)
    for code, name in {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}.items()
}
_GZIP_MAGIC = b"\x1f\x8b"
_DEFLATE_RATIO = 1032  # one byte of a deflate stream expands to at most 1,032 (zlib's technical notes)
_MAX_BYTES = 2**31  # three times the largest IDX file in use (EMNIST by class: 0.64 GB)
_MAX_DIMENSIONS = 8


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an IDX file, gzipped or not (its first bytes tell), in the machine's byte order.

    Raises FileNotFoundError; ValueError, naming the file, where it is not IDX, cut short, followed by other bytes,
    damaged as gzip, or where its header claims more than the file can hold.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            gzipped = file.read(2) == _GZIP_MAGIC
        capacity = path.stat().st_size * (_DEFLATE_RATIO if gzipped else 1)
        with gzip.open(path, "rb") if gzipped else open(path, "rb") as file:
            return _read_array(file, path, min(capacity, _MAX_BYTES))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged gzip data ({error}). Fetch or unpack the file again") from error


def _read_array(file: Any, path: Path, capacity: int) -> np.ndarray:
    dtype, shape = _read_header(file, path)
    size = math.prod(shape) * dtype.itemsize
    if math.prod(max(length, 1) for length in shape) * dtype.itemsize > capacity:  # a zero must not hide the others
        raise ValueError(
            f"{path}: damaged or cut short: the header claims {size:,} bytes, shape {shape}, but a file of this size "
            f"holds at most {capacity:,}"
        )
    data = file.read(size)
    if len(data) < size:
        raise ValueError(f"{path}: cut short: shape {shape} needs {size:,} bytes. Received: {len(data):,}")
    if file.read(1):
        raise ValueError(f"{path}: more bytes follow the {size:,} of shape {shape}; header and data do not agree")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))  # astype: a copy, writable


def _read_header(file: Any, path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        received = magic.hex(" ") or "an empty file"
        raise ValueError(f"{path}: not an IDX file: it must begin with two zero bytes. Received: {received}")
    code, rank = magic[2], magic[3]
    if code not in _DTYPES:
        codes = ", ".join(f"0x{known:02x}" for known in _DTYPES)
        raise ValueError(f"{path}: not an IDX file: its type code must be one of {codes}. Received: 0x{code:02x}")
    if not 1 <= rank <= _MAX_DIMENSIONS:
        raise ValueError(f"{path}: an IDX array has 1 to {_MAX_DIMENSIONS} dimensions. Received: {rank}")
    sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise ValueError(f"{path}: cut short within its header of {4 + 4 * rank} bytes")
    return _DTYPES[code], struct.unpack(f">{rank}I", sizes)


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write `array` as IDX; gzipped where `path` ends in .gz, without name or time, so equal arrays make equal files.

    Raises TypeError for a dtype other than uint8, int8, int16, int32, float32, float64; ValueError for a rank not 1..8.
    """
    path, array = Path(path), np.asarray(array)
    code = next((code for code, dtype in _DTYPES.items() if dtype == array.dtype.newbyteorder(">")), None)
    if code is None:
        names = ", ".join(dtype.name for dtype in _DTYPES.values())
        raise TypeError(f"write_idx: IDX holds {names}. Received: {array.dtype}; convert with astype")
    if not 1 <= array.ndim <= _MAX_DIMENSIONS:
        raise ValueError(f"write_idx: the array must have 1 to {_MAX_DIMENSIONS} dimensions. Received: {array.ndim}")
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    with atomic_write(path) as file:
        _write(file, header + array.astype(_DTYPES[code]).tobytes(), gzipped=path.suffix == ".gz")


def _write(file: BinaryIO, data: bytes, gzipped: bool) -> None:
    if not gzipped:
        file.write(data)
        return
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=file, mtime=0) as packed:
        packed.write(data)
