"""Tensors: making them, their dtypes, the way to and from NumPy, edits in place, indexing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn.modes import no_grad
from minicnn.tensor import Tensor


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        ([1.0, 2.0], "float32"),
        (3.5, "float32"),
        ([[1, 2], [3, 4]], "int64"),
        ([True, False], "bool"),
        (np.ones(2), "float64"),
        (np.ones(2, np.float32), "float32"),
        (np.uint8([1, 2]), "uint8"),
    ],
)
def test_numbers_get_their_dtype(data: Any, dtype: str) -> None:
    assert minicnn.tensor(data).dtype == dtype


@pytest.mark.parametrize(
    "data", [np.float16([1]), np.complex128([1]), np.array(["a"]), ["a"], [object()], np.array([None])]
)
def test_other_dtypes_are_refused(data: Any) -> None:
    with pytest.raises(TypeError, match="Received"):
        minicnn.tensor(data)


def test_ragged_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="all rows of one length"):
        minicnn.tensor([[1.0, 2.0], [3.0]])


def test_integers_have_no_gradient() -> None:
    with pytest.raises(TypeError, match="floating point"):
        minicnn.tensor([1, 2], requires_grad=True)


def test_tensor_copies_and_from_numpy_shares() -> None:
    array = np.zeros(2)
    copied, shared = minicnn.tensor(array), minicnn.from_numpy(array)
    array[0] = 1.0
    np.testing.assert_array_equal(copied.data, [0.0, 0.0])
    np.testing.assert_array_equal(shared.data, [1.0, 0.0])
    assert minicnn.as_tensor(shared) is shared


@pytest.mark.parametrize(
    ("a", "b", "dtype"),
    [
        (np.float32([1.5]), 2, "float32"),
        (np.float32([1.5]), np.float64(2), "float32"),
        (np.float32([1.5]), np.int64([2]), "float32"),
        (np.float32([1.5]), np.float64([2]), "float64"),
        (np.int64([3]), 0.5, "float32"),
        (np.int64([3]), 2, "int64"),
    ],
)
def test_operands_of_two_dtypes_meet_in_one(a: Any, b: Any, dtype: str) -> None:
    operand = minicnn.tensor(b) if isinstance(b, np.ndarray) else b
    assert (minicnn.tensor(a) * operand).dtype == dtype
    assert (operand * minicnn.tensor(a)).dtype == dtype


def test_each_gradient_has_the_dtype_of_its_operand() -> None:
    a = minicnn.tensor(np.float32([1, 2]), requires_grad=True)
    b = minicnn.tensor(np.float64([3, 4]), requires_grad=True)
    (a * b).sum().backward()
    assert a.grad.dtype == np.float32
    assert b.grad.dtype == np.float64


# --------------------------------------------------------------------------------------------------- NumPy, DLPack


def test_numpy_sees_tensors_as_arrays_and_yields_to_their_operators() -> None:
    x = minicnn.tensor([1.0, 2.0])
    np.testing.assert_array_equal(np.asarray(x), [1.0, 2.0])
    assert isinstance(np.array([3.0, 4.0], np.float32) * x, Tensor)
    with pytest.raises(TypeError):
        np.sin(x)


def test_a_tensor_of_the_graph_gives_a_read_only_array() -> None:
    x = minicnn.tensor([1.0], requires_grad=True)
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 2.0
    free = minicnn.tensor([1.0])
    free.numpy()[0] = 2.0
    assert free.item() == 2.0


def test_dlpack_shares_memory_both_ways() -> None:
    x = minicnn.tensor([1.0, 2.0])
    exported = np.from_dlpack(x)
    assert np.shares_memory(exported, x.data)
    array = np.arange(3.0)
    assert np.shares_memory(minicnn.from_dlpack(array).data, array)
    with pytest.raises(BufferError, match="detach"):
        x.requires_grad_().__dlpack__()


def test_python_numbers_come_out_of_single_elements_only() -> None:
    assert minicnn.tensor([[2.5]]).item() == 2.5
    assert float(minicnn.tensor(2.5)) == 2.5
    assert [1, 2, 3][minicnn.tensor(1)] == 2
    assert bool(minicnn.tensor([True]))
    with pytest.raises(ValueError, match="one element"):
        minicnn.tensor([1.0, 2.0]).item()
    with pytest.raises(ValueError, match="truth"):
        bool(minicnn.tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match="integer"):
        [1][minicnn.tensor(0.0)]


def test_length_and_iteration_follow_the_first_axis() -> None:
    x = minicnn.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert len(x) == 2
    np.testing.assert_array_equal([row.data for row in x], [[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(TypeError, match="no length"):
        len(minicnn.tensor(1.0))


def test_tensors_are_equal_by_element_and_hashed_by_identity() -> None:
    x, y = minicnn.tensor([1.0, 2.0]), minicnn.tensor([1.0, 3.0])
    np.testing.assert_array_equal((x == y).data, [True, False])
    assert len({x, y, x}) == 2


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (lambda: minicnn.tensor([1.0, 2.0]), "tensor([1., 2.])"),
        (lambda: minicnn.tensor([1.0], dtype="float64"), "tensor([1.], dtype=float64)"),
        (lambda: minicnn.tensor([1.0], requires_grad=True), "tensor([1.], requires_grad=True)"),
        (lambda: minicnn.tensor([1.0], requires_grad=True) * 2, "tensor([2.], grad_fn=<Mul>)"),
    ],
)
def test_repr_shows_values_and_what_differs_from_the_plain_case(tensor: Any, text: str) -> None:
    assert repr(tensor()) == text


# --------------------------------------------------------------------------------------------------- edits in place


def test_arithmetic_in_place_edits_a_parameter_under_no_grad() -> None:
    p = minicnn.tensor([1.0, 2.0], requires_grad=True)
    same, memory = p, p.data
    with no_grad():
        p -= 0.5 * minicnn.ones(2)
        p *= 2
    assert p is same
    assert p.data is memory
    np.testing.assert_array_equal(p.data, [1.0, 3.0])


def test_arithmetic_in_place_on_a_leaf_that_is_recorded_is_refused() -> None:
    p = minicnn.tensor([1.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="no_grad"):
        p += 1
    with pytest.raises(RuntimeError, match="no_grad"):
        p[0] = 1.0


def test_arithmetic_in_place_on_a_result_of_the_graph_makes_a_new_result() -> None:
    x = minicnn.tensor([2.0], requires_grad=True)
    loss = minicnn.tensor([0.0])
    loss += x * x
    loss += x
    loss.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [5.0])


def test_edits_by_name_fill_the_memory_there_is() -> None:
    x = minicnn.tensor([1.0, 2.0])
    memory = x.data
    assert x.fill_(3.0) is x
    np.testing.assert_array_equal(memory, [3.0, 3.0])
    x.copy_([5.0, 6.0])
    np.testing.assert_array_equal(memory, [5.0, 6.0])
    x.zero_()
    np.testing.assert_array_equal(memory, [0.0, 0.0])


def test_leaves_are_what_no_recorded_operation_made() -> None:
    x = minicnn.tensor([1.0], requires_grad=True)
    assert x.is_leaf
    assert not (x * 2).is_leaf
    assert (x * 2).detach().is_leaf


def test_items_are_assigned_by_any_index() -> None:
    x = minicnn.zeros(3, 2)
    x[minicnn.tensor([0, 2]), 1] = minicnn.tensor([5.0, 6.0])
    x[x == 5.0] = -1
    np.testing.assert_array_equal(x.data, [[0, -1], [0, 0], [0, 6]])


# --------------------------------------------------------------------------------------------------- shapes and indices


def test_repeated_indices_get_all_their_gradients() -> None:
    x = minicnn.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x[[0, 0, 2, 0]].sum().backward()
    np.testing.assert_array_equal(x.grad.data, [3.0, 0.0, 1.0])


def test_an_index_out_of_range_names_the_shape() -> None:
    with pytest.raises(IndexError, match=r"\(3,\)"):
        minicnn.zeros(3)[5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: x.reshape(4, 2), r"6 elements of \(2, 3\)"),
        (lambda x: x.permute(0, 0), "each of the 2 axes once"),
        (lambda x: x.sum(5), r"dim must lie in \[-2, 1\]. Received: 5"),
        (lambda x: x.sum((0, 0)), "once"),
        (lambda x: x.expand(2, 4), "cannot be broadcast"),
        (lambda x: x[:1].expand(3), "cannot be broadcast"),
        (lambda x: x @ x, r"Received: \(2, 3\) @ \(2, 3\)"),
        (lambda x: F.concatenate([x, x.T]), "may differ along dim=0 only"),
        (lambda x: F.stack([x, x.T]), "one shape"),
        (lambda x: x.split([1, 1], 1), "add up to 3"),
        (lambda x: F.pad(x, [(1, 1)]), "each of the 2 axes"),
        (lambda x: F.einsum("ij,jk->ik", x, x), "one length"),
        (lambda x: F.einsum("ij->k", x), "occur on the left"),
        (lambda x: x.max(dim=(0, 1)) and minicnn.zeros(0, 3).max(0), "empty axis"),
        (lambda x: x.clip(), "at least one"),
        (lambda x: F.one_hot(minicnn.tensor([0, 3]), 3), r"\[0, 2\]. Received: 0 to 3"),
    ],
)
def test_wrong_arguments_say_what_was_expected(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(minicnn.ones(2, 3))


def test_reductions_take_the_names_of_numpy_too() -> None:
    x = minicnn.tensor(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(x.sum(axis=0, keepdims=True).data, [[3.0, 5.0, 7.0]])
    np.testing.assert_array_equal(x.argmax(axis=1).data, [2, 2])
    np.testing.assert_array_equal(F.var(x, axis=1).data, np.arange(6.0).reshape(2, 3).var(axis=1))


def test_logsumexp_of_huge_and_of_no_values_is_exact() -> None:
    np.testing.assert_allclose(F.logsumexp(minicnn.tensor([1e4, 1e4])).item(), 1e4 + np.log(2.0), rtol=1e-6)
    with np.errstate(divide="ignore"):
        assert F.logsumexp(minicnn.tensor([-np.inf, -np.inf])).item() == -np.inf


def test_creation_functions_make_what_they_say() -> None:
    assert minicnn.zeros(2, 3).shape == (2, 3)
    assert minicnn.full((2,), 7).data.tolist() == [7.0, 7.0]
    assert minicnn.arange(5).dtype == np.int64
    assert minicnn.arange(0, 1, 0.25).tolist() == [0.0, 0.25, 0.5, 0.75]
    assert minicnn.eye(2).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert minicnn.linspace(0, 1, 3).tolist() == [0.0, 0.5, 1.0]
    assert sorted(minicnn.randperm(5).tolist()) == [0, 1, 2, 3, 4]


def test_random_numbers_follow_from_the_seed() -> None:
    minicnn.manual_seed(3)
    first = minicnn.randn(4)
    other = minicnn.randn(4)
    minicnn.manual_seed(3)
    np.testing.assert_array_equal(minicnn.randn(4).data, first.data)
    assert not np.array_equal(first.data, other.data)


def test_numbers_are_cast_between_dtypes_and_backends_are_named() -> None:
    x = minicnn.tensor([1.5], requires_grad=True)
    x.double().sum().backward()
    assert x.grad.dtype == np.float32
    assert x.to("reference") is x
    assert x.to("int64").dtype == np.int64
    with pytest.raises(ValueError, match="backend must be one of"):
        x.to("refrence")
