"""Fashion-MNIST: 60,000 + 10,000 pieces of clothing in the form of MNIST, and harder to tell apart.

H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
algorithms", arXiv:1708.07747; MIT licence, (c) 2017 Zalando SE.
"""

from __future__ import annotations

import os

from minicnn.datasets import mnist_like
from minicnn.datasets.files import Dataset
from minicnn.datasets.mnist_like import Split

class_names = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

DATASET = Dataset(
    title="Fashion-MNIST",
    folder="fashion-mnist",
    files=mnist_like.remote_files(
        sizes=(26_421_880, 29_515, 4_422_102, 5_148),
        sha256=(
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        bases=(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
    ),
    note="They may be unpacked, without .gz. Not MNIST's files, which bear the same names.",
)


def load_data(path: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """(x_train, y_train), (x_test, y_test): uint8 pictures (60000, 28, 28) and (10000, 28, 28), uint8 labels (N,).

    The four IDX files, gzipped or not, are looked for in `path` and nowhere else where it is given; else in
    $MINICNN_DATA, then in the cache ($MINICNN_CACHE or ~/.cache/minicnn/datasets), each time also in the sub-folder
    fashion-mnist; else they are downloaded into the cache. As keras.datasets.fashion_mnist.load_data.

    Raises FileNotFoundError, saying which files to put where, when they cannot be had; ValueError, naming the file,
    when one is damaged or `path` holds MNIST's digits.
    """
    return mnist_like.load(DATASET, path)
