"""Whole models in one `.keras` file: Keras 3's own zip of config, metadata and weights, optimizer state included."""

from __future__ import annotations

import copy
import datetime
import io
import json
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minicnn.atomic import atomic_write
from minicnn.models import Model
from minicnn.models.serialization import deserialize, serialize
from minicnn.optimizers import Optimizer
from minicnn.saving.archive import DAMAGE, read_members
from minicnn.saving.weights import (
    Arrays,
    check_writable,
    fill,
    keras_names,
    read_h5,
    without_states,
    write_keras_h5,
)
from minicnn.version import __version__

KERAS_FORMAT = "3.8.0"
"""The version of Keras whose file format is written."""

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_STATE = "optimizer/vars/"


def save_model(
    model: Model, path: str | os.PathLike[str], overwrite: bool = True, include_optimizer: bool = True
) -> None:
    """Write a model to a `.keras` file: what it is made of, its weights, how it was compiled, the optimizer's state.

    include_optimizer: without it, the file holds nothing of what `compile` was given.

    Raises ValueError for another ending and for a model that is not built; TypeError for a part that cannot be written
    down (a plain Python function); FileExistsError where overwrite is False. Written whole or not at all.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"the name of a model's file must end in .keras. Received: {path.name}")
    check_writable(model, path, overwrite)
    config = serialize(model)
    if include_optimizer:
        config["compile_config"] = _compile_config(model)
    metadata = {
        "keras_version": KERAS_FORMAT,
        "date_saved": datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
        "minicnn_version": __version__,
    }
    texts = {_METADATA: json.dumps(metadata), _CONFIG: json.dumps(config)}
    weights = io.BytesIO()
    write_keras_h5(weights, model, _built_optimizer(model) if include_optimizer else None)
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
        archive.writestr(_WEIGHTS, weights.getvalue())


def _compile_config(model: Model) -> dict[str, Any]:
    try:
        return model.get_compile_config()
    except TypeError as error:
        raise TypeError(f"{error} Or save the model without it: include_optimizer=False.") from error


def _built_optimizer(model: Model) -> Optimizer | None:
    """The optimizer, or before its first step what it will then be: Keras does not read one without its state."""
    if model.optimizer is None or model.optimizer.built:
        return model.optimizer
    optimizer = copy.deepcopy(model.optimizer)
    optimizer.build(model.trainable_weights)
    return optimizer


def load_model(
    path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None, compile: bool = True
) -> Model:
    """The model in a `.keras` file that minicnn or Keras 3 wrote; with `compile`, ready to go on training.

    custom_objects: classes by name, for layers of one's own, and functions of Lambda layers. The file runs nothing.

    Raises FileNotFoundError; ValueError for a damaged file, for one that unpacks to absurd sizes, and for parts not
    known here. Warns where the optimizer's state does not fit: training then starts afresh from the weights.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no model file at {path}")
    config, arrays = _read(path)
    model = _make(config, custom_objects, path)
    fill(model, without_states(arrays), keras_names(model), str(path))
    if compile and config.get("compile_config"):
        _compile(model, config["compile_config"], path)
        _fill_optimizer(model, arrays, path)
    return model


def _read(path: Path) -> tuple[dict[str, Any], Arrays]:
    """The config and all arrays of a file. ValueError where it is no sound `.keras` file."""
    try:
        with open(path, "rb") as file:
            members = read_members(file, (_METADATA, _CONFIG, _WEIGHTS))
        config = json.loads(members[_CONFIG])
        arrays = read_h5(io.BytesIO(members[_WEIGHTS]))
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged, or no .keras file: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is no .keras file: {_CONFIG} must hold an object. Received: {type(config).__name__}")
    return config, arrays


def _make(config: dict[str, Any], custom_objects: Mapping[str, Any] | None, path: Path) -> Model:
    """The model that the config describes, with fresh weights. ValueError where that cannot be."""
    try:
        model = deserialize(config, custom_objects)
        if not model.built:
            model.build_from_config(config.get("build_config") or {})
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        what = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: its config does not make a model here. {what}") from error
    if not isinstance(model, Model):
        raise ValueError(f"{path} holds no model. Received: {type(model).__name__}")
    if not model.built:
        raise ValueError(f"{path}: the model does not know its input shape, so its weights cannot be placed.")
    return model


def _compile(model: Model, config: dict[str, Any], path: Path) -> None:
    try:
        model.compile_from_config(config)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path}: the model cannot be compiled here as it was: {error} Load it with compile=False, and compile it "
            "yourself."
        ) from error


def _fill_optimizer(model: Model, arrays: Arrays, path: Path) -> None:
    """Give the optimizer its state back, where the file has any."""
    optimizer, state = model.optimizer, {n.removeprefix(_STATE): a for n, a in arrays.items() if n.startswith(_STATE)}
    if optimizer is None or not state:
        return
    if len(state) > len(optimizer.variables):  # it had taken steps
        optimizer.build(model.trainable_weights)
    try:
        optimizer.load_own_variables(state)
    except (ValueError, KeyError) as error:
        warnings.warn(
            f"{path}: the optimizer's state does not fit the trainable weights, so it starts afresh. {error}",
            stacklevel=3,
        )
