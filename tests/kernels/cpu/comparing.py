"""What the tests of the CPU families share: distances, and the same call on one thread and on all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.cpu import parallel
from tests.kernels.test_contract import arrays_in


def normal(*shape: int, dtype: str = "float32", seed: int = 0) -> Array:
    """Standard normal numbers, the same in every run."""
    return np.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def assert_close(received: Any, expected: Any, limit: float = 1e-5) -> None:
    """Every array within `limit` times the largest number expected; integers exactly; NaN in the same places."""
    for array, oracle in zip(arrays_in([received]), arrays_in([expected]), strict=True):
        assert array.shape == oracle.shape
        if oracle.dtype.kind in "iu":
            np.testing.assert_array_equal(array, oracle)
        else:
            finite = oracle[np.isfinite(oracle)]
            scale = float(np.abs(finite).max(initial=0)) or 1.0
            np.testing.assert_allclose(array, oracle, rtol=0, atol=limit * scale)


def assert_same_bits_on_any_number_of_threads(run: Callable[[], Any]) -> None:
    """Call `run` on each number of threads, twice, and compare what it returns to the bit."""
    before = parallel.get_num_threads()
    try:
        results = set()
        for threads in range(1, parallel.max_threads() + 1):
            parallel.set_num_threads(threads)
            for _ in range(2):
                results.add(b"".join(array.tobytes() for array in arrays_in([run()])))
    finally:
        parallel.set_num_threads(before)
    assert len(results) == 1
