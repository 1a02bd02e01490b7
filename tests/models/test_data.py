"""Data for fit, evaluate and predict: batches, steps_per_epoch, generators, sequences, and input that is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import Input, Model, Sequential, layers, optimizers
from minicnn.models.data import batch_source

X = np.arange(10.0)[:, None] * [1.0, 0.0]  # rows are told by their first number
Y = np.arange(10.0)


class Watched(Sequential):
    """Remembers the rows of each training step."""

    def __init__(self) -> None:
        super().__init__([Input((2,)), layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
        self.compile(optimizers.SGD(0.0), "mse")
        self._seen: list[list[int]] = []

    def train_step(self, data: Any) -> Any:
        self._seen.append(data[0].data[:, 0].astype(int).tolist())
        return super().train_step(data)


def batches(count: int, size: int = 2) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, count * size, size):
        yield np.arange(start, start + size)[:, None] * [1, 0], np.zeros(size)


def joined(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


# --------------------------------------------------------------------------------------------------- steps


def test_steps_per_epoch_goes_on_through_arrays_from_epoch_to_epoch() -> None:
    model = Watched()
    model.fit(X, Y, batch_size=2, steps_per_epoch=2, epochs=2, shuffle=False, verbose=0)
    assert model._seen == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_too_little_data_warns_ends_the_epoch_early_and_starts_again() -> None:
    model = Watched()
    with pytest.warns(UserWarning, match="ran out after 1 of 3 steps"):
        history = model.fit(X[:8], Y[:8], batch_size=2, steps_per_epoch=3, epochs=3, shuffle=False, verbose=0)
    assert model._seen == [[0, 1], [2, 3], [4, 5], [6, 7], [0, 1], [2, 3], [4, 5]]
    assert history.epoch == [0, 1, 2]


def test_arrays_used_up_at_the_end_of_an_epoch_start_again_without_a_warning() -> None:
    model = Watched()
    model.fit(X[:8], Y[:8], batch_size=2, steps_per_epoch=2, epochs=3, shuffle=False, verbose=0)
    assert model._seen[4:] == [[0, 1], [2, 3]]


def test_steps_without_a_batch_size_divide_the_data() -> None:
    model = Watched()
    model.fit(X, Y, steps_per_epoch=3, shuffle=False, verbose=0)
    assert [len(rows) for rows in model._seen] == [4, 4, 2]


def test_a_fraction_of_steps_counts_as_a_step() -> None:
    model = Watched()
    model.fit(X, Y, batch_size=4, steps_per_epoch=len(X) / 4, shuffle=False, verbose=0)
    assert [len(rows) for rows in model._seen] == [4, 4, 2]


def test_a_generator_goes_on_from_epoch_to_epoch() -> None:
    model = Watched()
    model.fit(batches(5), steps_per_epoch=2, epochs=2, verbose=0)
    assert model._seen == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_a_generator_that_ends_ends_the_training() -> None:
    model = Watched()
    with pytest.warns(UserWarning, match="ran out after 1 of 2 steps|used up") as caught:
        history = model.fit(batches(3), steps_per_epoch=2, epochs=4, verbose=0)
    assert ["this epoch ends early" in str(warning.message) for warning in caught] == [True, False]
    assert history.epoch == [0, 1]


def test_without_steps_a_generator_is_one_epoch() -> None:
    model = Watched()
    with pytest.warns(UserWarning, match="used up"):
        history = model.fit(batches(3), epochs=2, verbose=0)
    assert history.epoch == [0]
    assert len(model._seen) == 3


def test_an_iterable_is_gone_through_anew_each_epoch() -> None:
    class Loader:
        def __iter__(self) -> Iterator[Any]:
            return batches(2)

    model = Watched()
    model.fit(Loader(), epochs=2, verbose=0)
    assert model._seen == [[0, 1], [2, 3], [0, 1], [2, 3]]


class Numbered:
    """Batches by number, as a keras.utils.PyDataset."""

    def __init__(self) -> None:
        self.epochs_ended = 0

    def __len__(self) -> int:
        return 6

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        return X[number : number + 1], Y[number : number + 1]

    def on_epoch_end(self) -> None:
        self.epochs_ended += 1


def test_a_sequence_is_shuffled_by_batches_and_told_when_an_epoch_ends() -> None:
    model, sequence = Watched(), Numbered()
    model.fit(sequence, epochs=2, verbose=0)
    first, second = joined(model._seen[:6]), joined(model._seen[6:])
    assert sorted(first) == sorted(second) == list(range(6))
    assert first != second
    assert sequence.epochs_ended == 2
    model.fit(Numbered(), shuffle=False, verbose=0)
    assert joined(model._seen[12:]) == list(range(6))


def test_evaluate_and_predict_take_batches_and_steps() -> None:
    model = Watched()
    model.set_weights([np.array([[1.0], [0.0]])])
    assert model.evaluate(Numbered(), verbose=0) == 0.0
    np.testing.assert_array_equal(model.predict(Numbered(), verbose=0)[:, 0], np.arange(6))
    np.testing.assert_array_equal(model.predict(batches(4), steps=2, verbose=0)[:, 0], np.arange(4))


def test_class_weight_works_on_batches() -> None:
    model = Watched()
    history = model.fit(iter([(X[:2], np.array([1, 2]))]), class_weight={1: 10.0}, verbose=0)
    assert history.history["loss"] == [pytest.approx((10 * 1 + 4) / 2)]


# --------------------------------------------------------------------------------------------------- arrays


def test_lists_of_numbers_and_tensors_are_arrays() -> None:
    model = Watched()
    model.fit([[1, 0], [2, 0]], [0, 0], shuffle=False, verbose=0)
    model.fit(minicnn.Tensor([[3.0, 0.0]]), minicnn.Tensor([0.0]), verbose=0)
    assert model._seen == [[1, 2], [3]]


def test_float64_data_is_measured_as_precisely_as_the_model_is() -> None:
    model = Watched()
    assert model.predict(X).dtype == np.float32


def test_data_that_does_not_fit_together_is_refused() -> None:
    model = Watched()
    with pytest.raises(ValueError, match=r"fit: all arrays must have the same number of rows. Received: x 10, y 9"):
        model.fit(X, Y[:9], verbose=0)
    with pytest.raises(ValueError, match=r"sample_weight 3"):
        model.fit(X, Y, sample_weight=np.ones(3), verbose=0)
    with pytest.raises(ValueError, match="class_weight or sample_weight, not both"):
        model.fit(X, Y, sample_weight=np.ones(10), class_weight={0: 1.0}, verbose=0)
    with pytest.raises(ValueError, match="x yields batches, so they must hold y"):
        model.fit(batches(2), Y, verbose=0)
    with pytest.raises(ValueError, match="validation_split needs arrays"):
        model.fit(batches(2), validation_split=0.5, verbose=0)
    with pytest.raises(ValueError, match="a batch must be x"):
        model.fit(iter([(X, Y, Y, Y)]), verbose=0)


def test_empty_data_is_refused() -> None:
    model = Watched()
    for call in (
        lambda: model.fit(X[:0], Y[:0], verbose=0),
        lambda: model.evaluate(X[:0], Y[:0], verbose=0),
        lambda: model.predict(X[:0]),
        lambda: model.fit(iter([]), verbose=0),
        lambda: model.predict(iter([])),
        lambda: model.train_on_batch(X[:0], Y[:0]),
    ):
        with pytest.raises(ValueError, match="there is no data"):
            call()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((3, 2), np.float16), r"float16. Convert with .astype\('float32'\)"),
        (np.ones((3, 2), complex), "complex128"),
        (np.array([["a", "b"]]), "<U1.*np.unique"),
        (np.array([np.ones(2), None], object), "object"),
        (["cat", "dog"], "<U3"),
    ],
)
def test_data_of_other_dtypes_is_refused(array: Any, message: str) -> None:
    model = Watched()
    with pytest.raises(TypeError, match=f"fit: x must hold.*{message}"):
        model.fit(array, np.zeros(len(array)), verbose=0)
    with pytest.raises(TypeError, match=f"fit: y must hold.*{message}"):
        model.fit(np.zeros((len(array), 2)), array, verbose=0)


def test_ragged_lists_and_single_numbers_are_refused() -> None:
    model = Watched()
    with pytest.raises(ValueError, match="x must be numbers in rows of one length"):
        model.fit([[1, 2], [3]], [0, 0], verbose=0)
    with pytest.raises(TypeError, match="x must be an array, a Tensor, lists or dicts of them, or yield batches"):
        model.fit(3, 4, verbose=0)
    with pytest.raises(ValueError, match="y must have rows"):
        model.fit(X, np.float32(3), verbose=0)


def test_check_nan_names_argument_and_row() -> None:
    x = Input((2,), name="a")
    extra = Input((1,), name="b")
    model = Model([x, extra], layers.Dense(1)(layers.Concatenate()([x, extra])))
    model.compile("sgd", "mse")
    b = np.zeros((10, 1))
    b[7] = b[4] = np.nan
    with pytest.raises(ValueError, match=r"fit: x\[1\] holds NaN in row 4 \(2 rows have some\)"):
        model.fit([X, b], Y, check_nan=True, verbose=0)
    labels = np.where(np.arange(10) == 3, np.nan, Y)
    with pytest.raises(ValueError, match="evaluate: y holds NaN in row 3"):
        model.evaluate([X, np.zeros((10, 1))], labels, check_nan=True, verbose=0)
    with pytest.raises(ValueError, match=r"predict: x\['b'\] holds NaN in row 4"):
        model.predict({"a": X, "b": b}, check_nan=True)
    assert np.isnan(model.predict([X, b])).ravel().tolist() == np.isnan(b).ravel().tolist()


def test_check_nan_looks_at_batches_and_validation_data_and_lets_infinity_pass() -> None:
    model = Watched()
    bad = X.copy()
    bad[1, 1] = np.nan
    with pytest.raises(ValueError, match="x of batch 1 holds NaN in row 1"):
        model.fit(iter([(X, Y), (bad, Y)]), check_nan=True, verbose=0)
    with pytest.raises(ValueError, match="fit, validation_data: x holds NaN in row 1"):
        model.fit(X, Y, validation_data=(bad, Y), check_nan=True, verbose=0)
    batch_source("predict", np.array([[np.inf, -np.inf]]), check_nan=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_split": 1.5}, "validation_split must be a fraction"),
        ({"validation_split": 0.99}, "leaves rows on both sides.*10 rows"),
        ({"batch_size": 0}, "batch_size must be a positive integer"),
        ({"batch_size": 2.5}, "batch_size must be a positive integer"),
        ({"steps_per_epoch": -1}, "number of steps must be positive"),
        ({"verbose": 3}, "verbose must be"),
    ],
)
def test_wrong_options_of_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Watched().fit(X, Y, **{"verbose": 0, **options})
