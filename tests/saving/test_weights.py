"""Weights in `.npz`, `.safetensors` and `.weights.h5` files: back to the bit, or refused with nothing changed."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from minicnn import Input, Model, Sequential, layers
from minicnn.layers.symbolic import flatten
from tests.saving.models import MODELS, assert_same_weights, batch, convnet, scrambled, subclassed

ENDINGS = [".npz", ".safetensors", ".weights.h5"]


def dense(units: int = 3, name: str = "dense", inputs: int = 4) -> Sequential:
    return Sequential([Input(shape=(inputs,)), layers.Dense(units, name=name)])


# ------------------------------------------------------------------------------------------------- back to the bit


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_weights_come_back_to_the_bit(make, ending: str, tmp_path: Path, rng) -> None:
    model = scrambled(make(), rng)
    again = make()
    model.save_weights(tmp_path / f"model{ending}")
    again.load_weights(tmp_path / f"model{ending}")
    assert_same_weights(model, again)
    x, _ = batch(model, rng)
    for y, z in zip(flatten(model.predict(x, verbose=0)), flatten(again.predict(x, verbose=0)), strict=True):
        np.testing.assert_array_equal(y, z)


@pytest.mark.parametrize("ending", ENDINGS)
def test_statistics_of_batch_normalization_are_saved(ending: str, tmp_path: Path, rng) -> None:
    model = convnet()
    x, y = batch(model, rng)
    model.compile("sgd", "categorical_crossentropy")
    model.fit(x, y, epochs=2, verbose=0)
    norm = model.layers[1]
    assert np.abs(norm.moving_mean.numpy()).min() > 0
    means, variances = norm.moving_mean.numpy().copy(), norm.moving_variance.numpy().copy()
    model.save_weights(tmp_path / f"model{ending}")
    model.set_weights([np.zeros_like(array) for array in model.get_weights()])
    model.load_weights(tmp_path / f"model{ending}")
    np.testing.assert_array_equal(norm.moving_mean.numpy(), means)
    np.testing.assert_array_equal(norm.moving_variance.numpy(), variances)


@pytest.mark.parametrize("ending", ENDINGS)
def test_float64_weights_stay_float64(ending: str, tmp_path: Path, rng) -> None:
    def make() -> Sequential:
        return Sequential([Input(shape=(4,), dtype="float64"), layers.Dense(3, dtype="float64", name="dense")])

    model, again = scrambled(make(), rng), make()
    model.save_weights(tmp_path / f"model{ending}")
    again.load_weights(tmp_path / f"model{ending}")
    assert model.get_weights()[0].dtype == np.float64
    assert_same_weights(model, again)


@pytest.mark.parametrize("ending", ENDINGS)
def test_names_of_layers_do_not_matter(ending: str, tmp_path: Path, rng) -> None:
    model, again = scrambled(dense(name="one"), rng), dense(name="other")
    model.save_weights(tmp_path / f"model{ending}")
    again.load_weights(tmp_path / f"model{ending}")
    assert_same_weights(model, again)


def test_a_shared_layer_is_written_once(tmp_path: Path) -> None:
    model = MODELS["branched"]()
    model.save_weights(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as arrays:
        assert len(arrays.files) == len(model.weights)
        assert sum(arrays[name].shape == (5, 4) for name in arrays.files) == 1  # the shared kernel


def test_npz_names_say_what_the_arrays_are(tmp_path: Path) -> None:
    convnet().save_weights(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as arrays:
        assert arrays.files == [
            "layers/conv2d/kernel",
            "layers/conv2d/bias",
            "layers/batch_normalization/gamma",
            "layers/batch_normalization/beta",
            "layers/batch_normalization/moving_mean",
            "layers/batch_normalization/moving_variance",
            "layers/p_re_lu/alpha",
            "layers/sequential/layers/dense/kernel",
            "layers/sequential/layers/dense/bias",
            "layers/sequential/layers/dense_1/kernel",
            "layers/sequential/layers/dense_1/bias",
        ]


def test_h5_layout_of_lists_and_attributes_is_keras_own(tmp_path: Path) -> None:
    subclassed().save_weights(tmp_path / "model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5") as file:
        found: dict[str, tuple[int, ...]] = {}
        file.visititems(lambda name, item: found.update({name: item.shape} if hasattr(item, "shape") else {}))
    assert found == {
        "vars/0": (5,),
        "layers/dense_4/vars/0": (6, 5),  # _gate: private names come after `layers`
        "layers/dense_4/vars/1": (5,),
        "blocks/container/dense/vars/0": (6, 4),
        "blocks/container/dense/vars/1": (4,),
        **{f"blocks/container/batch_normalization/vars/{i}": (4,) for i in range(4)},
        "blocks/container_1/dense/vars/0": (4, 4),
        "blocks/container_1/dense/vars/1": (4,),
        "blocks/dense/vars/0": (4, 5),
        "blocks/dense/vars/1": (5,),
        "heads/dense/vars/0": (5, 3),
        "heads/dense/vars/1": (3,),
    }


def test_layers_in_private_attributes_are_weights_of_the_model() -> None:
    shapes = [parameter.shape for parameter in subclassed().trainable_weights]
    assert (6, 5) in shapes  # the kernel of _gate


def test_a_model_without_weights_can_be_saved(tmp_path: Path) -> None:
    model = Sequential([Input(shape=(4, 4, 1)), layers.MaxPooling2D(2)])
    for ending in ENDINGS:
        model.save_weights(tmp_path / f"model{ending}")
        model.load_weights(tmp_path / f"model{ending}")
        assert (tmp_path / f"model{ending}").stat().st_size > 0


# ------------------------------------------------------------------------------------------------- files not fitting


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_does_not_fit_changes_nothing(ending: str, tmp_path: Path, rng) -> None:
    stack = [Input(shape=(4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")]
    other = [Input(shape=(4,)), layers.Dense(3, name="a"), layers.Dense(5, name="b")]
    scrambled(Sequential(other), rng).save_weights(tmp_path / f"model{ending}")
    model = Sequential(stack)
    before = model.get_weights()
    kernel = "layers/dense_1/vars/0" if ending == ".weights.h5" else "layers/dense_1/kernel"
    with pytest.raises(ValueError, match=rf"{kernel} \(b/kernel\) must have shape \(3, 2\). Received: \(3, 5\)"):
        model.load_weights(tmp_path / f"model{ending}")
    for array, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, old)


@pytest.mark.parametrize("ending", ENDINGS)
def test_missing_and_surplus_arrays_are_named(ending: str, tmp_path: Path) -> None:
    dense(name="one").save_weights(tmp_path / f"model{ending}")
    larger = Sequential([Input(shape=(4,)), layers.Dense(3, name="two"), layers.Dense(2, name="three")])
    missing = "layers/dense_1/vars/0" if ending == ".weights.h5" else "layers/dense_1/bias"
    with pytest.raises(ValueError, match=f"not in the file, such as '{missing}'"):
        larger.load_weights(tmp_path / f"model{ending}")
    larger.save_weights(tmp_path / f"model{ending}")
    surplus = "layers/dense_1/vars/0" if ending == ".weights.h5" else "layers/dense_1/bias"
    with pytest.raises(ValueError, match=f"in the file only, such as '{surplus}'"):
        dense(name="two").load_weights(tmp_path / f"model{ending}")


def test_arrays_that_hold_no_numbers_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", **{"layers/dense/kernel": np.full((4, 3), "a"), "layers/dense/bias": np.zeros(3)})
    with pytest.raises(ValueError, match=r"layers/dense/kernel .* must hold numbers. Received: dtype <U1"):
        dense().load_weights(tmp_path / "model.npz")


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    kernel = np.array([[print]], dtype=object)
    np.savez(tmp_path / "model.npz", **{"layers/dense/kernel": kernel, "layers/dense/bias": np.zeros(3)})
    with pytest.raises(ValueError, match="is damaged, or no file of weights"):
        dense().load_weights(tmp_path / "model.npz")


# ------------------------------------------------------------------------------------------------- paths


def test_errors_about_paths_say_what_to_do(tmp_path: Path) -> None:
    model = dense()
    with pytest.raises(ValueError, match=r"must end in .npz, .safetensors or .weights.h5. Received: model.pickle"):
        model.save_weights(tmp_path / "model.pickle")
    with pytest.raises(ValueError, match=r"Received: model.h5"):
        model.load_weights(tmp_path / "model.h5")
    with pytest.raises(FileNotFoundError, match="there is no file of weights at"):
        model.load_weights(tmp_path / "nowhere.npz")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        model.save_weights(tmp_path / "nowhere" / "model.npz")
    model.save_weights(tmp_path / "model.npz")
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        model.save_weights(tmp_path / "model.npz", overwrite=False)


def test_a_model_that_is_not_built_is_told_so(tmp_path: Path) -> None:
    model = Sequential([layers.Dense(3)])
    with pytest.raises(ValueError, match="has no weights to save yet: call it on data"):
        model.save_weights(tmp_path / "model.npz")
    dense().save_weights(tmp_path / "model.npz")
    with pytest.raises(ValueError, match="has no weights to fill yet"):
        model.load_weights(tmp_path / "model.npz")


# ------------------------------------------------------------------------------------------------- whole or not at all


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_failure_while_writing_leaves_the_old_file(ending: str, tmp_path: Path, monkeypatch, rng) -> None:
    path = tmp_path / f"model{ending}"
    model = dense()
    model.save_weights(path)
    old = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    scrambled(model, rng)
    monkeypatch.setattr(os, "fsync", fail)  # all has been written, and nothing is safe yet
    with pytest.raises(OSError, match="no space left"):
        model.save_weights(path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == [path.name]


# --------------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("content", [b"", b"garbage", bytes(range(256)) * 8], ids=["empty", "short", "long"])
def test_garbage_is_refused(ending: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"model{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged, or no file of weights"):
        dense().load_weights(path)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused(ending: str, share: float, tmp_path: Path, rng) -> None:
    path = tmp_path / f"model{ending}"
    scrambled(convnet(), rng).save_weights(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    model = convnet()
    before = model.get_weights()
    with pytest.raises(ValueError, match="is damaged, or no file of weights"):
        model.load_weights(path)
    for array, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, old)


@pytest.mark.parametrize("ending", ENDINGS)
def test_flipped_bytes_never_raise_anything_but_a_value_error(ending: str, tmp_path: Path, rng) -> None:
    path = tmp_path / f"model{ending}"
    model = dense()
    model.save_weights(path)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(100):
        damaged = content.copy()
        damaged[rng.integers(0, content.size, 3)] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            model.load_weights(path)
        except ValueError:
            refused += 1
    assert refused > 10


def test_an_npz_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("layers/dense/kernel.npy", bytes(80 << 20))
    assert (tmp_path / "model.npz").stat().st_size < 100_000
    with pytest.raises(ValueError, match="which no weights do"):
        dense().load_weights(tmp_path / "model.npz")


def test_an_npz_header_that_announces_more_than_there_is_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 3)})
    with zipfile.ZipFile(tmp_path / "model.npz", "w") as archive:
        archive.writestr("layers/dense/kernel.npy", header.getvalue())
    with pytest.raises(ValueError, match=r"announces float32 of shape \(1099511627776, 3\), and holds 0 bytes"):
        dense().load_weights(tmp_path / "model.npz")


def test_an_h5_bomb_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        file.create_dataset("layers/dense/vars/0", (1 << 36,), "f4", chunks=(1 << 20,), compression="gzip")
    with pytest.raises(ValueError, match="would be far larger than the file"):
        dense().load_weights(tmp_path / "model.weights.h5")


def test_h5_arrays_that_lie_in_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(48))
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        file.create_dataset("layers/dense/vars/0", (4, 3), "f4", external=[(str(tmp_path / "secret"), 0, 48)])
    with pytest.raises(ValueError, match="is no plain array of numbers"):
        dense().load_weights(tmp_path / "model.weights.h5")


def test_h5_links_into_other_files_are_not_followed(tmp_path: Path) -> None:
    dense().save_weights(tmp_path / "other.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        file["layers"] = h5py.ExternalLink(str(tmp_path / "other.weights.h5"), "/layers")
    with pytest.raises(ValueError, match="arrays of the model are not in the file"):
        dense().load_weights(tmp_path / "model.weights.h5")


def test_a_model_within_a_model_is_found_by_its_class_in_h5(tmp_path: Path) -> None:
    inside = Input(shape=(3,))
    outside = Input(shape=(3,))
    model = Model(outside, Model(inside, layers.Dense(2)(inside))(outside))
    model.save_weights(tmp_path / "model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5") as file:
        assert file["layers/functional/layers/dense/vars/0"].shape == (3, 2)
