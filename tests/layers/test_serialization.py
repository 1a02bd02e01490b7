"""Every layer comes back from its config, with JSON in between."""

from __future__ import annotations

import inspect
import json
from typing import Any

import numpy as np
import pytest

from minicnn import layers

ARGUMENTS: dict[str, dict[str, Any]] = {
    "Activation": {"activation": "silu"},
    "Conv2D": {"filters": 4, "kernel_size": 3, "activation": "relu", "kernel_initializer": "he_normal", "groups": 2},
    "Conv2DTranspose": {"filters": 4, "kernel_size": 3, "strides": 2, "output_padding": 1},
    "Dense": {"units": 3, "activity_regularizer": "l2", "kernel_constraint": "max_norm", "trainable": False},
    "DepthwiseConv2D": {"kernel_size": 3, "depthwise_regularizer": "l1"},
    "Dropout": {"rate": 0.3, "seed": 5, "noise_shape": (None, 1)},
    "GaussianNoise": {"stddev": 0.3},
    "InputLayer": {"shape": (3, None), "dtype": "int32"},
    "LayerNormalization": {"axis": [1, 2], "dtype": "float64"},
    "Operator": {"operator": "matmul"},
    "PReLU": {"shared_axes": [1]},
    "Permute": {"dims": (2, 1)},
    "Rescaling": {"scale": 2.0, "offset": [1.0, 2.0]},
    "Reshape": {"target_shape": (3, -1)},
    "SeparableConv2D": {"filters": 4, "kernel_size": 3, "data_format": "channels_first"},
    "SpatialDropout2D": {"rate": 0.3},
}
CLASSES = sorted(
    {
        value
        for value in (getattr(layers, name) for name in layers.__all__)
        if inspect.isclass(value) and issubclass(value, layers.Layer) and value not in (layers.Layer, layers.Lambda)
    },
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_layer_comes_back_from_json(kind: type[layers.Layer]) -> None:
    layer = kind(name="it", **ARGUMENTS.get(kind.__name__, {}))
    read = layers.deserialize(json.loads(json.dumps(layers.serialize(layer))))
    assert type(read) is kind
    assert json.dumps(read.get_config()) == json.dumps(layer.get_config())
    assert read.name == "it"


class Scale(layers.Layer):
    """A layer of one's own."""

    def __init__(self, factor: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x: Any) -> Any:
        return x * self.factor

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


def test_a_layer_of_ones_own_is_found_in_custom_objects() -> None:
    written = layers.serialize(Scale(3.0))
    assert layers.deserialize(written, {"Scale": Scale})(np.ones(2)).tolist() == [3, 3]
    assert layers.deserialize({**written, "registered_name": "mine>Scale"}, {"Scale": Scale}).factor == 3.0
    with pytest.raises(ValueError, match=r"no layer of that name. Received: 'Scale'"):
        layers.deserialize(written)


def test_unknown_classes_bring_a_suggestion() -> None:
    with pytest.raises(ValueError, match="Did you mean 'Conv2D'"):
        layers.deserialize({"class_name": "Conv2d", "config": {}})
    with pytest.raises(ValueError, match="class_name"):
        layers.deserialize({"config": {}})
    with pytest.raises(ValueError, match="no layer of that name"):
        layers.deserialize({"class_name": "add", "config": {}})


def test_what_only_keras_has_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"only lora_rank=None can be read. Received: lora_rank=4"):
        layers.deserialize({"class_name": "Dense", "config": {"units": 3, "lora_rank": 4}})


def test_all_names_are_exported() -> None:
    assert all(hasattr(layers, name) for name in layers.__all__)
    assert len(set(layers.__all__)) == len(layers.__all__)
