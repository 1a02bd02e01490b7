"""Optimizer: the base of all optimizers. Rate, clipping, weight decay, state arrays, and the order of a step.

A custom training loop needs nothing else:

    optimizer = minicnn.optimizers.Adam(1e-3)
    for x, y in batches:
        loss = loss_function(y, model(x, training=True))
        gradients = minicnn.grad(loss, model.trainable_weights)
        optimizer.apply(gradients, model.trainable_weights)

Names, arguments, defaults and formulas are Keras 3's.
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
import warnings
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from minicnn import schedules
from minicnn.backend import Backend, as_host, backend_of
from minicnn.functional.arguments import check_number, check_positive
from minicnn.kernels.contract import Array, Kernels
from minicnn.modes import no_grad
from minicnn.registry import Configurable, snake_case
from minicnn.schedules import LearningRateSchedule
from minicnn.tensor import Tensor

_OFF_ONLY = ("use_ema", "loss_scale_factor", "gradient_accumulation_steps", "decay")
_WITHOUT_EFFECT = ("ema_momentum", "ema_overwrite_frequency", "jit_compile", "is_legacy_optimizer")
_ADVICE = {
    "lr": "It is called learning_rate.",
    "decay": "Pass a schedule: learning_rate=minicnn.schedules.InverseTimeDecay(rate, 1, decay).",
}


class Optimizer(Configurable):
    """Base class of optimizers. Subclasses define `update` and, where they keep state, `slot_groups`.

    learning_rate: a number, or a schedule from step to number (`minicnn.schedules`).
    weight_decay: each step first shrinks the parameters by this share, times the rate (Loshchilov and Hutter 2019).
    clipnorm: bound on the Euclidean norm of each parameter's gradient; global_clipnorm: on that of all gradients
    together; clipvalue: on each element. At most one of the three.
    name: stands before the names of the state arrays.

    Raises ValueError for an unknown option and for one that is negative, infinite or NaN; TypeError for a rate that is
    neither number nor schedule.
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule | dict[str, Any],
        *,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
        **others: Any,
    ) -> None:
        kind = type(self).__name__
        self.name = name or snake_case(kind)
        _check_others(type(self), others)
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = {option: value for option, value in clips.items() if value is not None}
        if len(given) > 1:
            raise ValueError(
                f"{kind}: only one of clipnorm, clipvalue and global_clipnorm can be set. Received: {given}"
            )
        for option, value in given.items():
            check_positive(value, f"{kind}: {option}")
        if weight_decay is not None:
            check_number(weight_decay, f"{kind}: weight_decay", 0, math.inf, "[)")
        self.weight_decay = weight_decay
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        self.iterations = 0
        self._rate = _as_rate(learning_rate, kind)
        self._parameters: list[Tensor] | None = None
        self._state: dict[str, list[Array]] = {}
        self._undecayed: tuple[list[Tensor], list[str]] = ([], [])

    # ------------------------------------------------------------------------------------------------- to define

    def slot_groups(self) -> list[list[str]]:
        """Names of the state arrays kept for each parameter. Keras stores those of one group side by side."""
        return []

    def initial_slot_value(self) -> float:
        """What state arrays are filled with at the start."""
        return 0.0

    def update(
        self,
        kernels: Kernels,
        params: list[Array],
        grads: list[Array],
        state: Mapping[str, list[Array]],
        lr: float,
    ) -> None:
        """Change params, and the state arrays, in place. `self.iterations` steps were taken before this one."""
        raise TypeError(f"{type(self).__name__} must define update(self, kernels, params, grads, state, lr).")

    # ------------------------------------------------------------------------------------------------- the rate

    @property
    def learning_rate(self) -> float:
        """The rate of the next step. Setting it takes a number, or a schedule.

        Raises TypeError when a number is set in place of a schedule, which would be lost.
        """
        return float(self._rate(self.iterations)) if isinstance(self._rate, LearningRateSchedule) else self._rate

    @learning_rate.setter
    def learning_rate(self, value: float | LearningRateSchedule) -> None:
        rate = _as_rate(value, type(self).__name__)
        if isinstance(self._rate, LearningRateSchedule) and not isinstance(rate, LearningRateSchedule):
            raise TypeError(
                f"{self.name}: the rate follows a {type(self._rate).__name__} and cannot be set to a number. Make the "
                f"optimizer with a number for its learning_rate instead. Received: {value!r}"
            )
        self._rate = rate

    # ------------------------------------------------------------------------------------------------- one step

    @property
    def built(self) -> bool:
        """Whether the state arrays exist."""
        return self._parameters is not None

    def build(self, variables: Iterable[Tensor]) -> None:
        """Make the state arrays for these parameters. `apply` does it at the first step."""
        if self.built:
            return
        self._parameters = list(variables)
        for slot in (name for group in self.slot_groups() for name in group):
            self._state[slot] = [
                backend_of(p.data).xp.full(p.shape, self.initial_slot_value(), p.dtype) for p in self._parameters
            ]

    def apply(
        self, grads: Iterable[Tensor | Array | None], trainable_variables: Iterable[Tensor] | None = None
    ) -> None:
        """One step: change the parameters in place, along their gradients.

        grads: one a parameter, of its shape; None where there is none (with a warning; the parameter stays as it is).
        trainable_variables: the parameters, or some of those of the first step; may be left out after `build`.

        Raises ValueError where number or shapes differ, all gradients are None, or a parameter is new.
        """
        grads = list(grads)
        if not grads:
            return
        grads, parameters = self._pairs(grads, trainable_variables)
        arrays = self._clipped([_gradient_array(g, p) for g, p in zip(grads, parameters, strict=True)])
        state, lr = self._state_of(parameters), self.learning_rate
        with no_grad():
            self._decay(parameters, lr)
            self._update([p._edit() for p in parameters], arrays, state, lr)
            for parameter in parameters:
                constraint = getattr(parameter, "constraint", None)
                if constraint is not None:
                    parameter.data[...] = constraint(parameter).data
        self.iterations += 1

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Tensor | Array | None, Tensor]]) -> None:
        """`apply` for pairs of gradient and parameter."""
        pairs = list(grads_and_vars)
        self.apply([gradient for gradient, _ in pairs], [parameter for _, parameter in pairs])

    def _pairs(self, grads: list[Any], variables: Iterable[Tensor] | None) -> tuple[list[Any], list[Tensor]]:
        """Gradients and their parameters, without those that are None."""
        if variables is None and self._parameters is None:
            raise ValueError(f"{self.name}: pass the parameters too, apply(grads, parameters), or call build before.")
        parameters = list(self._parameters or []) if variables is None else list(variables)
        if len(grads) != len(parameters):
            raise ValueError(
                f"{self.name}: one gradient a parameter is needed. Received: {len(grads)} gradients, "
                f"{len(parameters)} parameters"
            )
        self.build(parameters)
        missing = [p for g, p in zip(grads, parameters, strict=True) if g is None]
        if not missing:
            return grads, parameters
        if len(missing) == len(grads):
            raise ValueError(f"{self.name}: all gradients are None: the loss does not depend on any parameter.")
        warnings.warn(
            f"{self.name}: no gradient for {[_path(p) for p in missing]}: they stay as they are.", stacklevel=3
        )
        given = [(g, p) for g, p in zip(grads, parameters, strict=True) if g is not None]
        return [g for g, _ in given], [p for _, p in given]

    def _state_of(self, parameters: list[Tensor]) -> Mapping[str, list[Array]]:
        """The state arrays of these parameters, which are among those the optimizer was built for."""
        if self._parameters is not None and list(map(id, parameters)) == list(map(id, self._parameters)):
            return self._state  # all of them, as in every step of most training
        places = {id(parameter): index for index, parameter in enumerate(self._parameters or [])}
        for parameter in parameters:
            if id(parameter) not in places:
                raise ValueError(
                    f"{self.name} keeps state for the parameters of its first step. Make a new optimizer for others. "
                    f"Received: {_path(parameter)}"
                )
        indices = [places[id(parameter)] for parameter in parameters]
        return {slot: [arrays[i] for i in indices] for slot, arrays in self._state.items()}

    def _update(self, params: list[Array], grads: list[Array], state: Mapping[str, list[Array]], lr: float) -> None:
        """Run `update` on contiguous arrays, as kernels want them; copies go back to where they came from."""
        backend = backend_of(params[0])
        contiguous = [array if array.flags.c_contiguous else array.copy(order="C") for array in params]
        self.update(backend.kernels, contiguous, grads, state, lr)
        for array, changed in zip(params, contiguous, strict=True):
            if changed is not array:
                array[...] = changed

    # ------------------------------------------------------------------------------------------------- clipping, decay

    def _clipped(self, grads: list[Array]) -> list[Array]:
        """Gradients within the bounds; new arrays where something is clipped."""
        if self.clipnorm is self.global_clipnorm is self.clipvalue is None:
            return grads
        xp = backend_of(grads[0]).xp
        if self.clipnorm is not None:
            return [g * _shrink(xp.sqrt((g * g).sum()), self.clipnorm) for g in grads]
        if self.global_clipnorm is not None:
            norm = math.sqrt(sum(float((g * g).sum()) for g in grads))
            return [g * _shrink(norm, self.global_clipnorm) for g in grads]
        if self.clipvalue is not None:
            return [g.clip(-self.clipvalue, self.clipvalue) for g in grads]
        return grads

    def exclude_from_weight_decay(
        self, var_list: Sequence[Tensor] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Leave these parameters, and those whose name matches a pattern ("bias"), out of the weight decay."""
        self._undecayed = (list(var_list or []), list(var_names or []))

    def _decay(self, parameters: list[Tensor], lr: float) -> None:
        if self.weight_decay is None:
            return
        excluded, patterns = self._undecayed
        for parameter in parameters:
            named = any(re.search(pattern, _path(parameter)) for pattern in patterns)
            if not named and not any(parameter is other for other in excluded):
                parameter.data -= parameter.data * (self.weight_decay * lr)

    # ------------------------------------------------------------------------------------------------- state

    @property
    def variables(self) -> list[Array]:
        """All state in Keras' order: the step count, the rate (unless it follows a schedule), the state arrays."""
        return [array for _, array in self._named_variables()]

    @property
    def variable_names(self) -> list[str]:
        """Names of `variables`, made as Keras makes them: "adam/dense_kernel_momentum"."""
        return [f"{self.name}/{name}" for name, _ in self._named_variables()]

    def _named_variables(self) -> list[tuple[str, Array]]:
        named: list[tuple[str, Array]] = [("iteration", np.array(self.iterations, np.int64))]
        if not isinstance(self._rate, LearningRateSchedule):
            named.append(("learning_rate", np.array(self._rate, np.float64)))
        for group in self.slot_groups() if self.built else []:
            for i, parameter in enumerate(self._parameters or []):
                prefix = _path(parameter).replace("/", "_")
                named += [(f"{prefix}_{slot}", self._state[slot][i]) for slot in group]
        return named

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Write `variables` under "0", "1", ...: the layout of Keras' files."""
        for i, array in enumerate(self.variables):
            store[str(i)] = as_host(array)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Take over what `save_own_variables`, or Keras, wrote, for the same parameters. Call `build` before.

        Raises ValueError where number or a shape differs; nothing is changed then.
        """
        own = self.variables
        if len(store) != len(own):
            hint = "" if self.built else " Call build(parameters) first."
            raise ValueError(f"{self.name}: {len(own)} state arrays are expected. Received: {len(store)}.{hint}")
        values = [np.asarray(store[str(i)]) for i in range(len(own))]
        for name, array, value in zip(self.variable_names, own, values, strict=True):
            if value.shape != array.shape:
                raise ValueError(f"{name}: expected shape {array.shape}. Received: shape {value.shape}")
        self._take(values)

    def _take(self, values: list[np.ndarray[Any, Any]]) -> None:
        """Overwrite the state with arrays of `variables`' order and shapes."""
        self.iterations = int(values[0])
        if not isinstance(self._rate, LearningRateSchedule):
            self._rate = float(values[1])
        for array, value in zip(self.variables, values, strict=True):
            array[...] = backend_of(array).place(value)

    def to(self, backend: Backend) -> None:
        """Move the state arrays into a backend's memory, as the model moves its weights."""
        for slot, arrays in self._state.items():
            self._state[slot] = [backend.place(array) for array in arrays]

    # ------------------------------------------------------------------------------------------------- writing down

    def get_config(self) -> dict[str, Any]:
        rate = self._rate
        return {
            "name": self.name,
            "learning_rate": schedules.serialize(rate) if isinstance(rate, LearningRateSchedule) else rate,
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "global_clipnorm": self.global_clipnorm,
            "clipvalue": self.clipvalue,
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} learning_rate={self.learning_rate:g}, iterations={self.iterations}>"


def _as_rate(rate: Any, kind: str) -> float | LearningRateSchedule:
    """A number (of any library) as a float; a schedule, or a schedule's config, as a schedule."""
    if isinstance(rate, dict):
        rate = schedules.deserialize(rate)
    if isinstance(rate, LearningRateSchedule):
        return rate
    number = rate.item() if hasattr(rate, "item") else rate
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(
            f"{kind}: learning_rate must be a number or a minicnn.schedules.LearningRateSchedule. Received: {rate!r}"
        )
    check_number(number, f"{kind}: learning_rate", 0, math.inf, "[)")
    return float(number)


def _check_others(kind: type[Optimizer], others: dict[str, Any]) -> None:
    """Options that only Keras has may be there, from its files, if they are off. ValueError for all others."""
    for option, value in others.items():
        if option in _WITHOUT_EFFECT or (option in _OFF_ONLY and not value):
            continue
        known = [name for owner in (kind, Optimizer) for name in inspect.signature(owner).parameters]
        close = difflib.get_close_matches(option, known, n=1)
        hint = _ADVICE.get(option, f"Did you mean {close[0]!r}?" if close else "")
        raise ValueError(f"{kind.__name__} has no such option. Received: {option}={value!r}. {hint}".rstrip())


def _gradient_array(gradient: Tensor | Array, parameter: Tensor) -> Array:
    """The gradient as a contiguous array of the parameter's dtype; ValueError for another shape."""
    array, data = gradient.data if isinstance(gradient, Tensor) else gradient, parameter.data
    if type(array) is not type(data) or array.dtype != data.dtype or not array.flags.c_contiguous:
        backend = backend_of(data)
        array = backend.xp.asarray(backend.place(array), dtype=data.dtype, order="C")
    if array.shape != data.shape:
        raise ValueError(
            f"a gradient must have the shape of its parameter {_path(parameter)}, {parameter.shape}. "
            f"Received: {array.shape}"
        )
    return array


def _shrink(norm: Any, bound: float) -> Any:
    """The factor that brings a norm down to a bound: 1 where it is below."""
    return bound / max(norm, bound)


def _path(parameter: Tensor) -> str:
    return str(getattr(parameter, "path", "variable"))
