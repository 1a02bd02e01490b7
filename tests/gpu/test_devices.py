"""Tensors, layers and models on the device: moved, mixed up, trained, saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn import layers
from minicnn.models import Sequential, load_model
from minicnn.tensor import Tensor


def small_network() -> Sequential:
    """The shape of the first convolutional network of the texts, for 12x12 pictures."""
    return Sequential(
        [
            layers.Input((12, 12, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(10, activation="softmax"),
        ]
    )


def pictures(count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Noise with a bright row, whose number is the label."""
    rng = np.random.default_rng(5)
    x, y = rng.random((count, 12, 12, 1), np.float32), rng.integers(0, 10, count)
    x[np.arange(count), y] += 2
    return x, y


def compiled(model: Sequential, optimizer: Any = "adam") -> Sequential:
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


# --------------------------------------------------------------------------------------------------- tensors


def test_a_tensor_goes_to_the_device_and_back() -> None:
    x = minicnn.tensor([[1.0, -2.0], [3.0, 4.0]])
    y = x.to("gpu")
    assert (x.device, y.device, y.cpu().device, x.cuda().device) == ("cpu", "gpu", "cpu", "gpu")
    assert y.to("gpu") is y
    assert x.to("cpu") is x
    np.testing.assert_array_equal(y.numpy(), x.numpy())
    np.testing.assert_array_equal(np.asarray(y), x.numpy())
    assert repr(y) == "tensor([[ 1., -2.],\n        [ 3.,  4.]], device='gpu')"
    assert y.to("float64").dtype == np.float64
    assert (y[0, 1].item(), y.tolist()) == (-2.0, [[1.0, -2.0], [3.0, 4.0]])


def test_gradients_come_back_to_where_their_leaf_lies() -> None:
    x = minicnn.tensor([1.0, -2.0], requires_grad=True)
    (x.to("gpu") ** 3).sum().backward()
    assert x.grad.device == "cpu"
    np.testing.assert_array_equal(x.grad.data, [3, 12])


def test_the_backend_in_force_says_where_new_tensors_lie() -> None:
    with minicnn.use_backend("gpu"):
        made = [
            minicnn.tensor([1, 2]), minicnn.zeros(2), F.arange(3), F.eye(2), F.rand(2), F.linspace(0, 1, 3),
            F.one_hot([0, 1]), F.as_tensor(np.ones(2)), Tensor(np.ones(2)),
        ]  # fmt: skip
        on_host = F.from_numpy(np.ones(2))
    assert {t.device for t in made} == {"gpu"}
    assert on_host.device == "cpu"
    assert minicnn.zeros(2).device == "cpu"
    assert {F.zeros_like(t).device for t in made} == {"gpu"}


def test_random_numbers_are_the_same_on_every_device() -> None:
    minicnn.manual_seed(3)
    expected = F.randn(5).numpy()
    minicnn.manual_seed(3)
    with minicnn.use_backend("gpu"):
        np.testing.assert_array_equal(F.randn(5).numpy(), expected)


def test_edits_in_place_take_values_from_the_host() -> None:
    x = minicnn.zeros(2, 3).to("gpu")
    x[0] = np.array([1.0, 2.0, 3.0], np.float32)
    x[[1], [2]] = 7.0
    x[minicnn.tensor([1]), 0] = minicnn.tensor([5.0])
    np.testing.assert_array_equal(x.numpy(), [[1, 2, 3], [5, 0, 7]])
    x.copy_(np.ones((2, 3)))
    assert x.sum().item() == 6


@pytest.mark.parametrize("operation", ["add", "mul", "matmul", "eq", "maximum"])
def test_tensors_of_two_devices_do_not_mix(operation: str) -> None:
    a, b = minicnn.ones(2, 2), minicnn.ones(2, 2).to("gpu")
    with pytest.raises(RuntimeError, match=r"argument 0 on the cpu, argument 1 on the gpu") as caught:
        getattr(F, operation)(a, b)
    assert "t.to('gpu')" in str(caught.value)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ValueError, match="Received: 'tpu'"):
        minicnn.ones(2).to("tpu")


# --------------------------------------------------------------------------------------------------- models


def test_training_on_the_device_follows_the_host() -> None:
    x, y = pictures(96)
    curves, predictions = [], []
    for device in ("cpu", "gpu"):
        minicnn.utils.set_random_seed(7)
        model = compiled(small_network()).to(device)
        losses = []
        for step in range(30):
            rows = slice(16 * (step % 6), 16 * (step % 6 + 1))
            losses.append(model.train_on_batch(x[rows], y[rows])[0])
        curves.append(losses)
        predictions.append(model.predict(x[:20], verbose=0))
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-4)
    np.testing.assert_allclose(predictions[1], predictions[0], atol=1e-4)
    assert curves[0][-1] < 0.7 * curves[0][0]


@pytest.mark.parametrize(
    "layer",
    [
        layers.GaussianNoise(0.5, seed=3),
        layers.Dropout(0.5, noise_shape=(None, 1), seed=3),
        layers.SpatialDropout2D(0.5, seed=3),
        layers.Rescaling(0.5, offset=1.0),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_a_layer_draws_or_holds_lies_beside_its_input(layer: Any) -> None:
    shape = (4, 3, 3, 2) if isinstance(layer, layers.SpatialDropout2D) else (4, 6)
    x = minicnn.tensor(np.random.default_rng(1).standard_normal(shape), "float32")
    same = type(layer).from_config(layer.get_config())  # its stream starts anew
    options = {} if isinstance(layer, layers.Rescaling) else {"training": True}
    expected, received = layer(x, **options), same(x.cuda(), **options)
    assert received.device == "gpu"
    np.testing.assert_allclose(received.numpy(), expected.numpy(), rtol=1e-6)


def test_fit_takes_the_data_to_the_weights() -> None:
    x, y = pictures(40)
    model = compiled(small_network()).to("gpu")
    history = model.fit(x, y, batch_size=16, epochs=2, validation_data=(x, y), verbose=0).history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert {weight.device for weight in model.weights} == {"gpu"}
    assert isinstance(model.predict(x, verbose=0), np.ndarray)
    assert np.isfinite(model.evaluate(x, y, verbose=0)).all()


def test_a_model_made_on_the_device_is_saved_and_loaded_anywhere(tmp_path: Path) -> None:
    x, y = pictures(32)
    with minicnn.use_backend("gpu"):
        model = compiled(small_network())
        model.train_on_batch(x, y)
        expected = model.predict(x, verbose=0)
        model.save(tmp_path / "model.keras")
        there = load_model(tmp_path / "model.keras")
    here = load_model(tmp_path / "model.keras")
    assert (model.backend.device, there.backend.device, here.backend.device) == ("gpu", "gpu", "cpu")
    np.testing.assert_array_equal(there.predict(x, verbose=0), expected)
    np.testing.assert_allclose(here.predict(x, verbose=0), expected, atol=1e-5)
    losses = []
    for loaded in (there, here):  # the optimizers' state came along
        minicnn.manual_seed(2)
        losses.append(loaded.train_on_batch(x, y)[0])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_a_compiled_model_moves_with_its_optimizer() -> None:
    x, y = pictures(16)
    model = compiled(small_network())
    model.train_on_batch(x, y)
    model.to("gpu")
    model.train_on_batch(x, y)
    model.to("cpu")
    assert np.isfinite(model.train_on_batch(x, y)[0])


def test_a_layer_without_weights_yet_says_how_to_make_them_there() -> None:
    with pytest.raises(ValueError, match=r"has no weights yet: call it on data first, or make it under"):
        layers.Dense(3).to("gpu")


def test_labels_that_do_not_fit_are_refused_from_the_device() -> None:
    x, y = pictures(16)
    y[3] = 10
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 9.*Received: label 10"):
        compiled(small_network()).to("gpu").train_on_batch(x, y)


@pytest.mark.parametrize("options", [{"clipnorm": 0.1}, {"global_clipnorm": 0.1}, {"clipvalue": 0.01}])
def test_gradients_are_clipped_on_the_device(options: dict[str, float]) -> None:
    x, y = pictures(16)
    weights = []
    for device in ("cpu", "gpu"):
        minicnn.utils.set_random_seed(7)
        model = compiled(small_network(), minicnn.optimizers.SGD(0.5, weight_decay=0.01, **options)).to(device)
        model.train_on_batch(x, y)
        weights.append(model.get_weights())
    for on_host, on_device in zip(*weights, strict=True):
        np.testing.assert_allclose(on_device, on_host, atol=1e-5)
