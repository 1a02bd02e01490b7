"""The one backend interface: every kernel's signature, shapes, dtypes, formula and source.

A backend is a module with these functions. Each obeys the same rules:
C-contiguous float32 or float64 arrays in, new arrays of that dtype out; inputs are never written (the optimizer steps
at the end excepted, whose purpose it is); the same bits on every run; no global state. Arguments come checked: a
kernel trusts shapes and options, the functional layer above has refused the wrong ones.

Glossary  N batch, H W height and width of the input, C its channels, KH KW kernel size, F filters (output channels),
          OH OW height and width of the output, G groups. Images are NHWC, convolution kernels HWIO (KH, KW, C // G, F).
          Pairs are (height, width); padding is ((top, bottom), (left, right)); sizes are (H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

Array: TypeAlias = Any
"""numpy.ndarray, or cupy.ndarray on the GPU backend."""

Pair: TypeAlias = tuple[int, int]
Padding2D: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
ActivationName: TypeAlias = Literal["relu", "relu6", "leaky_relu", "elu", "sigmoid", "tanh"]
"""The activations whose derivative can be told from their output, so that the input need not be kept."""
EpilogueName: TypeAlias = Literal["relu", "relu6", "sigmoid", "tanh"]
"""Those of them without an option, which conv2d and dense apply in passing."""


class Kernels(Protocol):
    """What a backend provides. Modules satisfy this protocol: see `kernels/reference/__init__.py`."""

    # ------------------------------------------------------------------------------------------------ convolution
    # conv2d, conv2d_input_grad and conv2d_weight_grad are the three bilinear maps of one trilinear form
    # sum(gy * conv2d(x, w)); each is linear in both arguments and the derivatives of one are the other two.

    def conv2d(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        strides: Pair,
        padding: Padding2D,
        dilation: Pair,
        groups: int,
        activation: EpilogueName | None = None,
    ) -> Array:
        """2-D cross-correlation with bias and activation, as keras.ops.conv and torch.nn.functional.conv2d.

        x        (N, H, W, C)
        w        (KH, KW, C // G, F); output channel f reads input channels of group f // (F // G)
        b        (F,) or None
        returns  (N, OH, OW, F), OH = (H + top + bottom - ((KH - 1) * dilation + 1)) // stride + 1

        y[n, i, j, f] = act(b[f] + sum_{k, l, c} x[n, i*sh + k*dh - top, j*sw + l*dw - left, c] * w[k, l, c, f])
        A depthwise convolution is G = C: F = C * multiplier, w of shape (KH, KW, 1, C * multiplier).
        """
        ...

    def conv2d_input_grad(
        self, gy: Array, w: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair, groups: int
    ) -> Array:
        """Gradient of sum(gy * conv2d(x, w)) with respect to x; also the transposed convolution.

        gy (N, OH, OW, F), w (KH, KW, C // G, F), input_size (H, W) -> (N, H, W, C)
        """
        ...

    def conv2d_weight_grad(
        self, x: Array, gy: Array, kernel_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair, groups: int
    ) -> Array:
        """Gradient of sum(gy * conv2d(x, w)) with respect to w.

        x (N, H, W, C), gy (N, OH, OW, F), kernel_size (KH, KW) -> (KH, KW, C // G, F)
        """
        ...

    def conv2d_max_pool2d(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        strides: Pair,
        padding: Padding2D,
        dilation: Pair,
        groups: int,
        activation: EpilogueName | None,
        window: Pair,
        pool_strides: Pair,
        pool_padding: Padding2D,
    ) -> tuple[Array, Array]:
        """max_pool2d(conv2d(x, w, b, ...), window, pool_strides, pool_padding), as one, with no array between.

        x (N, H, W, C), w (KH, KW, C // G, F), b (F,) or None -> y and `where` (N, PH, PW, F), as max_pool2d; `where`
        counts the pixels of the convolution. Of numbers that the activation rounds to one, any may be taken.
        """
        ...

    def im2col(self, x: Array, window: Pair, strides: Pair, padding: Padding2D, dilation: Pair) -> Array:
        """The patch under every output pixel, zeros where it leaves the image.

        x (N, H, W, C), window (KH, KW) -> (N, OH, OW, KH, KW, C)
        """
        ...

    def col2im(self, cols: Array, input_size: Pair, strides: Pair, padding: Padding2D, dilation: Pair) -> Array:
        """The adjoint of im2col: every patch is added back to the pixels it was read from.

        cols (N, OH, OW, KH, KW, C), input_size (H, W) -> (N, H, W, C)
        """
        ...

    # ------------------------------------------------------------------------------------------------ pooling

    def max_pool2d(self, x: Array, window: Pair, strides: Pair, padding: Padding2D) -> tuple[Array, Array]:
        """Largest value of each window.

        x        (N, H, W, C)
        returns  y (N, OH, OW, C) and `where` (N, OH, OW, C) int32, the flat index h*W + w of the maximum

        Padding never wins (it counts as -inf), NaN always does, the first of equals is taken. As keras.ops.max_pool.
        Each window holds a pixel of the image: padding is smaller than the window.
        """
        ...

    def adaptive_max_pool2d(self, x: Array, output_size: Pair) -> tuple[Array, Array]:
        """Largest value of each bin of a fixed grid: bin i spans rows floor(i*H/OH) to ceil((i+1)*H/OH).

        x (N, H, W, C) -> y and `where` as max_pool2d. As torch.nn.functional.adaptive_max_pool2d.
        """
        ...

    def gather2d(self, x: Array, where: Array) -> Array:
        """Read one pixel for each output: y[n, i, j, c] = x[n, where // W, where % W, c].

        x (N, H, W, C), where (N, OH, OW, C) int32 -> (N, OH, OW, C)
        """
        ...

    def scatter2d(self, gy: Array, where: Array, input_size: Pair) -> Array:
        """The adjoint of gather2d: add each gy[n, i, j, c] to pixel where[n, i, j, c] of zeros.

        gy, where (N, OH, OW, C), input_size (H, W) -> (N, H, W, C). The backward of max pooling.
        """
        ...

    def avg_pool2d(self, x: Array, window: Pair, strides: Pair, padding: Padding2D) -> Array:
        """Mean of each window over the pixels that lie in the image (padding is left out of the mean, as in Keras).

        x (N, H, W, C) -> (N, OH, OW, C); a window wholly in the padding gives 0.
        """
        ...

    def avg_pool2d_backward(
        self, gy: Array, input_size: Pair, window: Pair, strides: Pair, padding: Padding2D
    ) -> Array:
        """The adjoint of avg_pool2d: gy (N, OH, OW, C), input_size (H, W) -> (N, H, W, C)."""
        ...

    # ------------------------------------------------------------------------------------------------ normalization

    def batch_norm(
        self, x: Array, gamma: Array, beta: Array, epsilon: float, activation: Literal["relu"] | None = None
    ) -> tuple[Array, Array, Array]:
        """Normalize each channel by the batch's own mean and population variance (Ioffe and Szegedy 2015).

        x        (..., C); gamma, beta (C,)
        returns  y (..., C), mean (C,), var (C,)

        y = act(gamma * (x - mean) / sqrt(var + epsilon) + beta)
        """
        ...

    def batch_norm_inference(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        var: Array,
        epsilon: float,
        activation: Literal["relu"] | None = None,
    ) -> Array:
        """The same formula with given statistics: x (..., C), the rest (C,) -> (..., C)."""
        ...

    def batch_norm_backward(
        self, gy: Array, x: Array, gamma: Array, mean: Array, var: Array, epsilon: float, y: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """Gradients of batch_norm: gy, x (..., C), the rest (C,) -> gx (..., C), ggamma (C,), gbeta (C,).

        With u = (x - mean) / sqrt(var + epsilon) and means over all but the last axis:
        gbeta = sum(gy), ggamma = sum(gy * u), gx = gamma / sqrt(var + epsilon) * (gy - mean(gy) - u * mean(gy * u))
        Given y (..., C), the output after the relu: gy counts as 0 where y <= 0.
        """
        ...

    def group_norm(
        self, x: Array, gamma: Array, beta: Array, groups: int, epsilon: float
    ) -> tuple[Array, Array, Array]:
        """Normalize each sample's group of channels over its positions (Wu and He 2018); groups = 1 is layer norm.

        x        (N, P, C), P positions; gamma, beta (P or 1, C)
        returns  y (N, P, C), mean (N, G), var (N, G)

        Layer norm over the last axis of (..., C) is x of shape (rows, 1, C), groups = 1.
        """
        ...

    def group_norm_backward(
        self, gy: Array, x: Array, gamma: Array, mean: Array, var: Array, groups: int, epsilon: float
    ) -> tuple[Array, Array, Array]:
        """Gradients of group_norm: gx (N, P, C), ggamma and gbeta of gamma's shape (P or 1, C)."""
        ...

    def local_response_norm(self, x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
        """Divide by the energy of neighbouring channels (Krizhevsky et al. 2012, section 3.3).

        x (..., C) -> (..., C); y[c] = x[c] / (k + alpha * sum_{j = c - size//2}^{c + (size-1)//2} x[j]**2) ** beta
        """
        ...

    def local_response_norm_backward(
        self, gy: Array, x: Array, size: int, alpha: float, beta: float, k: float
    ) -> Array:
        """Gradient of local_response_norm with respect to x: gy, x (..., C) -> (..., C)."""
        ...

    # ------------------------------------------------------------------------------------------------ dense

    def matmul(self, a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
        """Matrix product over the last two axes, the leading ones broadcast as in numpy.matmul.

        a (..., M, K), or (..., K, M) with transpose_a; b (..., K, N), or (..., N, K) with transpose_b -> (..., M, N)
        """
        ...

    def dense(self, x: Array, w: Array, b: Array | None, activation: EpilogueName | None = None) -> Array:
        """act(x @ w + b): x (M, K), w (K, N), b (N,) or None -> (M, N). As keras.layers.Dense."""
        ...

    def bias_grad(self, gy: Array) -> Array:
        """Gradient of a bias that was added to each row or pixel: gy (..., F) -> its sum over all axes but the last."""
        ...

    def activation_bias_backward(
        self, gy: Array, y: Array, name: ActivationName, alpha: float = 0.0
    ) -> tuple[Array, Array]:
        """What conv2d and dense with bias and activation need on the way back, in one pass: gz and gb.

        gz (..., F) = activation_backward(gy, y, name, alpha), gb (F,) = bias_grad(gz)
        """
        ...

    # ------------------------------------------------------------------------------------------------ activations

    def activation(self, x: Array, name: ActivationName, alpha: float = 0.0) -> Array:
        """Elementwise, any shape; NaN passes through.

        relu max(x, 0); relu6 min(max(x, 0), 6); leaky_relu x if x > 0 else alpha * x (alpha > 0);
        elu x if x > 0 else alpha * (exp(x) - 1) (alpha > 0); sigmoid 1 / (1 + exp(-x)) without overflow; tanh.
        """
        ...

    def activation_backward(self, gy: Array, y: Array, name: ActivationName, alpha: float = 0.0) -> Array:
        """gy times the activation's derivative, told from its *output* y (the same shape).

        relu y > 0; relu6 0 < y < 6; leaky_relu 1 or alpha; elu 1 or y + alpha; sigmoid y * (1 - y); tanh 1 - y**2.
        """
        ...

    def dropout(self, x: Array, rate: float, seed: int, stream: int) -> tuple[Array, Array]:
        """Zero each element with probability `rate` (0 <= rate < 1), scale the rest by 1 / (1 - rate).

        x        any shape
        returns  y of the same shape, and `kept` (ceil(size / 8),) uint8: bit i % 8, lowest first, of byte i // 8 is 1
                 where element i was kept, 0 beyond the last element

        Element i of x in C order is dropped where word i of philox_words(seed, stream) < round(rate * 2**32).
        """
        ...

    def dropout_backward(self, gy: Array, kept: Array, rate: float) -> Array:
        """gy / (1 - rate) where dropout kept the element, else 0: gy of any shape -> the same. Its own adjoint."""
        ...

    def philox_words(self, count: int, seed: int, stream: int) -> Array:
        """`count` uint32 words of Philox4x32-10 (Salmon et al. 2011): word i is lane i % 4 of the block whose
        counter is (i // 4 as 64 bits low word first, stream as 64 bits low word first) and whose key is the seed's
        64 bits, low word first.
        """
        ...

    # ------------------------------------------------------------------------------------------------ classification

    def softmax(self, x: Array) -> Array:
        """exp(x - max) / sum over the last axis: (..., C) -> (..., C)."""
        ...

    def log_softmax(self, x: Array) -> Array:
        """x - logsumexp(x) over the last axis: (..., C) -> (..., C)."""
        ...

    def softmax_cross_entropy(self, logits: Array, targets: Array) -> tuple[Array, Array]:
        """Cross-entropy of softmax(logits), one value a row, never NaN for finite logits.

        logits   (M, C)
        targets  (M,) integer classes, or (M, C) probabilities of the logits' dtype
        returns  loss (M,) = -sum_c t_c * log_softmax(logits)_c, and the probabilities softmax(logits) (M, C)
        """
        ...

    def softmax_cross_entropy_backward(self, gloss: Array, probabilities: Array, targets: Array) -> Array:
        """Gradient with respect to the logits: gloss (M,) -> gloss * (sum(t) * p - t), (M, C)."""
        ...

    # ------------------------------------------------------------------------------------------------ optimizer steps
    # In place, over lists: one array a parameter, so that a backend may run all of them in one go. The formulas are
    # Keras 3's. `lr` is this step's learning rate; `step` counts from 1.

    def sgd_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        velocities: Sequence[Array] | None,
        lr: float,
        momentum: float,
        nesterov: bool,
    ) -> None:
        """v = momentum * v - lr * g; p += v, or (nesterov) p += momentum * v - lr * g. No velocities: p -= lr * g."""
        ...

    def rmsprop_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        squares: Sequence[Array],
        means: Sequence[Array] | None,
        velocities: Sequence[Array] | None,
        lr: float,
        rho: float,
        momentum: float,
        epsilon: float,
    ) -> None:
        """s = rho * s + (1 - rho) * g**2; d = lr * g / sqrt(s + epsilon) (epsilon inside the root, as Keras).

        Given means (centered): m = rho * m + (1 - rho) * g and s - m**2 stands for s in d.
        Given velocities: v = momentum * v + d; p -= v. Else p -= d.
        """
        ...

    def adam_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        means: Sequence[Array],
        squares: Sequence[Array],
        max_squares: Sequence[Array] | None,
        lr: float,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        step: int,
    ) -> None:
        """m += (g - m) * (1 - beta_1); s += (g**2 - s) * (1 - beta_2) (Kingma and Ba 2015, Keras' form).

        p -= lr * sqrt(1 - beta_2**step) / (1 - beta_1**step) * m / (sqrt(s) + epsilon)
        Given max_squares (amsgrad): h = max(h, s) stands for s in the last line.
        """
        ...

    def adamax_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        means: Sequence[Array],
        norms: Sequence[Array],
        lr: float,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        step: int,
    ) -> None:
        """m as adam; u = max(beta_2 * u, |g|); p -= lr / (1 - beta_1**step) * m / (u + epsilon)."""
        ...

    def nadam_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        means: Sequence[Array],
        squares: Sequence[Array],
        lr: float,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        step: int,
        momentum_schedule: tuple[float, float, float],
    ) -> None:
        """Adam with Nesterov momentum (Dozat 2016); m, s as adam; momentum_schedule = (u_t, u_{t+1}, prod_{i<=t} u_i).

        m_hat = u_{t+1} * m / (1 - prod * u_{t+1}) + (1 - u_t) * g / (1 - prod); s_hat = s / (1 - beta_2**step)
        p -= lr * m_hat / (sqrt(s_hat) + epsilon)
        """
        ...

    def adagrad_step(
        self, params: Sequence[Array], grads: Sequence[Array], squares: Sequence[Array], lr: float, epsilon: float
    ) -> None:
        """s += g**2; p -= lr * g / sqrt(s + epsilon) (Duchi et al. 2011)."""
        ...

    def adadelta_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        squares: Sequence[Array],
        delta_squares: Sequence[Array],
        lr: float,
        rho: float,
        epsilon: float,
    ) -> None:
        """s = rho * s + (1 - rho) * g**2; d = -sqrt(D + epsilon) / sqrt(s + epsilon) * g;
        D = rho * D + (1 - rho) * d**2; p += lr * d (Zeiler 2012)."""
        ...
