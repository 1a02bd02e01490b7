// The patches under a tile of pixels, read straight from the image: the left matrix of a convolution as an implicit
// matrix product, which is never written out.
#pragma once
#include "conv_axes.cuh"
#include "conv_tile.cuh"

// How far memory is left behind, in numbers, at the end of a tap's channels: to the next tap of the row, and, on top of
// that, to the next row of taps. Known before the walk, so that it is but an addition.
struct Steps {
    long long tap, row;
};

// The matrix A: row = a pixel of the result, depth k = (tap, channel). A thread has one row and walks along the depth,
// WIDTH channels at a time; that the tap lies in the image is checked once for all its channels.
template <class T, int WIDTH>
struct PatchRows {
    static constexpr int STRIDE = T::THREADS / T::ROWS * WIDTH;
    static constexpr int COUNT = T::DEPTH / STRIDE;

    const Axis &down, &across;
    const Steps& steps;
    const int channels;                // of a group
    int tap_row, tap_column, channel;  // where the walk stands
    int row, column;                   // the source pixel there
    const real* next;
    bool inside;
    Pack<WIDTH> held[COUNT];

    // source (N, down.source, across.source, pitch) from the first channel of the group; the pixel of this thread's
    // row; the depth where the walk begins.
    __device__ PatchRows(const real* source, const Axis& down, const Axis& across, const Steps& steps, int channels,
                         int pitch, const Pixel& pixel, int first)
        : down(down), across(across), steps(steps), channels(channels), tap_row(0), tap_column(0), channel(0) {
        row = pixel.row * down.stride + down.start;
        column = pixel.column * across.stride + across.start;
        next = source + (((long long)pixel.image * down.source + row) * across.source + column) * pitch;
        if (!pixel.exists) row = -(1 << 30);  // above every image
        check();
        advance(first + threadIdx.x / T::ROWS * WIDTH);
    }

    __device__ void check() {
        inside = tap_row < down.taps && (unsigned)row < (unsigned)down.source &&
                 (unsigned)column < (unsigned)across.source;
    }

    __device__ void advance(int count) {
        next += count;
        channel += count;
        if (channel < channels || channels == 0) return;
        do {
            channel -= channels;
            next += steps.tap;
            column += across.step;
            if (++tap_column == across.taps) {
                tap_column = 0;
                ++tap_row;
                next += steps.row;
                column -= across.taps * across.step;
                row += down.step;
            }
        } while (channel >= channels);
        check();
    }

    __device__ void fetch() {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            held[i] = inside ? load_pack<WIDTH>(next) : Pack<WIDTH>{};
            advance(STRIDE);
        }
    }

    // Turned: depth by depth, so that neighbouring threads, which have neighbouring rows, write neighbouring words.
    __device__ void store(real (&buffer)[T::DEPTH][T::ROWS]) const {
        const int row = threadIdx.x % T::ROWS, k = threadIdx.x / T::ROWS * WIDTH;
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
#pragma unroll
            for (int lane = 0; lane < WIDTH; ++lane) buffer[k + i * STRIDE + lane][row] = held[i].lane[lane];
    }
};
