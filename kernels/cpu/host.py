"""What this processor can do: its vector width, chosen once when the package is imported."""

from __future__ import annotations

import os
from functools import cache

import llvmlite.binding as llvm

WIDTHS = {"avx512": 512, "avx2": 256, "128": 128, "plain": 0}
"""Names that $MINICNN_SIMD takes, and the bits of a vector; "plain" computes one number at a time."""


@cache
def cpu_name() -> str:
    """The processor as LLVM names it, such as "znver5"."""
    return str(llvm.get_host_cpu_name())


@cache
def features() -> str:
    """The processor's features as LLVM lists them: "+avx2,-sse4a,..."."""
    return str(llvm.get_host_cpu_features().flatten())


@cache
def simd() -> str:
    """The widest of WIDTHS that this processor has, or the one that $MINICNN_SIMD names.

    Raises ValueError where the variable holds another name.
    """
    named = os.environ.get("MINICNN_SIMD", "")
    if named:
        if named not in WIDTHS:
            raise ValueError(f"the environment variable MINICNN_SIMD must be one of {[*WIDTHS]}. Received: {named!r}")
        return named
    has = dict(llvm.get_host_cpu_features())
    if has.get("avx512f") and has.get("avx512vl"):
        return "avx512"
    if has.get("avx2") and has.get("fma"):
        return "avx2"
    return "128"


@cache
def vector_registers() -> int:
    """How many vector registers the instruction set names: what a tile of accumulators must fit into."""
    has = dict(llvm.get_host_cpu_features())
    return 32 if has.get("avx512f") or has.get("neon") else 16


def lanes(itemsize: int = 4) -> int:
    """How many floats of that many bytes one vector holds."""
    return max(1, WIDTHS[simd()] // (8 * itemsize))
