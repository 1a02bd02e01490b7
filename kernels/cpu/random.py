"""Counter-based random numbers: word i is a function of the seed, the stream and i, and needs no state.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) makes four words of 32 bits from a
block number in ten rounds of two multiplications each. A vector holds as many blocks as it has lanes of 64 bits, one
register for each of the four words, so that a product of 32 by 32 bits has room. At the end the words are put in order:

    w0 | w1 << 32:  a0 b0  a1 b1  a2 b2 ...          a0 b0 c0 d0  a1 b1 c1 d1 ...
    w2 | w3 << 32:  c0 d0  c1 d1  c2 d2 ...    ->    (word by word, block after block)

Dropout compares them with the threshold in the registers they are in: there is no array of random numbers, nor a mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.types.containers import UniTuple
from numba.extending import intrinsic

from minicnn.kernels.contract import Array
from minicnn.kernels.cpu import buffers, host
from minicnn.kernels.cpu.column_sums import read, write
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.parallel import parallel_for
from minicnn.kernels.cpu.simd import INT32, INT64, emit_splat, lanes
from minicnn.kernels.cpu.vector_math import Mask, select, zeros_like

_ROUNDS = 10
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85  # the golden ratio and sqrt(3) - 1, as fractions of 2**32
_LOW = 0xFFFFFFFF

BLOCKS = host.lanes(8)
"""Blocks of a vector."""

WORDS = 4 * BLOCKS
"""Words that come out at a time."""

PIECE = 1 << 15
"""Words of one task; a multiple of WORDS."""

# ---------------------------------------------------------------------------------------------------- in LLVM's terms


def _emit_words(b: ir.IRBuilder, block: ir.Value, key: list[ir.Value], stream: list[ir.Value]) -> ir.Value:
    """Words of BLOCKS blocks from `block` on, a vector of WORDS int32; all arguments int64, halves below 2**32."""
    wide = ir.VectorType(INT64, BLOCKS)

    def constant(number: int) -> ir.Value:
        return ir.Constant(wide, [number] * BLOCKS)

    def low(value: ir.Value) -> ir.Value:
        return b.and_(value, constant(_LOW))

    def high(value: ir.Value) -> ir.Value:
        return b.lshr(value, constant(32))

    blocks = b.add(emit_splat(b, block, BLOCKS), ir.Constant(wide, list(range(BLOCKS))))
    words = [low(blocks), high(blocks), *(emit_splat(b, half, BLOCKS) for half in stream)]
    for i in range(_ROUNDS):
        keys = [
            emit_splat(b, b.and_(b.add(half, INT64(i * step)), INT64(_LOW)), BLOCKS)
            for half, step in zip(key, _KEY_STEPS, strict=True)
        ]
        product_0 = b.mul(words[0], constant(_MULTIPLIERS[0]))
        product_1 = b.mul(words[2], constant(_MULTIPLIERS[1]))
        words = [
            b.xor(b.xor(high(product_1), words[1]), keys[0]),
            low(product_1),
            b.xor(b.xor(high(product_0), words[3]), keys[1]),
            low(product_0),
        ]
    first, second = (b.or_(words[j], b.shl(words[j + 1], constant(32))) for j in (0, 2))
    order = [block + BLOCKS * half for block in range(BLOCKS) for half in range(2)]
    pairs = b.shuffle_vector(first, second, ir.Constant(ir.VectorType(INT32, 2 * BLOCKS), order))
    return b.bitcast(pairs, ir.VectorType(INT32, WORDS))


@intrinsic
def _store_words(typing_context: Any, array: Any, index: Any, block: Any, key: Any, stream: Any) -> Any:
    """array[index : index + WORDS] = the words of BLOCKS blocks; array flat uint32, key and stream (low, high)."""

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        halves = [[b.extract_value(pair, i) for i in range(2)] for pair in arguments[3:]]
        words = _emit_words(b, arguments[2], *halves)
        data = context.make_array(array)(context, b, arguments[0]).data
        pointer = b.gep(data, [arguments[1]], source_etype=INT32)
        b.store(words, b.bitcast(pointer, words.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, key, stream), code


@intrinsic
def _kept(typing_context: Any, array: Any, block: Any, key: Any, stream: Any, last_dropped: Any) -> Any:
    """Masks over vectors of the array's dtype, for the WORDS elements of these blocks: word > last_dropped."""
    count = host.lanes(array.dtype.bitwidth // 8)

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        halves = [[b.extract_value(pair, i) for i in range(2)] for pair in arguments[2:4]]
        words = _emit_words(b, arguments[1], *halves)
        limit = emit_splat(b, b.trunc(arguments[4], INT32), WORDS)
        kept = b.icmp_unsigned(">", words, limit)
        parts = []
        for start in range(0, WORDS, count):
            order = ir.Constant(ir.VectorType(INT32, count), list(range(start, start + count)))
            parts.append(b.shuffle_vector(kept, ir.Constant(kept.type, ir.Undefined), order))
        return context.make_tuple(b, signature.return_type, parts)

    masks = UniTuple(Mask(count), WORDS // count)
    return masks(array, types.int64, key, stream, types.int64), code


# ---------------------------------------------------------------------------------------------------- words


@helper
def _piece_of_words(task, words, whole, key, stream):  # type: ignore[no-untyped-def]
    start = task * PIECE
    for i in range(start, min(start + PIECE, whole), WORDS):
        _store_words(words, i, i // 4, key, stream)


@kernel
def _philox_words(words, last, key, stream):  # type: ignore[no-untyped-def]
    """words flat uint32; last (WORDS,) scratch for those of which only some are wanted."""
    whole = words.size // WORDS * WORDS
    parallel_for(_piece_of_words, (whole + PIECE - 1) // PIECE, (words, whole, key, stream))
    if whole < words.size:
        _store_words(last, 0, whole // 4, key, stream)
        for i in range(whole, words.size):
            words[i] = last[i - whole]


def philox_words(count: int, seed: int, stream: int) -> Array:
    """The first `count` words of a stream, (count,) uint32."""
    words = buffers.empty((count,), np.uint32)
    _philox_words(words, np.empty(WORDS, np.uint32), _halves(seed), _halves(stream))
    return words


def _halves(number: int) -> tuple[int, int]:
    """The low and the high 32 of a number's 64 bits."""
    return number & _LOW, (number >> 32) & _LOW


# ---------------------------------------------------------------------------------------------------- dropout


@helper
def _piece_of_dropout(task, x, y, scale, last_dropped, key, stream):  # type: ignore[no-untyped-def]
    step = lanes(x)
    start = task * PIECE
    stop = min(start + PIECE, x.size)
    for i in range(start, stop, WORDS):
        masks = _kept(x, i // 4, key, stream, last_dropped)
        place = i
        for mask in masks:
            count = min(step, stop - place)
            if count > 0:
                value = read(x, place, count) * scale
                write(y, place, select(mask, value, zeros_like(value)), count)
            place += step


@kernel
def _dropout(x, y, scale, last_dropped, key, stream):  # type: ignore[no-untyped-def]
    """x, y flat."""
    tasks = (x.size + PIECE - 1) // PIECE
    parallel_for(_piece_of_dropout, tasks, (x, y, scale, last_dropped, key, stream))


def dropout(x: Array, rate: float, seed: int, stream: int) -> Array:
    """x of any shape -> the same shape, zero where the element's word falls below the rate."""
    y = buffers.empty(x.shape, x.dtype)
    scale, threshold = 1 / (1 - rate), round(rate * 2**32)
    if threshold == 0:
        np.multiply(x, x.dtype.type(scale), out=y)
    else:
        _dropout(x.reshape(-1), y.reshape(-1), float(scale), threshold - 1, _halves(seed), _halves(stream))
    return y
