"""Bugs planted in the CUDA kernels: each must be found by a check that the kernel passes as it is.

A spoiled kernel may write anywhere and crash, so every check runs in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from minicnn.kernels.gpu import loader
from tests.gpu.mutants.table import MUTANTS, Mutant

pytestmark = pytest.mark.ci

ROOT = Path(__file__).parents[2]
FOUND = 3
CHECKS = sorted({(mutant.check, mutant.sanitize) for mutant in MUTANTS})
SHARE_THEIR_HEADERS = {"column_sums.cu", "conv_pool.cu", "conv_tc_weight_grad.cu", "gemm_tc.cu", "mma_words.cu"}
"""Sources without a bug of their own: what they do is done in headers, which have some."""

Outcome = tuple[int, str]


def outcome(check: str, mutant: str = "", sanitize: str = "") -> Outcome:
    """Exit status and output of one check."""
    command = [sys.executable, "-m", "tests.gpu.mutants.checks", check, mutant]
    environment = {**os.environ, "MINICNN_EMULATOR_SANITIZE": sanitize, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """Of all checks and all mutants, by name; as many run at once as there are processors."""
    unchanged = {f"{check} {sanitize}": (check, "", sanitize) for check, sanitize in CHECKS}
    spoiled = {mutant.name: (mutant.check, mutant.name, mutant.sanitize) for mutant in MUTANTS}
    runs = {**unchanged, **spoiled}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(runs, pool.map(lambda name: outcome(*runs[name]), runs), strict=True))


@pytest.mark.parametrize(("check", "sanitize"), CHECKS)
def test_kernels_pass_as_they_are(check: str, sanitize: str, outcomes: dict[str, Outcome]) -> None:
    status, output = outcomes[f"{check} {sanitize}"]
    assert status == 0, output


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_bug_is_found(mutant: Mutant, outcomes: dict[str, Outcome]) -> None:
    status, output = outcomes[mutant.name]
    assert status == FOUND or status < 0, output  # below zero: a signal, the spoiled kernel crashed


def test_every_bug_changes_its_source_and_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        text = loader.read_source(mutant.file)
        assert mutant.applied_to(text) != text


def test_bugs_are_planted_in_every_source() -> None:
    assert {mutant.file for mutant in MUTANTS} == set(loader.sources()) - SHARE_THEIR_HEADERS
