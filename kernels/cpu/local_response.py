"""Local response normalization: a window that slides over the channels of one pixel after another.

A pixel's squares are copied to a row of scratch with zeros at both ends. There the sum over a window is the sum of a
few vectors, each one number further on, and no channel needs to know that it is near an end. The power is a loop over
the row: for the exponent of the paper, 0.75, and for 0.5 it is square roots, on vectors; others take their time.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.column_sums import read, write
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.parallel import parallel_for
from minicnn.kernels.cpu.simd import lanes, load, load_first
from minicnn.kernels.cpu.vector_math import zeros_like

_WORK = 1 << 13
"""Numbers of one task, at least."""

_TASKS = 64
"""Tasks at most: each has scratch of its own."""


def _scratch(x: Array, size: int) -> Array:
    """Four rows for each task: room for C channels, the window, and whole vectors at the end."""
    tasks = max(1, min(x.size // _WORK, _TASKS))
    return buffers.empty((tasks, 4, x.shape[-1] + size + 64), x.dtype)


@helper
def _window_sums(row, c, size, sums):  # type: ignore[no-untyped-def]
    """sums[j] = row[j] + ... + row[j + size - 1] for j < c, some more are written."""
    step = lanes(row)
    for j in range(0, c, step):
        total = zeros_like(load_first(row, 0, 0))
        for k in range(size):
            total = total + load(row, j + k)
        write(sums, j, total, step)


@helper
def _factors(x, start, c, size, alpha, beta, k, squares, sums, factors):  # type: ignore[no-untyped-def]
    """sums = the brackets s of one pixel, factors = s ** -beta; squares: scratch, 0 beyond the channels."""
    before = size // 2
    for j in range(c):
        squares[before + j] = x[start + j] * x[start + j]
    _window_sums(squares, c, size, sums)
    for j in range(c):
        sums[j] = k + alpha * sums[j]
    if beta == 0.75:
        for j in range(c):
            r = np.sqrt(sums[j])
            factors[j] = 1 / (r * np.sqrt(r))
    elif beta == 0.5:
        for j in range(c):
            factors[j] = 1 / np.sqrt(sums[j])
    else:
        for j in range(c):
            factors[j] = sums[j] ** -beta


@helper
def _clear(scratch, task):  # type: ignore[no-untyped-def]
    for r in range(scratch.shape[1]):
        for j in range(scratch.shape[2]):
            scratch[task, r, j] = 0


@helper
def _forward_slice(task, x, size, alpha, beta, k, c, scratch, y):  # type: ignore[no-untyped-def]
    _clear(scratch, task)
    squares, sums, factors = scratch[task, 0], scratch[task, 1], scratch[task, 2]
    tasks, pixels, step = scratch.shape[0], x.size // c, lanes(x)
    for start in range(pixels * task // tasks * c, pixels * (task + 1) // tasks * c, c):
        _factors(x, start, c, size, alpha, beta, k, squares, sums, factors)
        for j in range(0, c, step):
            count = min(step, c - j)
            write(y, start + j, read(x, start + j, count) * read(factors, j, count), count)


@kernel
def _forward(x, size, alpha, beta, k, c, scratch, y):  # type: ignore[no-untyped-def]
    parallel_for(_forward_slice, scratch.shape[0], (x, size, alpha, beta, k, c, scratch, y))


def local_response_norm(x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    """x (..., C) -> x / (k + alpha * energy of the `size` channels around) ** beta, (..., C)."""
    y = buffers.empty(x.shape, x.dtype)
    scratch = _scratch(x, size)
    _forward(x.reshape(-1), size, float(alpha), float(beta), float(k), x.shape[-1], scratch, y.reshape(-1))
    return y


@helper
def _backward_slice(task, gy, x, size, alpha, beta, k, c, scratch, gx):  # type: ignore[no-untyped-def]
    """With s the bracket: gx[j] = gy[j] * s[j]**-beta - 2 * alpha * beta * x[j] * (sum of gy * x * s**(-beta - 1))."""
    _clear(scratch, task)
    squares, sums, factors, products = scratch[task, 0], scratch[task, 1], scratch[task, 2], scratch[task, 3]
    tasks, pixels, step = scratch.shape[0], x.size // c, lanes(x)
    reach = (size - 1) // 2  # the channels whose windows hold j reach as far to the other side
    for start in range(pixels * task // tasks * c, pixels * (task + 1) // tasks * c, c):
        _factors(x, start, c, size, alpha, beta, k, squares, sums, factors)
        for j in range(c):
            products[reach + j] = gy[start + j] * x[start + j] * factors[j] / sums[j]
        _window_sums(products, c, size, sums)
        for j in range(0, c, step):
            count = min(step, c - j)
            inner = read(x, start + j, count) * read(sums, j, count) * (2 * alpha * beta)
            write(gx, start + j, read(gy, start + j, count) * read(factors, j, count) - inner, count)


@kernel
def _backward(gy, x, size, alpha, beta, k, c, scratch, gx):  # type: ignore[no-untyped-def]
    parallel_for(_backward_slice, scratch.shape[0], (gy, x, size, alpha, beta, k, c, scratch, gx))


def local_response_norm_backward(gy: Array, x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    """gy, x (..., C) -> gx (..., C)."""
    gx = buffers.empty(x.shape, x.dtype)
    scratch = _scratch(x, size)
    _backward(
        gy.reshape(-1), x.reshape(-1), size, float(alpha), float(beta), float(k), x.shape[-1], scratch, gx.reshape(-1)
    )
    return gx
