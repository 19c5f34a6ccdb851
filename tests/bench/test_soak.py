"""The soak of a session server, for seconds instead of minutes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the play extra is not installed")
pytest.importorskip("starlette", reason="the play extra is not installed")
pytest.importorskip("websockets", reason="the play extra is not installed")

from worldenv.bench.misdeeds import MISDEEDS
from worldenv.bench.soak import soak
from worldenv.play.server.app import running
from worldenv.play.server.config import ServeConfig

TOKEN = "correct horse battery staple"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="what a process holds is read from /proc")
def test_a_crowd_that_misbehaves_takes_nothing_from_others_and_leaves_nothing(tiny_world_dir, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    config = ServeConfig(
        port=0, worlds=(str(tiny_world_dir),), token_file=tmp_path / "token", max_message_mb=1.0, batch=8
    )
    with running(config) as where:
        told = soak(
            str(tiny_world_dir),
            f"ws://{where}",
            os.getpid(),
            token=TOKEN,
            message_bytes=2**20,
            seconds=5.0,
            clients=20,
        )
    assert told["misdeeds"].keys() == MISDEEDS.keys()
    assert all(told["misdeeds"].values())
    assert told["bit_equal"]
    assert told["unanswered"] == 0
    assert told["steps"]["alone"] > 1
    for what in ("sessions", "connections"):
        assert told[what]["end"] == told[what]["begin"]
    assert told["descriptors"]["end"] <= told["descriptors"]["begin"] + 2
    assert json.loads(json.dumps(told)) == told
