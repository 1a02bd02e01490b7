"""read_idx and write_idx: a round trip, bytes written by hand, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicnn.datasets.idx import read_idx, write_idx

# 2 x 3 int16 values, 1 2 3 / -1 -2 300, byte by byte as the format's page has them
BY_HAND = bytes.fromhex("00000b02 00000002 00000003 000100020003 fffffffe012c".replace(" ", ""))


def idx_bytes(shape: tuple[int, ...], data: bytes, code: int = 8) -> bytes:
    return bytes((0, 0, code, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + data


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "images-idx3-ubyte"


def assert_refused(file: Path, content: bytes, match: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=match) as caught:
        read_idx(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
def test_bytes_written_by_hand_are_read_whatever_the_name_says(file: Path, pack) -> None:
    file.write_bytes(pack(BY_HAND))
    array = read_idx(file)
    np.testing.assert_array_equal(array, np.array([[1, 2, 3], [-1, -2, 300]], np.int16))
    assert array.dtype == np.int16  # the machine's byte order, not the file's
    array += 1  # writable


def test_written_bytes_are_the_format_s_own(file: Path) -> None:
    write_idx(file, np.array([[1, 2, 3], [-1, -2, 300]], np.int16))
    assert file.read_bytes() == BY_HAND


@pytest.mark.parametrize("name", ["a.idx", "a.gz"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64", ">i4", ">f8"])
def test_every_type_comes_back(tmp_path: Path, rng: np.random.Generator, name: str, dtype: str) -> None:
    array = rng.integers(-90, 90, (4, 3, 5)).astype(dtype)
    write_idx(tmp_path / name, array.transpose(2, 0, 1))
    read = read_idx(tmp_path / name)
    np.testing.assert_array_equal(read, array.transpose(2, 0, 1))
    assert read.dtype == array.dtype.newbyteorder("=")


@settings(deadline=None, max_examples=30)
@given(shape=st.lists(st.integers(0, 4), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_every_shape_comes_back(tmp_path_factory: pytest.TempPathFactory, shape: list[int], seed: int) -> None:
    file = tmp_path_factory.mktemp("idx") / "array.gz"
    array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    write_idx(file, array)
    assert read_idx(file).shape == array.shape
    np.testing.assert_array_equal(read_idx(file), array)


def test_the_same_array_makes_the_same_gzip_file_under_any_name(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    for name in ("first.gz", "second.gz"):
        write_idx(tmp_path / name, array)
    assert (tmp_path / "first.gz").read_bytes() == (tmp_path / "second.gz").read_bytes()
    assert (tmp_path / "first.gz").read_bytes()[4:8] == b"\0\0\0\0"  # no time of writing


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "an empty file"),
        (b"\0\0\x08", "not an IDX file"),
        (b"\x89PNG\r\n\x1a\n", "two zero bytes.* 89 50 4e 47"),
        (idx_bytes((2,), b"ab", code=10), "type code must be one of .* 0x0a"),
        (bytes((0, 0, 8, 0)), "1 to 8 dimensions. Received: 0"),
        (idx_bytes((1,) * 9, b"a"), "1 to 8 dimensions. Received: 9"),
        (bytes((0, 0, 8, 3, 0, 0, 0, 1)), "cut short within its header"),
    ],
)
def test_a_wrong_header_is_refused(file: Path, content: bytes, match: str) -> None:
    assert_refused(file, content, match)


def test_a_truncated_file_is_refused(file: Path) -> None:
    assert_refused(file, idx_bytes((2, 3), b"abcde"), r"shape \(2, 3\)")
    assert_refused(file, gzip.compress(idx_bytes((2, 3), b"abcde")), "needs 6 bytes. Received: 5")


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
def test_trailing_bytes_are_refused(file: Path, pack) -> None:
    assert_refused(file, pack(idx_bytes((2, 3), b"abcdefg")), "more bytes follow the 6")


def test_bytes_after_the_gzip_stream_are_refused(file: Path) -> None:
    assert_refused(file, gzip.compress(idx_bytes((2,), b"ab")) + b"rubbish", "damaged gzip")


def test_a_gzip_file_cut_anywhere_is_refused(file: Path) -> None:
    packed = gzip.compress(idx_bytes((40,), bytes(range(40))))
    for length in (3, 12, len(packed) // 2, len(packed) - 8, len(packed) - 1):
        assert_refused(file, packed[:length], "damaged gzip")


def test_one_flipped_bit_in_a_gzip_file_is_refused(file: Path) -> None:
    packed = bytearray(gzip.compress(idx_bytes((400,), bytes(range(200)) * 2)))
    packed[-6] ^= 1  # in the checksum
    assert_refused(file, bytes(packed), "damaged gzip.*CRC")
    packed = bytearray(gzip.compress(idx_bytes((400,), bytes(range(200)) * 2)))
    packed[40] ^= 0x55  # in the data
    assert_refused(file, bytes(packed), "damaged gzip|more bytes|cut short")


@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (0, 2**32 - 1, 2**32 - 1), (2**31,)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
def test_a_header_that_asks_for_more_than_the_file_can_hold_is_refused(file: Path, shape, pack) -> None:
    assert_refused(file, pack(idx_bytes(shape, b"abc")), "header claims")


def test_a_gzip_bomb_behind_a_small_header_is_not_unpacked(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked = 0
    read = gzip.GzipFile.read

    def counting_read(self: gzip.GzipFile, size: int = -1) -> bytes:
        nonlocal unpacked
        data = read(self, size)
        unpacked += len(data)
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", counting_read)
    assert_refused(file, gzip.compress(idx_bytes((2,), bytes(50_000_000)), 1), "more bytes follow the 2")
    assert unpacked < 100


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_idx(tmp_path / "nowhere")


@pytest.mark.parametrize("array", [np.zeros(3, np.int64), np.zeros(3, np.float16), np.zeros(3, bool), np.array(["a"])])
def test_a_type_that_idx_lacks_is_refused(file: Path, array: np.ndarray) -> None:
    with pytest.raises(TypeError, match="uint8, int8, int16, int32, float32, float64"):
        write_idx(file, array)
    assert not file.exists()


@pytest.mark.parametrize("rank", [0, 9])
def test_a_rank_that_idx_lacks_is_refused(file: Path, rank: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 8 dimensions. Received: {rank}"):
        write_idx(file, np.zeros((1,) * rank, np.uint8))
