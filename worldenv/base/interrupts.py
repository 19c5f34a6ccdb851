"""Ends that are asked for: Ctrl-C and SIGTERM are one thing; what goes on after one does after the other."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from .said import one_line

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
"""What asks for an end, as people call it."""


class Interrupted(KeyboardInterrupt):
    """Somebody asked this process to end; whatever catches Ctrl-C catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(SIGNALS[signal.Signals(number)])
        self.number = number


def status(stopped: KeyboardInterrupt) -> int:
    """Return the exit status of a command that was asked to end."""
    return 128 + (stopped.number if isinstance(stopped, Interrupted) else signal.SIGINT)


_came: list[int] = []
"""Signals that interrupted what is going on."""


def interrupted(error: BaseException) -> KeyboardInterrupt | None:
    """Return the interruption that an error is, or that it came up in the wake of: what cleans up may itself fail.

    ``shutil.rmtree``, for one, closes a folder twice when it is interrupted at the wrong moment; matplotlib's C++ calls
    an interruption an invalid bounding box.
    """
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, KeyboardInterrupt):
        seen = seen.__context__
    return seen or (Interrupted(_came[-1]) if _came else None)


def interrupt(number: int, frame: object) -> NoReturn:
    """End what is going on, leaving nothing half done: a handler of signals."""
    _came.append(number)
    raise Interrupted(number)


@contextmanager
def ending() -> Iterator[None]:
    """Let SIGTERM end what is going on as Ctrl-C does; in a thread signals do what they always do."""
    with _handled(interrupt):
        yield


@contextmanager
def answering(command: str, going_on: str) -> Iterator[None]:
    """End the process as a command does: an expected failure is one line on stderr and exit status 1; of an
    interruption is said how it goes on.
    """
    _came.clear()
    try:
        with ending():
            yield
    except (KeyboardInterrupt, MemoryError, ValueError, OSError, ImportError) as error:
        stopped = interrupted(error)
        if stopped is not None:
            print(f"\n{command}: interrupted{going_on}", file=sys.stderr)
            sys.exit(status(stopped))
        if isinstance(error, MemoryError):
            sys.exit(f"{command}: no memory for that ({one_line(error)}); ask for fewer or smaller ones")
        sys.exit(f"{command}: {one_line(error)}")


@contextmanager
def finishing(*, told: Callable[[], bool] = lambda: True) -> Iterator[Callable[[], int]]:
    """Let Ctrl-C and SIGTERM wait for the end of a step: yields which came, 0 for none, and they interrupt nothing.

    A launcher passes Ctrl-C on, so that its processes hear it twice; ``told`` says who of them tells the user. In a
    thread signals do what they always do.
    """
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        if not came and told():
            os.write(2, f"\n{SIGNALS[signal.Signals(number)]}: finishing this step, then saving\n".encode())
        came.append(number)

    with _handled(note):
        yield lambda: came[0] if came else 0


@contextmanager
def _handled(handler: Callable[[int, object], object]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)
