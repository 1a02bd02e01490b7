"""The buffer pool: what was used is used again, and never while somebody still sees it."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from minicnn.kernels.cpu import buffers

SHAPE = (300, 1000)


def address_of(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


@pytest.fixture(autouse=True)
def _empty_pool() -> Iterator[None]:
    buffers.release()
    yield
    buffers.release()


def test_memory_is_used_again_when_the_last_array_over_it_is_gone() -> None:
    first = buffers.empty(SHAPE, np.float32)
    place = address_of(first)
    del first
    assert address_of(buffers.empty(SHAPE, np.float32)) == place


@pytest.mark.parametrize(
    "view_of",
    [
        lambda a: a[5:, ::7],
        lambda a: a.reshape(-1).T[3:],
        lambda a: memoryview(a),
        lambda a: a.view(np.int32)[2],
        lambda a: np.asarray(a.reshape(30, 10, 1000)[::2].transpose(1, 0, 2)),
        lambda a: iter(a),
        lambda a: np.from_dlpack(a),
    ],
    ids=["slice", "reshape", "memoryview", "view", "transpose", "iterator", "dlpack"],
)
def test_memory_is_not_used_again_while_a_view_of_it_lives(view_of: Any) -> None:
    first = buffers.empty(SHAPE, np.float32)
    first[...] = 3
    place, view = address_of(first), view_of(first)
    del first
    second = buffers.empty(SHAPE, np.float32)
    second[...] = 7
    assert address_of(second) != place
    assert not isinstance(view, np.ndarray) or np.all(view.view(np.float32) == 3)


def test_the_block_used_last_comes_first() -> None:
    first, second = buffers.empty(SHAPE, np.float32), buffers.empty(SHAPE, np.float32)
    place = address_of(second)
    del first
    del second
    assert address_of(buffers.empty(SHAPE, np.float32)) == place


def test_a_smaller_array_takes_a_free_block_that_is_not_much_larger() -> None:
    size, owned = 1 << 20, buffers.statistics()["owned_bytes"]
    large = buffers.empty((size,), np.uint8)
    place = address_of(large)
    del large
    assert address_of(buffers.empty((size * 7 // 10,), np.uint8)) == place
    assert buffers.statistics()["owned_bytes"] - owned == size
    kept = [buffers.empty((size // 2,), np.uint8)]
    assert buffers.statistics()["owned_bytes"] - owned == size + size // 2
    kept.append(buffers.empty((size,), np.uint8))
    assert address_of(kept[-1]) == place


def test_the_smallest_block_that_fits_is_taken() -> None:
    large, small = buffers.empty((1_400_000,), np.uint8), buffers.empty((1_100_000,), np.uint8)
    place = address_of(small)
    del small
    del large
    assert address_of(buffers.empty((1_000_000,), np.uint8)) == place


def test_arrays_are_what_numpy_would_make() -> None:
    for shape in ((0,), (3, 0, 5), (), (2, 3), SHAPE, (1 << 15,)):
        for dtype in ("float32", "float64", "int32", "bool"):
            array = buffers.empty(shape, dtype)
            assert type(array) is np.ndarray
            assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
            assert array.flags.carray
    assert not buffers.zeros(SHAPE, np.float64).any()
    assert buffers.empty_like(np.ones(SHAPE).T).shape == SHAPE[::-1]


def test_sizes_waste_an_eighth_at_most() -> None:
    for size in [1 << 16, (1 << 16) + 1, 99_999, 1_000_003, 123_456_789, (1 << 30) - 1]:
        rounded = buffers._rounded(size)
        assert size <= rounded <= size * 1.125 + mmap.PAGESIZE
        assert rounded % mmap.PAGESIZE == 0


def test_free_blocks_are_given_back_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    del_me = buffers.empty(SHAPE, np.float32)
    del del_me
    assert buffers.statistics()["held_bytes"] > 0
    real, refused = mmap.mmap, []

    def mmap_that_fails_while_blocks_are_held(fileno: int, size: int) -> mmap.mmap:
        if buffers.statistics()["held_bytes"]:
            refused.append(size)
            raise OSError(12, "Cannot allocate memory")
        return real(fileno, size)

    monkeypatch.setattr(buffers.mmap, "mmap", mmap_that_fails_while_blocks_are_held)
    array = buffers.empty((1 << 20,), np.float64)
    assert refused
    assert array.size == 1 << 20


def test_what_no_machine_has_is_a_memory_error_that_says_how_much() -> None:
    with pytest.raises(MemoryError, match=r"no memory for an array of 4,\d\d\d,"):
        buffers.empty((1 << 62,), np.uint8)


def test_sizes_that_never_come_again_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    buffers.release()  # else `kept` may lie in a larger block of an earlier test
    monkeypatch.setattr(buffers, "MOST_HELD", 1 << 22)
    kept = buffers.empty(((1 << 22) + 1,), np.uint8)
    for i in range(200):
        buffers.empty(((1 << 20) + i * 300_000,), np.uint8)
        assert buffers.statistics()["held_bytes"] <= 70 << 20
    assert buffers.statistics()["owned_bytes"] - buffers.statistics()["held_bytes"] == buffers._rounded(kept.nbytes)


def test_threads_never_get_the_same_memory_at_once() -> None:
    """Each thread writes its number over its array, lets the others run, and must find it there again."""
    errors: list[int] = []

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        for _ in range(200):
            array = buffers.empty((int(rng.integers(20_000, 40_000)),), np.int64)
            array.fill(number)
            array.sum()  # NumPy releases the interpreter's lock
            if not (array == number).all():
                errors.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
