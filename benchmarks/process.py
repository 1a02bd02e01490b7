"""A worker process and the talk with it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine, peers
from benchmarks.peers import Peer

PATIENCE = 900.0
"""Seconds that a worker may take for one answer: compiling a large network is slow."""


class WorkerError(RuntimeError):
    """A worker died, hung, or answered with an error."""


class Process:
    """A running worker. It sleeps in a read of its standard input while others work."""

    def __init__(self, peer: Peer, threads: int, variables: dict[str, str] | None = None) -> None:
        self.peer = peer
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (lives as long as the process)
        self.started = time.perf_counter()
        command = [str(peers.interpreter(peer)), "-m", f"benchmarks.workers.{peer.worker}"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=machine.ROOT,
            env=machine.worker_environment(threads, {**peer.variables, **(variables or {})}),
        )
        _pin(self._process.pid, threads)

    def ask(self, command: str, **fields: Any) -> dict[str, Any]:
        """Send a command, wait for the answer. Raises WorkerError where there is none, or it is an error."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **fields}) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, OSError) as error:
            raise WorkerError(self._last_words()) from error
        reply: dict[str, Any] = json.loads(self._read_line())
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        if not ready:
            self._process.kill()
            raise WorkerError(f"no answer in {PATIENCE:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(self._last_words())
        return line

    def _last_words(self) -> str:
        self._process.wait()
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().splitlines() if line.strip()]
        return f"exit status {self._process.returncode}: {lines[-1] if lines else 'no message'}"

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # of a request that nobody read
                    pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def _pin(pid: int, threads: int) -> None:
    """Give the process as many cores as threads, since not every framework can be told its number of threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, machine.cores()[:threads])


def time_import(peer: Peer, threads: int) -> float:
    """Seconds of a Python that imports the framework and ends, less those of a Python that does nothing."""
    empty, full = (_time_python(peer, threads, code) for code in ("pass", f"import {peer.module}"))
    return full - empty


def _time_python(peer: Peer, threads: int, code: str) -> float:
    environment = machine.worker_environment(threads, peer.variables)
    start = time.perf_counter()
    subprocess.run(
        [str(peers.interpreter(peer)), "-c", code],
        env=environment,
        cwd=Path(tempfile.gettempdir()),
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - start
