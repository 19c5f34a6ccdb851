import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from worldenv.base.workers import when_worker_ends, worker_pool

KILLED = """
import os, sys, time
from functools import partial
from worldenv.base.workers import when_worker_ends, worker_pool

if __name__ == "__main__":
    with worker_pool(1) as pool:
        pool.submit(when_worker_ends, partial(os.mkdir, sys.argv[1])).result()
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 1000).result()
"""


def wait_for(there: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Wait until something is there."""
    end = time.monotonic() + seconds
    while not there() and time.monotonic() < end:
        time.sleep(0.05)
    return there()


def test_workers_compute_on_their_threads_and_close_when_they_end(tmp_path: Path) -> None:
    with worker_pool(1, threads=3) as pool:
        pool.submit(when_worker_ends, partial(os.mkdir, tmp_path / "closed")).result()
        assert pool.submit(torch.get_num_threads).result() == 3
        assert not (tmp_path / "closed").exists()
    assert (tmp_path / "closed").is_dir()


def test_a_worker_that_dies_is_an_error_and_the_others_close_what_they_named(tmp_path: Path) -> None:
    def die() -> None:
        before = set(multiprocessing.active_children())
        with worker_pool(2) as pool:
            busy = pool.submit(time.sleep, 1000)
            for close in (partial(os.mkdir, tmp_path / "closed"), partial(time.sleep, 1)):  # the last one first
                pool.submit(when_worker_ends, close).result()
            other = pool.submit(os.getpid).result()
            (dying,) = (w for w in {*multiprocessing.active_children()} - before if w.pid != other)
            dying.kill()
            busy.result()

    began = time.monotonic()
    with pytest.raises(ChildProcessError, match="a worker process died"):
        die()
    assert time.monotonic() - began < 60
    assert (tmp_path / "closed").is_dir()


def test_workers_end_at_once_with_a_block_that_fails(tmp_path: Path) -> None:
    """Whatever they are at; what they named is closed."""

    def fail() -> None:
        with worker_pool(1) as pool:
            pool.submit(when_worker_ends, partial(os.mkdir, tmp_path / "closed")).result()
            pool.submit(time.sleep, 1000)
            pool.submit(os.mkdir, tmp_path / "late")
            raise RuntimeError("no more")

    began = time.monotonic()
    with pytest.raises(RuntimeError, match="no more"):
        fail()
    assert time.monotonic() - began < 60
    assert [path.name for path in tmp_path.iterdir()] == ["closed"]


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(KILLED)
    closed = tmp_path / "closed"
    command = [sys.executable, str(tmp_path / "program.py"), str(closed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    assert wait_for(closed.is_dir)
    assert wait_for(
        lambda: not Path(f"/proc/{worker}").exists() or "zombie" in Path(f"/proc/{worker}/status").read_text()
    )
