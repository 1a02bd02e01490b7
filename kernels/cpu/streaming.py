"""Writing past the caches: for an array that is too big to be found there again.

A plain store first fetches the line of memory that it is to change, and drives another out of the cache. A streaming
store does neither. What it wrote must be read from memory later, so it only pays where that would be so anyway.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from minicnn.kernels.cpu.simd import emit_element, emit_streaming_store

STREAMING_BYTES = 1 << 26
"""Size from which on the arrays of an elementwise call together are too big for the caches."""


@intrinsic
def stream(typing_context: Any, array: Any, index: Any, vector: Any) -> Any:
    """As `simd.store`, past the caches; the vector must lie at an address that is a multiple of its size."""

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        emit_streaming_store(b, emit_element(b, context, array, *arguments[:2]), arguments[2])
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), code
