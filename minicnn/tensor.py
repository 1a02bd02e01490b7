"""Tensor: an array, its gradient, and the operators.

A tensor holds an array (`data`), knows the operation that made it (`grad_fn`, None for a leaf) and, where it is a leaf
that requires one, collects its gradient (`grad`). Operators and methods are the functions of `minicnn.functional` under
PyTorch's names; there they are documented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from minicnn.backend import all_backends, as_host, backend_of
from minicnn.dtypes import DEFAULT_DTYPE
from minicnn.kernels.contract import Array
from minicnn.modes import is_grad_enabled, no_grad
from minicnn.values import ArrayHolder, placed, to_array

if TYPE_CHECKING:
    from minicnn.autograd import Function, Hook

Number: TypeAlias = int | float | bool
Dims: TypeAlias = int | Sequence[int] | None
Index: TypeAlias = Any
"""What NumPy takes between brackets: integers, slices, None, Ellipsis, integer arrays, masks; tensors too."""


class RemovableHandle:
    """Takes a registered hook away again: `handle.remove()`."""

    def __init__(self, hooks: list[Hook], hook: Hook) -> None:
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)


class Tensor(ArrayHolder):
    """An array with a gradient.

    data: an array, a tensor, or (nested lists of) numbers; copied. Python floats become float32, arrays keep theirs.
    Arrays of the GPU's memory and tensors over them stay there; all else is made where the backend in force computes.
    dtype: float32 or float64 to compute with; integers and bools for indices, labels and masks.

    Raises TypeError for other dtypes (float16, complex, strings, objects) and for a gradient wanted of integers.
    """

    __slots__ = (
        "__weakref__", "_hooks", "_output_index", "_requires_grad", "_squashed", "_version", "grad", "grad_fn",
    )  # fmt: skip

    __array_ufunc__ = (
        None  # `array * tensor` asks the tensor; `np.sin(tensor)` is refused rather than losing the gradient
    )

    def __init__(self, data: Any, dtype: Any = None, requires_grad: bool = False) -> None:
        self.data = to_array(data, dtype)
        self.grad: Tensor | None = None
        self.grad_fn: Function | None = None
        self._squashed: tuple[str, Tensor] | None = None  # "softmax" or "sigmoid", if one made this, and its input
        self._output_index = 0
        self._requires_grad = False
        self._version = [0]  # counts edits in place; shared by all tensors over one memory
        self._hooks: list[Hook] | None = None  # those of a leaf; a result's are kept by its grad_fn
        self.requires_grad = requires_grad

    @staticmethod
    def _wrap(
        data: Array, grad_fn: Function | None = None, output_index: int = 0, version: list[int] | None = None
    ) -> Tensor:
        """A tensor over this very array; the quick way in for the engine."""
        tensor = object.__new__(Tensor)
        tensor.data = data
        tensor.grad = tensor._hooks = tensor._squashed = None
        tensor.grad_fn = node = grad_fn if grad_fn is None or data.dtype.kind == "f" else None
        tensor._output_index = output_index
        tensor._requires_grad = node is not None
        tensor._version = [0] if version is None else version
        return tensor

    # ------------------------------------------------------------------------------------------------- what it is

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient is computed for this tensor."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if wanted and self.data.dtype.kind != "f":
            raise TypeError(f"only floating point tensors can require gradients. Received: dtype {self.data.dtype}")
        if not wanted and self.grad_fn is not None:
            raise RuntimeError("only a leaf can stop requiring its gradient; use t.detach() for a result.")
        self._requires_grad = bool(wanted)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set `requires_grad` and return this tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def logits(self) -> Tensor | None:
        """What `activations.softmax` or `sigmoid` made this from, and losses compute with; None for other tensors."""
        return None if self._squashed is None else self._squashed[1]

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by hand rather than by a recorded operation."""
        return self.grad_fn is None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    @property
    def ndim(self) -> int:
        return int(self.data.ndim)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    @property
    def device(self) -> str:
        """In which memory it lies: "cpu" or "gpu"."""
        return backend_of(self.data).device

    def dim(self) -> int:
        return self.ndim

    def numel(self) -> int:
        """Number of elements."""
        return int(self.data.size)

    def size(self, dim: int | None = None) -> tuple[int, ...] | int:
        """The shape, or the length of one axis."""
        return self.shape if dim is None else self.shape[dim]

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor of no axes has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self.numel() != 1:
            raise ValueError(f"the truth of several elements is not defined; use .any() or .all(). Shape: {self.shape}")
        return bool(self.data.reshape(())[()])

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError(f"only an integer tensor of one element can be an index. Received: dtype {self.dtype}")
        return int(self.item())

    __hash__ = object.__hash__  # by identity, since == compares elements

    def __repr__(self) -> str:
        body = np.array2string(as_host(self.data), separator=", ", prefix="tensor(", threshold=100, precision=4)
        dtype = "" if self.dtype in (DEFAULT_DTYPE, np.int64, np.bool_) else f", dtype={self.dtype}"
        made = f", grad_fn={self.grad_fn!r}" if self.grad_fn else ", requires_grad=True" if self.requires_grad else ""
        place = "" if self.device == "cpu" else f", device='{self.device}'"
        return f"tensor({body}{dtype}{place}{made})"

    # ------------------------------------------------------------------------------------------------- ways out

    def numpy(self) -> np.ndarray[Any, Any]:
        """The same memory as a NumPy array, read-only where the tensor takes part in a graph; a copy from the GPU."""
        if self.device != "cpu":
            return as_host(self.data)
        view = self.data.view()
        view.flags.writeable = view.flags.writeable and not self._requires_grad
        if view.flags.writeable:
            self._version[1:] = [1]
        return view

    @property
    def is_exported(self) -> bool:
        """Whether an array over its memory that can be written to was given out: edits through it are not counted."""
        return len(self._version) > 1

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        if self._requires_grad:
            raise BufferError("a tensor that requires a gradient cannot be exported: pass t.detach()")
        self._version[1:] = [1]
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.data.__dlpack_device__()

    def item(self) -> Any:
        """The one element as a Python number."""
        if self.numel() != 1:
            raise ValueError(f"item() needs exactly one element. Received: shape {self.shape}")
        return self.data.item()

    def tolist(self) -> Any:
        return self.data.tolist()

    def detach(self) -> Tensor:
        """The same memory, outside of the graph."""
        return Tensor._wrap(self.data.view(), version=self._version)

    def to(self, target: Any) -> Tensor:
        """This tensor as a dtype, or in the memory of a backend: "cpu", "gpu". Both are differentiable.

        Raises ValueError for a name that is neither, RuntimeError where there is no GPU.
        """
        if isinstance(target, str) and (target in all_backends() or target not in np.sctypeDict):
            return F.to_device(self, target)
        return F.cast(self, target)

    def float(self) -> Tensor:
        return F.cast(self, np.float32)

    def double(self) -> Tensor:
        return F.cast(self, np.float64)

    def long(self) -> Tensor:
        return F.cast(self, np.int64)

    # ------------------------------------------------------------------------------------------------- gradients

    def backward(
        self, gradient: Tensor | Array | None = None, retain_graph: bool | None = None, create_graph: bool = False
    ) -> None:
        """Add the gradient of this tensor to `.grad` of all leaves it was computed from; see `autograd.backward`."""
        autograd.backward(self, gradient, retain_graph, create_graph)

    def register_hook(self, hook: Hook) -> RemovableHandle:
        """Call `hook(gradient)` when this tensor's gradient is known; what it returns takes the gradient's place."""
        if not self._requires_grad:
            raise RuntimeError("a hook needs a tensor that requires a gradient.")
        if self.grad_fn is not None:
            hooks = self.grad_fn.hooks_of(self._output_index)
        else:
            hooks = self._hooks = self._hooks or []
        hooks.append(hook)
        return RemovableHandle(hooks, hook)

    def retain_grad(self) -> None:
        """Fill `.grad` of this result too, which otherwise only leaves have."""
        if self.grad_fn is None:
            return

        def keep(gradient: Tensor) -> None:
            self.grad = gradient if self.grad is None else self.grad + gradient

        self.register_hook(keep)

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    # ------------------------------------------------------------------------------------------------- edits in place

    def _edit(self) -> Array:
        """The array, to be written: counted, so that a backward that needs the old values can tell."""
        if is_grad_enabled() and self._requires_grad:
            raise RuntimeError(
                "a tensor that requires a gradient cannot be edited in place while operations are recorded: use "
                "`with minicnn.no_grad():`, or make a new tensor (where, t = t + 1)."
            )
        self._version[0] += 1
        return self.data

    def _update(self, operator: Callable[[Tensor, Any], Tensor], other: Any) -> Tensor:
        """`t += other` and its like: in place where nothing is recorded; else a new result of the graph."""
        recorded = is_grad_enabled()
        if recorded and (self.grad_fn is not None or getattr(other, "requires_grad", False)) and self._is_result():
            return operator(self, other)
        with no_grad():
            value = operator(self, other)
        self._edit()[...] = value.data
        return self

    def _is_result(self) -> bool:
        return self.grad_fn is not None or not self._requires_grad

    def __setitem__(self, index: Index, value: Any) -> None:
        place = backend_of(self.data).place
        self._edit()[placed(index, place)] = placed(value, place)

    def copy_(self, source: Any) -> Tensor:
        """Overwrite with `source`, broadcast and cast as NumPy does."""
        self._edit()[...] = placed(source, backend_of(self.data).place)
        return self

    def zero_(self) -> Tensor:
        return self.copy_(0)

    def fill_(self, value: Number) -> Tensor:
        return self.copy_(value)

    # ------------------------------------------------------------------------------------------------- operators

    # fmt: off
    def __add__(self, other: Any) -> Tensor: return F.add(self, other)
    def __radd__(self, other: Any) -> Tensor: return F.add(other, self)
    def __sub__(self, other: Any) -> Tensor: return F.sub(self, other)
    def __rsub__(self, other: Any) -> Tensor: return F.sub(other, self)
    def __mul__(self, other: Any) -> Tensor: return F.mul(self, other)
    def __rmul__(self, other: Any) -> Tensor: return F.mul(other, self)
    def __truediv__(self, other: Any) -> Tensor: return F.div(self, other)
    def __rtruediv__(self, other: Any) -> Tensor: return F.div(other, self)
    def __pow__(self, other: Any) -> Tensor: return F.pow(self, other)
    def __rpow__(self, other: Any) -> Tensor: return F.pow(other, self)
    def __matmul__(self, other: Any) -> Tensor: return F.matmul(self, other)
    def __rmatmul__(self, other: Any) -> Tensor: return F.matmul(other, self)
    def __neg__(self) -> Tensor: return F.neg(self)
    def __pos__(self) -> Tensor: return self
    def __abs__(self) -> Tensor: return F.abs(self)
    def __getitem__(self, index: Index) -> Tensor: return F.getitem(self, index)

    def __iadd__(self, other: Any) -> Tensor: return self._update(F.add, other)
    def __isub__(self, other: Any) -> Tensor: return self._update(F.sub, other)
    def __imul__(self, other: Any) -> Tensor: return self._update(F.mul, other)
    def __itruediv__(self, other: Any) -> Tensor: return self._update(F.div, other)

    def __eq__(self, other: Any) -> Tensor: return F.eq(self, other)  # type: ignore[override]
    def __ne__(self, other: Any) -> Tensor: return F.ne(self, other)  # type: ignore[override]
    def __lt__(self, other: Any) -> Tensor: return F.lt(self, other)
    def __le__(self, other: Any) -> Tensor: return F.le(self, other)
    def __gt__(self, other: Any) -> Tensor: return F.gt(self, other)
    def __ge__(self, other: Any) -> Tensor: return F.ge(self, other)
    def __invert__(self) -> Tensor: return F.logical_not(self)
    def __and__(self, other: Any) -> Tensor: return F.logical_and(self, other)
    def __or__(self, other: Any) -> Tensor: return F.logical_or(self, other)

    # ------------------------------------------------------------------------------------------------- methods

    def cpu(self) -> Tensor: return F.to_device(self, "cpu")
    def cuda(self) -> Tensor: return F.to_device(self, "gpu")
    def clone(self) -> Tensor: return F.clone(self)
    def abs(self) -> Tensor: return F.abs(self)
    def exp(self) -> Tensor: return F.exp(self)
    def log(self) -> Tensor: return F.log(self)
    def sqrt(self) -> Tensor: return F.sqrt(self)
    def square(self) -> Tensor: return F.square(self)
    def sign(self) -> Tensor: return F.sign(self)
    def sin(self) -> Tensor: return F.sin(self)
    def cos(self) -> Tensor: return F.cos(self)
    def pow(self, exponent: Any) -> Tensor: return F.pow(self, exponent)
    def clip(self, min: Any = None, max: Any = None) -> Tensor: return F.clip(self, min, max)
    def maximum(self, other: Any) -> Tensor: return F.maximum(self, other)
    def minimum(self, other: Any) -> Tensor: return F.minimum(self, other)
    def where(self, condition: Any, other: Any) -> Tensor: return F.where(condition, self, other)
    def relu(self) -> Tensor: return F.relu(self)
    def sigmoid(self) -> Tensor: return F.sigmoid(self)
    def tanh(self) -> Tensor: return F.tanh(self)
    def softmax(self, dim: int = -1) -> Tensor: return F.softmax(self, dim)
    def log_softmax(self, dim: int = -1) -> Tensor: return F.log_softmax(self, dim)

    # Reductions take PyTorch's `dim`, `keepdim` and, as PyTorch does, NumPy's `axis`, `keepdims`.
    def sum(self, dim: Dims = None, keepdim: bool = False, **names: Any) -> Tensor:
        return F.sum(self, dim, keepdim, **names)
    def mean(self, dim: Dims = None, keepdim: bool = False, **names: Any) -> Tensor:
        return F.mean(self, dim, keepdim, **names)
    def max(self, dim: Dims = None, keepdim: bool = False, **names: Any) -> Tensor:
        return F.max(self, dim, keepdim, **names)
    def min(self, dim: Dims = None, keepdim: bool = False, **names: Any) -> Tensor:
        return F.min(self, dim, keepdim, **names)
    def prod(self, dim: Dims = None, keepdim: bool = False, **names: Any) -> Tensor:
        return F.prod(self, dim, keepdim, **names)
    def var(self, dim: Dims = None, keepdim: bool = False, correction: int = 0, **names: Any) -> Tensor:
        return F.var(self, dim, keepdim, correction, **names)
    def std(self, dim: Dims = None, keepdim: bool = False, correction: int = 0, **names: Any) -> Tensor:
        return F.std(self, dim, keepdim, correction, **names)
    def logsumexp(self, dim: Dims = None, keepdim: bool = False, **names: Any) -> Tensor:
        return F.logsumexp(self, dim, keepdim, **names)
    def all(self, dim: Dims = None, keepdim: bool = False, **names: Any) -> Tensor:
        return F.all(self, dim, keepdim, **names)
    def any(self, dim: Dims = None, keepdim: bool = False, **names: Any) -> Tensor:
        return F.any(self, dim, keepdim, **names)
    def cumsum(self, dim: int = 0, **names: Any) -> Tensor: return F.cumsum(self, dim, **names)
    def argmax(self, dim: int | None = None, keepdim: bool = False, **names: Any) -> Tensor:
        return F.argmax(self, dim, keepdim, **names)
    def argmin(self, dim: int | None = None, keepdim: bool = False, **names: Any) -> Tensor:
        return F.argmin(self, dim, keepdim, **names)

    def reshape(self, *shape: Any) -> Tensor: return F.reshape(self, *shape)
    def view(self, *shape: Any) -> Tensor: return F.reshape(self, *shape)
    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor: return F.flatten(self, start_dim, end_dim)
    def transpose(self, dim0: int, dim1: int) -> Tensor: return F.transpose(self, dim0, dim1)
    def permute(self, *dims: Any) -> Tensor: return F.permute(self, *dims)
    def expand(self, *shape: Any) -> Tensor: return F.expand(self, *shape)
    def sum_to_size(self, *shape: Any) -> Tensor: return F.sum_to_size(self, *shape)
    def squeeze(self, dim: Dims = None) -> Tensor: return F.squeeze(self, dim)
    def unsqueeze(self, dim: int) -> Tensor: return F.unsqueeze(self, dim)
    def split(self, sizes: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]: return F.split(self, sizes, dim)
    def flip(self, *dims: Any) -> Tensor: return F.flip(self, *dims)
    def repeat(self, *repeats: Any) -> Tensor: return F.repeat(self, *repeats)
    def repeat_interleave(self, repeats: int, dim: int) -> Tensor: return F.repeat_interleave(self, repeats, dim)
    def matmul(self, other: Any) -> Tensor: return F.matmul(self, other)

    @property
    def T(self) -> Tensor: return F.permute(self, *reversed(range(self.ndim)))
    @property
    def mT(self) -> Tensor: return F.transpose(self, -2, -1)
    # fmt: on


# Last, because both are built on Tensor: the one place where imports look up, for the operators above.
from minicnn import autograd  # noqa: E402
from minicnn import functional as F  # noqa: E402
