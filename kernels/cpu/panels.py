"""Weights of a convolution as panels: [group][panel of columns][tap][term of the tap][column], see packing.py.

For a convolution the terms of a tap are the channels of a group and the columns its filters; for the input gradient the
terms are the filters and the columns the channels, read from the same w by transposing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minicnn.kernels.contract import Array
from minicnn.kernels.cpu import buffers
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.microkernel import panel_columns
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


def forward_panels(w: Array, groups: int) -> Array:
    """Panels for a convolution: w (KH, KW, C/G, F) -> [G][panels][KH, KW, C/G][panel columns], flat."""
    kh, kw, c, f = w.shape
    panel, columns = panel_columns(w.dtype), f // groups
    tasks = groups * -(-columns // panel) * kh * kw
    target = buffers.empty((tasks * c * panel,), w.dtype)
    _pack(tasks, w.reshape(-1), target, _tap_starts(kh * kw, c * f), f, columns, panel, c, columns, panel, False)
    return target


def input_grad_panels(w: Array, groups: int, elements: tuple[int, ...]) -> Array:
    """Panels for elements k * KW + l of the window, one phase of an input gradient: terms filters, columns channels."""
    _, _, c, f = w.shape
    panel, terms = panel_columns(w.dtype), f // groups
    tasks = groups * -(-c // panel) * len(elements)
    target = buffers.empty((tasks * terms * panel,), w.dtype)
    starts = _element_starts(elements, c * f)
    _pack(tasks, w.reshape(-1), target, starts, f, terms, panel * f, terms, c, panel, True)
    return target


@lru_cache(maxsize=256)
def _tap_starts(taps: int, step: int) -> np.ndarray[Any, Any]:
    return np.arange(taps, dtype=np.int64) * step


@lru_cache(maxsize=1024)
def _element_starts(elements: tuple[int, ...], step: int) -> np.ndarray[Any, Any]:
    return np.array(elements, np.int64) * step
