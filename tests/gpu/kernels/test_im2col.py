"""im2col and col2im on the device: packs and single numbers, long patches, walks over many pixels."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from minicnn.kernels import gpu, reference
from minicnn.kernels.gpu.runtime import cp
from tests.gpu.comparing import assert_near, in_float64, to_device, to_host
from tests.gpu.emulator import thread_order

im2col_file = importlib.import_module("minicnn.kernels.gpu.im2col")

OPTIONS: list[dict[str, Any]] = [
    {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)},
    {"strides": (2, 3), "padding": ((2, 0), (0, 3)), "dilation": (1, 2)},
    {"strides": (3, 2), "padding": ((-1, 2), (2, -1)), "dilation": (2, 1)},
]


@pytest.fixture(params=["few_blocks", "many_blocks"])
def _walks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Threads that walk over many pixels, as they do where images are large, or over one each."""
    monkeypatch.setattr(im2col_file, "_ENOUGH_BLOCKS", 2 if request.param == "few_blocks" else 1 << 20)
    im2col_file._plan.cache_clear()
    yield
    im2col_file._plan.cache_clear()


@pytest.mark.usefixtures("_walks")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("c", [1, 3, 4, 6, 36, 132])
def test_all_widths_of_a_patch(c: int, options: dict[str, Any], dtype: str, rng: np.random.Generator) -> None:
    """Up to 9 * 132 numbers: more than a block has threads."""
    x = rng.standard_normal((2, 11, 9, c)).astype(dtype)
    cols = to_host(gpu.im2col(to_device(x), (3, 3), **options))
    np.testing.assert_array_equal(cols, reference.im2col(x, (3, 3), **options))
    values = rng.standard_normal(cols.shape).astype(dtype)
    received = to_host(gpu.col2im(to_device(values), (11, 9), **options))
    expected = reference.col2im(in_float64(values), (11, 9), **options)
    assert_near(received, expected, 1e-6 if dtype == "float32" else 1e-14)


def test_channels_beyond_a_block() -> None:
    x = np.arange(2 * 3 * 261, dtype=np.float32).reshape(1, 2, 3, 261)
    options: dict[str, Any] = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}
    cols = gpu.im2col(to_device(x), (1, 1), **options)
    np.testing.assert_array_equal(to_host(cols), x[:, :, :, None, None])
    np.testing.assert_array_equal(to_host(gpu.col2im(cols, (2, 3), **options)), x)


def test_arrays_that_are_not_aligned_to_packs(rng: np.random.Generator) -> None:
    whole = to_device(rng.standard_normal(1 + 5 * 4 * 8).astype(np.float32))
    x = whole[1:].reshape(1, 5, 4, 8)
    cols = to_host(gpu.im2col(x, (2, 3), **OPTIONS[1]))
    np.testing.assert_array_equal(cols, reference.im2col(to_host(x), (2, 3), **OPTIONS[1]))


@pytest.mark.parametrize(("batch", "c"), [(0, 3), (2, 0)])
def test_nothing_to_lay_out(batch: int, c: int) -> None:
    x = cp.empty((batch, 5, 4, c), np.float32)
    cols = gpu.im2col(x, (2, 2), **OPTIONS[0])
    assert cols.shape == (batch, 6, 5, 2, 2, c)
    assert gpu.col2im(cols, (5, 4), **OPTIONS[0]).shape == x.shape


def test_the_same_bits_in_every_order_of_threads(rng: np.random.Generator) -> None:
    cols = to_device(rng.standard_normal((2, 4, 3, 3, 3, 5)).astype(np.float32))
    received = []
    for order in ("forward", "reverse", "random"):
        with thread_order(order):
            received.append(to_host(gpu.col2im(cols, (11, 9), **OPTIONS[2])).tobytes())
    assert received[0] == received[1] == received[2]
