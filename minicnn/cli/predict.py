"""`minicnn predict`: read pictures with a trained network."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.models import Model
from minicnn.preprocessing import as_digit, img_to_array, load_img
from minicnn.saving import load_model


def run(options: argparse.Namespace) -> int:
    model = load_model(options.model)
    names = class_names(Path(options.model), model.output_shape[-1])
    width = max(len(image) for image in options.images)
    for image in options.images:
        probabilities = model.predict(picture_for(model, image)[None], verbose=0)[0]
        best = np.argsort(-probabilities)[: options.top]
        print(f"{image:<{width}}  " + "  ".join(f"{names[i]} {probabilities[i]:.1%}" for i in best))
    return 0


def class_names(model_path: Path, count: int) -> list[str]:
    """Names that `minicnn train` left beside the model; numbers where there are none."""
    beside = model_path.with_name("run.json")
    if beside.is_file():
        names = json.loads(beside.read_text()).get("class_names", [])
        if len(names) == count:
            return [str(name) for name in names]
    return [str(i) for i in range(count)]


def picture_for(model: Model, path: str) -> np.ndarray[Any, Any]:
    """A picture as the model was trained to see it: (H, W, C) in [0, 1].

    Raises ValueError where the model does not take pictures.
    """
    shape = model.input_shape[1:]
    if len(shape) != 3 or shape[2] not in (1, 3) or None in shape:
        raise ValueError(f"predict reads pictures of shape (H, W, 1) or (H, W, 3). The model takes: {shape}")
    if shape[2] == 1:
        return as_digit(path, size=shape[:2]).reshape(shape).astype(np.float32) / 255
    return img_to_array(load_img(path, target_size=shape[:2], interpolation="bilinear")) / 255
