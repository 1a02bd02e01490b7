"""Philox on vectors gives the reference's words to the bit, and dropout drops exactly those elements."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from minicnn.kernels import cpu, reference
from minicnn.kernels.cpu.random import PIECE, WORDS, dropout, dropout_backward, philox_words
from minicnn.kernels.cpu.streaming import STREAMING_BYTES
from tests.kernels.cpu.comparing import assert_same_bits_on_any_number_of_threads, normal

SIZES = [1, 3, WORDS - 1, WORDS, WORDS + 1, 2 * PIECE + 5]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (2**32 - 1, 2**32), (2**64 - 1, 2**63 + 7), (-5, 1)])
def test_words_are_those_of_the_reference(size: int, seed: int, stream: int) -> None:
    np.testing.assert_array_equal(philox_words(size, seed, stream), reference.philox_words(size, seed, stream))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rate", [0.0, 1e-12, 0.3, 0.5, 1 - 2**-40])
def test_dropped_elements_are_those_of_the_reference(dtype: str, size: int, rate: float) -> None:
    x = normal(size, dtype=dtype)
    (y, kept), (expected, bits) = (each.dropout(x, rate, 2**40 + 1, 3) for each in (cpu, reference))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(kept, bits)
    np.testing.assert_array_equal(dropout_backward(x, bits, rate), expected)


def test_arrays_that_are_written_past_the_caches_hold_the_same() -> None:
    x = normal(STREAMING_BYTES // 8 + 37)
    (y, kept), (expected, bits) = (each.dropout(x, 0.3, 1, 2) for each in (cpu, reference))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(kept, bits)
    np.testing.assert_array_equal(dropout_backward(x, bits, 0.3), expected)


def test_a_dropped_nan_is_zero() -> None:
    x = np.full(1000, np.nan, np.float32)
    y, kept = dropout(x, 0.5, 1, 2)
    np.testing.assert_array_equal(dropout_backward(x, kept, 0.5), y)
    assert 400 < np.count_nonzero(np.isnan(y)) < 600
    assert not np.isinf(y).any()


def test_the_same_elements_are_dropped_on_any_number_of_threads() -> None:
    x = normal(5 * PIECE)
    assert_same_bits_on_any_number_of_threads(lambda: dropout(x, 0.25, 7, 9))
    _, bits = dropout(x, 0.25, 7, 9)
    assert_same_bits_on_any_number_of_threads(lambda: dropout_backward(x, bits, 0.25))
