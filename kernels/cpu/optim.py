"""Optimizer steps: one compiled call, and one parallel region, for all parameters of a network.

A step reads each of its arrays once and writes most of them: it takes as long as memory takes, if nothing else comes on
top. A network has tens or hundreds of parameters, many of them tiny. So the kernel is given a table of the addresses of
all arrays, cuts all parameters into pieces of 16 K numbers, and goes through the pieces as its tasks. The addresses are
read by the compiled code too, from the array objects: asking each array in Python would take longer than small steps.

p parameter, g its gradient, lr learning rate. Slots: m mean of g, s mean (or sum) of g squared, v velocity.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.cpu.by_address import integer_at, lanes_of, load_at, store_at
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.parallel import parallel_for
from minicnn.kernels.cpu.simd import splat
from minicnn.kernels.cpu.vector_math import absolute, greater
from minicnn.kernels.cpu.vector_math import sqrt as root

PIECE = 1 << 14
"""Numbers of one task."""

_DATA = object.__basicsize__
"""Where an array object keeps the address of its numbers: NumPy's first field, behind the head of every object."""


def _make_step(name: str, arrays: int, update: Any) -> Any:
    """The kernel of an optimizer with so many arrays a parameter.

    update: a helper update(zero, at, row, i, count, numbers) that makes the step for the first `count` numbers at i.
    zero: a vector, whose type is that of all. at[row], at[row + 1], ...: the addresses of p, g and the slots.
    """

    @helper
    def step_piece(task, zero_number, sizes, first_pieces, at, numbers):  # type: ignore[no-untyped-def]
        zero = splat(zero_number)
        step = lanes_of(zero)
        parameter = 0
        while parameter + 1 < sizes.size and first_pieces[parameter + 1] <= task:
            parameter += 1
        row = parameter * arrays
        i = (task - first_pieces[parameter]) * PIECE
        stop = min(i + PIECE, sizes[parameter])
        while i + step <= stop:
            update(zero, at, row, i, step, numbers)
            i += step
        if i < stop:
            update(zero, at, row, i, stop - i, numbers)

    def run(zero_number, objects, sizes, first_pieces, at, numbers):  # type: ignore[no-untyped-def]
        for k in range(objects.size):
            at[k] = integer_at(objects[k] + _DATA)
        pieces = 0
        for parameter in range(sizes.size):
            first_pieces[parameter] = pieces
            pieces += (sizes[parameter] + PIECE - 1) // PIECE
        parallel_for(step_piece, pieces, (zero_number, sizes, first_pieces, at, numbers))

    run.__qualname__ = name  # its name in the disk cache
    return kernel(run)


def _run(step: Any, arrays: tuple[Sequence[Array], ...], numbers: tuple[float, ...]) -> None:
    """Make a step: arrays are lists of equal length, the parameters, their gradients and the slots."""
    by_dtype: dict[Any, list[Array]] = {}
    copied: list[tuple[Array, Array]] = []
    for group in zip(*arrays, strict=True):
        dtype = group[0].dtype
        # What NumPy computes from an array of no axes is no array, and keeps no address where one does.
        if not all(isinstance(a, np.ndarray) and a.dtype == dtype and a.flags.c_contiguous for a in group):
            originals, group = group, tuple([np.array(a, dtype, order="C") for a in group])
            copied += [(a, copy) for k, (a, copy) in enumerate(zip(originals, group, strict=True)) if k != 1]
        by_dtype.setdefault(dtype, []).extend(group)
    for dtype, flat in by_dtype.items():
        sizes = np.array([a.size for a in flat[:: len(arrays)]], np.int64)
        objects = np.array([id(a) for a in flat], np.int64)
        step(dtype.type(0), objects, sizes, np.empty_like(sizes), np.empty_like(objects), numbers)
    for original, copy in copied:
        original[...] = copy


# ---------------------------------------------------------------------------------------------------- sgd


@helper
def _sgd(zero, at, row, i, count, numbers):  # type: ignore[no-untyped-def]
    (lr,) = numbers
    p, g = load_at(zero, at[row], i, count), load_at(zero, at[row + 1], i, count)
    store_at(at[row], i, p - g * lr, count)


@helper
def _momentum(zero, at, row, i, count, numbers):  # type: ignore[no-untyped-def]
    lr, momentum = numbers
    p, g = load_at(zero, at[row], i, count), load_at(zero, at[row + 1], i, count)
    v = load_at(zero, at[row + 2], i, count) * momentum - g * lr
    store_at(at[row + 2], i, v, count)
    store_at(at[row], i, p + v, count)


@helper
def _nesterov(zero, at, row, i, count, numbers):  # type: ignore[no-untyped-def]
    lr, momentum = numbers
    p, g = load_at(zero, at[row], i, count), load_at(zero, at[row + 1], i, count)
    v = load_at(zero, at[row + 2], i, count) * momentum - g * lr
    store_at(at[row + 2], i, v, count)
    store_at(at[row], i, p + (v * momentum - g * lr), count)


_sgd_kernel = _make_step("sgd", 2, _sgd)
_momentum_kernel = _make_step("momentum", 3, _momentum)
_nesterov_kernel = _make_step("nesterov", 3, _nesterov)


def sgd_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    velocities: Sequence[Array] | None,
    lr: float,
    momentum: float,
    nesterov: bool,
) -> None:
    """Gradient descent; given velocities, with momentum (Polyak 1964) or Nesterov's (Sutskever et al. 2013)."""
    if velocities is None:
        _run(_sgd_kernel, (params, grads), (float(lr),))
    else:
        step = _nesterov_kernel if nesterov else _momentum_kernel
        _run(step, (params, grads, velocities), (float(lr), float(momentum)))


# ---------------------------------------------------------------------------------------------------- rmsprop


def _make_rmsprop(centered: bool, momentum: bool) -> Any:
    """RMSprop has p, g, s, then m if it is centered, then v if it has momentum."""

    @helper
    def rmsprop(zero, at, row, i, count, numbers):  # type: ignore[no-untyped-def]
        lr, rho, momentum_factor, epsilon = numbers
        p, g = load_at(zero, at[row], i, count), load_at(zero, at[row + 1], i, count)
        s = load_at(zero, at[row + 2], i, count) * rho + (g * g) * (1 - rho)
        store_at(at[row + 2], i, s, count)
        if centered:
            m = load_at(zero, at[row + 3], i, count) * rho + g * (1 - rho)
            store_at(at[row + 3], i, m, count)
            s = s - m * m
        d = g * lr / root(s + epsilon)
        if momentum:
            place = at[row + 3 + centered]
            d = load_at(zero, place, i, count) * momentum_factor + d
            store_at(place, i, d, count)
        store_at(at[row], i, p - d, count)

    return _make_step(f"rmsprop_{centered}_{momentum}", 3 + centered + momentum, rmsprop)


_RMSPROP_KERNELS = {(c, m): _make_rmsprop(c, m) for c in (False, True) for m in (False, True)}


def rmsprop_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    squares: Sequence[Array],
    means: Sequence[Array] | None,
    velocities: Sequence[Array] | None,
    lr: float,
    rho: float,
    momentum: float,
    epsilon: float,
) -> None:
    """The gradient over the root of its running mean square (Tieleman and Hinton 2012)."""
    slots = tuple([slot for slot in (squares, means, velocities) if slot is not None])
    step = _RMSPROP_KERNELS[means is not None, velocities is not None]
    _run(step, (params, grads, *slots), (float(lr), float(rho), float(momentum), float(epsilon)))


# ---------------------------------------------------------------------------------------------------- the adam family


@helper
def _moments(zero, at, row, i, count, rest_1, rest_2):  # type: ignore[no-untyped-def]
    """g, and the new m and s, which are stored; rest_1 = 1 - beta_1, rest_2 = 1 - beta_2."""
    g = load_at(zero, at[row + 1], i, count)
    m, s = load_at(zero, at[row + 2], i, count), load_at(zero, at[row + 3], i, count)
    m = m + (g - m) * rest_1
    s = s + (g * g - s) * rest_2
    store_at(at[row + 2], i, m, count)
    store_at(at[row + 3], i, s, count)
    return g, m, s


@helper
def _adam(zero, at, row, i, count, numbers):  # type: ignore[no-untyped-def]
    rate, rest_1, rest_2, epsilon = numbers
    _, m, s = _moments(zero, at, row, i, count, rest_1, rest_2)
    p = load_at(zero, at[row], i, count)
    store_at(at[row], i, p - m * rate / (root(s) + epsilon), count)


@helper
def _amsgrad(zero, at, row, i, count, numbers):  # type: ignore[no-untyped-def]
    rate, rest_1, rest_2, epsilon = numbers
    _, m, s = _moments(zero, at, row, i, count, rest_1, rest_2)
    s = greater(load_at(zero, at[row + 4], i, count), s)
    store_at(at[row + 4], i, s, count)
    p = load_at(zero, at[row], i, count)
    store_at(at[row], i, p - m * rate / (root(s) + epsilon), count)


_adam_kernel = _make_step("adam", 4, _adam)
_amsgrad_kernel = _make_step("amsgrad", 5, _amsgrad)


def adam_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    means: Sequence[Array],
    squares: Sequence[Array],
    max_squares: Sequence[Array] | None,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    step: int,
) -> None:
    """Adam (Kingma and Ba 2015), bias correction folded into the rate; given max_squares, amsgrad (Reddi 2018)."""
    rate = lr * sqrt(1 - beta_2**step) / (1 - beta_1**step)
    numbers = (float(rate), float(1 - beta_1), float(1 - beta_2), float(epsilon))
    if max_squares is None:
        _run(_adam_kernel, (params, grads, means, squares), numbers)
    else:
        _run(_amsgrad_kernel, (params, grads, means, squares, max_squares), numbers)


@helper
def _adamax(zero, at, row, i, count, numbers):  # type: ignore[no-untyped-def]
    rate, rest_1, beta_2, epsilon = numbers
    p, g = load_at(zero, at[row], i, count), load_at(zero, at[row + 1], i, count)
    m, u = load_at(zero, at[row + 2], i, count), load_at(zero, at[row + 3], i, count)
    m = m + (g - m) * rest_1
    u = greater(u * beta_2, absolute(g))
    store_at(at[row + 2], i, m, count)
    store_at(at[row + 3], i, u, count)
    store_at(at[row], i, p - m * rate / (u + epsilon), count)


_adamax_kernel = _make_step("adamax", 4, _adamax)


def adamax_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    means: Sequence[Array],
    norms: Sequence[Array],
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    step: int,
) -> None:
    """Adam with the largest recent |g| for the root of the square (Kingma and Ba 2015, section 7.1)."""
    rate = lr / (1 - beta_1**step)
    numbers = (float(rate), float(1 - beta_1), float(beta_2), float(epsilon))
    _run(_adamax_kernel, (params, grads, means, norms), numbers)


@helper
def _nadam(zero, at, row, i, count, numbers):  # type: ignore[no-untyped-def]
    mean_weight, grad_weight, rest_1, rest_2, correction, epsilon = numbers
    g, m, s = _moments(zero, at, row, i, count, rest_1, rest_2)
    p = load_at(zero, at[row], i, count)
    store_at(at[row], i, p - (m * mean_weight + g * grad_weight) / (root(s * correction) + epsilon), count)


_nadam_kernel = _make_step("nadam", 4, _nadam)


def nadam_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    means: Sequence[Array],
    squares: Sequence[Array],
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    step: int,
    momentum_schedule: tuple[float, float, float],
) -> None:
    """Adam with Nesterov momentum (Dozat 2016); momentum_schedule = (u_t, u_{t+1}, product of u_1 to u_t)."""
    now, after, product = momentum_schedule
    mean_weight, grad_weight = lr * after / (1 - product * after), lr * (1 - now) / (1 - product)
    rests = (float(1 - beta_1), float(1 - beta_2), float(1 / (1 - beta_2**step)), float(epsilon))
    _run(_nadam_kernel, (params, grads, means, squares), (float(mean_weight), float(grad_weight), *rests))


# ---------------------------------------------------------------------------------------------------- sums of squares


@helper
def _adagrad(zero, at, row, i, count, numbers):  # type: ignore[no-untyped-def]
    lr, epsilon = numbers
    p, g = load_at(zero, at[row], i, count), load_at(zero, at[row + 1], i, count)
    s = load_at(zero, at[row + 2], i, count) + g * g
    store_at(at[row + 2], i, s, count)
    store_at(at[row], i, p - g * lr / root(s + epsilon), count)


_adagrad_kernel = _make_step("adagrad", 3, _adagrad)


def adagrad_step(
    params: Sequence[Array], grads: Sequence[Array], squares: Sequence[Array], lr: float, epsilon: float
) -> None:
    """The gradient over the root of the sum of all its squares (Duchi et al. 2011)."""
    _run(_adagrad_kernel, (params, grads, squares), (float(lr), float(epsilon)))


@helper
def _adadelta(zero, at, row, i, count, numbers):  # type: ignore[no-untyped-def]
    lr, rho, epsilon = numbers
    p, g = load_at(zero, at[row], i, count), load_at(zero, at[row + 1], i, count)
    s = load_at(zero, at[row + 2], i, count) * rho + (g * g) * (1 - rho)
    squares_of_steps = load_at(zero, at[row + 3], i, count)
    d = root(squares_of_steps + epsilon) / root(s + epsilon) * g
    store_at(at[row + 2], i, s, count)
    store_at(at[row + 3], i, squares_of_steps * rho + (d * d) * (1 - rho), count)
    store_at(at[row], i, p - d * lr, count)


_adadelta_kernel = _make_step("adadelta", 4, _adadelta)


def adadelta_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    squares: Sequence[Array],
    delta_squares: Sequence[Array],
    lr: float,
    rho: float,
    epsilon: float,
) -> None:
    """Steps scaled to the size of the steps before (Zeiler 2012)."""
    _run(_adadelta_kernel, (params, grads, squares, delta_squares), (float(lr), float(rho), float(epsilon)))
