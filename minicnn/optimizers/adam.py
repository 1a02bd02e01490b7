"""The Adam family: running means of the gradient (m) and of its square (s), with the start's bias corrected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minicnn.functional.arguments import check_number, check_positive
from minicnn.kernels.contract import Array, Kernels
from minicnn.optimizers.base import Optimizer


class _TwoMoments(Optimizer):
    """What the family shares: two decay rates and epsilon."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        kind = type(self).__name__
        check_number(beta_1, f"{kind}: beta_1", 0, 1, "[)")
        check_number(beta_2, f"{kind}: beta_2", 0, 1, "[)")
        check_positive(epsilon, f"{kind}: epsilon")
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def get_config(self) -> dict[str, Any]:
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return super().get_config() | own


class Adam(_TwoMoments):
    """p -= learning_rate * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(s) + epsilon) (Kingma and Ba 2015).

    beta_1, beta_2: how much of m and s is kept each step. amsgrad: the largest s so far in place of s (Reddi et al.
    2018). epsilon is the paper's "epsilon hat", as in Keras; PyTorch adds its own to sqrt(s / (1 - beta_2**t)).
    options: weight_decay, clipnorm, clipvalue, global_clipnorm, name; see Optimizer.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **options)
        self.amsgrad = amsgrad

    def slot_groups(self) -> list[list[str]]:
        return [["momentum", "velocity"], *([["velocity_hat"]] if self.amsgrad else [])]

    def update(
        self, kernels: Kernels, params: list[Array], grads: list[Array], state: Mapping[str, list[Array]], lr: float
    ) -> None:
        kernels.adam_step(
            params,
            grads,
            state["momentum"],
            state["velocity"],
            state.get("velocity_hat"),
            lr,
            self.beta_1,
            self.beta_2,
            self.epsilon,
            self.iterations + 1,
        )

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"amsgrad": self.amsgrad}


class AdamW(Adam):
    """Adam with weight decay of its own, which the running means do not see (Loshchilov and Hutter 2019)."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        check_number(weight_decay, "AdamW: weight_decay", 0, float("inf"), "[)")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **options)


class Adamax(_TwoMoments):
    """Adam with the largest recent |g| in place of sqrt(s) (Kingma and Ba 2015, section 7.1). Options as Adam."""

    def slot_groups(self) -> list[list[str]]:
        return [["momentum", "norm"]]

    def update(
        self, kernels: Kernels, params: list[Array], grads: list[Array], state: Mapping[str, list[Array]], lr: float
    ) -> None:
        step = self.iterations + 1
        kernels.adamax_step(
            params, grads, state["momentum"], state["norm"], lr, self.beta_1, self.beta_2, self.epsilon, step
        )


class Nadam(_TwoMoments):
    """Adam with Nesterov's momentum, of a momentum that rises to beta_1 (Dozat 2016). Options as Adam."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **options)
        self._momentum_product = 1.0  # of the steps so far

    def slot_groups(self) -> list[list[str]]:
        return [["momentum", "velocity"]]

    def _momentum(self, step: int) -> float:
        """The momentum of a step, counted from 1: from about beta_1 / 2 up to beta_1."""
        return float(self.beta_1 * (1 - 0.5 * 0.96**step))

    def update(
        self, kernels: Kernels, params: list[Array], grads: list[Array], state: Mapping[str, list[Array]], lr: float
    ) -> None:
        step = self.iterations + 1
        now, after = self._momentum(step), self._momentum(step + 1)
        self._momentum_product *= now
        kernels.nadam_step(
            params,
            grads,
            state["momentum"],
            state["velocity"],
            lr,
            self.beta_1,
            self.beta_2,
            self.epsilon,
            step,
            (now, after, self._momentum_product),
        )

    def _named_variables(self) -> list[tuple[str, Array]]:
        product = [("momentum_product", np.array(self._momentum_product))] if self.built else []
        return super()._named_variables() + product

    def _take(self, values: list[np.ndarray[Any, Any]]) -> None:
        super()._take(values)
        self._momentum_product = float(values[-1])
