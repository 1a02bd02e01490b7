"""Networks by name, untrained: what `minicnn train --model NAME` builds."""

from minicnn.applications.networks import (
    NETWORKS,
    build_network,
    cifar_cnn,
    deep_cnn,
    fashion_cnn,
    first_convnet,
    lenet5,
    mlp,
    small_cnn,
)

__all__ = [
    "NETWORKS",
    "build_network",
    "cifar_cnn",
    "deep_cnn",
    "fashion_cnn",
    "first_convnet",
    "lenet5",
    "mlp",
    "small_cnn",
]
