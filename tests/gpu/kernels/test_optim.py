"""Optimizer steps on the device: many parameters a launch, sizes at a chunk's edges, the schedule in device memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn.kernels import gpu, reference
from minicnn.kernels.gpu.live import LiveScalars, capturing
from tests.gpu.comparing import assert_near, in_float64, to_device, to_host

SHAPES = [(2047,), (2048,), (3, 683), (1,), (0, 5), (4100,)]
"""A chunk less one, a chunk, a chunk and one, one number, none, two chunks and a bit."""


def arrays(shapes: list[tuple[int, ...]], rng: np.random.Generator, dtype: str, positive: bool = False) -> list[Any]:
    drawn = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    return [np.abs(array) + np.asarray(0.5, dtype) for array in drawn] if positive else drawn


def adam_arguments(shapes: list[tuple[int, ...]], rng: np.random.Generator, dtype: str) -> dict[str, Any]:
    named = {name: arrays(shapes, rng, dtype) for name in ("params", "grads", "means")}
    return {**named, "squares": arrays(shapes, rng, dtype, positive=True), "max_squares": None,
            "lr": 0.01, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "step": 4}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_number_of_parameters_of_all_sizes_is_updated_once(dtype: str, rng: np.random.Generator) -> None:
    given = adam_arguments(SHAPES, rng, dtype)
    on_device, expected = to_device(given), in_float64(given)
    gpu.adam_step(**on_device)
    reference.adam_step(**expected)
    for name in ("params", "means", "squares"):
        for array, oracle in zip(to_host(on_device[name]), expected[name], strict=True):
            assert_near(array, oracle, 1e-6 if dtype == "float32" else 1e-14)


def test_more_parameters_than_a_launch_takes(rng: np.random.Generator) -> None:
    shapes = [(1 + i % 7,) for i in range(75)]
    given = {"params": arrays(shapes, rng, "float32"), "grads": arrays(shapes, rng, "float32")}
    on_device = to_device(given)
    gpu.sgd_step(**on_device, velocities=None, lr=0.5, momentum=0.0, nesterov=False)
    for array, p, g in zip(to_host(on_device["params"]), given["params"], given["grads"], strict=True):
        np.testing.assert_array_equal(array, p - np.float32(0.5) * g)


def test_parameters_of_both_dtypes_take_one_step(rng: np.random.Generator) -> None:
    params = [rng.standard_normal(5).astype(dtype) for dtype in ("float32", "float64", "float32")]
    on_device = to_device(params)
    gpu.sgd_step(on_device, to_device(params), None, 0.25, 0.0, False)
    for array, p in zip(to_host(on_device), params, strict=True):
        np.testing.assert_array_equal(array, p - p.dtype.type(0.25) * p)


def test_a_captured_step_reads_rate_and_number_from_device_memory(rng: np.random.Generator) -> None:
    given = adam_arguments([(300,)], rng, "float64")
    on_device, expected = to_device(given), in_float64(given)
    live = LiveScalars()
    with capturing(live):
        for step, lr in ((9, 0.3), (10, 0.1)):
            live.advance(lr, step)
            gpu.adam_step(**on_device)
            reference.adam_step(**{**expected, "lr": lr, "step": step})
    assert_near(to_host(on_device["params"][0]), expected["params"][0], 1e-14)


def test_arrays_that_the_kernel_would_misread_are_refused(rng: np.random.Generator) -> None:
    p = to_device(rng.standard_normal(6))
    with pytest.raises(TypeError, match="expected a float64 array on the device"):
        gpu.sgd_step([p], [p.astype(np.float32)], None, 0.1, 0.0, False)
    with pytest.raises(ValueError, match="expected a C-contiguous array of shape"):
        gpu.sgd_step([p], [to_device(rng.standard_normal(12))[::2]], None, 0.1, 0.0, False)
