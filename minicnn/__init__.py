"""minicnn: a deep-learning engine written from scratch on NumPy.

    import minicnn
    from minicnn import layers, models, datasets

See `minicnn.functional` for the operations, `minicnn.layers` and `minicnn.models` for networks in Keras' manner,
`minicnn.autograd` for how gradients are made, `minicnn.kernels` for the arithmetic underneath.
"""

import os

# In a checkout that is not installed the kernels lie beside this folder; an installation puts them inside.
if not os.path.isdir(os.path.join(__path__[0], "kernels")):
    __path__.append(os.path.dirname(__path__[0]))

from minicnn import (
    activations,
    backend,
    callbacks,
    config,
    constraints,
    datasets,
    functional,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    preprocessing,
    random,
    regularizers,
    saving,
    schedules,
    utils,
    visualize,
)
from minicnn.autograd import Function, grad
from minicnn.backend import available_backends, current_backend, get_num_threads, set_num_threads, use_backend
from minicnn.functional import *  # noqa: F403
from minicnn.gradcheck import gradcheck, gradgradcheck
from minicnn.layers import Input, Layer, Parameter
from minicnn.models import Model, Sequential
from minicnn.modes import detect_anomaly, enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from minicnn.random import manual_seed
from minicnn.tensor import Tensor
from minicnn.version import __version__

__all__ = [
    "Function",
    "Input",
    "Layer",
    "Model",
    "Parameter",
    "Sequential",
    "Tensor",
    "__version__",
    "activations",
    "available_backends",
    "backend",
    "callbacks",
    "config",
    "constraints",
    "current_backend",
    "datasets",
    "detect_anomaly",
    "enable_grad",
    "functional",
    "get_num_threads",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "initializers",
    "is_grad_enabled",
    "layers",
    "losses",
    "manual_seed",
    "metrics",
    "models",
    "no_grad",
    "optimizers",
    "preprocessing",
    "random",
    "regularizers",
    "saving",
    "schedules",
    "set_grad_enabled",
    "set_num_threads",
    "use_backend",
    "utils",
    "visualize",
    *functional.__all__,
]
