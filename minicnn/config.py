"""Settings of the whole engine."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np

_floatx = "float32"


def floatx() -> str:
    """The dtype that new layers compute with, "float32" or "float64". As keras.config.floatx."""
    return _floatx


def set_floatx(dtype: str) -> None:
    """Set the dtype of layers made from here on.

    Raises ValueError for another dtype than float32 and float64.
    """
    global _floatx
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in ("float32", "float64"):
        raise ValueError(f"floatx must be 'float32' or 'float64'. Received: {dtype!r}")
    _floatx = name


class _Config(ModuleType):
    """This module, with settings that others hold: reading and writing them goes there."""

    @property
    def winograd(self) -> bool:
        """Whether 3x3 convolutions of many channels in float32 are computed by Winograd's algorithm.

        It needs a quarter of the products and is a little less exact: within 2e-5 of the largest output, where the
        direct way is within 1e-5. The default is True, or the environment variable MINICNN_WINOGRAD (1 or 0).
        """
        from minicnn.kernels.cpu import settings

        return settings.winograd

    @winograd.setter
    def winograd(self, enabled: bool) -> None:
        if not isinstance(enabled, bool):
            raise ValueError(f"config.winograd must be True or False. Received: {enabled!r}")
        from minicnn.kernels.cpu import settings

        settings.winograd = enabled

    @property
    def precision(self) -> str:
        """In which numbers the GPU multiplies float32 convolutions and products: "fp32", "tf32" or "bf16".

        "fp32" is exact; the others use tensor cores, whose factors keep 10 or 7 bits of mantissa and whose sums are
        fp32. The default is "fp32", or the environment variable MINICNN_PRECISION. The CPU always computes in fp32.
        """
        from minicnn.kernels import settings

        return settings.precision

    @precision.setter
    def precision(self, value: str) -> None:
        from minicnn.kernels import settings

        settings.precision = settings.checked_precision(value, "config.precision")


sys.modules[__name__].__class__ = _Config
