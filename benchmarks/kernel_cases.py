"""Single operations: the twelve convolutions, pooling, normalization, activations, dropout, loss, dense, optimizers.

S and L are a small and a large stack of feature maps, as in the study of the CPU's kernels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import networks
from benchmarks.cases import Case

FLOAT = 4  # bytes
S, L = (32, 28, 28, 128), (64, 56, 56, 64)


@dataclass(frozen=True)
class Convolution:
    """N pictures of `size` x `size` x C under F square kernels; target: the row of the targets."""

    name: str
    n: int
    c: int
    size: int
    f: int
    kernel: int
    padding: int
    target: str
    strides: int = 1
    groups: int = 1

    @property
    def output_size(self) -> int:
        return (self.size + 2 * self.padding - self.kernel) // self.strides + 1

    @property
    def x(self) -> tuple[int, ...]:
        return self.n, self.size, self.size, self.c

    @property
    def w(self) -> tuple[int, ...]:
        return self.kernel, self.kernel, self.c // self.groups, self.f

    @property
    def y(self) -> tuple[int, ...]:
        return self.n, self.output_size, self.output_size, self.f

    @property
    def flops(self) -> int:
        """Two for each weight an output pixel reads; the same for all three passes."""
        return 2 * math.prod(self.y[:3]) * math.prod(self.w)

    def __str__(self) -> str:
        kind = " dw" if self.groups > 1 else f"->{self.f} k"
        stride = f" s{self.strides}" if self.strides > 1 else ""
        return f"{self.n}x{self.c}x{self.size}{kind}{self.kernel}{stride}{' same' if self.padding else ''}"


CONVOLUTIONS = (
    Convolution("c1", 128, 1, 28, 64, 3, 0, "first layer"),
    Convolution("c2", 32, 128, 28, 128, 3, 1, "3x3"),
    Convolution("c3", 128, 128, 14, 64, 3, 0, "3x3"),
    Convolution("c4", 64, 1, 28, 32, 3, 0, "first layer"),
    Convolution("c5", 64, 32, 13, 64, 3, 0, "small map"),
    Convolution("c6", 64, 64, 5, 64, 3, 0, "small map"),
    Convolution("c7", 32, 64, 28, 128, 3, 1, "3x3"),
    Convolution("c8", 16, 3, 224, 64, 3, 1, "three channels"),
    Convolution("c9", 8, 256, 56, 256, 3, 1, "3x3"),
    Convolution("c10", 16, 256, 56, 64, 1, 0, "1x1, depthwise"),
    Convolution("c11", 16, 3, 224, 64, 7, 3, "three channels", strides=2),
    Convolution("c12", 16, 128, 56, 128, 3, 1, "1x1, depthwise", groups=128),
)


def cases() -> list[Case]:
    made = [case for conv in CONVOLUTIONS for case in convolution_cases(conv)]
    return [*made, *_pools(), *_norms(), *_activations(), *_classification(), *_dense(), *_optimizers()]


def convolution_cases(conv: Convolution, with_target: bool = True) -> Iterator[Case]:
    args = {"strides": conv.strides, "padding": conv.padding, "groups": conv.groups}
    sizes = {"input_size": [conv.size, conv.size], "kernel_size": [conv.kernel, conv.kernel]}
    passes = {
        "forward": ("conv2d", {"x": conv.x, "w": conv.w, "b": (conv.f,)}),
        "input gradient": ("conv2d_input_grad", {"gy": conv.y, "w": conv.w}),
        "weight gradient": ("conv2d_weight_grad", {"x": conv.x, "gy": conv.y}),
    }
    moved = FLOAT * sum(math.prod(shape) for shape in (conv.x, conv.w, conv.y))
    for name, (op, shapes) in passes.items():
        yield Case(
            f"{conv.name} {conv} {name}",
            "kernels",
            op,
            {**args, **sizes, "shapes": shapes},
            flops=conv.flops,
            bytes=moved,
            target=f"{conv.target} {name}" if with_target else None,
        )


def _on(x: tuple[int, ...], label: str) -> str:
    return f"{label} {'x'.join(map(str, x))}"


def _both_ways(
    name: str, op: str, x: tuple[int, ...], y: tuple[int, ...], target: str | None = None, **args: object
) -> Iterator[Case]:
    """Forward reads x and writes y; backward reads gy and x or y, and writes gx."""
    large, small = FLOAT * math.prod(x), FLOAT * math.prod(y)
    common = {**args, "shapes": {"x": x, "gy": y}}
    yield Case(_on(x, f"{name} forward"), "kernels", op, common, bytes=large + small, target=target)
    backward = f"{op}_backward"
    yield Case(_on(x, f"{name} backward"), "kernels", backward, common, bytes=2 * large + small, target=target)


def _pools() -> Iterator[Case]:
    for x in (S, L):
        y = x[0], x[1] // 2, x[2] // 2, x[3]
        yield from _both_ways("max pool 2", "max_pool2d", x, y, "max pool", window=2, strides=2)
        yield from _both_ways("average pool 2", "avg_pool2d", x, y, window=2, strides=2)


def _norms() -> Iterator[Case]:
    for x in (S, L):
        yield from _both_ways("batch norm", "batch_norm", x, x, "batch norm", parameters=x[-1])
    yield from _both_ways("layer norm", "layer_norm", S, S, parameters=S[-1])
    yield from _both_ways("group norm 32", "group_norm", S, S, parameters=S[-1], groups=32)
    yield from _both_ways("local response norm 5", "local_response_norm", S, S, size=5, alpha=1e-4, beta=0.75, k=2.0)


def _activations() -> Iterator[Case]:
    for x in (S, L):
        yield from _both_ways("relu", "relu", x, x)
    for name in ("sigmoid", "tanh", "elu", "gelu"):
        yield from _both_ways(name, name, S, S)
    for x in (S, L):
        for case in _both_ways("dropout", "dropout", x, x, "dropout", rate=0.5):
            yield Case(**{**vars(case), "tolerance": 1e-2})


def _classification() -> Iterator[Case]:
    for rows, classes in ((128, 10), (128, 47), (128, 1000)):
        yield Case(
            f"softmax cross-entropy forward and backward {rows}x{classes}",
            "kernels",
            "softmax_cross_entropy",
            {"shapes": {"x": (rows, classes)}, "classes": classes},
            bytes=2 * FLOAT * rows * classes,
            target="softmax cross-entropy",
        )


def _dense() -> Iterator[Case]:
    for m, k, n in ((128, 10816, 256), (128, 784, 512), (128, 1600, 256), (128, 256, 128)):
        shapes = {"dense": {"x": (m, k), "w": (k, n), "b": (n,)}}
        shapes["dense_input_grad"] = {"gy": (m, n), "w": (k, n)}
        shapes["dense_weight_grad"] = {"x": (m, k), "gy": (m, n)}
        for op, name in zip(shapes, ("forward", "input gradient", "weight gradient"), strict=True):
            moved = FLOAT * (m * k + k * n + m * n)
            yield Case(
                f"dense {m}x{k}->{n} {name}",
                "kernels",
                op,
                {"shapes": shapes[op]},
                flops=2 * m * k * n,
                bytes=moved,
                target="dense",
            )


def _optimizers() -> Iterator[Case]:
    """On the 2,808,751 parameters of B2; arrays read and written a step: p g m v + p m v, p g v + p v."""
    shapes = [shape for own in networks.weight_shapes(networks.b2()) for shape in own.values()]
    count = sum(math.prod(shape) for shape in shapes)
    for name, arrays in (("adam", 7), ("sgd momentum", 5), ("rmsprop", 5)):
        yield Case(
            f"{name} step, {count:,} parameters",
            "kernels",
            "optimizer",
            {"name": name, "parameters": shapes},
            bytes=arrays * FLOAT * count,
            target="optimizer",
            tolerance=1e-5,
        )
