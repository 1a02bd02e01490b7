"""Objects by name: how initializers, regularizers and constraints are found and written down, as in Keras."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any


def snake_case(name: str) -> str:
    """Conv2D -> conv2d, MaxPooling2D -> max_pooling2d: Keras' rule."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


class Configurable:
    """An object that can be written down as plain data and made again from it."""

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal object; plain data that fits into JSON."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """An object from what `get_config` returned."""
        return cls(**config)


class Registry:
    """The members of one family (`kind`, say "initializer"), under their class names and in snake case.

    module: where Keras keeps the family ("keras.initializers"); it is written into files.
    aliases: further names.
    """

    def __init__(
        self, kind: str, module: str, members: Iterable[type], aliases: Mapping[str, type] | None = None
    ) -> None:
        self.kind, self.module = kind, module
        self.members: dict[str, type] = {}
        for member in members:
            self.members[member.__name__] = self.members[snake_case(member.__name__)] = member
        self.members |= aliases or {}

    def get(self, identifier: Any) -> Any:
        """The object for a name, a config dict, a class, an instance or any callable; None for None.

        Raises ValueError for an unknown name, TypeError for what is none of these.
        """
        if identifier is None:
            return None
        if isinstance(identifier, str):
            return self.find(identifier)()
        if isinstance(identifier, dict):
            return self.deserialize(identifier)
        if inspect.isclass(identifier):
            return identifier()
        if callable(identifier) or isinstance(identifier, Configurable):
            return identifier
        raise TypeError(
            f"{self.kind} must be a name, a config dict, a class, an instance or a callable. Received: {identifier!r}"
        )

    def find(self, name: str) -> Any:
        """The member of that name; ValueError with a suggestion where there is none."""
        if name in self.members:
            return self.members[name]
        raise unknown_name(self.kind, name, self.members)

    def deserialize(self, config: Mapping[str, Any]) -> Any:
        """The object that `serialize` wrote down, here or in Keras.

        Raises ValueError where the dict names no class, or none that is known.
        """
        if "class_name" not in config:
            raise ValueError(f"{self.kind}: a config needs 'class_name' and 'config'. Received: {dict(config)!r}")
        return self.find(config["class_name"]).from_config(dict(config.get("config") or {}))

    def serialize(self, member: Any) -> dict[str, Any] | None:
        """The object as Keras writes it: module, class name and config. None for None.

        Raises TypeError for a plain function: its source cannot be written down.
        """
        if member is None:
            return None
        if not hasattr(member, "get_config"):
            raise TypeError(
                f"{self.kind}: what is to be saved needs get_config(); write it as a class with get_config and "
                f"from_config. Received: {member!r}"
            )
        name = type(member).__name__
        own = self.members.get(name) is type(member)
        return {
            "module": self.module if own else type(member).__module__,
            "class_name": name,
            "config": member.get_config(),
            "registered_name": None if own else name,
        }


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that nobody knows, with the nearest known one."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1) or difflib.get_close_matches(name.lower(), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else f" Known: {names}"
    return ValueError(f"there is no {kind} of that name. Received: {name!r}.{hint}")
