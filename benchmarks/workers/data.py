"""The same random inputs in every worker: NHWC images, HWIO kernels, float32, from the seed of the case.

Glossary  as in `minicnn/kernels/contract.py`: N H W C the input, KH KW the kernel, F filters, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def normal(rng: np.random.Generator, shape: Sequence[int], scale: float = 1.0) -> Array:
    return rng.standard_normal(tuple(shape), dtype=np.float32) * np.float32(scale)


def kernel_inputs(case: dict[str, Any]) -> dict[str, Array]:
    """Arrays for a kernel case, by name: x, w, b, gy, ..."""
    args, rng = case["args"], np.random.default_rng(case["seed"])
    shapes: dict[str, Sequence[int]] = args["shapes"]
    arrays = {name: normal(rng, shape, _scale(name, shape)) for name, shape in shapes.items()}
    if "classes" in args:
        arrays["target"] = rng.integers(0, args["classes"], shapes["x"][0])
    return arrays


def _scale(name: str, shape: Sequence[int]) -> float:
    """Weights such that outputs stay about as large as inputs."""
    return 1 / math.sqrt(math.prod(shape[:-1])) if name == "w" else 1.0


def parameter_lists(case: dict[str, Any]) -> tuple[list[Array], list[Array]]:
    """Parameters and gradients for an optimizer case; no gradient so small that the epsilons, which differ, matter."""
    rng = np.random.default_rng(case["seed"])
    shapes = case["args"]["parameters"]
    gradients = [normal(rng, shape) for shape in shapes]
    return [normal(rng, shape, 0.05) for shape in shapes], [g + np.sign(g) for g in gradients]


def batch(case: dict[str, Any]) -> tuple[Array, Array]:
    """Pictures (N, H, W, C) in [0, 1) and integer labels (N,) for the network of a case."""
    rng = np.random.default_rng(case["seed"])
    network = case["network"]
    x = rng.random((case["batch"], *network["input_shape"]), dtype=np.float32)
    return x, rng.integers(0, network["classes"], case["batch"])


def comparable(case: dict[str, Any], inputs: dict[str, Array], outputs: Sequence[Array]) -> dict[str, Array]:
    """Outputs by name; of a dropout, which is random, the share kept and how wrongly the kept ones are scaled."""
    if not case["op"].startswith("dropout"):
        return {str(i): array for i, array in enumerate(outputs)}
    x, (y,) = inputs["gy" if case["op"].endswith("backward") else "x"], outputs
    kept = y != 0
    scale = 1 / (1 - case["args"]["rate"])
    return {"share": np.array([kept.mean()]), "scale": np.array([scale + np.abs(y[kept] / x[kept] - scale).max()])}
