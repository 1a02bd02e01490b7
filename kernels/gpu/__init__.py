"""The GPU backend: every kernel of the contract in CUDA C++, launched through CuPy.

`minicnn.kernels.contract` says what each function takes, returns and computes; `kernels/README.md` how they work.
"""

from minicnn.kernels.gpu.activation import activation, activation_backward

__all__ = [
    "activation",
    "activation_backward",
]
