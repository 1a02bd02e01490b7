"""Operations that move elements without computing: each one's backward moves the gradient back."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from minicnn.autograd import Function
from minicnn.backend import backend_of, is_kernel_input
from minicnn.dtypes import supported
from minicnn.kernels.contract import Array
from minicnn.tensor import Index, Tensor
from minicnn.values import plain


def sizes_of(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """Sizes given one by one, f(2, 3), or as one sequence, f((2, 3))."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    return tuple(int(size) for size in sizes)


def normalize_dim(dim: int, ndim: int, caller: str) -> int:
    """A non-negative axis number. Raises ValueError where the tensor has no such axis."""
    if not -ndim <= dim < ndim:
        raise ValueError(f"{caller}: dim must lie in [{-ndim}, {ndim - 1}]. Received: {dim}")
    return dim % ndim


# --------------------------------------------------------------------------------------------------- one tensor


class Cast(Function):
    def forward(self, x: Array, dtype: np.dtype[Any]) -> Array:
        self.dtype = x.dtype
        return x.astype(dtype)

    def backward(self, gy: Tensor) -> Any:
        return cast(gy, self.dtype), None


class Clone(Function):
    def forward(self, x: Array) -> Array:
        return x.copy()

    def backward(self, gy: Tensor) -> Tensor:
        return gy


class Reshape(Function):
    def forward(self, x: Array, shape: tuple[int, ...]) -> Array:
        self.shape = x.shape
        return x.reshape(shape)

    def backward(self, gy: Tensor) -> Any:
        return reshape(gy, self.shape), None


class Permute(Function):
    def forward(self, x: Array, dims: tuple[int, ...]) -> Array:
        self.dims = dims
        return x.transpose(dims)

    def backward(self, gy: Tensor) -> Any:
        return permute(gy, tuple(self.dims.index(i) for i in range(len(self.dims)))), None


class Expand(Function):
    def forward(self, x: Array, shape: tuple[int, ...]) -> Array:
        self.shape = x.shape
        if x.ndim > len(shape):  # assignment would let axes of length 1 go by
            raise ValueError
        y = self.xp.empty(shape, x.dtype)
        y[...] = x
        return y

    def backward(self, gy: Tensor) -> Any:
        return sum_to_size(gy, self.shape), None


class SumToSize(Function):
    """The adjoint of broadcasting."""

    def forward(self, x: Array, shape: tuple[int, ...]) -> Array:
        self.shape = x.shape
        if x.ndim > 1 and shape == x.shape[-1:] and x.dtype.kind == "f" and is_kernel_input(x):
            return self.kernels.bias_grad(x)  # what was added to each pixel's channels: a sum that a kernel does well
        added = x.ndim - len(shape)
        stretched = [i + added for i, size in enumerate(shape) if size == 1 and x.shape[i + added] != 1]
        return x.sum(axis=(*range(added), *stretched), keepdims=True).reshape(shape)

    def backward(self, gy: Tensor) -> Any:
        return expand(gy, self.shape), None


class Pad(Function):
    def forward(self, x: Array, widths: tuple[tuple[int, int], ...], value: float) -> Array:
        self.inside = tuple(slice(before, before + size) for (before, _), size in zip(widths, x.shape, strict=True))
        return self.xp.pad(x, widths, constant_values=value)

    def backward(self, gy: Tensor) -> Any:
        return gy[self.inside], None, None


class Flip(Function):
    def forward(self, x: Array, dims: tuple[int, ...]) -> Array:
        self.dims = dims
        return self.xp.flip(x, dims).copy()

    def backward(self, gy: Tensor) -> Any:
        return flip(gy, self.dims), None


class GetItem(Function):
    def forward(self, x: Array, index: Index) -> Array:
        self.shape, self.index = x.shape, index
        return x[index]

    def backward(self, gy: Tensor) -> Any:
        return put_item(gy, self.index, self.shape), None


class PutItem(Function):
    """The adjoint of indexing: zeros of `shape` to which the values are added at `index`, as often as it names them."""

    def forward(self, x: Array, index: Index, shape: tuple[int, ...]) -> Array:
        self.index = index
        y = self.xp.zeros(shape, x.dtype)
        if _names_each_element_once(index):
            y[index] = x
        else:
            self.xp.add.at(y, index, x)
        return y

    def backward(self, gy: Tensor) -> Any:
        return gy[self.index], None, None


def _names_each_element_once(index: Index) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice)) or _is_mask(part)
        for part in parts
    )


def _is_mask(part: Any) -> bool:
    return getattr(part, "dtype", None) == np.bool_


def cast(x: Tensor, dtype: Any) -> Tensor:
    """x as another dtype; differentiable between floating dtypes.

    Raises TypeError for a dtype that minicnn does not compute with.
    """
    wanted = np.dtype(dtype)
    if wanted == x.dtype:
        return x
    supported(np.empty(0, wanted), "cast")
    if wanted.kind != "f" or x.dtype.kind != "f":
        return Tensor._wrap(x.data.astype(wanted))
    return Cast.apply(x, wanted)


def clone(x: Tensor) -> Tensor:
    """A copy with memory of its own; the gradient passes through."""
    return Clone.apply(x)


def reshape(x: Tensor, *shape: Any) -> Tensor:
    """The same elements in C order under another shape; one size may be -1."""
    sizes = sizes_of(shape)
    try:
        return Reshape.apply(x, sizes)
    except ValueError:
        raise ValueError(f"reshape: shape must hold the {x.numel()} elements of {x.shape}. Received: {sizes}") from None


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes start_dim to end_dim (included) as one."""
    if x.ndim == 0:
        return reshape(x, 1)
    first, last = normalize_dim(start_dim, x.ndim, "flatten"), normalize_dim(end_dim, x.ndim, "flatten")
    return reshape(x, (*x.shape[:first], int(np.prod(x.shape[first : last + 1])), *x.shape[last + 1 :]))


def permute(x: Tensor, *dims: Any) -> Tensor:
    """Axes in the given order: y.shape[i] = x.shape[dims[i]]. Raises ValueError where an axis is missing or doubled."""
    order = sizes_of(dims)
    if sorted(normalize_dim(d, x.ndim, "permute") for d in order) != list(range(x.ndim)):
        raise ValueError(f"permute: dims must name each of the {x.ndim} axes once. Received: {order}")
    return Permute.apply(x, tuple(d % x.ndim for d in order))


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two axes exchanged."""
    order = list(range(x.ndim))
    i, j = normalize_dim(dim0, x.ndim, "transpose"), normalize_dim(dim1, x.ndim, "transpose")
    order[i], order[j] = order[j], order[i]
    return permute(x, order)


def expand(x: Tensor, *shape: Any) -> Tensor:
    """x repeated along its axes of length 1, and along new axes in front; -1 keeps a size. As torch.Tensor.expand."""
    sizes = sizes_of(shape)
    kept = (*[-1] * (len(sizes) - x.ndim), *x.shape)
    wanted = tuple(old if new == -1 else new for new, old in zip(sizes, kept, strict=False))
    try:
        return Expand.apply(x, wanted)
    except ValueError:
        raise ValueError(f"expand: {x.shape} cannot be broadcast to the shape wanted. Received: {sizes}") from None


def sum_to_size(x: Tensor, *shape: Any) -> Tensor:
    """x summed over the axes along which an operand of `shape` was broadcast to it. As torch.Tensor.sum_to_size."""
    sizes = sizes_of(shape)
    if np.broadcast_shapes(sizes, x.shape) != x.shape:
        raise ValueError(f"sum_to_size: shape must broadcast to {x.shape}. Received: {sizes}")
    return SumToSize.apply(x, sizes)


def squeeze(x: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without the axes of length 1: all, or those named (which are left alone where they are longer)."""
    named = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    dropped = {normalize_dim(d, x.ndim, "squeeze") for d in named if x.ndim}
    return reshape(x, tuple(size for i, size in enumerate(x.shape) if size != 1 or i not in dropped))


def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """With a new axis of length 1 at `dim`."""
    position = normalize_dim(dim, x.ndim + 1, "unsqueeze")
    return reshape(x, (*x.shape[:position], 1, *x.shape[position:]))


def pad(x: Tensor, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """`value` around x: (before, after) an axis, as numpy.pad and keras.ops.pad."""
    pairs = tuple((int(before), int(after)) for before, after in widths)
    if len(pairs) != x.ndim or any(width < 0 for pair in pairs for width in pair):
        raise ValueError(
            f"pad: one (before, after) of widths >= 0 is needed for each of the {x.ndim} axes. Received: {widths}"
        )
    return Pad.apply(x, pairs, value)


def flip(x: Tensor, *dims: Any) -> Tensor:
    """Elements in reverse order along the given axes."""
    return Flip.apply(x, tuple(normalize_dim(d, x.ndim, "flip") for d in sizes_of(dims)))


def getitem(x: Tensor, index: Index) -> Tensor:
    """x[index] for all that NumPy takes: integers, slices, None, Ellipsis, integer arrays, masks, tensors."""
    try:
        return GetItem.apply(x, _as_index(index, x))
    except IndexError as error:
        raise IndexError(f"tensor of shape {x.shape}: {error}") from None


def _as_index(index: Index, x: Tensor) -> Index:
    """Tensors and lists within an index as arrays, in the memory of x."""
    if isinstance(index, tuple):
        return tuple([_as_index(part, x) for part in index])
    part = np.asarray(plain(index)) if isinstance(index, list) else plain(index)
    return backend_of(x.data).place(part) if hasattr(part, "dtype") and not isinstance(part, np.generic) else part


def put_item(x: Tensor, index: Index, shape: Sequence[int]) -> Tensor:
    """Zeros of `shape`, plus x at `index`; an element that the index names twice gets both."""
    return PutItem.apply(x, _as_index(index, x), tuple(shape))


def repeat(x: Tensor, *repeats: Any) -> Tensor:
    """x tiled: `repeats` copies along each axis, new axes in front. As torch.Tensor.repeat (numpy.tile)."""
    counts = sizes_of(repeats)
    if len(counts) < x.ndim or any(count < 0 for count in counts):
        raise ValueError(f"repeat: a count >= 0 for each of the {x.ndim} axes is needed. Received: {counts}")
    shape = (*[1] * (len(counts) - x.ndim), *x.shape)
    interleaved = tuple(itertools.chain.from_iterable(zip(counts, shape, strict=True)))
    tiled = expand(reshape(x, tuple(itertools.chain.from_iterable((1, size) for size in shape))), interleaved)
    return reshape(tiled, tuple(count * size for count, size in zip(counts, shape, strict=True)))


def repeat_interleave(x: Tensor, repeats: int, dim: int) -> Tensor:
    """Each element `repeats` times in a row along `dim`. As torch.repeat_interleave, numpy.repeat."""
    axis = normalize_dim(dim, x.ndim, "repeat_interleave")
    front, size, back = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    return reshape(expand(unsqueeze(x, axis + 1), (*front, size, repeats, *back)), (*front, size * repeats, *back))


# --------------------------------------------------------------------------------------------------- several tensors


class Concatenate(Function):
    def forward(self, dim: int, *arrays: Array) -> Array:
        self.dim, self.sizes = dim, [a.shape[dim] for a in arrays]
        return self.xp.concatenate(arrays, axis=dim)

    def backward(self, gy: Tensor) -> Any:
        return None, *split(gy, self.sizes, self.dim)


def concatenate(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors end to end along an existing axis; the other sizes must agree. As torch.concatenate.

    Raises ValueError for an empty list and for shapes that do not fit.
    """
    if not tensors:
        raise ValueError("concatenate: at least one tensor is needed. Received: an empty list")
    axis = normalize_dim(dim, tensors[0].ndim, "concatenate")
    around = {(*t.shape[:axis], *t.shape[axis + 1 :]) for t in tensors}
    if len(around) > 1 or len({t.ndim for t in tensors}) > 1:
        raise ValueError(f"concatenate: shapes may differ along dim={dim} only. Received: {[t.shape for t in tensors]}")
    dtype = np.result_type(*[t.dtype for t in tensors])
    return Concatenate.apply(axis, *[cast(t, dtype) for t in tensors])


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new axis."""
    if len({t.shape for t in tensors}) != 1:
        raise ValueError(f"stack: tensors of one shape are needed. Received: {[t.shape for t in tensors]}")
    return concatenate([unsqueeze(t, dim) for t in tensors], dim)


def split(x: Tensor, sizes: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """x cut along an axis: into pieces of one size (the last may be shorter), or of the sizes given. As torch.split."""
    axis = normalize_dim(dim, x.ndim, "split")
    length = x.shape[axis]
    if isinstance(sizes, int):
        if sizes <= 0:
            raise ValueError(f"split: the size of a piece must be positive. Received: {sizes}")
        sizes = [min(sizes, length - start) for start in range(0, length, sizes)] or [0]
    if sum(sizes) != length:
        raise ValueError(f"split: sizes must add up to {length}. Received: {list(sizes)}")
    ends = list(itertools.accumulate(sizes))
    before = (slice(None),) * axis
    return tuple(x[(*before, slice(end - size, end))] for size, end in zip(sizes, ends, strict=True))
