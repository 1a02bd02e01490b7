"""Numerical derivatives against analytic ones: is a backward function right?

`gradcheck` moves each input a little, sees how the outputs move, and compares with what backward says. Small functions
are checked element by element (the whole Jacobian), larger ones along random directions. The outputs are weighted with
random numbers, never with ones: the rows of a softmax and the channels of a batch norm add up to constants, so a
backward that returns zeros, or the wrong sign, would pass such a check.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicnn.autograd import grad
from minicnn.tensor import Tensor

_FULL_JACOBIAN_LIMIT = 96
"""Elements of inputs, and of outputs, up to which every element is checked."""


@dataclass(frozen=True)
class Comparison:
    """One derivative, found in two ways. `where` says of what: "input 0 [2, 3], output 0 [1]"."""

    where: str
    analytic: float
    numeric: float

    @property
    def error(self) -> float:
        """|analytic - numeric|, relative to the larger where that exceeds 1."""
        difference = abs(self.analytic - self.numeric)
        return math.inf if math.isnan(difference) else difference / max(1.0, abs(self.analytic), abs(self.numeric))


@dataclass
class GradcheckReport:
    """What a check found; true where everything held."""

    name: str
    tolerance: float
    checked: int = 0
    kinks: int = 0
    worst: Comparison | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.problems and (self.worst is None or self.worst.error <= self.tolerance)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        lines = [f"gradcheck of {self.name}: {'passed' if self.passed else 'FAILED'} ({self.checked} derivatives)"]
        if self.kinks:
            lines.append(f"  {self.kinks} left out: a kink lies within eps, so the derivative is one-sided there")
        if self.worst is not None:
            worst = self.worst
            lines.append(f"  worst: {worst.where}: analytic {worst.analytic:.10g}, numeric {worst.numeric:.10g}")
            lines.append(f"  relative error {worst.error:.2e}, tolerance {self.tolerance:.0e}")
        return "\n".join(lines + [f"  {problem}" for problem in self.problems])

    def add(self, comparison: Comparison) -> None:
        self.checked += 1
        if self.worst is None or comparison.error > self.worst.error:
            self.worst = comparison


class GradcheckError(AssertionError):
    """A gradient is wrong. The message is the report."""


class _Problem:
    """A function of some float64 arrays, with everything else held fixed."""

    def __init__(self, function: Callable[..., Any], inputs: Sequence[Any]) -> None:
        self.function, self.inputs = function, list(inputs)
        chosen = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
        self.positions = chosen or [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.dtype.kind == "f"]
        if not self.positions:
            raise ValueError("gradcheck: at least one input must be a floating point tensor. Received: none")
        for i in self.positions:
            if inputs[i].dtype != np.float64:
                raise TypeError(
                    f"gradcheck: differences of float32 numbers are too coarse to judge by: make input {i} float64, "
                    f"x.double(). Received: {inputs[i].dtype}"
                )
        self.point = [np.array(inputs[i].data) for i in self.positions]

    def run(self, arrays: Sequence[np.ndarray[Any, Any]]) -> tuple[list[Tensor], list[Tensor]]:
        """The inputs as fresh leaves, and the floating point outputs."""
        leaves = [_leaf(array) for array in arrays]
        return leaves, self.outputs(leaves)

    def outputs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The floating point outputs for these tensors in the places that are checked."""
        arguments = list(self.inputs)
        for position, tensor in zip(self.positions, tensors, strict=True):
            arguments[position] = tensor
        result = self.function(*arguments)
        outputs = result if isinstance(result, (tuple, list)) else [result]
        return [y for y in outputs if isinstance(y, Tensor) and y.dtype.kind == "f"]

    def values(self, arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        return [np.array(y.data) for y in self.run(arrays)[1]]

    def gradients(
        self, arrays: Sequence[np.ndarray[Any, Any]], cotangents: Sequence[Any]
    ) -> list[np.ndarray[Any, Any]]:
        """Analytic gradients of sum(cotangent * output); zeros for an input that is not used."""
        leaves, outputs = self.run(arrays)
        pairs = [(y, v) for y, v in zip(outputs, cotangents, strict=True) if y.requires_grad]
        if not pairs:
            return [np.zeros_like(a) for a in arrays]
        found = grad([y for y, _ in pairs], leaves, [Tensor(v) for _, v in pairs], allow_unused=True)
        return [np.zeros_like(a) if g is None else g.data for g, a in zip(found, arrays, strict=True)]

    def moved(self, position: int, step: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        """Outputs at the point with one input moved by `step`."""
        arrays = list(self.point)
        arrays[position] = arrays[position] + step
        return self.values(arrays)


def _name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", repr(function)))


def _leaf(array: np.ndarray[Any, Any]) -> Tensor:
    """A leaf over this very array, whatever its strides."""
    return Tensor._wrap(np.asarray(array).view()).requires_grad_()


def gradcheck(
    function: Callable[..., Any],
    inputs: Sequence[Any] | Tensor,
    *,
    eps: float = 1e-5,
    tolerance: float = 1e-6,
    seeds: Sequence[int] = (0, 1, 2),
    raise_exception: bool = True,
    name: str | None = None,
) -> GradcheckReport:
    """Check the gradients of `function(*inputs)` against central differences. As torch.autograd.gradcheck, stricter.

    inputs: the arguments; gradients are checked of the tensors that require one, or if none does of all floating ones.
    eps: how far an input is moved. tolerance: largest error allowed, relative to the derivative where that exceeds 1.
    seeds: one random direction and cotangent each, where the function is too large for its whole Jacobian.

    Also checked: a second run gives the same bits, inputs are left alone, gradients share no memory with anything,
    have their input's shape and dtype, and inputs that are not contiguous give the same results. An element where the
    function has a kink (|x| at 0) is counted apart if the analytic value lies between the one-sided derivatives.

    Raises GradcheckError with the report unless raise_exception is False; TypeError for float32 inputs.

        >>> gradcheck(Square.apply, minicnn.tensor([1.0, 2.0], dtype="float64"))
    """
    given = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    problem = _Problem(function, given)
    report = GradcheckReport(name or _name_of(function), tolerance)
    values = problem.values(problem.point)
    if not values:
        report.problems.append("the function returned no floating point tensor")
    else:
        report.problems += _find_side_effects(problem, np.random.default_rng(seeds[0]))
        sizes = sum(a.size for a in problem.point), sum(y.size for y in values)
        small = max(sizes) <= _FULL_JACOBIAN_LIMIT
        pairs = _whole_jacobian(problem, values, eps) if small else _random_directions(problem, values, eps, seeds)
        for comparison, low, high in pairs:
            _judge(report, comparison, low, high)
        if report.kinks and not report.checked:
            report.problems.append("every derivative met a kink: move the inputs, or make eps smaller")
    if raise_exception and not report:
        raise GradcheckError(str(report))
    return report


def gradgradcheck(function: Callable[..., Any], inputs: Sequence[Any] | Tensor, **options: Any) -> GradcheckReport:
    """Check the gradients of the gradients of `function`: gradcheck of its backward, which create_graph=True records.

    Options and errors as `gradcheck`.
    """
    given = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    problem = _Problem(function, given)
    rng = np.random.default_rng(99)
    cotangents = [Tensor(rng.standard_normal(y.shape)) for y in problem.values(problem.point)]

    def first_order(*arguments: Any) -> list[Tensor]:
        tensors, weights = arguments[: len(problem.positions)], arguments[len(problem.positions) :]
        pairs = [(y, v) for y, v in zip(problem.outputs(tensors), weights, strict=True) if y.requires_grad]
        if not pairs:
            return [x * 0.0 for x in tensors]
        found = grad([y for y, _ in pairs], tensors, [v for _, v in pairs], create_graph=True, allow_unused=True)
        return [x * 0.0 if g is None else g for g, x in zip(found, tensors, strict=True)]

    options.setdefault("name", f"the gradient of {_name_of(function)}")
    return gradcheck(first_order, [Tensor(a) for a in problem.point] + cotangents, **options)


# --------------------------------------------------------------------------------------------------- derivatives

_Judged = tuple[Comparison, float, float]
"""A comparison, and the derivatives from the left and from the right."""


def _judge(report: GradcheckReport, comparison: Comparison, left: float, right: float) -> None:
    """Count a comparison, unless it failed only because the derivative jumps within eps."""
    low, high = min(left, right), max(left, right)
    scale = max(1.0, abs(low), abs(high))
    jumps = high - low > 1e-3 * scale
    slack = report.tolerance * scale
    if comparison.error > report.tolerance and jumps and low - slack <= comparison.analytic <= high + slack:
        report.kinks += 1
    else:
        report.add(comparison)


def _whole_jacobian(problem: _Problem, values: Sequence[np.ndarray[Any, Any]], eps: float) -> Iterator[_Judged]:
    """Every derivative of every output element with respect to every input element."""
    rows: list[list[np.ndarray[Any, Any]]] = []  # one an output element: its gradient with respect to each input
    places = [(o, index) for o, y in enumerate(values) for index in np.ndindex(y.shape)]
    for o, index in places:
        cotangents = [np.zeros_like(y) for y in values]
        cotangents[o][index] = 1.0
        rows.append(problem.gradients(problem.point, cotangents))
    for i, array in enumerate(problem.point):
        for element in np.ndindex(array.shape):
            step = np.zeros_like(array)
            step[element] = eps
            above, below = problem.moved(i, step), problem.moved(i, -step)
            for row, (o, index) in zip(rows, places, strict=True):
                left, right = (values[o][index] - below[o][index]) / eps, (above[o][index] - values[o][index]) / eps
                where = f"input {problem.positions[i]} {list(element)}, output {o} {list(index)}"
                yield Comparison(where, float(row[i][element]), float((left + right) / 2)), float(left), float(right)


def _random_directions(
    problem: _Problem, values: Sequence[np.ndarray[Any, Any]], eps: float, seeds: Sequence[int]
) -> Iterator[_Judged]:
    """Derivatives of randomly weighted outputs along random directions of each input."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        cotangents = [rng.standard_normal(y.shape) for y in values]
        gradients = problem.gradients(problem.point, cotangents)
        for i, array in enumerate(problem.point):
            direction = rng.standard_normal(array.shape)
            above, below = problem.moved(i, eps * direction), problem.moved(i, -eps * direction)
            left = _weighted(cotangents, values, below) / eps
            right = _weighted(cotangents, above, values) / eps
            where = f"input {problem.positions[i]}, direction of seed {seed}"
            yield Comparison(where, float((gradients[i] * direction).sum()), (left + right) / 2), left, right


def _weighted(cotangents: Sequence[Any], after: Sequence[Any], before: Sequence[Any]) -> float:
    """sum(cotangent * (after - before)): differences first, while they are small, then the sum."""
    return float(sum((v * (a - b)).sum() for v, a, b in zip(cotangents, after, before, strict=True)))


# --------------------------------------------------------------------------------------------------- manners


def _find_side_effects(problem: _Problem, rng: np.random.Generator) -> list[str]:
    """What a function must not do: change its inputs, differ from run to run, share memory, mind strides."""
    found = []
    before = [a.copy() for a in problem.point]
    values = problem.values(problem.point)
    cotangents = [rng.standard_normal(y.shape) for y in values]
    gradients = problem.gradients(problem.point, cotangents)
    if not _all_equal(before, problem.point):
        found.append("an input was changed by the forward or backward call")
    if not _all_equal(values, problem.values(problem.point)):
        found.append("a second run gave other outputs: fix the random seed, or the function keeps a state")
    if not _all_equal(gradients, problem.gradients(problem.point, cotangents)):
        found.append("a second run gave other gradients")
    for (i, g), array in zip(enumerate(gradients), problem.point, strict=True):
        if g.shape != array.shape or g.dtype != array.dtype:
            found.append(
                f"gradient {i} has shape {g.shape} and dtype {g.dtype}, its input {array.shape} and {array.dtype}"
            )
    for a, b in itertools.combinations([*gradients, *problem.point], 2):
        if np.shares_memory(a, b):
            found.append("gradients share memory with each other or with an input")
            break
    spread = [_not_contiguous(a) for a in problem.point]
    if not _all_close(values, problem.values(spread)):
        found.append("inputs that are not contiguous give other outputs")
    elif not _all_close(gradients, problem.gradients(spread, cotangents)):
        found.append("inputs that are not contiguous give other gradients")
    return found


def _not_contiguous(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same values, every second element of a larger memory."""
    wide = np.full((*array.shape, 2), np.nan)
    wide[..., 0] = array
    return wide[..., 0]


def _all_equal(first: Sequence[Any], second: Sequence[Any]) -> bool:
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second, strict=True))


def _all_close(first: Sequence[Any], second: Sequence[Any]) -> bool:
    return all(np.allclose(a, b, rtol=1e-10, atol=1e-12, equal_nan=True) for a, b in zip(first, second, strict=True))
