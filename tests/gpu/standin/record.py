"""Every name of CuPy that was used through the stand-in, and the shapes of its calls: for `conformance` to check."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Shape = tuple[int, tuple[str, ...]]
"""How many positional arguments a call had, and the names of the others."""

used: dict[str, set[Shape]] = {}

_F = TypeVar("_F", bound=Callable[..., Any])


def note(name: str) -> None:
    """A name was looked up."""
    used.setdefault(name, set())


def note_call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A function or method was called (of a method, `args` begins with the object)."""
    used.setdefault(name, set()).add((len(args), tuple(sorted(kwargs))))


def recorded(name: str) -> Callable[[_F], _F]:
    """A function whose calls are noted under CuPy's name for it, without the leading `cupy.`."""

    def decorate(function: _F) -> _F:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            note_call(name, args, kwargs)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate
