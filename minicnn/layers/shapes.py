"""Shapes, and nests of them: what layers are built from and what symbolic calls hand on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.layers.symbolic import map_structure


def shape_of(structure: Any) -> Any:
    """Shapes of tensors (real or symbolic) in the same nest; other things become None."""
    return map_structure(lambda leaf: tuple(leaf.shape) if hasattr(leaf, "shape") else None, structure)


def is_shape(value: Any) -> bool:
    """Whether this is one shape rather than a nest of shapes."""
    if not isinstance(value, (tuple, list)):
        return False
    return all(size is None or isinstance(size, (int, np.integer)) for size in value)


def map_shapes(function: Callable[[Any], Any], shapes: Any) -> Any:
    """`function` of each shape in a nest of shapes."""
    if is_shape(shapes):
        return function(tuple(shapes))
    if isinstance(shapes, dict):
        return {key: map_shapes(function, part) for key, part in shapes.items()}
    return type(shapes)(map_shapes(function, part) for part in shapes)
