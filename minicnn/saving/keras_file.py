"""Whole models in one `.keras` file: Keras 3's own zip of config, metadata and weights, optimizer state included."""

from __future__ import annotations

import datetime
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minicnn.atomic import atomic_write
from minicnn.models import Model
from minicnn.models.serialization import deserialize, serialize
from minicnn.saving.weights import fill, keras_names, read_h5, write_keras_h5
from minicnn.version import __version__

KERAS_FORMAT = "3.8.0"
"""The version of Keras whose file format is written."""

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_SMALL = 64 << 20
"""Bytes that a member of the zip may always unpack to; above it, no more than `_RATIO` times what it takes up."""
_RATIO = 20


def save_model(
    model: Model, path: str | os.PathLike[str], overwrite: bool = True, include_optimizer: bool = True
) -> None:
    """Write a model to a `.keras` file: what it is made of, its weights, how it was compiled, the optimizer's state.

    Raises ValueError for another ending, a model that is not built, or a part that cannot be written down (a plain Python
    function); FileExistsError where overwrite is False. The file is written whole or not at all.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"the name of a model's file must end in .keras. Received: {path.name}")
    if not model.built:
        raise ValueError(f"{model.name} has no weights to save yet: call it on data, or give it an input shape.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; pass overwrite=True to replace it.")
    optimizer = getattr(model, "optimizer", None) if include_optimizer else None
    config = serialize(model)
    compiled = model.get_compile_config() if include_optimizer else None
    if compiled:
        config["compile_config"] = compiled
    metadata = {
        "keras_version": KERAS_FORMAT,
        "date_saved": datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
        "minicnn_version": __version__,
    }
    weights = io.BytesIO()
    write_keras_h5(weights, model, optimizer)
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(_METADATA, json.dumps(metadata))
        archive.writestr(_CONFIG, json.dumps(config))
        archive.writestr(_WEIGHTS, weights.getvalue())


def load_model(
    path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None, compile: bool = True
) -> Model:
    """The model in a `.keras` file that minicnn or Keras 3 wrote; with `compile`, ready to go on training.

    custom_objects: classes by name, for layers of one's own. Nothing in the file is executed.
    Raises FileNotFoundError; ValueError for a damaged file, one that unpacks to absurd sizes, and parts not known here.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no model file at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: _member(archive, name, path) for name in (_METADATA, _CONFIG, _WEIGHTS)}
        config = json.loads(members[_CONFIG])
        arrays = read_h5(io.BytesIO(members[_WEIGHTS]))
    except (zipfile.BadZipFile, OSError, EOFError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged, or not a .keras file: {error}") from error
    model = deserialize(config, custom_objects)
    if not isinstance(model, Model):
        raise ValueError(f"{path} holds no model. Received: {type(model).__name__}")
    if not model.built:
        raise ValueError(f"{path}: the model does not know its input shape, so its weights cannot be placed.")
    fill(model, arrays, keras_names(model), str(path))
    if compile and config.get("compile_config"):
        model.compile_from_config(config["compile_config"])
        _fill_optimizer(model, {n: a for n, a in arrays.items() if n.startswith("optimizer/vars/")})
    return model


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """One file of the zip, once its size has been seen to be reasonable."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise ValueError(f"{path} is not a .keras file: it holds no {name}. Received: {archive.namelist()[:5]}") from None
    if info.file_size > max(_SMALL, _RATIO * info.compress_size):
        raise ValueError(
            f"{path}: {name} would unpack from {info.compress_size:,} to {info.file_size:,} bytes; no model is packed so "
            "tightly. The file is refused."
        )
    with archive.open(info) as member:
        content = member.read(info.file_size + 1)
    if len(content) != info.file_size:
        raise ValueError(f"{path}: {name} unpacks to another size than the {info.file_size:,} bytes it announces.")
    return content


def _fill_optimizer(model: Any, arrays: Mapping[str, Any]) -> None:
    """Give the optimizer its state back, where the file has any."""
    if arrays and model.optimizer is not None:
        model.optimizer.build(model.trainable_weights)
        model.optimizer.load_own_variables({name.rsplit("/", 1)[1]: array for name, array in arrays.items()})
