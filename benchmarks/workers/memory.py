"""Peak memory of this process, as the kernel counts it (Linux; None elsewhere).

Resident memory less what is mapped from files: a framework's code is read in at its first use, but is not the
network's.
"""

from __future__ import annotations

from typing import NamedTuple


class Start(NamedTuple):
    """What was resident when the count began: all of it, and the part that is mapped from files."""

    resident: int
    mapped: int


def _status(field: str) -> int:
    """A line of /proc/self/status, in bytes; 0 where there is none."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{field}:"))
    except (OSError, StopIteration):
        return 0


def start_peak() -> Start:
    """Forget the peak so far; what is resident now."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass  # then the peak is that of the whole life, which a fresh process has just begun
    return Start(_status("VmRSS"), _status("RssFile"))


def peak_since(start: Start) -> int | None:
    """How far memory rose since `start`, at most, without the files that were mapped meanwhile."""
    peak = _status("VmHWM")
    return max(peak - start.resident - (_status("RssFile") - start.mapped), 0) if peak else None
