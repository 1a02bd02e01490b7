"""Models and weights in files: `.keras`, `.weights.h5`, `.safetensors`, `.npz`. Whole or not at all; no pickle."""

from minicnn.saving.keras_file import load_model, save_model
from minicnn.saving.weights import load_weights, save_weights

__all__ = ["load_model", "load_weights", "save_model", "save_weights"]
