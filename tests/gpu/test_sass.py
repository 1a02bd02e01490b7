"""The machine instructions of the kernels for tensor cores: what must be among them, and what must not."""

from __future__ import annotations

import re
from functools import cache

import pytest

from minicnn.kernels.gpu import loader
from tests.gpu import nvrtc

pytest.importorskip(nvrtc.MODULE)

FILES = ("conv_tc.cu", "conv_tc_weight_grad.cu", "gemm_tc.cu")
HELPERS = {"conv2d_tc_weights"}
MULTIPLY = {"tf32": "HMMA.1688.F32.TF32", "bf16": "HMMA.16816.F32.BF16"}
MOST_DIVISIONS = 16
"""A division of integers takes one reciprocal (MUFU.RCP). conv_tc.cu has the most: the axes of a gather take nine."""

every_kernel = pytest.mark.parametrize("architecture", [80, 90])
every_precision = pytest.mark.parametrize("precision", list(MULTIPLY))
every_file = pytest.mark.parametrize("file", FILES)


@cache
def instructions(file: str, precision: str, architecture: int) -> dict[str, list[str]]:
    """Of the kernels that multiply."""
    options = loader.options_of({"REAL": "float", "PRECISION": precision})
    compiled = nvrtc.compile_source(loader.read_source(file), file, options, architecture)
    return {name: lines for name, lines in nvrtc.disassemble(compiled.cubin).items() if name not in HELPERS}


def count(lines: list[str], pattern: str) -> int:
    return sum(re.search(pattern, line) is not None for line in lines)


@every_kernel
@every_precision
@every_file
def test_multiplies_on_tensor_cores_and_copies_past_the_registers(file: str, precision: str, architecture: int) -> None:
    kernels = instructions(file, precision, architecture)
    assert kernels
    for lines in kernels.values():
        assert count(lines, re.escape(MULTIPLY[precision])) >= 32
        assert count(lines, r"\bLDGSTS\.E\.(BYPASS\.)?(LTC128B\.)?128\b") >= 12
        assert count(lines, r"\bFFMA\b") <= 128  # those of beta * out
        assert count(lines, r"\b(LDL|STL)\b") == 0


@every_kernel
@every_precision
@every_file
def test_divides_a_few_times_and_never_while_it_multiplies(file: str, precision: str, architecture: int) -> None:
    for lines in instructions(file, precision, architecture).values():
        assert count(lines, r"\bMUFU\.RCP\b") <= MOST_DIVISIONS
        places = [place for place, line in enumerate(lines) if line.startswith("HMMA")]
        assert count(lines[places[0] : places[-1]], r"\bMUFU\b") == 0


@every_kernel
@every_file
def test_bf16_is_loaded_by_whole_matrices(file: str, architecture: int) -> None:
    for lines in instructions(file, "bf16", architecture).values():
        assert count(lines, r"\bLDSM\b") >= 16
