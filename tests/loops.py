"""Every kernel of the contract as nested loops over single numbers: the oracle that shares no code with a backend.

Signatures are the contract's. Arithmetic is Python's float64 whatever the inputs, and so are the results; sums of the
naive kind are `math.fsum`, exact but for one rounding. Gradients are written from the definition (the trilinear form
of a convolution, the Jacobian of a normalization), not from the formulas that the kernels use. Slow: keep shapes small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from minicnn.kernels.contract import ActivationName, Array, Padding2D, Pair
from tests.loops_norm import batch_norm as batch_norm
from tests.loops_norm import batch_norm_backward as batch_norm_backward
from tests.loops_norm import batch_norm_inference as batch_norm_inference
from tests.loops_norm import group_norm as group_norm
from tests.loops_norm import group_norm_backward as group_norm_backward
from tests.loops_norm import local_response_norm as local_response_norm
from tests.loops_norm import local_response_norm_backward as local_response_norm_backward
from tests.loops_optim import adadelta_step as adadelta_step
from tests.loops_optim import adagrad_step as adagrad_step
from tests.loops_optim import adam_step as adam_step
from tests.loops_optim import adamax_step as adamax_step
from tests.loops_optim import nadam_step as nadam_step
from tests.loops_optim import rmsprop_step as rmsprop_step
from tests.loops_optim import sgd_step as sgd_step

Index = tuple[int, ...]

# ---------------------------------------------------------------------------------------------------- convolution


def _output_size(input_size: Pair, window: Pair, strides: Pair, padding: Padding2D, dilation: Pair) -> Pair:
    """How often the window fits, counted by sliding it."""
    sizes = []
    for axis in range(2):
        end = input_size[axis] + padding[axis][1]
        start, count = -padding[axis][0], 0
        while start + (window[axis] - 1) * dilation[axis] < end:
            start, count = start + strides[axis], count + 1
        sizes.append(count)
    return sizes[0], sizes[1]


def _reads(
    input_size: Pair, output_size: Pair, window: Pair, strides: Pair, padding: Padding2D, dilation: Pair
) -> Iterator[tuple[int, int, int, int, int, int]]:
    """(i, j, k, l, row, column): output pixel (i, j) reads the image's pixel (row, column) through tap (k, l)."""
    for i, j, k, l in np.ndindex(*output_size, *window):
        row = i * strides[0] + k * dilation[0] - padding[0][0]
        column = j * strides[1] + l * dilation[1] - padding[1][0]
        if 0 <= row < input_size[0] and 0 <= column < input_size[1]:
            yield i, j, k, l, row, column


def _products(
    x_shape: Index, w_shape: Index, gy_shape: Index, strides: Pair, padding: Padding2D, dilation: Pair, groups: int
) -> Iterator[tuple[Index, Index, Index]]:
    """The terms of the trilinear form sum(gy * conv2d(x, w)): an index into x, one into w and one into gy."""
    kh, kw, c_group, f_all = w_shape
    input_size, output_size = (x_shape[1], x_shape[2]), (gy_shape[1], gy_shape[2])
    for i, j, k, l, row, column in _reads(input_size, output_size, (kh, kw), strides, padding, dilation):
        for n, f, c in np.ndindex(x_shape[0], f_all, c_group):
            group = f // (f_all // groups)
            yield (n, row, column, group * c_group + c), (k, l, c, f), (n, i, j, f)


def conv2d(
    x: Array,
    w: Array,
    b: Array | None,
    strides: Pair,
    padding: Padding2D,
    dilation: Pair,
    groups: int,
    activation: ActivationName | None = None,
) -> Array:
    size = _output_size(x.shape[1:3], w.shape[:2], strides, padding, dilation)
    y = np.zeros((x.shape[0], *size, w.shape[3]))
    for at_x, at_w, at_y in _products(x.shape, w.shape, y.shape, strides, padding, dilation, groups):
        y[at_y] += float(x[at_x]) * float(w[at_w])
    for at in np.ndindex(y.shape):
        y[at] += 0.0 if b is None else float(b[at[3]])
    return y if activation is None else _apply_activation(y, activation)


def conv2d_max_pool2d(
    x: Array,
    w: Array,
    b: Array | None,
    strides: Pair,
    padding: Padding2D,
    dilation: Pair,
    groups: int,
    activation: ActivationName | None,
    window: Pair,
    pool_strides: Pair,
    pool_padding: Padding2D,
) -> tuple[Array, Array]:
    """One after the other."""
    y = conv2d(x, w, b, strides, padding, dilation, groups, activation)
    return max_pool2d(y, window, pool_strides, pool_padding)


def conv2d_input_grad(
    gy: Array, w: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair, groups: int
) -> Array:
    gx = np.zeros((gy.shape[0], *input_size, w.shape[2] * groups))
    for at_x, at_w, at_y in _products(gx.shape, w.shape, gy.shape, strides, padding, dilation, groups):
        gx[at_x] += float(gy[at_y]) * float(w[at_w])
    return gx


def conv2d_weight_grad(
    x: Array, gy: Array, kernel_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair, groups: int
) -> Array:
    gw = np.zeros((*kernel_size, x.shape[3] // groups, gy.shape[3]))
    for at_x, at_w, at_y in _products(x.shape, gw.shape, gy.shape, strides, padding, dilation, groups):
        gw[at_w] += float(gy[at_y]) * float(x[at_x])
    return gw


def im2col(x: Array, window: Pair, strides: Pair, padding: Padding2D, dilation: Pair) -> Array:
    n, h, w, c = x.shape
    size = _output_size((h, w), window, strides, padding, dilation)
    cols = np.zeros((n, *size, *window, c))
    for i, j, k, l, row, column in _reads((h, w), cols.shape[1:3], window, strides, padding, dilation):
        for image, channel in np.ndindex(n, c):
            cols[image, i, j, k, l, channel] = float(x[image, row, column, channel])
    return cols


def col2im(cols: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair) -> Array:
    n, oh, ow, kh, kw, c = cols.shape
    x = np.zeros((n, *input_size, c))
    for i, j, k, l, row, column in _reads(input_size, (oh, ow), (kh, kw), strides, padding, dilation):
        for image, channel in np.ndindex(n, c):
            x[image, row, column, channel] += float(cols[image, i, j, k, l, channel])
    return x


# ---------------------------------------------------------------------------------------------------- pooling


def _largest(x: Array, n: int, c: int, pixels: list[Pair]) -> tuple[float, int]:
    """The value and flat index of the first largest of some pixels; the first NaN is larger than all."""
    best, where = -math.inf, None
    for row, column in pixels:
        value = float(x[n, row, column, c])
        if where is None or value > best or (math.isnan(value) and not math.isnan(best)):
            best, where = value, row * x.shape[2] + column
    assert where is not None, "a window that holds no pixel"
    return best, where


def max_pool2d(x: Array, window: Pair, strides: Pair, padding: Padding2D) -> tuple[Array, Array]:
    input_size = x.shape[1:3]
    oh, ow = _output_size(input_size, window, strides, padding, (1, 1))
    pixels: dict[Pair, list[Pair]] = {(i, j): [] for i, j in np.ndindex(oh, ow)}
    for i, j, _, _, row, column in _reads(input_size, (oh, ow), window, strides, padding, (1, 1)):
        pixels[i, j].append((row, column))
    y = np.zeros((x.shape[0], oh, ow, x.shape[3]))
    where = np.zeros(y.shape, np.int32)
    for n, i, j, c in np.ndindex(y.shape):
        y[n, i, j, c], where[n, i, j, c] = _largest(x, n, c, pixels[i, j])
    return y, where


def adaptive_max_pool2d(x: Array, output_size: Pair) -> tuple[Array, Array]:
    _, h, w, _ = x.shape
    oh, ow = output_size
    y = np.zeros((x.shape[0], oh, ow, x.shape[3]))
    where = np.zeros(y.shape, np.int32)
    for n, i, j, c in np.ndindex(y.shape):
        rows = range(math.floor(i * h / oh), math.ceil((i + 1) * h / oh))
        columns = range(math.floor(j * w / ow), math.ceil((j + 1) * w / ow))
        y[n, i, j, c], where[n, i, j, c] = _largest(x, n, c, [(row, column) for row in rows for column in columns])
    return y, where


def gather2d(x: Array, where: Array) -> Array:
    y = np.zeros(where.shape)
    for n, i, j, c in np.ndindex(where.shape):
        row, column = divmod(int(where[n, i, j, c]), x.shape[2])
        y[n, i, j, c] = float(x[n, row, column, c])
    return y


def scatter2d(gy: Array, where: Array, input_size: Pair) -> Array:
    gx = np.zeros((gy.shape[0], *input_size, gy.shape[3]))
    for n, i, j, c in np.ndindex(where.shape):
        row, column = divmod(int(where[n, i, j, c]), input_size[1])
        gx[n, row, column, c] += float(gy[n, i, j, c])
    return gx


def _pixel_counts(input_size: Pair, output_size: Pair, window: Pair, strides: Pair, padding: Padding2D) -> Array:
    counts = np.zeros(output_size, int)
    for i, j, *_ in _reads(input_size, output_size, window, strides, padding, (1, 1)):
        counts[i, j] += 1
    return counts


def avg_pool2d(x: Array, window: Pair, strides: Pair, padding: Padding2D) -> Array:
    n, h, w, c = x.shape
    oh, ow = _output_size((h, w), window, strides, padding, (1, 1))
    counts = _pixel_counts((h, w), (oh, ow), window, strides, padding)
    y = np.zeros((n, oh, ow, c))
    for i, j, _, _, row, column in _reads((h, w), (oh, ow), window, strides, padding, (1, 1)):
        for image, channel in np.ndindex(n, c):
            y[image, i, j, channel] += float(x[image, row, column, channel]) / counts[i, j]
    return y


def avg_pool2d_backward(gy: Array, input_size: Pair, window: Pair, strides: Pair, padding: Padding2D) -> Array:
    n, oh, ow, c = gy.shape
    counts = _pixel_counts(input_size, (oh, ow), window, strides, padding)
    gx = np.zeros((n, *input_size, c))
    for i, j, _, _, row, column in _reads(input_size, (oh, ow), window, strides, padding, (1, 1)):
        for image, channel in np.ndindex(n, c):
            gx[image, row, column, channel] += float(gy[image, i, j, channel]) / counts[i, j]
    return gx


# ---------------------------------------------------------------------------------------------------- dense


def matmul(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    m, inner = (a.shape[-1], a.shape[-2]) if transpose_a else a.shape[-2:]
    n = b.shape[-2] if transpose_b else b.shape[-1]
    leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = np.broadcast_to(a, leading + a.shape[-2:]), np.broadcast_to(b, leading + b.shape[-2:])
    y = np.zeros((*leading, m, n))
    for *batch, i, j in np.ndindex(y.shape):
        y[(*batch, i, j)] = math.fsum(
            float(a[(*batch, k, i) if transpose_a else (*batch, i, k)])
            * float(b[(*batch, j, k) if transpose_b else (*batch, k, j)])
            for k in range(inner)
        )
    return y


def dense(x: Array, w: Array, b: Array | None, activation: ActivationName | None = None) -> Array:
    y = matmul(x, w)
    for i, j in np.ndindex(y.shape):
        y[i, j] += 0.0 if b is None else float(b[j])
    return y if activation is None else _apply_activation(y, activation)


def bias_grad(gy: Array) -> Array:
    gb = np.zeros(gy.shape[-1])
    for f in range(gy.shape[-1]):
        gb[f] = math.fsum(float(gy[(*at, f)]) for at in np.ndindex(gy.shape[:-1]))
    return gb


def activation_bias_backward(gy: Array, y: Array, name: ActivationName, alpha: float = 0.0) -> tuple[Array, Array]:
    gz = activation_backward(gy, y, name, alpha)
    return gz, bias_grad(gz)


# ---------------------------------------------------------------------------------------------------- activations


def _activate(x: float, name: ActivationName, alpha: float) -> float:
    match name:
        case "relu":
            return 0.0 if x < 0 else x
        case "relu6":
            return 0.0 if x < 0 else 6.0 if x > 6 else x
        case "leaky_relu":
            return x if x > 0 else alpha * x
        case "elu":
            return x if x > 0 else alpha * math.expm1(x)
        case "sigmoid":
            return 0.0 if x < -700 else 1 / (1 + math.exp(-x))
        case "tanh":
            return math.tanh(x)


def _slope(y: float, name: ActivationName, alpha: float) -> float:
    match name:
        case "relu":
            return 1.0 if y > 0 else 0.0
        case "relu6":
            return 1.0 if 0 < y < 6 else 0.0
        case "leaky_relu":
            return 1.0 if y > 0 else alpha
        case "elu":
            return 1.0 if y > 0 else y + alpha
        case "sigmoid":
            return y - y**2
        case "tanh":
            return 1 - y**2


def activation(x: Array, name: ActivationName, alpha: float = 0.0) -> Array:
    y = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        y[at] = _activate(float(x[at]), name, alpha)
    return y


_apply_activation = activation  # under a name that the arguments of conv2d and dense do not hide


def activation_backward(gy: Array, y: Array, name: ActivationName, alpha: float = 0.0) -> Array:
    gx = np.zeros(y.shape)
    for at in np.ndindex(y.shape):
        gx[at] = float(gy[at]) * _slope(float(y[at]), name, alpha)
    return gx


def philox_words(count: int, seed: int, stream: int) -> Array:
    words: list[int] = []
    for block in range((count + 3) // 4):
        counter = block | stream << 64  # 128 bits, four words of 32, low word first
        lanes = [counter >> 32 * lane & 0xFFFFFFFF for lane in range(4)]
        key = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
        for _ in range(10):
            left, right = lanes[0] * 0xD2511F53, lanes[2] * 0xCD9E8D57
            lanes = [
                (right >> 32) ^ lanes[1] ^ key[0],
                right & 0xFFFFFFFF,
                (left >> 32) ^ lanes[3] ^ key[1],
                left & 0xFFFFFFFF,
            ]
            key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
        words += lanes
    return np.array(words[:count], np.uint32)


def dropout(x: Array, rate: float, seed: int, stream: int) -> tuple[Array, Array]:
    kept = np.zeros(-(-x.size // 8), np.uint8)
    for i, word in enumerate(philox_words(x.size, seed, stream)):
        if int(word) >= round(rate * 2**32):
            kept[i // 8] += 2 ** (i % 8)
    return dropout_backward(x, kept, rate), kept


def dropout_backward(gy: Array, kept: Array, rate: float) -> Array:
    gx = np.zeros(gy.shape)
    for i, at in enumerate(np.ndindex(gy.shape)):
        gx[at] = float(gy[at]) / (1 - rate) if int(kept[i // 8]) // 2 ** (i % 8) % 2 else 0.0
    return gx


# ---------------------------------------------------------------------------------------------------- classification


def softmax(x: Array) -> Array:
    y = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        row = [float(v) for v in x[at[:-1]]]
        y[at] = 1 / math.fsum(math.exp(min(v - float(x[at]), 700.0)) for v in row)
    return y


def log_softmax(x: Array) -> Array:
    y = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        row = sorted((float(v) - float(x[at]) for v in x[at[:-1]]), reverse=True)
        y[at] = -row[0] - math.log1p(math.fsum(math.exp(v - row[0]) for v in row[1:]))
    return y


def _target(targets: Array, row: int, c: int) -> float:
    """The probability of class c in a row of dense or integer targets."""
    return float(targets[row, c]) if targets.ndim == 2 else float(targets[row] == c)


def softmax_cross_entropy(logits: Array, targets: Array) -> tuple[Array, Array]:
    loss, log_p = np.zeros(logits.shape[0]), log_softmax(logits)
    for row, c in np.ndindex(logits.shape):
        t = _target(targets, row, c)
        loss[row] -= t * log_p[row, c] if t else 0.0
    return loss, softmax(logits)


def softmax_cross_entropy_backward(gloss: Array, probabilities: Array, targets: Array) -> Array:
    gx = np.zeros(probabilities.shape)
    for row, j in np.ndindex(gx.shape):
        p = float(probabilities[row, j])
        terms = [_target(targets, row, c) * (p - (c == j)) for c in range(gx.shape[1])]
        gx[row, j] = float(gloss[row]) * math.fsum(terms)
    return gx
