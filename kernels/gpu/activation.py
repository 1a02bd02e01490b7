"""Activations on the device: see activation.cu."""

from __future__ import annotations

from minicnn.kernels.contract import ActivationName, Array
from minicnn.kernels.gpu.activation_codes import CODES
from minicnn.kernels.gpu.launch import THREADS, blocks_for
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.runtime import cp

_FILE = "activation.cu"


def activation(x: Array, name: ActivationName, alpha: float = 0.0) -> Array:
    """x of any shape -> the same shape; NaN passes through."""
    y = cp.empty(x.shape, x.dtype)
    kernel = module(_FILE, x.dtype).kernel("activation_forward")
    kernel(blocks_for(x.size), THREADS, x, y, x.size, CODES[name], alpha)
    return y


def activation_backward(gy: Array, y: Array, name: ActivationName, alpha: float = 0.0) -> Array:
    """gy and the activation's output y, of one shape -> gy times the derivative."""
    gx = cp.empty(gy.shape, gy.dtype)
    kernel = module(_FILE, gy.dtype).kernel("activation_backward")
    kernel(blocks_for(gy.size), THREADS, gy, y, gx, gy.size, CODES[name], alpha)
    return gx
