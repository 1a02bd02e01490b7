"""The emulator itself: every check that it claims to make fires, and what it computes is what CUDA defines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.gpu import emulator
from tests.gpu.emulator import CompileError, KernelError, LaunchError
from tests.gpu.emulator import compiler as emulator_compiler

pytestmark = pytest.mark.skipif(
    emulator.find_compiler() is None, reason="g++ is not there: the emulator cannot be built"
)

ORDERS = ("forward", "reverse", "random")

COPY = 'extern "C" __global__ void copy(const float* x, float* y, int n) { for (int i = 0; i < n; ++i) y[i] = x[i]; }'


def function(body: str, parameters: str = "float* y", name: str = "k", before: str = "", **options: Any) -> Any:
    """The one kernel of a text that is put together here."""
    code = f'{before}\nextern "C" __global__ void {name}({parameters}) {{ {body} }}'
    return emulator.RawModule(code=code, **options).get_function(name)


def nans(*shape: int) -> np.ndarray[Any, Any]:
    return np.full(shape, np.nan, np.float32)


# --------------------------------------------------------------------------------------------------- compiling


def test_kernels_are_found_after_the_preprocessor() -> None:
    code = """
    // extern "C" __global__ void in_a_comment() {}
    #define KERNEL(name) extern "C" __global__ void name##_f32(float* y) { y[0] = 1; }
    KERNEL(made)
    #if SIZE > 4
    extern "C" __global__ void __launch_bounds__(SIZE * 8, 2) large(float* y) { y[0] = SIZE; }
    #else
    extern "C" __global__ void small(float* y) { y[0] = 2; }
    #endif
    template <class T> __global__ void generic(T* y) { y[0] = 3; }
    """
    assert emulator.list_kernels(code, ("-DSIZE=8",)) == {"made_f32": "", "large": "8 * 8, 2"}
    module = emulator.RawModule(code=code, options=("-DSIZE=8",), name_expressions=("generic<double>",))
    assert module.kernels == ["made_f32", "large", "generic<double>"]
    assert module.get_function("large").max_threads_per_block == 64
    y = np.zeros(1)
    module.get_function("generic<double>")((1,), (1,), (y,))
    assert y[0] == 3
    with pytest.raises(CompileError, match=r"named symbol not found\. Received: 'small'"):
        module.get_function("small")


def test_errors_of_the_compiler_name_the_line_of_the_text() -> None:
    with pytest.raises(CompileError, match=r"kernel\.cu:3:\d+: error: .unknown_function"):
        function("\nunknown_function();")


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(CompileError, match="does not know the option '-O3'"):
        emulator.RawModule(code=COPY, options=("-O3",))


def test_a_library_is_built_once_and_again_when_text_or_options_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINICNN_EMULATOR_CACHE", str(tmp_path))
    built: list[Path] = []
    build = emulator_compiler._build
    monkeypatch.setattr(emulator_compiler, "_build", lambda *args: (built.append(args[0]), build(*args)))
    first = emulator.compile_text(COPY)
    assert emulator.compile_text(COPY) == first
    assert len(built) == 1
    paths = {first.path, emulator.compile_text(COPY, ("-DN=1",)).path, emulator.compile_text(COPY + " ").path}
    assert (len(paths), len(built)) == (3, 3)
    assert sorted({path.suffix for path in tmp_path.iterdir()}) == [".json", ".so"]


def test_two_processes_may_build_the_same_library_at_once(tmp_path: Path) -> None:
    script = (
        "import numpy as np; from tests.gpu import emulator; y = np.zeros(3, np.float32);"
        f"emulator.RawModule(code={COPY!r}).get_function('copy')((1,), (1,), (y + 5, y, np.int32(3))); print(y)"
    )
    environment = {"MINICNN_EMULATOR_CACHE": str(tmp_path), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script]
    both = [
        subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        out, errors = process.communicate()
        assert out == "[5. 5. 5.]\n", errors
    assert len(list(tmp_path.iterdir())) == 2


# --------------------------------------------------------------------------------------------------- arguments


PARAMETERS = "const float* x, float4* v, int n, long long big, Sizes s"
SIZES = "struct Sizes { int h; float scale; long long total; };"


def arguments(**changed: Any) -> tuple[Any, ...]:
    sizes = np.zeros((), np.dtype([("h", "i4"), ("scale", "f4"), ("total", "i8")], align=True))
    given = {"x": nans(4), "v": nans(8), "n": np.int32(1), "big": np.int64(1), "s": sizes} | changed
    return tuple(given.values())


def test_arguments_that_fit_are_taken() -> None:
    kernel = function("v[0].y = n + big + s.h + s.scale + s.total + (x == nullptr);", PARAMETERS, before=SIZES)
    sizes = np.array((1, 2.5, 3), np.dtype([("h", "i4"), ("scale", "f4"), ("total", "i8")], align=True))
    v = nans(8)
    kernel((1,), (1,), arguments(x=None, v=v, n=np.int32(10), big=20, s=sizes))
    assert v[1] == 10 + 20 + 1 + 2.5 + 3 + 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": np.zeros(4)}, "argument 0: the kernel takes a pointer to f4. Received: float64"),
        ({"x": np.zeros((4, 4), np.float32).T}, "argument 0: the array must be C-contiguous"),
        ({"x": 5}, "argument 0: a device array is needed. Received: int"),
        ({"v": np.zeros(9, np.float32)[1:]}, "argument 1: the address must be a multiple of 16"),
        ({"n": 1}, "argument 2: the kernel takes i4, but CuPy sends a Python int as i8"),
        ({"n": np.int64(1)}, "argument 2: the kernel takes i4. Received: int64"),
        ({"n": None}, "argument 2: a number is needed"),
        ({"big": 1.0}, "argument 3: the kernel takes i8, but CuPy sends a Python float as f8"),
        ({"s": np.zeros((), "i4,f4")}, "argument 4: the kernel takes 16 bytes. Received: 8"),
        ({"s": (1, 2, 3)}, "argument 4: a struct is passed as a NumPy array of one element"),
        ({"more": 1}, "the kernel takes 5 arguments. Received: 6"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changed: dict[str, Any], message: str) -> None:
    kernel = function("", PARAMETERS, before=SIZES)
    with pytest.raises(LaunchError, match=f"k(, |: ){message}"):
        kernel((1,), (1,), arguments(**changed))


# --------------------------------------------------------------------------------------------------- shapes of launches


@pytest.mark.parametrize(
    ("grid", "block", "message"),
    [
        ((0,), (1,), "a grid is 1 to"),
        ((1, 65536), (1,), "a grid is 1 to"),
        ((2**31,), (1,), "a grid is 1 to"),
        ((1,), (0,), "a block is 1 to"),
        ((1,), (1025,), "a block is 1 to"),
        ((1,), (1, 1, 65), "a block is 1 to"),
        ((1,), (64, 32), "at most 1024 threads"),
        ((1,), (257,), "__launch_bounds__ allows 256 threads"),
        (1, (1,), "a tuple of 1 to 3 integers"),
    ],
)
def test_grids_and_blocks_have_cudas_limits(grid: Any, block: Any, message: str) -> None:
    kernel = emulator.RawModule(code='extern "C" __global__ void __launch_bounds__(256) k() {}').get_function("k")
    with pytest.raises(LaunchError, match=message):
        kernel(grid, block, ())


def test_every_thread_knows_its_place() -> None:
    kernel = function(
        "const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);"
        "const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);"
        "y[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;"
    )
    for order in ORDERS:
        y = nans(24, 30)
        with emulator.thread_order(order):
            kernel((2, 3, 4), (5, 3, 2), (y,))
        assert np.array_equal(y, 1000 * np.arange(24)[:, None] + np.arange(30))


def test_a_range_of_a_huge_grid() -> None:
    kernel = function("y[0] = blockIdx.x * double(256) + threadIdx.x;", "double* y")
    y = np.zeros(1)
    last = 2**31 - 2
    kernel((2**31 - 1,), (256,), (y,), blocks=range(last, last + 1))
    assert y[0] == last * 256 + 255


def uses_shared(declaration: str, last: int) -> str:
    """A kernel's body that the compiler cannot do without the memory for: what is written is read after a barrier."""
    return f"{declaration} s[threadIdx.x + {last}] = threadIdx.x; __syncthreads(); y[0] = s[{last} + 1 - threadIdx.x];"


def test_dynamic_shared_memory_beyond_48_kb_must_be_asked_for() -> None:
    static = uses_shared("__shared__ float s[256];", 254)
    kernel = function(f"{{ {static} }} __syncthreads(); {{ {uses_shared('DYNAMIC_SHARED(float, s);', 57854)} }}")
    assert kernel.shared_size_bytes == 1024
    with pytest.raises(LaunchError, match="48128 bytes of dynamic shared memory are allowed"):
        kernel((1,), (2,), (nans(1),), shared_mem=48 * 1024 - 1023)
    with pytest.raises(LaunchError, match="a block has 232448 bytes of shared memory, 1024 of them static"):
        kernel.max_dynamic_shared_size_bytes = 226 * 1024 + 1
    kernel.max_dynamic_shared_size_bytes = 226 * 1024
    y = nans(1)
    kernel((1,), (2,), (y,), shared_mem=226 * 1024)
    assert y[0] in (0, 1)


def test_static_shared_memory_beyond_48_kb_does_not_compile() -> None:
    function(uses_shared("__shared__ float s[12288];", 12286))
    with pytest.raises(CompileError, match="k: uses too much shared data"):
        function(uses_shared("__shared__ float s[12289];", 12287))


# --------------------------------------------------------------------------------------------------- barriers


MISTAKES = [
    ("if (thread < 5) __syncthreads(); else if (thread == 5) __syncwarp(0x3f);", "deadlock: "),
    ("if (thread < 4) y[1] = __shfl_sync(0xff, 1.0f, 0); else __syncthreads();", "deadlock: "),
    ("if (thread < 5) __syncthreads();\nelse __syncthreads();", r"divergent barrier: __syncthreads at kernel\.cu:"),
    ("if (thread & 1) __syncwarp(0xff);\nelse y[1] = __shfl_sync(0xff, 1.0f, 0);", "divergent warp: operations at"),
    ("if (thread == 3) __syncwarp(0xf7);", "the mask does not name the calling lane"),
    ("__syncwarp(thread == 0 ? 0xff : 0x1ff);", "lanes pass different masks"),
    ("if (thread == 6) __trap();", r"__trap\(\) \[block \(1, 0, 0\), thread \(6, 0, 0\)\]"),
    ("assert(thread < 7);", "assertion failed: thread < 7"),
    ("y[0] = __ldg(reinterpret_cast<const float4*>(y + 1)).x;", r"misaligned address at kernel\.cu:"),
]


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[message for _, message in MISTAKES])
@pytest.mark.parametrize("order", ORDERS)
def test_what_threads_may_not_do(number: int, order: str) -> None:
    cases = "\n".join(f"case {i}: {body} break;" for i, (body, _) in enumerate(MISTAKES))
    good = "default: __shared__ float s; s = 2; __syncthreads(); y[0] = s;"
    kernel = function(
        f"const int thread = threadIdx.x; if (blockIdx.x == 1) switch (mistake) {{ {cases} {good} }}",
        "float* y, int mistake",
    )
    with emulator.thread_order(order), pytest.raises(KernelError, match=MISTAKES[number][1]):
        kernel((2,), (8,), (nans(8), np.int32(number)))
    y = nans(1)  # and the next launch finds the machine in order
    kernel((2,), (8,), (y, np.int32(-1)))
    assert y[0] == 2


def test_a_thread_that_returned_is_not_waited_for() -> None:
    y = nans(40)
    function("if (threadIdx.x >= 20) return; __syncthreads(); y[threadIdx.x] = __syncthreads_count(threadIdx.x < 7);")(
        (1,), (40,), (y,)
    )
    assert np.array_equal(y[:20], np.full(20, 7))
    assert np.isnan(y[20:]).all()


@pytest.mark.parametrize("portable", [False, True], ids=["assembly", "ucontext"])
@pytest.mark.parametrize("order", ORDERS)
def test_barriers_in_a_loop_in_any_order_and_with_either_switch(order: str, portable: bool) -> None:
    kernel = function(
        """
        DYNAMIC_SHARED(float, s);
        const int i = threadIdx.x, n = blockDim.x;
        s[i] = x[blockIdx.x * n + i];
        for (int step = 1; step < n; step *= 2) {  // a running sum
            __syncthreads();
            const float before = i >= step ? s[i - step] : 0;
            __syncthreads();
            s[i] += before;
        }
        float total = s[i];
        for (int bit = 16; bit; bit /= 2) total += __shfl_xor_sync(0xffffffff, total, bit);
        y[blockIdx.x * n + i] = s[i] + total - total;
        """,
        "const float* x, float* y",
        portable=portable,
    )
    x = np.random.default_rng(0).integers(-9, 9, (5, 96)).astype(np.float32)
    y = np.full_like(x, np.nan)
    emulator.record.clear()
    with emulator.thread_order(order, seed=3):
        kernel((5,), (96,), (x, y), shared_mem=4 * 96)
    assert np.array_equal(y, x.cumsum(1))
    assert emulator.record.launches == {"k": 1}
    assert emulator.record.last["blocks"] == 5
    assert emulator.record.last["threads"] == 480
    assert emulator.record.last["block_barriers"] == 5 * 14
    assert emulator.record.last["warp_operations"] == 5 * 3 * 5


def test_shared_memory_is_poisoned_before_each_block() -> None:
    kernel = function(
        "__shared__ float s[2]; DYNAMIC_SHARED(double, d);"
        "y[2 * blockIdx.x] = s[0]; y[2 * blockIdx.x + 1] = d[3]; s[0] = 1; d[3] = 1;"
    )
    y = np.zeros(6, np.float32)
    kernel((3,), (1,), (y,), shared_mem=32)
    assert np.isnan(y).all()


def test_a_missing_barrier_shows_in_some_order() -> None:
    with_barrier, without = (
        function(
            f"__shared__ float s[64]; s[threadIdx.x] = threadIdx.x; {barrier} y[threadIdx.x] = s[63 - threadIdx.x];"
        )
        for barrier in ("__syncthreads();", "")
    )
    for kernel, is_right in ((with_barrier, True), (without, False)):
        results = []
        for order in ORDERS:
            y = nans(64)
            with emulator.thread_order(order):
                kernel((1,), (64,), (y,))
            results.append(np.array_equal(y, np.arange(63, -1, -1)))
        assert all(results) == is_right


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ValueError, match="order must be one of"), emulator.thread_order("sideways"):
        pass


# --------------------------------------------------------------------------------------------------- other promises


@pytest.mark.parametrize("portable", [False, True], ids=["assembly", "ucontext"])
def test_denormals_are_zero_unless_they_are_wanted(portable: bool) -> None:
    kernel = function("y[1] = y[0] * 0.5f;", portable=portable)
    tiny = float(np.finfo(np.float32).tiny)
    y = np.array([tiny, np.nan], np.float32)
    kernel((1,), (1,), (y,))
    assert y[1] == 0
    with emulator.denormals():
        kernel((1,), (1,), (y,))
    assert y[1] == np.float32(tiny) / 2
    assert np.float32(tiny) / np.float32(2) > 0  # the processor is as it was


def test_undefined_behaviour_is_reported_with_its_line() -> None:
    body = "__shared__ float s[4];\ns[n] = 1;\ny[0] = s[n];"
    kernel = function(body, "float* y, int n", sanitize="undefined")
    kernel((1,), (1,), (nans(1), np.int32(3)))
    with pytest.raises(
        KernelError, match=r"kernel\.cu:3:\d+: runtime error: index 4 out of bounds for type 'float \[4\]'"
    ):
        kernel((1,), (1,), (nans(1), np.int32(4)))


def test_the_address_sanitizer_names_the_line_that_left_an_array() -> None:
    library = subprocess.run([emulator.find_compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True)
    if not Path(library.stdout.strip()).is_absolute():
        pytest.skip("the address sanitizer needs libasan, which is not there")
    script = f"""
import numpy as np
from tests.gpu import emulator
kernel = emulator.RawModule(code={COPY!r}, sanitize="address").get_function("copy")
x = np.zeros(3, np.float32)
kernel((1,), (1,), (x, x, np.int32(3)))
try:
    kernel((1,), (1,), (x, x, np.int32(4)))
except emulator.KernelError as error:
    print(error)
"""
    environment = {**os.environ, "LD_PRELOAD": library.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=0"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=True
    )
    assert "AddressSanitizer: heap-buffer-overflow" in done.stdout
    assert "kernel.cu:1" in done.stdout


def test_records_name_the_kernels_that_ran() -> None:
    emulator.record.clear()
    kernel = emulator.RawModule(code=COPY).get_function("copy")
    for _ in range(2):
        kernel((1,), (1,), (nans(1), nans(1), np.int32(1)))
    assert emulator.record.launches["copy"] == 2
    assert emulator.record.totals["threads"] == 2
    emulator.record.clear()
    assert not emulator.record.launches
    assert "copy" in emulator.record.launched  # for the test that every kernel of the project was run
