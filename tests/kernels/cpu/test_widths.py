"""Every vector width computes the same, forced one after another on this machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from minicnn.kernels.cpu import host

LANES = {"avx512": 16, "avx2": 8, "128": 4, "plain": 1}


@pytest.mark.parametrize("width", [w for w in LANES if LANES[w] <= host.lanes()])
def test_kernels_equal_the_reference_at_every_width(width: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.cpu.width_check"],
        env={**os.environ, "MINICNN_SIMD": width}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{width} {LANES[width]}"]


def test_an_unknown_width_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import minicnn.kernels.cpu"],
        env={**os.environ, "MINICNN_SIMD": "avx"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert "MINICNN_SIMD must be one of ['avx512', 'avx2', '128', 'plain']. Received: 'avx'" in done.stderr
