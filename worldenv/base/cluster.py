"""Ray: other processes and machines. Nothing here is imported unless it is asked for (the ray extra)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from .. import __version__
from .objects import import_extra

T = TypeVar("T")

LOCAL = "local"
"""The address that means a cluster of this machine alone, which ends with the program."""
PATIENCE = 5.0
"""Seconds to wait for an answer from an address."""
TRIES = 3
"""How often a cluster of this machine is started, which may be busy."""
RETRIES = 5
"""How often what a worker that died was at is tried again."""
OBJECTS = 512 * 2**20
"""Bytes of a local cluster's object store."""


def load_ray() -> Any:
    """Import Ray, or say what to install."""
    return import_extra("ray", extra="ray", needs="this is shared among processes by Ray")


def connect(address: str) -> Callable[[], None]:
    """Join the Ray cluster at an address, or begin one on this machine (``local``); return what leaves it.

    A cluster that the program has joined already is used as it is, and not left.

    Raises:
        ImportError: if Ray is not installed.
        ValueError: if nothing answers at the address, or it is a cluster of another version.
    """
    ray = load_ray()
    if ray.is_initialized():
        return lambda: None
    if not isinstance(address, str):
        raise ValueError(f"Ray address {type(address).__name__}; pass {LOCAL!r}, or HOST:PORT of `ray start --head`")
    local: dict[str, Any] = {}
    if address == LOCAL:
        local = {
            "include_dashboard": False,
            "object_store_memory": OBJECTS,
            "_node_ip_address": "127.0.0.1",
            "_system_config": {"worker_niceness": 0},  # this program waits for its workers: they are no background job
        }
    else:
        _check_reachable(address)
    for attempt in range(1, TRIES + 1):
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error", **local)
            break
        except Exception as error:  # Ray raises it plain, when a node takes more than its half a minute to start
            ray.shutdown()
            if address != LOCAL or attempt == TRIES:
                said = " ".join(str(error).split())
                raise ValueError(f"Ray at {address!r}: {said}") from None
    return ray.shutdown


def check_address(address: str) -> None:
    """Refuse an address at which no cluster is, for those who write something before they join it; '' asks for none.

    Raises:
        ImportError: if Ray is not installed.
        ValueError: if nothing answers there.
    """
    if address and not load_ray().is_initialized() and address != LOCAL:
        _check_reachable(address)


def _check_reachable(address: str) -> None:
    """Ask at the door, as Ray would wait there for a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) < 2**16:
        raise ValueError(f"Ray address {str(address)[:80]!r}; pass {LOCAL!r}, or HOST:PORT of `ray start --head`")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except (OSError, ValueError) as error:  # the latter of names that are none
        raise ValueError(
            f"nobody answers at Ray address {address[:80]!r} ({error}); start a cluster with `ray start --head`, or "
            f"pass {LOCAL!r}"
        ) from None


class RayPool:
    """Runs functions in worker processes of a cluster; what a worker that dies was at is run again."""

    def __init__(self, ray: Any, run: Callable[..., Any], threads: int, gpus: float) -> None:
        largest = max(node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"])
        options = {"num_cpus": min(threads, largest), "num_gpus": gpus, "max_retries": RETRIES}
        self._ray, self._run, self._threads = ray, ray.remote(**options, scheduling_strategy="SPREAD")(run), threads

    def share(self, value: T) -> T:
        """Send a value that several calls take to the cluster once; return what stands for it as an argument."""
        reference: T = self._ray.put(value)
        return reference

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Call a function in some worker.

        Raises, in the future's result:
            ChildProcessError: if every worker that was at it died.
            Exception: what the function raised.
        """
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def pass_on(done: Future[T]) -> None:
            try:
                future.set_result(done.result())
            except Exception as error:
                future.set_exception(cause_of(error))

        self._run.remote(self._threads, function, *arguments).future().add_done_callback(pass_on)
        return future


@contextmanager
def ray_pool(address: str, run: Callable[..., Any], *, threads: int, gpus: float = 0.0) -> Iterator[RayPool]:
    """Open a pool in a cluster; ``run(threads, function, *arguments)`` is what its workers do."""
    leave = connect(address)
    try:
        pool = RayPool(load_ray(), run, threads, gpus)
        check_version(pool.submit(_version).result())
        yield pool
    finally:
        leave()


def cause_of(error: Exception) -> Exception:
    """Return what went wrong in a worker, in a line, without Ray's account of where."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return cause
    lines = str(error).strip().splitlines()
    return ChildProcessError(f"a Ray worker died: {lines[0] if lines else type(error).__name__}")


def _version() -> str:
    return __version__


def check_version(found: str) -> None:
    """Refuse a cluster whose worldenv is another version: its numbers would be others.

    Raises:
        ValueError: naming both.
    """
    if found != __version__:
        raise ValueError(f"the Ray cluster has worldenv {found}, this program {__version__}; install the same on both")
