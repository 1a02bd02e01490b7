"""Activations: vectors of numbers in, vectors out, and on the way back the sums for the bias in the same pass.

All of this is bound by memory, as long as the functions themselves run on vectors: see `vector_math.py` for exp. Arrays
are taken as one row of numbers and cut into pieces of 32 K, one task each. The bias' gradient is a sum down the columns
of a matrix: see `column_sums.py`, which says why it is exact and the same for any number of threads.

One kernel is made for each activation, so that none has to ask which one it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.kernels.contract import ActivationName, Array
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.column_sums import make_column_sums, plan, read, total, write
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.parallel import parallel_for
from minicnn.kernels.cpu.simd import clamp, lanes, load, load_first, store, store_first
from minicnn.kernels.cpu.streaming import STREAMING_BYTES, stream
from minicnn.kernels.cpu.vector_math import expm1_negative, select, sigmoid, splat_as, tanh, zeros_like

PIECE = 1 << 15
"""Numbers of one task: less work than this is not worth a second thread."""

# ---------------------------------------------------------------------------------------------------- one vector
# Forward: x and alpha, a vector in which every lane is alpha. Backward: gy, y and alpha.


@helper
def _relu(x, alpha):  # type: ignore[no-untyped-def]
    return select(x < 0.0, zeros_like(x), x)


@helper
def _relu_backward(gy, y, alpha):  # type: ignore[no-untyped-def]
    return select(y > 0.0, gy, zeros_like(gy))


@helper
def _relu6(x, alpha):  # type: ignore[no-untyped-def]
    return clamp(x, zeros_like(x), splat_as(x, 6.0))


@helper
def _relu6_backward(gy, y, alpha):  # type: ignore[no-untyped-def]
    return select((y > 0.0) & (y < 6.0), gy, zeros_like(gy))


@helper
def _leaky_relu(x, alpha):  # type: ignore[no-untyped-def]
    return select(x > 0.0, x, alpha * x)


@helper
def _leaky_relu_backward(gy, y, alpha):  # type: ignore[no-untyped-def]
    return select(y > 0.0, gy, alpha * gy)


@helper
def _elu(x, alpha):  # type: ignore[no-untyped-def]
    return select(x > 0.0, x, alpha * expm1_negative(select(x > 0.0, zeros_like(x), x)))


@helper
def _elu_backward(gy, y, alpha):  # type: ignore[no-untyped-def]
    return select(y > 0.0, gy, (y + alpha) * gy)


@helper
def _sigmoid(x, alpha):  # type: ignore[no-untyped-def]
    return sigmoid(x)


@helper
def _sigmoid_backward(gy, y, alpha):  # type: ignore[no-untyped-def]
    return gy * y * (1.0 - y)


@helper
def _tanh(x, alpha):  # type: ignore[no-untyped-def]
    return tanh(x)


@helper
def _tanh_backward(gy, y, alpha):  # type: ignore[no-untyped-def]
    return gy * (1.0 - y * y)


_FORWARD = {
    "relu": _relu,
    "relu6": _relu6,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
}
_BACKWARD = {
    "relu": _relu_backward,
    "relu6": _relu6_backward,
    "leaky_relu": _leaky_relu_backward,
    "elu": _elu_backward,
    "sigmoid": _sigmoid_backward,
    "tanh": _tanh_backward,
}

# ---------------------------------------------------------------------------------------------------- whole arrays


@helper
def _put(y, i, value, streaming):  # type: ignore[no-untyped-def]
    if streaming:
        stream(y, i, value)
    else:
        store(y, i, value)


def _make_forward(name: str) -> Any:
    """The kernel run(x, y, alpha, streaming) of one activation, on flat arrays; x may be y."""
    function = _FORWARD[name]

    @helper
    def piece(task, x, y, alpha, streaming):  # type: ignore[no-untyped-def]
        step = lanes(x)
        i, stop = task * PIECE, min((task + 1) * PIECE, x.size)
        alphas = splat_as(load_first(x, i, 0), alpha)
        while i + step <= stop:
            _put(y, i, function(load(x, i), alphas), streaming)
            i += step
        if i < stop:
            store_first(y, i, function(load_first(x, i, stop - i), alphas), stop - i)

    def run(x, y, alpha, streaming):  # type: ignore[no-untyped-def]
        parallel_for(piece, (x.size + PIECE - 1) // PIECE, (x, y, alpha, streaming))

    run.__qualname__ = f"{name}_forward"  # its name in the disk cache
    return kernel(run)


def _make_backward(name: str) -> Any:
    """The kernel run(gy, y, gx, alpha, streaming) of one activation, on flat arrays."""
    function = _BACKWARD[name]

    @helper
    def piece(task, gy, y, gx, alpha, streaming):  # type: ignore[no-untyped-def]
        step = lanes(gy)
        i, stop = task * PIECE, min((task + 1) * PIECE, gy.size)
        alphas = splat_as(load_first(gy, i, 0), alpha)
        while i + step <= stop:
            _put(gx, i, function(load(gy, i), load(y, i), alphas), streaming)
            i += step
        if i < stop:
            left = stop - i
            store_first(gx, i, function(load_first(gy, i, left), load_first(y, i, left), alphas), left)

    def run(gy, y, gx, alpha, streaming):  # type: ignore[no-untyped-def]
        parallel_for(piece, (gy.size + PIECE - 1) // PIECE, (gy, y, gx, alpha, streaming))

    run.__qualname__ = f"{name}_backward"
    return kernel(run)


_FORWARD_KERNELS = {name: _make_forward(name) for name in _FORWARD}
_BACKWARD_KERNELS = {name: _make_backward(name) for name in _BACKWARD}


def activation(x: Array, name: ActivationName, alpha: float = 0.0) -> Array:
    """x of any shape -> the same shape; NaN passes through."""
    y = buffers.empty(x.shape, x.dtype)
    _FORWARD_KERNELS[name](x.reshape(-1), y.reshape(-1), float(alpha), 2 * y.nbytes > STREAMING_BYTES)
    return y


def activation_backward(gy: Array, y: Array, name: ActivationName, alpha: float = 0.0) -> Array:
    """gy and the activation's output y, of one shape -> gy times the derivative."""
    gx = buffers.empty(gy.shape, gy.dtype)
    _BACKWARD_KERNELS[name](
        gy.reshape(-1), y.reshape(-1), gx.reshape(-1), float(alpha), 3 * gx.nbytes > STREAMING_BYTES
    )
    return gx


def activation_in_place(y: Array, name: ActivationName) -> None:
    """Apply an activation without option to a fresh contiguous array: the end of a product with an epilogue."""
    flat = y.reshape(-1)
    _FORWARD_KERNELS[name](flat, flat, 0.0, False)


# ---------------------------------------------------------------------------------------------------- biases


@helper
def _number(data, i, column, count):  # type: ignore[no-untyped-def]
    """What bias_grad sums: the numbers themselves."""
    (gy,) = data
    g = read(gy, i, count)
    return g, g


_sum_slice = make_column_sums(_number, both=False)


@kernel
def _bias_grad(gy, width, slices, parts, across, sums, gb):  # type: ignore[no-untyped-def]
    """gy flat, gb (F,); the rest as in column_sums."""
    parallel_for(_sum_slice, slices * parts, ((gy,), width, gy.size, slices, parts, across))
    total(across, 0, gb.size, width, slices, across.size // (2 * slices), sums)
    for c in range(gb.size):
        gb[c] = sums[c]


def bias_grad(gy: Array) -> Array:
    """gy (..., F) -> its sum over all axes but the last, (F,)."""
    columns = gy.shape[-1]
    gb = np.empty(columns, gy.dtype)
    if not gy.size:
        gb.fill(0)
        return gb
    width, slices, parts, scratch = plan(gy.size, columns, gy.itemsize)
    across = buffers.empty((scratch,), np.float64)
    _bias_grad(gy.reshape(-1), width, slices, parts, across, np.empty(columns), gb)
    return gb


def _make_backward_with_bias(name: str) -> Any:
    """The kernel run(gy, y, alpha, ..., gz, gb): as _make_backward and _bias_grad, gy and y read once."""
    function = _BACKWARD[name]

    @helper
    def derivative(data, i, column, count):  # type: ignore[no-untyped-def]
        gy, y, gz, alpha = data
        g = read(gy, i, count)
        g = function(g, read(y, i, count), splat_as(g, alpha))
        write(gz, i, g, count)
        return g, g

    sum_slice = make_column_sums(derivative, both=False)

    def run(gy, y, alpha, width, slices, parts, across, sums, gz, gb):  # type: ignore[no-untyped-def]
        parallel_for(sum_slice, slices * parts, ((gy, y, gz, alpha), width, gy.size, slices, parts, across))
        total(across, 0, gb.size, width, slices, across.size // (2 * slices), sums)
        for c in range(gb.size):
            gb[c] = sums[c]

    run.__qualname__ = f"{name}_backward_with_bias"
    return kernel(run)


_BACKWARD_WITH_BIAS_KERNELS = {name: _make_backward_with_bias(name) for name in _BACKWARD}


def activation_bias_backward(gy: Array, y: Array, name: ActivationName, alpha: float = 0.0) -> tuple[Array, Array]:
    """gy and the output y, both (..., F) -> gz (..., F), the gradient before the activation, and gb (F,), its sums."""
    columns = gy.shape[-1]
    gz, gb = buffers.empty(gy.shape, gy.dtype), np.empty(columns, gy.dtype)
    if not gy.size:
        gb.fill(0)
        return gz, gb
    width, slices, parts, scratch = plan(gy.size, columns, gy.itemsize)
    across, sums = buffers.empty((scratch,), np.float64), np.empty(columns)
    _BACKWARD_WITH_BIAS_KERNELS[name](
        gy.reshape(-1), y.reshape(-1), float(alpha), width, slices, parts, across, sums, gz.reshape(-1), gb
    )
    return gz, gb
