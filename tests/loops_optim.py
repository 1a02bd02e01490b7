"""The optimizer steps of the contract, one number at a time: part of `tests.loops`.

Signatures are the contract's; like the kernels they change parameters and slots in place. Each formula is spelled as in
Keras 3's documentation of the optimizer (or its paper) with nothing factored out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from minicnn.kernels.contract import Array

Arrays = Sequence[Array]


def _elements(params: Arrays) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Which array, and where in it: every number of a list of arrays."""
    for a, p in enumerate(params):
        for at in np.ndindex(p.shape):
            yield a, at


def sgd_step(
    params: Arrays, grads: Arrays, velocities: Arrays | None, lr: float, momentum: float, nesterov: bool
) -> None:
    for a, at in _elements(params):
        p, g = float(params[a][at]), float(grads[a][at])
        if velocities is None:
            params[a][at] = p - lr * g
            continue
        v = momentum * float(velocities[a][at]) - lr * g
        velocities[a][at] = v
        params[a][at] = p + momentum * v - lr * g if nesterov else p + v


def rmsprop_step(
    params: Arrays,
    grads: Arrays,
    squares: Arrays,
    means: Arrays | None,
    velocities: Arrays | None,
    lr: float,
    rho: float,
    momentum: float,
    epsilon: float,
) -> None:
    for a, at in _elements(params):
        g = float(grads[a][at])
        s = rho * float(squares[a][at]) + (1 - rho) * g**2
        squares[a][at] = s
        m = 0.0
        if means is not None:
            m = rho * float(means[a][at]) + (1 - rho) * g
            means[a][at] = m
        v = lr * g / math.sqrt(s - m**2 + epsilon)
        if velocities is not None:
            v += momentum * float(velocities[a][at])
            velocities[a][at] = v
        params[a][at] = float(params[a][at]) - v


def adam_step(
    params: Arrays,
    grads: Arrays,
    means: Arrays,
    squares: Arrays,
    max_squares: Arrays | None,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    step: int,
) -> None:
    for a, at in _elements(params):
        g = float(grads[a][at])
        m = beta_1 * float(means[a][at]) + (1 - beta_1) * g
        s = beta_2 * float(squares[a][at]) + (1 - beta_2) * g**2
        means[a][at], squares[a][at] = m, s
        if max_squares is not None:
            s = max(float(max_squares[a][at]), s)
            max_squares[a][at] = s
        m_hat, correction = m / (1 - beta_1**step), math.sqrt(1 - beta_2**step)
        params[a][at] = float(params[a][at]) - lr * m_hat * correction / (math.sqrt(s) + epsilon)


def adamax_step(
    params: Arrays,
    grads: Arrays,
    means: Arrays,
    norms: Arrays,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    step: int,
) -> None:
    for a, at in _elements(params):
        g = float(grads[a][at])
        m = beta_1 * float(means[a][at]) + (1 - beta_1) * g
        u = max(beta_2 * float(norms[a][at]), abs(g))
        means[a][at], norms[a][at] = m, u
        params[a][at] = float(params[a][at]) - lr * (m / (1 - beta_1**step)) / (u + epsilon)


def nadam_step(
    params: Arrays,
    grads: Arrays,
    means: Arrays,
    squares: Arrays,
    lr: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    step: int,
    momentum_schedule: tuple[float, float, float],
) -> None:
    now, after, product = momentum_schedule
    for a, at in _elements(params):
        g = float(grads[a][at])
        m = beta_1 * float(means[a][at]) + (1 - beta_1) * g
        s = beta_2 * float(squares[a][at]) + (1 - beta_2) * g**2
        means[a][at], squares[a][at] = m, s
        m_hat = after * m / (1 - product * after) + (1 - now) * g / (1 - product)
        s_hat = s / (1 - beta_2**step)
        params[a][at] = float(params[a][at]) - lr * m_hat / (math.sqrt(s_hat) + epsilon)


def adagrad_step(params: Arrays, grads: Arrays, squares: Arrays, lr: float, epsilon: float) -> None:
    for a, at in _elements(params):
        g = float(grads[a][at])
        s = float(squares[a][at]) + g**2
        squares[a][at] = s
        params[a][at] = float(params[a][at]) - lr * g / math.sqrt(s + epsilon)


def adadelta_step(
    params: Arrays, grads: Arrays, squares: Arrays, delta_squares: Arrays, lr: float, rho: float, epsilon: float
) -> None:
    for a, at in _elements(params):
        g = float(grads[a][at])
        s = rho * float(squares[a][at]) + (1 - rho) * g**2
        delta = -math.sqrt(float(delta_squares[a][at]) + epsilon) / math.sqrt(s + epsilon) * g
        squares[a][at] = s
        delta_squares[a][at] = rho * float(delta_squares[a][at]) + (1 - rho) * delta**2
        params[a][at] = float(params[a][at]) + lr * delta
