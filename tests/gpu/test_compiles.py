"""Every CUDA source compiled by NVRTC for every architecture: registers within a budget, no spills; its SASS."""

from __future__ import annotations

import re

import pytest

from minicnn.kernels.gpu import loader
from tests.gpu import nvrtc

pytest.importorskip(nvrtc.MODULE)

ARCHITECTURES = (75, 80, 90)
NVRTC = (13, 0)
"""The release the kernels are held to: another one allots registers otherwise."""

MOST_REGISTERS = 64
"""Registers a thread, with which four blocks of 256 threads fit on a multiprocessor (65,536 registers)."""

MOST_REGISTERS_OF_A_TILE = {"float": 168, "double": 255}
"""For files whose threads hold a tile of sums in registers; in double it takes twice as many, up to all there are."""

TILED = {
    "conv.cu", "conv_pool.cu", "conv_weight_grad.cu", "conv_tc.cu", "conv_tc_weight_grad.cu", "gemm.cu", "gemm_tc.cu",
    "depthwise.cu",
}  # fmt: skip

VARIANTS = [
    pytest.param(file, defines, architecture, id=f"{file}-{'-'.join(defines.values())}-sm_{architecture}")
    for file in loader.sources()
    for defines in loader.variants(file)
    for architecture in ARCHITECTURES
    if architecture >= loader.minimum_architecture(file)
]


def test_the_compiler_is_the_one_that_the_budgets_were_set_for() -> None:
    assert nvrtc.version() == NVRTC


@pytest.mark.parametrize(("file", "defines", "architecture"), VARIANTS)
def test_source_compiles_within_its_registers(file: str, defines: dict[str, str], architecture: int) -> None:
    compiled = nvrtc.compile_source(loader.read_source(file), file, loader.options_of(defines), architecture)
    assert len(compiled.usage) == loader.read_source(file).count("__global__ void")
    budget = MOST_REGISTERS_OF_A_TILE[defines["REAL"]] if file in TILED else MOST_REGISTERS
    over = {name: used for name, used in compiled.usage.items() if used.registers > budget or used.spilled}
    assert over == {}


@pytest.mark.parametrize("file", loader.sources())
def test_no_kernel_goes_through_local_memory(file: str) -> None:
    """LDL and STL read and write a thread's own memory, off the chip: an array that did not stay in registers."""
    defines = next(loader.variants(file))
    text, options = loader.read_source(file), loader.options_of(defines)
    kernels = nvrtc.disassemble(nvrtc.compile_source(text, file, options, 90).cubin)
    assert kernels
    local = {name: [line for line in lines if re.search(r"\b(LDL|STL)\b", line)] for name, lines in kernels.items()}
    assert {name: lines for name, lines in local.items() if lines} == {}


def test_a_source_with_a_mistake_is_refused_with_the_log() -> None:
    with pytest.raises(nvrtc.CompilationError, match=r"(?s)bad\.cu for sm_80.*undefined_name"):
        nvrtc.compile_source('extern "C" __global__ void f() { undefined_name(); }', "bad.cu", (), 80)
