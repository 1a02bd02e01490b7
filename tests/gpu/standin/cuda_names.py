"""The namespace cupy.cuda: devices, streams, events, graphs.

Work runs when it is asked for, whatever its stream: what two streams race for is not seen here. Captures are modelled:
see execution.py.
"""

from __future__ import annotations

import time
from typing import Any

from tests.gpu import emulator
from tests.gpu.standin import execution, memory
from tests.gpu.standin.errors import (
    CAPTURE_INVALIDATED,
    CAPTURE_UNSUPPORTED,
    CUDADriverError,
    CUDARuntimeError,
    StandinError,
)
from tests.gpu.standin.record import recorded

_TOTAL_MEMORY = 8 << 30


@recorded("cuda.is_available")
def is_available() -> bool:
    return emulator.find_compiler() is not None


# --------------------------------------------------------------------------------------------------- devices


class Device:
    """The one device there is. As cupy.cuda.Device."""

    @recorded("cuda.Device")
    def __init__(self, device: Any = None) -> None:
        self.id = 0 if device is None else int(device)
        if self.id != 0:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    @recorded("cuda.Device.use")
    def use(self) -> None:
        pass

    @recorded("cuda.Device.synchronize")
    def synchronize(self) -> None:
        execution.synchronizes("Device.synchronize")

    compute_capability = "90"
    pci_bus_id = "0000:00:00.0"

    @property
    def mem_info(self) -> tuple[int, int]:
        return memGetInfo()

    @property
    def attributes(self) -> dict[str, int]:
        return {
            "MultiProcessorCount": 4,
            "MaxSharedMemoryPerBlockOptin": 227 * 1024,
            "MaxSharedMemoryPerBlock": 48 * 1024,
            "WarpSize": 32,
            "MaxThreadsPerBlock": 1024,
            "ComputeCapabilityMajor": 9,
            "ComputeCapabilityMinor": 0,
        }


@recorded("cuda.get_device_id")
def get_device_id() -> int:
    return 0


# --------------------------------------------------------------------------------------------------- streams


class Stream:
    """As cupy.cuda.Stream; `Stream.null` is the legacy default stream."""

    null: Stream

    @recorded("cuda.Stream")
    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None
    ) -> None:
        self._state = execution.null_stream if null else execution.StreamState(False, is_blocking=not non_blocking)
        self.ptr = 0 if null else id(self._state)

    def __enter__(self) -> Stream:
        execution.current.append(self._state)
        return self

    def __exit__(self, *error: object) -> None:
        execution.current.pop()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.ptr == self.ptr

    def __hash__(self) -> int:
        return hash(self.ptr)

    @recorded("cuda.Stream.use")
    def use(self) -> Stream:
        execution.current[-1] = self._state
        return self

    @recorded("cuda.Stream.synchronize")
    def synchronize(self) -> None:
        execution.synchronizes("Stream.synchronize")

    @property
    def done(self) -> bool:
        execution.synchronizes("Stream.done")
        return True

    @recorded("cuda.Stream.record")
    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    @recorded("cuda.Stream.wait_event")
    def wait_event(self, event: Event) -> None:
        pass

    @recorded("cuda.Stream.is_capturing")
    def is_capturing(self) -> bool:
        return self._state.capture is not None

    @recorded("cuda.Stream.begin_capture")
    def begin_capture(self, mode: Any = None) -> None:
        if self._state.is_null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self._state.capture is not None:
            raise CUDARuntimeError("cudaErrorIllegalState: the operation cannot be performed in the present state")
        self._state.capture = execution.Capture()
        execution.capturing.append(self._state)

    @recorded("cuda.Stream.end_capture")
    def end_capture(self) -> Graph:
        capture = self._state.capture
        if capture is None:
            raise CUDARuntimeError("cudaErrorIllegalState: the operation cannot be performed in the present state")
        self._state.capture = None
        execution.capturing.remove(self._state)
        if capture.is_invalid:
            raise CUDARuntimeError(CAPTURE_INVALIDATED)
        return Graph(capture)


Stream.null = Stream(null=True)


@recorded("cuda.get_current_stream")
def get_current_stream(device_id: int = -1) -> Stream:
    state = execution.current[-1]
    stream = object.__new__(Stream)
    stream._state, stream.ptr = state, 0 if state.is_null else id(state)
    return stream


class Graph:
    """The operations of a capture, to be run again and again. As cupy.cuda.Graph."""

    def __init__(self, capture: execution.Capture) -> None:
        self._capture = capture

    @recorded("cuda.Graph.launch")
    def launch(self, stream: Stream | None = None) -> None:
        """Run all of it. Raises StandinError where its memory may have been given to somebody else since."""
        if execution.capture_of(None if stream is None else stream._state) is not None:
            raise CUDARuntimeError(f"{CAPTURE_UNSUPPORTED} (Graph.launch)")
        for allocation in self._capture.allocations.values():
            if allocation.is_freed and allocation.pool is memory.default_pool:
                raise StandinError(
                    f"the graph uses {allocation.size} bytes that were freed to the default pool: keep the arrays, or "
                    "capture under using_allocator() with a pool of the graph's own"
                )
        for operation in self._capture.operations:
            operation()

    @recorded("cuda.Graph.upload")
    def upload(self, stream: Stream | None = None) -> None:
        pass


class Event:
    """As cupy.cuda.Event."""

    @recorded("cuda.Event")
    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self._has_time = not disable_timing
        self._time: float | None = None

    @recorded("cuda.Event.record")
    def record(self, stream: Stream | None = None) -> None:
        self._time = time.perf_counter()

    @recorded("cuda.Event.synchronize")
    def synchronize(self) -> None:
        execution.synchronizes("Event.synchronize")

    @property
    def done(self) -> bool:
        return True


@recorded("cuda.get_elapsed_time")
def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds."""
    if start_event._time is None or end_event._time is None or not (start_event._has_time and end_event._has_time):
        raise CUDARuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
    return (end_event._time - start_event._time) * 1e3


# --------------------------------------------------------------------------------------------------- cuda.runtime


@recorded("cuda.runtime.getDeviceCount")
def getDeviceCount() -> int:
    return 1


@recorded("cuda.runtime.getDevice")
def getDevice() -> int:
    return 0


@recorded("cuda.runtime.getDeviceProperties")
def getDeviceProperties(device: int) -> dict[str, Any]:
    return {
        "name": b"emulated CUDA device",
        "major": 9,
        "minor": 0,
        "totalGlobalMem": _TOTAL_MEMORY,
        "multiProcessorCount": 4,
        "warpSize": 32,
        "maxThreadsPerBlock": 1024,
        "sharedMemPerBlock": 48 * 1024,
        "sharedMemPerBlockOptin": 227 * 1024,
        "l2CacheSize": 50 << 20,
        "clockRate": 1_000_000,
        "memoryClockRate": 1_000_000,
        "memoryBusWidth": 512,
    }


@recorded("cuda.runtime.memGetInfo")
def memGetInfo() -> tuple[int, int]:
    return _TOTAL_MEMORY - memory.default_pool.used_bytes(), _TOTAL_MEMORY


@recorded("cuda.runtime.runtimeGetVersion")
def runtimeGetVersion() -> int:
    return 13000


@recorded("cuda.runtime.driverGetVersion")
def driverGetVersion() -> int:
    return 13000


@recorded("cuda.runtime.deviceSynchronize")
def deviceSynchronize() -> None:
    execution.synchronizes("deviceSynchronize")


# --------------------------------------------------------------------------------------- cuda.compiler, cuda.nvrtc


class CompileException(Exception):
    """As cupy.cuda.compiler.CompileException."""


@recorded("cuda.nvrtc.getVersion")
def getVersion() -> tuple[int, int]:
    return 13, 0


runtime_names: dict[str, Any] = {
    function.__name__: function
    for function in (
        getDeviceCount,
        getDevice,
        getDeviceProperties,
        memGetInfo,
        runtimeGetVersion,
        driverGetVersion,
        deviceSynchronize,
    )
} | {"CUDARuntimeError": CUDARuntimeError, "streamCaptureModeRelaxed": 2}
driver_names: dict[str, Any] = {"CUDADriverError": CUDADriverError}
compiler_names: dict[str, Any] = {"CompileException": CompileException}
nvrtc_names: dict[str, Any] = {"getVersion": getVersion}
names: dict[str, Any] = {
    "is_available": is_available,
    "Device": Device,
    "get_device_id": get_device_id,
    "Stream": Stream,
    "get_current_stream": get_current_stream,
    "Graph": Graph,
    "Event": Event,
    "get_elapsed_time": get_elapsed_time,
    "MemoryPool": memory.MemoryPool,
    "MemoryPointer": memory.MemoryPointer,
    "PinnedMemoryPointer": memory.PinnedMemoryPointer,
    "using_allocator": memory.using_allocator,
    "set_allocator": memory.set_allocator,
    "alloc": memory.alloc,
    "alloc_pinned_memory": memory.alloc_pinned_memory,
}
