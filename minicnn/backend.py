"""Which kernels serve an array: the backends, the one in force, and who implements what.

A backend is a name, an array module (`xp`: numpy, or cupy on the GPU) and a module of kernels that obeys
`kernels/contract.py`. Arrays of the host's memory are served by the backend that `use_backend` chose.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, cast

import numpy as np

from minicnn.kernels.contract import Array, Kernels

if TYPE_CHECKING:
    from minicnn.kernels import reference

    _CHECKED: tuple[Kernels, ...] = (reference,)  # mypy compares the modules with the contract

_KERNEL_MODULES = {"reference": "minicnn.kernels.reference"}
_ENVIRONMENT_VARIABLE = "MINICNN_BACKEND"
_DEFAULT = "reference"


@dataclass(frozen=True, slots=True)
class Backend:
    """A name, the array module and the kernels."""

    name: str
    xp: ModuleType
    kernels: Kernels


_loaded: dict[str, Backend] = {}


def available_backends() -> list[str]:
    """Names that `use_backend` takes on this machine."""
    return list(_KERNEL_MODULES)


def get_backend(name: str) -> Backend:
    """The backend of that name.

    Raises ValueError for an unknown name.
    """
    if name not in _loaded:
        if name not in _KERNEL_MODULES:
            close = difflib.get_close_matches(str(name), _KERNEL_MODULES, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"backend must be one of {available_backends()}. Received: {name!r}.{hint}")
        kernels = cast(Kernels, importlib.import_module(_KERNEL_MODULES[name]))
        _loaded[name] = Backend(name, np, kernels)
    return _loaded[name]


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


def _from_environment() -> Backend:
    name = os.environ.get(_ENVIRONMENT_VARIABLE, "") or _DEFAULT
    try:
        return get_backend(name)
    except ValueError as error:
        raise ValueError(f"the environment variable {_ENVIRONMENT_VARIABLE}: {error}") from None


_active = _from_environment()
