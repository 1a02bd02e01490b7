"""Counter-based random numbers: word i is a function of the seed, the stream and i, and needs no state.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) makes four words of 32 bits from a
block number in ten rounds of two multiplications each. A vector holds as many blocks as it has lanes of 64 bits, one
register for each of the four words, so that a product of 32 by 32 bits has room. At the end the words are put in order:

    w0 | w1 << 32:  a0 b0  a1 b1  a2 b2 ...          a0 b0 c0 d0  a1 b1 c1 d1 ...
    w2 | w3 << 32:  c0 d0  c1 d1  c2 d2 ...    ->    (word by word, block after block)

Dropout compares them with the threshold in the registers they are in: there is no array of random numbers. What it
keeps for the way back is one bit an element: 32 times less than to keep the output, and read at the speed of memory.
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
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.parallel import parallel_for
from minicnn.kernels.cpu.simd import INT32, INT64, emit_splat, lanes, load, load_first, prefetch, store, store_first
from minicnn.kernels.cpu.streaming import STREAMING_BYTES, stream
from minicnn.kernels.cpu.vector_math import Mask, select, zeros_like

_ROUNDS = 10
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85  # the golden ratio and sqrt(3) - 1, as fractions of 2**32
_LOW = 0xFFFFFFFF

BLOCKS = max(2, host.lanes(8))
"""Blocks of a vector; two at least, so that the bits of their words fill a byte."""

WORDS = 4 * BLOCKS
"""Words that come out at a time."""

PIECE = 1 << 15
"""Words of one task; a multiple of WORDS."""

_AHEAD = 512
"""How many numbers before they are read they are asked for."""

# ---------------------------------------------------------------------------------------------------- in LLVM's terms


def _shuffle(b: ir.IRBuilder, first: ir.Value, second: ir.Value, order: list[int]) -> ir.Value:
    """The lanes of both vectors, counted on from the first to the second, in that order."""
    return b.shuffle_vector(first, second, ir.Constant(ir.VectorType(INT32, len(order)), order))


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
        # The high halves of words 1 and 3 hold what is left of a product: only the low ones are multiplied or kept.
        product_0 = b.mul(low(words[0]), constant(_MULTIPLIERS[0]))
        product_1 = b.mul(low(words[2]), constant(_MULTIPLIERS[1]))
        words = [
            b.xor(b.xor(high(product_1), words[1]), keys[0]),
            product_1,
            b.xor(b.xor(high(product_0), words[3]), keys[1]),
            product_0,
        ]
    halves = [b.bitcast(word, ir.VectorType(INT32, 2 * BLOCKS)) for word in words]
    order = [lane + 2 * BLOCKS * word for lane in range(0, 2 * BLOCKS, 2) for word in range(2)]
    pairs = [b.bitcast(_shuffle(b, halves[j], halves[j + 1], order), wide) for j in (0, 2)]
    order = [block + BLOCKS * pair for block in range(BLOCKS) for pair in range(2)]
    mixed = _shuffle(b, pairs[0], pairs[1], order)
    return b.bitcast(mixed, ir.VectorType(INT32, WORDS))


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
def _kept(typing_context: Any, block: Any, key: Any, stream: Any, last_dropped: Any) -> Any:
    """A bit for each of the WORDS words of these blocks, the first the lowest: word > last_dropped."""

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        halves = [[b.extract_value(pair, i) for i in range(2)] for pair in arguments[1:3]]
        words = _emit_words(b, arguments[0], *halves)
        kept = b.icmp_unsigned(">", words, emit_splat(b, b.trunc(arguments[3], INT32), WORDS))
        return b.zext(b.bitcast(kept, ir.IntType(WORDS)), INT64)

    return types.int64(types.int64, key, stream, types.int64), code


@intrinsic
def _masks(typing_context: Any, array: Any, bits: Any) -> Any:
    """WORDS bits as masks over vectors of the array's dtype."""
    count = host.lanes(array.dtype.bitwidth // 8)

    def code(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        mask = ir.VectorType(ir.IntType(1), WORDS)
        kept = b.bitcast(b.trunc(arguments[1], ir.IntType(WORDS)), mask)
        parts = []
        for start in range(0, WORDS, count):
            order = ir.Constant(ir.VectorType(INT32, count), list(range(start, start + count)))
            parts.append(b.shuffle_vector(kept, ir.Constant(mask, ir.Undefined), order))
        return context.make_tuple(b, signature.return_type, parts)

    return UniTuple(Mask(count), WORDS // count)(array, types.int64), code


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
def _write_bits(kept, i, count, bits):  # type: ignore[no-untyped-def]
    """The bits of elements i to i + count - 1, of which none are set beyond; i a multiple of WORDS."""
    for byte in range((count + 7) // 8):
        kept[np.uintp(i // 8 + byte)] = (bits >> 8 * byte) & 255


@helper
def _read_bits(kept, i, count):  # type: ignore[no-untyped-def]
    bits = np.int64(0)
    for byte in range((count + 7) // 8):
        bits |= np.int64(kept[np.uintp(i // 8 + byte)]) << 8 * byte
    return bits


@helper
def _scale_kept(x, y, i, count, scale, bits, streaming):  # type: ignore[no-untyped-def]
    """Elements i to i + count - 1: times the scale where their bit is set, else 0."""
    step = lanes(x)
    for mask in _masks(x, bits):
        prefetch(x, i + _AHEAD)
        if count >= step:
            value = load(x, i) * scale
            value = select(mask, value, zeros_like(value))
            if streaming:
                stream(y, i, value)
            else:
                store(y, i, value)
        elif count > 0:
            value = load_first(x, i, count) * scale
            store_first(y, i, select(mask, value, zeros_like(value)), count)
        i += step
        count -= step


@helper
def _piece_of_dropout(task, x, y, kept, scale, last_dropped, key, stream_id, streaming):  # type: ignore[no-untyped-def]
    stop = min((task + 1) * PIECE, x.size)
    whole = task * PIECE + (stop - task * PIECE) // WORDS * WORDS
    for i in range(task * PIECE, whole, WORDS):
        bits = _kept(i // 4, key, stream_id, last_dropped)
        _write_bits(kept, i, WORDS, bits)
        _scale_kept(x, y, i, WORDS, scale, bits, streaming)
    if whole < stop:
        bits = _kept(whole // 4, key, stream_id, last_dropped) & ((1 << (stop - whole)) - 1)
        _write_bits(kept, whole, stop - whole, bits)
        _scale_kept(x, y, whole, stop - whole, scale, bits, False)


@kernel
def _dropout(x, y, kept, scale, last_dropped, key, stream_id, streaming):  # type: ignore[no-untyped-def]
    """x, y, kept flat."""
    arguments = (x, y, kept, scale, last_dropped, key, stream_id, streaming)
    parallel_for(_piece_of_dropout, (x.size + PIECE - 1) // PIECE, arguments)


def dropout(x: Array, rate: float, seed: int, stream: int) -> tuple[Array, Array]:
    """x of any shape -> y of the same shape, zero where the element's word falls below the rate, and the bits of those
    that do not."""
    y, kept = buffers.empty(x.shape, x.dtype), buffers.empty((-(-x.size // 8),), np.uint8)
    threshold = round(rate * 2**32)
    if threshold == 0:
        np.multiply(x, x.dtype.type(1 / (1 - rate)), out=y)
        return y, np.packbits(np.ones(x.size, bool), bitorder="little")
    _dropout(
        x.reshape(-1), y.reshape(-1), kept, 1 / (1 - rate), threshold - 1, _halves(seed), _halves(stream),
        2 * y.nbytes > STREAMING_BYTES,
    )  # fmt: skip
    return y, kept


@helper
def _piece_of_backward(task, gy, gx, kept, scale, streaming):  # type: ignore[no-untyped-def]
    stop = min((task + 1) * PIECE, gy.size)
    whole = task * PIECE + (stop - task * PIECE) // WORDS * WORDS
    for i in range(task * PIECE, whole, WORDS):
        _scale_kept(gy, gx, i, WORDS, scale, _read_bits(kept, i, WORDS), streaming)
    if whole < stop:
        _scale_kept(gy, gx, whole, stop - whole, scale, _read_bits(kept, whole, stop - whole), False)


@kernel
def _dropout_backward(gy, gx, kept, scale, streaming):  # type: ignore[no-untyped-def]
    parallel_for(_piece_of_backward, (gy.size + PIECE - 1) // PIECE, (gy, gx, kept, scale, streaming))


def dropout_backward(gy: Array, kept: Array, rate: float) -> Array:
    """gy of any shape and the bits of dropout -> the same shape."""
    gx = buffers.empty(gy.shape, gy.dtype)
    _dropout_backward(gy.reshape(-1), gx.reshape(-1), kept, 1 / (1 - rate), 2 * gx.nbytes > STREAMING_BYTES)
    return gx
