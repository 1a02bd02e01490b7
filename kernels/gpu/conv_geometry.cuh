// The sizes of a convolution, passed by value to its kernels. Made in Python by conv_geometry.py.
#pragma once

// N batch, H W height and width of the input, C its channels, F filters, KH KW kernel size, OH OW height and width of
// the output, strides, padding at the top and the left (may be negative), dilation, groups.
// x (N, H, W, C), w (KH, KW, C / G, F), y (N, OH, OW, F): output pixel (i, j) reads, under the tap (a, b) of the
// kernel, the input pixel (i * sh - top + a * dh, j * sw - left + b * dw).
// Numbers of pixels fit an int; numbers of elements may not.
struct ConvGeometry {
    int n, h, w, c, f, kh, kw, oh, ow, sh, sw, top, left, dh, dw, groups;
};
