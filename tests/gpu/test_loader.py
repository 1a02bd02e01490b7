"""CUDA sources as they are loaded: headers inlined, defines checked, signatures read; launches with bad arguments."""

from __future__ import annotations

import re

import numpy as np
import pytest

from minicnn.kernels.gpu import loader
from minicnn.kernels.gpu.launch import blocks_for
from minicnn.kernels.gpu.runtime import cp
from minicnn.kernels.gpu.signature import parse_signatures, parse_structs

RELU = 1


@pytest.mark.parametrize("file", loader.sources())
def test_every_source_says_what_it_is_compiled_with(file: str) -> None:
    assert {"float", "double"} >= set(loader.allowed_defines(file)["REAL"])
    assert loader.minimum_architecture(file) >= 75
    assert len(list(loader.variants(file))) >= 1


@pytest.mark.parametrize("file", loader.sources())
def test_headers_are_inlined_once(file: str) -> None:
    text = loader.read_source(file)
    assert not re.search(r'^\s*#include\s+"', text, re.MULTILINE)
    assert text.count("typedef REAL real;") == 1


@pytest.mark.parametrize("file", loader.sources())
def test_every_kernel_has_a_signature_that_is_understood(file: str) -> None:
    text = loader.read_source(file)
    for defines in loader.variants(file):
        parsed = parse_signatures(text, defines, parse_structs(text, defines))
        assert len(parsed) == len(re.findall(r"__global__\s+void", text))


def test_signatures_and_structs_are_read_from_the_text() -> None:
    text = """
    struct Sizes { int n, taps[3]; long long count; };  // by value
    struct Table { const float* first; };
    extern "C" __global__ void __launch_bounds__(128) copy(const real* __restrict__ x, /* out */ float4* y, Sizes s,
                                                           unsigned int seed, double scale) { }
    """
    structs = parse_structs(text, {"REAL": "double"})
    assert list(structs) == ["Sizes"]
    assert structs["Sizes"].itemsize == 24
    assert structs["Sizes"].fields["count"][1] == 16
    x, y, s, seed, scale = parse_signatures(text, {"REAL": "double"}, structs)["copy"]
    assert (x.name, x.dtype, x.is_pointer, x.is_const, x.alignment) == ("x", np.float64, True, True, 8)
    assert (y.dtype, y.is_pointer, y.is_const, y.alignment) == (np.float32, True, False, 16)
    assert (s.dtype, s.is_pointer) == (structs["Sizes"], False)
    assert (seed.dtype, scale.dtype) == (np.uint32, np.float64)
    with pytest.raises(ValueError, match="parameter 't' has a type that is not known here"):
        parse_signatures('extern "C" __global__ void f(Table t) {}', {}, {})


def test_a_define_that_the_file_does_not_list_is_refused() -> None:
    with pytest.raises(ValueError, match=r"activation\.cu is compiled with .* Received: \{'FAST': '1'"):
        loader.module("activation.cu", np.float32, FAST=1)


def _kernel_and_arrays():
    x = cp.asarray(np.array([-1.0, 2.0, np.nan], np.float32))
    return loader.module("activation.cu", np.float32).kernel("activation_forward"), x, cp.empty(3, np.float32)


def test_a_kernel_runs() -> None:
    kernel, x, y = _kernel_and_arrays()
    kernel(blocks_for(3), 256, x, y, 3, RELU, 0.0)
    np.testing.assert_array_equal(y.get(), [0, 2, np.nan])


def test_an_empty_grid_launches_nothing() -> None:
    kernel, x, y = _kernel_and_arrays()
    y.fill(7)
    kernel(blocks_for(0), 256, x, y, 3, RELU, 0.0)
    np.testing.assert_array_equal(y.get(), [7, 7, 7])


def test_arguments_that_the_kernel_does_not_take_are_refused() -> None:
    kernel, x, y = _kernel_and_arrays()
    with pytest.raises(TypeError, match=r"takes 5 arguments. Received: 4"):
        kernel((1,), 32, x, y, 3, RELU)
    with pytest.raises(TypeError, match=r"x must be an array on the device. Received: ndarray"):
        kernel((1,), 32, np.zeros(3, np.float32), y, 3, RELU, 0.0)
    with pytest.raises(TypeError, match=r"x must be an array of float32. Received: float64"):
        kernel((1,), 32, x.astype(np.float64), y, 3, RELU, 0.0)
    with pytest.raises(ValueError, match=r"x must be C-contiguous"):
        kernel((1,), 32, cp.zeros((3, 2), np.float32)[:, 0], y, 3, RELU, 0.0)
