"""Counter-based random streams (Philox): a seed and a counter say everything, so a run can be repeated and resumed.

Every draw takes the next stream number of a `Generator`. Dropout hands (seed, stream) to a kernel, which makes the same
mask on every backend; initializers and shuffles draw on the host from NumPy's Philox and so agree everywhere too.
"""

from __future__ import annotations

import os
import threading

import numpy as np

_MASK64 = (1 << 64) - 1


class Generator:
    """A source of streams: `seed` (64 bits) and `stream`, the number of streams handed out so far."""

    def __init__(self, seed: int) -> None:
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(f"seed must be a non-negative integer. Received: {seed!r}")
        self.seed = int(seed) & _MASK64
        self.stream = 0
        self._lock = threading.Lock()

    def next_stream(self) -> tuple[int, int]:
        """The next (seed, stream) pair, as the kernels `dropout` and `philox_words` take it."""
        with self._lock:
            self.stream += 1
            return self.seed, self.stream

    def numpy(self) -> np.random.Generator:
        """A NumPy generator on the next stream."""
        return np.random.Generator(np.random.Philox(key=self.next_stream()))

    def get_state(self) -> tuple[int, int]:
        """(seed, stream): all there is to save."""
        return self.seed, self.stream

    def set_state(self, state: tuple[int, int]) -> None:
        """Go on from what `get_state` returned."""
        self.seed, self.stream = (int(part) for part in state)


def _fresh_seed() -> int:
    return int.from_bytes(os.urandom(8), "little")


default_generator = Generator(_fresh_seed())
"""The generator behind every initializer, shuffle and dropout that was given no seed of its own."""


def manual_seed(seed: int) -> Generator:
    """Restart the default generator from `seed`; all later draws follow from it. As torch.manual_seed.

    Raises ValueError where seed is not a non-negative integer.
    """
    default_generator.set_state(Generator(seed).get_state())
    return default_generator


def generator_for(seed: int | Generator | None) -> Generator:
    """The default generator for None, a given generator itself, a new one for a number."""
    if seed is None:
        return default_generator
    return seed if isinstance(seed, Generator) else Generator(seed)
