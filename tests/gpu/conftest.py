"""Where the GPU tests compute: on the device where there is one, else on the emulator behind the stand-in of CuPy."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator

import pytest

STAND_IN = "tests.gpu.standin"


def _has_device() -> bool:
    """Whether CuPy is installed and finds a GPU; MINICNN_CUPY overrules both."""
    if os.environ.get("MINICNN_CUPY") or importlib.util.find_spec("cupy") is None:
        return False
    import cupy

    return bool(cupy.cuda.is_available())


if not _has_device():
    os.environ["MINICNN_CUPY"] = STAND_IN  # before anything imports minicnn.kernels.gpu

NO_COMPILER = "g++ is not on the PATH: the emulator cannot be built"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without g++ nothing of this folder can run; where MINICNN_FORBID_SKIPS is set, such a skip is a failure."""
    if os.environ.get("MINICNN_CUPY") == STAND_IN and shutil.which("g++") is None:
        for item in items:
            if "/gpu/" in str(item.path):
                item.add_marker(pytest.mark.skip(reason=NO_COMPILER))


@pytest.fixture(autouse=True)
def _no_memory_was_written_outside_of_arrays() -> Iterator[None]:
    """The stand-in's zones around every array, looked at after every test; a real device has none."""
    yield
    if os.environ.get("MINICNN_CUPY") == STAND_IN:
        from tests.gpu import standin

        standin.check_canaries()
