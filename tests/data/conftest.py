"""Recording without processes."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import Any

import pytest

from worldenv.data import record as recording


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record in this process: environments registered by a test are unknown in a spawned one."""

    class Here(Executor):
        def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
            done: Future[Any] = Future()
            done.set_result(function(*arguments, **options))
            return done

    monkeypatch.setattr(recording, "worker_pool", lambda count, **how: Here())
    monkeypatch.setattr(recording, "_source", None)
