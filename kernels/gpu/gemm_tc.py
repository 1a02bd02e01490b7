"""Matrix products on tensor cores, where tf32 or bf16 is asked for: see gemm_tc.cu.

Rows in memory must be whole packs of 16 bytes, 4 numbers in tf32 and 8 in bf16, and so must be the distances between
matrices. Other products, and those with fewer than 16 rows, columns or terms, which would leave most of a tile empty,
are refused by `supports`: gemm.cu multiplies them in fp32.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from minicnn.kernels.contract import Array
from minicnn.kernels.gpu.conv_tile import MULTIPROCESSORS
from minicnn.kernels.gpu.gemm_plan import Product
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.mma_words import (
    MEDIUM,
    NUMBERS_PER_WORD,
    PACK_BYTES,
    PACK_WORDS,
    STEP_WORDS,
    shared_bytes,
    to_words,
)
from minicnn.kernels.gpu.runtime import cp
from minicnn.kernels.settings import Precision

_FILE = "gemm_tc.cu"
_FEWEST = 16
_SHORTEST_SLICE = 8
"""Steps of a sum that are worth blocks of their own."""
_LONGEST_SUM = 1 << 14
"""Terms that are summed in one number: more would cost a float32 its sixth digit."""


def supports(product: Product, a: Array, b: Array, precision: Precision) -> bool:
    """Whether every matrix begins at whole packs, and the product fills tiles."""
    numbers = PACK_WORDS * NUMBERS_PER_WORD[precision]
    steps = product.lda, product.ldb, *product.a_steps, *product.b_steps, product.a_start, product.b_start
    in_packs = all(step % numbers == 0 for step in steps) and (a.data.ptr | b.data.ptr) % PACK_BYTES == 0
    return bool(in_packs) and min(product.m, product.n, product.k) >= _FEWEST


def slices_of(product: Product, precision: Precision) -> int:
    """Into how many slices the terms are cut: so many that tiles fill the device, and sums are not too long."""
    tiles = MEDIUM.tiles_over(product.m, product.n) * math.prod(product.batch)
    room = MULTIPROCESSORS * MEDIUM.resident // tiles
    wanted = max(min(room, _steps(product, precision) // _SHORTEST_SLICE), -(-product.k // _LONGEST_SUM), 1)
    return -(-_steps(product, precision) // _slice_steps(product, precision, wanted))


def _steps(product: Product, precision: Precision) -> int:
    return -(-product.k // (STEP_WORDS * NUMBERS_PER_WORD[precision]))


def _slice_steps(product: Product, precision: Precision, slices: int) -> int:
    return -(-_steps(product, precision) // slices)


def launch(
    product: Product,
    slices: int,
    a: Array,
    b: Array,
    out: Array,
    beta: float,
    bias: Array | None,
    limits: tuple[float, float],
    precision: Precision,
) -> None:
    """out = clamp(op(a) @ op(b) + beta * out + bias); with several slices, out is (slices, products, M, N)."""
    out = out.reshape(-1)[product.out_start :]
    pairs = all(step % 2 == 0 for step in (product.ldc, *product.out_steps)) and out.data.ptr % 8 == 0
    blocks, geometry = _geometry(product, slices, precision, bool(pairs))
    kinds = "nt"[product.transpose_a] + "nt"[product.transpose_b]
    kernel = module(_FILE, out.dtype, PRECISION=precision).kernel(f"gemm_tc_{kinds}")
    a, b = (_words_from(array, start, precision) for array, start in ((a, product.a_start), (b, product.b_start)))
    kernel((blocks,), MEDIUM.threads, a, b, bias, out, geometry, beta, *limits, shared=shared_bytes(MEDIUM))


def _words_from(array: Array, start: int, precision: Precision) -> Array:
    """All numbers from the start on, in words."""
    flat = array.reshape(-1)[start:]
    return to_words(flat, flat.size, precision) if precision == "bf16" else flat


@lru_cache(maxsize=4096)
def _geometry(product: Product, slices: int, precision: Precision, pairs: bool) -> tuple[int, Any]:
    """The number of blocks and the struct TensorGemm."""
    per_word = NUMBERS_PER_WORD[precision]
    tiles, results = MEDIUM.tiles_over(product.m, product.n), math.prod(product.batch)
    geometry = module(_FILE, cp.float32, PRECISION=precision).struct(
        "TensorGemm",
        m=product.m, n=product.n, k=product.k,
        lda=product.lda // per_word, ldb=product.ldb // per_word, ldc=product.ldc,
        tiles_n=-(-product.n // MEDIUM.columns), tiles=tiles,
        slices=slices, slice_steps=_slice_steps(product, precision, slices),
        inner_count=product.batch[1], pairs=pairs,
        a_outer=product.a_steps[0] // per_word, a_inner=product.a_steps[1] // per_word,
        b_outer=product.b_steps[0] // per_word, b_inner=product.b_steps[1] // per_word,
        out_outer=product.out_steps[0], out_inner=product.out_steps[1],
        out_slice=results * product.m * product.n,
    )  # fmt: skip
    return tiles * slices * results, geometry
