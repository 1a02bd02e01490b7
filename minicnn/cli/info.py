"""`minicnn info`: what computes here."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from collections import Counter
from typing import Any

import numpy as np

from minicnn.backend import (
    all_backends,
    available_backends,
    current_backend,
    implementation,
    kernel_names,
    why_unavailable,
)
from minicnn.version import __version__

_LIBRARIES = ("numpy", "numba", "pillow", "h5py", "safetensors", "rich", "matplotlib", "cupy-cuda13x", "onnx")


def run(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in describe().items():
        table.add_row(name, value)
    Console().print(table)
    return 0


def describe() -> dict[str, str]:
    """Name and value of each line."""
    lines = {
        "minicnn": __version__,
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "processor": f"{processor()}, {threads()} threads",
        "vector units": ", ".join(vector_units()) or "none known",
        "BLAS of NumPy": blas(),
        "backend": current_backend().name,
    }
    for name in all_backends():
        lines[f"  {name}"] = why_unavailable(name) or kernels_of(name)
    lines |= cpu_kernels()
    if "gpu" in available_backends():
        lines |= gpu_devices()
    for library in _LIBRARIES:
        lines[library] = version_of(library)
    lines["datasets"] = os.environ.get("MINICNN_DATA", "MINICNN_DATA is not set")
    return lines


def kernels_of(backend: str) -> str:
    """How many kernels a backend implements itself, and how many it takes from another."""
    owners = Counter(implementation(kernel, backend).split(".")[2] for kernel in kernel_names())
    return ", ".join(f"{count} kernels of {owner}" for owner, count in owners.most_common())


def cpu_kernels() -> dict[str, str]:
    """How the CPU backend computes here, and where it keeps what it compiled."""
    from minicnn.kernels.cpu import host, jit, parallel

    return {
        "  threads": f"{parallel.get_num_threads()} of {parallel.max_threads()}, {parallel.threading_layer()}",
        "  vectors": f"{host.simd()}, {host.lanes()} float32 numbers",
        "  compiled": str(jit.cache_folder()),
    }


def gpu_devices() -> dict[str, str]:
    """The GPUs, their memory, and in what numbers the GPU backend multiplies."""
    from minicnn.kernels import settings
    from minicnn.kernels.gpu import runtime

    devices = {f"  device {i}": description for i, description in enumerate(runtime.describe_devices())}
    return {**devices, "  precision": settings.precision}


def version_of(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def threads() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "processor"


def _configuration() -> dict[str, Any]:
    return dict(np.show_config(mode="dicts") or {})


def blas() -> str:
    built = _configuration().get("Build Dependencies", {}).get("blas", {})
    return f"{built.get('name', 'unknown')} {built.get('version', '')}".strip()


def vector_units() -> list[str]:
    """Instruction sets that NumPy found on this machine."""
    found = _configuration().get("SIMD Extensions", {})
    return [*found.get("baseline", []), *found.get("found", [])]
