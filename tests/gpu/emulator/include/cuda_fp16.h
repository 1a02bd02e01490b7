// Stands where CUDA keeps its own header of this name.
#pragma once
#include "half_types.h"
