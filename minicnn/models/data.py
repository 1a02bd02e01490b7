"""What `fit`, `evaluate` and `predict` are fed: arrays, sequences and iterables, all turned into batches.

A batch source (`ArrayBatches`, `SequenceBatches`, `IterableBatches`) can be gone through again and again; `Epochs` cuts
the passes into epochs. x, y and the sample weights are nests of NumPy arrays with equal first axes; y and the weights
may be None.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from minicnn import random
from minicnn.backend import Backend, as_host
from minicnn.layers.symbolic import flatten, map_structure
from minicnn.tensor import Tensor

Array: TypeAlias = np.ndarray[Any, Any]
Nest: TypeAlias = Any
"""An array, or lists, tuples and dicts of them."""


class Batch(NamedTuple):
    """One step's data; y and weights are None where there are none."""

    x: Nest
    y: Nest = None
    sample_weight: Nest = None

    def packed(self, backend: Backend) -> Any:
        """x, (x, y) or (x, y, weights) with tensors for arrays: what `train_step` gets. A list x alone is (x,).

        The tensors lie in the backend's memory: on the host over the batch's own, which nobody will write to.
        """

        def tensor(array: Array | None) -> Tensor | None:
            return None if array is None else Tensor._wrap(backend.place(np.ascontiguousarray(array)))

        x, y, sample_weight = (map_structure(tensor, nest) for nest in self)
        if sample_weight is not None:
            return x, y, sample_weight
        if y is not None:
            return x, y
        return (x,) if isinstance(x, list) else x


def unpack_x_y_sample_weight(data: Any) -> tuple[Nest, Nest, Nest]:
    """(x, y, sample_weight) from what `train_step` gets, None for what is not there. As in keras.utils."""
    x, y, sample_weight = (*data, None, None)[:3] if isinstance(data, tuple) else (data, None, None)
    return x, y, sample_weight


class BatchSource(Protocol):
    """Batches that can be gone through again and again. Numbers are None where they are not known."""

    @property
    def num_batches(self) -> int | None: ...
    @property
    def num_samples(self) -> int | None: ...
    def __iter__(self) -> Iterator[Batch]: ...


def batch_source(
    caller: str,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    batch_size: int | None = None,
    steps: int | None = None,
    shuffle: bool = False,
    class_weight: Mapping[int, float] | None = None,
    check_nan: bool = False,
) -> BatchSource:
    """The batches that the arguments of `fit`, `evaluate` or `predict` (the `caller`) describe.

    Raises TypeError for data of a wrong kind or dtype, ValueError for arrays that are empty or of different lengths,
    for NaNs if `check_nan` asks to look for them, and for arguments that do not go with the kind of data.
    """
    if batch_size is not None and (not isinstance(batch_size, (int, np.integer)) or batch_size < 1):
        raise ValueError(f"{caller}: batch_size must be a positive integer. Received: {batch_size!r}")
    if class_weight is not None and sample_weight is not None:
        raise ValueError(f"{caller}: give class_weight or sample_weight, not both.")
    finish = _finisher(class_weight, check_nan, caller)
    if _holds_arrays(x):
        whole = finish(make_batch(caller, x, y, sample_weight), "")
        return ArrayBatches(whole, batch_size, steps, shuffle)
    _check_yields_batches(caller, x, y is None and sample_weight is None)

    def batch_of(data: Any, number: int) -> Batch:
        parts = tuple(data) if isinstance(data, (tuple, list)) else (data,)
        if not 1 <= len(parts) <= 3:
            raise ValueError(f"{caller}: a batch must be x, (x, y) or (x, y, weights). Received: {len(parts)} parts")
        return finish(make_batch(caller, *parts), f" of batch {number}")

    return SequenceBatches(x, batch_of, shuffle) if _is_sequence(x) else IterableBatches(x, batch_of)


def _is_sequence(x: Any) -> bool:
    return hasattr(x, "__getitem__") and hasattr(x, "__len__")


def _check_yields_batches(caller: str, x: Any, alone: bool) -> None:
    kind = type(x).__name__
    if not _is_sequence(x) and not isinstance(x, Iterable):
        raise TypeError(
            f"{caller}: x must be an array, a Tensor, lists or dicts of them, or yield batches (a generator, or an "
            f"object with __len__ and __getitem__). Received: {kind}"
        )
    if not alone:
        raise ValueError(
            f"{caller}: x yields batches, so they must hold y and the sample weights too: (x, y) or (x, y, weights). "
            f"Received: x of type {kind} and y or sample_weight beside it"
        )


# --------------------------------------------------------------------------------------------------- sources


class ArrayBatches:
    """Slices of arrays; with `shuffle` each pass takes the rows in a new random order. The last batch may be smaller.

    batch_size: default 32, or with `steps` as large as it takes to go through the arrays in that many.
    """

    def __init__(self, whole: Batch, batch_size: int | None, steps: int | None, shuffle: bool) -> None:
        self.whole, self.shuffle = whole, shuffle
        self.num_samples = len(flatten(whole.x)[0])
        self.batch_size = batch_size or (math.ceil(self.num_samples / steps) if steps else 32)
        self.num_batches = math.ceil(self.num_samples / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = random.default_generator.numpy().permutation(self.num_samples) if self.shuffle else None
        for start in range(0, self.num_samples, self.batch_size):
            rows: Any = slice(start, start + self.batch_size)
            yield take(self.whole, rows if order is None else order[rows])


class SequenceBatches:
    """Batches by number from an object with `__len__` and `__getitem__`, such as a keras.utils.PyDataset.

    Its `on_epoch_end()` is called after each pass. With `shuffle` each pass takes the batches in a new random order.
    """

    num_samples = None

    def __init__(self, sequence: Any, batch_of: Callable[[Any, int], Batch], shuffle: bool) -> None:
        self.sequence, self.batch_of, self.shuffle = sequence, batch_of, shuffle
        self.num_batches = len(sequence)

    def __iter__(self) -> Iterator[Batch]:
        numbers = np.arange(self.num_batches)
        if self.shuffle:
            numbers = random.default_generator.numpy().permutation(numbers)
        for number in numbers.tolist():
            yield self.batch_of(self.sequence[number], number)
        getattr(self.sequence, "on_epoch_end", lambda: None)()


class IterableBatches:
    """Batches from a generator, which goes on from pass to pass, or from what can be iterated anew each time."""

    num_samples = num_batches = None

    def __init__(self, iterable: Iterable[Any], batch_of: Callable[[Any, int], Batch]) -> None:
        self.iterable, self.batch_of = iterable, batch_of

    def __iter__(self) -> Iterator[Batch]:
        for number, data in enumerate(self.iterable):
            yield self.batch_of(data, number)


class Epochs:
    """Passes over a batch source, cut into epochs of `steps` batches; without `steps` an epoch is a pass.

    With `steps`, an epoch goes on where the one before stopped.
    exhausted: whether the source had nothing to give any more at the last epoch's start.
    """

    def __init__(self, source: BatchSource, steps: float | None = None) -> None:
        if steps is not None and not steps > 0:
            raise ValueError(f"the number of steps must be positive. Received: {steps!r}")
        self.source = source
        self.steps = None if steps is None else math.ceil(steps)  # programs write len(x) / batch_size
        self.exhausted = self._started = False
        self._pass: Iterator[Batch] | None = None

    @property
    def num_batches(self) -> int | None:
        """Batches an epoch, None where that is not known."""
        return self.steps or self.source.num_batches

    @property
    def num_samples(self) -> int | None:
        """Rows an epoch, None where that is not known."""
        if self.steps is None or not isinstance(self.source, ArrayBatches):
            return self.source.num_samples
        return min(self.steps * self.source.batch_size, self.source.num_samples)

    def epoch(self) -> Iterator[tuple[int, Batch]]:
        """Numbered batches of the next epoch. Warns where the data ends before the epoch should.

        Raises ValueError where there is no data at all.
        """
        step = 0
        while self.steps is None or step < self.steps:
            batch = self._next(may_restart=step == 0)
            if batch is None:
                self._ended_after(step)
                break
            self._started = True
            yield step, batch
            step += 1

    def _ended_after(self, step: int) -> None:
        if not self._started:
            raise ValueError("there is no data: x yields no batches.")
        self._pass = None
        self.exhausted = step == 0
        if self.exhausted:
            warnings.warn("the data is used up: there is nothing left for another epoch.", stacklevel=5)
        elif self.steps is not None:
            warnings.warn(
                f"the data ran out after {step} of {self.steps} steps: this epoch ends early. A generator must yield "
                "steps_per_epoch * epochs batches.",
                stacklevel=5,
            )

    def _next(self, may_restart: bool) -> Batch | None:
        """The next batch; at the start of an epoch a pass that is over is followed by a new one."""
        batch = None if self._pass is None else next(self._pass, None)
        if batch is None and may_restart:
            self._pass = iter(self.source)
            batch = next(self._pass, None)
        return batch


# --------------------------------------------------------------------------------------------------- arrays


def make_batch(caller: str, x: Any, y: Any = None, sample_weight: Any = None) -> Batch:
    """Nests of arrays, checked: numbers of a known dtype, at least one row, all of one length."""
    parts = _arrays(caller, "x", x), _arrays(caller, "y", y), _arrays(caller, "sample_weight", sample_weight)
    batch = Batch(*parts)
    named = _named(batch)
    lengths = {len(array) for _, array in named}
    if len(lengths) > 1:
        listed = ", ".join(f"{name} {len(array)}" for name, array in named)
        raise ValueError(f"{caller}: all arrays must have the same number of rows. Received: {listed}")
    if not any(lengths):
        raise ValueError(f"{caller}: there is no data: x has no rows.")
    return batch


def take(batch: Batch, rows: Any) -> Batch:
    """Some rows of all arrays: a slice or an array of indices."""
    return Batch(*(map_structure(lambda array: None if array is None else array[rows], nest) for nest in batch))


def split_off_validation(caller: str, x: Any, y: Any, sample_weight: Any, fraction: float) -> tuple[Batch, Batch]:
    """(training, validation): the last rows, before any shuffling, are for validation. As Keras' validation_split.

    Raises ValueError where x is no array, or where the fraction is not within (0, 1) or leaves one side empty.
    """
    if not _holds_arrays(x):
        raise ValueError(
            f"{caller}: validation_split needs arrays; give batches for validation as validation_data. "
            f"Received: x of type {type(x).__name__}"
        )
    batch = make_batch(caller, x, y, sample_weight)
    total = len(flatten(batch.x)[0])
    first = math.floor(total * (1 - fraction))
    if not 0 < fraction < 1 or not 0 < first < total:
        raise ValueError(
            f"{caller}: validation_split must be a fraction between 0 and 1 that leaves rows on both sides. "
            f"Received: validation_split={fraction}, {total} rows"
        )
    return take(batch, slice(first)), take(batch, slice(first, None))


def class_weights(caller: str, y: Nest, class_weight: Mapping[int, float]) -> Array:
    """A weight for each row: that of its class, 1 for classes that are not listed.

    y: class numbers (N,) or (N, 1), or one-hot rows (N, classes).
    """
    if not isinstance(y, np.ndarray):
        raise ValueError(f"{caller}: class_weight needs a single y. Received: y of type {type(y).__name__}")
    classes = y.argmax(axis=-1) if y.ndim > 1 and y.shape[-1] != 1 else np.rint(y.reshape(len(y), -1)[:, 0])
    found, where = np.unique(classes.astype(np.int64), return_inverse=True)
    return np.array([class_weight.get(number, 1.0) for number in found.tolist()])[where]


def _finisher(class_weight: Mapping[int, float] | None, check_nan: bool, caller: str) -> Callable[[Batch, str], Batch]:
    """What is done to all data: NaNs looked for, class weights put in."""

    def finish(batch: Batch, where: str) -> Batch:
        if check_nan:
            _refuse_nan(caller, batch, where)
        if class_weight is not None:
            batch = batch._replace(sample_weight=class_weights(caller, batch.y, class_weight))
        return batch

    return finish


def _refuse_nan(caller: str, batch: Batch, where: str) -> None:
    for name, array in _named(batch):
        if array.dtype.kind != "f":
            continue
        rows = np.flatnonzero(np.isnan(array).reshape(len(array), -1).any(axis=1))
        if rows.size:
            raise ValueError(
                f"{caller}: {name}{where} holds NaN in row {rows[0]} ({rows.size} rows have some). Leave these rows "
                "out, or fill them (np.nan_to_num)."
            )


def _holds_arrays(x: Any) -> bool:
    return isinstance(x, (list, tuple, dict)) or hasattr(x, "__array__")


def _arrays(caller: str, role: str, nest: Any) -> Nest:
    """The same nest with arrays for leaves; lists of plain numbers become one array."""
    if nest is None:
        return None
    if isinstance(nest, dict):
        return {key: _arrays(caller, f"{role}[{key!r}]", part) for key, part in nest.items()}
    if isinstance(nest, (list, tuple)) and any(leaf is None or hasattr(leaf, "__array__") for leaf in flatten(nest)):
        return [_arrays(caller, f"{role}[{place}]", part) for place, part in enumerate(nest)]
    return _array(caller, role, nest)


def _array(caller: str, role: str, value: Any) -> Array:
    try:
        array = as_host(value.data if isinstance(value, Tensor) else value)
    except ValueError as error:
        raise ValueError(f"{caller}: {role} must be numbers in rows of one length. {error}") from None
    if array.dtype.kind in "iub" or (array.dtype.kind == "f" and array.dtype.itemsize in (4, 8)):
        if array.ndim == 0:
            raise ValueError(f"{caller}: {role} must have rows, one a sample. Received: a single number, {array}")
        return array
    mend = "Convert with .astype('float32')."
    if array.dtype.kind in "OUS":
        mend = (
            "Names become class numbers by np.unique(names, return_inverse=True)[1]; a list of images, np.stack(them)."
        )
    raise TypeError(
        f"{caller}: {role} must hold float32, float64, integers or bools. Received: dtype {array.dtype}. {mend}"
    )


def _named(batch: Batch) -> list[tuple[str, Array]]:
    """All arrays with what to call them: x, y[1], sample_weight['depth']."""
    return [pair for role, nest in zip(Batch._fields, batch, strict=True) for pair in _named_parts(role, nest)]


def _named_parts(name: str, nest: Nest) -> list[tuple[str, Array]]:
    if isinstance(nest, dict):
        return [pair for key, part in nest.items() for pair in _named_parts(f"{name}[{key!r}]", part)]
    if isinstance(nest, list):
        return [pair for place, part in enumerate(nest) for pair in _named_parts(f"{name}[{place}]", part)]
    return [] if nest is None else [(name, nest)]
