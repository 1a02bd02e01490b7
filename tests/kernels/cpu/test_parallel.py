"""Threads: every task runs once, whatever else goes on: other Python threads, a fork, any pool of Numba's."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import minicnn
from minicnn.kernels import cpu
from minicnn.kernels.cpu import parallel
from minicnn.kernels.cpu.jit import helper, kernel
from minicnn.kernels.cpu.parallel import parallel_for

PROGRAM = """
import numpy as np, os, threading
from minicnn.kernels import cpu
from minicnn.kernels.cpu import parallel
x = np.random.default_rng(0).standard_normal((8, 20, 20, 16)).astype("float32")
w = np.random.default_rng(1).standard_normal((3, 3, 16, 24)).astype("float32")
def compute():
    return cpu.conv2d(x, w, None, (1, 1), ((1, 1), (1, 1)), (1, 1), 1).tobytes()
expected = compute()
"""


@helper
def _count(task, hits, size):  # type: ignore[no-untyped-def]
    for i in range(task * size, (task + 1) * size):
        hits[i] += 1


@kernel
def count(tasks, hits, size):  # type: ignore[no-untyped-def]
    parallel_for(_count, tasks, (hits, size))


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = parallel.get_num_threads()
    yield
    parallel.set_num_threads(before)


@pytest.mark.parametrize("threads", range(1, parallel.max_threads() + 1))
@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 7, 64])
def test_every_task_runs_once(tasks: int, threads: int) -> None:
    minicnn.set_num_threads(threads)
    hits = np.zeros(tasks * 5, np.int64)
    count(tasks, hits, 5)
    np.testing.assert_array_equal(hits, np.ones(tasks * 5))


def test_the_setting_is_read_back_and_checked() -> None:
    minicnn.set_num_threads(1)
    assert minicnn.get_num_threads() == 1
    for wrong in (0, parallel.max_threads() + 1, True, 1.5, "2"):
        with pytest.raises(ValueError, match=r"from 1 to .* Received"):
            minicnn.set_num_threads(wrong)  # type: ignore[arg-type]
    assert minicnn.get_num_threads() == 1


def test_blas_gets_as_many_threads_as_the_kernels() -> None:
    import threadpoolctl

    minicnn.set_num_threads(1)
    blas = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    assert set(blas) <= {1}


def test_python_threads_at_once_get_what_each_would_get_alone() -> None:
    rng = np.random.default_rng(3)
    inputs = [rng.standard_normal((256, 300)).astype(np.float32) for _ in range(4)]
    w = rng.standard_normal((300, 200)).astype(np.float32)
    expected = [cpu.dense(x, w, None).tobytes() for x in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        wrong.extend(i for _ in range(50) if cpu.dense(inputs[i], w, None).tobytes() != expected[i])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + program], env={**os.environ, **environment}, capture_output=True, text=True
    )


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_every_pool_serves_python_threads_and_forked_children(layer: str) -> None:
    done = run(
        "results = []\n"
        "threads = [threading.Thread(target=lambda: results.extend(compute() for _ in range(20))) for _ in range(3)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "assert set(results) == {expected}, 'threads'\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if compute() == expected and parallel.get_num_threads() == 1 else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0, 'child'\n"
        "assert compute() == expected, 'parent after the fork'\n"
        "print(parallel.threading_layer())\n",
        NUMBA_THREADING_LAYER=layer,
    )
    assert done.stdout == f"{layer}\n", done.stderr


def test_the_environment_sets_the_number_of_threads() -> None:
    assert run("print(parallel.get_num_threads())", MINICNN_NUM_THREADS="1").stdout == "1\n"
    failed = run("", MINICNN_NUM_THREADS="none")
    assert failed.returncode != 0
    assert "MINICNN_NUM_THREADS: the number of threads must be an integer" in failed.stderr
