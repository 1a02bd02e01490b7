"""What the emulator complains of."""

from __future__ import annotations


class EmulatorError(RuntimeError):
    """Any complaint of the emulator."""


class CompileError(EmulatorError):
    """The text does not compile."""


class LaunchError(EmulatorError):
    """A launch that a GPU refuses, or would run with arguments that are not the kernel's."""


class KernelError(EmulatorError):
    """A kernel did what it may not while it ran: deadlock, divergence, a misaligned copy, undefined behaviour."""
