"""One sample of every differentiable operation: inputs and options on which its gradients are checked.

`minicnn gradcheck` runs this table, and so do the tests, which add oracles and references to it. Inputs are float64 and
small, and everything about them is lopsided (H != W, KH != KW, strides that do not divide, N != C != F), so that a
mixed-up axis cannot go unseen. Where a function has kinks, its inputs keep away from them and from ties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicnn import functional as F
from minicnn.gradcheck import GradcheckReport, gradcheck, gradgradcheck
from minicnn.tensor import Tensor

Inputs = Callable[[np.random.Generator], list[Any]]


@dataclass(frozen=True)
class Sample:
    """An operation, a maker of its positional arguments (floating arrays become tensors), and sets of options."""

    name: str
    function: Callable[..., Any]
    inputs: Inputs
    options: Sequence[dict[str, Any]] = field(default_factory=lambda: [{}])

    def arguments(self, dtype: Any = np.float64, seed: int = 7) -> list[Any]:
        """Fresh arguments; floating arrays as tensors of `dtype`."""
        made = self.inputs(np.random.default_rng(seed))
        return [Tensor(a, dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in made]


def normal(*shapes: tuple[int, ...]) -> Inputs:
    """Standard normal arrays."""
    return lambda rng: [rng.standard_normal(shape) for shape in shapes]


def positive(*shapes: tuple[int, ...]) -> Inputs:
    """Numbers in [0.5, 2)."""
    return lambda rng: [rng.uniform(0.5, 2.0, shape) for shape in shapes]


def spaced(*shapes: tuple[int, ...], low: float = -1.9, high: float = 2.1) -> Inputs:
    """Evenly spaced values in random order: no two are near each other, none is near 0."""

    def make(rng: np.random.Generator) -> list[Any]:
        arrays = []
        for shape in shapes:
            count = int(np.prod(shape))
            values = np.linspace(low, high, count) if count > 1 else np.array([high / 3])
            values[np.abs(values) < 1e-3] += 0.01
            arrays.append(rng.permutation(values).reshape(shape))
        return arrays

    return make


def _with(inputs: Inputs, *more: Any) -> Inputs:
    """The same inputs, and further arguments that are not differentiated (callables are given the generator)."""
    return lambda rng: [*inputs(rng), *[extra(rng) if callable(extra) else extra for extra in more]]


def _labels(count: int, classes: int) -> Callable[[np.random.Generator], Any]:
    return lambda rng: Tensor(rng.integers(0, classes, count))


def _probabilities(rows: int, classes: int) -> Callable[[np.random.Generator], Any]:
    return lambda rng: rng.dirichlet(np.ones(classes), rows)


def _statistics(like: Tensor) -> tuple[Tensor, Tensor]:
    """A running mean and variance of four channels, which have no gradient."""
    return Tensor([0.1, -0.2, 0.0, 1.0], like.dtype), Tensor([1.0, 0.5, 2.0, 0.1], like.dtype)


def _mask(*shape: int) -> Callable[[np.random.Generator], Any]:
    return lambda rng: Tensor(rng.random(shape) > 0.4)


# --------------------------------------------------------------------------------------------------- tensors

_AXES: list[dict[str, Any]] = [{}, {"dim": 0}, {"dim": (0, 2), "keepdim": True}, {"dim": -1}]

_ELEMENTWISE = [
    Sample("add", F.add, normal((3, 1, 4), (5, 1))),
    Sample("sub", F.sub, normal((3, 4), (4,))),
    Sample("mul", F.mul, normal((3, 4), (1, 4))),
    Sample("div", F.div, lambda rng: [rng.standard_normal((3, 4)), rng.uniform(0.5, 2.0, (3, 1))]),
    Sample("pow", F.pow, positive((3, 4), (4,))),
    Sample("pow by a number", lambda x: F.pow(x, 3), normal((2, 5))),
    Sample("pow of a number", lambda x: F.pow(2.5, x), normal((2, 5))),
    Sample("neg", F.neg, normal((7,))),
    Sample("abs", F.abs, spaced((3, 5))),
    Sample("exp", F.exp, normal((3, 5))),
    Sample("log", F.log, positive((3, 5))),
    Sample("sqrt", F.sqrt, positive((3, 5))),
    Sample("square", F.square, normal((3, 5))),
    Sample("sin", F.sin, normal((3, 5))),
    Sample("cos", F.cos, normal((3, 5))),
    Sample("clip", F.clip, spaced((3, 5)), [{"min": -0.52, "max": 0.73}, {"min": 0.11}, {"max": 0.12}]),
    Sample("maximum", F.maximum, lambda rng: [*spaced((3, 4))(rng), *spaced((4,), low=-1.7, high=1.6)(rng)]),
    Sample("minimum", F.minimum, lambda rng: [*spaced((3, 4))(rng), *spaced((3, 1), low=-1.7, high=1.6)(rng)]),
    Sample("where", lambda a, b, condition: F.where(condition, a, b), _with(normal((3, 4), (4,)), _mask(3, 1))),
]

_REDUCTIONS = [
    Sample("sum", F.sum, normal((2, 3, 5)), _AXES),
    Sample("mean", F.mean, normal((2, 3, 5)), _AXES),
    Sample("max", F.max, spaced((2, 3, 5)), _AXES),
    Sample("min", F.min, spaced((2, 3, 5)), _AXES),
    Sample("prod", F.prod, normal((2, 3, 5)), [{"dim": 1}, {"dim": (0, 2), "keepdim": True}]),
    Sample("prod with zeros", F.prod, lambda rng: [np.array([[0.0, 2.0, 3.0], [0.0, 1.5, 0.0]])], [{"dim": 1}]),
    Sample("var", F.var, normal((2, 3, 5)), [*_AXES, {"dim": 1, "correction": 1}]),
    Sample("std", F.std, normal((2, 3, 5)), _AXES),
    Sample("logsumexp", F.logsumexp, normal((2, 3, 5)), _AXES),
    Sample("cumsum", F.cumsum, normal((3, 4)), [{"dim": 0}, {"dim": -1}]),
]

_SHAPES = [
    Sample("cast", lambda x: F.cast(F.mul(x, 1.0), np.float64), normal((3, 2))),
    Sample("clone", F.clone, normal((3, 2))),
    Sample("to_device", lambda x: F.to_device(x, "cpu"), normal((3, 2))),
    Sample("reshape", lambda x: F.reshape(x, 4, -1), normal((2, 6, 3))),
    Sample("flatten", F.flatten, normal((2, 3, 1, 5)), [{}, {"start_dim": 1, "end_dim": 2}]),
    Sample("permute", lambda x: F.permute(x, 2, 0, 1), normal((2, 3, 5))),
    Sample("transpose", lambda x: F.transpose(x, 0, -1), normal((2, 3, 5))),
    Sample("expand", lambda x: F.expand(x, 2, -1, 5), normal((3, 1))),
    Sample("sum_to_size", lambda x: F.sum_to_size(x, 3, 1), normal((2, 3, 5))),
    Sample("squeeze", F.squeeze, normal((1, 3, 1, 2)), [{}, {"dim": 2}]),
    Sample("unsqueeze", F.unsqueeze, normal((3, 2)), [{"dim": 1}, {"dim": -1}]),
    Sample("pad", F.pad, normal((3, 2)), [{"widths": [(1, 2), (0, 3)]}, {"widths": [(0, 0), (2, 0)], "value": 3.0}]),
    Sample("flip", lambda x: F.flip(x, 0, 2), normal((2, 3, 5))),
    Sample("getitem by slices", lambda x: F.getitem(x, (slice(None, None, -2), None, 1)), normal((5, 3))),
    Sample("getitem by integers", lambda x: F.getitem(x, ([0, 2, 2, -1], slice(1, None))), normal((5, 3))),
    Sample("getitem by a mask", lambda x, mask: F.getitem(x, mask), _with(normal((5, 3)), _mask(5, 3))),
    Sample("put_item", lambda x: F.put_item(x, ([0, 2, 2],), (4, 3)), normal((3, 3))),
    Sample("repeat", lambda x: F.repeat(x, 2, 1, 3), normal((3, 2))),
    Sample(
        "repeat_interleave", F.repeat_interleave, normal((3, 2)), [{"repeats": 3, "dim": 0}, {"repeats": 2, "dim": 1}]
    ),
    Sample("concatenate", lambda *xs, dim: F.concatenate(xs, dim), normal((2, 3), (2, 1), (2, 4)), [{"dim": 1}]),
    Sample("stack", lambda *xs, dim: F.stack(xs, dim), normal((2, 3), (2, 3)), [{"dim": 0}, {"dim": -1}]),
    Sample("split", F.split, normal((2, 7)), [{"sizes": 3, "dim": 1}, {"sizes": [1, 4, 2], "dim": -1}]),
]

_PRODUCTS = [
    Sample("matmul", F.matmul, normal((3, 4), (4, 2))),
    Sample("matmul of batches", F.matmul, normal((2, 1, 3, 4), (5, 4, 2))),
    Sample("matmul of vectors", F.matmul, normal((4,), (3, 4, 2))),
    Sample("dense", F.dense, normal((3, 5), (5, 2), (2,)), [{}, {"activation": "tanh"}, {"activation": "relu"}]),
    Sample("dense on a sequence", F.dense, normal((2, 3, 5), (5, 1))),
    Sample("einsum", lambda *xs: F.einsum("bij,bjk->ikb", *xs), normal((2, 3, 4), (2, 4, 1))),
    Sample("einsum of a diagonal", lambda *xs: F.einsum("iij,k->jk", *xs), normal((3, 3, 2), (4,))),
    Sample("einsum of three", lambda *xs: F.einsum("ij,jk,k->i", *xs), normal((3, 2), (2, 4), (4,))),
]

# --------------------------------------------------------------------------------------------------- networks

_CONVOLUTIONS = [
    Sample(
        "conv2d",
        F.conv2d,
        normal((2, 5, 6, 3), (3, 2, 3, 4), (4,)),
        [
            {},
            {"strides": (2, 3), "padding": "same"},
            {"padding": ((1, 0), (0, 2)), "dilation": (2, 1)},
            {"activation": "tanh"},
        ],
    ),
    Sample("conv2d in groups", F.conv2d, normal((1, 5, 4, 4), (2, 3, 2, 6)), [{"groups": 2, "strides": (1, 2)}]),
    Sample("conv2d of 1x1", F.conv2d, normal((2, 3, 1, 5), (1, 1, 5, 2), (2,)), [{}, {"strides": 2}]),
    Sample("conv2d of one channel", F.conv2d, normal((1, 7, 5, 1), (3, 3, 1, 2)), [{"strides": 2, "padding": 1}]),
    Sample("conv2d of 17 channels", F.conv2d, normal((1, 3, 4, 17), (2, 3, 17, 3))),
    Sample(
        "conv2d_max_pool2d",
        F.conv2d_max_pool2d,
        normal((2, 7, 6, 3), (2, 3, 3, 4), (4,)),
        [
            {"window": 2},
            {
                "window": (3, 2),
                "pool_strides": (2, 1),
                "pool_padding": "same",
                "activation": "sigmoid",
                "padding": "same",
            },
            {"window": (2, 1), "strides": (1, 2), "padding": 1, "activation": "tanh"},
        ],
    ),
    Sample(
        "conv2d_input_grad",
        F.conv2d_input_grad,
        normal((2, 3, 2, 4), (3, 2, 3, 4)),
        [{"input_size": (6, 5), "strides": (2, 3), "padding": ((1, 0), (0, 1))}],
    ),
    Sample(
        "conv2d_weight_grad",
        F.conv2d_weight_grad,
        normal((2, 6, 5, 3), (2, 3, 2, 4)),
        [{"kernel_size": (3, 2), "strides": (2, 3), "padding": ((1, 0), (0, 1))}],
    ),
    Sample(
        "depthwise_conv2d",
        F.depthwise_conv2d,
        normal((2, 5, 6, 3), (3, 2, 3, 2), (6,)),
        [{}, {"strides": 2, "padding": "same"}, {"dilation": (1, 2)}],
    ),
    Sample(
        "separable_conv2d",
        F.separable_conv2d,
        normal((2, 4, 5, 3), (2, 3, 3, 2), (1, 1, 6, 4), (4,)),
        [{}, {"padding": "same"}],
    ),
    Sample(
        "conv2d_transpose",
        F.conv2d_transpose,
        normal((2, 3, 4, 5), (3, 2, 2, 5), (2,)),
        [{}, {"strides": (2, 3), "padding": "same"}, {"strides": 2, "output_padding": 1, "padding": "valid"}],
    ),
]

_POOLS = [
    Sample(
        "max_pool2d",
        F.max_pool2d,
        spaced((2, 7, 5, 3)),
        [
            {"window": 2},
            {"window": (3, 2), "strides": (2, 1), "padding": "same"},
            {"window": 3, "strides": 2, "padding": ((1, 0), (0, 2))},
            {"window": (2, 3), "ceil_mode": True},
        ],
    ),
    Sample(
        "avg_pool2d",
        F.avg_pool2d,
        normal((2, 7, 5, 3)),
        [
            {"window": 2},
            {"window": (3, 2), "strides": (2, 1), "padding": "same"},
            {"window": 3, "strides": 2, "padding": 1, "count_include_pad": True},
            {"window": (2, 3), "ceil_mode": True},
        ],
    ),
    Sample("global_avg_pool2d", F.global_avg_pool2d, normal((2, 3, 5, 4)), [{}, {"keepdims": True}]),
    Sample("global_max_pool2d", F.global_max_pool2d, spaced((2, 3, 5, 4)), [{}, {"keepdims": True}]),
    Sample(
        "adaptive_avg_pool2d",
        F.adaptive_avg_pool2d,
        normal((2, 7, 5, 3)),
        [{"output_size": (3, 2)}, {"output_size": 4}],
    ),
    Sample(
        "adaptive_max_pool2d",
        F.adaptive_max_pool2d,
        spaced((2, 7, 5, 3)),
        [{"output_size": (3, 2)}, {"output_size": 4}],
    ),
]

_RESIZES = [
    Sample("upsample_nearest2d", F.upsample_nearest2d, normal((2, 3, 2, 4)), [{"factors": (2, 3)}]),
    Sample("upsample_bilinear2d", F.upsample_bilinear2d, normal((2, 3, 2, 4)), [{"factors": (2, 3)}, {"factors": 2}]),
]

_ACTIVATIONS = [
    Sample("relu", F.relu, spaced((3, 7))),
    Sample("relu6", F.relu6, spaced((3, 7), low=-3.0, high=9.3)),
    Sample("leaky_relu", F.leaky_relu, spaced((3, 7)), [{}, {"negative_slope": 0.01}]),
    Sample("elu", F.elu, spaced((3, 7)), [{}, {"alpha": 0.5}]),
    Sample("selu", F.selu, spaced((3, 7))),
    Sample("sigmoid", F.sigmoid, normal((3, 7))),
    Sample("tanh", F.tanh, normal((3, 7))),
    Sample("softplus", F.softplus, normal((3, 7))),
    Sample("softsign", F.softsign, spaced((3, 7))),
    Sample("silu", F.silu, normal((3, 7))),
    Sample("gelu", F.gelu, normal((3, 7)), [{}, {"approximate": True}]),
    Sample("hard_sigmoid", F.hard_sigmoid, spaced((3, 7), low=-5.0, high=5.3)),
    Sample("mish", F.mish, normal((3, 7))),
    Sample("exponential", F.exponential, normal((3, 7))),
    Sample("prelu", F.prelu, lambda rng: [*spaced((2, 3, 2, 4))(rng), rng.uniform(0.1, 0.5, 4)]),
    Sample("softmax", F.softmax, normal((2, 3, 5)), [{}, {"dim": 1}]),
    Sample("log_softmax", F.log_softmax, normal((2, 3, 5)), [{}, {"dim": 0}]),
]

_NORMS = [
    Sample(
        "batch_norm",
        F.batch_norm,
        normal((4, 3, 2, 5), (5,), (5,)),
        [{}, {"epsilon": 0.1}, {"activation": "relu"}],
    ),
    Sample(
        "batch_norm at inference",
        lambda x, gamma, beta, **options: F.batch_norm(x, gamma, beta, *_statistics(x), training=False, **options),
        normal((3, 2, 4), (4,), (4,)),
        [{}, {"activation": "relu"}],
    ),
    Sample("layer_norm", F.layer_norm, normal((3, 4, 5), (5,), (5,)), [{}, {"epsilon": 0.1}]),
    Sample("layer_norm over two axes", F.layer_norm, normal((2, 3, 5), (3, 5), (3, 5)), [{"axis": (1, 2)}]),
    Sample("group_norm", F.group_norm, normal((2, 3, 2, 6), (6,), (6,)), [{"groups": 2}, {"groups": 6}]),
    Sample(
        "local_response_norm",
        F.local_response_norm,
        normal((2, 3, 7)),
        [{"alpha": 0.5}, {"size": 4, "alpha": 1.0, "beta": 0.5, "k": 2.0}],
    ),
]

_DROPOUTS = [
    Sample("dropout", F.dropout, normal((4, 7)), [{"rate": 0.4, "seed": 3}, {"rate": 0.5, "training": False}]),
    Sample("spatial_dropout2d", F.spatial_dropout2d, normal((2, 2, 3, 5)), [{"rate": 0.4, "seed": 3}]),
]

_REDUCED: list[dict[str, Any]] = [{}, {"reduction": "sum"}, {"reduction": "none"}]

_LOSSES = [
    Sample(
        "cross_entropy", F.cross_entropy, _with(normal((5, 4)), _labels(5, 4)), [*_REDUCED, {"label_smoothing": 0.2}]
    ),
    Sample(
        "cross_entropy of probabilities",
        F.cross_entropy,
        _with(normal((5, 4)), _probabilities(5, 4)),
        [{"reduction": "none"}, {"label_smoothing": 0.2}],
    ),
    Sample("nll_loss", F.nll_loss, _with(normal((5, 4)), _labels(5, 4)), _REDUCED),
    Sample(
        "binary_cross_entropy_with_logits",
        F.binary_cross_entropy_with_logits,
        lambda rng: [rng.standard_normal((5, 3)), rng.uniform(0.1, 0.9, (5, 3))],
        _REDUCED,
    ),
    Sample(
        "binary_cross_entropy",
        F.binary_cross_entropy,
        lambda rng: [rng.uniform(0.1, 0.9, (5, 3)), rng.uniform(0.1, 0.9, (5, 3))],
    ),
    Sample("mse_loss", F.mse_loss, normal((5, 3), (5, 3)), _REDUCED),
    Sample("l1_loss", F.l1_loss, lambda rng: [*spaced((5, 3))(rng), np.full((5, 3), 0.013)]),
    Sample("huber_loss", F.huber_loss, lambda rng: [*spaced((5, 3))(rng), np.zeros((5, 3))], [{}, {"delta": 0.52}]),
    Sample("hinge_loss", F.hinge_loss, lambda rng: [*spaced((5, 3))(rng), rng.choice([-1.0, 1.0], (5, 3))]),
    Sample(
        "squared_hinge_loss", F.squared_hinge_loss, lambda rng: [*spaced((5, 3))(rng), rng.choice([-1.0, 1.0], (5, 3))]
    ),
]

SAMPLES: dict[str, Sample] = {
    sample.name: sample
    for family in (
        _ELEMENTWISE, _REDUCTIONS, _SHAPES, _PRODUCTS,
        _CONVOLUTIONS, _POOLS, _RESIZES, _ACTIVATIONS, _NORMS, _DROPOUTS, _LOSSES,
    )
    for sample in family
}  # fmt: skip
"""All samples by name. A name is a function of `minicnn.functional`, followed by a few words where it has several."""


def find_samples(operation: str | None = None) -> list[Sample]:
    """Samples of one operation, or all. Raises ValueError with the nearest name where there is no such operation."""
    import difflib

    if operation is None:
        return list(SAMPLES.values())
    found = [sample for name, sample in SAMPLES.items() if name == operation or name.split()[0] == operation]
    if not found:
        names = sorted({name.split()[0] for name in SAMPLES})
        close = difflib.get_close_matches(operation, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"there is no operation of that name to check. Received: {operation!r}.{hint}")
    return found


def check_operations(
    operation: str | None = None,
) -> Iterator[tuple[Sample, dict[str, Any], GradcheckReport, GradcheckReport]]:
    """Check gradients, and gradients of gradients, of one operation or of all; a row for each set of options."""
    for sample in find_samples(operation):
        for options in sample.options:
            yield sample, options, *check_sample(sample, options)


def check_sample(sample: Sample, options: dict[str, Any]) -> tuple[GradcheckReport, GradcheckReport]:
    """The two reports of one sample."""

    def function(*arguments: Any) -> Any:
        return sample.function(*arguments, **options)

    arguments = sample.arguments()
    first = gradcheck(function, arguments, raise_exception=False, name=sample.name)
    second = gradgradcheck(function, arguments, raise_exception=False, name=f"{sample.name}, second order")
    return first, second
