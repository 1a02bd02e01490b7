"""Runs the cases: one process a framework, taking turns, so that a slow minute of the machine hits all alike.

For each case every worker prepares it and is checked; then, round after round and each time in another order, each runs
as many calls as take a fixed time while the others sleep. What is kept is every round's seconds a call; the tables show
medians.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks import machine, peers, process
from benchmarks.cases import Case
from benchmarks.check import compare
from benchmarks.peers import MINICNN, ORACLE, Peer
from benchmarks.process import Process, WorkerError

Measurement = dict[str, Any]
FORMAT = 1
LIMIT_S = 0.01
"""About what one try at a limit of the machine takes; there are as many as fit into a sample."""


@dataclass(frozen=True)
class Options:
    """How to measure. pause: seconds between workers, in which the idle threads of the last one fall asleep."""

    peers: list[Peer]
    rounds: int = 5
    threads: int = 2
    sample_s: float = 0.08
    pause: float = 0.1

    @classmethod
    def quick(cls, chosen: list[Peer], threads: int, rounds: int = 2) -> Options:
        return cls(chosen, rounds, threads, sample_s=0.01, pause=0.01)


@dataclass
class Runner:
    """Keeps the long-lived workers, by framework and threads."""

    options: Options
    tell: Callable[[str], None] = lambda _: None
    keep: Callable[[dict[str, Any]], None] = lambda _: None
    _alive: dict[tuple[str, int], Process] = field(default_factory=dict)

    def run(self, cases: list[Case]) -> dict[str, Any]:
        """Everything measured, as it is written to the JSON file; `keep` gets what there is after each case."""
        settings = {name: getattr(self.options, name) for name in ("rounds", "threads", "sample_s", "pause")}
        run: dict[str, Any] = {"format": FORMAT, "machine": machine.describe(), "options": settings}
        try:
            groups = {case.group for case in cases}
            taking_part = [peer for peer in (MINICNN, *self.options.peers) if groups.intersection(peer.groups)]
            run["frameworks"] = {peer.name: self._hello(peer) for peer in taking_part}
            run["machine"].update(self._limits({}))
            run["results"] = []
            for number, case in enumerate(cases, 1):
                if case.threads is None or case.threads <= len(machine.cores()):
                    self.tell(f"{number}/{len(cases)} {case.group}: {case.name}")
                    run["results"].append({"case": case.to_record(), "measurements": self.measure(case)})
                    self.keep(run)
            run["machine"].update(self._limits(run["machine"]))
            self.keep(run)
        finally:
            self.close()
        return run

    def close(self) -> None:
        for running in self._alive.values():
            running.close()
        self._alive.clear()

    # ------------------------------------------------------------------------------------------------- workers

    def _hello(self, peer: Peer) -> dict[str, Any]:
        """Versions, or the reason for which a framework is absent."""
        reason = peers.absence(peer)
        if reason is not None:
            return {"absent": reason}
        try:
            return self._worker(peer, self.options.threads).ask("hello")
        except WorkerError as error:
            self._drop(peer, self.options.threads)
            return {"absent": str(error)}

    def _worker(self, peer: Peer, threads: int) -> Process:
        key = peer.name, threads
        if key not in self._alive:
            self._alive[key] = Process(peer, threads)
        return self._alive[key]

    def _drop(self, peer: Peer, threads: int) -> None:
        running = self._alive.pop((peer.name, threads), None)
        if running is not None:
            running.close()

    def _present(self, case: Case) -> list[Peer]:
        return [p for p in (MINICNN, *self.options.peers) if case.group in p.groups and peers.absence(p) is None]

    def _limits(self, known: dict[str, Any]) -> dict[str, float]:
        """The best rates that any framework here reaches, now or as `known`: the machine may have been busy then."""
        rates: dict[str, float] = {name: known[name] for name in ("gemm_flops", "copy_bytes") if name in known}
        repeats = max(1, round(self.options.sample_s / LIMIT_S))
        for peer in (MINICNN, *self.options.peers):
            if (peer.name, self.options.threads) in self._alive:
                for name, value in self._worker(peer, self.options.threads).ask("limits", repeats=repeats).items():
                    rates[name] = max(value, rates.get(name, 0.0))
                time.sleep(self.options.pause)
        return rates

    # ------------------------------------------------------------------------------------------------- one case

    def measure(self, case: Case) -> dict[str, Measurement]:
        """Framework -> what was measured, or {"unsupported": reason}, {"error": message}."""
        if case.group == "startup":
            return {peer.name: _guarded(self._startup, case, peer) for peer in self._present(case)}
        threads = case.threads or self.options.threads
        with self._workers(case, threads) as workers:
            found = {name: _guarded(self._prepare, case, running) for name, running in workers.items()}
            self._check(case, threads, found)
            able = {name: running for name, running in workers.items() if "iterations" in found[name]}
            self._take_turns(able, found)
            for name, running in able.items():
                found[name].update(_guarded(lambda running: running.ask("release"), running))
        for running in workers.values():
            if "error" in found[running.peer.name] and not case.fresh:
                self._drop(running.peer, threads)  # it may be dead; the next case starts another
        return found

    @contextmanager
    def _workers(self, case: Case, threads: int) -> Iterator[dict[str, Process]]:
        """A worker for each framework: fresh ones, closed afterwards, where the case asks for it."""
        present = self._present(case)
        if not case.fresh:
            yield {peer.name: self._worker(peer, threads) for peer in present}
            return
        fresh = {peer.name: Process(peer, threads) for peer in present}
        try:
            for running in fresh.values():
                _guarded(lambda running: running.ask("hello"), running)
            yield fresh
        finally:
            for running in fresh.values():
                running.close()

    def _choice(self, case: Case, running: Process) -> str | None:
        """The form that a framework is fastest in; tried in the long-lived worker, which leaves a fresh one clean."""
        threads = case.threads or self.options.threads
        return self._worker(running.peer, threads).ask("choose", case=case.to_json()).get("choice")

    def _prepare(self, case: Case, running: Process) -> Measurement:
        """First call, outputs, and how many calls make a sample."""
        time.sleep(self.options.pause)
        choice = self._choice(case, running)
        time.sleep(self.options.pause)
        reply = running.ask("prepare", case={**case.to_json(), "choice": choice})
        if "unsupported" in reply:
            return reply
        once = running.ask("run", iterations=1)["seconds"]
        if once < self.options.sample_s:  # it may be much less when warm
            once = running.ask("run", iterations=3)["seconds"]
        iterations = max(1, round(self.options.sample_s / once))
        return {**reply, "choice": choice, "iterations": iterations, "samples": [], "system_s": []}

    def _check(self, case: Case, threads: int, found: dict[str, Measurement]) -> None:
        """Compare outputs with PyTorch's, or else the reference's; who is wrong is not timed."""
        expected = found.get("torch", {}).get("outputs") or self._reference_outputs(case, threads)
        for name, measured in found.items():
            outputs = measured.pop("outputs", None)
            if outputs is None:
                continue
            measured["check"] = compare(outputs, expected, case.tolerance, case.compared)
            if not measured["check"]["passed"]:
                found[name] = {"error": f"wrong by {measured['check']['error']:.1e}", "check": measured["check"]}

    def _reference_outputs(self, case: Case, threads: int) -> dict[str, Any]:
        try:
            return self._worker(ORACLE, threads).ask("prepare", case=case.to_json()).get("outputs", {})
        except WorkerError:
            self._drop(ORACLE, threads)
            return {}

    def _take_turns(self, workers: dict[str, Process], found: dict[str, Measurement]) -> None:
        names = list(workers)
        for turn in range(self.options.rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)] if names else []:
                measured = found[name]
                if "error" in measured:
                    continue
                time.sleep(self.options.pause)
                reply = _guarded(
                    lambda running, n: running.ask("run", iterations=n), workers[name], measured["iterations"]
                )
                if "error" in reply:
                    measured["error"] = reply["error"]
                    continue
                measured["samples"].append(reply["seconds"])
                measured["system_s"].append(reply["system_s"])
                measured["minor_faults"], measured["allocations"] = reply["minor_faults"], reply["allocations"]
        for name in names:
            if found[name]["samples"]:
                found[name]["median_s"] = statistics.median(found[name]["samples"])

    # ------------------------------------------------------------------------------------------------- startup

    def _startup(self, case: Case, peer: Peer) -> Measurement:
        threads, times = self.options.threads, []
        if case.op == "cold_first_batch" and peer is not MINICNN:
            return {"unsupported": "nothing to compile"}
        rounds = 1 if case.op == "cold_first_batch" else self.options.rounds
        for _ in range(rounds):
            time.sleep(self.options.pause)
            times.append(
                process.time_import(peer, threads) if case.op == "import" else _first_batch(case, peer, threads)
            )
        return {"samples": times, "median_s": statistics.median(times)}


def _first_batch(case: Case, peer: Peer, threads: int) -> float:
    """From the start of a process to the end of its first training step; cold: with an empty cache of kernels."""
    with tempfile.TemporaryDirectory() as empty:
        variables = {"MINICNN_KERNEL_CACHE": empty} if case.op == "cold_first_batch" else {}
        running = Process(peer, threads, variables)
        try:
            running.ask("first_batch", case=case.to_json())
            return time.perf_counter() - running.started
        finally:
            running.close()


def _guarded(function: Callable[..., Measurement], *args: Any) -> Measurement:
    """A framework that fails must not stop the others."""
    try:
        return function(*args)
    except WorkerError as error:
        return {"error": str(error)}
