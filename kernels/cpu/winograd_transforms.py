"""The small transforms of Winograd's convolution F(4x4, 3x3), on vectors of channels.

In one dimension, four outputs y of a filter g of three taps over six inputs d are (Lavin and Gray 2016)

    y = A^T ((G g) * (B^T d))          with * elementwise: 6 multiplications instead of 12

          4  0 -5  0  1  0            1/4    0     0           1  1  1  1  1  0
          0 -4 -4  1  1  0           -1/6  -1/6  -1/6          0  1 -1  2 -2  0
    B^T = 0  4 -4 -1  1  0      G =  -1/6   1/6  -1/6    A^T = 0  1  1  4  4  0
          0 -2 -1  2  1  0           1/24  1/12   1/6          0  1 -1  8 -8  1
          0  2 -1 -2  1  0           1/24 -1/12   1/6
          0  4  0 -5  0  1             0     0     1

The six numbers are values of polynomials at the points 0, 1, -1, 2, -2 and infinity, where a product of polynomials has
the product of their values. In two dimensions a transform is applied to columns, then to the rows of that: B^T d B.

Each function `..._1d` is one matrix times a few vectors, with what the rows have in common computed once. Vectors hold
LANES channels of one pixel.
"""

from __future__ import annotations

from minicnn.kernels.cpu.jit import helper
from minicnn.kernels.cpu.simd import clamp, load, load_first, store, store_first
from minicnn.kernels.cpu.vector_math import scaled_plus

POINTS = 36
"""Numbers of a transformed tile: 6 x 6."""


# --------------------------------------------------------------------------------------------------- one dimension


@helper
def input_1d(d0, d1, d2, d3, d4, d5):  # type: ignore[no-untyped-def]
    """B^T d: six values of a row or column of an input tile -> six points."""
    even, odd = scaled_plus(-4.0, d2, d4), scaled_plus(-4.0, d1, d3)
    even2, odd2 = d4 - d2, d3 - d1
    return (
        scaled_plus(4.0, d0, scaled_plus(-5.0, d2, d4)),
        even + odd,
        even - odd,
        scaled_plus(2.0, odd2, even2),
        scaled_plus(-2.0, odd2, even2),
        scaled_plus(4.0, d1, scaled_plus(-5.0, d3, d5)),
    )


@helper
def input_grad_1d(v0, v1, v2, v3, v4, v5):  # type: ignore[no-untyped-def]
    """B v, the adjoint of `input_1d`: six points -> six values."""
    sum1, sum2, difference1, difference2 = v1 + v2, v3 + v4, v1 - v2, v3 - v4
    return (
        v0 * 4.0,
        scaled_plus(-4.0, difference1, scaled_plus(-2.0, difference2, v5 * 4.0)),
        scaled_plus(-4.0, sum1, v0 * -5.0) - sum2,
        scaled_plus(-5.0, v5, scaled_plus(2.0, difference2, difference1)),
        v0 + sum1 + sum2,
        v5,
    )


@helper
def weight_1d(g0, g1, g2):  # type: ignore[no-untyped-def]
    """G g: three taps -> six points."""
    even, odd = (g0 + g2) * (-1.0 / 6.0), g1 * (1.0 / 6.0)
    even2, odd2 = scaled_plus(1.0 / 6.0, g2, g0 * (1.0 / 24.0)), g1 * (1.0 / 12.0)
    return g0 * 0.25, even - odd, even + odd, even2 + odd2, even2 - odd2, g2


@helper
def output_1d(m0, m1, m2, m3, m4, m5):  # type: ignore[no-untyped-def]
    """A^T m: six points -> four values of a row or column of an output tile."""
    sum1, sum2, difference1, difference2 = m1 + m2, m3 + m4, m1 - m2, m3 - m4
    return (
        m0 + sum1 + sum2,
        scaled_plus(2.0, difference2, difference1),
        scaled_plus(4.0, sum2, sum1),
        scaled_plus(8.0, difference2, difference1) + m5,
    )


@helper
def output_grad_1d(y0, y1, y2, y3):  # type: ignore[no-untyped-def]
    """A y, the adjoint of `output_1d`: four gradients -> six points."""
    even, odd = y0 + y2, y1 + y3
    even2, odd2 = scaled_plus(4.0, y2, y0), scaled_plus(4.0, y3, y1)
    return y0, even + odd, even - odd, scaled_plus(2.0, odd2, even2), scaled_plus(-2.0, odd2, even2), y3


@helper
def weight_grad_1d(s0, s1, s2, s3, s4, s5):  # type: ignore[no-untyped-def]
    """G^T s, the adjoint of `weight_1d`: six points -> three taps."""
    sum1, sum2 = (s1 + s2) * (1.0 / 6.0), s3 + s4
    return (
        scaled_plus(1.0 / 24.0, sum2, s0 * 0.25 - sum1),
        scaled_plus(1.0 / 12.0, s3 - s4, (s2 - s1) * (1.0 / 6.0)),
        scaled_plus(1.0 / 6.0, sum2, s5 - sum1),
    )


# --------------------------------------------------------------------------------------------------- two dimensions
# Below, `start` is where the first pixel of a tile lies in a flat array, `down` and `right` how far it is from there to
# the pixel below and beside. A transformed tile lies in 36 planes, `plane` numbers apart: one for each of 6 x 6 points.
# The functions `..._at_border` take the tile's pixels with first_row <= row < last_row, first_column <= column <
# last_column and their first `count` channels alone; the others are zeros, or are not written.


@helper
def transform_input(x, start, down, right, v, place, plane):  # type: ignore[no-untyped-def]
    """B^T d B of a tile of 6 x 6 pixels."""
    a = _six(x, start, down)
    b = _six(x, start + right, down)
    c = _six(x, start + 2 * right, down)
    d = _six(x, start + 3 * right, down)
    e = _six(x, start + 4 * right, down)
    f = _six(x, start + 5 * right, down)
    _input_rows(input_1d(*a), input_1d(*b), input_1d(*c), input_1d(*d), input_1d(*e), input_1d(*f), v, place, plane)


@helper
def transform_input_at_border(x, start, down, right, rows, columns, count, v, place, plane):  # type: ignore[no-untyped-def]
    """The same; rows and columns are pairs (first, last)."""
    a = _six_at_border(x, start, down, rows, _if_inside(0, columns, count))
    b = _six_at_border(x, start + right, down, rows, _if_inside(1, columns, count))
    c = _six_at_border(x, start + 2 * right, down, rows, _if_inside(2, columns, count))
    d = _six_at_border(x, start + 3 * right, down, rows, _if_inside(3, columns, count))
    e = _six_at_border(x, start + 4 * right, down, rows, _if_inside(4, columns, count))
    f = _six_at_border(x, start + 5 * right, down, rows, _if_inside(5, columns, count))
    _input_rows(input_1d(*a), input_1d(*b), input_1d(*c), input_1d(*d), input_1d(*e), input_1d(*f), v, place, plane)


@helper
def _input_rows(a, b, c, d, e, f, v, place, plane):  # type: ignore[no-untyped-def]
    """The second half: B^T was applied to the columns a ... f, now to the rows."""
    _store_six(v, place, plane, input_1d(a[0], b[0], c[0], d[0], e[0], f[0]))
    _store_six(v, place + 6 * plane, plane, input_1d(a[1], b[1], c[1], d[1], e[1], f[1]))
    _store_six(v, place + 12 * plane, plane, input_1d(a[2], b[2], c[2], d[2], e[2], f[2]))
    _store_six(v, place + 18 * plane, plane, input_1d(a[3], b[3], c[3], d[3], e[3], f[3]))
    _store_six(v, place + 24 * plane, plane, input_1d(a[4], b[4], c[4], d[4], e[4], f[4]))
    _store_six(v, place + 30 * plane, plane, input_1d(a[5], b[5], c[5], d[5], e[5], f[5]))


@helper
def transform_output_grad(gy, start, down, right, z, place, plane):  # type: ignore[no-untyped-def]
    """A gy A^T of a tile of 4 x 4 gradients."""
    a = _four(gy, start, down)
    b = _four(gy, start + right, down)
    c = _four(gy, start + 2 * right, down)
    d = _four(gy, start + 3 * right, down)
    _output_grad_rows(
        output_grad_1d(*a), output_grad_1d(*b), output_grad_1d(*c), output_grad_1d(*d), z, place, plane
    )  # fmt: skip


@helper
def transform_output_grad_at_border(gy, start, down, right, rows, columns, count, z, place, plane):  # type: ignore[no-untyped-def]
    """The same; rows and columns are pairs (first, last)."""
    a = _four_at_border(gy, start, down, rows, _if_inside(0, columns, count))
    b = _four_at_border(gy, start + right, down, rows, _if_inside(1, columns, count))
    c = _four_at_border(gy, start + 2 * right, down, rows, _if_inside(2, columns, count))
    d = _four_at_border(gy, start + 3 * right, down, rows, _if_inside(3, columns, count))
    _output_grad_rows(
        output_grad_1d(*a), output_grad_1d(*b), output_grad_1d(*c), output_grad_1d(*d), z, place, plane
    )  # fmt: skip


@helper
def _output_grad_rows(a, b, c, d, z, place, plane):  # type: ignore[no-untyped-def]
    """The second half: A was applied to the columns a ... d, now to the rows."""
    _store_six(z, place, plane, output_grad_1d(a[0], b[0], c[0], d[0]))
    _store_six(z, place + 6 * plane, plane, output_grad_1d(a[1], b[1], c[1], d[1]))
    _store_six(z, place + 12 * plane, plane, output_grad_1d(a[2], b[2], c[2], d[2]))
    _store_six(z, place + 18 * plane, plane, output_grad_1d(a[3], b[3], c[3], d[3]))
    _store_six(z, place + 24 * plane, plane, output_grad_1d(a[4], b[4], c[4], d[4]))
    _store_six(z, place + 30 * plane, plane, output_grad_1d(a[5], b[5], c[5], d[5]))


@helper
def transform_taps(w, start, down, right, count, u, place, plane):  # type: ignore[no-untyped-def]
    """G g G^T of 3 x 3 taps, of their first `count` filters; zeros in the lanes behind."""
    a = weight_1d(*_three(w, start, down, count))
    b = weight_1d(*_three(w, start + right, down, count))
    c = weight_1d(*_three(w, start + 2 * right, down, count))
    _store_six(u, place, plane, weight_1d(a[0], b[0], c[0]))
    _store_six(u, place + 6 * plane, plane, weight_1d(a[1], b[1], c[1]))
    _store_six(u, place + 12 * plane, plane, weight_1d(a[2], b[2], c[2]))
    _store_six(u, place + 18 * plane, plane, weight_1d(a[3], b[3], c[3]))
    _store_six(u, place + 24 * plane, plane, weight_1d(a[4], b[4], c[4]))
    _store_six(u, place + 30 * plane, plane, weight_1d(a[5], b[5], c[5]))


@helper
def transform_output(m, place, plane, low, high, y, start, down, right):  # type: ignore[no-untyped-def]
    """A^T m A, clamped: 6 x 6 points -> a tile of 4 x 4 outputs."""
    p, q, r, s = _output_rows(m, place, plane, low, high)
    _store_four(y, start, right, p)
    _store_four(y, start + down, right, q)
    _store_four(y, start + 2 * down, right, r)
    _store_four(y, start + 3 * down, right, s)


@helper
def transform_output_at_border(m, place, plane, low, high, y, start, down, right, rows, columns, count):  # type: ignore[no-untyped-def]
    """The same, of a tile with fewer rows and columns."""
    p, q, r, s = _output_rows(m, place, plane, low, high)
    _store_four_at_border(y, start, right, p, columns, count)
    if rows > 1:
        _store_four_at_border(y, start + down, right, q, columns, count)
    if rows > 2:
        _store_four_at_border(y, start + 2 * down, right, r, columns, count)
    if rows > 3:
        _store_four_at_border(y, start + 3 * down, right, s, columns, count)


@helper
def _output_rows(m, place, plane, low, high):  # type: ignore[no-untyped-def]
    """Four rows of four outputs."""
    a = output_1d(*_six(m, place, 6 * plane))
    b = output_1d(*_six(m, place + plane, 6 * plane))
    c = output_1d(*_six(m, place + 2 * plane, 6 * plane))
    d = output_1d(*_six(m, place + 3 * plane, 6 * plane))
    e = output_1d(*_six(m, place + 4 * plane, 6 * plane))
    f = output_1d(*_six(m, place + 5 * plane, 6 * plane))
    return (
        _clamp_four(output_1d(a[0], b[0], c[0], d[0], e[0], f[0]), low, high),
        _clamp_four(output_1d(a[1], b[1], c[1], d[1], e[1], f[1]), low, high),
        _clamp_four(output_1d(a[2], b[2], c[2], d[2], e[2], f[2]), low, high),
        _clamp_four(output_1d(a[3], b[3], c[3], d[3], e[3], f[3]), low, high),
    )


@helper
def add_input_grad(m, place, plane, gx, start, down, right):  # type: ignore[no-untyped-def]
    """B m B^T: 6 x 6 points -> added to a tile of 6 x 6 pixels."""
    rows = _input_grad_rows(m, place, plane)
    _add_six(gx, start, right, rows[0])
    _add_six(gx, start + down, right, rows[1])
    _add_six(gx, start + 2 * down, right, rows[2])
    _add_six(gx, start + 3 * down, right, rows[3])
    _add_six(gx, start + 4 * down, right, rows[4])
    _add_six(gx, start + 5 * down, right, rows[5])


@helper
def add_input_grad_at_border(m, place, plane, gx, start, down, right, rows, columns, count):  # type: ignore[no-untyped-def]
    """The same; rows and columns are pairs (first, last)."""
    values = _input_grad_rows(m, place, plane)
    _add_six_at_border(gx, start, right, values[0], columns, _if_inside(0, rows, count))
    _add_six_at_border(gx, start + down, right, values[1], columns, _if_inside(1, rows, count))
    _add_six_at_border(gx, start + 2 * down, right, values[2], columns, _if_inside(2, rows, count))
    _add_six_at_border(gx, start + 3 * down, right, values[3], columns, _if_inside(3, rows, count))
    _add_six_at_border(gx, start + 4 * down, right, values[4], columns, _if_inside(4, rows, count))
    _add_six_at_border(gx, start + 5 * down, right, values[5], columns, _if_inside(5, rows, count))


@helper
def _input_grad_rows(m, place, plane):  # type: ignore[no-untyped-def]
    """Six rows of six pixels."""
    a = input_grad_1d(*_six(m, place, 6 * plane))
    b = input_grad_1d(*_six(m, place + plane, 6 * plane))
    c = input_grad_1d(*_six(m, place + 2 * plane, 6 * plane))
    d = input_grad_1d(*_six(m, place + 3 * plane, 6 * plane))
    e = input_grad_1d(*_six(m, place + 4 * plane, 6 * plane))
    f = input_grad_1d(*_six(m, place + 5 * plane, 6 * plane))
    return (
        input_grad_1d(a[0], b[0], c[0], d[0], e[0], f[0]),
        input_grad_1d(a[1], b[1], c[1], d[1], e[1], f[1]),
        input_grad_1d(a[2], b[2], c[2], d[2], e[2], f[2]),
        input_grad_1d(a[3], b[3], c[3], d[3], e[3], f[3]),
        input_grad_1d(a[4], b[4], c[4], d[4], e[4], f[4]),
        input_grad_1d(a[5], b[5], c[5], d[5], e[5], f[5]),
    )


@helper
def transform_weight_grad(s, place, plane, gw, start, down, right, count):  # type: ignore[no-untyped-def]
    """G^T s G: 6 x 6 points -> the gradients of 3 x 3 taps, of their first `count` filters."""
    a = weight_grad_1d(*_six(s, place, 6 * plane))
    b = weight_grad_1d(*_six(s, place + plane, 6 * plane))
    c = weight_grad_1d(*_six(s, place + 2 * plane, 6 * plane))
    d = weight_grad_1d(*_six(s, place + 3 * plane, 6 * plane))
    e = weight_grad_1d(*_six(s, place + 4 * plane, 6 * plane))
    f = weight_grad_1d(*_six(s, place + 5 * plane, 6 * plane))
    _store_three(gw, start, right, weight_grad_1d(a[0], b[0], c[0], d[0], e[0], f[0]), count)
    _store_three(gw, start + down, right, weight_grad_1d(a[1], b[1], c[1], d[1], e[1], f[1]), count)
    _store_three(gw, start + 2 * down, right, weight_grad_1d(a[2], b[2], c[2], d[2], e[2], f[2]), count)


# --------------------------------------------------------------------------------------------------- rows and columns


@helper
def _if_inside(index, bounds, count):  # type: ignore[no-untyped-def]
    """How many lanes of a pixel to take: `count` of one inside, none of one outside."""
    return count if bounds[0] <= index < bounds[1] else 0


@helper
def _six(a, start, stride):  # type: ignore[no-untyped-def]
    return (
        load(a, start),
        load(a, start + stride),
        load(a, start + 2 * stride),
        load(a, start + 3 * stride),
        load(a, start + 4 * stride),
        load(a, start + 5 * stride),
    )


@helper
def _six_at_border(a, start, stride, rows, count):  # type: ignore[no-untyped-def]
    return (
        load_first(a, start, _if_inside(0, rows, count)),
        load_first(a, start + stride, _if_inside(1, rows, count)),
        load_first(a, start + 2 * stride, _if_inside(2, rows, count)),
        load_first(a, start + 3 * stride, _if_inside(3, rows, count)),
        load_first(a, start + 4 * stride, _if_inside(4, rows, count)),
        load_first(a, start + 5 * stride, _if_inside(5, rows, count)),
    )


@helper
def _four(a, start, stride):  # type: ignore[no-untyped-def]
    return load(a, start), load(a, start + stride), load(a, start + 2 * stride), load(a, start + 3 * stride)


@helper
def _four_at_border(a, start, stride, rows, count):  # type: ignore[no-untyped-def]
    return (
        load_first(a, start, _if_inside(0, rows, count)),
        load_first(a, start + stride, _if_inside(1, rows, count)),
        load_first(a, start + 2 * stride, _if_inside(2, rows, count)),
        load_first(a, start + 3 * stride, _if_inside(3, rows, count)),
    )


@helper
def _three(a, start, stride, count):  # type: ignore[no-untyped-def]
    return load_first(a, start, count), load_first(a, start + stride, count), load_first(a, start + 2 * stride, count)


@helper
def _clamp_four(values, low, high):  # type: ignore[no-untyped-def]
    return (
        clamp(values[0], low, high),
        clamp(values[1], low, high),
        clamp(values[2], low, high),
        clamp(values[3], low, high),
    )


@helper
def _store_six(a, start, stride, values):  # type: ignore[no-untyped-def]
    store(a, start, values[0])
    store(a, start + stride, values[1])
    store(a, start + 2 * stride, values[2])
    store(a, start + 3 * stride, values[3])
    store(a, start + 4 * stride, values[4])
    store(a, start + 5 * stride, values[5])


@helper
def _store_four(a, start, stride, values):  # type: ignore[no-untyped-def]
    store(a, start, values[0])
    store(a, start + stride, values[1])
    store(a, start + 2 * stride, values[2])
    store(a, start + 3 * stride, values[3])


@helper
def _store_four_at_border(a, start, stride, values, columns, count):  # type: ignore[no-untyped-def]
    store_first(a, start, values[0], count)
    store_first(a, start + stride, values[1], count if columns > 1 else 0)
    store_first(a, start + 2 * stride, values[2], count if columns > 2 else 0)
    store_first(a, start + 3 * stride, values[3], count if columns > 3 else 0)


@helper
def _add_six(a, start, stride, values):  # type: ignore[no-untyped-def]
    v = _six(a, start, stride)
    _store_six(
        a, start, stride,
        (v[0] + values[0], v[1] + values[1], v[2] + values[2], v[3] + values[3], v[4] + values[4], v[5] + values[5]),
    )  # fmt: skip


@helper
def _add_six_at_border(a, start, stride, values, columns, count):  # type: ignore[no-untyped-def]
    _add_first(a, start, values[0], _if_inside(0, columns, count))
    _add_first(a, start + stride, values[1], _if_inside(1, columns, count))
    _add_first(a, start + 2 * stride, values[2], _if_inside(2, columns, count))
    _add_first(a, start + 3 * stride, values[3], _if_inside(3, columns, count))
    _add_first(a, start + 4 * stride, values[4], _if_inside(4, columns, count))
    _add_first(a, start + 5 * stride, values[5], _if_inside(5, columns, count))


@helper
def _add_first(a, index, vector, count):  # type: ignore[no-untyped-def]
    store_first(a, index, load_first(a, index, count) + vector, count)


@helper
def _store_three(a, start, stride, values, count):  # type: ignore[no-untyped-def]
    store_first(a, start, values[0], count)
    store_first(a, start + stride, values[1], count)
    store_first(a, start + 2 * stride, values[2], count)
