"""CuPy's exceptions, and the stand-in's own."""

from __future__ import annotations


class CUDARuntimeError(RuntimeError):
    """An error of the CUDA runtime. As cupy.cuda.runtime.CUDARuntimeError."""


class CUDADriverError(RuntimeError):
    """An error of the CUDA driver. As cupy.cuda.driver.CUDADriverError."""


class StandinError(AssertionError):
    """A mistake that CUDA would not have noticed: memory written outside of an array, or used after it was freed."""


CAPTURE_UNSUPPORTED = "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing"
CAPTURE_INVALIDATED = "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture"
CAPTURE_IMPLICIT = (
    "cudaErrorStreamCaptureImplicit: operation would make the legacy stream depend on a capturing blocking stream"
)
