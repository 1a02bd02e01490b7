"""What PyTorch computes for each sample of `minicnn.samples`: functions of float64 torch tensors, NHWC as ours.

`OPERATIONS[name](*tensors, **options)`; torch itself is imported by whoever calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as T

from minicnn.functional.geometry import pair, resolve_padding


def nchw(x: Any) -> Any:
    return x.permute(0, 3, 1, 2)


def nhwc(x: Any) -> Any:
    return x.permute(0, 2, 3, 1)


def oihw(w: Any) -> Any:
    return w.permute(3, 2, 0, 1)


def padded(x: Any, padding: Any, window: Any, strides: Any, dilation: Any = (1, 1), value: float = 0.0) -> Any:
    """x (N, C, H, W) with the padding that ours would give the same words."""
    (top, bottom), (left, right) = resolve_padding(padding, tuple(x.shape[2:]), window, strides, dilation)
    return T.pad(x, (left, right, top, bottom), value=value)


def conv2d(
    x: Any,
    w: Any,
    b: Any = None,
    strides: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
    groups: int = 1,
    activation: Any = None,
) -> Any:
    s, d = pair(strides, "strides"), pair(dilation, "dilation")
    y = T.conv2d(padded(nchw(x), padding, w.shape[:2], s, d), oihw(w), b, s, 0, d, groups)
    return nhwc(activated(y, activation))


def activated(y: Any, activation: str | None) -> Any:
    """y, or the activation of that name of it."""
    return y if activation is None else getattr(torch, activation)(y)


def conv2d_input_grad(gy: Any, w: Any, input_size: Any, strides: Any, padding: Any) -> Any:
    """By torch's own autograd: the gradient of sum(gy * conv(x)) with respect to x."""
    x = torch.zeros((gy.shape[0], *input_size, w.shape[2]), dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(conv2d(x, w, None, strides, padding), x, gy, create_graph=True)[0]


def conv2d_weight_grad(x: Any, gy: Any, kernel_size: Any, strides: Any, padding: Any) -> Any:
    w = torch.zeros((*kernel_size, x.shape[3], gy.shape[3]), dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(conv2d(x, w, None, strides, padding), w, gy, create_graph=True)[0]


def depthwise_conv2d(x: Any, w: Any, b: Any = None, strides: Any = 1, padding: Any = "valid", dilation: Any = 1) -> Any:
    kh, kw, c, m = w.shape
    return conv2d(x, w.reshape(kh, kw, 1, c * m), b, strides, padding, dilation, groups=c)


def conv2d_transpose(
    x: Any, w: Any, b: Any = None, strides: Any = 1, padding: str = "valid", output_padding: Any = None
) -> Any:
    """Keras' output sizes: torch's full output, cut where Keras cuts (valid: max(k - s, 0) more; same: to H * s)."""
    s = pair(strides, "strides")
    full = nhwc(T.conv_transpose2d(nchw(x), w.permute(3, 2, 0, 1), None, s))  # ((H - 1) s + k, ...)
    sizes, starts = [], []
    for i in range(2):
        k, size = w.shape[i], x.shape[1 + i]
        extra = None if output_padding is None else pair(output_padding, "output_padding", 0)[i]
        if padding == "same":
            before = max(k - s[i], 0) // 2
            length = size * s[i] if extra is None else (size - 1) * s[i] + k - 2 * (k // 2) + extra
            before = before if extra is None else k // 2
        else:
            before, length = 0, (size - 1) * s[i] + k + (max(s[i] - k, 0) if extra is None else extra)
        sizes.append(length)
        starts.append(before)
    reach = [start + size for start, size in zip(starts, sizes, strict=True)]
    full = T.pad(full, (0, 0, 0, max(reach[1] - full.shape[2], 0), 0, max(reach[0] - full.shape[1], 0)))
    y = full[:, starts[0] : reach[0], starts[1] : reach[1]]
    return y if b is None else y + b


def max_pool2d(x: Any, window: Any, strides: Any = None, padding: Any = "valid", ceil_mode: bool = False) -> Any:
    k = pair(window, "window")
    s = k if strides is None else pair(strides, "strides")
    return nhwc(T.max_pool2d(padded(nchw(x), padding, k, s, value=-np.inf), k, s, ceil_mode=ceil_mode))


def conv2d_max_pool2d(
    x: Any,
    w: Any,
    b: Any,
    window: Any,
    pool_strides: Any = None,
    pool_padding: Any = "valid",
    activation: str | None = None,
    **options: Any,
) -> Any:
    y = conv2d(x, w, b, **options)
    y = y if activation is None else getattr(torch, activation)(y)
    return max_pool2d(y, window, pool_strides, pool_padding)


def avg_pool2d(
    x: Any,
    window: Any,
    strides: Any = None,
    padding: Any = "valid",
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Any:
    k = pair(window, "window")
    s = k if strides is None else pair(strides, "strides")
    if not isinstance(padding, str):
        p = pair(padding, "padding", 0)
        return nhwc(T.avg_pool2d(nchw(x), k, s, p, ceil_mode, count_include_pad))
    sums = T.avg_pool2d(padded(nchw(x), padding, k, s), k, s, ceil_mode=ceil_mode)
    shares = T.avg_pool2d(padded(torch.ones_like(nchw(x)), padding, k, s), k, s, ceil_mode=ceil_mode)
    return nhwc(sums / shares)


def batch_norm(x: Any, gamma: Any, beta: Any, epsilon: float = 1e-3, activation: str | None = None) -> Any:
    flat = x.reshape(-1, x.shape[-1])
    y = T.batch_norm(flat, None, None, gamma, beta, training=True, eps=epsilon)
    return activated(y, activation).reshape(x.shape)


def batch_norm_inference(x: Any, gamma: Any, beta: Any, activation: str | None = None) -> Any:
    mean = torch.tensor([0.1, -0.2, 0.0, 1.0], dtype=x.dtype)
    var = torch.tensor([1.0, 0.5, 2.0, 0.1], dtype=x.dtype)
    y = T.batch_norm(x.reshape(-1, 4), mean, var, gamma, beta, eps=1e-3)
    return activated(y, activation).reshape(x.shape)


def local_response_norm(x: Any, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """torch divides alpha by size, and centres an even window one channel further down."""
    channels_second = x.movedim(-1, 1)
    return T.local_response_norm(channels_second, size, alpha * size, beta, k).movedim(1, -1)


def axes(dim: Any, x: Any) -> Any:
    return tuple(range(x.ndim)) if dim is None else dim


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "pow": torch.pow,
    "pow by a number": lambda x: x**3,
    "pow of a number": lambda x: 2.5**x,
    "neg": torch.neg,
    "abs": torch.abs,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "sin": torch.sin,
    "cos": torch.cos,
    "clip": torch.clip,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "where": lambda a, b, condition: torch.where(condition, a, b),
    "sum": lambda x, dim=None, keepdim=False: torch.sum(x, axes(dim, x), keepdim),
    "mean": lambda x, dim=None, keepdim=False: torch.mean(x, axes(dim, x), keepdim),
    "max": lambda x, dim=None, keepdim=False: torch.amax(x, axes(dim, x), keepdim),
    "min": lambda x, dim=None, keepdim=False: torch.amin(x, axes(dim, x), keepdim),
    "prod": lambda x, dim, keepdim=False: x.prod(dim) if isinstance(dim, int) else x.prod(2, True).prod(0, True),
    "prod with zeros": lambda x, dim: torch.prod(x, dim),
    "var": lambda x, dim=None, keepdim=False, correction=0: torch.var(
        x, axes(dim, x), correction=correction, keepdim=keepdim
    ),
    "std": lambda x, dim=None, keepdim=False: torch.std(x, axes(dim, x), correction=0, keepdim=keepdim),
    "logsumexp": lambda x, dim=None, keepdim=False: torch.logsumexp(x, axes(dim, x), keepdim),
    "cumsum": torch.cumsum,
    "clone": torch.clone,
    "to_device": lambda x: x.to("cpu"),
    "reshape": lambda x: x.reshape(4, -1),
    "flatten": torch.flatten,
    "permute": lambda x: x.permute(2, 0, 1),
    "transpose": lambda x: x.transpose(0, -1),
    "expand": lambda x: x.expand(2, -1, 5),
    "sum_to_size": lambda x: x.sum_to_size(3, 1),
    "squeeze": lambda x, dim=None: x.squeeze() if dim is None else x.squeeze(dim),
    "unsqueeze": torch.unsqueeze,
    "pad": lambda x, widths, value=0.0: T.pad(x, (*widths[1], *widths[0]), value=value),
    "flip": lambda x: x.flip(0, 2),
    "getitem by slices": lambda x: x.flip(0)[::2][:, None, 1],
    "getitem by integers": lambda x: x[[0, 2, 2, -1], 1:],
    "getitem by a mask": lambda x, mask: x[mask],
    "put_item": lambda x: torch.zeros(4, 3, dtype=x.dtype).index_add(0, torch.tensor([0, 2, 2]), x),
    "repeat": lambda x: x.repeat(2, 1, 3),
    "repeat_interleave": lambda x, repeats, dim: x.repeat_interleave(repeats, dim),
    "concatenate": lambda *xs, dim: torch.concatenate(xs, dim),
    "stack": lambda *xs, dim: torch.stack(xs, dim),
    "split": lambda x, sizes, dim: torch.split(x, sizes, dim),
    "matmul": torch.matmul,
    "matmul of batches": torch.matmul,
    "matmul of vectors": torch.matmul,
    "dense": lambda x, w, b, activation=None: activated(x @ w + b, activation),
    "dense on a sequence": torch.matmul,
    "einsum": lambda *xs: torch.einsum("bij,bjk->ikb", *xs),
    "einsum of a diagonal": lambda *xs: torch.einsum("iij,k->jk", *xs),
    "einsum of three": lambda *xs: torch.einsum("ij,jk,k->i", *xs),
    "conv2d": conv2d,
    "conv2d in groups": conv2d,
    "conv2d of 1x1": conv2d,
    "conv2d of one channel": conv2d,
    "conv2d of 17 channels": conv2d,
    "conv2d_max_pool2d": conv2d_max_pool2d,
    "conv2d_input_grad": conv2d_input_grad,
    "conv2d_weight_grad": conv2d_weight_grad,
    "depthwise_conv2d": depthwise_conv2d,
    "separable_conv2d": lambda x, d, p, b, padding="valid": conv2d(depthwise_conv2d(x, d, padding=padding), p, b),
    "conv2d_transpose": conv2d_transpose,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool2d": lambda x, keepdims=False: x.mean((1, 2), keepdims),
    "global_max_pool2d": lambda x, keepdims=False: x.amax((1, 2), keepdims),
    "adaptive_avg_pool2d": lambda x, output_size: nhwc(T.adaptive_avg_pool2d(nchw(x), output_size)),
    "adaptive_max_pool2d": lambda x, output_size: nhwc(T.adaptive_max_pool2d(nchw(x), output_size)),
    "upsample_nearest2d": lambda x, factors: nhwc(T.interpolate(nchw(x), scale_factor=pair(factors, "factors"))),
    "upsample_bilinear2d": lambda x, factors: nhwc(
        T.interpolate(nchw(x), scale_factor=pair(factors, "factors"), mode="bilinear", align_corners=False)
    ),
    "relu": T.relu,
    "relu6": T.relu6,
    "leaky_relu": lambda x, negative_slope=0.2: T.leaky_relu(x, negative_slope),
    "elu": T.elu,
    "selu": T.selu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": lambda x: torch.log1p(torch.exp(x)),
    "softsign": T.softsign,
    "silu": T.silu,
    "gelu": lambda x, approximate=False: T.gelu(x, approximate="tanh" if approximate else "none"),
    "hard_sigmoid": lambda x: torch.clamp(x + 3, 0, 6) / 6,  # torch.hardsigmoid rounds 1 / 6 to float32
    "mish": T.mish,
    "exponential": torch.exp,
    "prelu": lambda x, alpha: nhwc(T.prelu(nchw(x), alpha)),
    "softmax": lambda x, dim=-1: torch.softmax(x, dim),
    "log_softmax": lambda x, dim=-1: torch.log_softmax(x, dim),
    "batch_norm": batch_norm,
    "batch_norm at inference": batch_norm_inference,
    "layer_norm": lambda x, gamma, beta, epsilon=1e-3: T.layer_norm(x, x.shape[-1:], gamma, beta, epsilon),
    "layer_norm over two axes": lambda x, gamma, beta, axis: T.layer_norm(x, x.shape[1:], gamma, beta, 1e-3),
    "group_norm": lambda x, gamma, beta, groups: nhwc(T.group_norm(nchw(x), groups, gamma, beta, 1e-3)),
    "local_response_norm": local_response_norm,
    "cross_entropy": T.cross_entropy,
    "cross_entropy of probabilities": T.cross_entropy,
    "nll_loss": T.nll_loss,
    "binary_cross_entropy_with_logits": T.binary_cross_entropy_with_logits,
    "binary_cross_entropy": T.binary_cross_entropy,
    "mse_loss": T.mse_loss,
    "l1_loss": T.l1_loss,
    "huber_loss": T.huber_loss,
    "hinge_loss": lambda x, t: torch.relu(1 - t * x).mean(),
    "squared_hinge_loss": lambda x, t: (torch.relu(1 - t * x) ** 2).mean(),
}

WITHOUT_A_COUNTERPART = {
    "cast",  # a change of dtype alone
    "dropout",  # torch draws other masks; tests/functional/test_dropout.py checks ours against the kernel's words
    "spatial_dropout2d",
}
