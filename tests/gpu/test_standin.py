"""The stand-in of CuPy itself: as strict as it says, right about captures, and no more than CuPy offers."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.gpu import emulator, standin
from tests.gpu.standin import CUDARuntimeError, StandinError, check_canaries, conformance, cupy, installed, record

pytestmark = pytest.mark.skipif(
    emulator.find_compiler() is None, reason="g++ is not there: the emulator cannot be built"
)

KERNELS = """
extern "C" __global__ void twice(const float* x, float* y, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = 2 * x[i];
}
extern "C" __global__ void put(float* y, int at) { y[at] = 1; }
extern "C" __global__ void gather(const float* const* tables, float* y) { y[threadIdx.x] = tables[threadIdx.x][0]; }
"""


@pytest.fixture(autouse=True)
def _no_memory_is_damaged() -> Iterator[None]:
    yield
    gc.collect()
    check_canaries()


@pytest.fixture(scope="module")
def kernels() -> Any:
    return cupy.RawModule(code=KERNELS, options=("-std=c++17",))


def floats(*shape: int) -> Any:
    """1, 2, 3, ... on the device."""
    return cupy.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape).copy()


# --------------------------------------------------------------------------------------------------- apart from NumPy


@pytest.mark.parametrize(
    "mix",
    [
        lambda x, a: x + a,
        lambda x, a: a + x,
        lambda x, a: x.__iadd__(a),
        lambda x, a: x.__setitem__(0, a),
        lambda x, a: cupy.maximum(x, a),
        lambda x, a: cupy.concatenate([x, a]),
        lambda x, a: cupy.where(x > 0, x, a),
        lambda x, a: cupy.matmul(x, a),
        lambda x, a: np.maximum(x, a),
    ],
)
def test_arrays_of_numpy_are_refused(mix: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"Unsupported type <class 'numpy\.ndarray'>"):
        mix(floats(2, 2), np.ones((2, 2), np.float32))


@pytest.mark.parametrize("convert", [np.asarray, np.array, lambda x: np.array([x, x])])
def test_nothing_is_converted_to_numpy_unasked(convert: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"Implicit conversion to a NumPy array is not allowed"):
        convert(floats(2, 2))


@pytest.mark.parametrize("call", [np.sin, np.sum, np.concatenate, lambda x: np.add(x, 1), lambda x: np.add(x, x)])
def test_numpys_functions_are_refused(call: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"of a device array: call the backend's array module"):
        call(floats(2, 2))


def test_scalars_of_numpy_and_python_mix() -> None:
    x = floats(3)
    for y in (2 * x, x * 2.0, np.float32(2) * x, x * np.float32(2)):
        assert isinstance(y, cupy.ndarray)
        assert y.dtype == np.float32
        assert y.get().tolist() == [2, 4, 6]
    assert (np.float64(2) * x).dtype == np.float64


@pytest.mark.parametrize(
    "make", [lambda: cupy.asarray(["a"]), lambda: cupy.asarray([None]), lambda: cupy.empty(2, object)]
)
def test_there_are_no_objects_on_a_device(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="Unsupported dtype"):
        make()


# --------------------------------------------------------------------------------------------------- unlike NumPy


def test_one_element_is_an_array_without_axes() -> None:
    x = floats(2, 3)
    for one in (x.sum(), x[1, 2], cupy.max(x), x.mean(axis=(0, 1)), x[0] @ x[1], cupy.linalg.norm(x), (x > 0).all()):
        assert isinstance(one, cupy.ndarray)
        assert one.shape == ()
    assert float(x[1, 2]) == x[1, 2].item() == 6
    assert int(x.sum()) == 21
    assert bool((x > 0).all())


def test_views_share_memory_and_know_their_base() -> None:
    x = floats(2, 3)
    for view in (x[0], x[1, 2], x.T, x.reshape(3, 2), x.ravel(), x[:, ::2], x[None], cupy.broadcast_to(x, (4, 2, 3))):
        assert view.base is x
    assert x.base is None
    assert x.T[0].base is x
    x.T[0] = 0
    assert x.get().tolist() == [[0, 2, 3], [0, 5, 6]]
    for copied in (x + 0, x.copy(), x[[0, 1]], x.T.reshape(6), x.astype(np.float32), cupy.ascontiguousarray(x.T)):
        assert copied.base is None


def test_flags_are_those_of_the_real_strides() -> None:
    x = floats(2, 3)
    assert (x.flags.c_contiguous, x.flags.f_contiguous, x.flags.owndata) == (True, False, True)
    assert (x.T.flags.c_contiguous, x.T.flags.f_contiguous, x.T.flags.owndata) == (False, True, False)
    assert not x[:, ::2].flags.c_contiguous
    assert (x.T + 1).flags.f_contiguous
    with pytest.raises(AttributeError):
        x.flags.carray  # noqa: B018


def test_indices() -> None:
    x = floats(3, 4)
    host = x.get()
    rows = np.array([2, 0])
    assert np.array_equal(x[rows].get(), host[rows])
    assert np.array_equal(x[cupy.asarray(rows), 1:].get(), host[rows, 1:])
    assert np.array_equal(x[x > 5].get(), host[host > 5])
    assert np.array_equal(x[..., -1].get(), host[..., -1])
    x[cupy.asarray(rows)] = 0
    host[rows] = 0
    cupy.add.at(x, (cupy.asarray([1, 1]), 2), 1)
    np.add.at(host, ([1, 1], 2), 1)
    assert np.array_equal(x.get(), host)
    with pytest.raises(IndexError):
        x[3]
    with pytest.raises(StandinError, match="CuPy wraps an index array's values around"):
        x[np.array([3])]
    with pytest.raises(TypeError, match="int64: CuPy knows"):
        cupy.add.at(cupy.zeros(3, np.int64), cupy.asarray([0]), 1)


def test_results_go_where_out_says() -> None:
    x, y = floats(2, 3), cupy.empty((2, 3), np.float32)
    assert cupy.add(x, 1, out=y) is y
    assert cupy.exp(y, y) is y
    assert np.array_equal(y.get(), np.exp(x.get() + 1))
    assert cupy.matmul(x, x.T, out=cupy.empty((2, 2), np.float32)).get().tolist() == [[14, 32], [32, 77]]
    assert cupy.einsum("ij,kj->ik", x, x, optimize=True).get().tolist() == [[14, 32], [32, 77]]
    x -= x
    assert not x.any()


def test_names_that_are_not_offered_say_what_to_do() -> None:
    with pytest.raises(AttributeError, match="'cupy' has no 'fuse': check that CuPy has it, then add it"):
        cupy.fuse  # noqa: B018
    with pytest.raises(AttributeError, match=r"'cupy\.cuda' has no 'Stremm'"):
        cupy.cuda.Stremm  # noqa: B018
    with pytest.raises(AttributeError, match="ndarray has no 'carray': check that CuPy has it"):
        floats(2).carray  # noqa: B018


def test_it_takes_cupys_place() -> None:
    with installed():
        import cupy as imported
        from cupy.cuda import Stream
        from cupy.cuda.runtime import getDeviceCount

        assert imported is cupy
        assert isinstance(Stream(), standin.cuda.Stream)
        assert getDeviceCount() == 1
    assert standin.ndarray is cupy.ndarray


# --------------------------------------------------------------------------------------------------- memory


def test_fresh_memory_is_no_number() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        assert np.isnan(cupy.empty((3, 5), dtype).get()).all()


def test_every_address_is_aligned_as_cupys_are() -> None:
    assert all(cupy.empty(size, np.uint8).data.ptr % 512 == 0 for size in range(1, 40, 7))


@pytest.mark.parametrize("at", [-1, -64, 4, 67])
def test_a_launch_that_writes_outside_of_an_array_is_caught(kernels: Any, at: int) -> None:
    y = cupy.zeros(4, np.float32)
    with pytest.raises(StandinError, match=rf"put: memory of 16 bytes was written outside, at byte {4 * at} "):
        kernels.get_function("put")((1,), (1,), (y, np.int32(at)))


def test_a_copy_that_runs_past_both_arrays_is_caught_and_reads_nan(kernels: Any) -> None:
    x, y, large = floats(4), cupy.zeros(4, np.float32), cupy.zeros(5, np.float32)
    kernels.get_function("twice")((1,), (8,), (x, large, np.int32(5)))
    assert np.isnan(large.get()[4])
    with pytest.raises(StandinError, match="twice: memory of 16 bytes was written outside, at byte 16"):
        kernels.get_function("twice")((1,), (8,), (x, y, np.int32(5)))


def test_damage_is_found_on_demand_and_after_memory_was_freed() -> None:
    for is_freed in (False, True):
        x = cupy.zeros(4, np.float32)
        x._lease.allocation.buffer[3] = 7
        if is_freed:
            del x
            gc.collect()
        with pytest.raises(StandinError, match="memory of 16 bytes was written outside, at byte -253"):
            check_canaries()
        check_canaries()  # reported once


def test_kernels_take_device_arrays_only(kernels: Any) -> None:
    x = floats(4)
    with pytest.raises(
        emulator.LaunchError, match=r"argument 1: a device array is needed\. Received: ndarray, an array of"
    ):
        kernels.get_function("twice")((1,), (8,), (x, np.zeros(4, np.float32), np.int32(4)))
    with pytest.raises(emulator.LaunchError, match="argument 0: the array must be C-contiguous"):
        kernels.get_function("twice")((1,), (8,), (floats(2, 2).T, x, np.int32(4)))


def test_addresses_may_be_passed_in_an_array(kernels: Any) -> None:
    parts, y = [floats(2), floats(3) + 10], cupy.empty(2, np.float32)
    addresses = cupy.asarray(np.array([part.data.ptr for part in parts], np.uint64))
    kernels.get_function("gather")((1,), (2,), (addresses, y))
    assert y.get().tolist() == [1, 11]


def test_pools_keep_account() -> None:
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc):
        x = cupy.zeros(100, np.float32)
        view = x[:50]
        assert pool.used_bytes() == 400
    y = cupy.zeros(100, np.float32)
    del x, y
    gc.collect()
    assert pool.used_bytes() == 400
    del view
    gc.collect()
    assert (pool.used_bytes(), pool.total_bytes()) == (0, 400)
    pool.free_all_blocks()
    assert pool.total_bytes() == 0


# --------------------------------------------------------------------------------------------------- capture


def test_a_captured_step_runs_when_its_graph_is_launched(kernels: Any) -> None:
    twice = kernels.get_function("twice")
    x, y = floats(4), cupy.zeros(4, np.float32)
    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(16), np.float32, 4)
    stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
    with stream, cupy.cuda.using_allocator(pool.malloc):
        stream.begin_capture()
        x.set(pinned)
        twice((1,), (4,), (x, y, np.int32(4)))
        between = y + x
        between *= 10
        result = between[1:].sum()
        y[0] = 5
        del between
        graph = stream.end_capture()
    assert x.get().tolist() == [1, 2, 3, 4]  # nothing has run
    assert y.get().tolist() == [0, 0, 0, 0]
    assert np.isnan(result.get())
    for start in (10, 20):
        pinned[:] = start + np.arange(4)
        graph.launch(stream)
        assert y.get().tolist() == [5, *(2 * pinned[1:])]
        assert float(result) == 30 * pinned[1:].sum()


@pytest.mark.parametrize(
    "illegal",
    [
        lambda x, stream: x.get(),
        lambda x, stream: float(x.sum()),
        lambda x, stream: bool(x.any()),
        lambda x, stream: x[x > 1],
        lambda x, stream: x.set(np.zeros(4, np.float32)),
        lambda x, stream: cupy.asarray(np.zeros(4)),
        lambda x, stream: cupy.nonzero(x),
        lambda x, stream: stream.synchronize(),
        lambda x, stream: cupy.cuda.Device().synchronize(),
    ],
)
def test_nothing_may_wait_for_the_device_during_a_capture(illegal: Callable[[Any, Any], Any]) -> None:
    x, stream = floats(4), cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        assert stream.is_capturing()
        with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureUnsupported"):
            illegal(x, stream)
        with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
            stream.end_capture()
    assert x.get().tolist() == [1, 2, 3, 4]


def test_the_default_stream_and_captures() -> None:
    with pytest.raises(RuntimeError, match="cannot capture on the default"):
        cupy.cuda.Stream.null.begin_capture()
    blocking = cupy.cuda.Stream()
    blocking.begin_capture()
    with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureImplicit"):
        floats(2)
    with pytest.raises(CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
        blocking.end_capture()
    free = cupy.cuda.Stream(non_blocking=True)
    free.begin_capture()
    assert floats(2).sum().shape == ()  # on another stream: runs at once
    free.end_capture().launch()


def test_a_graph_over_memory_that_was_freed_is_refused() -> None:
    stream, x = cupy.cuda.Stream(non_blocking=True), floats(4)
    with stream:
        stream.begin_capture()
        y = x + 1
        graph = stream.end_capture()
    graph.launch()
    assert y.get().tolist() == [2, 3, 4, 5]
    del y
    gc.collect()
    with pytest.raises(StandinError, match="the graph uses 16 bytes that were freed to the default pool"):
        graph.launch()


def test_events_measure_and_devices_describe_themselves() -> None:
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    end.record()
    end.synchronize()
    assert 0 <= cupy.cuda.get_elapsed_time(start, end) < 1000
    assert cupy.cuda.is_available()
    assert cupy.cuda.runtime.getDeviceProperties(0)["name"] == b"emulated CUDA device"
    assert cupy.cuda.Device().compute_capability == "90"
    free, total = cupy.cuda.runtime.memGetInfo()
    assert 0 < free <= total
    with pytest.raises(CUDARuntimeError, match="cudaErrorInvalidDevice"):
        cupy.cuda.Device(1)


# --------------------------------------------------------------------------------------------------- conformance


def test_signatures_of_compiled_code_are_read_off_docstrings() -> None:
    line = r"RawModule(str code=None, \*, str path=None, tuple options=(), name_expressions=None)"
    signature = conformance.signature_in(line)
    assert str(signature) == "(code=None, *, path=None, options=None, name_expressions=None)"
    line = "_ndarray_base.reshape(self, *shape, order='C', copy: bool = None) -> _ndarray_base"
    assert str(conformance.signature_in(line)) == "(self, *shape, order=None, copy=None)"
    assert (
        str(conformance.signature_in(r"add(x1, x2, /, out=None, \*, dtype=None)"))
        == "(x1, x2, /, out=None, *, dtype=None)"
    )
    assert conformance.signature_in("Something else.") is None


def test_calls_are_recorded_and_wrong_ones_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "used", {})
    cupy.pad(floats(2), 1, constant_values=3)
    assert (2, ("constant_values",)) in record.used["pad"]
    fake = type(inspect)("cupy")
    fake.pad = lambda array, pad_width, mode="constant": None  # type: ignore[attr-defined]
    refused, _ = conformance.calls_that_do_not_bind(fake)
    assert any("pad(" in line and "constant_values" in line for line in refused)
    assert "arange: CuPy has no such name" in refused


def test_cupy_offers_all_of_it_and_takes_every_call_that_was_made() -> None:
    real = pytest.importorskip("cupy")
    assert conformance.missing_names(real) == []
    refused, unchecked = conformance.calls_that_do_not_bind(real)
    assert refused == []
    assert unchecked == []
