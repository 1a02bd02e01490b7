"""Training runs from the same weights on the same batches: loss curves of 50 steps in minicnn, Keras and PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn.datasets import mnist
from tests.systems import a2, b3

torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")

STEPS = 50


def batches(size: int, shape: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    (images, labels), _ = mnist.load_sample()
    pictures = images[: STEPS * size].reshape(STEPS, size, *shape).astype(minicnn.config.floatx()) / 255
    return list(zip(pictures, labels[: STEPS * size].reshape(STEPS, size).astype(np.int64), strict=True))


def our_curve(model: minicnn.Model, data: Any, optimizer: Any) -> list[float]:
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy")
    return [float(np.ravel(model.train_on_batch(x, y))[0]) for x, y in data]


def keras_curve(model: minicnn.Model, data: Any, optimizer: Any) -> list[float]:
    """The same network in Keras, made from our config and given our weights."""
    kind = keras.Sequential if isinstance(model, minicnn.Sequential) else keras.Model
    twin = kind.from_config(model.get_config())
    twin.set_weights(model.get_weights())
    twin.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy")
    losses = []
    for x, y in data:
        twin.reset_metrics()
        losses.append(float(np.ravel(twin.train_on_batch(x, y))[0]))
    return losses


class TorchTwin(torch.nn.Module):
    """Our stack of layers in PyTorch, with our weights."""

    def __init__(self, model: minicnn.Model) -> None:
        super().__init__()
        self.steps: list[Callable[[Any], Any]] = []
        self.parts = torch.nn.ModuleList()
        for layer in model.layers:
            self._translate(layer)

    def _keep(self, part: Any) -> Any:
        self.parts.append(part)
        self.steps.append(part)
        return part

    def _translate(self, layer: Any) -> None:
        kind = type(layer).__name__
        weights = [torch.from_numpy(w) for w in layer.get_weights()]
        if kind == "Conv2D":
            kernel = weights[0].permute(3, 2, 0, 1).contiguous()
            padding = 1 if layer.padding == "same" else 0
            part = self._keep(torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2:], padding=padding))
            part.weight.data, part.bias.data = kernel, weights[1]
            self.steps.append(torch.relu)
        elif kind == "Dense":
            part = self._keep(torch.nn.Linear(*weights[0].shape))
            part.weight.data, part.bias.data = weights[0].T.contiguous(), weights[1]
            if layer.get_config()["activation"] == "relu":
                self.steps.append(torch.relu)
        elif kind == "BatchNormalization":
            self._keep(torch.nn.BatchNorm2d(len(weights[0]), eps=1e-3, momentum=0.01))
        elif kind == "MaxPooling2D":
            self.steps.append(torch.nn.MaxPool2d(2))
        elif kind == "Flatten":
            self.steps.append(lambda x: x.permute(0, 2, 3, 1).flatten(1))  # NHWC order, as our Dense was given
        else:
            assert kind in ("InputLayer", "Reshape"), kind

    def forward(self, x: Any) -> Any:
        x = x.reshape(len(x), 1, 28, 28)
        for step in self.steps:
            x = step(x)
        return x


def torch_curve(model: minicnn.Model, data: Any, optimizer: Callable[[Any], Any]) -> list[float]:
    twin = TorchTwin(model)
    twin.train()
    steps = optimizer(twin.parameters())
    losses = []
    for x, y in data:
        steps.zero_grad()
        loss = torch.nn.functional.cross_entropy(twin(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        steps.step()
        losses.append(loss.item())
    return losses


def b6_without_dropout() -> minicnn.Model:
    return b3(normalized=True, conv_dropout=0.0)


@pytest.fixture
def _float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All three in float64; Keras' own promotion rules would end at float32."""
    monkeypatch.setitem(keras.src.backend.common.dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
    for configuration in (minicnn.config, keras.config):
        configuration.set_floatx("float64")
    torch.set_default_dtype(torch.float64)
    yield
    for configuration in (minicnn.config, keras.config):
        configuration.set_floatx("float32")
    torch.set_default_dtype(torch.float32)


def check_curves(
    make: Callable[[], minicnn.Model], size: int, shape: tuple[int, ...], rate: float, momentum: float = 0.0
) -> None:
    """SGD has one formula in all three."""
    minicnn.utils.set_random_seed(3)
    model, data = make(), batches(size, shape)
    theirs = keras_curve(model, data, keras.optimizers.SGD(rate, momentum))
    torchs = torch_curve(model, data, lambda parameters: torch.optim.SGD(parameters, rate, momentum))
    ours = our_curve(model, data, minicnn.optimizers.SGD(rate, momentum))
    assert ours[-1] < ours[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    np.testing.assert_allclose(ours, torchs, rtol=1e-4)


@pytest.fixture
def _without_winograd() -> Iterator[None]:
    """Convolutions as exact as float32 is: the transforms of Winograd's algorithm lose about a digit."""
    minicnn.config.winograd = False
    yield
    minicnn.config.winograd = True


@pytest.mark.usefixtures("_without_winograd")
def test_the_float32_loss_curve_of_a2_agrees_with_keras_and_torch() -> None:
    check_curves(a2, 32, (28, 28, 1), rate=0.01)


def test_winograd_convolutions_follow_the_curve_for_thirty_steps() -> None:
    minicnn.utils.set_random_seed(3)
    model, data = a2(), batches(32, (28, 28, 1))
    torchs = torch_curve(model, data, lambda parameters: torch.optim.SGD(parameters, 0.01))
    ours = our_curve(model, data, minicnn.optimizers.SGD(0.01))
    np.testing.assert_allclose(ours[:30], torchs[:30], rtol=1e-4)


@pytest.mark.usefixtures("_float64")
def test_the_loss_curve_of_a2_under_momentum_agrees_with_keras_and_torch() -> None:
    check_curves(a2, 32, (28, 28, 1), rate=0.02, momentum=0.9)


@pytest.mark.usefixtures("_float64")
def test_the_loss_curve_of_b6_agrees_with_keras_and_torch() -> None:
    """In float64: over 50 steps of float32 this network drives Keras and torch themselves 40 % apart."""
    check_curves(b6_without_dropout, 8, (28, 28), rate=0.01, momentum=0.9)


@pytest.mark.usefixtures("_float64")
def test_the_loss_curve_of_a2_under_rmsprop_agrees_with_keras() -> None:
    """The optimizer that the text trains it with; torch's has its epsilon elsewhere."""
    minicnn.utils.set_random_seed(3)
    model, data = a2(), batches(32, (28, 28, 1))
    theirs = keras_curve(model, data, keras.optimizers.RMSprop(1e-3))
    np.testing.assert_allclose(our_curve(model, data, minicnn.optimizers.RMSprop(1e-3)), theirs, rtol=1e-4)
