"""A strict stand-in for the part of CuPy that minicnn uses: arrays in host memory, kernels in the emulator.

    from tests.gpu.standin import cupy, installed, check_canaries

    x = cupy.asarray(numpy_array)
    module = cupy.RawModule(code=text, options=("-DREAL=float",))
    module.get_function("relu")((blocks,), (256,), (x, y, np.int32(x.size)))
    check_canaries()

    with installed():   # here `import cupy` gives the stand-in
        ...

It is stricter than CuPy wherever CuPy would let a mistake pass; `conformance` compares all that was used of it with the
real package, which can be imported without a GPU.
"""

from tests.gpu.standin.errors import CUDARuntimeError, StandinError
from tests.gpu.standin.memory import check_canaries
from tests.gpu.standin.modules import cupy, installed

__all__ = ["CUDARuntimeError", "StandinError", "check_canaries", "cupy", "installed"]
