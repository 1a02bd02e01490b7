"""A plugin of pytest that writes the names of all kernels that ran to the file named in MINICNN_LAUNCHED."""

from __future__ import annotations

import os
from pathlib import Path

from tests.gpu import emulator


def pytest_unconfigure() -> None:
    Path(os.environ["MINICNN_LAUNCHED"]).write_text("\n".join(sorted(emulator.record.launched)))
