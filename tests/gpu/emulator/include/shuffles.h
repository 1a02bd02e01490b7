// Warp shuffles, votes and matches: each is one meeting of the lanes (barriers.h).
#pragma once

#include "barriers.h"

namespace emulator {

static inline Lane& my_lane() { return machine.warps[warp_of(*machine.current)].lane[lane_of(*machine.current)]; }

template <class T>
static void complete_shuffle(Warp& warp, unsigned lanes) {
    for (unsigned rest = lanes; rest; rest &= rest - 1) {
        Lane& lane = warp.lane[__builtin_ctz(rest)];
        if (lane.source < 0)
            std::memcpy(lane.result, lane.value, sizeof(T));
        else if (lanes >> lane.source & 1)
            std::memcpy(lane.result, warp.lane[lane.source].value, sizeof(T));
        else
            std::memset(lane.result, POISON, sizeof(T));  // a lane that takes no part: CUDA leaves the value undefined
    }
}

template <class T>
static inline T shuffle(unsigned mask, T value, int source, Place place) {
    static_assert(sizeof(T) <= sizeof(Lane::value), "a shuffle of so large a type");
    Lane& lane = my_lane();
    std::memcpy(lane.value, &value, sizeof(T));
    lane.source = source;
    warp_meet(mask, complete_shuffle<T>, place);
    T result;
    std::memcpy(&result, lane.result, sizeof(T));
    return result;
}

// The warp is cut into segments of `width` lanes; a source outside of the own segment means: keep your own value.
struct Segment {
    int lane, first, last;
    explicit Segment(int width)
        : lane(lane_of(*machine.current)), first(lane & ~(width - 1)), last(first + width - 1) {}
    int own_or(int source) const { return source < first || source > last ? -1 : source; }
};

static void complete_ballot(Warp& warp, unsigned lanes) {
    unsigned votes = 0;
    for (unsigned rest = lanes; rest; rest &= rest - 1) {
        const unsigned lane = __builtin_ctz(rest);
        votes |= static_cast<unsigned>(warp.lane[lane].source) << lane;
    }
    for (unsigned rest = lanes; rest; rest &= rest - 1)
        std::memcpy(warp.lane[__builtin_ctz(rest)].result, &votes, sizeof votes);
}

static inline unsigned ballot(unsigned mask, bool vote, Place place) {
    Lane& lane = my_lane();
    lane.source = vote;
    warp_meet(mask, complete_ballot, place);
    unsigned votes;
    std::memcpy(&votes, lane.result, sizeof votes);
    return votes;
}

}  // namespace emulator

template <class T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATOR_CALLER) {
    const ::emulator::Segment segment(width);
    return ::emulator::shuffle(mask, value, segment.first + (source & (width - 1)), {file, line});
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, EMULATOR_CALLER) {
    const ::emulator::Segment segment(width);
    return ::emulator::shuffle(mask, value, segment.own_or(segment.lane - static_cast<int>(delta)), {file, line});
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, EMULATOR_CALLER) {
    const ::emulator::Segment segment(width);
    return ::emulator::shuffle(mask, value, segment.own_or(segment.lane + static_cast<int>(delta)), {file, line});
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMULATOR_CALLER) {
    const ::emulator::Segment segment(width);  // earlier segments may be read, later ones not
    const int source = segment.lane ^ bits;
    return ::emulator::shuffle(mask, value, source > segment.last ? -1 : source, {file, line});
}

static inline unsigned __ballot_sync(unsigned mask, int vote, EMULATOR_CALLER) {
    return ::emulator::ballot(mask, vote != 0, {file, line});
}
static inline int __any_sync(unsigned mask, int vote, EMULATOR_CALLER) {
    return ::emulator::ballot(mask, vote != 0, {file, line}) != 0;
}
static inline int __all_sync(unsigned mask, int vote, EMULATOR_CALLER) {
    return ::emulator::ballot(mask, vote == 0, {file, line}) == 0;
}
// Which lanes are together is the hardware's affair; the emulator answers as the most divergent one would.
static inline unsigned __activemask() { return 1u << ::emulator::lane_of(*::emulator::machine.current); }
