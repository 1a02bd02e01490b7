"""Models: layers put together and trained. Keras' names."""

from minicnn.models.model import Model, clone_model, load_model
from minicnn.models.sequential import Sequential

__all__ = ["Model", "Sequential", "clone_model", "load_model"]
