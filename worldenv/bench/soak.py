"""``worldenv bench soak``: a crowd that misbehaves, beside clients that do not and should not notice."""

from __future__ import annotations

import math
import os
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ..base.config import check_counts
from ..base.log import console
from ..base.objects import import_extra
from ..envs.env import WorldEnv
from ..envs.remote import RemoteEnv
from .engine import write_bench
from .misdeeds import ENV, MISDEEDS, Target
from .serve import ask_health, serving

OPTIONS: dict[str, Any] = {"action_mode": "keys", "max_episode_steps": -1}
EPISODE = 20
"""Steps of the good clients after which they reset."""
SAMPLES = 100
"""How often memory and descriptors are looked at."""
GONE_S = 40.0
"""Longest that the server may take to take note that everybody is gone."""


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    rss_mb: float
    descriptors: int

    @classmethod
    def by(cls, process: int) -> Held:
        """Look at a process; on Linux."""
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        return cls(round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1), len(os.listdir(f"/proc/{process}/fd")))


def bench_soak(name: str, out: Path, *, minutes: float, clients: int) -> None:
    """Serve a world in a process of its own, let a crowd misbehave, and write what became of the others as JSON.

    Raises:
        ValueError: if nobody is to, or at no time.
    """
    check_counts(clients=clients)
    if not 0 < minutes < math.inf:
        raise ValueError(f"minutes={minutes} must be positive")
    with tempfile.TemporaryDirectory() as folder:
        token = "a secret of this soak alone"
        (Path(folder) / "token").write_text(token)
        flags = ["--worlds", name, "--token-file", f"{folder}/token", "--max-message-mb", "1", "--batch", "8"]
        with serving(flags) as (url, process):
            report = soak(name, url, process, token=token, message_bytes=2**20, seconds=60 * minutes, clients=clients)
    write_bench(out, world=name, minutes=minutes, **report)


def soak(
    name: str, url: str, process: int, *, token: str, message_bytes: int, seconds: float, clients: int
) -> dict[str, Any]:
    """Let a crowd misbehave for a while, beside two clients that step and one that waits; return what became of them.

    Args:
        name: the world, for local environments to compare with.
        url: of a server that serves it.
        process: in which that runs.
        token: what it asks for.
        message_bytes: the largest message that it reads.
        seconds: how long.
        clients: size of the crowd.
    """
    where = urlsplit(url)
    target = Target(str(where.hostname), int(where.port or 0), token, message_bytes)
    quiet, alone, shared = (Paired(name, url, token, batch=batch) for batch in (False, False, True))
    for pair in (quiet, alone, shared):
        pair.step()
    crowd = Crowd(target, clients)
    before, begin = ask_health(url), Held.by(process)
    until = time.monotonic() + seconds
    with crowd, Watch(process, every=seconds / SAMPLES) as watch:
        while time.monotonic() < until:
            alone.step()
            if alone.count % 4 == 0:
                shared.step()
    quiet.step()
    after = _settled(url, before)
    end = Held.by(process)
    for pair in (quiet, alone, shared):
        pair.close()
    told = {
        "clients": clients,
        "misdeeds": dict(crowd.done),
        "unanswered": len(crowd.unanswered),
        "sessions": {"begin": before["sessions"], "end": after["sessions"]},
        "connections": {"begin": before["connections"], "end": after["connections"]},
        "rss_mb": _course(begin.rss_mb, [one.rss_mb for one in watch.held], end.rss_mb),
        "descriptors": _course(begin.descriptors, [one.descriptors for one in watch.held], end.descriptors),
        "steps": {"alone": alone.count, "shared": shared.count, "after_waiting": quiet.count - 1},
        "bit_equal": alone.equal and quiet.equal,
    }
    same = "equal" if told["bit_equal"] else "NOT EQUAL"
    console.print(
        f"{sum(crowd.done.values())} misdeeds; {alone.count} steps {same} to those of a local environment; "
        f"{begin.rss_mb:.0f} MB before, {end.rss_mb:.0f} after; {begin.descriptors} descriptors, {end.descriptors}"
    )
    return told


class Paired:
    """A client that behaves, and the same environment here."""

    def __init__(self, name: str, url: str, token: str, *, batch: bool) -> None:
        self.remote = RemoteEnv(url, ENV, batch=batch, token=token, linger=60.0, **OPTIONS)
        self.local = None if batch else WorldEnv(task="revisit", world=name, **OPTIONS)
        self.actions = np.random.default_rng(0)
        self.equal = True
        self.count = 0

    def step(self) -> None:
        """Step both, from time to time from another beginning; take note where they differ."""
        if self.count % EPISODE == 0:
            self._compare(lambda env: env.reset(seed=self.count)[0])
        action = self.actions.integers(0, 3, 2)
        self.count += 1
        self._compare(lambda env: env.step(action)[0])

    def _compare(self, do: Callable[[Any], Any]) -> None:
        shown = do(self.remote)
        if self.local is not None and not np.array_equal(shown, do(self.local)):
            self.equal = False

    def close(self) -> None:
        """End both."""
        self.remote.close()
        if self.local is not None:
            self.local.close()


class Crowd:
    """Clients that misbehave until they are told to stop."""

    def __init__(self, target: Target, count: int) -> None:
        self.target, self.done = target, Counter(dict.fromkeys(MISDEEDS, 0))
        self.unanswered: list[str] = []
        self._stop = threading.Event()
        names = list(MISDEEDS)
        self._threads = [
            threading.Thread(target=self._misbehave, args=(names[i % len(names)], i), daemon=True) for i in range(count)
        ]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _misbehave(self, name: str, seed: int) -> None:
        draw = random.Random(seed)
        lost = import_extra("websockets.exceptions", extra="play", needs="worldenv bench soak needs websockets")
        while not self._stop.is_set():
            try:
                MISDEEDS[name](self.target, draw)
            except TimeoutError as error:
                self.unanswered.append(f"{name}: {error}")
            except (lost.WebSocketException, OSError):
                pass  # as it should be
            self.done[name] += 1
            self._stop.wait(0.1)


class Watch:
    """Looks at what a process holds, from time to time."""

    def __init__(self, process: int, *, every: float) -> None:
        self.process, self.every = process, every
        self.held: list[Held] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(self.every):
            self.held.append(Held.by(self.process))


def _course(begin: float, held: list[float], end: float) -> dict[str, Any]:
    """Return what was held before, at most in tenths of the time, and when everybody was gone."""
    tenths = [max(part.tolist()) for part in np.array_split(held, 10) if len(part)]
    return {"begin": begin, "most_by_tenths": tenths, "end": end}


def _settled(url: str, before: dict[str, Any]) -> dict[str, Any]:
    """Wait until the server knows that everybody is gone; return how it is then, or after long enough."""
    until = time.monotonic() + GONE_S
    while True:
        now = ask_health(url)
        same = all(now[what] <= before[what] for what in ("sessions", "connections"))
        if same or time.monotonic() > until:
            return now
        time.sleep(0.2)
