"""The CPU backend: every kernel of the contract in Numba, vectorized and on all cores.

`minicnn.kernels.contract` says what each function takes, returns and computes; `kernels/README.md` how they work.
"""

from minicnn.kernels.cpu.activation import activation, activation_backward, activation_bias_backward, bias_grad
from minicnn.kernels.cpu.conv import conv2d, conv2d_input_grad, conv2d_weight_grad, prepare_conv2d, prepared_under
from minicnn.kernels.cpu.conv_pool import conv2d_max_pool2d, prepare_conv2d_max_pool2d
from minicnn.kernels.cpu.dense import dense, matmul, prepare_dense
from minicnn.kernels.cpu.group_norm import group_norm, group_norm_backward
from minicnn.kernels.cpu.im2col import col2im, im2col
from minicnn.kernels.cpu.local_response import local_response_norm, local_response_norm_backward
from minicnn.kernels.cpu.norm import batch_norm, batch_norm_backward, batch_norm_inference
from minicnn.kernels.cpu.optim import (
    adadelta_step,
    adagrad_step,
    adam_step,
    adamax_step,
    nadam_step,
    rmsprop_step,
    sgd_step,
)
from minicnn.kernels.cpu.pool import (
    adaptive_max_pool2d,
    avg_pool2d,
    avg_pool2d_backward,
    gather2d,
    max_pool2d,
    scatter2d,
)
from minicnn.kernels.cpu.random import dropout, dropout_backward, philox_words
from minicnn.kernels.cpu.softmax import log_softmax, softmax, softmax_cross_entropy, softmax_cross_entropy_backward

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
    "prepare_conv2d",
    "prepare_conv2d_max_pool2d",
    "prepare_dense",
    "prepared_under",
    "rmsprop_step",
    "scatter2d",
    "sgd_step",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
]
