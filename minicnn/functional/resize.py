"""Enlarging images by whole factors: nearest neighbour and bilinear.

Glossary  N batch, H W height and width, C channels, FH FW factors down and across; outputs are (N, H * FH, W * FW, C).
"""

from __future__ import annotations

import numpy as np

from minicnn.backend import backend_of
from minicnn.functional.geometry import as_images, pair
from minicnn.functional.linalg import matmul
from minicnn.functional.shape import repeat_interleave
from minicnn.kernels.contract import Pair
from minicnn.tensor import Tensor

__all__ = ["upsample_bilinear2d", "upsample_nearest2d"]


def upsample_nearest2d(x: Tensor, factors: int | Pair) -> Tensor:
    """Each pixel repeated: x (N, H, W, C) -> (N, H * FH, W * FW, C)."""
    down, across = pair(factors, "upsample_nearest2d: factors")
    return repeat_interleave(repeat_interleave(as_images(x, "upsample_nearest2d: x"), down, 1), across, 2)


def upsample_bilinear2d(x: Tensor, factors: int | Pair) -> Tensor:
    """Linear interpolation between pixel centres: x (N, H, W, C) -> (N, H * FH, W * FW, C).

    As keras.ops.image.resize and torch's interpolate with align_corners=False: beyond the outermost centres the edge
    pixel goes on. Rows and columns are interpolated one after the other, each by a matrix.
    """
    x = as_images(x, "upsample_bilinear2d: x")
    fh, fw = pair(factors, "upsample_bilinear2d: factors")
    n, h, w, c = x.shape
    rows = matmul(_interpolation_matrix(h, fh, x), x.reshape(n, h, w * c))  # (HF, H) @ (N, H, W*C) -> (N, HF, W*C)
    y = matmul(_interpolation_matrix(w, fw, x), rows.reshape(n * h * fh, w, c))  # -> (N*HF, WF, C)
    return y.reshape(n, h * fh, w * fw, c)


def _interpolation_matrix(size: int, factor: int, like: Tensor) -> Tensor:
    """Row i holds the weights of the two pixels around output i: (size * factor, size), of the dtype of `like`."""
    xp = backend_of(like.data).xp
    centres = (np.arange(size * factor) + 0.5) / factor - 0.5  # of the outputs, counted in input pixels
    centres = np.clip(centres, 0, size - 1)
    before = np.floor(centres).astype(int)
    after = np.minimum(before + 1, size - 1)
    matrix = np.zeros((size * factor, size))
    rows = np.arange(size * factor)
    matrix[rows, before] = 1 - (centres - before)
    matrix[rows, after] += centres - before
    return Tensor._wrap(xp.asarray(matrix, like.dtype))
