"""The machine and what ran on it: processor, versions, commit, load; the cores and variables that workers get."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_UNWANTED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MALLOC_", "LD_PRELOAD", "KMP_", "GOMP_", "OMP_")
"""Settings of the surroundings that would slow one framework and not another."""
_FLAGS = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512vl", "avx512_vnni", "amx_tile", "neon", "asimd", "sve")


def describe() -> dict[str, Any]:
    return {
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": len(cores()),
        "flags": [flag for flag in _FLAGS if flag in (_cpuinfo("flags") or _cpuinfo("Features") or "").split()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": _commit(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _cpuinfo(field: str) -> str | None:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.split(":")[0].strip() == field)
    except (OSError, StopIteration):
        return None


def _commit() -> str | None:
    """The checkout's commit, with a + where files differ from it."""
    try:
        run = ["git", "-C", str(ROOT)]
        commit = subprocess.run([*run, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run([*run, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "")


def cores() -> list[int]:
    """Processors that this process may use, one of each core first, its hyperthreads after all cores."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    seen: set[tuple[str, str]] = set()
    first: list[int] = []
    second: list[int] = []
    for cpu in sorted(os.sched_getaffinity(0)):
        place = _topology(cpu, "physical_package_id"), _topology(cpu, "core_id")
        (second if place in seen else first).append(cpu)
        seen.add(place)
    return first + second


def _topology(cpu: int, field: str) -> str:
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/{field}").read_text().strip()
    except OSError:
        return str(cpu)


def worker_environment(threads: int, extra: dict[str, str]) -> dict[str, str]:
    """Environment of a worker: the same threads for every library, nothing that favours one framework."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_UNWANTED)}
    return {
        **kept,
        **{name: str(threads) for name in _THREADS},
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        **extra,
    }
