"""The networks of the teaching texts: weights and shapes to the digit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.systems import SYSTEMS, a1, a2, a4, b2, d1_by_list, d9, d13

COUNTS = {
    "A1": (55_744, 55_744),
    "A2": (93_322, 93_322),
    "A3": (93_322, 93_322),
    "A4": (55_744, 55_744),
    "B2": (2_808_751, 2_808_751),
    "B3": (708_399, 708_399),
    "B4": (708_399, 708_399),
    "B5": (708_399, 708_399),
    "B6": (709_935, 709_167),
    "C3": (1_413_834, 1_413_834),
    "D1 by add": (261, 261),
    "D1 by list": (261, 261),
    "D1 functional": (261, 261),
    "D2": (261, 261),
    "D3": (215, 215),
    "D4": (227, 227),
    "D5": (227, 227),
    "D6": (669_706, 669_706),
    "D7": (669_706, 669_706),
    "D8": (669_706, 669_706),
    "D9": (8_402_618, 8_402_618),
    "D11": (21_542_376, 21_542_376),
    "D13 v1": (25_636_712, 25_583_592),
    "D13 v1.5": (25_636_712, 25_583_592),
    "D14": (72_906, 72_906),
    "D14 with dropout": (72_906, 72_906),
    "D15": (1_626_442, 1_626_442),
    "D16": (217_290, 217_290),
    "E4": (669_706, 669_706),
    "E6": (88_278, 88_278),
    "E10": (2_126_178, 2_126_178),
    "E11": (2_671_550, 2_669_758),
}
"""Weights in all, and trainable ones. E11's figure counts gamma and beta; its running statistics are 1,792 more."""


@pytest.mark.parametrize(("name", "counts"), COUNTS.items(), ids=COUNTS)
def test_parameter_counts_are_exact(name: str, counts: tuple[int, int]) -> None:
    model = SYSTEMS[name]()
    total, trainable = counts
    assert model.count_params() == total
    assert sum(weight.numel() for weight in model.trainable_weights) == trainable
    assert sum(weight.numel() for weight in model.non_trainable_weights) == total - trainable


def layer_figures(model: object) -> list[tuple[tuple[int | None, ...], int]]:
    return [(layer.output.shape[1:], layer.count_params()) for layer in model.layers]


def test_a1_has_the_shapes_and_weights_of_each_layer() -> None:
    assert layer_figures(a1()) == [
        ((26, 26, 32), 320),
        ((13, 13, 32), 0),
        ((11, 11, 64), 18_496),
        ((5, 5, 64), 0),
        ((3, 3, 64), 36_928),
    ]


def test_a2_adds_a_classifier() -> None:
    assert layer_figures(a2())[5:] == [((576,), 0), ((64,), 36_928), ((10,), 650)]


def test_a4_without_pooling_keeps_30976_numbers_a_picture() -> None:
    shapes = [shape for shape, _ in layer_figures(a4())]
    assert shapes == [(26, 26, 32), (24, 24, 64), (22, 22, 64)]
    assert np.prod(shapes[-1]) == 30_976


def test_b2_has_the_weights_of_each_layer() -> None:
    assert [layer.count_params() for layer in b2().layers if layer.count_params()] == [640, 2_769_152, 32_896, 6_063]


def test_d1_has_the_weights_of_each_layer() -> None:
    assert [layer.count_params() for layer in d1_by_list().layers] == [140, 110, 11]


def test_d9_has_the_weights_of_each_layer() -> None:
    assert [layer.count_params() for layer in d9().layers if layer.count_params()] == [160, 8_389_120, 13_338]


def test_resnet50_v2_has_the_stages_of_v1_and_fewer_normalizations() -> None:
    """One normalization less in each of the 16 blocks' outputs, one more at the end; the convolutions are the same."""
    first, second = d13("v1"), d13("v2")
    kernels = [sorted(w.shape for w in model.weights if w.name in ("kernel", "bias")) for model in (first, second)]
    assert kernels[0] == kernels[1]
    assert second.output_shape == (None, 1000)


@pytest.mark.parametrize("name", ["A2", "B6", "D5", "D6", "D14", "D16", "E4", "E6", "E11"])
def test_networks_compute_probabilities(name: str) -> None:
    model = SYSTEMS[name]()
    x = np.random.default_rng(0).random((2, *model.input_shape[1:]), dtype=np.float32)
    for y in model.predict(x, verbose=0) if name == "D5" else [model.predict(x, verbose=0)]:
        np.testing.assert_allclose(y.sum(axis=1), [1.0, 1.0], rtol=1e-5)
        assert y.dtype == np.float32
