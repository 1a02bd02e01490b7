"""Runs as a program, under some MINICNN_SIMD: kernels against the reference, over the cases that vectors decide.

Prints the width, and a line for each case whose result is off.
"""

from __future__ import annotations

import sys

import numpy as np

from minicnn.kernels import cpu, reference
from minicnn.kernels.cpu import host
from tests.kernels.cases import CASES, arguments
from tests.kernels.cpu.test_contract import doubled
from tests.kernels.test_contract import arrays_in

FAMILIES = ("conv2d", "dense", "matmul", "max_pool2d", "batch_norm", "dropout", "softmax", "adam_step", "bias_grad")


def main() -> None:
    print(host.simd(), host.lanes())
    for case in CASES:
        if not case.kernel.startswith(FAMILIES):
            continue
        given, wide = arguments(case, "float32"), doubled(arguments(case, "float32"))
        received, expected = getattr(cpu, case.kernel)(**given), getattr(reference, case.kernel)(**wide)
        if received is None:  # an optimizer's step
            received, expected = given["params"], wide["params"]
        for array, oracle in zip(arrays_in(received), arrays_in(expected), strict=True):
            scale = max(1.0, float(np.abs(oracle).max(initial=0)))
            if array.shape != oracle.shape or np.abs(array - oracle).max(initial=0) > 1e-5 * scale:
                print(case)
    big = np.random.default_rng(0)
    x, w = big.standard_normal((3, 13, 12, 35)).astype("float32"), big.standard_normal((3, 3, 35, 41)).astype("float32")
    options = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    from minicnn.kernels.cpu.winograd import winograd_conv2d, winograd_weight_grad

    exact = reference.conv2d(x.astype(float), w.astype(float), None, *options)
    for name, y in (
        ("direct", cpu.conv2d(x, w, None, *options)),
        ("winograd", winograd_conv2d(x, w, None, options[1], -np.inf, np.inf)),
    ):
        if np.abs(y - exact).max() > 2e-5 * np.abs(exact).max():
            print(name)
    gw = reference.conv2d_weight_grad(x.astype(float), exact, (3, 3), *options)
    if np.abs(winograd_weight_grad(x, exact.astype("float32"), options[1]) - gw).max() > 2e-5 * np.abs(gw).max():
        print("winograd_weight_grad")


if __name__ == "__main__":
    sys.exit(main())
