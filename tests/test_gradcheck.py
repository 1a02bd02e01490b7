"""The checker is checked: right gradients pass, and each way of being wrong fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn.autograd import Function, grad
from minicnn.gradcheck import GradcheckError, gradcheck, gradgradcheck
from minicnn.tensor import Tensor


def cube_with(wrong: Any) -> type[Function]:
    """x**3 whose backward is passed through `wrong`."""

    class Cube(Function):
        def forward(self, x: Any) -> Any:
            self.save_for_backward(x)
            return x**3

        def backward(self, gy: Tensor) -> Any:
            (x,) = self.saved_tensors
            return wrong(3 * x * x * gy)

    return Cube


def inputs(*shape: int) -> Tensor:
    return Tensor(np.random.default_rng(0).standard_normal(shape))


@pytest.mark.parametrize("shape", [(3, 3), (1,), (), (20, 20)], ids=str)
def test_a_right_gradient_passes(shape: tuple[int, ...]) -> None:
    cube = cube_with(lambda g: g).apply
    assert gradcheck(cube, inputs(*shape))
    assert gradgradcheck(cube, inputs(*shape))


@pytest.mark.parametrize("shape", [(3, 3), (20, 20)], ids=["whole Jacobian", "random directions"])
@pytest.mark.parametrize(
    "wrong",
    [lambda g: g * 0, lambda g: -g, lambda g: g * 1.001, lambda g: g.T],
    ids=["zeroed", "negated", "scaled", "transposed"],
)
def test_a_wrong_gradient_fails(wrong: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(GradcheckError, match="FAILED"):
        gradcheck(cube_with(wrong).apply, inputs(*shape))


def test_a_zeroed_softmax_passes_a_check_with_ones_and_fails_ours() -> None:
    class Softmax(Function):
        def forward(self, x: Any) -> Any:
            return self.kernels.softmax(np.ascontiguousarray(x))

        def backward(self, gy: Tensor) -> Tensor:
            return gy * 0

    x = inputs(3, 4).requires_grad_()
    (weak,) = grad(Softmax.apply(x), x, np.ones((3, 4)))
    moved = x.data.copy()
    moved[1, 2] += 1e-3
    rows_add_up = F.softmax(Tensor(moved)).data.sum() - F.softmax(x).data.sum()
    np.testing.assert_allclose(weak.data[1, 2], rows_add_up / 1e-3, atol=1e-9)  # ones see nothing wrong
    assert not gradcheck(Softmax.apply, inputs(3, 4), raise_exception=False)


def test_a_wrong_second_derivative_fails_only_the_second_check() -> None:
    class Detached(Function):
        def forward(self, x: Any) -> Any:
            self.save_for_backward(x)
            return x**3

        def backward(self, gy: Tensor) -> Tensor:
            (x,) = self.saved_tensors
            return 3 * x.detach() * x.detach() * gy

    assert gradcheck(Detached.apply, inputs(4))
    assert not gradgradcheck(Detached.apply, inputs(4), raise_exception=False)


def test_the_report_names_the_worst_element_with_both_values() -> None:
    class OneWrong(Function):
        def forward(self, x: Any) -> Any:
            return 2 * x

        def backward(self, gy: Tensor) -> Tensor:
            weights = np.full((2, 3), 2.0)
            weights[1, 2] = 5.0
            return gy * Tensor(weights)

    report = gradcheck(OneWrong.apply, inputs(2, 3), raise_exception=False)
    assert report.worst is not None
    assert "input 0 [1, 2]" in report.worst.where
    np.testing.assert_allclose([report.worst.analytic, report.worst.numeric], [5.0, 2.0], rtol=1e-8)
    assert "analytic 5, numeric 2" in str(report)


def test_float32_is_refused_with_the_mend() -> None:
    with pytest.raises(TypeError, match=r"x\.double\(\)"):
        gradcheck(F.exp, minicnn.tensor([1.0]))


def test_something_to_differentiate_is_needed() -> None:
    with pytest.raises(ValueError, match="floating point tensor"):
        gradcheck(F.exp, [3])


def test_only_inputs_that_require_a_gradient_are_checked_where_some_do() -> None:
    class Half(Function):
        def forward(self, a: Any, b: Any) -> Any:
            self.save_for_backward(a)
            return a * b

        def backward(self, gy: Tensor) -> Any:
            (a,) = self.saved_tensors
            return None, gy * a

    a, b = inputs(3), inputs(3).requires_grad_()
    assert gradcheck(Half.apply, [a, b])
    assert not gradcheck(Half.apply, [a, inputs(3)], raise_exception=False)


def test_a_kink_is_told_from_a_wrong_gradient() -> None:
    near_the_kink, at_the_kink = Tensor(np.array([3e-6, 1.0, -1.0])), Tensor(np.array([0.0, 1.0, -1.0]))
    report = gradcheck(F.abs, near_the_kink)
    assert report.kinks == 1
    assert "kink" in str(report)

    class WrongAtZero(Function):
        def forward(self, x: Any) -> Any:
            self.save_for_backward(x)
            return np.abs(x)

        def backward(self, gy: Tensor) -> Tensor:
            (x,) = self.saved_tensors
            return gy * F.where(x == 0, 3.0, F.sign(x))

    assert not gradcheck(WrongAtZero.apply, at_the_kink, raise_exception=False)


def test_a_function_of_chance_is_found_out() -> None:
    report = gradcheck(lambda x: F.dropout(x, 0.5), inputs(5, 5), raise_exception=False)
    assert any("second run" in problem for problem in report.problems)


def test_a_function_that_writes_its_input_is_found_out() -> None:
    class Writes(Function):
        def forward(self, x: Any) -> Any:
            x += 1e-9
            return x * 2

        def backward(self, gy: Tensor) -> Tensor:
            return gy * 2

    report = gradcheck(Writes.apply, inputs(3), raise_exception=False)
    assert any("input was changed" in problem for problem in report.problems)


def test_a_function_that_ignores_strides_is_found_out() -> None:
    class IgnoresStrides(Function):
        def forward(self, x: Any) -> Any:
            return np.lib.stride_tricks.as_strided(x, x.shape, (x.itemsize,)) * 2

        def backward(self, gy: Tensor) -> Tensor:
            return gy * 2

    report = gradcheck(IgnoresStrides.apply, inputs(4), raise_exception=False)
    assert any("not contiguous" in problem for problem in report.problems)


def test_a_nan_is_no_pass() -> None:
    report = gradcheck(cube_with(lambda g: g * float("nan")).apply, inputs(2), raise_exception=False)
    assert not report
