"""MNIST: 60,000 + 10,000 handwritten digits, 28x28 grey pictures, white on black.

Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits"; CC BY-SA 3.0.
A sample of it, 10,000 + 2,000 digits, is part of the package: see `load_sample`.
"""

from __future__ import annotations

import os
from pathlib import Path

from minicnn.datasets import mnist_like
from minicnn.datasets.files import Dataset
from minicnn.datasets.mnist_like import Split

class_names = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")

DATASET = Dataset(
    title="MNIST",
    folder="mnist",
    files=mnist_like.remote_files(
        sizes=(9_912_422, 28_881, 1_648_877, 4_542),
        sha256=(
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        bases=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
    ),
    note="They may be unpacked, without .gz. A sample needs no files at all: mnist.load_sample()",
)


def load_data(path: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """(x_train, y_train), (x_test, y_test): uint8 pictures (60000, 28, 28) and (10000, 28, 28), uint8 labels (N,).

    The four IDX files, gzipped or not, are looked for in `path` and nowhere else where it is given; else in
    $MINICNN_DATA, then in the cache ($MINICNN_CACHE or ~/.cache/minicnn/datasets), each time also in the sub-folder
    mnist; else they are downloaded into the cache. As keras.datasets.mnist.load_data.

    Raises FileNotFoundError, saying which files to put where, when they cannot be had; ValueError, naming the file,
    when one is damaged.
    """
    return mnist_like.load(DATASET, path)


def load_sample() -> tuple[Split, Split]:
    """The digits that are part of the package, in the form of `load_data`: 10,000 to train on and 2,000 to test.

    They are the first 10,000 training digits and every fifth test digit (rows 0, 5, 10, ...) of MNIST.
    """
    return mnist_like.load(DATASET, Path(__file__).parent / "sample")
