"""Convolution: padding, groups, the transposed form, which gradients are computed, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn.autograd import grad
from minicnn.backend import current_backend
from minicnn.functional.geometry import output_size, pair, resolve_padding
from minicnn.tensor import Tensor
from tests import loops


def normal(rng: np.random.Generator, *shape: int, requires_grad: bool = False) -> Tensor:
    return Tensor(rng.standard_normal(shape), requires_grad=requires_grad)


def picking_kernel(kh: int, kw: int, k: int, l: int) -> Tensor:
    """A kernel that copies tap (k, l) of its window."""
    w = np.zeros((kh, kw, 1, 1))
    w[k, l] = 1
    return Tensor(w)


# --------------------------------------------------------------------------------------------------- padding


def test_same_padding_puts_the_odd_row_at_the_bottom_and_the_odd_column_at_the_right() -> None:
    x = np.arange(1.0, 13).reshape(1, 3, 4, 1)
    y = F.conv2d(Tensor(x), picking_kernel(2, 2, 1, 1), padding="same").numpy()[0, :, :, 0]
    np.testing.assert_array_equal(y, [[6, 7, 8, 0], [10, 11, 12, 0], [0, 0, 0, 0]])


def test_same_padding_at_stride_2_needs_no_row_above_an_even_image() -> None:
    assert resolve_padding("same", (4, 5), (3, 3), (2, 2)) == ((0, 1), (1, 1))


@pytest.mark.parametrize(
    ("size", "window", "stride", "dilation"), [(7, 3, 1, 1), (7, 4, 2, 1), (8, 1, 3, 1), (9, 3, 2, 2)]
)
def test_same_padding_gives_the_size_divided_by_the_stride_rounded_up(
    size: int, window: int, stride: int, dilation: int
) -> None:
    windows, strides, dilations = (window, window), (stride, stride), (dilation, dilation)
    padding = resolve_padding("same", (size, size), windows, strides, dilations)
    rounded_up = int(np.ceil(size / stride))
    assert output_size((size, size), windows, strides, padding, dilations) == (rounded_up, rounded_up)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("VALID", ((0, 0), (0, 0))),
        (2, ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        ([[1, 0], [0, 2]], ((1, 0), (0, 2))),
    ],
)
def test_padding_can_be_said_in_many_ways(given: Any, meant: Any) -> None:
    assert resolve_padding(given, (5, 5), (3, 3), (1, 1)) == meant


def test_explicit_padding_of_four_sides_agrees_with_nested_loops(rng: np.random.Generator) -> None:
    x, w, b = normal(rng, 2, 5, 4, 3), normal(rng, 3, 2, 3, 5), normal(rng, 5)
    y = F.conv2d(x, w, b, strides=(2, 1), padding=((1, 0), (0, 2)))
    want = loops.conv2d(x.numpy(), w.numpy(), b.numpy(), (2, 1), ((1, 0), (0, 2)), (1, 1), 1)
    np.testing.assert_allclose(y.numpy(), want, rtol=1e-13)


def test_dilation_reads_pixels_that_lie_apart() -> None:
    x = np.zeros((1, 1, 9, 1))
    x[0, 0, [0, 4, 8], 0] = 1, 2, 3
    w = np.array([5.0, 7.0, 11.0]).reshape(1, 3, 1, 1)
    y = F.conv2d(Tensor(x), Tensor(w), dilation=(1, 4))
    np.testing.assert_array_equal(y.numpy(), np.full((1, 1, 1, 1), 5 * 1 + 7 * 2 + 11 * 3.0))


# --------------------------------------------------------------------------------------------------- groups


def test_a_grouped_convolution_is_one_convolution_for_each_group(rng: np.random.Generator) -> None:
    x, w = normal(rng, 2, 5, 4, 6), normal(rng, 3, 2, 2, 9)
    halves = [F.conv2d(x[..., 2 * g : 2 * g + 2], w[..., 3 * g : 3 * g + 3]).numpy() for g in range(3)]
    np.testing.assert_allclose(F.conv2d(x, w, groups=3).numpy(), np.concatenate(halves, axis=-1), rtol=1e-13)


def test_a_depthwise_output_c_times_m_plus_m_is_channel_c_under_its_kernel_m(rng: np.random.Generator) -> None:
    x, w = normal(rng, 2, 5, 4, 3), normal(rng, 3, 2, 3, 2)
    y = F.depthwise_conv2d(x, w, padding="same").numpy()
    for c in range(3):
        for m in range(2):
            alone = F.conv2d(x[..., c : c + 1], w[:, :, c : c + 1, m : m + 1], padding="same").numpy()
            np.testing.assert_allclose(y[..., c * 2 + m], alone[..., 0], rtol=1e-13)


def test_a_separable_convolution_mixes_the_depthwise_maps_pixel_by_pixel(rng: np.random.Generator) -> None:
    x, depthwise, pointwise, b = (normal(rng, *s) for s in [(2, 5, 4, 3), (3, 2, 3, 2), (1, 1, 6, 4), (4,)])
    maps = F.depthwise_conv2d(x, depthwise, strides=(2, 1)).numpy()
    y = F.separable_conv2d(x, depthwise, pointwise, b, strides=(2, 1)).numpy()
    np.testing.assert_allclose(y, maps @ pointwise.numpy()[0, 0] + b.numpy(), rtol=1e-12)


# --------------------------------------------------------------------------------------------------- gradients


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the convolution kernels that run, in order."""
    names: list[str] = []
    kernels = current_backend().kernels

    def spy(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            names.append(name)
            return kernel(*args, **options)

        return run

    for name in ("conv2d", "conv2d_input_grad", "conv2d_weight_grad"):
        monkeypatch.setattr(kernels, name, spy(name, getattr(kernels, name)))
    return names


def test_the_first_layer_computes_no_input_gradient(rng: np.random.Generator, called: list[str]) -> None:
    w = normal(rng, 3, 3, 2, 4, requires_grad=True)
    F.conv2d(normal(rng, 1, 5, 5, 2), w).sum().backward()
    assert called == ["conv2d", "conv2d_weight_grad"]


def test_a_frozen_layer_computes_no_weight_gradient(rng: np.random.Generator, called: list[str]) -> None:
    x = normal(rng, 1, 5, 5, 2, requires_grad=True)
    F.conv2d(x, normal(rng, 3, 3, 2, 4)).sum().backward()
    assert called == ["conv2d", "conv2d_input_grad"]


def test_the_bias_gradient_is_summed_over_batch_and_pixels(rng: np.random.Generator) -> None:
    x, w, b = normal(rng, 2, 5, 4, 3), normal(rng, 3, 2, 3, 5), normal(rng, 5, requires_grad=True)
    y = F.conv2d(x, w, b)
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    np.testing.assert_allclose(b.grad.numpy(), np.einsum("nijf->f", gy), rtol=1e-12)


@pytest.mark.parametrize("name", ["relu", "relu6", "sigmoid", "tanh"])
def test_an_activation_in_passing_has_the_value_and_gradients_of_one_applied_after(
    rng: np.random.Generator, name: Any
) -> None:
    inputs = [normal(rng, *s, requires_grad=True) for s in [(2, 5, 4, 3), (3, 2, 3, 5), (5,)]]
    fused = F.conv2d(*inputs, activation=name)
    apart = getattr(F, name)(F.conv2d(*inputs))
    np.testing.assert_allclose(fused.numpy(), apart.numpy(), rtol=1e-14)
    gy = rng.standard_normal(fused.shape)
    for one, other in zip(grad(fused, inputs, gy), grad(apart, inputs, gy), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-12, atol=1e-14)


def test_a_transposed_view_is_convolved_like_a_copy_and_gets_its_gradient(rng: np.random.Generator) -> None:
    x = normal(rng, 2, 3, 4, 5, requires_grad=True)  # channels first
    w = normal(rng, 2, 3, 3, 4)
    y = F.conv2d(x.permute(0, 2, 3, 1), w)
    copy = Tensor(x.numpy().transpose(0, 2, 3, 1), requires_grad=True)
    z = F.conv2d(copy, w)
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    z.backward(gy)
    np.testing.assert_array_equal(y.numpy(), z.numpy())
    np.testing.assert_array_equal(x.grad.numpy().transpose(0, 2, 3, 1), copy.grad.numpy())


def test_input_gradient_and_weight_gradient_are_the_adjoints_of_convolution(rng: np.random.Generator) -> None:
    x, w = normal(rng, 2, 8, 7, 4), normal(rng, 3, 2, 2, 6)
    options: dict[str, Any] = {"strides": (3, 2), "padding": ((1, 0), (0, 2)), "groups": 2}
    y = F.conv2d(x, w, **options)
    gy = normal(rng, *y.shape)
    form = (gy * y).sum().item()
    gx, gw = F.conv2d_input_grad(gy, w, (8, 7), **options), F.conv2d_weight_grad(x, gy, (3, 2), **options)
    np.testing.assert_allclose([(gx * x).sum().item(), (gw * w).sum().item()], [form, form], rtol=1e-12)


# --------------------------------------------------------------------------------------------------- transposed


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "output_padding", "want"),
    [
        (4, 5, 2, "same", None, 8),  # the DCGAN's step
        (4, 3, 1, "same", None, 4),
        (5, 3, 2, "same", 0, 9),  # (5 - 1) * 2 + 3 % 2 + 0
        (5, 4, 3, "same", 2, 14),  # (5 - 1) * 3 + 4 % 2 + 2
        (4, 3, 2, "valid", None, 9),  # (4 - 1) * 2 + 3
        (4, 2, 3, "valid", None, 12),  # (4 - 1) * 3 + max(2, 3)
        (4, 2, 3, "valid", 0, 11),
        (4, 3, 2, 1, 1, 8),  # PyTorch's: (4 - 1) * 2 + 3 - 2 + 1
    ],
)
def test_sizes_of_transposed_convolutions(
    rng: np.random.Generator, size: int, kernel: int, stride: int, padding: Any, output_padding: int | None, want: int
) -> None:
    y = F.conv2d_transpose(
        normal(rng, 1, size, size + 1, 2),
        normal(rng, kernel, kernel, 3, 2),
        strides=stride,
        padding=padding,
        output_padding=output_padding,
    )
    assert y.shape == (1, want, want + stride, 3)


def test_every_pixel_of_a_transposed_convolution_stamps_its_multiple_of_the_kernel(rng: np.random.Generator) -> None:
    x, w, b = rng.standard_normal((2, 3, 2, 2)), rng.standard_normal((3, 4, 5, 2)), rng.standard_normal(5)
    full = np.zeros((2, 3 * 2 + 1, 2 * 3 + 1, 5)) + b  # (3 - 1) * 2 + 3 rows, (2 - 1) * 3 + 4 columns
    for n, i, j, c in np.ndindex(*x.shape):
        full[n, i * 2 : i * 2 + 3, j * 3 : j * 3 + 4] += x[n, i, j, c] * w[:, :, :, c]
    y = F.conv2d_transpose(Tensor(x), Tensor(w), Tensor(b), strides=(2, 3))
    np.testing.assert_allclose(y.numpy(), full, rtol=1e-12)
    same = F.conv2d_transpose(Tensor(x), Tensor(w), Tensor(b), strides=(2, 3), padding="same")
    np.testing.assert_allclose(same.numpy(), full[:, :6, :6], rtol=1e-12)  # the odd row and column come off the end


def test_a_transposed_convolution_is_the_adjoint_of_the_convolution_with_its_kernel(rng: np.random.Generator) -> None:
    x, w, y = normal(rng, 1, 8, 6, 3), normal(rng, 3, 4, 3, 2), normal(rng, 1, 4, 2, 2)
    there = F.conv2d(x, w, strides=(2, 3), padding="same")
    back = F.conv2d_transpose(y, w, strides=(2, 3), padding="same")
    assert there.shape == y.shape
    np.testing.assert_allclose((there * y).sum().item(), (x * back).sum().item(), rtol=1e-12)


# --------------------------------------------------------------------------------------------------- errors

X, W = Tensor(np.ones((1, 5, 4, 3))), Tensor(np.ones((3, 2, 3, 6)))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: F.conv2d(X[0], W), ValueError, r"x must have four axes .* Received: shape \(5, 4, 3\)"),
        (lambda: F.conv2d(X[:0], W), ValueError, r"must not be empty.*Received: \(0, 5, 4, 3\)"),
        (lambda: F.conv2d(X.long(), W), TypeError, "x must be float32 or float64.*Received: int64"),
        (lambda: F.conv2d(X.float(), W), TypeError, "one dtype.*'x': 'float32', 'w': 'float64'"),
        (lambda: F.conv2d(X, W[0]), ValueError, "w must have four axes .*Received"),
        (lambda: F.conv2d(X, W[:, :, :2]), ValueError, r"as many channels .* 3 channels, w of shape \(3, 2, 2, 6\)"),
        (lambda: F.conv2d(X, W, W[0, 0, 0, :4]), ValueError, r"b must have shape \(6,\). Received: shape \(4,\)"),
        (lambda: F.conv2d(X, W, strides=0), ValueError, "strides must be an integer of at least 1.*Received: 0"),
        (lambda: F.conv2d(X, W, strides=(1, 2, 3)), ValueError, r"strides .*Received: \(1, 2, 3\)"),
        (lambda: F.conv2d(X, W, dilation=1.5), ValueError, "dilation .*Received: 1.5"),
        (lambda: F.conv2d(X, W, padding="sam"), ValueError, "padding .*Received: 'sam'. Did you mean 'same'"),
        (lambda: F.conv2d(X, W, padding=-1), ValueError, "padding must be 'valid', 'same'.* Received: -1"),
        (lambda: F.conv2d(X, W, dilation=3), ValueError, r"must fit .*window \(7, 4\).*padded input \(5, 4\)"),
        (lambda: F.conv2d(X, W, groups=0), ValueError, "groups must be an integer of at least 1"),
        (lambda: F.conv2d(X, W[:, :, :1, :4], groups=3), ValueError, "divide evenly .*Received: filters 4"),
        (lambda: F.conv2d(X, W, activation="rleu"), ValueError, "activation must be one of .*Did you mean 'relu'"),  # type: ignore[arg-type]
        (lambda: F.depthwise_conv2d(X, W[:, :, :2]), ValueError, "must have the channels of x"),
        (lambda: F.separable_conv2d(X, W, W), ValueError, r"pointwise_w must be \(1, 1, C \* M, F\)"),
        (lambda: F.conv2d_transpose(X, W), ValueError, r"channels of x on its last axis. Received: x \(1, 5, 4, 3\)"),
        (lambda: F.conv2d_transpose(X, W[..., :3], output_padding=1), ValueError, "output_padding must be smaller"),
        (lambda: F.conv2d_transpose(X, W[..., :3], padding=5), ValueError, "no output is left"),
        (lambda: F.conv2d_input_grad(X, W[..., :3], (9, 9)), ValueError, r"gy must have shape \(1, 7, 8, 3\)"),
        (lambda: F.conv2d_weight_grad(X, X, (3, 2)), ValueError, r"gy must have shape \(1, 3, 3, 3\)"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named_with_what_was_received(
    call: Callable[[], Tensor], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call()


def test_a_pair_refuses_booleans() -> None:
    with pytest.raises(ValueError, match=r"strides must be an integer .* Received: True"):
        pair(True, "strides")


def test_float32_stays_float32(rng: np.random.Generator) -> None:
    x = Tensor(rng.standard_normal((1, 4, 4, 2)), "float32", requires_grad=True)
    w = Tensor(rng.standard_normal((3, 3, 2, 2)), "float32")
    y = F.conv2d(x, w, activation="tanh")
    y.sum().backward()
    assert (y.dtype, x.grad.dtype) == (np.float32, np.float32)


def test_nothing_is_recorded_under_no_grad(rng: np.random.Generator) -> None:
    with minicnn.no_grad():
        y = F.conv2d(normal(rng, 1, 4, 4, 2, requires_grad=True), normal(rng, 3, 3, 2, 2))
    assert not y.requires_grad
