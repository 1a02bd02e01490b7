"""Which kernels serve an array: the backends, the one in force, who implements what, and on how many threads.

A backend is a name, an array module (`xp`: numpy, or cupy on the GPU) and a module of kernels that obeys
`kernels/contract.py`. Arrays of the host's memory are served by the backend that `use_backend` chose: "cpu", the fast
one, unless told otherwise. A backend's kernels are imported when they are first needed.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Callable, Iterable
from functools import cached_property
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, cast

import numpy as np

from minicnn.kernels.contract import Array, Kernels

if TYPE_CHECKING:
    from minicnn.kernels import cpu, reference

    _CHECKED: tuple[Kernels, ...] = (reference, cpu)  # mypy compares the modules with the contract

_KERNEL_MODULES = {"cpu": "minicnn.kernels.cpu", "reference": "minicnn.kernels.reference"}
_ENVIRONMENT_VARIABLE = "MINICNN_BACKEND"
_DEFAULT = "cpu"


class Backend:
    """A name, the array module and the kernels."""

    def __init__(self, name: str, xp: ModuleType, module: str) -> None:
        self.name, self.xp, self._module = name, xp, module

    @cached_property
    def kernels(self) -> Kernels:
        """The module of kernels, imported at first use: compilers take their time to load."""
        return cast(Kernels, importlib.import_module(self._module))

    def __repr__(self) -> str:
        return f"<Backend {self.name}>"


_backends = {name: Backend(name, np, module) for name, module in _KERNEL_MODULES.items()}


def available_backends() -> list[str]:
    """Names that `use_backend` takes on this machine."""
    return list(_backends)


def get_backend(name: str) -> Backend:
    """The backend of that name.

    Raises ValueError for an unknown name.
    """
    if name not in _backends:
        close = difflib.get_close_matches(str(name), _backends, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"backend must be one of {available_backends()}. Received: {name!r}.{hint}")
    return _backends[name]


class use_backend:
    """Choose the backend that serves host arrays from here on; as a context manager, until the block ends.

        minicnn.use_backend("reference")
        with minicnn.use_backend("reference"): ...

    Raises ValueError for an unknown name. The environment variable MINICNN_BACKEND sets the first one.
    """

    def __init__(self, name: str) -> None:
        global _active
        chosen = get_backend(name)
        self._before = _active
        _active = chosen

    def __enter__(self) -> Backend:
        return _active

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _active
        _active = self._before


def current_backend() -> Backend:
    """The backend that serves host arrays now."""
    return _active


def backend_of(array: Array) -> Backend:
    """The backend that serves this array."""
    if isinstance(array, np.ndarray):
        return _active
    raise TypeError(f"expected an array of the backend in force (numpy.ndarray). Received: {type(array).__name__}")


def common_backend(arrays: Iterable[Array]) -> Backend:
    """The one backend that serves all these arrays; host arrays only know one at a time."""
    found = _active
    for array in arrays:
        found = backend_of(array)
    return found


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
    except ValueError as error:
        raise ValueError(f"the environment variable {_ENVIRONMENT_VARIABLE}: {error}") from None


_active = _from_environment()
