"""Which kernels serve an array: the backends, the one in force, who implements what, and on how many threads.

A backend is a name, an array module (`xp`: numpy, or cupy on the GPU) and a module of kernels that obeys
`kernels/contract.py`. The backend in force (`use_backend`) decides where new tensors lie. Arrays of the host's memory
are served by the host backend that was chosen last: "cpu", the fast one, unless told otherwise; arrays of the GPU's
memory by the backend "gpu". A backend's kernels are imported when they are first needed.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from minicnn.kernels.contract import Array, Kernels

if TYPE_CHECKING:
    from minicnn.kernels import cpu, gpu, reference

    _CHECKED: tuple[Kernels, ...] = (reference, cpu, gpu)  # mypy compares the modules with the contract

_HOST_KERNELS = {"cpu": "minicnn.kernels.cpu", "reference": "minicnn.kernels.reference"}
_GPU_RUNTIME = "minicnn.kernels.gpu.runtime"
_ENVIRONMENT_VARIABLE = "MINICNN_BACKEND"
_DEFAULT = "cpu"


class Backend:
    """A name, the array module and the kernels, for arrays in the host's memory."""

    on_host = True

    def __init__(self, name: str, xp: ModuleType, module: str) -> None:
        self.name, self.xp, self._module = name, xp, module

    @cached_property
    def kernels(self) -> Kernels:
        """The module of kernels, imported at first use: compilers take their time to load."""
        return cast(Kernels, importlib.import_module(self._module))

    @property
    def device(self) -> str:
        """Where its arrays lie: "cpu" or "gpu"."""
        return "cpu" if self.on_host else "gpu"

    def place(self, array: Array) -> Array:
        """The array in this backend's memory: itself where it is there already, else a copy."""
        return as_host(array)

    def why_unavailable(self) -> str | None:
        """Why it cannot compute on this machine, in words; None where it can."""
        return None

    def __repr__(self) -> str:
        return f"<Backend {self.name}>"


class _GpuBackend(Backend):
    """The same for arrays in the GPU's memory. Nothing of CuPy is imported before the backend is asked for."""

    on_host = False

    def __init__(self) -> None:
        self.name, self._module = "gpu", "minicnn.kernels.gpu"

    @cached_property
    def xp(self) -> ModuleType:  # type: ignore[override]
        return cast(ModuleType, importlib.import_module(_GPU_RUNTIME).cp)

    def owns(self, array: object) -> bool:
        """Whether the array lies in the GPU's memory; where CuPy was never imported, none does."""
        return _GPU_RUNTIME in sys.modules and isinstance(array, self.xp.ndarray)

    def place(self, array: Array) -> Array:
        return self.xp.asarray(array)

    def why_unavailable(self) -> str | None:
        try:
            reason: str | None = importlib.import_module(_GPU_RUNTIME).why_unavailable()
        except ImportError as error:
            return str(error)
        return reason


_gpu = _GpuBackend()
_backends: dict[str, Backend] = {name: Backend(name, np, module) for name, module in _HOST_KERNELS.items()}
_backends["gpu"] = _gpu


def all_backends() -> list[str]:
    """Names of all backends, whether or not this machine has what they need."""
    return list(_backends)


def available_backends() -> list[str]:
    """Names that `use_backend` takes on this machine. Asks CuPy, where it is installed, for a device."""
    return [name for name, backend in _backends.items() if backend.why_unavailable() is None]


def why_unavailable(name: str) -> str | None:
    """Why a backend cannot compute on this machine, in words; None where it can."""
    return _backends[name].why_unavailable()


def as_host(array: Array) -> Any:
    """The array in the host's memory: itself, or a copy of what lies on the GPU."""
    return array.get() if _gpu.owns(array) else np.asarray(array)


def is_kernel_input(array: Array) -> bool:
    """Whether kernels take the array as it lies: C-contiguous, aligned and, on the host, writable."""
    flags = array.flags
    return bool(flags.carray if type(array) is np.ndarray else flags.c_contiguous)


def get_backend(name: str) -> Backend:
    """The backend of that name.

    Raises ValueError for an unknown name, RuntimeError for a backend that cannot compute on this machine.
    """
    if name not in _backends:
        close = difflib.get_close_matches(str(name), _backends, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"backend must be one of {all_backends()}. Received: {name!r}.{hint}")
    backend = _backends[name]
    reason = backend.why_unavailable()
    if reason is not None:
        raise RuntimeError(f"the backend {name!r} cannot compute here. {reason}")
    return backend


class use_backend:
    """Choose the backend from here on; as a context manager, until the block ends.

        minicnn.use_backend("reference")
        with minicnn.use_backend("gpu"): ...

    New tensors are made in its memory. "cpu" and "reference" also serve the arrays that lie on the host already.
    Raises ValueError for an unknown name, RuntimeError where the machine has no GPU that CuPy can use. The environment
    variable MINICNN_BACKEND sets the first one.
    """

    def __init__(self, name: str) -> None:
        chosen = get_backend(name)
        self._before = _active, _host
        _activate(chosen, chosen if chosen.on_host else _host)

    def __enter__(self) -> Backend:
        return _active

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _activate(*self._before)


def _activate(active: Backend, host: Backend) -> None:
    global _active, _host
    _active, _host = active, host


def current_backend() -> Backend:
    """The backend in force: new tensors are made in its memory."""
    return _active


def host_backend() -> Backend:
    """The backend that serves host arrays now."""
    return _host


def backend_of(array: Array) -> Backend:
    """The backend that serves this array.

    Raises TypeError for what is no array of NumPy's or CuPy's.
    """
    if isinstance(array, np.ndarray):
        return _host
    if _gpu.owns(array):
        return _gpu
    raise TypeError(f"expected an array of numpy's or cupy's. Received: {type(array).__name__}")


def common_backend(arrays: Sequence[Array], caller: str) -> Backend:
    """The one backend that serves all these arrays; the one in force where there are none.

    Raises RuntimeError, which says where each lies, for arrays of the host and of the GPU together.
    """
    backends = [backend_of(array) for array in arrays]
    if any(backend is not backends[0] for backend in backends):
        places = ", ".join(f"argument {i} on the {backend.device}" for i, backend in enumerate(backends))
        raise RuntimeError(
            f"{caller}: all tensors must lie on one device: move some with t.to('gpu') or t.to('cpu'). "
            f"Received: {places}"
        )
    return backends[0] if backends else _active


def implementation(kernel: str, backend: str | None = None) -> str:
    """Dotted name of the function that a backend runs for a contract kernel.

    >>> implementation("conv2d", "reference")
    'minicnn.kernels.reference.conv.conv2d'

    Raises ValueError where the contract has no kernel of that name.
    """
    chosen = _active if backend is None else get_backend(backend)
    if kernel not in kernel_names():
        close = difflib.get_close_matches(kernel, kernel_names(), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"kernel must be a name of kernels/contract.py. Received: {kernel!r}.{hint}")
    function: Callable[..., object] = getattr(chosen.kernels, kernel)
    return f"{function.__module__}.{function.__qualname__}"


def kernel_names() -> list[str]:
    """Names of all kernels of the contract, in its order."""
    return [name for name, value in vars(Kernels).items() if callable(value) and not name.startswith("_")]


# --------------------------------------------------------------------------------------------------- threads


def set_num_threads(count: int) -> None:
    """Compute on that many threads from here on: the kernels, and the BLAS library that NumPy's own products use.

    The default is one thread a core, or the environment variable MINICNN_NUM_THREADS. Results are the same bits for any
    number. As torch.set_num_threads. Raises ValueError unless 1 <= count <= the number of cores.
    """
    import threadpoolctl

    from minicnn.kernels.cpu import parallel

    parallel.set_num_threads(count)
    threadpoolctl.threadpool_limits(count, user_api="blas")


def get_num_threads() -> int:
    """On how many threads kernels compute."""
    from minicnn.kernels.cpu import parallel

    return parallel.get_num_threads()


def _from_environment() -> Backend:
    name = os.environ.get(_ENVIRONMENT_VARIABLE, "") or _DEFAULT
    try:
        return get_backend(name)
    except (ValueError, RuntimeError) as error:
        raise type(error)(f"the environment variable {_ENVIRONMENT_VARIABLE}: {error}") from None


_host = _backends[_DEFAULT]
_active = _from_environment()
_activate(_active, _active if _active.on_host else _host)
