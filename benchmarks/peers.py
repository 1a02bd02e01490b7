"""The frameworks that are compared, and the virtual environments they live in: `python -m benchmarks peers`.

Each environment is a folder below $MINICNN_PEERS, or ~/.cache/minicnn/peers. A framework whose environment is missing
is left out, and the tables say so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

_NETWORKS = ("steps", "inference", "startup", "scaling")

KEEP_BUFFERS = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}
"""glibc keeps freed memory, so that a large buffer is not paged in anew each time."""


@dataclass(frozen=True)
class Peer:
    """A framework in one form. environment: folder of its virtual environment, None for minicnn's own interpreter.

    groups: those it takes part in. module: what `import` times. variables: set for its process.
    """

    name: str
    worker: str
    environment: str | None
    groups: tuple[str, ...]
    module: str
    variables: dict[str, str] = field(default_factory=dict)


MINICNN = Peer("minicnn", "minicnn_worker", None, (*_NETWORKS, "kernels", "overhead"), "minicnn")
ORACLE = Peer("reference", "minicnn_worker", None, (), "minicnn", {"MINICNN_BACKEND": "reference"})
"""minicnn's textbook kernels, which the others are checked against where there is no PyTorch."""

_TORCH = (*_NETWORKS, "kernels", "overhead")
PEERS = (
    Peer("torch", "torch_worker", "torch", _TORCH, "torch"),
    Peer(
        "torch-best",
        "torch_worker",
        "torch",
        ("kernels", "steps", "inference", "scaling"),
        "torch",
        {"BENCHMARK_FORM": "best", **KEEP_BUFFERS},
    ),
    Peer(
        "torch-compile",
        "torch_worker",
        "torch",
        ("steps", "inference"),
        "torch",
        {"BENCHMARK_FORM": "compile", **KEEP_BUFFERS},
    ),
    Peer("tensorflow", "keras_worker", "tensorflow", _NETWORKS, "keras", {"KERAS_BACKEND": "tensorflow"}),
    Peer("jax", "jax_worker", "jax", ("steps", "inference"), "jax"),
    Peer("onnxruntime", "onnx_worker", "onnxruntime", ("inference",), "onnxruntime"),
    Peer("chainer", "chainer_worker", "chainer", ("steps", "inference"), "chainer"),
    Peer("mygrad", "mygrad_worker", "mygrad", ("steps", "inference"), "mygrad"),
)

_CHAINER_BUILD = ("setuptools<70", "wheel", "numpy<1.24", "six", "typing_extensions", "filelock", "protobuf")
INSTALLS: dict[str, tuple[tuple[str, ...], ...]] = {
    "torch": (("torch==2.13.0", "numpy"),),
    "tensorflow": (("tensorflow-cpu", "keras", "numpy"),),
    "jax": (("jax", "numpy"),),
    "onnxruntime": (("onnxruntime", "onnx", "numpy"),),
    "chainer": (
        _CHAINER_BUILD,
        ("--no-build-isolation", "chainer==7.8.1"),
    ),  # older than NumPy 1.24 and build isolation
    "mygrad": (("mygrad", "numpy"),),
}
"""Arguments of `pip install`, one call after the other, for each environment."""


def folder() -> Path:
    """Where the environments lie."""
    given = os.environ.get("MINICNN_PEERS")
    return Path(given) if given else Path.home() / ".cache" / "minicnn" / "peers"


def interpreter(peer: Peer) -> Path:
    """The Python that runs a peer's worker."""
    if peer.environment is None:
        return Path(sys.executable)
    return _python(folder() / peer.environment)


def _python(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def absence(peer: Peer) -> str | None:
    """Why a peer cannot take part; None where it can."""
    if peer.environment is None or (interpreter(peer).exists() and _marker(folder() / peer.environment).exists()):
        return None
    return "not installed (python -m benchmarks peers)"


def _marker(environment: Path) -> Path:
    """Written when an installation has ended well."""
    return environment / "installed"


def install(names: list[str], console: Console) -> int:
    """Make the environments of these names (all where empty) that are not there yet; how many failed."""
    unknown = set(names) - set(INSTALLS)
    if unknown:
        raise ValueError(f"peers must be some of {sorted(INSTALLS)}. Received: {sorted(unknown)}")
    failed = 0
    for name in names or INSTALLS:
        environment = folder() / name
        if _marker(environment).exists():
            console.print(f"{name}: installed in {environment}")
            continue
        console.print(f"{name}: installing into {environment} ...")
        try:
            _install(environment, INSTALLS[name])
        except (OSError, subprocess.CalledProcessError) as error:
            failed += 1
            console.print(f"[red]{name}: failed: {error}[/red]")
    return failed


def _install(environment: Path, calls: tuple[tuple[str, ...], ...]) -> None:
    venv.create(environment, with_pip=True, clear=True)
    for arguments in calls:
        subprocess.run([str(_python(environment)), "-m", "pip", "install", "--quiet", *arguments], check=True)
    _marker(environment).touch()
