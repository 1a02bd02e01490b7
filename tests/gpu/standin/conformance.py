"""Is the stand-in a stand-in? All that it offers, and every call that was made of it, held against the real CuPy.

The real package imports without a GPU; its arrays cannot be made, but its names and signatures can be looked at.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from tests.gpu.standin import modules, record
from tests.gpu.standin.device_array import ndarray


def missing_names(cupy: ModuleType) -> list[str]:
    """What the stand-in offers and CuPy lacks."""
    return [name for name in _offered() if _find(cupy, name) is None]


def calls_that_do_not_bind(cupy: ModuleType) -> tuple[list[str], list[str]]:
    """Of the calls made through the stand-in: those that CuPy would refuse, with the reason, and names not checked.

    Not checked are functions that tell their signature neither to `inspect` nor in their docstring.
    """
    refused, unchecked = [], []
    for name, shapes in sorted(record.used.items()):
        found = _find(cupy, name)
        if found is None:
            refused.append(f"{name}: CuPy has no such name")
            continue
        if not shapes:
            continue
        signature = signature_of(found)
        if signature is None:
            unchecked.append(name)
            continue
        refused += [f"{name}{signature}: {problem}" for problem in _problems(signature, found, shapes)]
    return refused, unchecked


def _problems(signature: inspect.Signature, function: Any, shapes: Iterable[record.Shape]) -> Iterator[str]:
    for positional, named in sorted(shapes):
        count = positional - inspect.isclass(function)  # of a constructor, `self` was counted
        try:
            signature.bind(*[None] * count, **dict.fromkeys(named))
        except TypeError as error:
            yield f"{count} positional arguments and {list(named)}: {error}"


def _offered() -> Iterator[str]:
    for module_name, module in modules.all_modules.items():
        prefix = module_name.removeprefix("cupy").removeprefix(".")
        for name in vars(module):
            if not name.startswith("_"):
                yield f"{prefix}.{name}" if prefix else name
    for name in vars(ndarray):
        if not name.startswith("_"):
            yield f"ndarray.{name}"


def _find(cupy: ModuleType, name: str) -> Any:
    found: Any = cupy
    for part in name.split("."):
        found = getattr(found, part, None)
    return True if found is None and name in ("newaxis",) else found


def signature_of(function: Any) -> inspect.Signature | None:
    """From `inspect`, or, of compiled code, read off the first line of the docstring."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return signature_in((getattr(function, "__doc__", None) or "").strip().split("\n")[0])


def signature_in(line: str) -> inspect.Signature | None:
    """The signature in a line like `Type.method(self, int size, *, str name=None) -> Type`, C types and all."""
    match = re.fullmatch(r"[\w.]+\((.*)\)(?:\s*->.*)?", line.strip())
    if match is None:
        return None
    parameters: list[inspect.Parameter] = []
    kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for part in re.split(r",\s*(?![^(\[]*[)\]])", match[1].replace("\\", "")):
        declared, has_default, _ = part.strip().partition("=")
        if declared == "/":
            parameters = [p.replace(kind=inspect.Parameter.POSITIONAL_ONLY) for p in parameters]
        elif declared == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
        elif declared.startswith("**"):
            parameters.append(inspect.Parameter(declared[2:], inspect.Parameter.VAR_KEYWORD))
        elif declared.startswith("*"):
            parameters.append(inspect.Parameter(declared[1:], inspect.Parameter.VAR_POSITIONAL))
            kind = inspect.Parameter.KEYWORD_ONLY
        elif declared:
            default = None if has_default else inspect.Parameter.empty
            parameters.append(inspect.Parameter(declared.split(":")[0].split()[-1], kind, default=default))
    return inspect.Signature(parameters)
