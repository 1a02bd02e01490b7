"""Switches that kernels look at; `minicnn.config` sets them."""

from __future__ import annotations

import os


def _flag(variable: str, default: bool) -> bool:
    """An environment variable as a yes or no.

    Raises ValueError for another value than 0, 1, off, on, false, true, no, yes.
    """
    value = os.environ.get(variable, "").lower()
    if value in ("1", "on", "true", "yes", "0", "off", "false", "no"):
        return value in ("1", "on", "true", "yes")
    if value:
        raise ValueError(f"the environment variable {variable} must be 1 or 0. Received: {value!r}")
    return default


winograd = _flag("MINICNN_WINOGRAD", default=True)
"""Whether 3x3 convolutions of many channels in float32 may be computed by Winograd's algorithm; see winograd.py."""
