"""What the emulator computes: warp operations, atomics, asynchronous copies, tensor cores, numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.gpu import emulator
from tests.gpu.emulator import KernelError

pytestmark = pytest.mark.skipif(
    emulator.find_compiler() is None, reason="g++ is not there: the emulator cannot be built"
)

ORDERS = ("forward", "reverse", "random")
Array = np.ndarray[Any, Any]


def same_in_all_orders(kernel: Any, grid: int, block: int, make: Callable[[], tuple[Any, ...]], output: int) -> Array:
    """One argument after the launch, made afresh for each order of the threads; all must agree to the bit."""
    results = []
    for order in ORDERS:
        given = make()
        with emulator.thread_order(order, seed=1):
            kernel((grid,), (block,), given)
        results.append(given[output])
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()
    return results[0]


# --------------------------------------------------------------------------------------------------- warps


SHUFFLES = """
extern "C" __global__ void shuffles(const float* x, float* y, int width) {
    const unsigned all = 0xffffffff;
    const int i = threadIdx.x;
    y[i] = __shfl_sync(all, x[i], i * 7 % 32, width);
    y[64 + i] = __shfl_up_sync(all, x[i], 3, width);
    y[128 + i] = __shfl_down_sync(all, x[i], 5, width);
    y[192 + i] = __shfl_xor_sync(all, x[i], 6, width);
}
extern "C" __global__ void votes(const int* x, unsigned* y) {
    const int i = threadIdx.x;
    const unsigned half = i < 16 ? 0x0000ffff : 0xffff0000;  // two halves of a warp, apart from each other
    y[i] = __ballot_sync(half, x[i]);
    y[32 + i] = __any_sync(half, x[i] > 8);
    y[64 + i] = __all_sync(half, x[i] < 9);
}
extern "C" __global__ void wide(const double* x, double* y) {
    const int i = threadIdx.x;
    y[i] = __shfl_down_sync(0xffffffff, x[i], 1);
    const float4 v = __shfl_sync(0xffffffff, make_float4(i, -i, 2 * i, 0), 5);
    y[32 + i] = v.x + 100 * v.y + 10000 * v.z;
}
extern "C" __global__ void of_the_living(float* y) {
    if (threadIdx.x >= 24) return;
    y[threadIdx.x] = __shfl_sync(0xffffffff, float(threadIdx.x), threadIdx.x + 8);
}
"""


@pytest.fixture(scope="module")
def warp_kernels() -> emulator.RawModule:
    return emulator.RawModule(code=SHUFFLES)


@pytest.mark.parametrize("width", [2, 4, 8, 16, 32])
def test_shuffles_take_from_the_lane_that_cuda_says(warp_kernels: emulator.RawModule, width: int) -> None:
    x = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    kernel = warp_kernels.get_function("shuffles")
    make = lambda: (x, np.full(256, np.nan, np.float32), np.int32(width))  # noqa: E731
    y = same_in_all_orders(kernel, 1, 64, make, 1).reshape(4, 2, 32)
    lanes = np.arange(32)
    first = lanes // width * width  # of the lane's segment
    source = np.stack(
        [
            first + lanes * 7 % 32 % width,
            np.where(lanes - 3 >= first, lanes - 3, lanes),
            np.where(lanes + 5 < first + width, lanes + 5, lanes),
            np.where((lanes ^ 6) < first + width, lanes ^ 6, lanes),
        ]
    )
    for warp in range(2):
        assert np.array_equal(y[:, warp], x.reshape(2, 32)[warp][source])


def test_votes_of_two_halves_of_a_warp(warp_kernels: emulator.RawModule) -> None:
    x = np.array([i % 3 if i < 16 else 9 * (i % 2) for i in range(32)], np.int32)
    make = lambda: (x, np.zeros(96, np.uint32))  # noqa: E731
    ballots, some, every = same_in_all_orders(warp_kernels.get_function("votes"), 1, 32, make, 1).reshape(3, 32)
    votes = int(sum(1 << i for i in range(32) if x[i]))
    assert np.array_equal(ballots, [votes & 0xFFFF] * 16 + [votes & 0xFFFF0000] * 16)
    assert np.array_equal(some, [0] * 16 + [1] * 16)
    assert np.array_equal(every, [1] * 16 + [0] * 16)


def test_shuffles_of_doubles_and_vectors(warp_kernels: emulator.RawModule) -> None:
    x = np.random.default_rng(0).standard_normal(32)
    y = same_in_all_orders(warp_kernels.get_function("wide"), 1, 32, lambda: (x, np.zeros(64)), 1)
    assert np.array_equal(y[:32], [*x[1:], x[31]])
    assert np.array_equal(y[32:], np.full(32, 5 - 500 + 100000))


def test_a_shuffle_from_a_thread_that_returned_is_poison(warp_kernels: emulator.RawModule) -> None:
    make = lambda: (np.zeros(24, np.float32),)  # noqa: E731
    y = same_in_all_orders(warp_kernels.get_function("of_the_living"), 1, 32, make, 0)
    assert np.array_equal(y[:16], np.arange(8, 24))
    assert np.isnan(y[16:]).all()


# --------------------------------------------------------------------------------------------------- atomics


def test_atomics() -> None:
    code = """
    extern "C" __global__ void k(const int* x, int* integers, float* floats, unsigned long long* words,
                                 unsigned* wrap) {
        const int i = blockIdx.x * blockDim.x + threadIdx.x;
        atomicAdd(&integers[0], x[i]);
        atomicMax(&integers[1], x[i]);
        atomicMin(&integers[2], x[i]);
        atomicXor(&integers[3], x[i]);
        int seen = integers[4], now;  // a product modulo 1009, by compare and swap
        do { now = seen; seen = atomicCAS(&integers[4], now, now * (x[i] + 100) % 1009); } while (seen != now);
        atomicAdd(&floats[0], float(x[i]));
        atomicAdd(&words[0], 1ull << 33);
        atomicInc(&wrap[0], 99);
    }
    """
    x = np.random.default_rng(0).integers(-50, 50, 256).astype(np.int32)
    kernel = emulator.RawModule(code=code).get_function("k")
    floats, words, wrap = np.zeros(1, np.float32), np.zeros(1, np.uint64), np.zeros(1, np.uint32)
    start = np.array([0, -99, 99, 0, 1], np.int32)
    integers = same_in_all_orders(kernel, 4, 64, lambda: (x, start.copy(), floats, words, wrap), 1)
    product = 1
    for value in x:
        product = product * (int(value) + 100) % 1009
    assert np.array_equal(integers, [x.sum(), x.max(), x.min(), np.bitwise_xor.reduce(x), product])
    assert floats[0] == 3 * x.sum()
    assert words[0] == 3 * 256 << 33
    assert wrap[0] == 3 * 256 % 100


# --------------------------------------------------------------------------------------------------- cp.async


def copying(body: str) -> Any:
    code = f"""extern "C" __global__ void k(const float* x, float* y) {{
        __shared__ __align__(16) float s[3][32][4];
        const int i = threadIdx.x;
        {body}
    }}"""
    return emulator.RawModule(code=code).get_function("k")


def test_a_copy_is_there_once_it_was_waited_for_and_not_before() -> None:
    kernel = copying("""
        for (int stage = 0; stage < 3; ++stage) {
            emulator::cp_async16(s[stage][i], x + 4 * i + 128 * stage, 16 - 4 * stage);
            emulator::cp_commit();
        }
        emulator::cp_wait(1);  // the first two
        for (int stage = 0; stage < 3; ++stage) y[128 * stage + 4 * i + 3] = s[stage][i][3];
        for (int stage = 0; stage < 3; ++stage) y[128 * stage + 4 * i + 1] = s[stage][i][1];
        emulator::cp_wait(0);
        y[256 + 4 * i] = s[2][i][0];
        y[256 + 4 * i + 2] = s[2][i][2];
    """)
    x = np.arange(1, 385, dtype=np.float32)
    make = lambda: (x, np.zeros(384, np.float32))  # noqa: E731
    y = same_in_all_orders(kernel, 1, 32, make, 1).reshape(3, 32, 4)
    x = x.reshape(3, 32, 4)
    assert np.array_equal(y[0, :, 3], x[0, :, 3])
    assert np.array_equal(y[1, :, 3], np.zeros(32))  # 12 valid bytes: the rest is zero
    assert np.array_equal(y[1, :, 1], x[1, :, 1])
    assert np.isnan(y[2][:, [1, 3]]).all()  # read while it was on its way
    assert np.array_equal(y[2, :, 0], x[2, :, 0])
    assert np.array_equal(y[2, :, 2], np.zeros(32))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("cp_async16(&s[0][i][1], x)", "misaligned cp.async destination at kernel.cu:4"),
        ("cp_async16(s[0][i], x + 1)", "misaligned cp.async source"),
        ("cp_async8(&s[0][i][1], x)", "misaligned cp.async destination"),
        ("cp_async16(y, x)", "not shared memory"),
        ("cp_async16(s[0][i], x, 20)", "more valid bytes than it copies"),
    ],
)
def test_what_a_copy_may_not_do(call: str, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        copying(f"emulator::{call};")((1,), (32,), (np.zeros(384, np.float32), np.zeros(384, np.float32)))


# --------------------------------------------------------------------------------------------------- tensor cores


def bf16_bits(x: Array) -> Array:
    """float32 to bfloat16, to nearest even: NumPy has no such type."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def bf16_values(bits: Array) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


MMA = """
// Each warp multiplies a (16, K) by b (K, 8), and adds the product twice to what d (16, 8) holds. The fragments are
// read by the tables of the PTX manual: element i of a is at row g (+ 8 for odd registers), and so on.
extern "C" __global__ void tf32(const float* a, const float* b, float* d) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    uint32_t fa[4], fb[2];
    for (int i = 0; i < 4; ++i) fa[i] = __float_as_uint(a[(g + 8 * (i % 2)) * 8 + t + 4 * (i / 2)]);
    for (int i = 0; i < 2; ++i) fb[i] = __float_as_uint(b[(t + 4 * i) * 8 + g]);
    float fd[4];
    for (int i = 0; i < 4; ++i) fd[i] = d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2];
    for (int twice = 0; twice < 2; ++twice) emulator::mma_m16n8k8_tf32(fd, fa, fb);
    for (int i = 0; i < 4; ++i) d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = fd[i];
}
extern "C" __global__ void bf16(const unsigned short* a, const unsigned short* b, float* d) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    unsigned short ha[8], hb[4];
    for (int i = 0; i < 8; ++i) ha[i] = a[(g + 8 * (i / 2 % 2)) * 16 + 2 * t + i % 2 + 8 * (i / 4)];
    for (int i = 0; i < 4; ++i) hb[i] = b[(2 * t + i % 2 + 8 * (i / 2)) * 8 + g];
    uint32_t fa[4], fb[2];
    for (int i = 0; i < 4; ++i) fa[i] = ha[2 * i] | ha[2 * i + 1] << 16;
    for (int i = 0; i < 2; ++i) fb[i] = hb[2 * i] | hb[2 * i + 1] << 16;
    float fd[4] = {};
    emulator::mma_m16n8k16_bf16(fd, fa, fb);
    for (int i = 0; i < 4; ++i) d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = fd[i];
}
// The same product with fragments loaded by ldmatrix: a from rows, b (K, 8) by columns from its rows.
extern "C" __global__ void loaded(const unsigned short* a, const unsigned short* b, float* d) {
    __shared__ __align__(16) unsigned short sa[16][16], sb[16][8];
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    for (int i = lane; i < 256; i += 32) sa[i / 16][i % 16] = a[i];
    for (int i = lane; i < 128; i += 32) sb[i / 8][i % 8] = b[i];
    __syncthreads();
    uint32_t fa[4], fb[2];
    emulator::ldmatrix_x4(fa, &sa[lane % 16][lane / 16 * 8]);
    emulator::ldmatrix_x2_trans(fb, sb[lane % 16]);
    float fd[4] = {};
    emulator::mma_m16n8k16_bf16(fd, fa, fb);
    for (int i = 0; i < 4; ++i) d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = fd[i];
}
"""


@pytest.fixture(scope="module")
def mma_kernels() -> emulator.RawModule:
    return emulator.RawModule(code=MMA)


def test_mma_of_tf32(mma_kernels: emulator.RawModule, rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((16, 8), np.float32), rng.standard_normal((8, 8), np.float32)
    d = rng.standard_normal((16, 8), np.float32)
    got = same_in_all_orders(mma_kernels.get_function("tf32"), 1, 32, lambda: (a, b, d.copy()), 2)
    cut = lambda x: (x.view(np.uint32) & 0xFFFFE000).view(np.float32).astype(np.float64)  # noqa: E731
    np.testing.assert_allclose(got, d + 2 * (cut(a) @ cut(b)), rtol=0, atol=1e-5)
    assert not np.allclose(got, d + 2 * (a.astype(np.float64) @ b), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernel", ["bf16", "loaded"])
def test_mma_of_bf16(mma_kernels: emulator.RawModule, rng: np.random.Generator, kernel: str) -> None:
    a, b = bf16_bits(rng.standard_normal((16, 16))), bf16_bits(rng.standard_normal((16, 8)))
    make = lambda: (a, b, np.full((16, 8), np.nan, np.float32))  # noqa: E731
    got = same_in_all_orders(mma_kernels.get_function(kernel), 1, 32, make, 2)
    np.testing.assert_allclose(got, bf16_values(a).astype(np.float64) @ bf16_values(b), rtol=0, atol=1e-5)


def test_mma_needs_a_whole_warp(mma_kernels: emulator.RawModule) -> None:
    d = np.zeros((16, 8), np.float32)
    with pytest.raises(KernelError, match="fewer than 32 threads"):
        mma_kernels.get_function("tf32")((1,), (16,), (np.zeros((16, 8), np.float32), d, d))


# --------------------------------------------------------------------------------------------------- numbers


def test_short_floats_are_rounded_to_nearest_even(rng: np.random.Generator) -> None:
    code = """
    #include <cuda_fp16.h>
    #include <cuda_bf16.h>
    extern "C" __global__ void k(const float* x, __half* h, __nv_bfloat16* b, float* back, int n) {
        for (int i = threadIdx.x; i < n; i += blockDim.x) {
            h[i] = __float2half(x[i]);
            b[i] = __float2bfloat16(x[i]);
            back[i] = __half2float(h[i]) + __bfloat162float(b[i]);
        }
    }
    """
    ties = (np.arange(64) * 2 + 1) / 4096 + 1  # halfway between two of them
    special = [0, -0.0, np.inf, -np.inf, 65504, 65519, 65520, 1e30, 6e-8, 2.9e-8, 6.1e-5, 5e-41]
    x = np.concatenate([rng.standard_normal(500) * 10.0 ** rng.integers(-9, 9, 500), ties, special]).astype(np.float32)
    half, bfloat, back = np.zeros(x.size, np.float16), np.zeros(x.size, np.uint16), np.zeros(x.size, np.float32)
    with emulator.denormals():
        emulator.RawModule(code=code).get_function("k")((1,), (32,), (x, half, bfloat, back, np.int32(x.size)))
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    assert half.tobytes() == expected.tobytes()
    assert np.array_equal(bfloat, bf16_bits(x))
    assert np.array_equal(back, expected.astype(np.float32) + bf16_values(bfloat))


def test_mathematics_of_the_device() -> None:
    code = """
    extern "C" __global__ void k(double* y) {
        y[0] = rsqrtf(4.0f); y[1] = __expf(1.0f); y[2] = __umulhi(1u << 31, 6); y[3] = __popc(0xf0f0); y[4] = __clz(1);
        y[5] = __brev(1u) == 1u << 31; y[6] = max(3, -4) + min(2.0f, 5.0f); y[7] = __float2int_rn(2.5f);
        y[8] = __funnelshift_l(0x80000000u, 1, 1); y[9] = fmaxf(NAN, 2.0f); y[10] = __ffs(8); y[11] = erff(0.5f);
        y[12] = __fmul_rn(1.0f + 1.0f / 4096, 1.0f + 1.0f / 4096) - 1.0f; y[13] = isnan(CUDART_NAN_F);
        y[14] = __umul64hi(1ull << 63, 6); y[15] = __uint_as_float(0x40490fdb); y[16] = __saturatef(1.5f);
    }
    """
    y = np.full(17, np.nan)
    emulator.RawModule(code=code).get_function("k")((1,), (1,), (y,))
    expected = [0.5, np.e, 3, 8, 31, 1, 5, 2, 3, 2, 4, 0.5204998778, 2 / 4096, 1, 3, np.pi, 1]
    np.testing.assert_allclose(y, expected, rtol=1e-6)
