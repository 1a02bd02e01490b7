"""`minicnn train`: load pictures, train a network, save it, and show what it learned."""

from __future__ import annotations

import argparse
import csv
import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import minicnn
from minicnn import datasets, optimizers, utils
from minicnn.applications import build_network
from minicnn.atomic import atomic_write
from minicnn.metrics import ConfusionMatrix
from minicnn.models import Sequential

Pictures = np.ndarray[Any, Any]


class Data(NamedTuple):
    """Pictures (N, H, W, C) in [0, 1] and labels (N,)."""

    x_train: Pictures
    y_train: Pictures
    x_test: Pictures
    y_test: Pictures
    class_names: tuple[str, ...]


def run(options: argparse.Namespace) -> int:
    if options.backend:
        minicnn.use_backend(options.backend)
    utils.set_random_seed(options.seed)
    data = load(options.dataset, options.data)
    print(
        f"{len(data.x_train):,} training and {len(data.x_test):,} test pictures of {options.dataset}, "
        f"{'x'.join(map(str, data.x_train.shape[1:]))}, {len(data.class_names)} classes; "
        f"{minicnn.current_backend().name} backend\n"
    )
    model = build_network(options.model, data.x_train.shape[1:], len(data.class_names))
    optimizer = optimizers.get(options.optimizer)
    assert optimizer is not None  # a name was given
    if options.learning_rate is not None:
        optimizer.learning_rate = options.learning_rate
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.summary()
    history = model.fit(
        data.x_train,
        data.y_train,
        batch_size=options.batch_size,
        epochs=options.epochs,
        validation_split=options.validation_split,
    )
    loss, accuracy = model.evaluate(data.x_test, data.y_test, batch_size=500, verbose=0)
    print(f"\nTest accuracy {accuracy:.4f}, loss {loss:.4f}, on {len(data.x_test):,} pictures never seen in training.")
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    probabilities = model.predict(data.x_test, batch_size=500, verbose=0)
    matrix = confusion(data, probabilities)
    show_mistakes(matrix, data.class_names)
    files = save(folder, model, history.history, options, data, accuracy)
    files += draw(folder, history.history, data, probabilities, matrix)
    print(f"\nSaved in {folder}: {', '.join(files)}")
    print(f"Read a picture of your own with: minicnn predict {folder / 'model.keras'} IMAGE")
    return 0


def load(name: str, folder: str | None) -> Data:
    """A dataset by name, as a network takes it."""
    module: ModuleType = datasets.mnist if name == "sample" else getattr(datasets, name)
    (x_train, y_train), (x_test, y_test) = module.load_sample() if name == "sample" else module.load_data(folder)
    return Data(_pictures(x_train), y_train.reshape(-1), _pictures(x_test), y_test.reshape(-1), module.class_names)


def _pictures(images: Pictures) -> Pictures:
    """Bytes as numbers in [0, 1], with an axis for the channels."""
    scaled = images.astype(np.float32) / 255
    return scaled[..., None] if scaled.ndim == 3 else scaled


def show_mistakes(matrix: Pictures, names: tuple[str, ...]) -> None:
    """Print how often each class was right, and which classes were taken for each other most often.

    matrix: counts (true class, read class).
    """
    right = np.diag(matrix) / np.maximum(matrix.sum(axis=1), 1)
    print("Right by class: " + "  ".join(f"{name} {share:.1%}" for name, share in zip(names, right, strict=True)))
    wrong = matrix - np.diag(np.diag(matrix))
    pairs = np.dstack(np.unravel_index(np.argsort(-wrong, axis=None)[:3], wrong.shape))[0]
    told = [f"{names[i]} read as {names[j]} ({wrong[i, j]}x)" for i, j in pairs if wrong[i, j]]
    if told:
        print("Most often mistaken: " + ", ".join(told))


def confusion(data: Data, probabilities: Pictures) -> Pictures:
    """Counts (true class, read class)."""
    metric = ConfusionMatrix(num_classes=len(data.class_names))
    metric.update_state(data.y_test, probabilities)
    return np.asarray(metric.result()).astype(int)


def save(
    folder: Path,
    model: Sequential,
    history: dict[str, list[float]],
    options: argparse.Namespace,
    data: Data,
    accuracy: float,
) -> list[str]:
    """Write the model, the history as a table, and what made them."""
    model.save(folder / "model.keras")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["epoch", *history])
    writer.writerows([epoch, *row] for epoch, row in enumerate(zip(*history.values(), strict=True), start=1))
    told = {
        "dataset": options.dataset,
        "model": options.model,
        "optimizer": options.optimizer,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "seed": options.seed,
        "backend": minicnn.current_backend().name,
        "test_accuracy": accuracy,
        "class_names": list(data.class_names),
    }
    for name, text in (("history.csv", table.getvalue()), ("run.json", json.dumps(told, indent=2) + "\n")):
        with atomic_write(folder / name) as file:
            file.write(text.encode())
    return ["model.keras", "history.csv", "run.json"]


def draw(
    folder: Path, history: dict[str, list[float]], data: Data, probabilities: Pictures, matrix: Pictures
) -> list[str]:
    """Draw curves, the confusion matrix and misread pictures, where matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print('For pictures of the run install the plot extra: pip install "minicnn-engine[plot]"')
        return []
    from minicnn import visualize

    visualize.plot_history(history, folder / "curves.png")
    visualize.plot_confusion_matrix(matrix, data.class_names, folder / "confusion.png")
    files = ["curves.png", "confusion.png"]
    read = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(read != data.y_test)
    if len(wrong):
        surest = wrong[np.argsort(-probabilities[wrong].max(axis=1))][:25]  # the mistakes it was surest of
        titles = [
            f"true {data.class_names[data.y_test[i]]}, read {data.class_names[read[i]]} ({probabilities[i].max():.0%})"
            for i in surest
        ]
        visualize.plot_images(data.x_test[surest], folder / "misread.png", titles=titles)
        files.append("misread.png")
    return files
