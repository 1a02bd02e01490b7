"""Optimizers: trajectories against scalar loops, clipping, decay, constraints, and the state they keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import constraints, optimizers
from minicnn.layers.parameter import Parameter
from minicnn.optimizers import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Nadam, Optimizer, RMSprop
from minicnn.tensor import Tensor

STEPS = 20
SHAPES = [(2, 3), (3,), ()]


def parameters(dtype: Any = np.float64) -> list[Parameter]:
    rng = np.random.default_rng(1)
    return [Parameter(rng.normal(size=shape).astype(dtype), f"p{i}") for i, shape in enumerate(SHAPES)]


def gradients(step: int) -> list[np.ndarray]:
    rng = np.random.default_rng(100 + step)
    return [rng.normal(size=shape) * 10.0 ** rng.integers(-2, 2) for shape in SHAPES]


def run(optimizer: Optimizer, steps: int = STEPS) -> list[np.ndarray]:
    params = parameters()
    for step in range(steps):
        optimizer.apply([Tensor(g) for g in gradients(step)], params)
    return [p.numpy().copy() for p in params]


Rule = Callable[[float, Iterator[float]], float]
"""Where a single number ends that starts at p and sees these gradients."""


def sgd(momentum: float, nesterov: bool) -> Rule:
    def rule(p: float, gs: Iterator[float]) -> float:
        v = 0.0
        for g in gs:
            v = momentum * v - 0.1 * g
            p += momentum * v - 0.1 * g if nesterov else v
        return p

    return rule


def rmsprop(centered: bool, momentum: float) -> Rule:
    def rule(p: float, gs: Iterator[float]) -> float:
        s = m = v = 0.0
        for g in gs:
            s = 0.8 * s + 0.2 * g * g
            m = 0.8 * m + 0.2 * g
            v = momentum * v + 0.1 * g / math.sqrt(s - (m * m if centered else 0) + 1e-7)
            p -= v
        return p

    return rule


def adam(amsgrad: bool = False, decay: float = 0.0) -> Rule:
    def rule(p: float, gs: Iterator[float]) -> float:
        m = s = largest = 0.0
        for t, g in enumerate(gs, 1):
            p -= 0.1 * decay * p
            m, s = 0.7 * m + 0.3 * g, 0.9 * s + 0.1 * g * g
            largest = max(largest, s)
            rate = 0.1 * math.sqrt(1 - 0.9**t) / (1 - 0.7**t)
            p -= rate * m / (math.sqrt(largest if amsgrad else s) + 1e-3)
        return p

    return rule


def adamax(p: float, gs: Iterator[float]) -> float:
    m = u = 0.0
    for t, g in enumerate(gs, 1):
        m, u = 0.7 * m + 0.3 * g, max(0.9 * u, abs(g))
        p -= 0.1 / (1 - 0.7**t) * m / (u + 1e-3)
    return p


def nadam(p: float, gs: Iterator[float]) -> float:
    m = s = 0.0
    product = 1.0
    for t, g in enumerate(gs, 1):
        now, after = 0.7 * (1 - 0.5 * 0.96**t), 0.7 * (1 - 0.5 * 0.96 ** (t + 1))
        product *= now
        m, s = 0.7 * m + 0.3 * g, 0.9 * s + 0.1 * g * g
        m_hat = after * m / (1 - product * after) + (1 - now) * g / (1 - product)
        p -= 0.1 * m_hat / (math.sqrt(s / (1 - 0.9**t)) + 1e-3)
    return p


def adagrad(p: float, gs: Iterator[float]) -> float:
    s = 0.2
    for g in gs:
        s += g * g
        p -= 0.1 * g / math.sqrt(s + 1e-3)
    return p


def adadelta(p: float, gs: Iterator[float]) -> float:
    s = d = 0.0
    for g in gs:
        s = 0.8 * s + 0.2 * g * g
        delta = math.sqrt(d + 1e-3) / math.sqrt(s + 1e-3) * g
        d = 0.8 * d + 0.2 * delta * delta
        p -= 0.1 * delta
    return p


BETAS = {"beta_1": 0.7, "beta_2": 0.9, "epsilon": 1e-3}
RULES: list[tuple[Callable[[], Optimizer], Rule]] = [
    (lambda: SGD(0.1), sgd(0.0, False)),
    (lambda: SGD(0.1, momentum=0.8), sgd(0.8, False)),
    (lambda: SGD(0.1, momentum=0.8, nesterov=True), sgd(0.8, True)),
    (lambda: RMSprop(0.1, rho=0.8), rmsprop(False, 0.0)),
    (lambda: RMSprop(0.1, rho=0.8, momentum=0.5), rmsprop(False, 0.5)),
    (lambda: RMSprop(0.1, rho=0.8, momentum=0.5, centered=True), rmsprop(True, 0.5)),
    (lambda: Adam(0.1, **BETAS), adam()),
    (lambda: Adam(0.1, **BETAS, amsgrad=True), adam(amsgrad=True)),
    (lambda: AdamW(0.1, **BETAS, weight_decay=0.3), adam(decay=0.3)),
    (lambda: Adamax(0.1, **BETAS), adamax),
    (lambda: Nadam(0.1, **BETAS), nadam),
    (lambda: Adagrad(0.1, initial_accumulator_value=0.2, epsilon=1e-3), adagrad),
    (lambda: Adadelta(0.1, rho=0.8, epsilon=1e-3), adadelta),
]
MAKERS = [make for make, _ in RULES]


@pytest.mark.parametrize(("make", "rule"), RULES, ids=[f"{m().name}{i}" for i, (m, _) in enumerate(RULES)])
def test_twenty_steps_are_those_of_a_loop_over_single_numbers(make: Any, rule: Rule) -> None:
    ended = run(make())
    history = [gradients(step) for step in range(STEPS)]
    for i, start in enumerate(parameters()):
        for at in np.ndindex(start.shape):
            expected = rule(float(start.data[at]), iter([float(g[i][at]) for g in history]))
            assert ended[i][at] == pytest.approx(expected, rel=1e-9), (i, at)


@pytest.mark.parametrize("make", MAKERS)
def test_float32_parameters_stay_float32_and_follow_the_same_path(make: Any) -> None:
    params, optimizer = parameters(np.float32), make()
    for step in range(STEPS):
        optimizer.apply(gradients(step), params)
    for p, expected in zip(params, run(make()), strict=True):
        assert p.dtype == np.float32
        np.testing.assert_allclose(p.numpy(), expected, rtol=2e-4, atol=2e-4)


def test_a_training_loop_of_ones_own_learns_a_line() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(64, 2))
    y = x @ [[2.0], [-3.0]] + 0.5
    w, b = Parameter(np.zeros((2, 1)), "w"), Parameter(np.zeros(1), "b")
    optimizer, loss_function = Adam(0.1), minicnn.losses.MeanSquaredError()
    for _ in range(300):
        loss = loss_function(y, Tensor(x) @ w + b)
        optimizer.apply(minicnn.grad(loss, [w, b]), [w, b])
    np.testing.assert_allclose(w.numpy(), [[2.0], [-3.0]], atol=1e-3)
    np.testing.assert_allclose(b.numpy(), [0.5], atol=1e-3)


def test_gradients_left_by_backward_work_too() -> None:
    p = Parameter(np.array([3.0, -1.0]), "p")
    (p * p).sum().backward()
    SGD(0.25).apply_gradients([(p.grad, p)])
    np.testing.assert_allclose(p.numpy(), [1.5, -0.5])


# --------------------------------------------------------------------------------------------------- in place


def test_a_step_writes_into_the_parameters_array_and_counts_as_an_edit() -> None:
    p = Parameter(np.array([1.0, 2.0]), "p")
    array = p.data
    loss = (p * p).sum()
    SGD(0.5).apply([np.array([1.0, 1.0])], [p])
    assert p.data is array
    np.testing.assert_allclose(array, [0.5, 1.5])
    with pytest.raises(RuntimeError, match="edited in place"):
        loss.backward()


def test_parameters_that_are_not_contiguous_are_updated_too() -> None:
    for make in MAKERS:
        plain, turned = Parameter(np.arange(6.0).reshape(2, 3), "p"), Parameter(np.zeros((3, 2)), "p")
        turned.data = np.ascontiguousarray(plain.data.T).T
        assert not turned.data.flags.c_contiguous
        one, other = make(), make()
        for step in range(3):
            one.apply([gradients(step)[0]], [plain])
            other.apply([gradients(step)[0]], [turned])
        np.testing.assert_array_equal(turned.data, plain.data)


def test_gradients_are_not_written_and_may_have_any_layout_and_dtype() -> None:
    g = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    before = g.copy()
    p, q = Parameter(np.ones((2, 3)), "p"), Parameter(np.ones((2, 3)), "q")
    Adam(clipnorm=0.1).apply([g], [p])
    Adam(clipnorm=0.1).apply([np.ascontiguousarray(g, np.float64)], [q])
    np.testing.assert_array_equal(g, before)
    np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-6)


# --------------------------------------------------------------------------------------------------- clipping, decay

G = [np.array([3.0, 4.0]), np.array([0.3, 0.4]), np.array([-12.0])]


def clipped(**options: float) -> list[np.ndarray]:
    """What reaches the parameters: the step of plain descent of rate 1."""
    params = [Parameter(np.zeros(g.shape), "p") for g in G]
    SGD(1.0, **options).apply(G, params)
    return [-p.numpy() for p in params]


def test_clipnorm_bounds_each_gradients_length_and_keeps_its_direction() -> None:
    for g, expected in zip(clipped(clipnorm=1.0), [[0.6, 0.8], [0.3, 0.4], [-1.0]], strict=True):
        np.testing.assert_allclose(g, expected, rtol=1e-12)


def test_global_clipnorm_bounds_the_length_of_all_together() -> None:
    norm = math.sqrt(25 + 0.25 + 144)
    for g, whole in zip(clipped(global_clipnorm=2.0), G, strict=True):
        np.testing.assert_allclose(g, whole * 2 / norm, rtol=1e-12)
    for g, whole in zip(clipped(global_clipnorm=100.0), G, strict=True):
        np.testing.assert_array_equal(g, whole)


def test_clipvalue_bounds_each_element() -> None:
    for g, expected in zip(clipped(clipvalue=0.35), [[0.35, 0.35], [0.3, 0.35], [-0.35]], strict=True):
        np.testing.assert_array_equal(g, expected)


def test_a_nan_is_not_clipped_away() -> None:
    for options in ({"clipnorm": 1.0}, {"global_clipnorm": 1.0}, {"clipvalue": 1.0}):
        p = Parameter(np.zeros(2), "p")
        SGD(1.0, **options).apply([np.array([np.nan, 1.0])], [p])
        assert np.isnan(p.numpy()[0])


def test_weight_decay_shrinks_by_rate_times_decay_unless_excluded() -> None:
    named = [Parameter(np.ones(1), "kernel"), Parameter(np.ones(1), "bias"), Parameter(np.ones(1), "gamma")]
    optimizer = SGD(0.5, weight_decay=0.2)
    optimizer.exclude_from_weight_decay(var_list=[named[2]], var_names=["bias"])
    optimizer.apply([np.zeros(1)] * 3, named)
    np.testing.assert_allclose([p.item() for p in named], [0.9, 1.0, 1.0])


def test_constraints_are_applied_after_the_step() -> None:
    p = Parameter(np.array([0.1, 5.0]), "p", constraint=constraints.NonNeg())
    SGD(1.0).apply([np.array([1.0, 1.0])], [p])
    np.testing.assert_array_equal(p.numpy(), [0.0, 4.0])


# --------------------------------------------------------------------------------------------------- state


@pytest.mark.parametrize("make", MAKERS)
def test_saved_state_goes_on_as_if_never_interrupted(make: Any) -> None:
    params, optimizer = parameters(), make()
    for step in range(7):
        optimizer.apply(gradients(step), params)
    store: dict[str, np.ndarray] = {}
    optimizer.save_own_variables(store)

    again = optimizers.deserialize(optimizers.serialize(optimizer))
    again.build(params)
    again.load_own_variables({key: value.copy() for key, value in store.items()})
    for step in range(7, STEPS):
        again.apply(gradients(step), params)

    assert again.iterations == STEPS
    for p, expected in zip(params, run(make()), strict=True):
        np.testing.assert_array_equal(p.numpy(), expected)


def test_variables_have_the_order_and_names_of_keras() -> None:
    params = [Parameter(np.ones((2, 3)), "kernel"), Parameter(np.ones(3), "bias")]
    params[0].path, params[1].path = "dense/kernel", "dense/bias"
    optimizer = Adam(amsgrad=True)
    optimizer.apply([np.ones((2, 3)), np.ones(3)], params)
    assert optimizer.variable_names == [
        "adam/iteration",
        "adam/learning_rate",
        "adam/dense_kernel_momentum",
        "adam/dense_kernel_velocity",
        "adam/dense_bias_momentum",
        "adam/dense_bias_velocity",
        "adam/dense_kernel_velocity_hat",
        "adam/dense_bias_velocity_hat",
    ]
    assert [v.shape for v in optimizer.variables] == [(), (), (2, 3), (2, 3), (3,), (3,), (2, 3), (3,)]
    np.testing.assert_allclose(optimizer.variables[2], np.full((2, 3), 0.1))


def test_state_that_does_not_fit_changes_nothing() -> None:
    optimizer = Adam()
    optimizer.build(parameters())
    store = {str(i): v + 1 for i, v in enumerate(optimizer.variables)}
    for broken in ({"0": store["0"]}, store | {"3": np.zeros(9)}):
        with pytest.raises(ValueError, match="expected"):
            optimizer.load_own_variables(broken)
    assert optimizer.iterations == 0
    assert optimizer.learning_rate == 0.001
    np.testing.assert_array_equal(optimizer.variables[2], np.zeros((2, 3)))


def test_a_later_step_may_take_part_of_the_parameters() -> None:
    params, whole = parameters(), parameters()
    one, other = Adam(), Adam()
    one.apply(gradients(0), params)
    other.apply(gradients(0), whole)
    one.apply([gradients(1)[2]], [params[2]])
    other.apply(gradients(1), whole)
    np.testing.assert_array_equal(params[2].numpy(), whole[2].numpy())
    np.testing.assert_array_equal(params[0].numpy(), run(Adam(), 1)[0])


def test_parameters_without_gradient_stay_and_are_named() -> None:
    params = parameters()
    with pytest.warns(UserWarning, match=r"no gradient for \['p1'\]"):
        SGD(0.1).apply([gradients(0)[0], None, gradients(0)[2]], params)
    np.testing.assert_array_equal(params[1].numpy(), parameters()[1].numpy())
    np.testing.assert_allclose(params[2].numpy(), parameters()[2].numpy() - 0.1 * gradients(0)[2])
