"""minicnn: temporary while modules land; the lead replaces this file."""
import contextlib
from minicnn import tensor as _tensor
from minicnn.autograd import *
from minicnn.functional import *
from minicnn.tensor import Tensor
from minicnn.random import manual_seed
from minicnn.backend import use_backend, current_backend, available_backends
for _m in ("initializers","regularizers","constraints","activations","layers","losses","metrics","optimizers","schedules","callbacks","models","datasets","preprocessing","visualize","saving","utils"):
    with contextlib.suppress(ModuleNotFoundError, ImportError):
        __import__("minicnn." + _m)
with contextlib.suppress(ModuleNotFoundError, ImportError):
    from minicnn.layers import Input, Layer
    from minicnn.models import Model, Sequential
with contextlib.suppress(ModuleNotFoundError, ImportError):
    from minicnn.gradcheck import gradcheck, gradgradcheck
