"""The cases: complete, well formed, with the FLOPs that a count by hand gives."""

from __future__ import annotations

import json

import pytest

from benchmarks import networks, targets
from benchmarks.cases import GROUPS, all_cases, select
from benchmarks.kernel_cases import CONVOLUTIONS
from benchmarks.network_cases import all_networks

CASES = all_cases()


def _named(name: str) -> networks.Network:
    return next(network for network in all_networks() if network["name"] == name)


def test_names_are_unique_within_a_group() -> None:
    names = [(case.group, case.name) for case in CASES]
    assert len(set(names)) == len(names)


def test_every_group_has_cases() -> None:
    assert {case.group for case in CASES} == set(GROUPS)


def test_cases_survive_json() -> None:
    for case in CASES:
        sent = json.loads(json.dumps(case.to_json()))
        assert sent["name"] == case.name
        assert sent["op"]


def test_twelve_convolutions_run_all_three_passes() -> None:
    ops = [case.op for case in CASES if case.group == "kernels" and case.op.startswith("conv2d")]
    assert len(CONVOLUTIONS) == 12
    assert {ops.count(op) for op in ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")} == {12}


def test_targets_belong_to_cases_and_cases_to_targets() -> None:
    assert {case.target for case in CASES if case.target} == set(targets.KERNELS)


@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d", "batch_norm", "layer_norm", "dropout", "relu"])
def test_operation_runs_both_ways(op: str) -> None:
    assert {op, f"{op}_backward"} <= {case.op for case in CASES}


def test_flops_of_a_convolution_by_hand() -> None:
    c5 = next(case for case in CASES if case.name.startswith("c5 ") and case.op == "conv2d")
    assert c5.flops == 2 * 64 * 11 * 11 * 64 * 3 * 3 * 32  # 64 pictures, 11x11 pixels, 64 filters of 3x3x32


def test_flops_of_a_depthwise_convolution_count_one_channel_a_filter() -> None:
    c12 = next(case for case in CASES if case.name.startswith("c12 ") and case.op == "conv2d_input_grad")
    assert c12.flops == 2 * 16 * 56 * 56 * 128 * 3 * 3


def test_flops_of_a_training_step_by_hand() -> None:
    forward = [2 * 784 * 512, 2 * 512 * 512, 2 * 512 * 10]
    expected = 3 * sum(forward) - forward[0]  # the first layer has no input gradient
    case = next(case for case in CASES if case.group == "steps" and case.name.startswith("D6"))
    assert case.flops == case.batch * expected


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("A2", 93_322),
        ("B2", 2_808_751),
        ("B3", 708_399),
        ("B6", 709_935),
        ("C3", 1_413_834),
        ("D6", 669_706),
        ("D15", 1_626_442),
        ("E6", 88_278),
        ("E10", 2_126_178),
    ],
)
def test_networks_have_the_parameters_of_the_texts(name: str, count: int) -> None:
    assert networks.count_parameters(_named(name)) == count


def test_lenet_has_a_coefficient_and_a_bias_a_pooled_map() -> None:
    assert networks.shapes(_named("C4"))[:3] == [(28, 28, 6), (14, 14, 6), (14, 14, 6)]
    assert networks.count_parameters(_named("C4")) == 156 + 12 + 2_416 + 32 + 48_120 + 10_164 + 850


def test_resnet_and_mobilenet_have_their_published_size() -> None:
    """11,176,512 and 3,228,864 weights below the classifier (with the running statistics of batch norm)."""
    statistics = {name: 2 * sum(s["mean"][0] for s in networks.weight_shapes(_named(name)) if "mean" in s)
                  for name in ("ResNet-18", "MobileNet")}  # fmt: skip
    below = {
        "ResNet-18": networks.count_parameters(_named("ResNet-18")) - statistics["ResNet-18"] - 200 * 513,
        "MobileNet": networks.count_parameters(_named("MobileNet")) - 200 * 1025,
    }
    assert below == {"ResNet-18": 11_176_512, "MobileNet": 3_228_864}


def test_same_padding_puts_the_odd_row_at_the_end() -> None:
    assert networks.same_padding(64, 7, 2) == (2, 3)
    assert networks.same_padding(28, 3, 1) == (1, 1)


def test_channels_first_weights_read_the_same_pixels() -> None:
    network = _named("A2")
    last = networks.initial_weights(network)[6]["w"], networks.channels_first_weights(network)[6]["w"]
    h, w, c, inner = 2, 1, 5, 64
    assert network["nodes"][6]["op"] == "dense"
    assert last[0][(h * 3 + w) * inner + c, 7] == last[1][(c * 3 + h) * 3 + w, 7]


def test_select_takes_part_of_a_name_in_any_case() -> None:
    assert [case.name for case in select(CASES, ["steps"], "steps/resnet")] == ["ResNet-18 batch 32"]
    assert select(CASES, ["kernels"], "steps/") == []
