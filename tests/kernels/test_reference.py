"""The reference kernels against nested loops, against their own adjoints, and at the edges of what numbers can be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from minicnn.kernels import reference
from minicnn.kernels.contract import Array
from minicnn.kernels.reference.random import philox4x32
from tests import loops
from tests.kernels.cases import CASES, GEOMETRIES, POOL_GEOMETRIES, SLOTS, Case, Geometry, arguments

NO_PADDING = ((0, 0), (0, 0))
LARGEST = float(np.finfo(np.float32).max)
STEP_CASES = [case for case in CASES if case.kernel.endswith("_step")]
KERNEL_CASES = [case for case in CASES if not case.kernel.endswith("_step")]
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def assert_near(received: Any, expected: Any, dtype: str, length: int) -> None:
    """Arrays, or tuples of arrays, equal as sums of `length` terms can be; integers exactly."""
    limit = 1e-12 if dtype == "float64" else 4 * float(np.finfo(np.float32).eps) * max(length, 4)
    pairs = zip(received, expected, strict=True) if isinstance(expected, tuple) else [(received, expected)]
    for array, oracle in pairs:
        assert array.shape == oracle.shape
        if oracle.dtype.kind in "iu":
            np.testing.assert_array_equal(array, oracle)
        else:
            np.testing.assert_allclose(array, oracle, rtol=limit, atol=limit)


def normals(*shapes: tuple[int, ...]) -> list[Array]:
    """Standard normal float64 arrays, the same in every run."""
    rng = np.random.default_rng(7)
    return [rng.standard_normal(shape) for shape in shapes]


# ---------------------------------------------------------------------------------------------------- nested loops


@both_dtypes
@pytest.mark.parametrize("case", KERNEL_CASES, ids=str)
def test_kernel_equals_nested_loops(case: Case, dtype: str) -> None:
    received = getattr(reference, case.kernel)(**arguments(case, dtype))
    expected = getattr(loops, case.kernel)(**arguments(case, dtype))
    assert_near(received, expected, dtype, case.length)


def doubled(given: dict[str, Any]) -> dict[str, Any]:
    """The same arguments with every list of arrays in float64."""
    return {k: [a.astype(np.float64) for a in v] if isinstance(v, list) else v for k, v in given.items()}


def assert_same_state(received: dict[str, Any], expected: dict[str, Any], dtype: str) -> None:
    """Parameters and slots are near each other."""
    for name in ("params", *SLOTS):
        if expected.get(name) is not None:
            assert_near(tuple(received[name]), tuple(expected[name]), dtype, 4)


@both_dtypes
@pytest.mark.parametrize("case", STEP_CASES, ids=str)
def test_step_equals_its_formula_one_number_at_a_time(case: Case, dtype: str) -> None:
    received, expected = arguments(case, dtype), doubled(arguments(case, dtype))
    getattr(reference, case.kernel)(**received)
    getattr(loops, case.kernel)(**expected)
    assert_same_state(received, expected, dtype)


@pytest.mark.parametrize("case", STEP_CASES, ids=str)
def test_thirty_steps_from_empty_slots_equal_the_formula(case: Case) -> None:
    """Both see the same gradients: were they computed from the parameters, a chaotic path would amplify roundings."""
    received = arguments(case, "float64")
    for name in SLOTS:
        for slot in received.get(name) or []:
            slot[...] = 0
    expected = {k: [a.copy() for a in v] if isinstance(v, list) else v for k, v in received.items()}
    rng, product = np.random.default_rng(3), 1.0
    for step in range(1, 31):
        now, after = (0.9 * (1 - 0.5 * 0.96**t) for t in (step, step + 1))
        product *= now
        changing = {"step": step, "momentum_schedule": (now, after, product)}
        grads = [rng.standard_normal(p.shape) for p in received["params"]]
        for given, module in ((received, reference), (expected, loops)):
            given |= {"grads": grads} | {k: v for k, v in changing.items() if k in given}
            getattr(module, case.kernel)(**given)
    assert_same_state(received, expected, "float64")


# ---------------------------------------------------------------------------------------------------- adjoints


def assert_adjoint(ax: Array, y: Array, x: Array, at_y: Array) -> None:
    """<A x, y> == <x, A^T y>."""
    left, right = np.vdot(ax, y), np.vdot(x, at_y)
    assert left == pytest.approx(right, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("g", GEOMETRIES, ids=lambda g: g.label)
def test_convolution_and_its_two_gradients_are_one_trilinear_form(g: Geometry) -> None:
    options: dict[str, Any] = {"strides": g.strides, "padding": g.padding, "dilation": g.dilation, "groups": g.groups}
    w_shape = (*g.window, g.x_shape[3] // g.groups, g.filters)
    x, w, gy = normals(g.x_shape, w_shape, (g.x_shape[0], *g.output_size, g.filters))
    y = reference.conv2d(x, w, None, **options)
    assert_adjoint(y, gy, x, reference.conv2d_input_grad(gy, w, g.input_size, **options))
    assert_adjoint(y, gy, w, reference.conv2d_weight_grad(x, gy, g.window, **options))


@pytest.mark.parametrize("g", GEOMETRIES, ids=lambda g: g.label)
def test_col2im_is_the_adjoint_of_im2col(g: Geometry) -> None:
    n, _, _, c = g.x_shape
    x, cols = normals(g.x_shape, (n, *g.output_size, *g.window, c))
    options = (g.strides, g.padding, g.dilation)
    assert_adjoint(reference.im2col(x, g.window, *options), cols, x, reference.col2im(cols, g.input_size, *options))


@pytest.mark.parametrize("g", POOL_GEOMETRIES, ids=lambda g: g.label)
def test_pooling_backwards_are_adjoints(g: Geometry) -> None:
    n, _, _, c = g.x_shape
    x, gy = normals(g.x_shape, (n, *g.output_size, c))
    options = (g.window, g.strides, g.padding)
    averages = reference.avg_pool2d(x, *options)
    assert_adjoint(averages, gy, x, reference.avg_pool2d_backward(gy, g.input_size, *options))
    _, where = reference.max_pool2d(x, *options)
    assert_adjoint(reference.gather2d(x, where), gy, x, reference.scatter2d(gy, where, g.input_size))


def test_scatter2d_adds_up_what_lands_on_one_pixel() -> None:
    gy = np.arange(6.0).reshape(1, 3, 2, 1)
    where = np.full((1, 3, 2, 1), 5, np.int32)
    expected = np.zeros((1, 2, 4, 1))
    expected[0, 1, 1, 0] = 15
    np.testing.assert_array_equal(reference.scatter2d(gy, where, (2, 4)), expected)


# ---------------------------------------------------------------------------------------------------- max pooling


@pytest.mark.parametrize(
    "case", [c for c in KERNEL_CASES if c.kernel in ("max_pool2d", "adaptive_max_pool2d")], ids=str
)
def test_where_is_the_pixel_that_max_pooling_returned(case: Case) -> None:
    given = arguments(case, "float32")
    y, where = getattr(reference, case.kernel)(**given)
    np.testing.assert_array_equal(loops.gather2d(given["x"], where), y)


def test_max_pooling_takes_the_first_of_equals() -> None:
    _, where = reference.max_pool2d(np.ones((1, 4, 4, 1)), (2, 2), (2, 2), NO_PADDING)
    np.testing.assert_array_equal(where[0, :, :, 0], [[0, 2], [8, 10]])


def test_max_pooling_lets_nan_win_and_names_the_first_one() -> None:
    x = np.array([[np.inf, 1.0, np.nan], [np.nan, 2.0, 3.0]]).reshape(1, 2, 3, 1)
    for y, where in (
        reference.max_pool2d(x, (2, 3), (1, 1), NO_PADDING),
        reference.adaptive_max_pool2d(x, (1, 1)),
    ):
        assert np.isnan(y).all()
        assert where.ravel().tolist() == [2]


@pytest.mark.parametrize("value", [-5.0, -LARGEST, -np.inf])
def test_padding_never_wins_and_where_stays_in_the_image(value: float) -> None:
    x = np.full((1, 3, 2, 1), value, np.float32)
    y, where = reference.max_pool2d(x, (3, 3), (1, 1), ((1, 1), (2, 1)))
    np.testing.assert_array_equal(y, np.full((1, 3, 3, 1), value, np.float32))
    np.testing.assert_array_equal(where, loops.max_pool2d(x, (3, 3), (1, 1), ((1, 1), (2, 1)))[1])


def test_average_of_a_window_wholly_in_the_padding_is_zero() -> None:
    y = reference.avg_pool2d(np.ones((1, 2, 2, 1)), (1, 2), (1, 1), ((1, 0), (2, 0)))
    np.testing.assert_array_equal(y[0, :, :, 0], [[0, 0, 0], [0, 1, 1], [0, 1, 1]])


# ---------------------------------------------------------------------------------------------------- statistics


def test_float32_batch_norm_keeps_its_digits_far_from_zero_and_over_many_rows() -> None:
    x = (1000 + np.random.default_rng(0).standard_normal((200_000, 3))).astype(np.float32)
    _, mean, var = reference.batch_norm(x, np.ones(3, np.float32), np.zeros(3, np.float32), 1e-3)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(var, x.astype(np.float64).var(axis=0), rtol=1e-6)


@pytest.mark.parametrize("positions", [1, 4])
def test_group_norm_of_every_group_has_mean_beta_and_deviation_gamma(positions: int) -> None:
    [x] = normals((3, 4, 6))
    y, _, _ = reference.group_norm(x, np.full((positions, 6), 2.0), np.full((positions, 6), 5.0), 2, 0.0)
    grouped = y.reshape(3, 4, 2, 3)
    np.testing.assert_allclose(grouped.mean(axis=(1, 3)), np.full((3, 2), 5.0), rtol=1e-12)
    np.testing.assert_allclose(grouped.std(axis=(1, 3)), np.full((3, 2), 2.0), rtol=1e-12)


# ---------------------------------------------------------------------------------------------------- activations


@both_dtypes
@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu", "elu", "sigmoid", "tanh"])
def test_activations_pass_nan_through_and_stay_finite_where_they_should(name: Any, dtype: str) -> None:
    x = np.array([np.nan, -1e4, -100.0, 0.0, 1e4], dtype)
    limits = {
        "relu": [np.nan, 0, 0, 0, 1e4],
        "relu6": [np.nan, 0, 0, 0, 6],
        "leaky_relu": [np.nan, -5e3, -50, 0, 1e4],
        "elu": [np.nan, -0.5, -0.5, 0, 1e4],
        "sigmoid": [np.nan, 0, math.exp(-100), 0.5, 1],
        "tanh": [np.nan, -1, -1, 0, 1],
    }
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = reference.activation(x, name, 0.5)
    np.testing.assert_allclose(y, np.array(limits[name], dtype), rtol=1e-6, atol=0)


def test_a_dead_relu_blocks_an_infinite_gradient() -> None:
    gy = np.array([np.inf, -np.inf, np.nan, 2.0])
    np.testing.assert_array_equal(reference.activation_backward(gy, np.zeros(4), "relu"), np.zeros(4))


# ---------------------------------------------------------------------------------------------------- random numbers


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter: str, key: str, words: str) -> None:
    lanes = tuple(np.uint32(int(word, 16)) for word in counter.split())
    received = philox4x32(lanes, tuple(np.uint32(int(word, 16)) for word in key.split()))  # type: ignore[arg-type]
    assert " ".join(f"{int(word):08x}" for word in received) == words


def test_a_longer_stream_begins_with_the_shorter_one() -> None:
    np.testing.assert_array_equal(reference.philox_words(101, 5, 9)[:7], reference.philox_words(7, 5, 9))


def test_streams_and_seeds_differ_in_their_high_words_too() -> None:
    first = [tuple(reference.philox_words(4, seed, stream)) for seed in (1, 1 + 2**32) for stream in (1, 1 + 2**32)]
    assert len(set(first)) == 4


def test_dropout_is_linear_and_its_own_adjoint() -> None:
    x, gy = normals((4, 5, 3), (4, 5, 3))
    y, kept = reference.dropout(x, 0.4, seed=11, stream=2)
    assert_adjoint(y, gy, x, reference.dropout_backward(gy, kept, 0.4))
    np.testing.assert_array_equal(y, reference.dropout_backward(x, kept, 0.4))


# ---------------------------------------------------------------------------------------------------- classification


@both_dtypes
def test_cross_entropy_of_saturated_logits_is_exact(dtype: str) -> None:
    logits = np.array([[1e4, 0.0, -1e4], [1e4, 0.0, -1e4], [1e4, 1e4, -1e4]], dtype)
    for targets in (np.array([0, 2, 1]), np.eye(3, dtype=dtype)[[0, 2, 1]]):
        loss, p = reference.softmax_cross_entropy(logits, targets)
        np.testing.assert_allclose(loss, [0.0, 2e4, math.log(2)], rtol=1e-6)
        np.testing.assert_array_equal(p, np.array([[1, 0, 0], [1, 0, 0], [0.5, 0.5, 0]], dtype))
        gradient = reference.softmax_cross_entropy_backward(np.array([1.0, 2.0, -1.0], dtype), p, targets)
        np.testing.assert_array_equal(gradient, np.array([[0, 0, 0], [2, 0, -2], [-0.5, 0.5, 0]], dtype))


@pytest.mark.parametrize("targets", [np.array([0]), np.array([[1, 0, 0]], np.float32)], ids=["classes", "one_hot"])
def test_cross_entropy_of_the_largest_finite_logits_is_not_nan(targets: Array) -> None:
    logits = np.array([[LARGEST, 0, -LARGEST]], np.float32)
    with np.errstate(over="ignore"):  # their difference is infinite
        loss, p = reference.softmax_cross_entropy(logits, targets)
    np.testing.assert_array_equal(loss, [0])
    np.testing.assert_array_equal(p, [[1, 0, 0]])


def test_log_softmax_keeps_what_softmax_rounds_away() -> None:
    logits = np.array([[0.0, -1000.0, -2000.0]])
    np.testing.assert_array_equal(reference.softmax(logits), [[1, 0, 0]])
    np.testing.assert_array_equal(reference.log_softmax(logits), logits)
