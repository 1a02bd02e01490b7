"""Matrix products on the device: one entrance, and the choice of who multiplies.

    out = act(op(a) @ op(b) + beta * out + bias)

cuBLAS multiplies where it is installed; else the kernels of gemm.cu and gemm_tc.cu, which need nothing but the driver.
M rows and N columns of the result, K the axis summed over.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from minicnn.kernels import settings
from minicnn.kernels.contract import Array, EpilogueName
from minicnn.kernels.gpu import cublas, gemm_tc
from minicnn.kernels.gpu.activation_codes import CODES
from minicnn.kernels.gpu.gemm_plan import Plan, Product, plan, products_of
from minicnn.kernels.gpu.launch import THREADS, blocks_for
from minicnn.kernels.gpu.loader import module
from minicnn.kernels.gpu.mma_words import precision_for
from minicnn.kernels.gpu.runtime import cp

_FILE = "gemm.cu"
_PACK_BYTES = 16
"""What the kernels read or write at a time where they can."""

_LIMITS = {None: (-math.inf, math.inf), "relu": (0.0, math.inf), "relu6": (0.0, 6.0)}
"""Activations that only clamp: the product's own kernel does them in passing."""

_WARP = 32
_ENOUGH_THREADS = 1 << 18
"""All that a large GPU holds at once."""

_MOST_BLOCKS_BELOW = 65535
"""The largest second axis of a grid."""


def gemm(
    a: Array,
    b: Array,
    out: Array | None = None,
    transpose_a: bool = False,
    transpose_b: bool = False,
    beta: float = 0.0,
    bias: Array | None = None,
    activation: EpilogueName | None = None,
    precision: settings.Precision | None = None,
) -> Array:
    """act(op(a) @ op(b) + beta * out + bias), into `out` where it is given.

    a          (..., M, K), or (..., K, M) with transpose_a
    b          (..., K, N), or (..., N, K) with transpose_b; leading axes broadcast as in numpy.matmul
    out        (..., M, N); it is read where beta is not 0
    bias       (N,), added to every row
    precision  in which numbers float32 is multiplied; None: as settings.precision says
    """
    shape, products = products_of(a.shape, b.shape, transpose_a, transpose_b)
    if out is None:
        out = cp.empty(shape, a.dtype)
    for product in products:
        multiply(product, a, b, out, beta, bias, activation, precision)
    return out


def multiply(
    product: Product,
    a: Array,
    b: Array,
    out: Array,
    beta: float = 0.0,
    bias: Array | None = None,
    activation: EpilogueName | None = None,
    precision: settings.Precision | None = None,
) -> None:
    """One product, or many at one distance from another, among the numbers of three arrays of any shapes.

    cuBLAS and gemm_tc.cu round float32 to the precision; gemm.cu multiplies what both refuse, as it is.
    """
    if product.m == 0 or product.n == 0 or 0 in product.batch:
        return
    library = cublas.find() if product.k else None
    if library is None:
        rounded = precision_for(a.dtype, precision)
        if rounded and gemm_tc.supports(product, a, b, rounded):
            _multiply_on_tensor_cores(product, a, b, out, beta, bias, activation, rounded)
        else:
            _multiply_in_tiles(product, a, b, out, beta, bias, activation)
        return
    precision = "fp32" if a.dtype == np.float64 else precision or settings.precision
    if precision == "bf16":
        a, b = _to_bf16(a), _to_bf16(b)
    library.multiply(product, a, b, out, beta, precision)
    if bias is not None or activation is not None:
        _finish(product, None, 0, out, 1.0, bias, activation)


def _multiply_on_tensor_cores(
    product: Product,
    a: Array,
    b: Array,
    out: Array,
    beta: float,
    bias: Array | None,
    activation: EpilogueName | None,
    precision: settings.Precision,
) -> None:
    """By the kernels of gemm_tc.cu, in one launch or two as those of gemm.cu."""
    slices = gemm_tc.slices_of(product, precision)
    if slices == 1 and activation in _LIMITS:
        gemm_tc.launch(product, slices, a, b, out, beta, bias, _LIMITS[activation], precision)
        return
    partial = cp.empty((slices, *product.batch, product.m, product.n), a.dtype)
    gemm_tc.launch(product.contiguous_out(), slices, a, b, partial, 0.0, None, _LIMITS[None], precision)
    _finish(product, partial, slices, out, beta, bias, activation)


def _multiply_in_tiles(
    product: Product,
    a: Array,
    b: Array,
    out: Array,
    beta: float,
    bias: Array | None,
    activation: EpilogueName | None,
) -> None:
    """By the kernels of gemm.cu: in one launch; in two where sums are cut up or act does more than clamp."""
    chosen = plan(product, a.itemsize)
    if chosen.slices == 1 and activation in _LIMITS:
        _launch(product, chosen, a, b, out, beta, bias, *_LIMITS[activation])
        return
    partial = cp.empty((chosen.slices, *product.batch, product.m, product.n), a.dtype)
    _launch(product.contiguous_out(), chosen, a, b, partial, 0.0, None, *_LIMITS[None])
    _finish(product, partial, chosen.slices, out, beta, bias, activation)


def _launch(
    product: Product,
    chosen: Plan,
    a: Array,
    b: Array,
    out: Array,
    beta: float,
    bias: Array | None,
    low: float,
    high: float,
) -> None:
    """out = clamp(op(a) @ op(b) + beta * out + bias); with several slices, out is (slices, products, M, N)."""
    kernel = module(_FILE, a.dtype).kernel(f"gemm_{chosen.tile.rows}x{chosen.tile.columns}")
    a, b, out = _from(a, product.a_start), _from(b, product.b_start), _from(out, product.out_start)
    geometry = _geometry(product, chosen, (_is_aligned(a), _is_aligned(b), _is_aligned(out)), a.dtype.name)
    kernel((chosen.blocks,), THREADS, a, b, bias, out, geometry, beta, low, high)


def _from(array: Array, start: int) -> Array:
    """The numbers from the start on, flat."""
    return array.reshape(-1)[start:] if start else array


def _is_aligned(array: Array) -> bool:
    return array.data.ptr % _PACK_BYTES == 0


@lru_cache(maxsize=4096)
def _geometry(product: Product, chosen: Plan, aligned: tuple[bool, bool, bool], dtype: str) -> Any:
    """The struct Gemm of gemm.cu."""
    lanes = _PACK_BYTES // np.dtype(dtype).itemsize
    (a_outer, a_inner), (b_outer, b_inner), (out_outer, out_inner) = product.a_steps, product.b_steps, product.out_steps
    steps = (product.lda, a_outer, a_inner), (product.ldb, b_outer, b_inner), (product.ldc, out_outer, out_inner)
    packs = [begins and all(step % lanes == 0 for step in own) for begins, own in zip(aligned, steps, strict=True)]
    tiles = chosen.tile.tiles(product.m, product.n)
    return module(_FILE, dtype).struct(
        "Gemm",
        m=product.m, n=product.n, k=product.k,
        transpose_a=product.transpose_a, transpose_b=product.transpose_b,
        lda=product.lda, ldb=product.ldb, ldc=product.ldc,
        packs_a=packs[0], packs_b=packs[1], packs_out=packs[2],
        tiles_n=tiles[1], tiles=math.prod(tiles),
        slices=chosen.slices, slice_terms=chosen.slice_terms,
        inner_count=product.batch[1],
        a_outer=a_outer, a_inner=a_inner, b_outer=b_outer, b_inner=b_inner, out_outer=out_outer, out_inner=out_inner,
        out_slice=math.prod(product.batch) * product.m * product.n,
    )  # fmt: skip


def _finish(
    product: Product,
    partial: Array | None,
    slices: int,
    out: Array,
    beta: float,
    bias: Array | None,
    activation: EpilogueName | None,
) -> None:
    """out = act(sum of the slices of partial (slices, products, M, N) + beta * out + bias)."""
    grid, geometry = _finish_geometry(product, slices, out.dtype.name)
    kernel = module(_FILE, out.dtype).kernel("gemm_finish")
    kernel(grid, THREADS, partial, bias, _from(out, product.out_start), geometry, beta, CODES[activation])


@lru_cache(maxsize=4096)
def _finish_geometry(product: Product, slices: int, dtype: str) -> tuple[tuple[int, int], Any]:
    """Grid and struct Finish of gemm.cu. Results that lie one after another are one long result."""
    products, size = math.prod(product.batch), product.m * product.n
    if product._replace(out_start=0) == product.contiguous_out():
        products, size = 1, products * size
    sharers = 1
    while 2 * sharers <= min(slices, THREADS // _WARP) and products * size * sharers < _ENOUGH_THREADS:
        sharers *= 2
    geometry = module(_FILE, dtype).struct(
        "Finish",
        n=product.n, ldc=product.ldc, slices=slices, sharers=sharers,
        products=products, inner_count=product.batch[1],
        size=size, out_outer=product.out_steps[0], out_inner=product.out_steps[1],
    )  # fmt: skip
    return (-(-size * sharers // THREADS), min(products, _MOST_BLOCKS_BELOW)), geometry


def _to_bf16(x: Array) -> Array:
    """float32 of any shape -> the same numbers as bfloat16, in an array of uint16."""
    y = cp.empty(x.shape, np.uint16)
    module(_FILE, x.dtype).kernel("gemm_to_bf16")(blocks_for(x.size), THREADS, x, y, x.size)
    return y
