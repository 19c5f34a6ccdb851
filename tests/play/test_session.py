"""What a session does when it is asked: steps, branches, memories, states, pictures, streams."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from worldenv.dynamics.messages import Act, Back, Create, Fork, Load, Pause, Remember, Reset, Save, Step, Stream
from worldenv.engine.engine import Engine
from worldenv.play.server.config import ServeConfig
from worldenv.play.server.opening import Opener
from worldenv.play.server.session import Session

WALK = [[1, 0], [1, 1], [0, 2], [2, 0], [3, 1]]


def test_a_step_shows_each_latent_and_then_tells_what_came_of_it(client):
    one = client()
    session = one.begin(pictures="raw", batch=False)
    frames, outcome = one.pictures(Step, session=session, action=[1, 0], explain=True)
    assert [(shown.chunk, shown.latent, shown.last) for shown in frames] == [(1, i, i == 3) for i in range(4)]
    assert {shown.id for shown in frames} == {outcome.id}
    assert frames[0].pictures.shape == (4, 48, 64, 3)
    np.testing.assert_array_equal(frames[-1].pictures[-1], outcome.obs)
    assert outcome.signals["c2w"].shape == (4, 4, 4)
    np.testing.assert_array_equal(outcome.signals["c2w"][-1], outcome.info["c2w"])
    assert outcome.chunk == 1
    assert "entries" in outcome.explained["memory"]
    assert one.about["spec"]["chunk_frames"] == 16


def test_pictures_come_as_they_are_asked_for(client):
    one = client()
    session = one.begin(pictures="png", obs=False)
    frames, outcome = one.pictures(Step, session=session, action=[1, 0])
    assert outcome.obs is None
    picture = np.asarray(Image.open(io.BytesIO(frames[0].pictures[0])))
    assert picture.shape == (48, 64, 3)


def test_going_back_and_on_again_is_the_same(client):
    one = client()
    session = one.begin(keep=8, batch=False)
    ahead = [one.ask(Step, session=session, action=action) for action in WALK]
    assert ahead[-1].kept == [0, 1, 2, 3, 4, 5]
    back = one.ask(Back, session=session, chunk=2)
    assert back.chunk == 2
    assert back.kept == [0, 1, 2]
    np.testing.assert_array_equal(back.obs, ahead[1].obs)
    again = one.ask(Step, session=session, action=WALK[2])
    np.testing.assert_array_equal(again.obs, ahead[2].obs)
    other = one.ask(Step, session=session, action=[4, 3])
    assert (other.obs != ahead[3].obs).any()
    assert one.ask(Back, session=session, chunk=7).field == "chunk"


def test_kept_chunks_are_limited(client):
    one = client()
    session = one.begin(keep=3)
    for action in WALK:
        outcome = one.ask(Step, session=session, action=action)
    assert outcome.kept == [3, 4, 5]
    assert one.ask(Back, session=session, chunk=4).chunk == 4


def test_a_fork_goes_on_like_its_trunk_and_reseeded_or_with_another_memory_differently(client):
    one = client()
    session = one.begin(keep=8)
    for action in WALK[:3]:
        one.ask(Step, session=session, action=action)
    forks = [one.ask(Fork, session=session, **how).session for how in ({}, {"reseed": 7}, {"chunk": 1})]
    memory = one.ask(Fork, session=session, memory={"policy": "none"}).session
    same, other = (one.ask(Step, session=name, action=[1, 0]).obs.astype(int) for name in forks[:2])
    trunk = one.ask(Step, session=session, action=[1, 0]).obs.astype(int)
    assert np.abs(same - trunk).max() <= 2
    assert np.abs(other - trunk).max() > 2
    assert one.ask(Step, session=memory, action=[1, 0]).chunk == 4
    early = one.ask(Step, session=forks[2], action=WALK[1])
    assert early.chunk == 2
    assert early.kept == [0, 1, 2]


def test_memory_is_switched_on_the_way(client):
    one = client()
    session = one.begin(batch=False)
    for action in WALK:
        one.ask(Step, session=session, action=action)
    for memory in ("worldscape", {"policy": "none"}, "worldplay"):
        assert type(one.ask(Remember, session=session, memory=memory)).__name__ == "Done"
        outcome = one.ask(Step, session=session, action=[1, 0], explain=True)
    assert outcome.chunk == 8
    assert outcome.explained["memory"]["chunks"] == 9
    assert one.ask(Remember, session=session, memory="os:system").field == "memory"


def test_a_saved_session_goes_on_elsewhere_as_it_would_have(client):
    one, two = client(), client()
    session = one.begin(batch=False)
    for action in WALK[:3]:
        one.ask(Step, session=session, action=action)
    saved = one.ask(Save, session=session)
    ahead = one.ask(Step, session=session, action=[1, 0])
    other = two.ask(Create, env="worldenv/Revisit-v0", options={"action_mode": "keys"}, batch=False).session
    assert two.ask(Load, session=other, data=saved.data).chunk == 3
    np.testing.assert_array_equal(two.ask(Step, session=other, action=[1, 0]).obs, ahead.obs)
    broken = two.ask(Load, session=other, data=saved.data[:1000])
    assert (broken.kind, broken.field) == ("value", "data")
    assert two.ask(Step, session=other, action=[1, 0]).chunk == 5


def test_a_picture_is_a_start_view(client):
    one = client()
    session = one.begin(pictures="raw")
    file = io.BytesIO()
    Image.fromarray(np.full((100, 200, 3), 128, np.uint8)).save(file, format="png")
    frames, outcome = one.pictures(Reset, session=session, seed=1, picture=file.getvalue())
    assert (frames[0].pictures == 128).all()
    assert outcome.chunk == 0
    huge = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(huge, format="png")
    assert "pixels" in one.ask(Reset, session=session, picture=huge.getvalue()).why
    assert one.ask(Reset, session=session, picture=b"GIF89a").field == "options"


def test_a_stream_goes_on_by_itself_with_the_newest_action(client):
    one = client()
    session = one.begin(pictures="raw")
    one.ask(Stream, session=session, action=[0, 0])
    one.send(Act, session=session, action=[1, 0])
    newest = one.send(Act, session=session, action=[0, 1])
    until_id = [one.receive() for _ in range(12)]
    assert newest in [message.id for message in until_id]
    one.ask(Pause, session=session)
    chunk = one.ask(Step, session=session, action=[0, 0]).chunk
    assert chunk >= 2
    assert one.ask(Step, session=session, action=[0, 0]).chunk == chunk + 1
    assert "does not stream" in one.ask(Act, session=session, action=[0, 0]).why


def test_sessions_are_batched_and_each_gets_its_own(served, client):
    clients = [client() for _ in range(3)]
    sessions = [one.begin(seed=i) for i, one in enumerate(clients)]
    alone = client()
    own = [alone.begin(seed=i, batch=False) for i in range(3)]
    for action in WALK[:2]:
        for one, session in zip(clients, sessions, strict=True):
            one.send(Step, session=session, action=action)
        together = [one.receive() for one in clients]
        apart = [alone.ask(Step, session=session, action=action) for session in own]
        for a, b in zip(together, apart, strict=True):
            assert np.abs(a.obs.astype(int) - b.obs).max() <= 2
            np.testing.assert_allclose(a.info["c2w"], b.info["c2w"])
    assert clients[0].about["batched"]
    assert not alone.about["batched"]


def test_what_fails_on_the_way_holds_no_rows(tiny_world_dir, monkeypatch):
    opener = Opener(ServeConfig(worlds=(str(tiny_world_dir),), batch=4))
    with pytest.raises(ValueError, match="nonsense"):
        opener.open(Create(id=0, env="worldenv/Revisit-v0", options={"task_options": {"nonsense": 1}}))
    assert opener.pools == {}
    session = Session("s1", "key", Create(id=0, env="worldenv/Revisit-v0"), opener, max_kept=0)
    session.reset(Reset(id=1, session="s1", seed=0), lambda frames: None)

    def fail(*arguments: object) -> None:
        raise RuntimeError("no memory left")

    monkeypatch.setattr("worldenv.play.server.session.move", fail)
    with pytest.raises(RuntimeError):
        session.fork(Fork(id=2, session="s1"), "s2", "key")
    with pytest.raises(RuntimeError):
        session.remember(Remember(id=3, session="s1", memory="none"), lambda frames: None)
    assert [len(pool.seats) for pools in opener.pools.values() for pool in pools] == [1]
    assert session.step(Step(id=4, session="s1", action=0), lambda frames: None).chunk == 1
    session.close()
    assert opener.pools == {}


def test_nobody_waits_for_a_model_call_to_look_at_the_present(tiny_world_dir):
    opener = Opener(ServeConfig(worlds=(str(tiny_world_dir),), batch=4))
    env = opener.open(Create(id=0, env="worldenv/Revisit-v0", options={"action_mode": "keys"}, num_envs=2))
    share = env.core.dynamics
    env.reset(seed=0)
    for action in (None, [[1, 0], [1, 1]]):
        if action is not None:
            env.step(np.array(action))
        done = threading.Event()
        with ThreadPoolExecutor(2) as others:
            others.submit(opener.compute, done.wait)  # as while somebody else's step is computed
            try:
                shown = others.submit(lambda: share.present).result(timeout=10)
            finally:
                done.set()
        for name, part in share.engine.present.items():
            torch.testing.assert_close(shown[name], part[share.rows])
    env.close()


def test_one_thread_computes_whoever_asks(tiny_world_dir, monkeypatch):
    threads: set[int] = set()

    def noted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            threads.add(threading.get_ident())
            return method(*args, **kwargs)

        return call

    for name in ("__init__", "reset", "step", "clone_state", "restore_state"):
        monkeypatch.setattr(Engine, name, noted(getattr(Engine, name)))
    opener = Opener(ServeConfig(worlds=(str(tiny_world_dir),), batch=2))
    make = partial(Create, env="worldenv/Revisit-v0", keep=2)
    for batch in (True, False):
        with ThreadPoolExecutor(1) as client:  # each asks from a thread of its own
            session = client.submit(Session, "s1", "key", make(id=0, batch=batch), opener, max_kept=2**20).result()
            for ask in (
                Reset(id=1, session="s1", seed=0),
                Step(id=2, session="s1", action=0),
                Back(id=3, session="s1", chunk=0),
            ):
                client.submit(session.answer, ask, lambda frames: None, 0.0).result()
            other = client.submit(session.fork, Fork(id=4, session="s1"), "s2", "key").result()
            client.submit(other.close).result()
            client.submit(session.close).result()
    assert len(threads) == 1
