"""Pooling: where windows lie, what padding counts for, who gets the gradient, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minicnn import functional as F
from minicnn.functional.geometry import ceil_mode_padding, output_size
from minicnn.functional.pool import gather2d, scatter2d
from minicnn.tensor import Tensor


def image(rows: Any, requires_grad: bool = False) -> Tensor:
    """One image of one channel."""
    return Tensor(np.array(rows, np.float64)[None, :, :, None], requires_grad=requires_grad)


def plane(y: Tensor) -> np.ndarray[Any, Any]:
    return y.numpy()[0, :, :, 0]


# --------------------------------------------------------------------------------------------------- windows


def test_same_padding_hangs_the_odd_window_over_the_right_edge() -> None:
    x = image([[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(plane(F.max_pool2d(x, 2, padding="same")), [[5, 6]])
    np.testing.assert_array_equal(plane(F.max_pool2d(x, 2)), [[5]])


def test_padding_never_wins_over_negative_pixels() -> None:
    x = image([[-1, -2, -3], [-4, -5, -6]])
    np.testing.assert_array_equal(plane(F.max_pool2d(x, 2, strides=1, padding="same")), [[-1, -2, -3], [-4, -5, -6]])


def test_strides_are_those_of_the_window_where_left_out() -> None:
    x = image(np.arange(24).reshape(4, 6))
    np.testing.assert_array_equal(plane(F.max_pool2d(x, (2, 3))), [[8, 11], [20, 23]])


def test_ceil_mode_keeps_a_last_window_that_fits_only_in_part() -> None:
    x = image(np.arange(15).reshape(3, 5))
    np.testing.assert_array_equal(plane(F.max_pool2d(x, 2)), [[6, 8]])
    np.testing.assert_array_equal(plane(F.max_pool2d(x, 2, ceil_mode=True)), [[6, 8, 9], [11, 13, 14]])


def test_in_ceil_mode_no_window_starts_in_the_far_padding() -> None:
    # Three windows of 2 would start at -1, 2 and 5; the last lies wholly beyond the five rows, so it is dropped.
    padding = ceil_mode_padding((5, 5), (2, 2), (3, 3), ((1, 1), (1, 1)))
    assert output_size((5, 5), (2, 2), (3, 3), padding) == (2, 2)


def test_ceil_mode_changes_nothing_where_the_windows_fit() -> None:
    assert ceil_mode_padding((6, 7), (2, 3), (2, 2), ((0, 0), (1, 1))) == ((0, 0), (1, 1))


# --------------------------------------------------------------------------------------------------- averages


def test_padding_is_left_out_of_the_mean() -> None:
    x = image([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    np.testing.assert_array_equal(plane(F.avg_pool2d(x, 2, padding="same")), [[3, 4.5], [7.5, 9]])


def test_padding_is_counted_as_zeros_when_asked() -> None:
    x = image([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    y = F.avg_pool2d(x, 2, padding="same", count_include_pad=True)
    np.testing.assert_array_equal(plane(y), [[3, 2.25], [3.75, 2.25]])


def test_what_ceil_mode_adds_is_not_counted_even_when_padding_is() -> None:
    x = image([[2, 4, 6, 8]])
    y = F.avg_pool2d(x, (1, 3), strides=(1, 2), padding=(0, 1), ceil_mode=True, count_include_pad=True)
    # windows (0, 2, 4), (4, 6, 8), (8, 0): the one zero is padding and counts, the place after it does not exist
    np.testing.assert_array_equal(plane(y), [[2, 6, 4]])


def test_adaptive_bins_overlap_where_the_size_does_not_divide() -> None:
    x = image(np.array([[1, 2, 4, 8, 16]]))
    np.testing.assert_allclose(plane(F.adaptive_avg_pool2d(x, (1, 3))), [[1.5, 14 / 3, 12]])  # 0-1, 1-3, 3-4
    np.testing.assert_array_equal(plane(F.adaptive_max_pool2d(x, (1, 3))), [[2, 8, 16]])


def test_an_adaptive_grid_may_be_finer_than_the_image() -> None:
    x = image([[1, 3]])
    np.testing.assert_array_equal(plane(F.adaptive_avg_pool2d(x, (1, 3))), [[1, 2, 3]])


def test_global_pooling_leaves_one_number_a_channel(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 4, 3, 5))
    np.testing.assert_allclose(F.global_avg_pool2d(Tensor(x)).numpy(), np.einsum("nhwc->nc", x) / 12)
    np.testing.assert_array_equal(F.global_max_pool2d(Tensor(x)).numpy(), np.sort(x.reshape(2, 12, 5), axis=1)[:, -1])
    assert F.global_avg_pool2d(Tensor(x), keepdims=True).shape == (2, 1, 1, 5)
    assert F.global_max_pool2d(Tensor(x), keepdims=True).shape == (2, 1, 1, 5)


# --------------------------------------------------------------------------------------------------- gradients


def test_the_first_of_equals_gets_the_gradient() -> None:
    x = image([[1, 7, 7], [7, 0, 7]], requires_grad=True)
    F.max_pool2d(x, (2, 3)).backward(np.full((1, 1, 1, 1), 5.0))
    np.testing.assert_array_equal(plane(x.grad), [[0, 5, 0], [0, 0, 0]])


def test_a_pixel_that_wins_several_windows_gets_all_their_gradients() -> None:
    x = image([[0, 9, 1]], requires_grad=True)
    F.max_pool2d(x, (1, 2), strides=1).backward(np.array([3.0, 4.0]).reshape(1, 1, 2, 1))
    np.testing.assert_array_equal(plane(x.grad), [[0, 7, 0]])


def test_nan_wins_and_takes_the_gradient() -> None:
    x = image([[1, np.nan, 5]], requires_grad=True)
    y = F.max_pool2d(x, (1, 3))
    y.backward(np.full((1, 1, 1, 1), 2.0))
    assert np.isnan(plane(y)).all()
    np.testing.assert_array_equal(plane(x.grad), [[0, 2, 0]])


def test_an_average_spreads_its_gradient_over_the_pixels_inside() -> None:
    x = image([[1, 2, 3]], requires_grad=True)
    F.avg_pool2d(x, (1, 2), padding="same").backward(np.array([4.0, 6.0]).reshape(1, 1, 2, 1))
    np.testing.assert_array_equal(plane(x.grad), [[2, 2, 6]])


def test_gather_reads_what_scatter_wrote(rng: np.random.Generator) -> None:
    where = np.array([[5, 0], [3, 1]], np.int32).reshape(1, 2, 2, 1)  # pixels of a 2 x 3 image
    values = Tensor(rng.standard_normal((1, 2, 2, 1)))
    written = scatter2d(values, where, (2, 3))
    v = plane(values)
    np.testing.assert_array_equal(plane(written), [[v[0, 1], v[1, 1], 0], [v[1, 0], 0, v[0, 0]]])
    np.testing.assert_array_equal(gather2d(written, where).numpy(), values.numpy())


def test_the_second_derivative_of_max_pooling_follows_the_same_choice() -> None:
    x = image([[1.0, 3.0, 2.0, -4.0]], requires_grad=True)
    (F.max_pool2d(x, (1, 2)) ** 3).sum().backward(create_graph=True)
    np.testing.assert_array_equal(plane(x.grad), [[0, 27, 12, 0]])
    first, x.grad = x.grad, None
    first.backward(np.array([1.0, 10, 100, 1000]).reshape(1, 1, 4, 1))
    np.testing.assert_array_equal(plane(x.grad), [[0, 10 * 6 * 3, 100 * 6 * 2, 0]])


# --------------------------------------------------------------------------------------------------- errors

X = Tensor(np.ones((1, 5, 4, 3)))


@pytest.mark.parametrize("pool", [F.max_pool2d, F.avg_pool2d])
@pytest.mark.parametrize(
    ("x", "options", "error", "words"),
    [
        (X[0], {"window": 2}, ValueError, r"x must have four axes .*Received: shape \(5, 4, 3\)"),
        (X.long(), {"window": 2}, TypeError, "x must be float32 or float64.*Received: int64"),
        (X, {"window": 6}, ValueError, r"the window must fit .*Received: window \(6, 6\).*padded input \(5, 4\)"),
        (X, {"window": (2, 0)}, ValueError, r"window must be an integer of at least 1.*Received: \(2, 0\)"),
        (X, {"window": 2, "strides": "2"}, ValueError, "strides .*Received: '2'"),
        (X, {"window": 2, "padding": "full"}, ValueError, "padding must be one of .*Received: 'full'"),
        (X, {"window": 2, "padding": 2}, ValueError, r"padding must be smaller than the window.*window=\(2, 2\)"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_received(
    pool: Callable[..., Tensor], x: Tensor, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=f"{pool.__name__}: {words}"):
        pool(x, **options)


@pytest.mark.parametrize("pool", [F.adaptive_avg_pool2d, F.adaptive_max_pool2d])
def test_an_adaptive_grid_needs_positive_sizes(pool: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match=r"output_size must be an integer of at least 1.*Received: \(0, 2\)"):
        pool(X, (0, 2))
