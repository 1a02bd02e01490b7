"""`python -m benchmarks.mnist`: the first convnet (SYSTEMS.md's A2) on all of MNIST, 5 epochs, here and in PyTorch.

Each framework trains in a process of its own, one after the other, as its users would write it: minicnn with `fit`,
PyTorch eagerly, in its default form and with channels_last. RMSprop (1e-3, rho 0.9), batches of 64, pixels / 255.
Prints test accuracy and seconds; the data are looked for as `minicnn train --dataset mnist` does. PyTorch is left out
where its environment is not installed (`python -m benchmarks peers torch`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

EPOCHS, BATCH = 5, 64
PROGRAMS = {"minicnn": "minicnn", "PyTorch": "torch", "PyTorch, channels_last": "torch"}


def with_minicnn(data: dict[str, Any], form: str) -> float:
    """Train; the accuracy on the test pictures."""
    import minicnn
    from minicnn import layers

    minicnn.manual_seed(1)
    model = minicnn.Sequential(
        [
            minicnn.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="rmsprop", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(data["x_train"], data["y_train"], batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return float(model.evaluate(data["x_test"], data["y_test"], batch_size=500, verbose=0)[1])


def with_torch(data: dict[str, Any], form: str) -> float:
    """Train; the accuracy on the test pictures."""
    import torch
    from torch import nn

    torch.manual_seed(1)
    layout = torch.channels_last if "channels_last" in form else torch.contiguous_format
    x_train, x_test = (torch.from_numpy(data[name].transpose(0, 3, 1, 2).copy()) for name in ("x_train", "x_test"))
    x_train, x_test = x_train.contiguous(memory_format=layout), x_test.contiguous(memory_format=layout)
    y_train, y_test = (torch.from_numpy(data[name].astype(np.int64)) for name in ("y_train", "y_test"))
    model: Any = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(576, 64), nn.ReLU(), nn.Linear(64, 10),
    ).to(memory_format=layout)  # fmt: skip
    loss_of = nn.CrossEntropyLoss()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, eps=1e-7)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x_train)).split(BATCH):
            optimizer.zero_grad()
            loss_of(model(x_train[rows].contiguous(memory_format=layout)), y_train[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        parts = zip(x_test.split(500), y_test.split(500), strict=True)
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in parts)
    return right / len(y_test)


def worker(framework: str, form: str, path: str) -> None:
    """One training in this process, told as JSON."""
    data = dict(np.load(path))
    start = time.perf_counter()
    accuracy = (with_minicnn if framework == "minicnn" else with_torch)(data, form)
    print(json.dumps({"accuracy": accuracy, "seconds": time.perf_counter() - start}))


def main() -> int:
    from benchmarks import machine, peers
    from minicnn.datasets import mnist

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=1, help="trainings of each, in turn (default 1)")
    options.add_argument("--threads", type=int, default=min(2, len(machine.cores())))
    given = options.parse_args()
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
    known = {peer.name: peer for peer in peers.PEERS}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "mnist.npz")
        pictures = {"x_train": x_train, "x_test": x_test}
        arrays: dict[str, Any] = {name: (x[..., None] / 255).astype(np.float32) for name, x in pictures.items()}
        np.savez(path, **arrays, y_train=y_train, y_test=y_test)
        for _ in range(given.rounds):
            for form, framework in PROGRAMS.items():
                python = sys.executable if framework == "minicnn" else str(peers.interpreter(known["torch"]))
                if not Path(python).exists():
                    print(f"{form}: not installed (python -m benchmarks peers torch)")
                    continue
                done = subprocess.run(
                    [python, "-m", "benchmarks.mnist", "--worker", framework, form, path],
                    cwd=machine.ROOT, env=machine.worker_environment(given.threads, {}), text=True,
                    stdout=subprocess.PIPE, check=True,
                )  # fmt: skip
                told = json.loads(done.stdout)
                print(f"{form}: test accuracy {told['accuracy']:.4f} after {EPOCHS} epochs, {told['seconds']:.1f} s")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:])
    else:
        sys.exit(main())
