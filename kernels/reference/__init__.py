"""The reference backend: every kernel in plain NumPy, the textbook version. The oracle of the faster ones.

`minicnn.kernels.contract` says what each function takes, returns and computes.
"""

from minicnn.kernels.reference.activation import activation, activation_backward
from minicnn.kernels.reference.conv import col2im, conv2d, conv2d_input_grad, conv2d_weight_grad, im2col
from minicnn.kernels.reference.dense import activation_bias_backward, bias_grad, dense, matmul
from minicnn.kernels.reference.norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    group_norm,
    group_norm_backward,
    local_response_norm,
    local_response_norm_backward,
)
from minicnn.kernels.reference.optim import (
    adadelta_step,
    adagrad_step,
    adam_step,
    adamax_step,
    nadam_step,
    rmsprop_step,
    sgd_step,
)
from minicnn.kernels.reference.pool import (
    adaptive_max_pool2d,
    avg_pool2d,
    avg_pool2d_backward,
    conv2d_max_pool2d,
    gather2d,
    max_pool2d,
    scatter2d,
)
from minicnn.kernels.reference.random import dropout, dropout_backward, philox_words
from minicnn.kernels.reference.softmax import (
    log_softmax,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)

__all__ = [
    "activation",
    "activation_backward",
    "activation_bias_backward",
    "adadelta_step",
    "adagrad_step",
    "adam_step",
    "adamax_step",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "bias_grad",
    "col2im",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_max_pool2d",
    "conv2d_weight_grad",
    "dense",
    "dropout",
    "dropout_backward",
    "gather2d",
    "group_norm",
    "group_norm_backward",
    "im2col",
    "local_response_norm",
    "local_response_norm_backward",
    "log_softmax",
    "matmul",
    "max_pool2d",
    "nadam_step",
    "philox_words",
    "rmsprop_step",
    "scatter2d",
    "sgd_step",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
]
