"""Whole training runs from the same weights on the same batches: the loss curves of 50 steps in minicnn, Keras and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
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
    pictures = images[: STEPS * size].reshape(STEPS, size, *shape).astype(np.float32) / 255
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


@pytest.mark.parametrize(
    ("make", "size", "shape"),
    [(a2, 32, (28, 28, 1)), (lambda: b3(normalized=True, conv_dropout=0.0), 8, (28, 28))],
    ids=["A2", "B6 without dropout"],
)
def test_loss_curves_of_50_steps_agree(make: Callable[[], minicnn.Model], size: int, shape: tuple[int, ...]) -> None:
    minicnn.utils.set_random_seed(3)
    model, data = make(), batches(size, shape)
    theirs = keras_curve(model, data, keras.optimizers.SGD(0.05, momentum=0.9))
    torchs = torch_curve(model, data, lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9))
    ours = our_curve(model, data, minicnn.optimizers.SGD(0.05, momentum=0.9))
    assert ours[-1] < 0.8 * ours[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    np.testing.assert_allclose(ours, torchs, rtol=1e-4)
