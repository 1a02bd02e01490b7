"""Peak memory of this process, as the kernel counts it (Linux; None elsewhere)."""

from __future__ import annotations


def _status(field: str) -> int | None:
    """A line of /proc/self/status, in bytes."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{field}:"))
    except (OSError, StopIteration):
        return None


def start_peak() -> int | None:
    """Forget the peak so far; what is resident now."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass  # then the peak is that of the whole life, which a fresh process has just begun
    return _status("VmRSS")


def peak_since(resident: int | None) -> int | None:
    """How far memory rose above `resident`, at most."""
    peak = _status("VmHWM")
    return None if peak is None or resident is None else max(peak - resident, 0)
