"""Weights in files: `.npz` and `.safetensors` with readable names, `.weights.h5` in Keras 3's own layout.

All three go by the layers' places in the model (see saving/state.py), so names that layers were given do not matter.
Everything is written whole or not at all, and read with no pickle. A file that does not fit the model changes nothing.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from minicnn.atomic import atomic_write
from minicnn.layers.base import Layer, Parameter
from minicnn.saving.archive import DAMAGE, honest_size, read_members
from minicnn.saving.state import places

Arrays: TypeAlias = dict[str, np.ndarray[Any, Any]]


def save_weights(model: Layer, path: str | os.PathLike[str], overwrite: bool = True) -> None:
    """Write all weights of a model; the ending of the name says how: .npz, .safetensors or .weights.h5.

    Raises ValueError for another ending and for a model that is not built, FileExistsError where overwrite is False.
    """
    path = Path(path)
    write = _by_ending(path, _WRITERS)
    check_writable(model, path, overwrite)
    with atomic_write(path) as file:
        write(model, file)


def load_weights(model: Layer, path: str | os.PathLike[str]) -> None:
    """Read weights that `save_weights`, or for .weights.h5 Keras 3, wrote. The model must have been built.

    Raises FileNotFoundError; ValueError for a damaged file, and for missing, surplus or misshapen arrays, by name: then
    no weight is changed.
    """
    path = Path(path)
    read = _by_ending(path, _READERS)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of weights at {path}")
    if not model.built:
        raise ValueError(f"{model.name} has no weights to fill yet: call it on data, or give it an input shape, first.")
    with open(path, "rb") as file:
        try:
            arrays = read(file)
        except DAMAGE as error:
            raise ValueError(f"{path} is damaged, or no file of weights: {error}") from error
    if path.suffix == ".h5":
        fill(model, without_states(arrays), keras_names(model), str(path))
    else:
        fill(model, arrays, readable_names(model), str(path))


def _by_ending(path: Path, functions: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    for ending, function in functions.items():
        if path.name.endswith(ending):
            return function
    raise ValueError(
        f"the name of a file of weights must end in .npz, .safetensors or .weights.h5. Received: {path.name}"
    )


def check_writable(model: Layer, path: Path, overwrite: bool) -> None:
    """ValueError where there is nothing to save yet, FileExistsError where an older file is to be kept."""
    if not model.built:
        raise ValueError(f"{model.name} has no weights to save yet: call it on data, or give it an input shape.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; pass overwrite=True to replace it.")


# --------------------------------------------------------------------------------------------------- names


def readable_names(model: Layer) -> dict[str, Parameter]:
    """Parameters by their layer's place in Keras 3's files and their own name: "layers/conv2d/kernel"."""
    named: dict[str, Parameter] = {}
    met: set[int] = set()
    for place in places(model):
        for parameter in place.parameters:
            if id(parameter) not in met:
                met.add(id(parameter))
                named[_free("/".join(filter(None, (place.path, parameter.name))), named)] = parameter
    return named


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """The name, or where it is taken name_1, name_2, ..."""
    free, number = name, 0
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def keras_names(model: Layer) -> dict[str, Parameter]:
    """Parameters by their place in Keras 3's files: "layers/conv2d/vars/0"."""
    return {
        f"{_vars_group(place.path)}/{i}": parameter
        for place in places(model)
        for i, parameter in enumerate(place.parameters)
    }


def _vars_group(path: str) -> str:
    return f"{path}/vars" if path else "vars"


def without_states(arrays: Arrays) -> Arrays:
    """The arrays of a file in Keras' layout that are weights: not the optimizer's, nor seeds of random layers."""
    return {
        name: array
        for name, array in arrays.items()
        if not name.startswith("optimizer/vars/") and "/seed_generator/" not in f"/{name}"
    }


def fill(model: Layer, arrays: Arrays, wanted: Mapping[str, Parameter], source: str) -> None:
    """Check all arrays against the parameters wanted, then copy all.

    Raises ValueError, before the first is copied, where one is missing, surplus, misshapen or does not hold numbers.
    """
    missing, surplus = sorted(wanted.keys() - arrays.keys()), sorted(arrays.keys() - wanted.keys())
    complaints = []
    if missing:
        complaints.append(f"{len(missing)} arrays of the model are not in the file, such as {missing[0]!r}")
    if surplus:
        complaints.append(f"{len(surplus)} are in the file only, such as {surplus[0]!r}")
    for name, parameter in wanted.items():
        if name in arrays and arrays[name].shape != parameter.shape:
            received = arrays[name].shape
            complaints.append(f"{name} ({parameter.path}) must have shape {parameter.shape}. Received: {received}")
        elif name in arrays and arrays[name].dtype.kind not in "fiu":
            complaints.append(f"{name} ({parameter.path}) must hold numbers. Received: dtype {arrays[name].dtype}")
    if complaints:
        raise ValueError(f"{source} does not fit {model.name}: {'; '.join(complaints)}")
    for name, parameter in wanted.items():
        parameter.assign(arrays[name])


# --------------------------------------------------------------------------------------------------- formats


def _write_npz(model: Layer, file: BinaryIO) -> None:
    arrays: dict[str, Any] = {name: parameter.numpy() for name, parameter in readable_names(model).items()}
    np.savez(file, **arrays)


def _read_npz(file: BinaryIO) -> Arrays:
    members = read_members(file)
    return {name.removesuffix(".npy"): _read_array(name, content) for name, content in members.items()}


def _read_array(name: str, content: bytes) -> np.ndarray[Any, Any]:
    """One array of an .npz file, whose header must announce just what follows it."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"{name} announces {dtype} of shape {shape}, and holds {len(content) - file.tell():,} bytes")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _write_safetensors(model: Layer, file: BinaryIO) -> None:
    from safetensors.numpy import save

    named = readable_names(model)
    file.write(save({name: np.ascontiguousarray(parameter.numpy()) for name, parameter in named.items()}))


def _read_safetensors(file: BinaryIO) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(file.read()))
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _write_h5(model: Layer, file: BinaryIO) -> None:
    write_keras_h5(file, model)


def write_keras_h5(file: BinaryIO, model: Layer, optimizer: Any = None) -> None:
    """A file of weights as Keras 3 writes it, the optimizer's state included where one is given."""
    import h5py

    with h5py.File(file, "w") as h5:
        for place in places(model):
            group = h5.create_group(_vars_group(place.path))
            group.attrs["name"] = place.name
            for i, parameter in enumerate(place.parameters):
                group[str(i)] = parameter.numpy()
        if optimizer is not None:
            group = h5.create_group(_vars_group("optimizer"))
            group.attrs["name"] = optimizer.name
            optimizer.save_own_variables(group)


def read_h5(file: BinaryIO) -> Arrays:
    """All arrays of an HDF5 file by their paths.

    Raises ValueError for arrays that lie outside of the file, hold no numbers, or would be far larger than the file.
    """
    import h5py

    arrays: Arrays = {}
    room = honest_size(file)

    def keep(name: str, item: Any) -> None:
        nonlocal room
        if not isinstance(name, str):  # h5py hands on what is not UTF-8 as bytes
            raise ValueError(f"a name in it is no text. Received: {name!r}")
        if not isinstance(item, h5py.Dataset):
            return
        if item.external or item.is_virtual or item.shape is None or item.dtype.kind not in "fiu":
            raise ValueError(f"{name} is no plain array of numbers. Received: {item!r}")
        room -= item.nbytes
        if room < 0:
            raise ValueError(f"{name} of shape {item.shape} would be far larger than the file, which no weights are")
        arrays[name] = item[()]

    with h5py.File(file, "r") as h5:
        h5.visititems(keep)
    return arrays


_WRITERS = {".npz": _write_npz, ".safetensors": _write_safetensors, ".weights.h5": _write_h5}
_READERS = {".npz": _read_npz, ".safetensors": _read_safetensors, ".weights.h5": read_h5}
