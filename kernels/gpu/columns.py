"""How blocks of threads are laid over a matrix (rows, C): the struct of columns.cuh, and the grids that go with it."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from minicnn.kernels.gpu.launch import THREADS

_WIDEST = 64
"""Threads side by side over a row, at most."""

_BLOCKS = 528
"""Blocks of a kernel that sums: four for each of a large GPU's 132 multiprocessors, which hold them all at once."""

_BLOCKS_THAT_WRITE = 4 * _BLOCKS
"""Blocks of a kernel that goes over all rows with what it knows of its columns."""

_ROWS_A_THREAD = 4
"""Fewer are not worth another block."""

TEAMS = 8
"""Columns of a block that adds up partial sums."""


class Columns(NamedTuple):
    """Fields as the struct Columns: `module(...).struct("Columns", **columns._asdict())`."""

    rows: int
    c: int
    places: int
    width: int

    @property
    def rounds(self) -> int:
        """Blocks that it takes to cover a row."""
        return -(-self.places // self.width)

    @property
    def threads(self) -> int:
        """Threads of a block: no more groups than rows."""
        return max(1, min(THREADS // self.width, self.rows)) * self.width

    def slices(self, matrices: int = 1) -> int:
        """How many parts of the rows are summed apart, for each of some matrices."""
        return self._parts(_BLOCKS // max(matrices, 1))

    def parts(self, matrices: int = 1) -> int:
        """How many blocks go over the rows, for each of some matrices."""
        return self._parts(_BLOCKS_THAT_WRITE // max(matrices, 1))

    def _parts(self, blocks: int) -> int:
        rows_of_a_block = THREADS // self.width * _ROWS_A_THREAD
        return max(1, min(blocks // max(self.rounds, 1), -(-self.rows // rows_of_a_block)))


@lru_cache(maxsize=1024)
def columns(rows: int, c: int, lanes: int) -> Columns:
    """The layout for a matrix (rows, c), `lanes` numbers a thread."""
    places = c // lanes
    rounds = max(1, -(-places // _WIDEST))
    return Columns(rows, c, places, max(1, -(-places // rounds)))
