"""Arrays as tensor cores want them, and who may use them: see mma_words.cu and mma_tile.cuh.

A word has 32 bits: one tf32 number, or two bf16. Arrays of words are float32 arrays, whatever their bits mean.
"""

from __future__ import annotations

from functools import cache

from minicnn.kernels import settings
from minicnn.kernels.contract import Array
from minicnn.kernels.gpu.conv_tile import Tile
from minicnn.kernels.gpu.launch import THREADS, blocks_for
from minicnn.kernels.gpu.loader import minimum_architecture, module
from minicnn.kernels.gpu.runtime import cp

_FILE = "mma_words.cu"
PACK_BYTES = 16
PACK_WORDS = 4
STEP_WORDS = 32
"""Of one row of a tile that are multiplied at a time."""
NUMBERS_PER_WORD: dict[settings.Precision, int] = {"tf32": 1, "bf16": 2}

LARGE = Tile("large", 128, 128, 256, resident=2, rate=1.0)
MEDIUM = Tile("medium", 128, 64, 128, resident=3, rate=0.9)
SMALL = Tile("small", 64, 64, 128, resident=4, rate=0.7)
TILES = (LARGE, MEDIUM, SMALL)
"""The tiles of mma_tile.cuh. Their rates are estimates, from how often each reads a number, not measurements."""

_STAGES = 3


def shared_bytes(tile: Tile) -> int:
    """Dynamic shared memory of a block: a step of both matrices for each stage."""
    return _STAGES * (tile.rows + tile.columns) * STEP_WORDS * 4


def precision_for(dtype: object, wanted: settings.Precision | None = None) -> settings.Precision | None:
    """tf32 or bf16, where arrays of that dtype are to be multiplied on tensor cores and the device has them.

    wanted  None: as settings.precision says
    """
    wanted = wanted or settings.precision
    return wanted if wanted != "fp32" and dtype == cp.float32 and _has_tensor_cores(cp.cuda.Device().id) else None


@cache
def _has_tensor_cores(device: int) -> bool:
    """Whether that device has those that the kernels use."""
    return int(cp.cuda.Device(device).compute_capability) >= minimum_architecture(_FILE)


def line_words(length: int, precision: settings.Precision) -> int:
    """Words of a line of so many numbers, in whole packs."""
    numbers = PACK_WORDS * NUMBERS_PER_WORD[precision]
    return -(-length // numbers) * PACK_WORDS


def to_words(x: Array, length: int, precision: settings.Precision) -> Array:
    """x, lines of `length` numbers -> flat, lines of line_words(length) words, zeros at their ends.

    tf32 lines that are words in whole packs already are not copied; they are rounded when they are multiplied.
    """
    words = line_words(length, precision)
    in_packs = words * NUMBERS_PER_WORD[precision] == length and x.data.ptr % PACK_BYTES == 0
    if in_packs and precision == "tf32":
        return x
    kernels = module(_FILE, x.dtype, PRECISION=precision)
    converted = cp.empty((x.size // max(1, length) * words,), x.dtype)
    if in_packs:
        count = converted.size // PACK_WORDS
        kernels.kernel("packed_words")(blocks_for(count), THREADS, x, converted, count)
    else:
        count = converted.size
        kernels.kernel("padded_words")(blocks_for(count), THREADS, x, converted, count, length, words)
    return converted
