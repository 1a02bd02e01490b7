// CUDA C++ for a machine without a GPU: force-included before a kernel's text, which then compiles with g++.
//
// A block runs on one OS thread; each of its CUDA threads is a fiber (fibers.h) that gives way only at a barrier or a
// warp operation. So a kernel runs unmodified, one CUDA thread at a time, in an order that the launch chooses.
#pragma once

#ifdef EMULATOR_LIST_KERNELS
// The first pass, preprocessor only: macros are expanded, `__global__` stays, and compiler.py reads off the kernels.
#else
#  include "machine.h"
#  include "fibers.h"
#  include "barriers.h"
#  include "scheduler.h"
#  include "vectors.h"
#  include "shuffles.h"
#  include "atomics.h"
#  include "async_copy.h"
#  include "device_math.h"
#  include "half_types.h"
#  include "mma.h"
#  include "launch.h"
#endif
