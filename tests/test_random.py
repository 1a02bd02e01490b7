"""Streams of random numbers: a seed and a counter say everything."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import minicnn
from minicnn.random import Generator, generator_for


def test_streams_differ_from_each_other_and_repeat_from_the_seed() -> None:
    first, again, other = Generator(3), Generator(3), Generator(4)
    draws = [first.numpy().random(5) for _ in range(3)]
    for draw in draws:
        np.testing.assert_array_equal(again.numpy().random(5), draw)
    assert len({draw.tobytes() for draw in [*draws, other.numpy().random(5)]}) == 4


def test_a_state_goes_on_where_it_was_taken() -> None:
    generator = Generator(3)
    generator.next_stream()
    state = generator.get_state()
    expected = [generator.numpy().random(), generator.next_stream()]
    resumed = Generator(0)
    resumed.set_state(state)
    assert [resumed.numpy().random(), resumed.next_stream()] == expected


def test_threads_never_get_the_same_stream() -> None:
    generator = Generator(1)
    taken: list[tuple[int, int]] = []

    def take() -> None:
        taken.extend([generator.next_stream() for _ in range(500)])

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(stream for _, stream in taken) == list(range(1, 2001))


@pytest.mark.parametrize("seed", [-1, 1.5, "7", True])
def test_a_seed_is_a_non_negative_integer(seed: object) -> None:
    with pytest.raises(ValueError, match="seed must be a non-negative integer"):
        minicnn.manual_seed(seed)  # type: ignore[arg-type]


def test_generator_for_takes_nothing_a_number_or_a_generator() -> None:
    own = Generator(5)
    assert generator_for(own) is own
    assert generator_for(5).get_state() == (5, 0)
    assert generator_for(None) is minicnn.random.default_generator


def test_manual_seed_repeats_weights_shuffles_and_dropout() -> None:
    def train() -> list[np.ndarray]:
        minicnn.utils.set_random_seed(9)
        model = minicnn.Sequential(
            [
                minicnn.Input((3,)),
                minicnn.layers.Dense(8, activation="relu"),
                minicnn.layers.Dropout(0.5),
                minicnn.layers.Dense(1),
            ]
        )
        model.compile("sgd", "mse")
        x = np.random.default_rng(0).random((20, 3))
        model.fit(x, x.sum(axis=1), batch_size=4, epochs=2, verbose=0)
        return model.get_weights()

    for a, b in zip(train(), train(), strict=True):
        np.testing.assert_array_equal(a, b)
