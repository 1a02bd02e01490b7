"""A strict stand-in for the part of CuPy that minicnn uses: arrays in host memory, kernels in the emulator.

This package answers to CuPy's names itself, so that MINICNN_CUPY=tests.gpu.standin puts it in CuPy's place:

    from tests.gpu import standin
    from tests.gpu.standin import cupy, check_canaries

    x = cupy.asarray(numpy_array)
    module = cupy.RawModule(code=text, options=("-DREAL=float",))
    module.get_function("relu")((blocks,), (256,), (x, y, np.int32(x.size)))
    check_canaries()

It is stricter than CuPy wherever CuPy would let a mistake pass; `conformance` compares all that was used of it with the
real package, which can be imported without a GPU. No file of this folder may have the name of something in CuPy.
"""

from typing import Any

from tests.gpu.standin.errors import CUDARuntimeError, StandinError
from tests.gpu.standin.memory import check_canaries
from tests.gpu.standin.modules import cupy, installed

__version__ = cupy.__version__

__all__ = ["CUDARuntimeError", "StandinError", "check_canaries", "cupy", "installed"]


def __getattr__(name: str) -> Any:
    return getattr(cupy, name)
