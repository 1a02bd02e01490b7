"""Philox and dropout on the device: the host's numbers and masks, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.kernels import gpu, reference
from minicnn.kernels.gpu.live import LiveScalars, capturing
from tests.gpu.comparing import to_device, to_host


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 1023, 4099])
@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (2**64 - 1, 2**64 - 1), (0x123456789ABCDEF, 2**33 + 7)])
def test_words_are_those_of_the_reference(count: int, seed: int, stream: int) -> None:
    received = to_host(gpu.philox_words(count, seed, stream))
    np.testing.assert_array_equal(received, reference.philox_words(count, seed, stream))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 4, 5, 2047, 2050])
def test_dropout_is_that_of_the_reference_to_the_bit(count: int, dtype: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal(count).astype(dtype)
    for rate in (0.0, 0.3, 1 - 2**-34):
        expected, bits = reference.dropout(x, rate, 77, 5)
        y, kept = gpu.dropout(to_device(x), rate, 77, 5)
        np.testing.assert_array_equal(to_host(y), expected)
        np.testing.assert_array_equal(to_host(kept), bits)
        np.testing.assert_array_equal(to_host(gpu.dropout_backward(to_device(x), kept, rate)), expected)


def test_arrays_off_the_bounds_of_a_pack_have_the_same_mask(rng: np.random.Generator) -> None:
    x = rng.standard_normal(102).astype(np.float32)
    expected, bits = reference.dropout(x[1:], 0.5, 3, 4)
    np.testing.assert_array_equal(to_host(gpu.dropout(to_device(x)[1:], 0.5, 3, 4)[0]), expected)
    received = gpu.dropout_backward(to_device(x)[1:], to_device(bits), 0.5)
    np.testing.assert_array_equal(to_host(received), expected)


def test_a_captured_step_draws_from_the_stream_that_it_is_told(rng: np.random.Generator) -> None:
    x = rng.standard_normal(300).astype(np.float32)
    live = LiveScalars()
    live.advance(lr=0.1, step=1, stream_offset=2**40)
    with capturing(live):
        y, _ = gpu.dropout(to_device(x), 0.5, 3, 4)
    np.testing.assert_array_equal(to_host(y), reference.dropout(x, 0.5, 3, 4 + 2**40)[0])
