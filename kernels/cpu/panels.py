"""Weights of a convolution as panels: [group][panel of columns][tap][term of the tap][column], see packing.py.

For a convolution the terms of a tap are the channels of a group and the columns its filters; for the input gradient the
terms are the filters and the columns the channels, read from the same w by transposing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.packing import pack_panel, pack_panel_transposed
from minicnn.kernels.cpu.parallel import parallel_for


@helper
def _pack_task(task, w, target, starts, stride, group_step, panel_step, terms_a_tap, columns, panel, transposed):  # type: ignore[no-untyped-def]  # fmt: skip
    """The rows of one tap in one panel of one group."""
    panels_a_group = (columns + panel - 1) // panel
    group, rest = task // (panels_a_group * starts.size), task % (panels_a_group * starts.size)
    q, tap = rest // starts.size, rest % starts.size
    start = starts[tap] + group * group_step + q * panel_step
    goal = task * terms_a_tap * panel
    width = min(panel, columns - q * panel)
    if transposed:
        pack_panel_transposed(w, start, stride, terms_a_tap, width, target, goal, panel)
    else:
        pack_panel(w, start, stride, terms_a_tap, width, target, goal, panel)


@kernel
def _pack(tasks, w, target, starts, stride, group_step, panel_step, terms_a_tap, columns, panel, transposed):  # type: ignore[no-untyped-def]  # fmt: skip
    arguments = (w, target, starts, stride, group_step, panel_step, terms_a_tap, columns, panel, transposed)
    parallel_for(_pack_task, tasks, arguments)


class Packing(NamedTuple):
    """How weights of a shape become panels."""

    tasks: int  # each packs the rows of one tap in one panel
    size: int  # numbers of all panels
    starts: np.ndarray[Any, Any]  # where each tap's weights start
    stride: int  # from a row of weights to the next
    group_step: int
    panel_step: int
    terms_a_tap: int
    columns: int  # of a group
    panel: int
    transposed: bool


def pack(packing: Packing, w: Array) -> Array:
    """The panels, flat."""
    target = buffers.empty((packing.size,), w.dtype)
    _pack(
        packing.tasks, w.reshape(-1), target, packing.starts, packing.stride, packing.group_step, packing.panel_step,
        packing.terms_a_tap, packing.columns, packing.panel, packing.transposed,
    )  # fmt: skip
    return target


def kept_panels(packing: Packing, w: Array, groups: int, layouts: dict[Any, Array]) -> Array:
    """The panels of a forward convolution by w, from `layouts` where they are there, else put there."""
    key = "panels", groups
    if key not in layouts:
        layouts[key] = pack(packing, w)
    return layouts[key]


def forward_packing(w_shape: tuple[int, int, int, int], groups: int, panel: int) -> Packing:
    """For a convolution: w (KH, KW, C/G, F) -> [G][panels][KH, KW, C/G][panel columns]."""
    kh, kw, c, f = w_shape
    columns = f // groups
    tasks = groups * -(-columns // panel) * kh * kw
    starts = np.arange(kh * kw, dtype=np.int64) * (c * f)
    return Packing(tasks, tasks * c * panel, starts, f, columns, panel, c, columns, panel, False)


def input_grad_packing(
    w_shape: tuple[int, int, int, int], groups: int, elements: tuple[int, ...], panel: int
) -> Packing:
    """For elements k * KW + l of the window, one phase of an input gradient: terms are filters, columns channels."""
    _, _, c, f = w_shape
    terms = f // groups
    tasks = groups * -(-c // panel) * len(elements)
    starts = np.array(elements, np.int64) * (c * f)
    return Packing(tasks, tasks * terms * panel, starts, f, terms, panel * f, terms, c, panel, True)
