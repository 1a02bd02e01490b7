"""Initializer, regularizer and constraint of each weight: kept, used and written down under Keras' argument names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minicnn import constraints, initializers, regularizers
from minicnn.layers.base import Layer
from minicnn.layers.parameter import Parameter


class WeightOptions(Layer):
    """Base of layers with weights. An option of weight "kernel" is the attribute `kernel_initializer`, and so on."""

    casts_integers = True

    def _set_weight_options(self, name: str, initializer: Any, regularizer: Any, constraint: Any) -> None:
        """Look the three up and keep them."""
        setattr(self, f"{name}_initializer", initializers.get(initializer))
        setattr(self, f"{name}_regularizer", regularizers.get(regularizer))
        setattr(self, f"{name}_constraint", constraints.get(constraint))

    def _make_weight(self, options: str, shape: Sequence[int], name: str | None = None) -> Parameter:
        """A trainable weight made by the options of that name; it is called the same where no other name is given."""
        return self.add_weight(
            shape,
            initializer=getattr(self, f"{options}_initializer"),
            regularizer=getattr(self, f"{options}_regularizer"),
            constraint=getattr(self, f"{options}_constraint"),
            name=name or options,
        )

    def _weight_options_config(self, *names: str) -> dict[str, Any]:
        """All options of these weights as plain data."""
        config: dict[str, Any] = {}
        for name in names:
            config[f"{name}_initializer"] = initializers.serialize(getattr(self, f"{name}_initializer"))
            config[f"{name}_regularizer"] = regularizers.serialize(getattr(self, f"{name}_regularizer"))
            config[f"{name}_constraint"] = constraints.serialize(getattr(self, f"{name}_constraint"))
        return config
