"""Training against PyTorch in float64: 50 steps give the same losses to nine digits, and the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import Input, Sequential, layers, optimizers, regularizers

torch = pytest.importorskip("torch", reason="needs torch")
F = torch.nn.functional

STEPS, BATCH = 50, 16


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    minicnn.config.set_floatx("float64")
    yield
    minicnn.config.set_floatx("float32")


def ours(normalized: bool) -> Sequential:
    """A small B6 with its batch norm kept and its dropout left out, or a small A2 without batch norm."""
    norm = [layers.BatchNormalization] if normalized else []
    return Sequential(
        [
            Input((14, 12, 2)),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            *(kind() for kind in norm),
            layers.MaxPooling2D(2),
            layers.Conv2D(12, (3, 2), strides=(1, 2), activation="relu"),
            *(kind() for kind in norm),
            layers.Flatten(),
            layers.Dense(16, activation="tanh", kernel_regularizer=regularizers.L2(0.01)),
            layers.Dense(5, activation="softmax"),
        ]
    )


def torch_loss(weights: list[Any], x: Any, y: Any, normalized: bool) -> Any:
    """The same network, images NCHW and kernels OIHW, from the weights in Keras' order."""
    queue = iter(weights)

    def convolve(x: Any, **options: Any) -> Any:
        kernel, bias = next(queue), next(queue)
        x = torch.relu(F.conv2d(x, kernel.permute(3, 2, 0, 1), bias, **options))
        if not normalized:
            return x
        gamma, beta, _, _ = (next(queue) for _ in range(4))
        return F.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-3)

    x = F.max_pool2d(convolve(x.permute(0, 3, 1, 2), padding=1), 2)
    x = convolve(x, stride=(1, 2)).permute(0, 2, 3, 1).flatten(1)
    hidden, bias = next(queue), next(queue)
    x = torch.tanh(x @ hidden + bias)
    return F.cross_entropy(x @ next(queue) + next(queue), y) + 0.01 * (hidden**2).sum()


@pytest.mark.parametrize("normalized", [False, True], ids=["plain", "batch norm"])
def test_loss_curve_of_50_steps_equals_pytorch(normalized: bool, rng: np.random.Generator) -> None:
    model = ours(normalized)
    model.compile(optimizers.SGD(0.05, momentum=0.9, nesterov=True), "sparse_categorical_crossentropy")
    weights = [torch.tensor(array, requires_grad=True) for array in model.get_weights()]
    theirs = torch.optim.SGD(weights, lr=0.05, momentum=0.9, nesterov=True)

    labels = rng.integers(0, 5, STEPS * BATCH)
    images = rng.normal(0, 0.5, size=(STEPS * BATCH, 14, 12, 2))
    images[np.arange(len(labels)), labels * 2] += 1.0
    for start in range(0, len(labels), BATCH):
        x, y = images[start : start + BATCH], labels[start : start + BATCH]
        theirs.zero_grad()
        loss = torch_loss(weights, torch.tensor(x), torch.tensor(y), normalized)
        loss.backward()
        theirs.step()
        assert model.train_on_batch(x, y) == pytest.approx(loss.item(), rel=1e-9), start
    for mine, other in zip(model.trainable_weights, [w for w in weights if w.grad is not None], strict=True):
        np.testing.assert_allclose(mine.data, other.detach().numpy(), rtol=1e-7, atol=1e-9)
