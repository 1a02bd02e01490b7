"""Products: matrices, dense layers, Einstein's notation.

Glossary  M rows, K the summed axis, N columns; leading axes are batches and broadcast.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from minicnn.autograd import Function
from minicnn.backend import backend_of, is_kernel_input
from minicnn.functional.activation import EPILOGUES, epilogue_backward
from minicnn.functional.arguments import as_kernel_input, check_choice, check_same_dtype
from minicnn.functional.elementwise import Operand
from minicnn.functional.shape import cast
from minicnn.kernels.contract import Array, EpilogueName
from minicnn.tensor import Tensor


class MatMul(Function):
    """y = op(a) @ op(b), op transposing the last two axes where told to; closed under differentiation."""

    broadcasts = True

    def forward(self, a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
        self.save_for_backward(a, b)
        self.transposed = transpose_a, transpose_b
        return self.kernels.matmul(a, b, transpose_a, transpose_b)

    def backward(self, gy: Tensor) -> Any:
        a, b = self.saved_tensors
        transpose_a, transpose_b = self.transposed
        ga = gb = None
        if self.needs_input_grad[0]:  # op(a)' = gy @ op(b)^T
            ga = _product(b, gy, transpose_b, True) if transpose_a else _product(gy, b, False, not transpose_b)
        if self.needs_input_grad[1]:  # op(b)' = op(a)^T @ gy
            gb = _product(gy, a, True, transpose_a) if transpose_b else _product(a, gy, not transpose_a, False)
        return (ga, gb, None, None)[: len(self.needs_input_grad)]


def _product(a: Tensor, b: Tensor, transpose_a: bool, transpose_b: bool) -> Tensor:
    a, transpose_a = _as_stored(a, transpose_a)
    b, transpose_b = _as_stored(b, transpose_b)
    a, b = as_kernel_input(a, "matmul: a"), as_kernel_input(b, "matmul: b")
    return MatMul.apply(a, b, transpose_a, transpose_b)


def _as_stored(x: Tensor, transposed: bool) -> tuple[Tensor, bool]:
    """A transposed view, such as w.T, as the matrix that lies in memory: the kernel transposes for nothing."""
    data = x.data
    if data.ndim > 1 and not data.flags.c_contiguous and is_kernel_input(data.swapaxes(-1, -2)):
        return x.transpose(-1, -2), not transposed
    return x, transposed


def matmul(a: Operand, b: Operand) -> Tensor:
    """Matrix product (..., M, K) @ (..., K, N) -> (..., M, N); a vector is a row on the left, a column on the right.

    As numpy.matmul. Raises ValueError where K or the batch axes do not agree.
    """
    a, b = (x if isinstance(x, Tensor) else Tensor(x) for x in (a, b))
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul: both operands need an axis; use * for scalars. Received: {a.shape} @ {b.shape}")
    rows, columns = a.unsqueeze(0) if a.ndim == 1 else a, b.unsqueeze(1) if b.ndim == 1 else b
    if rows.shape[-1] != columns.shape[-2]:
        raise ValueError(
            f"matmul: the last axis of the left operand must equal the last but one of the right. "
            f"Received: {a.shape} @ {b.shape}"
        )
    y = _product(rows, columns, False, False)
    if a.ndim == 1:
        y = y.squeeze(-2)
    return y.squeeze(-1) if b.ndim == 1 else y


class Dense(Function):
    def forward(self, x: Array, w: Array, b: Array | None, activation: EpilogueName | None) -> Array:
        y = self.kernels.dense(x, w, b, activation)
        self.activation = activation
        self.save_for_backward(x, w, None if activation is None else y)
        return y

    def backward(self, gy: Tensor) -> Any:
        x, w, y = self.saved_tensors
        gy = as_kernel_input(gy, "dense: gy")
        gz, gb = epilogue_backward(gy, y, self.activation, self.needs_input_grad[2])
        gx = MatMul.apply(gz, w, transpose_b=True) if self.needs_input_grad[0] else None
        gw = MatMul.apply(x, gz, transpose_a=True) if self.needs_input_grad[1] else None
        return gx, gw, gb, None


def dense(x: Tensor, w: Tensor, b: Tensor | None = None, activation: EpilogueName | None = None) -> Tensor:
    """activation(x @ w + b): x (..., K), w (K, N), b (N,) -> (..., N). As keras.layers.Dense.

    PyTorch's linear holds its weight transposed, (N, K). Raises ValueError where K does not agree.
    """
    x_shape, w_shape = x.data.shape, w.data.shape
    if len(w_shape) != 2 or not x_shape or x_shape[-1] != w_shape[0]:
        raise ValueError(
            f"dense: the last axis of x must equal the first of w (K, N). Received: x {x.shape}, w {w.shape}"
        )
    if b is not None and b.data.shape != w_shape[1:]:
        raise ValueError(f"dense: the bias must have one value an output, ({w.shape[1]},). Received: {b.shape}")
    x = as_kernel_input(cast(x, w.dtype) if x.data.dtype.kind != "f" else x, "dense: x")
    w = as_kernel_input(w, "dense: w")
    b = None if b is None else as_kernel_input(b, "dense: b")
    check_same_dtype("dense", x=x, w=w, b=b)
    if activation is not None:
        check_choice(activation, EPILOGUES, "dense: activation")
    if len(x_shape) == 2:
        return Dense.apply(x, w, b, activation)
    rows = x.reshape(math.prod(x_shape[:-1]), x_shape[-1])
    y: Tensor = Dense.apply(rows, w, b, activation)
    return y.reshape(*x_shape[:-1], w_shape[1])


# --------------------------------------------------------------------------------------------------- einsum


class EinSum(Function):
    """Sum of products; each operand's letters differ, and each gradient is an einsum again."""

    def forward(self, inputs: tuple[str, ...], output: str, *arrays: Array) -> Array:
        self.inputs, self.output = inputs, output
        self.sizes = dict(zip("".join(inputs), (size for array in arrays for size in array.shape), strict=True))
        self.save_for_backward(*arrays)
        return self.xp.einsum(f"{','.join(inputs)}->{output}", *arrays, optimize=len(arrays) > 1)

    def backward(self, gy: Tensor) -> Any:
        operands = self.saved_tensors
        return None, None, *[self._gradient(i, gy, operands) for i in range(len(operands))]

    def _gradient(self, position: int, gy: Tensor, operands: tuple[Tensor, ...]) -> Tensor | None:
        """gy times all other operands, summed into this operand's letters."""
        if not self.needs_input_grad[position + 2]:
            return None
        terms = [self.output, *self.inputs[:position], *self.inputs[position + 1 :]]
        factors = [gy, *operands[:position], *operands[position + 1 :]]
        for letter in self.inputs[position]:
            if not any(letter in term for term in terms):  # summed away on its own: its gradient is the same along it
                terms.append(letter)
                factors.append(Tensor._wrap(self.xp.ones(self.sizes[letter], gy.dtype)))
        return EinSum.apply(tuple(terms), self.inputs[position], *factors)


def einsum(equation: str, *operands: Tensor) -> Tensor:
    """Einstein summation, as torch.einsum: letters name axes; those missing on the right of -> are summed.

    Raises ValueError for an equation that does not fit the operands; an ellipsis is not taken.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not all(term.isalpha() or not term for term in [*terms, right]):
        raise ValueError(f"einsum: axes are named by letters, as in 'ij,jk->ik'. Received: {equation!r}")
    if len(terms) != len(operands) or any(len(t) != x.ndim for t, x in zip(terms, operands, strict=False)):
        raise ValueError(
            f"einsum: one term an operand and one letter an axis are needed. Received: {equation!r} for shapes "
            f"{[x.shape for x in operands]}"
        )
    if not arrow:  # NumPy's rule: letters that occur once, in alphabetical order
        right = "".join(sorted(letter for letter, n in Counter("".join(terms)).items() if n == 1))
    if len(set(right)) != len(right) or not set(right) <= set("".join(terms)):
        raise ValueError(f"einsum: the result's letters must be distinct and occur on the left. Received: {equation!r}")
    for letter in set("".join(terms)):
        sizes = {
            x.shape[i] for t, x in zip(terms, operands, strict=True) for i, other in enumerate(t) if other == letter
        }
        if len(sizes) != 1:
            raise ValueError(f"einsum: axis {letter!r} must have one length. Received: {sorted(sizes)} in {equation!r}")
    diagonals = [_diagonal(term, x) for term, x in zip(terms, operands, strict=True)]
    return EinSum.apply(tuple(t for t, _ in diagonals), right, *[x for _, x in diagonals])


def _diagonal(term: str, x: Tensor) -> tuple[str, Tensor]:
    """Read the diagonal along a letter that names several axes of one operand: 'ii' becomes 'i'."""
    letters = "".join(dict.fromkeys(term))
    if letters == term:
        return term, x
    xp = backend_of(x.data).xp
    index = tuple(
        xp.arange(x.shape[axis]).reshape([-1 if other == letter else 1 for other in letters])
        for axis, letter in enumerate(term)
    )
    return letters, x[index]
