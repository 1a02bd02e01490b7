"""Optimizer steps: one loop over the parameters each, every array changed in place. The formulas are Keras 3's.

p parameter, g its gradient, lr learning rate. Slots: m mean of g, s mean (or sum) of g squared, v velocity.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from minicnn.kernels.contract import Array


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
        for p, g in zip(params, grads, strict=True):
            p -= lr * g
        return
    for p, g, v in zip(params, grads, velocities, strict=True):
        v *= momentum
        v -= lr * g
        p += momentum * v - lr * g if nesterov else v


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
    for i, (p, g, s) in enumerate(zip(params, grads, squares, strict=True)):
        _moving_average(s, g * g, rho)
        variance = s
        if means is not None:
            _moving_average(means[i], g, rho)
            variance = s - means[i] ** 2
        step = lr * g / np.sqrt(variance + epsilon)
        if velocities is not None:
            v = velocities[i]
            v *= momentum
            v += step
            step = v
        p -= step


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
    for i, (p, g, m, s) in enumerate(zip(params, grads, means, squares, strict=True)):
        m += (g - m) * (1 - beta_1)
        s += (g * g - s) * (1 - beta_2)
        if max_squares is not None:
            np.maximum(max_squares[i], s, out=max_squares[i])
            s = max_squares[i]
        p -= rate * m / (np.sqrt(s) + epsilon)


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
    for p, g, m, u in zip(params, grads, means, norms, strict=True):
        m += (g - m) * (1 - beta_1)
        np.maximum(beta_2 * u, np.abs(g), out=u)
        p -= rate * m / (u + epsilon)


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
    mean_weight = after / (1 - product * after)
    grad_weight = (1 - now) / (1 - product)
    for p, g, m, s in zip(params, grads, means, squares, strict=True):
        m += (g - m) * (1 - beta_1)
        s += (g * g - s) * (1 - beta_2)
        s_hat = s / (1 - beta_2**step)
        p -= lr * (mean_weight * m + grad_weight * g) / (np.sqrt(s_hat) + epsilon)


def adagrad_step(
    params: Sequence[Array], grads: Sequence[Array], squares: Sequence[Array], lr: float, epsilon: float
) -> None:
    """The gradient over the root of the sum of all its squares (Duchi et al. 2011)."""
    for p, g, s in zip(params, grads, squares, strict=True):
        s += g * g
        p -= lr * g / np.sqrt(s + epsilon)


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
    for p, g, s, d in zip(params, grads, squares, delta_squares, strict=True):
        _moving_average(s, g * g, rho)
        delta = -np.sqrt(d + epsilon) / np.sqrt(s + epsilon) * g
        _moving_average(d, delta * delta, rho)
        p += lr * delta


def _moving_average(average: Array, value: Array, rho: float) -> None:
    """average = rho * average + (1 - rho) * value, in place."""
    average *= rho
    average += (1 - rho) * value
