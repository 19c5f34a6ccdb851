"""Worker processes: one pool for whatever is shared among several. A worker that dies ends the work with an error."""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Semaphore
from types import FrameType
from typing import Any, Protocol, TypeVar

import torch

from .cluster import ray_pool

T = TypeVar("T")

GRACE = 10.0
"""Seconds that a worker that has to end may take for what it closes."""

_closing: list[Callable[[], None]] = []


class Pool(Protocol):
    """Runs functions in other processes."""

    def submit(self, function: Callable[..., T], /, *arguments: Any) -> Future[T]:
        """Call a function in one of them."""
        ...

    def share(self, value: T) -> T:
        """Return what stands for a value that several calls take."""
        ...


class _Processes(ProcessPoolExecutor):
    def share(self, value: T) -> T:
        return value


@contextmanager
def worker_pool(count: int, *, threads: int = 1, ray: str = "", gpus: float = 0.0) -> Iterator[Pool]:
    """Open a pool of fresh processes that compute on so many threads each.

    They end with the block, at once if it fails or is interrupted, and with this process, also if it is killed.

    Args:
        count: how many.
        threads: of each.
        ray: address of a Ray cluster whose processes are taken instead, as many as it has room for (``local``: one of
            this machine). What one that dies was at is run again.
        gpus: of that cluster, for each call.

    Raises:
        ChildProcessError: if one of them dies.
    """
    if ray:
        with ray_pool(ray, run_in_worker, threads=threads, gpus=gpus) as shared:
            yield shared
        return
    context = multiprocessing.get_context("spawn")
    (watched, held), gate = context.Pipe(duplex=False), context.Semaphore(0)
    pool = _Processes(count, context, initializer=_start, initargs=(watched, gate, threads))
    try:
        # All start before the first job: the executor would not see one die that it has started meanwhile.
        started = [pool.submit(int) for _ in range(count + 1)]
        for _ in range(count):
            gate.release()
        for future in started:
            future.result()
        yield pool
        pool.shutdown()
    except BrokenProcessPool:
        raise ChildProcessError(
            "a worker process died (killed, or out of memory?); what is finished stays, and the same command goes on"
        ) from None
    finally:
        held.close()
        pool.shutdown(cancel_futures=True)
        watched.close()


def run_in_worker(threads: int, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a worker that was not started here."""
    torch.set_num_threads(threads)
    _close_at_exit()
    return function(*arguments)


@functools.cache
def _close_at_exit() -> None:
    atexit.register(_close)


def when_worker_ends(close: Callable[[], None]) -> None:
    """Let this worker close something when it ends, whatever ends it but SIGKILL."""
    _closing.append(close)


def _start(watched: Connection, gate: Semaphore, threads: int) -> None:
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which then ends its workers
    signal.signal(signal.SIGTERM, _leave)
    _close_at_exit()
    main = threading.main_thread().ident
    assert main is not None

    def watch() -> None:
        watched.poll(None)  # until the parent lets go of the other end
        signal.pthread_kill(main, signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    gate.acquire()


def _close() -> None:
    while _closing:
        _closing.pop()()


def _leave(number: int, frame: FrameType | None) -> None:
    """End now: an exception would only end the job."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # whoever ends a worker may do so twice
    _close()
    os._exit(1)
