"""Group normalization, and layer normalization as its one-group case. N samples, P positions, C channels, G groups.

Two shapes ask for two ways. With one position (layer norm) a group is a run of neighbours in memory: its sums go
along the row, and a task is some rows. With many positions a group is a stripe of channels, maybe narrower than a
vector: the sums of each channel over the positions come first, by `column_sums.py`, on whole vectors; those of a group
are then sums of a few numbers. A task is a sample. Either way the mean comes before the variance: both are exact
whatever the mean.

gamma and beta of each position and one group are layer norm over P * C channels. Of each position and several groups,
which no network has, they are applied outside.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.cpu import buffers, host
from minicnn.kernels.cpu.column_sums import make_column_sums, padded, read, write
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.parallel import parallel_for
from minicnn.kernels.cpu.simd import fma, lanes, load, load_first, store
from minicnn.kernels.cpu.vector_math import add_to_float64, sum_lanes, zeros_like

_WORK = 1 << 15
"""Numbers of one task."""

_BLOCK = 64
"""Terms that float32 adds up: vectors of a row, or rows."""


def group_norm(x: Array, gamma: Array, beta: Array, groups: int, epsilon: float) -> tuple[Array, Array, Array]:
    """x (N, P, C); gamma, beta (P or 1, C) -> y (N, P, C), mean (N, G), var (N, G)."""
    n, p, c = x.shape
    if len(gamma) > 1 and groups > 1:
        ones, zeros = np.ones((1, c), x.dtype), np.zeros((1, c), x.dtype)
        u, mean, var = group_norm(x, ones, zeros, groups, epsilon)
        return gamma * u + beta, mean, var
    y, mean, var = buffers.empty(x.shape, x.dtype), np.empty((n, groups), x.dtype), np.empty((n, groups), x.dtype)
    if len(gamma) == p:
        slices = _slices(n, p * c)
        _normalize_rows(x.reshape(-1), gamma.reshape(-1), beta.reshape(-1), epsilon, slices, mean, var, y.reshape(-1))
    else:
        within, across, tables = _sample_scratch(x, 1)
        _normalize_stripes(
            x.reshape(-1),
            gamma.reshape(-1),
            beta.reshape(-1),
            epsilon,
            within,
            across,
            tables,
            mean,
            var,
            y.reshape(-1),
        )
    return y, mean, var


def group_norm_backward(
    gy: Array, x: Array, gamma: Array, mean: Array, var: Array, groups: int, epsilon: float
) -> tuple[Array, Array, Array]:
    """gy, x (N, P, C), gamma (P or 1, C), mean, var (N, G) -> gx (N, P, C), ggamma and gbeta of gamma's shape."""
    n, p, c = x.shape
    if len(gamma) > 1 and groups > 1:
        ones = np.ones((1, c), x.dtype)
        gx, _, _ = group_norm_backward(gy * gamma, x, ones, mean, var, groups, epsilon)
        std = np.sqrt(var.astype(np.float64) + epsilon).repeat(c // groups, axis=1)[:, None]  # (N, 1, C)
        u = (x - mean.astype(np.float64).repeat(c // groups, axis=1)[:, None]) / std
        return gx, (gy * u).sum(axis=0).astype(x.dtype), gy.sum(axis=0, dtype=np.float64).astype(x.dtype)
    gx, ggamma, gbeta = buffers.empty(x.shape, x.dtype), np.empty(gamma.shape, x.dtype), np.empty(gamma.shape, x.dtype)
    arrays = (gy.reshape(-1), x.reshape(-1), gamma.reshape(-1), mean, var, epsilon)
    outputs = (gx.reshape(-1), ggamma.reshape(-1), gbeta.reshape(-1))
    if len(gamma) == p:
        slices = _slices(n, p * c)
        scratch = slices * 2 * padded(p * c, host.lanes(x.itemsize))
        within, across = buffers.empty((scratch,), x.dtype), buffers.empty((scratch,), np.float64)
        _rows_backward(*arrays, slices, within, across, *outputs)
    else:
        within, across, tables = _sample_scratch(x, 3)
        _stripes_backward(*arrays, within, across, tables, *outputs)
    return gx, ggamma, gbeta


def _slices(rows: int, columns: int) -> int:
    """Into how many tasks the rows are cut, by the shape alone."""
    return max(1, min(rows * columns // _WORK, rows, 16))


def _sample_scratch(x: Array, tables: int) -> tuple[Array, Array, Array]:
    """For each sample: two rows of sums within a block, two across the blocks, and some rows of factors."""
    n, _, c = x.shape
    size = n * padded(c, host.lanes(x.itemsize))
    shapes = ((2 * size, x.dtype), (2 * size, np.float64), (tables * n * c, x.dtype))
    within, across, factors = (buffers.empty((numbers,), dtype) for numbers, dtype in shapes)
    return within, across, factors


# ---------------------------------------------------------------------------------------------------- rows


@helper
def _sum_of_powers(x, start, length, center, power):  # type: ignore[no-untyped-def]
    """The sum of (x - center) ** power over a run of x, power 1 or 2, in blocks; float64."""
    step = lanes(x)
    total = 0.0
    for block in range(0, length, _BLOCK * step):
        stop = min(length, block + _BLOCK * step)
        sums = zeros_like(load_first(x, start, 0))
        whole = block + (stop - block) // step * step
        for j in range(block, whole, step):
            d = load(x, start + j) - center
            sums = sums + (d * d if power == 2 else d)
        total += sum_lanes(sums)
        for j in range(whole, stop):
            d = x[start + j] - center
            total += d * d if power == 2 else d
    return total


@helper
def _normalize_slice(task, slices, x, gamma, beta, epsilon, mean, var, y):  # type: ignore[no-untyped-def]
    n, groups = mean.shape
    columns = gamma.size
    length = columns // groups
    step = lanes(x)
    for row in range(n * task // slices, n * (task + 1) // slices):
        for g in range(groups):
            start, first = row * columns + g * length, g * length
            mean[row, g] = x[start] + _sum_of_powers(x, start, length, x[start], 1) / length
            var[row, g] = _sum_of_powers(x, start, length, mean[row, g], 2) / length
            inverse = 1 / sqrt(var[row, g] + epsilon)
            for j in range(0, length, step):
                count = min(step, length - j)
                u = (read(x, start + j, count) - mean[row, g]) * inverse
                write(y, start + j, fma(u, read(gamma, first + j, count), read(beta, first + j, count)), count)


@kernel
def _normalize_rows(x, gamma, beta, epsilon, slices, mean, var, y):  # type: ignore[no-untyped-def]
    """x and y flat (rows of as many columns as gamma has); a group is a run of columns."""
    parallel_for(_normalize_slice, slices, (slices, x, gamma, beta, epsilon, mean, var, y))


@helper
def _rows_backward_slice(task, slices, gy, x, gamma, mean, var, epsilon, within, across, gx):  # type: ignore[no-untyped-def]
    """gx of some rows; the sums of gy and gy * u over them go to two rows of `across`."""
    n, groups = mean.shape
    columns = gamma.size
    length = columns // groups
    step = lanes(x)
    stride = within.size // (2 * slices)
    first = task * 2 * stride
    second = first + stride
    zero = zeros_like(load_first(x, 0, 0))
    for j in range(first, second + stride, step):
        store(within, j, zero)
    for j in range(first, second + stride):
        across[j] = 0
    begin, end = n * task // slices, n * (task + 1) // slices
    for row in range(begin, end):
        for g in range(groups):
            start, at = row * columns + g * length, g * length
            center, inverse = mean[row, g], 1 / sqrt(var[row, g] + epsilon)
            total, product = zero, zero
            for j in range(0, length, step):
                count = min(step, length - j)
                gu = read(gy, start + j, count) * read(gamma, at + j, count)
                total = total + gu
                product = fma(gu, (read(x, start + j, count) - center) * inverse, product)
            mean_gu, mean_product = sum_lanes(total) / length, sum_lanes(product) / length
            for j in range(0, length, step):
                count = min(step, length - j)
                u = (read(x, start + j, count) - center) * inverse
                gradient = read(gy, start + j, count)
                gu = gradient * read(gamma, at + j, count)
                write(gx, start + j, (gu - mean_gu - u * mean_product) * inverse, count)
                write(within, first + at + j, read(within, first + at + j, count) + gradient, count)
                write(within, second + at + j, read(within, second + at + j, count) + gradient * u, count)
        if (row - begin) % _BLOCK == _BLOCK - 1 or row == end - 1:
            for j in range(first, second + stride, step):
                add_to_float64(across, j, load(within, j))
                store(within, j, zero)


@helper
def _add_partial_sums(across, parts, stride, ggamma, gbeta):  # type: ignore[no-untyped-def]
    """Sums of gy to gbeta and of gy * u to ggamma: the parts' rows of `across`, in order."""
    for c in range(gbeta.size):
        total, product = 0.0, 0.0
        for part in range(parts):
            total += across[2 * part * stride + c]
            product += across[(2 * part + 1) * stride + c]
        gbeta[c], ggamma[c] = total, product


@kernel
def _rows_backward(gy, x, gamma, mean, var, epsilon, slices, within, across, gx, ggamma, gbeta):  # type: ignore[no-untyped-def]
    """gy, x, gx flat."""
    parallel_for(_rows_backward_slice, slices, (slices, gy, x, gamma, mean, var, epsilon, within, across, gx))
    _add_partial_sums(across, slices, within.size // (2 * slices), ggamma, gbeta)


# ---------------------------------------------------------------------------------------------------- stripes


@helper
def _value(data, i, column, count):  # type: ignore[no-untyped-def]
    x, start, center = data
    d = read(x, start + i, count) - read(center, column, count)
    return d, d


@helper
def _square(data, i, column, count):  # type: ignore[no-untyped-def]
    x, start, center = data
    d = read(x, start + i, count) - read(center, column, count)
    return d * d, d


@helper
def _gradients(data, i, column, count):  # type: ignore[no-untyped-def]
    gy, x, start, center, inverse = data
    g = read(gy, start + i, count)
    u = (read(x, start + i, count) - read(center, column, count)) * read(inverse, column, count)
    return g, g * u


_sum_values = make_column_sums(_value, both=False)
_sum_squares = make_column_sums(_square, both=False)
_sum_gradients = make_column_sums(_gradients, both=True)


@helper
def _normalize_sample(sample, x, gamma, beta, epsilon, within, across, tables, mean, var, y):  # type: ignore[no-untyped-def]
    n, groups = mean.shape
    c = gamma.size
    size, length, stride = x.size // n, c // groups, within.size // (2 * n)
    within = within[2 * sample * stride : 2 * (sample + 1) * stride]
    across = across[2 * sample * stride : 2 * (sample + 1) * stride]
    center = tables[sample * c : (sample + 1) * c]
    start = sample * size
    for j in range(c):
        center[j] = x[start + j // length * length]  # near the mean, for numbers far from 0
    _sum_values(0, (x, start, center), c, size, 1, 1, across)
    count = size // c * length
    for g in range(groups):
        total = 0.0
        for j in range(g * length, (g + 1) * length):
            total += across[j]
        mean[sample, g] = center[g * length] + total / count
        for j in range(g * length, (g + 1) * length):
            center[j] = mean[sample, g]
    _sum_squares(0, (x, start, center), c, size, 1, 1, across)
    for g in range(groups):
        total = 0.0
        for j in range(g * length, (g + 1) * length):
            total += across[j]
        var[sample, g] = total / count
        for j in range(g * length, (g + 1) * length):
            within[j] = gamma[j] / sqrt(var[sample, g] + epsilon)
    step = lanes(x)
    for row in range(start, start + size, c):
        for j in range(0, c, step):
            some = min(step, c - j)
            d = read(x, row + j, some) - read(center, j, some)
            write(y, row + j, fma(d, read(within, j, some), read(beta, j, some)), some)


@kernel
def _normalize_stripes(x, gamma, beta, epsilon, within, across, tables, mean, var, y):  # type: ignore[no-untyped-def]
    """x, y flat; scratch as `_sample_scratch` makes it."""
    parallel_for(_normalize_sample, mean.shape[0], (x, gamma, beta, epsilon, within, across, tables, mean, var, y))


@helper
def _sample_backward(sample, gy, x, gamma, mean, var, epsilon, within, across, tables, gx):  # type: ignore[no-untyped-def]
    """gx of a sample; the sums of gy and gy * u over its positions stay in `across`."""
    n, groups = mean.shape
    c = gamma.size
    size, length, stride = x.size // n, c // groups, within.size // (2 * n)
    within = within[2 * sample * stride : 2 * (sample + 1) * stride]
    across = across[2 * sample * stride : 2 * (sample + 1) * stride]
    center = tables[3 * sample * c : (3 * sample + 1) * c]
    inverse = tables[(3 * sample + 1) * c : (3 * sample + 2) * c]
    offset = tables[(3 * sample + 2) * c : (3 * sample + 3) * c]
    start = sample * size
    for j in range(c):
        center[j] = mean[sample, j // length]
        inverse[j] = 1 / sqrt(var[sample, j // length] + epsilon)
    _sum_gradients(0, (gy, x, start, center, inverse), c, size, 1, 1, across)
    count = size // c * length
    slope = within[:c]
    for g in range(groups):
        total, product = 0.0, 0.0
        for j in range(g * length, (g + 1) * length):
            total += across[j] * gamma[j]
            product += across[stride + j] * gamma[j]
        for j in range(g * length, (g + 1) * length):
            slope[j] = -product / count * inverse[j] * inverse[j]
            offset[j] = -total / count * inverse[j]
            inverse[j] *= gamma[j]
    step = lanes(x)
    for row in range(start, start + size, c):
        for j in range(0, c, step):
            some = min(step, c - j)
            d = read(x, row + j, some) - read(center, j, some)
            rest = fma(d, read(slope, j, some), read(offset, j, some))
            write(gx, row + j, fma(read(gy, row + j, some), read(inverse, j, some), rest), some)


@kernel
def _stripes_backward(gy, x, gamma, mean, var, epsilon, within, across, tables, gx, ggamma, gbeta):  # type: ignore[no-untyped-def]
    """gy, x, gx flat; scratch as `_sample_scratch` makes it."""
    n = mean.shape[0]
    parallel_for(_sample_backward, n, (gy, x, gamma, mean, var, epsilon, within, across, tables, gx))
    _add_partial_sums(across, n, within.size // max(1, 2 * n), ggamma, gbeta)
