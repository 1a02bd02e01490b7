"""Weights in files: `.npz` and `.safetensors` with readable names, `.weights.h5` in Keras 3's own layout.

Everything is written whole or not at all, and read with no pickle. A file that does not fit the model changes nothing.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.atomic import atomic_write
from minicnn.layers.base import Layer
from minicnn.saving.state import places

Arrays = dict[str, np.ndarray[Any, Any]]


def save_weights(model: Layer, path: str | os.PathLike[str], overwrite: bool = True) -> None:
    """Write all weights of a model; the ending of the name says how: .npz, .safetensors or .weights.h5.

    Raises ValueError for another ending or a model without weights, FileExistsError where overwrite is False.
    """
    path = Path(path)
    writer = _by_ending(path, _WRITERS)
    if not model.weights:
        raise ValueError(f"{model.name} has no weights to save yet: call it on data, or give it an input shape.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; pass overwrite=True to replace it.")
    with atomic_write(path) as file:
        writer(model, file)


def load_weights(model: Layer, path: str | os.PathLike[str]) -> None:
    """Read weights that `save_weights`, or for .weights.h5 Keras 3, wrote. The model must have been built.

    Raises FileNotFoundError; ValueError for a damaged file, and for missing, surplus or misshapen arrays, by name: then no
    weight is changed.
    """
    path = Path(path)
    reader = _by_ending(path, _READERS)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of weights at {path}")
    if not model.built:
        raise ValueError(f"{model.name} has no weights to fill yet: call it on data, or give it an input shape, first.")
    with open(path, "rb") as file:
        try:
            found = reader(file)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
            raise ValueError(f"{path} is damaged, or not a file of weights: {error}") from error
    keras_layout = path.suffix == ".h5"
    fill(model, found, keras_names(model) if keras_layout else readable_names(model), str(path))


def _by_ending(path: Path, functions: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    for ending, function in functions.items():
        if path.name.endswith(ending):
            return function
    raise ValueError(
        f"the name of a file of weights must end in .npz, .safetensors or .weights.h5. Received: {path.name}"
    )


# --------------------------------------------------------------------------------------------------- names


def readable_names(model: Layer) -> dict[str, Any]:
    """Parameters by layer name and weight name: "conv2d/kernel"; for layers within layers "block/conv2d/kernel"."""
    named: dict[str, Any] = {}

    def visit(layer: Layer, prefix: str) -> None:
        for parameter in layer._weights:
            name = f"{prefix}{parameter.name}"
            if any(parameter is other for other in named.values()):
                continue
            while name in named:
                name += "_"
            named[name] = parameter
        for inner in layer._layers:
            visit(inner, f"{prefix}{inner.name}/")

    visit(model, "")
    return named


def keras_names(model: Layer, prefix: str = "") -> dict[str, Any]:
    """Parameters by their place in Keras 3's files: "layers/conv2d/vars/0"."""
    return {
        "/".join(filter(None, (prefix, place.path, "vars", str(i)))): parameter
        for place in places(model)
        for i, parameter in enumerate(place.parameters)
    }


def fill(model: Layer, found: Arrays, wanted: dict[str, Any], source: str) -> None:
    """Check all arrays against the parameters wanted, then copy all; a ValueError before the first is copied."""
    arrays = {name: array for name, array in found.items() if not name.startswith("optimizer/")}
    missing, surplus = sorted(wanted.keys() - arrays.keys()), sorted(arrays.keys() - wanted.keys())
    if missing or surplus:
        raise ValueError(
            f"{source} does not fit {model.name}: "
            + "; ".join(
                f"{len(names)} {what}, such as {names[0]!r}"
                for names, what in (
                    (missing, "arrays of the model are not in the file"),
                    (surplus, "are in the file only"),
                )
                if names
            )
        )
    for name, parameter in wanted.items():
        if arrays[name].shape != parameter.shape:
            raise ValueError(
                f"{source} does not fit {model.name}: {name} ({parameter.path}) must have shape {parameter.shape}. "
                f"Received: {arrays[name].shape}"
            )
    for name, parameter in wanted.items():
        parameter.assign(arrays[name])


# --------------------------------------------------------------------------------------------------- formats


def _write_npz(model: Layer, file: Any) -> None:
    np.savez(file, **{name: parameter.data for name, parameter in readable_names(model).items()})


def _read_npz(file: Any) -> Arrays:
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _write_safetensors(model: Layer, file: Any) -> None:
    from safetensors.numpy import save

    file.write(save({name: np.ascontiguousarray(p.data) for name, p in readable_names(model).items()}))


def _read_safetensors(file: Any) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(file.read()))
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _write_h5(model: Layer, file: Any) -> None:
    write_keras_h5(file, model)


def write_keras_h5(file: Any, model: Layer, optimizer: Any = None) -> None:
    """A file of weights as Keras 3 writes it, the optimizer's state included where one is given."""
    import h5py

    with h5py.File(file, "w") as h5:
        for place in places(model):
            group = h5.create_group("/".join(filter(None, (place.path, "vars"))))
            group.attrs["name"] = place.name
            for i, parameter in enumerate(place.parameters):
                group[str(i)] = parameter.data
        if optimizer is not None:
            group = h5.create_group("optimizer/vars")
            group.attrs["name"] = optimizer.name
            for i, array in enumerate(optimizer.variables):
                group[str(i)] = array


def read_h5(file: Any) -> Arrays:
    """All arrays of an HDF5 file by their paths.

    Raises ValueError where they would be far larger than the file, which no array of weights is.
    """
    import h5py

    arrays: Arrays = {}
    room = 20 * file.seek(0, os.SEEK_END) + (64 << 20)
    file.seek(0)

    def keep(name: str, item: Any) -> None:
        nonlocal room
        if isinstance(item, h5py.Dataset):
            room -= item.nbytes
            if room < 0:
                raise ValueError(f"{name} of shape {item.shape} would be far larger than the file it is in")
            arrays[name] = item[()]

    with h5py.File(file, "r") as h5:
        h5.visititems(keep)
    return arrays


_WRITERS = {".npz": _write_npz, ".safetensors": _write_safetensors, ".weights.h5": _write_h5}
_READERS = {".npz": _read_npz, ".safetensors": _read_safetensors, ".weights.h5": read_h5}
