"""Shared by all tests: seeds, the data folder, and a rule that nothing that could run is skipped."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")  # before anything imports keras

import numpy as np
import pytest

import minicnn

NO_DATA = "MINICNN_DATA does not name a folder with"
NO_DEVICE = "there is no CUDA device"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    minicnn.utils.set_random_seed(1234)
    minicnn.utils.clear_session()


@pytest.fixture
def rng() -> np.random.Generator:
    """Random arrays, the same in every run."""
    return np.random.default_rng(20261121)


@pytest.fixture
def data_folder() -> Path:
    """The folder of full datasets; the test is skipped where there is none."""
    folder = Path(os.environ.get("MINICNN_DATA", ""))
    if not os.environ.get("MINICNN_DATA") or not folder.is_dir():
        pytest.skip(f"{NO_DATA} the full datasets")
    return folder


def _is_excused(reason: str) -> bool:
    """A skip is excused where the thing it misses is really not there."""
    if NO_DATA in reason:
        return not os.environ.get("MINICNN_DATA")
    if NO_DEVICE in reason:
        return not _has_device()
    named = re.findall(r"could not import '([\w.]+)'|needs ([\w.]+)", reason)
    modules = [first or second for first, second in named]
    return any(importlib.util.find_spec(module.split(".")[0]) is None for module in modules)


def _has_device() -> bool:
    """Whether CuPy, the real one, finds a GPU."""
    if importlib.util.find_spec("cupy") is None:
        return False
    import cupy

    return bool(cupy.cuda.is_available())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """With MINICNN_FORBID_SKIPS set, name every skip that has no excuse."""
    if os.environ.get("MINICNN_FORBID_SKIPS"):
        for line in _unexcused(terminalreporter):
            terminalreporter.write_line(f"SKIPPED WITHOUT NEED: {line}", red=True)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """... and fail for it."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("MINICNN_FORBID_SKIPS") and reporter is not None and _unexcused(reporter) and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _unexcused(reporter: pytest.TerminalReporter) -> list[str]:
    reasons = [
        (report.nodeid, report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr))
        for report in reporter.stats.get("skipped", [])
    ]
    return [f"{nodeid}: {reason}" for nodeid, reason in reasons if not _is_excused(reason)]
