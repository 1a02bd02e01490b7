"""Optimizer steps on the device, many parameters a launch: see optim.cu. The formulas are Keras 3's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.gpu.launch import THREADS
from minicnn.kernels.gpu.live import live_schedule
from minicnn.kernels.gpu.loader import module

_FILE = "optim.cu"
_MOST_TENSORS = 32
_CHUNK = 2048


def sgd_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    velocities: Sequence[Array] | None,
    lr: float,
    momentum: float,
    nesterov: bool,
) -> None:
    """Gradient descent; given velocities, with momentum (Polyak 1964) or Nesterov's (Sutskever et al. 2013)."""
    options = velocities is not None, momentum, nesterov
    _launch("sgd_step", params, grads, (velocities, None, None), options, lr)


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
    options = means is not None, velocities is not None, rho, momentum, epsilon
    _launch("rmsprop_step", params, grads, (squares, means, velocities), options, lr)


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
    options = max_squares is not None, beta_1, beta_2, epsilon
    _launch("adam_step", params, grads, (means, squares, max_squares), options, lr, step)


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
    _launch("adamax_step", params, grads, (means, norms, None), (beta_1, beta_2, epsilon), lr, step)


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
    options = beta_1, beta_2, epsilon
    _launch("nadam_step", params, grads, (means, squares, None), options, lr, step, momentum_schedule)


def adagrad_step(
    params: Sequence[Array], grads: Sequence[Array], squares: Sequence[Array], lr: float, epsilon: float
) -> None:
    """The gradient over the root of the sum of all its squares (Duchi et al. 2011)."""
    _launch("adagrad_step", params, grads, (squares, None, None), (epsilon,), lr)


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
    _launch("adadelta_step", params, grads, (squares, delta_squares, None), (rho, epsilon), lr)


def _launch(
    name: str,
    params: Sequence[Array],
    grads: Sequence[Array],
    slots: tuple[Sequence[Array] | None, Sequence[Array] | None, Sequence[Array] | None],
    options: tuple[Any, ...],
    lr: float,
    step: int = 0,
    momentum_schedule: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> None:
    """Run a step over all parameters, grouped by dtype, _MOST_TENSORS a launch."""
    for dtype in dict.fromkeys(p.dtype for p in params):
        chosen = [i for i, p in enumerate(params) if p.dtype == dtype and p.size]
        code = module(_FILE, dtype)
        now, after, product = momentum_schedule
        schedule = code.struct(
            "Schedule", lr=lr, step=step, momentum_now=now, momentum_next=after, momentum_product=product
        )
        kernel, live = code.kernel(name), live_schedule()
        for start in range(0, len(chosen), _MOST_TENSORS):
            part = chosen[start : start + _MOST_TENSORS]
            lists = [None if arrays is None else [arrays[i] for i in part] for arrays in (params, grads, *slots)]
            table, blocks = _table(code.structs["Tensors"], lists)
            kernel((blocks,), THREADS, table, schedule, live, *options)


def _table(dtype: np.dtype[Any], lists: list[list[Array] | None]) -> tuple[Array, int]:
    """The struct Tensors for arrays of one launch, and how many blocks they take together."""
    table = np.zeros((), dtype)
    params = lists[0]
    assert params is not None
    for field, arrays in zip(("param", "grad", "first", "second", "third"), lists, strict=True):
        if arrays is not None:
            table[field][: len(arrays)] = [_address(array, like) for array, like in zip(arrays, params, strict=True)]
    sizes = np.array([p.size for p in params])
    blocks = -(-sizes // _CHUNK)
    table["size"][: len(params)] = sizes
    table["first_block"][: len(params)] = np.cumsum(blocks) - blocks
    table["count"] = len(params)
    return table, int(blocks.sum())


def _address(array: Array, like: Array) -> int:
    """Where the array lies. Raises TypeError or ValueError where the kernel could not read it as it does `like`."""
    if type(array) is not type(like) or array.dtype != like.dtype:
        raise TypeError(f"optimizer step: expected a {like.dtype} array on the device. Received: {type(array)}")
    if array.shape != like.shape or not array.flags.c_contiguous:
        raise ValueError(
            f"optimizer step: expected a C-contiguous array of shape {like.shape}. Received: shape {array.shape}, "
            f"strides {array.strides}"
        )
    return int(array.data.ptr)
