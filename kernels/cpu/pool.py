"""Pooling: each output pixel is a loop over the pixels of its window, a vector of channels at a time.

N batch, H W image, C channels, KH KW window, OH OW output. `where` holds flat pixel indices h*W + w.

Channels lie next to each other, so windows need no gathering: a vector of 16 channels of one pixel is compared with the
same channels of the next, and the index of the larger one goes along as a vector of int32. What limits all of this is
memory. A task is some rows of the output (of the input, on the way back from an average).

The way back from a maximum knows `where`, not the window. But most pooling is by windows that do not overlap, and then
output pixel (i, j) can only have taken its maximum from the block of H // OH by W // OW pixels at its place. So each
image tries to write whole blocks, gy where the index matches and 0 elsewhere: nothing is read back, and no number is
moved alone. Where an index lies outside its block, the image starts again: zeros, and additions one by one.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.contract import Array, Padding2D, Pair
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.column_sums import read, write
from minicnn.kernels.cpu.index_vectors import all_of, equals, load_index, splat_index, store_index
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.parallel import parallel_for
from minicnn.kernels.cpu.simd import lanes, load_first
from minicnn.kernels.cpu.vector_math import greater_or_nan, select, splat_as, zeros_like

_WORK = 1 << 15
"""Numbers that a task reads or writes, at least."""


def _rows_of_a_task(numbers_of_a_row: int) -> int:
    return max(1, _WORK // max(1, numbers_of_a_row))


# ---------------------------------------------------------------------------------------------------- maximum


@helper
def _better(x, i, count, pixel, best, index):  # type: ignore[no-untyped-def]
    """The larger of x[i:] and the best so far, and its index; the first NaN is never given up."""
    value = read(x, i, count)
    wins = greater_or_nan(value, best) & (best == best)
    return select(wins, value, best), select(wins, splat_index(best, pixel), index)


@helper
def max_of_window(x, image, w, c, top, bottom, left, right, y, where, out):  # type: ignore[no-untyped-def]
    """The largest of pixels [top, bottom) x [left, right) for all channels, to y[out:] and where[out:].

    x, y, where flat; `image` is where the image starts in x.
    """
    step = lanes(x)
    first = top * w + left
    channel = 0
    while channel + 2 * step <= c:  # two vectors at once: the one is compared while the other's result is awaited
        best0 = read(x, image + first * c + channel, step)
        best1 = read(x, image + first * c + channel + step, step)
        index0 = index1 = splat_index(best0, first)
        for row in range(top, bottom):
            for pixel in range(row * w + left, row * w + right):
                best0, index0 = _better(x, image + pixel * c + channel, step, pixel, best0, index0)
                best1, index1 = _better(x, image + pixel * c + channel + step, step, pixel, best1, index1)
        write(y, out + channel, best0, step)
        write(y, out + channel + step, best1, step)
        store_index(where, out + channel, index0, step)
        store_index(where, out + channel + step, index1, step)
        channel += 2 * step
    while channel < c:
        count = min(step, c - channel)
        best = read(x, image + first * c + channel, count)
        index = splat_index(best, first)
        for row in range(top, bottom):
            for pixel in range(row * w + left, row * w + right):
                best, index = _better(x, image + pixel * c + channel, count, pixel, best, index)
        write(y, out + channel, best, count)
        store_index(where, out + channel, index, count)
        channel += step


@helper
def _max_rows(task, x, y, where, geometry):  # type: ignore[no-untyped-def]
    rows_of_a_task, rows, h, w, c, oh, ow, kh, kw, sh, sw, pad_top, pad_left = geometry
    for row in range(task * rows_of_a_task, min(rows, (task + 1) * rows_of_a_task)):
        image, i = row // oh, row % oh
        top = max(0, i * sh - pad_top)
        bottom = min(h, i * sh - pad_top + kh)
        for j in range(ow):
            left = max(0, j * sw - pad_left)
            right = min(w, j * sw - pad_left + kw)
            max_of_window(x, image * h * w * c, w, c, top, bottom, left, right, y, where, (row * ow + j) * c)


@kernel
def _max_pool2d(x, y, where, geometry):  # type: ignore[no-untyped-def]
    parallel_for(_max_rows, (geometry[1] + geometry[0] - 1) // geometry[0], (x, y, where, geometry))


def max_pool2d(x: Array, window: Pair, strides: Pair, padding: Padding2D) -> tuple[Array, Array]:
    """x (N, H, W, C) -> y and where (int32), both (N, OH, OW, C)."""
    geometry = _geometry(x.shape, window, strides, padding)
    n, c, oh, ow = x.shape[0], x.shape[3], geometry[5], geometry[6]
    y, where = buffers.empty((n, oh, ow, c), x.dtype), buffers.empty((n, oh, ow, c), np.int32)
    _max_pool2d(x.reshape(-1), y.reshape(-1), where.reshape(-1), geometry)
    return y, where


def _geometry(shape: tuple[int, ...], window: Pair, strides: Pair, padding: Padding2D) -> tuple[int, ...]:
    """(rows of a task, N * OH, H, W, C, OH, OW, KH, KW, row stride, column stride, top and left padding)."""
    n, h, w, c = shape
    (top, bottom), (left, right) = padding
    oh = (h + top + bottom - window[0]) // strides[0] + 1
    ow = (w + left + right - window[1]) // strides[1] + 1
    rows_of_a_task = _rows_of_a_task(ow * c * window[0] * window[1])
    return (rows_of_a_task, n * oh, h, w, c, oh, ow, *window, *strides, top, left)


@helper
def _adaptive_rows(task, x, y, where, geometry):  # type: ignore[no-untyped-def]
    rows_of_a_task, rows, h, w, c, oh, ow = geometry
    for row in range(task * rows_of_a_task, min(rows, (task + 1) * rows_of_a_task)):
        image, i = row // oh, row % oh
        top, bottom = i * h // oh, ((i + 1) * h + oh - 1) // oh
        for j in range(ow):
            left, right = j * w // ow, ((j + 1) * w + ow - 1) // ow
            max_of_window(x, image * h * w * c, w, c, top, bottom, left, right, y, where, (row * ow + j) * c)


@kernel
def _adaptive_max_pool2d(x, y, where, geometry):  # type: ignore[no-untyped-def]
    parallel_for(_adaptive_rows, (geometry[1] + geometry[0] - 1) // geometry[0], (x, y, where, geometry))


def adaptive_max_pool2d(x: Array, output_size: Pair) -> tuple[Array, Array]:
    """x (N, H, W, C) -> y and where (int32), both (N, OH, OW, C)."""
    n, h, w, c = x.shape
    oh, ow = output_size
    y, where = buffers.empty((n, oh, ow, c), x.dtype), buffers.empty((n, oh, ow, c), np.int32)
    geometry = (_rows_of_a_task(max(h // oh, 1) * w * c), n * oh, h, w, c, oh, ow)
    _adaptive_max_pool2d(x.reshape(-1), y.reshape(-1), where.reshape(-1), geometry)
    return y, where


# ---------------------------------------------------------------------------------------------------- by index


@helper
def _gather_rows(task, x, where, y, geometry):  # type: ignore[no-untyped-def]
    rows_of_a_task, rows, image_size, oh, width, c = geometry  # width = OW * C
    for row in range(task * rows_of_a_task, min(rows, (task + 1) * rows_of_a_task)):
        image = row // oh * image_size
        for start in range(row * width, (row + 1) * width, c):
            for channel in range(c):
                y[start + channel] = x[np.uintp(image + np.int64(where[start + channel]) * c + channel)]


@kernel
def _gather2d(x, where, y, geometry):  # type: ignore[no-untyped-def]
    parallel_for(_gather_rows, (geometry[1] + geometry[0] - 1) // geometry[0], (x, where, y, geometry))


def gather2d(x: Array, where: Array) -> Array:
    """x (N, H, W, C), where (N, OH, OW, C) int32 -> (N, OH, OW, C)."""
    n, h, w, c = x.shape
    _, oh, ow, _ = where.shape
    y = buffers.empty(where.shape, x.dtype)
    geometry = (_rows_of_a_task(ow * c), n * oh, h * w * c, oh, ow * c, c)
    _gather2d(x.reshape(-1), where.reshape(-1), y.reshape(-1), geometry)
    return y


@helper
def _clear(gx, start, stop):  # type: ignore[no-untyped-def]
    """gx[start:stop] = 0."""
    step = lanes(gx)
    zero = zeros_like(load_first(gx, start, 0))
    for k in range(start, stop, step):
        write(gx, k, zero, min(step, stop - k))


@helper
def _write_block(gy, where, place, pixel, gx, target, w, c, bh, bw):  # type: ignore[no-untyped-def]
    """One output pixel to its block of bh x bw pixels; False where an index lies outside.

    place: where the output pixel's channels start in gy; target: where the block's first pixel, `pixel`, starts in gx.
    """
    step = lanes(gy)
    inside = True
    for channel in range(0, c, step):
        count = min(step, c - channel)
        g = read(gy, place + channel, count)
        index = load_index(where, place + channel, count, splat_index(g, pixel))
        found = equals(index, -1)
        for row in range(bh):
            for column in range(bw):
                here = equals(index, pixel + row * w + column)
                found = found | here
                write(gx, target + (row * w + column) * c + channel, select(here, g, zeros_like(g)), count)
        inside &= all_of(found)
    return inside


@helper
def _write_blocks(image, gy, where, gx, h, w, c, oh, ow):  # type: ignore[no-untyped-def]
    """One image by blocks, and zeros where no block lies; False, with half of it done, where an index is outside."""
    bh, bw = h // oh, w // ow
    start = image * h * w * c
    for i in range(oh):
        for j in range(ow):
            pixel = i * bh * w + j * bw
            place = ((image * oh + i) * ow + j) * c
            if not _write_block(gy, where, place, pixel, gx, start + pixel * c, w, c, bh, bw):
                return False
        for row in range(i * bh, (i + 1) * bh):
            _clear(gx, start + (row * w + ow * bw) * c, start + (row + 1) * w * c)
    _clear(gx, start + oh * bh * w * c, start + h * w * c)
    return True


@helper
def _scatter_image(image, gy, where, gx, geometry):  # type: ignore[no-untyped-def]
    h, w, c, oh, ow = geometry
    if c >= lanes(gy) and oh <= h and ow <= w and _write_blocks(image, gy, where, gx, h, w, c, oh, ow):
        return
    start, size = image * h * w * c, h * w * c
    _clear(gx, start, start + size)
    # Unsigned indices: a signed one would be asked each time whether it counts from the end.
    place = np.uintp(image * oh * ow * c)
    for _ in range(oh * ow):
        for channel in range(c):
            target = np.uintp(start + np.int64(where[place]) * c + channel)
            gx[target] = gx[target] + gy[place]
            place += np.uintp(1)


@kernel
def _scatter2d(images, parallel, gy, where, gx, geometry):  # type: ignore[no-untyped-def]
    if parallel:
        parallel_for(_scatter_image, images, (gy, where, gx, geometry))
    else:
        for image in range(images):
            _scatter_image(image, gy, where, gx, geometry)


def scatter2d(gy: Array, where: Array, input_size: Pair) -> Array:
    """gy and where (N, OH, OW, C), input_size (H, W) -> (N, H, W, C)."""
    n, oh, ow, c = gy.shape
    h, w = input_size
    gx = buffers.empty((n, h, w, c), gy.dtype)
    parallel = gx.size > _WORK
    if gy.size:
        _scatter2d(n, parallel, gy.reshape(-1), where.reshape(-1), gx.reshape(-1), (h, w, c, oh, ow))
    else:
        gx.fill(0)
    return gx


# ---------------------------------------------------------------------------------------------------- average


@helper
def _mean_rows(task, x, y, geometry):  # type: ignore[no-untyped-def]
    rows_of_a_task, rows, h, w, c, oh, ow, kh, kw, sh, sw, pad_top, pad_left = geometry
    step = lanes(x)
    zero = zeros_like(load_first(x, 0, 0))
    for row in range(task * rows_of_a_task, min(rows, (task + 1) * rows_of_a_task)):
        image, i = row // oh * h * w, row % oh
        top, bottom = max(0, i * sh - pad_top), min(h, i * sh - pad_top + kh)
        for j in range(ow):
            left, right = max(0, j * sw - pad_left), min(w, j * sw - pad_left + kw)
            pixels = splat_as(zero, max(1, max(0, bottom - top) * max(0, right - left)))
            for channel in range(0, c, step):
                count = min(step, c - channel)
                total = zero
                for line in range(top, bottom):  # a sum for each line first: short sums stay exact
                    line_total = zero
                    for column in range(left, right):
                        line_total = line_total + read(x, (image + line * w + column) * c + channel, count)
                    total = total + line_total
                write(y, (row * ow + j) * c + channel, total / pixels, count)


@kernel
def _avg_pool2d(x, y, geometry):  # type: ignore[no-untyped-def]
    parallel_for(_mean_rows, (geometry[1] + geometry[0] - 1) // geometry[0], (x, y, geometry))


def avg_pool2d(x: Array, window: Pair, strides: Pair, padding: Padding2D) -> Array:
    """x (N, H, W, C) -> (N, OH, OW, C), the mean over the pixels of each window that lie in the image."""
    geometry = _geometry(x.shape, window, strides, padding)
    y = buffers.empty((x.shape[0], geometry[5], geometry[6], x.shape[3]), x.dtype)
    _avg_pool2d(x.reshape(-1), y.reshape(-1), geometry)
    return y


@helper
def _covering(position, size, stride, outputs):  # type: ignore[no-untyped-def]
    """The windows [first, stop) that cover a position counted from the start of the padding."""
    first = max(0, (position - size) // stride + 1)
    return first, min(outputs, position // stride + 1)


@helper
def _inside(output, size, stride, padding, length):  # type: ignore[no-untyped-def]
    """How many pixels of a window lie in the image, along one axis."""
    start = output * stride - padding
    return min(length, start + size) - max(0, start)


@helper
def _spread_rows(task, gy, gx, geometry):  # type: ignore[no-untyped-def]
    """Each pixel of some rows of the input collects its shares: nothing is written twice."""
    rows_of_a_task, rows, h, w, c, oh, ow, kh, kw, sh, sw, pad_top, pad_left = geometry
    step = lanes(gy)
    zero = zeros_like(load_first(gy, 0, 0))
    for row in range(task * rows_of_a_task, min(rows, (task + 1) * rows_of_a_task)):
        image, line = row // h, row % h
        top, bottom = _covering(line + pad_top, kh, sh, oh)
        left = right = 0  # the windows that cover a column: those of its neighbour, and one more or less at either end
        for column in range(w):
            while right < ow and right * sw - pad_left <= column:
                right += 1
            while left < right and left * sw - pad_left + kw <= column:
                left += 1
            target = (row * w + column) * c
            if bottom - top == 1 and right - left == 1:
                share = 1 / (_inside(top, kh, sh, pad_top, h) * _inside(left, kw, sw, pad_left, w))
                place = ((image * oh + top) * ow + left) * c
                for channel in range(0, c, step):
                    count = min(step, c - channel)
                    write(gx, target + channel, read(gy, place + channel, count) * share, count)
                continue
            for channel in range(0, c, step):
                count = min(step, c - channel)
                total = zero
                for i in range(top, bottom):
                    high = _inside(i, kh, sh, pad_top, h)
                    for j in range(left, right):
                        pixels = splat_as(zero, high * _inside(j, kw, sw, pad_left, w))
                        share = read(gy, ((image * oh + i) * ow + j) * c + channel, count) / pixels
                        total = total + share
                write(gx, target + channel, total, count)


@helper
def _spread_rows_apart(task, gy, gx, geometry):  # type: ignore[no-untyped-def]
    """The same of windows that do not overlap: each output pixel is read once a row, and written to its columns."""
    rows_of_a_task, rows, h, w, c, oh, ow, kh, kw, sh, sw, pad_top, pad_left = geometry
    step = lanes(gy)
    for row in range(task * rows_of_a_task, min(rows, (task + 1) * rows_of_a_task)):
        image, line = row // h, row % h
        i = (line + pad_top) // sh
        high = max(1, _inside(i, kh, sh, pad_top, h))
        end = 0  # columns up to here are written
        if 0 <= i < oh and line + pad_top < i * sh + kh:
            for j in range(ow):
                left, right = min(w, max(0, j * sw - pad_left)), min(w, j * sw - pad_left + kw)
                if end < left:
                    _clear(gx, (row * w + end) * c, (row * w + left) * c)
                end = max(end, right)
                share = 1 / (high * max(1, right - left))
                place = ((image * oh + i) * ow + j) * c
                for column in range(left, right):
                    target = (row * w + column) * c
                    for channel in range(0, c, step):
                        count = min(step, c - channel)
                        write(gx, target + channel, read(gy, place + channel, count) * share, count)
        _clear(gx, (row * w + end) * c, (row + 1) * w * c)


@kernel
def _avg_pool2d_backward(tasks, gy, gx, geometry, apart):  # type: ignore[no-untyped-def]
    if apart:
        parallel_for(_spread_rows_apart, tasks, (gy, gx, geometry))
    else:
        parallel_for(_spread_rows, tasks, (gy, gx, geometry))


def avg_pool2d_backward(gy: Array, input_size: Pair, window: Pair, strides: Pair, padding: Padding2D) -> Array:
    """gy (N, OH, OW, C), input_size (H, W) -> (N, H, W, C)."""
    n, oh, ow, c = gy.shape
    h, w = input_size
    gx = buffers.empty((n, h, w, c), gy.dtype)
    rows_of_a_task = _rows_of_a_task(w * c)
    geometry = (rows_of_a_task, n * h, h, w, c, oh, ow, *window, *strides, padding[0][0], padding[1][0])
    apart = window[0] <= strides[0] and window[1] <= strides[1]
    _avg_pool2d_backward(-(-n * h // rows_of_a_task), gy.reshape(-1), gx.reshape(-1), geometry, apart)
    return gx
