"""Whole models in `.keras` files: the same model back, training that goes on as if uninterrupted, bad files refused."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import minicnn
from minicnn import Input, Model, Sequential, layers, losses, metrics, optimizers, saving, schedules
from minicnn.layers.symbolic import flatten
from minicnn.models import load_model
from tests.saving.models import MODELS, Blocks, assert_same_weights, batch, convnet, scrambled

OWN = {"Blocks": Blocks}
MEMBERS = {"config": "config.json", "metadata": "metadata.json", "weights": "model.weights.h5"}


def saved(tmp_path: Path, model: Model | None = None) -> Path:
    path = tmp_path / "model.keras"
    (model or Sequential([Input(shape=(4,)), layers.Dense(3, name="dense")])).save(path)
    return path


def rewritten(path: Path, **changes: bytes | None) -> None:
    """The file with other members: config, metadata, weights; None takes one out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members |= {MEMBERS[key]: content for key, content in changes.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)


def config_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


# ------------------------------------------------------------------------------------------------- the same model


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_model_comes_back_to_the_bit(make, tmp_path: Path, rng) -> None:
    model = scrambled(make(), rng)
    again = load_model(saved(tmp_path, model), OWN)
    assert type(again) is type(model)
    assert_same_weights(model, again)
    x, _ = batch(model, rng)
    for y, z in zip(flatten(model.predict(x, verbose=0)), flatten(again.predict(x, verbose=0)), strict=True):
        np.testing.assert_array_equal(y, z)
    assert again.get_config() == model.get_config()


def test_names_come_back(tmp_path: Path) -> None:
    model = MODELS["branched"]()
    again = load_model(saved(tmp_path, model))
    assert again.name == model.name
    assert [p.path for p in again.weights] == [p.path for p in model.weights]
    assert again.output_names == ["first", "second"]


def test_both_names_load_the_same(tmp_path: Path) -> None:
    path = saved(tmp_path)
    assert_same_weights(minicnn.models.load_model(path), saving.load_model(str(path)))


def test_frozen_layers_stay_frozen(tmp_path: Path) -> None:
    model = convnet()
    model.layers[0].trainable = False
    again = load_model(saved(tmp_path, model))
    assert [p.path for p in again.trainable_weights] == [p.path for p in model.trainable_weights]
    assert len(again.trainable_weights) == len(model.weights) - 4  # kernel, bias and the two statistics


def test_indexing_and_constants_in_a_graph_come_back(tmp_path: Path, rng) -> None:
    inputs = Input(shape=(4, 6))
    scale = np.arange(3, dtype=np.float32)
    outputs = layers.Flatten()(inputs[:, 1:3, ::2] * scale + 2 - inputs[:, 0:2, ..., :3])
    model = Model(inputs, outputs)
    again = load_model(saved(tmp_path, model))
    x = rng.normal(size=(5, 4, 6)).astype(np.float32)
    expected = (x[:, 1:3, ::2] * scale + 2 - x[:, 0:2, :3]).reshape(5, -1)
    np.testing.assert_array_equal(again.predict(x, verbose=0), expected)


def test_a_lambda_of_a_named_function_comes_back_from_custom_objects(tmp_path: Path, rng) -> None:
    def doubled(x: Any) -> Any:
        return x * 2

    path = saved(tmp_path, Sequential([Input(shape=(3,)), layers.Lambda(doubled)]))
    x = rng.normal(size=(2, 3)).astype(np.float32)
    np.testing.assert_array_equal(load_model(path, {"doubled": doubled}).predict(x, verbose=0), 2 * x)
    with pytest.raises(ValueError, match="code in files is not run"):
        load_model(path)


# ------------------------------------------------------------------------------------------------- training goes on

OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.05),
    "nesterov": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "adam": lambda: optimizers.Adam(0.01, clipnorm=1.0),
    "amsgrad": lambda: optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.02),
    "adamax": lambda: optimizers.Adamax(0.01),
    "nadam": lambda: optimizers.Nadam(0.01),
    "adagrad": lambda: optimizers.Adagrad(0.05),
    "adadelta": lambda: optimizers.Adadelta(1.0),
    "schedule": lambda: optimizers.Adam(schedules.ExponentialDecay(0.01, 2, 0.5)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_after_loading_as_if_never_interrupted(name: str, tmp_path: Path, rng) -> None:
    model = MODELS["branched"]()
    model.compile(OPTIMIZERS[name](), loss=["mse", losses.Huber(0.5)], loss_weights=[1.0, 0.3], metrics=[["mae"], []])
    data = [batch(model, rng) for _ in range(6)]
    for x, y in data[:3]:
        model.train_on_batch(x, y)
    again = load_model(saved(tmp_path, model))
    assert again.optimizer.iterations == 3
    for x, y in data[3:]:
        model.reset_metrics()
        again.reset_metrics()
        np.testing.assert_array_equal(again.train_on_batch(x, y), model.train_on_batch(x, y))
    assert_same_weights(model, again)
    for a, b in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_compiled_but_never_trained_starts_at_the_first_step(tmp_path: Path, rng) -> None:
    model = MODELS["branched"]()
    model.compile("adam", "mse")
    again = load_model(saved(tmp_path, model))
    x, y = batch(model, rng)
    model.train_on_batch(x, y)
    again.train_on_batch(x, y)
    assert_same_weights(model, again)


def test_what_compile_was_given_comes_back(tmp_path: Path) -> None:
    model = convnet()
    model.compile(
        optimizers.SGD(0.1, momentum=0.5),
        losses.CategoricalCrossentropy(label_smoothing=0.1),
        metrics=["accuracy", metrics.Precision(class_id=1)],
        weighted_metrics=["mse"],
    )
    again = load_model(saved(tmp_path, model))
    assert again.get_compile_config() == model.get_compile_config()
    assert again.loss.get_config()["label_smoothing"] == 0.1
    assert again.optimizer.get_config() == model.optimizer.get_config()


def test_without_compile_and_without_optimizer_nothing_is_compiled(tmp_path: Path) -> None:
    model = convnet()
    model.compile("adam", "categorical_crossentropy")
    assert not load_model(saved(tmp_path, model), compile=False).compiled
    model.save(tmp_path / "bare.keras", include_optimizer=False)
    assert not load_model(tmp_path / "bare.keras").compiled
    with zipfile.ZipFile(tmp_path / "bare.keras") as archive:
        assert "optimizer" not in h5py.File(io.BytesIO(archive.read("model.weights.h5")))


def test_a_loss_that_is_a_plain_function_cannot_be_saved_and_the_error_says_so(tmp_path: Path) -> None:
    model = convnet()
    model.compile("adam", lambda y, p: (y - p) ** 2)
    with pytest.raises(TypeError, match="include_optimizer=False"):
        model.save(tmp_path / "model.keras")
    assert os.listdir(tmp_path) == []


def test_state_that_does_not_fit_is_left_with_a_warning(tmp_path: Path, rng) -> None:
    model = MODELS["branched"]()
    model.compile("adam", "mse")
    model.train_on_batch(*batch(model, rng))
    model.get_layer("shared").trainable = False  # and not compiled again
    path = saved(tmp_path, model)
    with pytest.warns(UserWarning, match="starts afresh"):
        again = load_model(path)
    assert_same_weights(model, again)
    assert again.optimizer.iterations == 0


# ------------------------------------------------------------------------------------------------- writing


def test_errors_about_paths_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in .keras. Received: model.h5"):
        convnet().save(tmp_path / "model.h5")
    with pytest.raises(ValueError, match="has no weights to save yet"):
        Sequential([layers.Dense(3)]).save(tmp_path / "model.keras")
    with pytest.raises(FileNotFoundError, match="there is no model file at"):
        load_model(tmp_path / "nowhere.keras")
    with pytest.raises(FileNotFoundError, match="there is no model file at"):
        load_model(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        convnet().save(tmp_path / "nowhere" / "model.keras")
    saved(tmp_path)
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        convnet().save(tmp_path / "model.keras", overwrite=False)


@pytest.mark.parametrize("failing", [(zipfile.ZipFile, "writestr"), (os, "fsync"), (os, "replace")])
def test_a_failure_while_writing_leaves_the_old_file(failing, tmp_path: Path, monkeypatch, rng) -> None:
    model = convnet()
    path = saved(tmp_path, model)
    old = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    scrambled(model, rng)
    monkeypatch.setattr(*failing, fail)
    with pytest.raises(OSError, match="no space left"):
        model.save(path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["model.keras"]


def test_a_lambda_without_a_name_cannot_be_saved_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = saved(tmp_path)
    old = path.read_bytes()
    with pytest.raises(TypeError, match="a function without a name cannot be saved"):
        saved(tmp_path, Sequential([Input(shape=(3,)), layers.Lambda(lambda x: x * 2)]))
    assert path.read_bytes() == old


# ------------------------------------------------------------------------------------------------- bad files


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04" + bytes(500)], ids=["empty", "short", "half a zip"])
def test_garbage_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged, or no .keras file"):
        load_model(tmp_path / "model.keras")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(share: float, tmp_path: Path) -> None:
    path = saved(tmp_path, convnet())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"is damaged, or no .keras file"):
        load_model(path)


def test_flipped_bytes_never_raise_anything_but_a_value_error(tmp_path: Path, rng) -> None:
    path = saved(tmp_path)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(100):
        damaged = content.copy()
        damaged[rng.integers(0, content.size, 3)] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            load_model(path)
        except ValueError:
            refused += 1
    assert refused > 50  # each member of the zip has a checksum


@pytest.mark.parametrize("name", MEMBERS)
def test_a_missing_member_is_named(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path)
    rewritten(path, **{name: None})
    with pytest.raises(ValueError, match=f"it holds no {MEMBERS[name]}"):
        load_model(path)


def test_another_zip_file_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("readme.txt", "a text")
    with pytest.raises(ValueError, match=r"it holds no metadata.json. Received: \['readme.txt'\]"):
        load_model(tmp_path / "model.keras")


@pytest.mark.parametrize("member", ["config", "weights"])
def test_a_zip_bomb_is_refused(member: str, tmp_path: Path) -> None:
    path = saved(tmp_path)
    rewritten(path, **{member: bytes(80 << 20)})
    assert path.stat().st_size < 200_000
    with pytest.raises(ValueError, match=r"would unpack from [\d,]+ to 83,886,080 bytes, which no weights do"):
        load_model(path)


def test_an_h5_bomb_within_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file.create_dataset("layers/dense/vars/0", (1 << 36,), "f4", chunks=(1 << 20,), compression="gzip")
    rewritten(path, weights=weights.getvalue())
    with pytest.raises(ValueError, match="would be far larger than the file"):
        load_model(path)


@pytest.mark.parametrize(
    "text",
    [b"{", b"\xff\xfe", b"null", b"[]", b'"text"', b"[" * 100_000, b'{"a":' * 100_000],
    ids=["cut", "bytes", "null", "list", "text", "deep list", "deep object"],
)
def test_json_that_is_no_config_is_refused(text: bytes, tmp_path: Path) -> None:
    path = saved(tmp_path)
    rewritten(path, config=text)
    with pytest.raises(ValueError, match=r"no .keras file"):
        load_model(path)


@pytest.mark.parametrize("depth", [200, 400])
def test_models_nested_too_deep_are_refused(depth: int, tmp_path: Path) -> None:
    path = saved(tmp_path)
    opening = '{"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": ['
    rewritten(path, config=(opening * depth + "]}}" * depth).encode())
    with pytest.raises(ValueError, match=r"recursion depth exceeded|does not know its input shape"):
        load_model(path)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"class_name": "Sequential"},
        {"class_name": "Sequential", "config": {"name": "s", "layers": 3}},
        {"class_name": "Sequential", "config": {"name": "s", "layers": [{"class_name": "Dense", "config": {}}]}},
        {"class_name": "Functional", "config": {"layers": [], "input_layers": [["x", 0, 0]], "output_layers": []}},
    ],
)
def test_configs_with_parts_missing_are_refused(config: dict[str, Any], tmp_path: Path) -> None:
    path = saved(tmp_path)
    rewritten(path, config=json.dumps(config).encode())
    with pytest.raises(ValueError, match="its config does not make a model here"):
        load_model(path)


def test_an_unknown_layer_gets_a_suggestion(tmp_path: Path) -> None:
    path = saved(tmp_path)
    config = json.dumps(config_of(path)).replace('"Dense"', '"Densee"')
    rewritten(path, config=config.encode())
    with pytest.raises(ValueError, match=r"there is no layer of that name. Received: 'Densee'. Did you mean 'Dense'"):
        load_model(path)


def test_a_single_layer_is_no_model(tmp_path: Path) -> None:
    path = saved(tmp_path)
    rewritten(path, config=json.dumps(config_of(path)["config"]["layers"][1]).encode())
    with pytest.raises(ValueError, match=r"holds no model. Received: Dense"):
        load_model(path)


def test_python_code_in_a_lambda_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    config = config_of(path)
    code = {"class_name": "__lambda__", "config": {"value": ["4wEAAAA=", None, None]}}
    config["config"]["layers"][1] = {"class_name": "Lambda", "config": {"name": "dense", "function": code}}
    rewritten(path, config=json.dumps(config).encode())
    with pytest.raises(ValueError, match="code in files is not run"):
        load_model(path)


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    config = json.dumps(config_of(path)).replace('"units": 3', '"units": 5')
    rewritten(path, config=config.encode())
    with pytest.raises(ValueError, match=r"layers/dense/vars/0 .* must have shape \(4, 5\). Received: \(4, 3\)"):
        load_model(path)


def test_an_unknown_optimizer_or_loss_is_told_and_compile_can_be_left_out(tmp_path: Path) -> None:
    model = Sequential([Input(shape=(4,)), layers.Dense(3)])
    model.compile("adam", "mse")
    path = saved(tmp_path, model)
    config = json.dumps(config_of(path)).replace('"Adam"', '"Adan"')
    rewritten(path, config=config.encode())
    with pytest.raises(ValueError, match=r"no optimizer of that name. Received: 'Adan'.* compile=False"):
        load_model(path)
    assert_same_weights(load_model(path, compile=False), model)
