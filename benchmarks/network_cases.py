"""Whole networks: training steps, inference, the cost of a layer, the start of a process, and how cost grows.

Batch sizes are 128 for the three light convnets A2, B2 (the text's own) and C4, and 32 for all others (Keras' default,
E6's own): at 32 a step takes PyTorch between 1 and 200 ms on two cores, at 128 B3 alone would take half a second.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import networks
from benchmarks.cases import Case
from benchmarks.kernel_cases import Convolution, convolution_cases
from benchmarks.networks import Network

LARGE_BATCH, SMALL_BATCH = 128, 32
LIGHT = ("A2", "B2", "C4")
LAYER_KINDS = ("conv", "batch_norm", "dropout", "pool", "relu", "dense")
FEW_LAYERS, MANY_LAYERS = 2, 22


def all_networks() -> list[Network]:
    return [
        networks.a2(),
        networks.b2(),
        networks.b3(),
        networks.b3("B6", normalized=True),
        networks.c3(),
        networks.c4(),
        networks.d6(),
        networks.d15(),
        networks.e6(),
        networks.e10(),
        networks.resnet18(),
        networks.mobilenet(),
    ]


def cases() -> list[Case]:
    return [*_steps(), *_inference(), *_overhead(), *_startup(), *_scaling()]


def training_case(network: Network, batch: int, name: str, group: str, **options: object) -> Case:
    random = any(node["op"] == "dropout" for node in network["nodes"])
    case = Case(
        name,
        group,
        "train",
        network=network,
        batch=batch,
        flops=batch * networks.training_flops(network),
        tolerance=1e-3,
        compared=not random,
    )
    return Case(**{**vars(case), **options})


def prediction_case(network: Network, batch: int, name: str, group: str) -> Case:
    flops = batch * sum(networks.forward_flops(network))
    return Case(name, group, "predict", network=network, batch=batch, flops=flops, tolerance=1e-3)


def _steps() -> Iterator[Case]:
    for network in all_networks():
        batch = LARGE_BATCH if network["name"] in LIGHT else SMALL_BATCH
        yield training_case(network, batch, f"{network['name']} batch {batch}", "steps", fresh=True)


def _inference() -> Iterator[Case]:
    for network in all_networks():
        for batch in (1, 128):
            yield prediction_case(network, batch, f"{network['name']} batch {batch}", "inference")


def _overhead() -> Iterator[Case]:
    for kind in LAYER_KINDS:
        for count in (FEW_LAYERS, MANY_LAYERS):
            network = networks.equal_layers(kind, count)
            yield Case(f"{kind} x {count}", "overhead", "gradients", network=network, batch=2)


def _startup() -> Iterator[Case]:
    network = networks.a2()
    yield Case("import", "startup", "import")
    yield Case("process to first trained batch", "startup", "first_batch", network=network, batch=128)
    yield Case("the same, nothing compiled before", "startup", "cold_first_batch", network=network, batch=128)


def _scaling() -> Iterator[Case]:
    for batch in (1, 4, 16, 64):
        yield _conv_at("batch size", batch, Convolution("", batch, 64, 28, 64, 3, 1, ""))
    for size in (7, 14, 28, 56, 112):
        yield _conv_at("image size", size, Convolution("", 16, 64, size, 64, 3, 1, ""))
    for channels in (16, 32, 64, 128, 256):
        yield _conv_at("channels", channels, Convolution("", 16, channels, 28, channels, 3, 1, ""))
    network = networks.b2()
    for batch in (1, 8, 32, 128, 512):
        sweep = ("B2 training step", "batch size", batch)
        yield training_case(network, batch, f"B2 batch {batch}", "scaling", sweep=sweep)
    for threads in (1, 2, 4, 8, 16):
        conv = next(convolution_cases(Convolution("", 32, 128, 28, 128, 3, 1, ""), with_target=False))
        name, curve = f"conv 3x3 threads {threads}", ("conv 3x3 forward", "threads", threads)
        yield Case(**{**vars(conv), "name": name, "group": "scaling", "threads": threads, "sweep": curve})
        sweep = ("B2 training step", "threads", threads)
        yield training_case(network, 128, f"B2 threads {threads}", "scaling", threads=threads, sweep=sweep)


def _conv_at(axis: str, value: int, conv: Convolution) -> Case:
    case = next(convolution_cases(conv, with_target=False))
    shape = "x".join(map(str, (*conv.x[:3], conv.c)))
    changes = {"name": f"conv 3x3 {axis} {value} ({shape})", "group": "scaling"}
    return Case(**{**vars(case), **changes, "sweep": ("conv 3x3 forward", axis, value)})
