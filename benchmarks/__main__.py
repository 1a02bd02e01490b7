"""`python -m benchmarks`: minicnn against other frameworks and the machine's limits.

python -m benchmarks peers                         make the other frameworks' virtual environments
python -m benchmarks                               everything: leave the machine alone meanwhile
python -m benchmarks --group steps --only B2       one case
python -m benchmarks --json new.json --compare old.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import machine, markdown, peers, plots, ratios, report
from benchmarks.cases import GROUPS, all_cases, select
from benchmarks.runner import FORMAT, Options, Runner

ROUNDS, QUICK_ROUNDS = 5, 2
FILE_WIDTH = 220
"""Columns of the tables where they are not written to a terminal, which knows its own."""


def parser() -> argparse.ArgumentParser:
    cores = len(machine.cores())
    made = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("action", nargs="?", choices=("run", "peers", "list", "show"), default="run")
    made.add_argument("names", nargs="*", help="peers: environments to make; show: JSON files to show again")
    made.add_argument("--group", default=",".join(GROUPS), help="comma-separated: %(default)s")
    made.add_argument("--only", metavar="PATTERN", help="cases whose group/name holds this text")
    made.add_argument("--peers", help="comma-separated names; all that are installed where left out; '' for none")
    made.add_argument("--compile", action="store_true", help="torch.compile too, on small networks; slow to start")
    made.add_argument("--rounds", type=int, help=f"interleaved rounds (default {ROUNDS}, --quick {QUICK_ROUNDS})")
    made.add_argument("--threads", type=int, default=min(2, cores), help="of each framework (default %(default)s)")
    made.add_argument("--quick", action="store_true", help="short samples and few rounds: to see that all works")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all results")
    made.add_argument("--compare", type=Path, metavar="OLD", help="results of an earlier run to compare with")
    made.add_argument("--markdown", action="store_true", help="the main tables as Markdown instead, for a README")
    made.add_argument("--plot", type=Path, metavar="FOLDER", help="write pictures (needs matplotlib)")
    return made


def main(arguments: list[str] | None = None) -> int:
    options, console = parser().parse_args(arguments), Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    try:
        if options.action == "peers":
            return peers.install(options.names, console)
        if options.action == "list":
            for case in _cases(options):
                console.print(f"{case.group}/{case.name}", highlight=False)
            return 0
        old = _read(options.compare) if options.compare else None
        runs = [_read(Path(name)) for name in options.names] if options.action == "show" else [_run(options, console)]
    except (OSError, ValueError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    for run in runs:
        if options.markdown:
            print(markdown.tables(run))
            continue
        _tell(run, old, options.plot, console)
    return 1 if any(report.problems(run["results"]) for run in runs) else 0


def _tell(run: dict[str, Any], old: dict[str, Any] | None, plot: Path | None, console: Console) -> None:
    report.show(run, console)
    if old is not None:
        report.show_changes(ratios.changes(old, run), console)
    if plot is not None:
        for path in plots.draw(run, plot):
            console.print(f"wrote {path}")


def _run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    cases = _cases(options)
    if not cases:
        raise ValueError(f"no case matches. Received: --group {options.group} --only {options.only}")
    chosen = _peers(options)
    if options.rounds is not None and options.rounds < 1:
        raise ValueError(f"--rounds must be positive. Received: {options.rounds}")
    if not 1 <= options.threads <= len(machine.cores()):
        raise ValueError(f"--threads must be 1 to {len(machine.cores())}, the cores here. Received: {options.threads}")
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    how = Options.quick(chosen, options.threads, rounds) if options.quick else Options(chosen, rounds, options.threads)
    with console.status("starting the frameworks") as status:
        return Runner(how, tell=status.update, keep=_writer(options.json)).run(cases)


def _writer(path: Path | None) -> Callable[[dict[str, Any]], None]:
    """What writes the results so far, so that an interrupted run is not lost."""
    if path is None:
        return lambda run: None
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(run: dict[str, Any]) -> None:
        path.write_text(json.dumps(run, indent=1) + "\n")

    return write


def _cases(options: argparse.Namespace) -> list[Any]:
    groups = options.group.split(",")
    unknown = set(groups) - set(GROUPS)
    if unknown:
        raise ValueError(f"--group must be some of {', '.join(GROUPS)}. Received: {', '.join(sorted(unknown))}")
    return select(all_cases(), groups, options.only)


def _peers(options: argparse.Namespace) -> list[peers.Peer]:
    """Those named, or all; torch-compile only where it is asked for."""
    known = {peer.name: peer for peer in peers.PEERS}
    if options.peers is None:
        return [peer for peer in known.values() if peer.name != "torch-compile" or options.compile]
    names = [name for name in options.peers.split(",") if name]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"--peers must be some of {', '.join(known)}. Received: {', '.join(unknown)}")
    return [known[name] for name in [*names, *(["torch-compile"] if options.compile else [])]]


def _read(path: Path) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(path.read_text())
    if run.get("format") != FORMAT:
        raise ValueError(f"{path}: results of another format. Expected {FORMAT}. Received: {run.get('format')}")
    return run


if __name__ == "__main__":
    sys.exit(main())
