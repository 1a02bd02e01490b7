"""Stand-ins for the network and for whole data sets, small enough for a test."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np

from minicnn.datasets.idx import write_idx
from minicnn.datasets.mnist_like import NAMES


class Response(io.BytesIO):
    """What urlopen returns: a file, and the address that answered."""

    def __init__(self, content: bytes, url: str) -> None:
        super().__init__(content)
        self.url = url

    def geturl(self) -> str:
        return self.url


class Network:
    """An urlopen that serves `content` (address -> bytes, or an exception to raise) and records what was asked for."""

    def __init__(self, content: dict[str, Any] | None = None) -> None:
        self.content = content or {}
        self.asked: list[str] = []

    def __call__(self, url: str, timeout: float) -> Response:
        assert 0 < timeout <= 60
        self.asked.append(url)
        answer = self.content.get(url, URLError("Name or service not known"))
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Response) else Response(answer, url)


def write_mnist_like(folder: Path, mark: int, gz: bool = True, train: int = 6, test: int = 4) -> None:
    """Four IDX files whose pictures are all of value `mark`, so that a test sees which folder was read."""
    folder.mkdir(parents=True, exist_ok=True)
    for (images, labels), count in zip((NAMES[:2], NAMES[2:]), (train, test), strict=True):
        write_idx(folder / (images if gz else images[:-3]), np.full((count, 28, 28), mark, np.uint8))
        write_idx(folder / (labels if gz else labels[:-3]), np.arange(count, dtype=np.uint8) % 10)


def everything_in(folder: Path) -> list[str]:
    """Every file below `folder`, by its path from there."""
    return sorted(os.path.relpath(Path(where) / name, folder) for where, _, names in os.walk(folder) for name in names)
