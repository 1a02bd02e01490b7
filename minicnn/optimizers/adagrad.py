"""Adagrad and Adadelta: steps divided by the root of what squared gradients came before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from minicnn.functional.arguments import check_number, check_positive
from minicnn.kernels.contract import Array, Kernels
from minicnn.optimizers.base import Optimizer


class Adagrad(Optimizer):
    """p -= learning_rate * g / sqrt(s + epsilon), s the sum of all g**2 so far (Duchi et al. 2011).

    initial_accumulator_value: where s starts.
    options: weight_decay, clipnorm, clipvalue, global_clipnorm, name; see Optimizer.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        check_number(initial_accumulator_value, "Adagrad: initial_accumulator_value", 0, math.inf, "[)")
        check_positive(epsilon, "Adagrad: epsilon")
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    def slot_groups(self) -> list[list[str]]:
        return [["accumulator"]]

    def initial_slot_value(self) -> float:
        return self.initial_accumulator_value

    def update(
        self, kernels: Kernels, params: list[Array], grads: list[Array], state: Mapping[str, list[Array]], lr: float
    ) -> None:
        kernels.adagrad_step(params, grads, state["accumulator"], lr, self.epsilon)

    def get_config(self) -> dict[str, Any]:
        own = {"initial_accumulator_value": self.initial_accumulator_value, "epsilon": self.epsilon}
        return super().get_config() | own


class Adadelta(Optimizer):
    """Steps as large as the recent steps were, over the root of recent squared gradients (Zeiler 2012).

    rho: how much of both running means is kept each step. The paper has no rate: learning_rate=1.0 is its form.
    options: weight_decay, clipnorm, clipvalue, global_clipnorm, name; see Optimizer.
    """

    def __init__(self, learning_rate: Any = 0.001, rho: float = 0.95, epsilon: float = 1e-7, **options: Any) -> None:
        super().__init__(learning_rate, **options)
        check_number(rho, "Adadelta: rho", 0, 1)
        check_positive(epsilon, "Adadelta: epsilon")
        self.rho, self.epsilon = rho, epsilon

    def slot_groups(self) -> list[list[str]]:
        return [["accumulated_grad", "accumulated_delta_var"]]

    def update(
        self, kernels: Kernels, params: list[Array], grads: list[Array], state: Mapping[str, list[Array]], lr: float
    ) -> None:
        squares, delta_squares = state["accumulated_grad"], state["accumulated_delta_var"]
        kernels.adadelta_step(params, grads, squares, delta_squares, lr, self.rho, self.epsilon)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"rho": self.rho, "epsilon": self.epsilon}
