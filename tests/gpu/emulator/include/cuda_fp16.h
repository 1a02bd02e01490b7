// Stands where CUDA keeps its own header of this name.
#pragma once
#ifndef EMULATOR_LIST_KERNELS
#  include "half_types.h"
#endif
