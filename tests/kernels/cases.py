"""Calls of every kernel of the contract, on shapes chosen to be ugly: one table for all tests of all backends.

Sizes are primes, sides and strides differ, batches are empty, channels are 1 or 17, strides do not divide, padding is
lopsided. A case describes its arrays by shape and kind; `arguments(case, dtype)` draws them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from minicnn.kernels.contract import ActivationName, Array, Padding2D, Pair


@dataclass(frozen=True)
class Spec:
    """An array still to be drawn."""

    kind: str
    shape: tuple[int, ...]
    high: int = 0


def normal(*shape: int) -> Spec:
    """Standard normal values."""
    return Spec("normal", shape)


def positive(*shape: int) -> Spec:
    """Values in [0.5, 2)."""
    return Spec("positive", shape)


def unit(*shape: int) -> Spec:
    """Values in [0.1, 0.9): what a sigmoid returns; also small second moments."""
    return Spec("unit", shape)


def rectified(*shape: int) -> Spec:
    """What a relu returns: normal values with 0 for the negative ones."""
    return Spec("rectified", shape)


def probabilities(*shape: int) -> Spec:
    """Rows that sum to 1, each with an exact zero where there is more than one class."""
    return Spec("probabilities", shape)


def below(high: int, *shape: int) -> Spec:
    """int32 values in [0, high)."""
    return Spec("below", shape, high)


def packed(*shape: int) -> Spec:
    """uint8, eight random bits each."""
    return Spec("packed", shape)


def draw(spec: Spec, dtype: str, rng: np.random.Generator) -> Array:
    """The array that a spec describes."""
    match spec.kind:
        case "normal":
            return np.asarray(rng.standard_normal(spec.shape)).astype(dtype)
        case "rectified":
            return np.maximum(np.asarray(rng.standard_normal(spec.shape)), 0).astype(dtype)
        case "positive":
            return rng.uniform(0.5, 2.0, spec.shape).astype(dtype)
        case "unit":
            return rng.uniform(0.1, 0.9, spec.shape).astype(dtype)
        case "below":
            return rng.integers(0, spec.high, spec.shape).astype(np.int32)
        case "packed":
            return rng.integers(0, 256, spec.shape).astype(np.uint8)
        case "probabilities":
            raw = rng.uniform(0.1, 1.0, spec.shape)
            raw[:, 1:2] = 0
            return (raw / raw.sum(axis=1, keepdims=True)).astype(dtype)
    raise ValueError(f"no such kind of array: {spec.kind!r}")


@dataclass(frozen=True)
class Case:
    """One call: the kernel's name, what is special about it, how many terms its longest sum has, its arguments."""

    kernel: str
    label: str
    length: int
    described: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.kernel}-{self.label}"


def case(kernel: str, label: str, length: int = 1, **described: Any) -> Case:
    """A Case; its keyword arguments are the kernel's, with a Spec (or a list of them) for each array."""
    return Case(kernel, label, length, described)


def arguments(case: Case, dtype: str) -> dict[str, Any]:
    """The keyword arguments of a case, arrays drawn anew and the same in every run."""
    rng = np.random.default_rng(zlib.crc32(str(case).encode()))
    drawn: dict[str, Any] = {}
    for name, value in case.described.items():
        if isinstance(value, Spec):
            drawn[name] = draw(value, dtype, rng)
        elif isinstance(value, list):
            drawn[name] = [draw(spec, dtype, rng) for spec in value]
        else:
            drawn[name] = value
    return drawn


# ---------------------------------------------------------------------------------------------------- convolution


@dataclass(frozen=True)
class Geometry:
    """The sizes and options of a convolution or a pooling."""

    label: str
    x_shape: tuple[int, int, int, int] = (2, 7, 5, 3)
    window: Pair = (3, 2)
    filters: int = 4
    strides: Pair = (1, 1)
    padding: Padding2D = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def input_size(self) -> Pair:
        return self.x_shape[1], self.x_shape[2]

    @property
    def output_size(self) -> Pair:
        """OH and OW by the contract's formula."""
        (h, w), (kh, kw), (sh, sw), (dh, dw) = self.input_size, self.window, self.strides, self.dilation
        (top, bottom), (left, right) = self.padding
        return (h + top + bottom - ((kh - 1) * dh + 1)) // sh + 1, (w + left + right - ((kw - 1) * dw + 1)) // sw + 1


LOPSIDED: Padding2D = ((2, 1), (0, 3))
CROPPING: Padding2D = ((-2, 1), (1, -3))
EVERYTHING: dict[str, Any] = {"window": (2, 3), "strides": (2, 3), "padding": ((1, 0), (2, 1)), "dilation": (3, 2)}

GEOMETRIES = [
    Geometry("one_pixel", (1, 1, 1, 1), (1, 1), 1),
    Geometry("pointwise", (2, 3, 5, 4), (1, 1), 3),
    Geometry("oblong"),
    Geometry("one_channel", (2, 5, 7, 1), (2, 3), 5),
    Geometry("17_channels", (1, 4, 3, 17), (3, 2), 5),
    Geometry("17_filters", (1, 3, 4, 2), (2, 3), 17),
    Geometry("strides_that_do_not_divide", (2, 8, 7, 3), strides=(3, 2)),
    Geometry("strides_beyond_the_kernel", (1, 8, 7, 2), (2, 1), strides=(3, 4)),
    Geometry("dilated", (1, 9, 8, 2), dilation=(2, 3)),
    Geometry("lopsided_padding", (2, 5, 4, 2), padding=LOPSIDED),
    Geometry("kernel_larger_than_the_image", (1, 2, 3, 2), (5, 4), padding=((1, 2), (2, 0))),
    Geometry("negative_padding", (1, 7, 8, 2), padding=CROPPING),
    Geometry("padding_that_shifts_the_image_away", (1, 3, 2, 2), (2, 2), padding=((-4, 5), (3, -3))),
    Geometry("everything", (2, 9, 7, 3), **EVERYTHING),
    Geometry("empty_batch", (0, 5, 4, 3)),
    Geometry("two_groups", (2, 5, 4, 6), groups=2),
    Geometry("three_groups_and_everything", (2, 9, 7, 6), filters=9, groups=3, **EVERYTHING),
    Geometry("one_filter_a_group", (1, 5, 4, 6), filters=3, groups=3),
    Geometry("grouped_empty_batch", (0, 5, 4, 6), groups=2),
    Geometry("depthwise", filters=3, groups=3),
    Geometry("depthwise_multiplier_2", (2, 5, 4, 3), filters=6, groups=3),
    Geometry("depthwise_17", (1, 4, 5, 17), filters=17, strides=(2, 1), padding=LOPSIDED, groups=17),
    Geometry("depthwise_and_everything", (2, 9, 7, 2), groups=2, **EVERYTHING),
    Geometry("depthwise_negative_padding", (1, 7, 8, 2), filters=2, padding=CROPPING, groups=2),
    Geometry("depthwise_empty_batch", (0, 5, 4, 3), filters=6, groups=3),
]


def convolution_cases(g: Geometry) -> Iterator[Case]:
    """The three convolution kernels and, without groups, im2col and col2im."""
    (n, h, w, c), (kh, kw), (oh, ow), f = g.x_shape, g.window, g.output_size, g.filters
    x, kernel, gy = normal(n, h, w, c), normal(kh, kw, c // g.groups, f), normal(n, oh, ow, f)
    window: dict[str, Any] = {"strides": g.strides, "padding": g.padding, "dilation": g.dilation}
    options = {**window, "groups": g.groups}
    yield case("conv2d", g.label, kh * kw * c // g.groups, x=x, w=kernel, b=normal(f), **options)
    yield case("conv2d_input_grad", g.label, kh * kw * f, gy=gy, w=kernel, input_size=(h, w), **options)
    yield case("conv2d_weight_grad", g.label, n * oh * ow, x=x, gy=gy, kernel_size=(kh, kw), **options)
    if g.groups == 1:
        yield case("im2col", g.label, x=x, window=(kh, kw), **window)
        yield case("col2im", g.label, kh * kw, cols=normal(n, oh, ow, kh, kw, c), input_size=(h, w), **window)


def epilogue_cases(name: str | None) -> Iterator[Case]:
    """A product without bias, then an activation in the same call."""
    options: dict[str, Any] = {
        "strides": (1, 1),
        "padding": LOPSIDED,
        "dilation": (1, 1),
        "activation": name,
        "b": None,
    }
    label, x = f"without_bias_then_{name}", normal(2, 4, 5, 3)
    yield case("conv2d", label, 18, x=x, w=normal(3, 2, 3, 4), groups=1, **options)
    yield case("conv2d", f"depthwise_{label}", 6, x=x, w=normal(3, 2, 1, 3), groups=3, **options)
    yield case("dense", label, 17, x=normal(3, 17), w=normal(17, 5), b=None, activation=name)


def conv_pool_cases() -> Iterator[Case]:
    """Convolutions with poolings of every kind after them."""
    x, w, b, none = normal(2, 9, 8, 3), normal(3, 2, 3, 17), normal(17), ((0, 0), (0, 0))
    options: dict[str, Any] = {"strides": (1, 1), "padding": LOPSIDED, "dilation": (1, 1), "groups": 1}
    for label, pooling in {
        "two_by_two": ((2, 2), (2, 2), none),
        "left_over": ((3, 4), (3, 4), none),
        "overlapping": ((3, 2), (2, 1), none),
        "padded": ((2, 3), (2, 3), ((1, 0), (1, 2))),
    }.items():
        pool = dict(zip(("window", "pool_strides", "pool_padding"), pooling, strict=True))
        for activation in (None, "relu"):
            name = f"{label}_{activation}"
            yield case("conv2d_max_pool2d", name, 18, x=x, w=w, b=b, activation=activation, **options, **pool)
    two: dict[str, Any] = {"window": (2, 2), "pool_strides": (2, 2), "pool_padding": none, "activation": "relu6"}
    yield case("conv2d_max_pool2d", "no_bias", 18, x=x, w=w, b=None, **options, **two)
    yield case("conv2d_max_pool2d", "empty_batch", 18, x=normal(0, 9, 8, 3), w=w, b=b, **options, **two)
    options["groups"] = 3
    yield case("conv2d_max_pool2d", "groups", 6, x=x, w=normal(3, 2, 1, 9), b=normal(9), **options, **two)


# ---------------------------------------------------------------------------------------------------- pooling

POOL_GEOMETRIES = [
    Geometry("two_by_two", (2, 6, 4, 3), (2, 2), strides=(2, 2)),
    Geometry("oblong_and_left_over", (2, 7, 8, 3), (3, 2), strides=(2, 3)),
    Geometry("overlapping", (1, 5, 4, 2), (3, 2)),
    Geometry("lopsided_padding", (2, 5, 4, 2), (3, 3), strides=(2, 3), padding=((2, 1), (0, 2))),
    Geometry("negative_padding", (1, 7, 8, 2), (2, 3), strides=(2, 2), padding=CROPPING),
    Geometry("one_pixel_17_channels", (1, 1, 1, 17), (1, 1)),
    Geometry("one_channel", (3, 5, 7, 1), (2, 3), strides=(3, 1)),
    Geometry("empty_batch", (0, 5, 4, 3), (2, 2), strides=(2, 2)),
]


def pool_cases(g: Geometry) -> Iterator[Case]:
    """Max and average pooling, and the gather and scatter of as many pixels from anywhere."""
    (n, h, w, c), (oh, ow), area = g.x_shape, g.output_size, g.window[0] * g.window[1]
    x, gy, where = normal(n, h, w, c), normal(n, oh, ow, c), below(h * w, n, oh, ow, c)
    options: dict[str, Any] = {"window": g.window, "strides": g.strides, "padding": g.padding}
    yield case("max_pool2d", g.label, x=x, **options)
    yield case("avg_pool2d", g.label, area, x=x, **options)
    yield case("avg_pool2d_backward", g.label, area, gy=gy, input_size=(h, w), **options)
    yield case("gather2d", g.label, x=x, where=where)
    yield case("scatter2d", g.label, oh * ow, gy=gy, where=where, input_size=(h, w))


ADAPTIVE = [((2, 7, 5, 3), (3, 2)), ((1, 6, 4, 2), (3, 2)), ((2, 3, 2, 17), (5, 3)), ((1, 5, 7, 1), (1, 1))]


def adaptive_cases() -> Iterator[Case]:
    for shape, output_size in [*ADAPTIVE, ((0, 5, 4, 3), (2, 3))]:
        yield case("adaptive_max_pool2d", f"{shape}_to_{output_size}", x=normal(*shape), output_size=output_size)


# ---------------------------------------------------------------------------------------------------- normalization


def batch_norm_cases(*shape: int) -> Iterator[Case]:
    c, rows = shape[-1], int(np.prod(shape[:-1]))
    given: dict[str, Any] = {"x": normal(*shape), "gamma": positive(c), "epsilon": 1e-3}
    statistics: dict[str, Any] = {"mean": normal(c), "var": positive(c)}
    for activation, label in ((None, f"{shape}"), ("relu", f"{shape}_then_relu")):
        epilogue: dict[str, Any] = {**given, "beta": normal(c), "activation": activation}
        yield case("batch_norm_inference", label, **epilogue, **statistics)
        if rows:
            yield case("batch_norm", label, rows, **epilogue)
    if rows:
        backward: dict[str, Any] = {**given, **statistics, "gy": normal(*shape)}
        yield case("batch_norm_backward", f"{shape}", rows, **backward)
        yield case("batch_norm_backward", f"{shape}_after_relu", rows, **backward, y=rectified(*shape))


def group_norm_cases(shape: tuple[int, int, int], groups: int, positions: int) -> Iterator[Case]:
    """`positions` is gamma's first axis: 1, or as many as x has."""
    n, p, c = shape
    given: dict[str, Any] = {"x": normal(*shape), "gamma": positive(positions, c), "groups": groups, "epsilon": 1e-3}
    statistics: dict[str, Any] = {"mean": normal(n, groups), "var": positive(n, groups)}
    label = f"{shape}_{groups}_groups_{positions}_positions"
    yield case("group_norm", label, p * c, **given, beta=normal(positions, c))
    yield case("group_norm_backward", label, n * p * c, **given, **statistics, gy=normal(*shape))


def response_cases(size: int, *shape: int) -> Iterator[Case]:
    options: dict[str, Any] = {"size": size, "alpha": 0.3, "beta": 0.75, "k": 2.0}
    x, gy = normal(*shape), normal(*shape)
    yield case("local_response_norm", f"{shape}_size_{size}", size, x=x, **options)
    yield case("local_response_norm_backward", f"{shape}_size_{size}", 2 * size, gy=gy, x=x, **options)


def normalization_cases() -> Iterator[Case]:
    for shape in ((2, 5, 3, 4), (7, 17), (11, 1), (1, 3, 2, 2), (0, 3, 2, 4)):
        yield from batch_norm_cases(*shape)
    yield from group_norm_cases((2, 5, 6), 3, 1)
    yield from group_norm_cases((3, 4, 6), 2, 4)
    yield from group_norm_cases((5, 1, 7), 1, 1)
    yield from group_norm_cases((2, 3, 4), 4, 1)
    yield from group_norm_cases((1, 2, 17), 1, 2)
    yield from group_norm_cases((0, 3, 4), 2, 1)
    for size, shape in ((5, (2, 3, 2, 7)), (4, (3, 6)), (3, (2, 1)), (1, (2, 5)), (9, (1, 3)), (2, (0, 4))):
        yield from response_cases(size, *shape)


# ------------------------------------------------------------------------------------------------ dense, elementwise


def matmul_cases() -> Iterator[Case]:
    yield case("matmul", "plain", 17, a=normal(3, 17), b=normal(17, 2))
    yield case("matmul", "a_transposed", 5, a=normal(5, 3), b=normal(5, 2), transpose_a=True)
    yield case("matmul", "b_transposed", 5, a=normal(3, 5), b=normal(2, 5), transpose_b=True)
    yield case("matmul", "both_transposed", 5, a=normal(5, 3), b=normal(2, 5), transpose_a=True, transpose_b=True)
    yield case("matmul", "broadcast", 5, a=normal(2, 1, 3, 5), b=normal(4, 5, 2))
    yield case(
        "matmul", "broadcast_transposed", 5, a=normal(4, 5, 3), b=normal(2, 5), transpose_a=True, transpose_b=True
    )
    yield case("matmul", "empty_batch", 5, a=normal(0, 3, 5), b=normal(5, 2))
    yield case("matmul", "row_times_column", 17, a=normal(1, 17), b=normal(17, 1))
    yield case("dense", "one_number", 1, x=normal(1, 1), w=normal(1, 1), b=normal(1))
    yield case("dense", "bias", 17, x=normal(3, 17), w=normal(17, 5), b=normal(5), activation="relu")
    yield case("dense", "empty_batch", 3, x=normal(0, 3), w=normal(3, 2), b=normal(2))


def elementwise_cases() -> Iterator[Case]:
    for name in get_args(ActivationName):
        options: dict[str, Any] = {"name": name, "alpha": {"leaky_relu": 0.3, "elu": 1.3}.get(name, 0.0)}
        y = unit(3, 17) if name in ("sigmoid", "tanh") else normal(3, 17)
        yield case("activation", name, x=normal(3, 1, 17), **options)
        yield case("activation", f"{name}_of_a_scalar", x=normal(), **options)
        yield case("activation", f"{name}_of_nothing", x=normal(0, 3), **options)
        yield case("activation_backward", name, gy=normal(3, 17), y=y, **options)
        yield case("activation_bias_backward", name, 3, gy=normal(3, 17), y=y, **options)
    for shape in ((2, 3, 5, 4), (2, 1, 3, 17), (1, 1), (0, 3, 2)):
        rows, y = max(int(np.prod(shape[:-1])), 1), rectified(*shape)
        yield case("bias_grad", f"{shape}", rows, gy=normal(*shape))
        yield case("activation_bias_backward", f"relu_{shape}", rows, gy=normal(*shape), y=y, name="relu")
    for shape, rate in (((3, 5, 7), 0.3), ((17,), 0.0), ((2, 11), 0.999), ((0, 3), 0.5)):
        yield case("dropout", f"{shape}_rate_{rate}", x=normal(*shape), rate=rate, seed=2**40 + 1, stream=3)
        bits = packed(-(-int(np.prod(shape)) // 8))
        yield case("dropout_backward", f"{shape}_rate_{rate}", gy=normal(*shape), kept=bits, rate=rate)
    for count, seed, stream in ((0, 0, 0), (1, 7, 0), (9, 2**63 + 5, 2**40 + 3), (16, 2**64 - 1, 2**64 - 1)):
        yield case("philox_words", f"{count}_seed_{seed}", count=count, seed=seed, stream=stream)


def classification_cases() -> Iterator[Case]:
    for shape in ((3, 5), (2, 3, 17), (4, 1), (0, 3)):
        yield case("softmax", f"{shape}", shape[-1], x=normal(*shape))
        yield case("log_softmax", f"{shape}", shape[-1], x=normal(*shape))
    for m, c in ((5, 3), (1, 1), (2, 17), (0, 4)):
        kinds = {"classes": below(c, m), "probabilities": probabilities(m, c), "weights_of_any_sum": normal(m, c)}
        for kind, targets in kinds.items():
            label, p = f"{m}x{c}_{kind}", probabilities(m, c)
            yield case("softmax_cross_entropy", label, c, logits=normal(m, c), targets=targets)
            yield case("softmax_cross_entropy_backward", label, c, gloss=normal(m), probabilities=p, targets=targets)


# ---------------------------------------------------------------------------------------------------- optimizers

SLOTS = ("velocities", "squares", "means", "max_squares", "norms", "delta_squares")


def step_case(kernel: str, label: str, **settings: Any) -> Case:
    """One step from slots that are not zero; a setting that is `normal`, `positive` or `unit` draws the slot."""
    shapes = ((3, 2, 5), (7,), (1,), (0, 4))
    filled: dict[str, Any] = {key: [v(*s) for s in shapes] if callable(v) else v for key, v in settings.items()}
    params, grads = [normal(*s) for s in shapes], [normal(*s) for s in shapes]
    return case(kernel, label, params=params, grads=grads, lr=0.01, **filled)


def step_cases() -> Iterator[Case]:
    yield step_case("sgd_step", "plain", velocities=None, momentum=0.0, nesterov=False)
    yield step_case("sgd_step", "momentum", velocities=normal, momentum=0.9, nesterov=False)
    yield step_case("sgd_step", "nesterov", velocities=normal, momentum=0.9, nesterov=True)
    rms: dict[str, Any] = {"rho": 0.9, "epsilon": 1e-7, "squares": positive}
    yield step_case("rmsprop_step", "plain", means=None, velocities=None, momentum=0.0, **rms)
    yield step_case("rmsprop_step", "momentum", means=None, velocities=normal, momentum=0.8, **rms)
    rms["epsilon"] = 1.0  # keeps s - m**2 + epsilon well above 0 for slots that no gradients made
    yield step_case("rmsprop_step", "centered", means=unit, velocities=None, momentum=0.0, **rms)
    yield step_case("rmsprop_step", "centered_momentum", means=unit, velocities=normal, momentum=0.8, **rms)
    adam: dict[str, Any] = {"beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-7, "step": 3, "means": normal}
    yield step_case("adam_step", "plain", squares=positive, max_squares=None, **adam)
    yield step_case("adam_step", "amsgrad", squares=positive, max_squares=positive, **adam)
    yield step_case("adamax_step", "plain", norms=positive, **adam)
    yield step_case("nadam_step", "plain", squares=positive, momentum_schedule=(0.47, 0.49, 0.09), **adam)
    yield step_case("adagrad_step", "plain", squares=positive, epsilon=1e-7)
    yield step_case("adadelta_step", "plain", squares=positive, delta_squares=unit, rho=0.95, epsilon=1e-7)


CASES = [
    *(c for g in GEOMETRIES for c in convolution_cases(g)),
    *(c for name in (None, "relu", "relu6", "sigmoid", "tanh") for c in epilogue_cases(name)),
    *conv_pool_cases(),
    *(c for g in POOL_GEOMETRIES for c in pool_cases(g)),
    *adaptive_cases(),
    *normalization_cases(),
    *matmul_cases(),
    *elementwise_cases(),
    *classification_cases(),
    *step_cases(),
]
