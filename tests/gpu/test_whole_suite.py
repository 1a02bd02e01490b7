"""The GPU tests as a whole, in other processes: threads in random order, undefined behaviour, no kernel left out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minicnn.kernels.gpu import loader

pytestmark = pytest.mark.ci

ROOT = Path(__file__).parents[2]
OF_THE_EMULATOR = ("test_emulator", "test_emulator_operations", "test_standin", "test_compiles", "test_sass")
"""Files that run other kernels, some of which show the order of threads on purpose, or none."""


def run_tests(*arguments: str, **settings: str) -> None:
    """Run pytest in another process; its output is the message where it fails."""
    command = [sys.executable, "-m", "pytest", "-x", *arguments]
    environment = {**os.environ, **settings}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]


def test_every_kernel_is_launched_and_the_order_of_threads_does_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "launched"
    others = [f"--ignore=tests/gpu/{name}.py" for name in OF_THE_EMULATOR]
    settings = {"MINICNN_EMULATOR_ORDER": "random", "MINICNN_LAUNCHED": str(file)}
    run_tests("-p", "tests.gpu.launched", "tests/gpu", *others, **settings)
    kernels = {
        f"{source}: {name}"
        for source in loader.sources()
        for name in re.findall(
            r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\s*\(", loader.read_source(source)
        )
    }
    launched = set(file.read_text().split())
    assert sorted(kernel for kernel in kernels if kernel.split(": ")[1] not in launched) == []


def test_the_contracts_cases_do_nothing_that_is_undefined() -> None:
    run_tests("tests/gpu/test_contract.py", MINICNN_EMULATOR_SANITIZE="undefined")
