"""The activations' numbers in CUDA code: the enumeration of common.cuh."""

from __future__ import annotations

CODES = {None: 0, "relu": 1, "relu6": 2, "leaky_relu": 3, "elu": 4, "sigmoid": 5, "tanh": 6}
