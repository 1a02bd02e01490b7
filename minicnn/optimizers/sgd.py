"""Gradient descent, with or without momentum; RMSprop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minicnn.functional.arguments import check_number, check_positive
from minicnn.kernels.contract import Array, Kernels
from minicnn.optimizers.base import Optimizer


class SGD(Optimizer):
    """p -= learning_rate * g; with momentum v = momentum * v - learning_rate * g, p += v (Polyak 1964).

    nesterov: p += momentum * v - learning_rate * g instead, the gradient seen from where momentum leads (Sutskever et
    al. 2013). options: weight_decay, clipnorm, clipvalue, global_clipnorm, name; see Optimizer.
    """

    def __init__(
        self, learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False, **options: Any
    ) -> None:
        super().__init__(learning_rate, **options)
        check_number(momentum, "SGD: momentum", 0, 1)
        self.momentum, self.nesterov = momentum, nesterov

    def slot_groups(self) -> list[list[str]]:
        return [["momentum"]] if self.momentum else []

    def update(
        self, kernels: Kernels, params: list[Array], grads: list[Array], state: Mapping[str, list[Array]], lr: float
    ) -> None:
        kernels.sgd_step(params, grads, state.get("momentum"), lr, self.momentum, self.nesterov)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"momentum": self.momentum, "nesterov": self.nesterov}


class RMSprop(Optimizer):
    """p -= learning_rate * g / sqrt(s + epsilon), s the running mean of g**2 (Tieleman and Hinton 2012).

    rho: how much of s is kept each step. momentum: on the steps. centered: divide by the gradient's running deviation
    instead. epsilon stands inside of the root, as in Keras; PyTorch adds it to the root.
    options: weight_decay, clipnorm, clipvalue, global_clipnorm, name; see Optimizer.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        check_number(rho, "RMSprop: rho", 0, 1)
        check_number(momentum, "RMSprop: momentum", 0, 1)
        check_positive(epsilon, "RMSprop: epsilon")
        self.rho, self.momentum, self.epsilon, self.centered = rho, momentum, epsilon, centered

    def slot_groups(self) -> list[list[str]]:
        momentum = [["momentum"]] if self.momentum else []
        return [["velocity"], *momentum, *([["average_gradient"]] if self.centered else [])]

    def update(
        self, kernels: Kernels, params: list[Array], grads: list[Array], state: Mapping[str, list[Array]], lr: float
    ) -> None:
        means, velocities = state.get("average_gradient"), state.get("momentum")
        kernels.rmsprop_step(
            params, grads, state["velocity"], means, velocities, lr, self.rho, self.momentum, self.epsilon
        )

    def get_config(self) -> dict[str, Any]:
        own = {"rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon, "centered": self.centered}
        return super().get_config() | own
