"""Ray: other processes and machines. Nothing here is imported unless it is asked for (the ray extra)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from .objects import import_extra

LOCAL = "local"
"""The address that means a cluster of this machine alone, which ends with the program."""
PATIENCE = 5.0
"""Seconds to wait for an answer from an address."""
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
    if address == LOCAL:
        local = {"include_dashboard": False, "object_store_memory": OBJECTS, "_node_ip_address": "127.0.0.1"}
    else:
        _check_reachable(address)
        local = {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", **local)
    except (RuntimeError, ConnectionError, ValueError, OSError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"Ray at {address!r}: {said}") from None
    return ray.shutdown


def _check_reachable(address: str) -> None:
    """Ask at the door, as Ray would wait there for a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"Ray address {address!r}; pass {LOCAL!r}, or HOST:PORT of `ray start --head`")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise ValueError(
            f"nobody answers at Ray address {address!r} ({error}); start a cluster there with `ray start --head`, or "
            f"pass {LOCAL!r}"
        ) from None


def check_version(found: str, wanted: str) -> None:
    """Refuse a cluster whose worldenv is another version: its numbers would be others.

    Raises:
        ValueError: naming both.
    """
    if found != wanted:
        raise ValueError(f"the Ray cluster has worldenv {found}, this program {wanted}; install the same on both")
