"""What only a device can show: every source loaded by the driver, graphs, streams, arrays beyond 2^31 elements."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from minicnn.kernels import gpu, reference
from minicnn.kernels.gpu import loader
from minicnn.kernels.gpu.live import LiveScalars, capturing
from minicnn.kernels.gpu.runtime import cp

pytestmark = pytest.mark.skipif(bool(os.environ.get("MINICNN_CUPY")), reason="there is no CUDA device")

VARIANTS = [(file, defines) for file in loader.sources() for defines in loader.variants(file)]


@pytest.fixture
def stream() -> Iterator[object]:
    """A stream of the test's own, which is in force."""
    with cp.cuda.Stream(non_blocking=True) as made:
        yield made
        made.synchronize()


@pytest.mark.parametrize(("file", "defines"), VARIANTS)
def test_the_driver_loads_every_kernel(file: str, defines: dict[str, str]) -> None:
    if int(cp.cuda.Device().compute_capability) < loader.minimum_architecture(file):
        pytest.skip("the device is older than the source is for: there is no CUDA device for it")
    options = {name: value for name, value in defines.items() if name != "REAL"}
    module = loader.module(file, {"float": np.float32, "double": np.float64}[defines["REAL"]], **options)
    for name in module._signatures:
        assert module.kernel(name)._function.max_threads_per_block >= 32


def test_a_captured_step_is_replayed_with_new_numbers(stream: object) -> None:
    p, g, m, s = (np.full(5000, value) for value in (1.0, 0.5, 0.1, 0.2))
    on_device, live = [cp.asarray(array) for array in (p, g, m, s)], LiveScalars()
    arguments = {"max_squares": None, "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-7}

    def step(arrays: list[object], backend: object, lr: float, number: int) -> None:
        lists = [[array] for array in arrays]
        backend.adam_step(*lists, lr=lr, step=number, **arguments)  # type: ignore[attr-defined]

    gpu.adam_step(
        [cp.ones(3)], [cp.ones(3)], [cp.ones(3)], [cp.ones(3)], lr=0.1, step=1, **arguments
    )  # compiled before
    with capturing(live):
        stream.begin_capture()  # type: ignore[attr-defined]
        step(on_device, gpu, 0.0, 0)
        graph = stream.end_capture()  # type: ignore[attr-defined]
    for number, lr in ((1, 0.3), (2, 0.1)):
        live.advance(lr, number)
        graph.launch(stream)
        step([p, g, m, s], reference, lr, number)
    np.testing.assert_allclose(on_device[0].get(), p, rtol=1e-12)


def test_streams_that_run_side_by_side_do_not_disturb_each_other() -> None:
    x = np.random.default_rng(1).standard_normal((64, 1024)).astype(np.float32)
    streams, results = [cp.cuda.Stream(non_blocking=True) for _ in range(4)], []
    for made in streams:
        with made:
            given = cp.asarray(x)
            results.append([gpu.softmax(given) for _ in range(20)][-1])
    for made in streams:
        made.synchronize()
    assert len({result.get().tobytes() for result in results}) == 1


def test_more_elements_than_an_int_counts() -> None:
    free, _ = cp.cuda.runtime.memGetInfo()
    count = 2**31 + 5
    if free < 10 * count:
        pytest.skip("there is no CUDA device with 21 GB of free memory")
    x = cp.empty(count, np.float32)
    x.fill(-1)
    x[-3:] = 2
    y = gpu.activation(x, "relu")
    assert y[-5:].get().tolist() == [0, 0, 2, 2, 2]
