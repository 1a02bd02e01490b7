"""Data sets by Keras' names: `mnist`, `fashion_mnist`, `cifar10`, each with `load_data()` and `class_names`."""

from minicnn.datasets import cifar10, fashion_mnist, mnist

__all__ = ["cifar10", "fashion_mnist", "mnist"]
