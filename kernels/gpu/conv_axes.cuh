// How a convolution gathers: which pixel of its source a pixel of the result reads under a tap, one axis at a time.
#pragma once
#include "common.cuh"

// A pixel of the result, as a thread has it; beyond the last one, none.
struct Pixel {
    int image, row, column;
    bool exists;
};

// Pixel number `index` of (images, rows, columns).
__device__ __forceinline__ Pixel pixel_at(int index, int images, int rows, int columns) {
    const int line = index / columns, image = line / rows;
    return {image, line - image * rows, index - line * columns, image < images};
}

// One axis of a gather: result pixel i reads, under tap t, source pixel i * stride + start + t * step.
struct Axis {
    int size;    // pixels of the result
    int source;  // pixels of what is read
    int stride, start, step, taps;
    int first_tap, tap_stride;  // tap t is row first_tap + t * tap_stride of the kernel
};

__device__ __forceinline__ Axis forward_axis(int size, int source, int taps, int stride, int before, int dilation) {
    return {size, source, stride, -before, dilation, taps, 0, 1};
}

// The input gradient's axis for the pixels `phase`, phase + stride, ...; output pixel o under tap t has read the pixel
// o * stride - before + t * dilation. So a tap counts where phase + before - t * dilation divides by the stride: that
// is every (stride / gcd(stride, dilation))th, if any.
__device__ __forceinline__ Axis gradient_axis(int size, int source, int taps, int stride, int before, int dilation,
                                              int phase) {
    int every = 1;
    while (every * dilation % stride != 0) ++every;
    int first = 0;
    while (first < every && (phase + before - first * dilation) % stride != 0) ++first;
    const int count = first < every && first < taps ? (taps - first + every - 1) / every : 0;
    return {(size - phase + stride - 1) / stride, source, 1, (phase + before - first * dilation) / stride,
            -(every * dilation / stride), count, first, every};
}
