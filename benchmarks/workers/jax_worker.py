"""JAX on dense networks: one jitted function a step, its parameters donated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import networks
from benchmarks.networks import Network
from benchmarks.workers import data
from benchmarks.workers.protocol import Case, Unsupported, Work, Worker, serve

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7


class JaxWorker(Worker):
    def describe(self) -> dict[str, Any]:
        return {"version": jax.__version__}

    def kernel(self, case: Case) -> Work:
        raise Unsupported("networks only")

    def train(self, case: Case) -> Callable[[], float]:
        network = case["network"]
        if network["optimizer"]["name"] != "adam":
            raise Unsupported("Adam only")
        params = _parameters(network)
        x, y = (jnp.asarray(array) for array in data.batch(case))
        zeros = jax.tree.map(jnp.zeros_like, params)
        state = [params, zeros, jax.tree.map(jnp.zeros_like, params)]
        count = 0

        def step() -> float:
            nonlocal state, count
            count += 1
            loss, state = _adam_step(state, x, y, count, network["optimizer"]["learning_rate"])
            return float(loss)

        return step

    def predict(self, case: Case) -> Callable[[], Any]:
        params = _parameters(case["network"])
        x = jnp.asarray(data.batch(case)[0])
        function = jax.jit(lambda params, x: jax.nn.softmax(_logits(params, x)))
        return lambda: function(params, x).block_until_ready()


def _parameters(network: Network) -> Any:
    if any(node["op"] not in ("flatten", "dense") for node in network["nodes"]):
        raise Unsupported("dense networks only")
    weights = networks.initial_weights(network)
    return [(jnp.asarray(own["w"]), jnp.asarray(own["b"])) for own in weights if own]


def _logits(params: Any, x: Any) -> Any:
    h = x.reshape(x.shape[0], -1)
    for w, b in params[:-1]:
        h = jax.nn.relu(h @ w + b)
    w, b = params[-1]
    return h @ w + b


def _loss(params: Any, x: Any, y: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(_logits(params, x)), y[:, None], axis=1).mean()


@partial(jax.jit, donate_argnums=0)
def _adam_step(state: Any, x: Any, y: Any, count: Any, rate: Any) -> Any:
    params, means, squares = state
    loss, grads = jax.value_and_grad(_loss)(params, x, y)
    means = jax.tree.map(lambda m, g: m + (g - m) * (1 - BETA_1), means, grads)
    squares = jax.tree.map(lambda s, g: s + (g * g - s) * (1 - BETA_2), squares, grads)
    rate = rate * jnp.sqrt(1 - BETA_2**count) / (1 - BETA_1**count)
    params = jax.tree.map(lambda p, m, s: p - rate * m / (jnp.sqrt(s) + EPSILON), params, means, squares)
    return loss, [params, means, squares]


if __name__ == "__main__":
    serve(JaxWorker)
