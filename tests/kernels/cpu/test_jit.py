"""Compiled code on disk: found again, never stale, written whole, shared by processes that start at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import minicnn.kernels.cpu
from minicnn.kernels.cpu import jit

PROGRAM = """
import numpy as np
from minicnn.kernels.cpu.jit import report
from minicnn.kernels.cpu.probe import ask
print(int(ask(np.zeros(1))[0]), len(report.compiled))
"""
KERNEL = """
from minicnn.kernels.cpu.jit import kernel
from minicnn.kernels.cpu.probe_helper import answer

@kernel
def _ask(x):
    x[0] = answer(x)

def ask(x):
    _ask(x)
    return x
"""
HELPER = """
from minicnn.kernels.cpu.jit import helper

@helper
def answer(x):
    return {answer}
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package with a kernel and, in another file, a helper that it calls."""
    root = Path(minicnn.__file__).parent
    kernels = Path(minicnn.kernels.cpu.__file__).parent.parent
    ignored = shutil.ignore_patterns("__pycache__", "sample")
    shutil.copytree(root, tmp_path / "minicnn", ignore=ignored)
    shutil.copytree(kernels, tmp_path / "kernels", ignore=ignored)
    (tmp_path / "kernels/cpu/probe.py").write_text(KERNEL)
    (tmp_path / "kernels/cpu/probe_helper.py").write_text(HELPER.format(answer=5))
    return tmp_path


def start(package: Path, program: str = PROGRAM) -> subprocess.Popen[str]:
    environment = {**os.environ, "MINICNN_KERNEL_CACHE": str(package / "cache"), "PYTHONPATH": str(package)}
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=package, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(package: Path) -> str:
    process = start(package)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out.strip()


def test_a_second_process_compiles_nothing_and_an_edit_in_another_file_is_seen(package: Path) -> None:
    assert run(package) == "5 1"
    assert run(package) == "5 0"
    (package / "kernels/cpu/probe_helper.py").write_text(HELPER.format(answer=7))
    assert run(package) == "7 1"


def test_processes_that_start_at_once_do_not_get_in_each_others_way(package: Path) -> None:
    processes = [start(package) for _ in range(3)]
    results = [process.communicate() for process in processes]
    assert [out.split()[0] for out, _ in results] == ["5"] * 3, results
    assert run(package) == "5 0"
    assert [path.name for path in (package / "cache").rglob(".*")] == []  # nothing half-written stays


def test_a_folder_that_cannot_be_written_costs_time_alone(package: Path) -> None:
    (package / "cache").write_text("a file where the folder should be")
    assert run(package) == "5 1"
    assert run(package) == "5 1"


def test_a_damaged_file_is_compiled_again(package: Path) -> None:
    run(package)
    for path in (package / "cache").rglob("probe*.kernel"):
        path.write_bytes(path.read_bytes()[:100])
    assert run(package) == "5 1"
    assert run(package) == "5 0"


def test_code_of_old_sources_is_removed_after_a_month(tmp_path: Path) -> None:
    current, old, recent = (tmp_path / name for name in ("current", "old", "recent"))
    for folder in (current, old, recent):
        folder.mkdir()
        (folder / "f.kernel").write_bytes(b"")
    os.utime(old, (0, 0))
    jit.remove_stale(current)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "recent"]


def test_two_kernels_of_one_name_are_refused() -> None:
    def make() -> Any:
        @jit.kernel
        def same(x):  # type: ignore[no-untyped-def]
            x[0] = 1

        return same

    make()
    with pytest.raises(ValueError, match="__qualname__"):
        make()


def test_the_cache_folder_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINICNN_KERNEL_CACHE", "~/somewhere")
    assert jit.cache_folder() == Path.home() / "somewhere"
    monkeypatch.delenv("MINICNN_KERNEL_CACHE")
    assert jit.cache_folder() == Path.home() / ".cache" / "minicnn" / "kernels"
