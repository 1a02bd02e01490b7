"""The engine: what is recorded, how gradients add up, what is freed, and what is refused."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn.autograd import Function, grad
from minicnn.modes import detect_anomaly, enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from minicnn.tensor import Tensor


def leaf(*values: float) -> Tensor:
    return minicnn.tensor(list(values), dtype="float64", requires_grad=True)


def test_gradients_add_up_over_uses_and_over_calls() -> None:
    x = leaf(2.0, 3.0)
    (x * x + x).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [5.0, 7.0])
    (x * 10).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [15.0, 17.0])
    x.zero_grad()
    assert x.grad is None


def test_a_diamond_is_walked_once_a_node() -> None:
    calls = []

    class Spy(Function):
        def forward(self, x: Any) -> Any:
            return x * 2

        def backward(self, gy: Tensor) -> Tensor:
            calls.append(gy.data.copy())
            return gy * 2

    x = leaf(1.0)
    y = Spy.apply(x)
    (y * 3 + y * 4).sum().backward()
    np.testing.assert_array_equal(calls, [[7.0]])
    np.testing.assert_array_equal(x.grad.data, [14.0])


def test_a_chain_of_20000_operations_backpropagates() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = y + 1.0
    y.backward()
    np.testing.assert_array_equal(x.grad.data, [1.0])


def test_a_chain_of_20000_operations_can_be_dropped_unwalked() -> None:
    y = leaf(1.0)
    for _ in range(20_000):
        y = y * 1.0
    del y
    gc.collect()
    assert is_grad_enabled()


def test_memory_after_backward_is_what_it_was_before() -> None:
    x = minicnn.ones(300, 300, requires_grad=True)

    def step() -> Tensor:
        y = x
        for _ in range(10):
            y = F.tanh(y @ x) * 0.1
        loss = y.sum()
        loss.backward()
        x.zero_grad()
        return loss

    step()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    loss = step()
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert loss.grad_fn is not None
    assert after - before < 20_000  # one activation is 360,000 bytes


def test_a_second_walk_needs_retain_graph() -> None:
    x = leaf(3.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(x.grad.data, [12.0])
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()


def test_third_derivatives_come_from_create_graph() -> None:
    x = leaf(2.0)
    first = grad((x**4).sum(), x, create_graph=True)[0]
    second = grad(first.sum(), x, create_graph=True)[0]
    third = grad(second.sum(), x)[0]
    np.testing.assert_allclose([first.data[0], second.data[0], third.data[0]], [32.0, 48.0, 48.0])
    assert not third.requires_grad


def test_backward_with_create_graph_leaves_a_gradient_that_can_be_differentiated() -> None:
    x = leaf(3.0)
    (x**3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    np.testing.assert_allclose(grad(x.grad.sum(), x)[0].data, [18.0])


def test_grad_returns_gradients_of_leaves_and_results_and_touches_no_grad() -> None:
    x = leaf(1.0, 2.0)
    y = x * 3
    gx, gy = grad((y * y).sum(), [x, y])
    np.testing.assert_array_equal(gx.data, [18.0, 36.0])
    np.testing.assert_array_equal(gy.data, [6.0, 12.0])
    assert x.grad is None


def test_grad_of_an_unused_input_is_an_error_or_none() -> None:
    x, unused = leaf(1.0), leaf(1.0)
    with pytest.raises(RuntimeError, match="allow_unused"):
        grad((x * 2).sum(), [x, unused])
    assert grad((x * 2).sum(), [x, unused], allow_unused=True)[1] is None


def test_grad_walks_only_where_its_inputs_are() -> None:
    class Forbidden(Function):
        def forward(self, x: Any) -> Any:
            return x * 1.0

        def backward(self, gy: Tensor) -> Tensor:
            raise AssertionError("not on the way to the input")

    x, other = leaf(1.0), leaf(2.0)
    y = x * 2
    result = (y * Forbidden.apply(other)).sum()
    np.testing.assert_array_equal(grad(result, y)[0].data, [2.0])


def test_grad_minds_no_freed_graph_that_it_need_not_walk() -> None:
    x = leaf(2.0)
    trunk = x * x
    trunk.sum().backward()
    inner = trunk.detach().requires_grad_()
    mixed = (inner * 3 + trunk).sum()
    np.testing.assert_array_equal(grad(mixed, inner)[0].data, [3.0])
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        (trunk * 2).sum().backward()


def test_a_vector_needs_a_gradient_of_its_shape() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match=r"y\.sum\(\)"):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"Received: shape \(3,\)"):
        (x * 2).backward(np.ones(3))
    (x * 2).backward(np.array([1.0, 10.0]))
    np.testing.assert_array_equal(x.grad.data, [2.0, 20.0])


def test_an_output_that_needs_no_gradient_cannot_be_differentiated() -> None:
    with pytest.raises(RuntimeError, match="requires_grad=True"):
        minicnn.tensor([1.0]).sum().backward()


# --------------------------------------------------------------------------------------------------- modes


def test_nothing_is_recorded_under_no_grad_and_again_under_enable_grad() -> None:
    x = leaf(1.0)
    with no_grad():
        assert not (x * 2).requires_grad
        with enable_grad():
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_no_grad_decorates_functions_that_may_call_themselves() -> None:
    @no_grad()
    def count(x: Tensor, depth: int) -> bool:
        return count(x, depth - 1) if depth else (x * 2).requires_grad

    assert count(leaf(1.0), 3) is False
    assert is_grad_enabled()


def test_the_mode_is_restored_after_an_error() -> None:
    with pytest.raises(KeyError), set_grad_enabled(False):
        raise KeyError
    assert is_grad_enabled()


def test_each_thread_has_its_own_mode() -> None:
    seen = []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append(is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


# --------------------------------------------------------------------------------------------------- hooks


def test_a_hook_on_a_leaf_sees_the_whole_gradient_once_and_may_replace_it() -> None:
    x = leaf(1.0)
    seen = []

    def hook(gradient: Tensor) -> Tensor:
        seen.append(gradient.item())
        return gradient * 100

    handle = x.register_hook(hook)
    (x * 2 + x * 3).sum().backward()
    assert seen == [5.0]
    np.testing.assert_array_equal(x.grad.data, [500.0])
    handle.remove()
    (x * 1).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [501.0])


def test_a_hook_on_a_result_changes_what_flows_on() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    y.register_hook(lambda gradient: gradient * 0 + 7)
    (y * 5).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [14.0, 14.0])


def test_retain_grad_fills_the_gradient_of_a_result() -> None:
    x = leaf(1.0)
    y = x * 2
    y.retain_grad()
    (y * y).sum().backward()
    np.testing.assert_array_equal(y.grad.data, [4.0])


def test_a_hook_needs_a_gradient_to_wait_for() -> None:
    with pytest.raises(RuntimeError, match="requires a gradient"):
        minicnn.tensor([1.0]).register_hook(lambda gradient: None)


# --------------------------------------------------------------------------------------------------- edits, anomalies


def test_an_edit_of_a_saved_tensor_is_detected() -> None:
    x = leaf(1.0, 2.0)
    w = minicnn.tensor([3.0, 4.0], dtype="float64")
    y = (x * w).sum()
    w[0] = 100.0
    with pytest.raises(RuntimeError, match=r"Mul: .*edited in place"):
        y.backward()


def test_an_edit_through_a_detached_view_is_detected() -> None:
    x = leaf(0.5)
    y = F.exp(x)
    y.detach().fill_(0.0)
    with pytest.raises(RuntimeError, match=r"Exp: .*edited in place"):
        y.sum().backward()


def test_an_edit_of_a_tensor_that_backward_does_not_need_is_no_error() -> None:
    x = leaf(1.0)
    w = minicnn.tensor([3.0], dtype="float64")
    y = (x + w).sum()
    w[0] = 5.0
    y.backward()
    np.testing.assert_array_equal(x.grad.data, [1.0])


def test_an_edit_past_the_tensor_is_detected_in_anomaly_mode() -> None:
    x = leaf(1.0, 2.0)
    with detect_anomaly():
        y = (x * x).sum()
        x.data[0] = 9.0
        with pytest.raises(RuntimeError, match="edited in place"):
            y.backward()


def test_anomaly_mode_names_the_forward_call_that_leads_to_a_nan() -> None:
    x = leaf(0.0)
    with detect_anomaly(), np.errstate(all="ignore"):
        y = F.sqrt(x)  # the call to blame
        with pytest.raises(RuntimeError, match=r"(?s)Sqrt.backward made a NaN.*test_autograd.py.*the call to blame"):
            (y * 0).sum().backward()


def test_a_leaf_owns_the_memory_of_its_gradient() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    seed = minicnn.tensor([1.0, 1.0], dtype="float64")
    (x + y).backward(seed)
    assert not np.shares_memory(x.grad.data, y.grad.data)
    assert not np.shares_memory(x.grad.data, seed.data)


def test_a_gradient_from_a_pool_of_memory_is_not_copied() -> None:
    class Pool(np.ndarray[Any, Any]):
        pass

    made = []

    class Pooled(Function):
        def forward(self, x: Any) -> Any:
            return x * 1.0

        def backward(self, gy: Tensor) -> Tensor:
            block: Any = np.ndarray.__new__(Pool, (24,), np.uint8, bytearray(24))
            made.append(np.ndarray((3,), np.float64, block))
            return Tensor._wrap(made[0])

    x = leaf(1.0, 2.0, 3.0)
    Pooled.apply(x).sum().backward()
    assert x.grad.data is made[0]


# --------------------------------------------------------------------------------------------------- one's own Function


def test_a_function_of_several_outputs_gets_zeros_for_those_not_used() -> None:
    class Pair(Function):
        def forward(self, x: Any) -> Any:
            return x * 2, x * 3

        def backward(self, first: Tensor, second: Tensor) -> Tensor:
            np.testing.assert_array_equal(first.data, [0.0])
            return first * 2 + second * 3

    x = leaf(1.0)
    Pair.apply(x)[1].sum().backward()
    np.testing.assert_array_equal(x.grad.data, [3.0])


def test_a_function_that_wants_no_zeros_gets_none_for_outputs_not_used() -> None:
    class Pair(Function):
        materialize_grads = False

        def forward(self, x: Any) -> Any:
            return x * 2, x * 3

        def backward(self, first: Tensor | None, second: Tensor) -> Tensor:
            assert first is None
            return second * 3

    x = leaf(1.0)
    Pair.apply(x)[1].sum().backward()
    np.testing.assert_array_equal(x.grad.data, [3.0])


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (lambda gy: gy[0], RuntimeError, r"must have shape \(2,\)"),
        (lambda gy: gy.float(), RuntimeError, "dtype float64"),
        (lambda gy: gy.data, TypeError, "must return Tensors"),
        (lambda gy: (gy, gy), RuntimeError, "one gradient"),
    ],
)
def test_a_wrong_gradient_is_refused_by_name(returned: Any, error: type[Exception], message: str) -> None:
    class Wrong(Function):
        def forward(self, x: Any) -> Any:
            return x * 1.0

        def backward(self, gy: Tensor) -> Any:
            return returned(gy)

    with pytest.raises(error, match=message) as caught:
        Wrong.apply(leaf(1.0, 2.0)).sum().backward()
    assert "Wrong.backward" in str(caught.value)


def test_a_function_that_returns_its_input_is_a_node_of_its_own() -> None:
    class Identity(Function):
        def forward(self, x: Any) -> Any:
            return x

        def backward(self, gy: Tensor) -> Tensor:
            return gy * 5

    x = leaf(1.0)
    y = Identity.apply(x)
    assert y is not x
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [5.0])


def test_a_tensor_among_the_options_is_refused() -> None:
    class Scale(Function):
        def forward(self, x: Any, factor: Any) -> Any:
            return x * factor

    with pytest.raises(TypeError, match=r"positional arguments only. Received: \['factor'\]"):
        Scale.apply(leaf(1.0), factor=leaf(2.0))


def test_a_function_without_backward_says_so() -> None:
    class Half(Function):
        def forward(self, x: Any) -> Any:
            return x / 2

    with pytest.raises(TypeError, match="Half must define backward"):
        Half.apply(leaf(1.0)).sum().backward()


def test_needs_input_grad_tells_what_is_wanted() -> None:
    seen = []

    class Ask(Function):
        def forward(self, a: Any, b: Any, scale: float) -> Any:
            return a * b * scale

        def backward(self, gy: Tensor) -> Any:
            seen.append(self.needs_input_grad)
            return None, gy, None

    Ask.apply(minicnn.tensor([1.0], dtype="float64"), leaf(2.0), 3.0).sum().backward()
    assert seen == [(False, True, False)]
