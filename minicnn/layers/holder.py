"""WeightHolder: what can be asked of everything that has weights, a layer or a model: to list, read, set, move them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from minicnn.backend import Backend, as_host, backend_of, current_backend, get_backend
from minicnn.layers.parameter import Parameter

if TYPE_CHECKING:
    from minicnn.layers.structure import Contents


class WeightHolder:
    """Base of Layer."""

    if TYPE_CHECKING:  # what Layer brings
        name: str
        built: bool

        def _known_contents(self) -> Contents: ...

    @property
    def weights(self) -> list[Parameter]:
        """All parameters in Keras' order: this layer's own, trainable ones first, then those of the layers within."""
        return list(self._known_contents().weights)

    @property
    def trainable_weights(self) -> list[Parameter]:
        """Parameters that training changes; none of a frozen layer."""
        return [parameter for parameter in self._known_contents().weights if parameter._requires_grad]

    @property
    def non_trainable_weights(self) -> list[Parameter]:
        """Frozen parameters and running statistics."""
        return [parameter for parameter in self._known_contents().weights if not parameter._requires_grad]

    @property
    def backend(self) -> Backend:
        """The backend that serves the weights; the one in force where there are none."""
        weights = self._known_contents().weights
        return backend_of(weights[0].data) if weights else current_backend()

    def to(self, device: str) -> Self:
        """Move all weights into the memory of a backend, "cpu" or "gpu"; returns the layer. As torch.nn.Module.to.

        Raises ValueError for an unknown name and for a layer without weights to move yet, RuntimeError without a GPU.
        """
        target = get_backend(device)
        if not self.built:
            raise ValueError(
                f"{self.name} has no weights yet: call it on data first, or make it under "
                f"minicnn.use_backend({device!r})."
            )
        for parameter in self.weights:
            parameter.move_to(target)
        return self

    @property
    def variables(self) -> list[Parameter]:
        return self.weights

    @property
    def trainable_variables(self) -> list[Parameter]:
        return self.trainable_weights

    @property
    def non_trainable_variables(self) -> list[Parameter]:
        return self.non_trainable_weights

    def get_weights(self) -> list[np.ndarray[Any, Any]]:
        """Copies of all parameters as arrays, in the order of `weights`."""
        return [np.array(as_host(parameter.data)) for parameter in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Overwrite all parameters, in the order of `weights`.

        Raises ValueError where the number or a shape differs; nothing is changed then.
        """
        own = self.weights
        if len(weights) != len(own):
            hint = "" if self.built else " It has none yet: build it by calling it on data, or give an input_shape."
            raise ValueError(f"{self.name}: {len(own)} arrays of weights are expected. Received: {len(weights)}.{hint}")
        for parameter, value in zip(own, weights, strict=True):
            if np.shape(value) != parameter.shape:
                raise ValueError(f"{parameter.path}: expected {parameter.shape}. Received: shape {np.shape(value)}")
        for parameter, value in zip(own, weights, strict=True):
            parameter.assign(value)

    def count_params(self) -> int:
        """Number of weights in all parameters."""
        if not self.built:
            raise ValueError(f"{self.name} has no weights yet: call it on data, or give the model an input shape.")
        return sum(parameter.numel() for parameter in self.weights)
