"""Settings of the kernels that are read at every call, whatever the machine has: here, the precision of the GPU's."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias, get_args

Precision: TypeAlias = Literal["fp32", "tf32", "bf16"]


def checked_precision(value: object, name: str = "precision") -> Precision:
    """The value, where it is one of the precisions; raises ValueError where it is not."""
    if value not in get_args(Precision):
        raise ValueError(f"{name} must be one of {list(get_args(Precision))}. Received: {value!r}")
    return value  # type: ignore[return-value]


precision: Precision = checked_precision(
    os.environ.get("MINICNN_PRECISION", "") or "fp32", "the environment variable MINICNN_PRECISION"
)
"""In which numbers float32 convolutions and products multiply: "fp32" exactly, "tf32" or "bf16" on tensor cores, where
sums are fp32 and factors are rounded to 10 or 7 bits of mantissa first. float64 arrays are not concerned."""
