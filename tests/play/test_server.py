"""Who may reach a server, what it grants them, and settings that it refuses."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from worldenv.dynamics.messages import ANSWERS, Create, Hello
from worldenv.dynamics.wire import pack, unpack
from worldenv.play.server.app import make_app, running
from worldenv.play.server.config import ServeConfig


def test_limits_tokens_origins_and_versions(tiny_world_dir, tmp_path, health, until):
    token = tmp_path / "token"
    token.write_text("correct horse battery staple\n")
    config = ServeConfig(
        port=0,
        worlds=(str(tiny_world_dir),),
        token_file=token,
        max_sessions=2,
        max_rows=3,
        max_message_mb=0.1,
        max_connections=2,
        idle_s=1.0,
        batch=2,
    )
    with running(config) as where:
        for wrong in ({"protocol": 1}, {"protocol": 1, "token": "guess"}, {"protocol": 99}):
            with connect(f"ws://{where}/session") as socket:
                socket.send(pack(Hello(id=1, **wrong)))
                failed = unpack(socket.recv(), ANSWERS)
                assert failed.kind == ("version" if wrong["protocol"] == 99 else "token")
                with pytest.raises(ConnectionClosed):
                    socket.recv()
        with pytest.raises(InvalidStatus, match="403"), connect(f"ws://{where}/session", origin="https://evil.example"):
            pass
        named = urllib.request.Request(f"http://{where}/healthz", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(named)
        with connect(f"ws://{where}/session", origin=f"http://{where}") as socket:  # its own page
            socket.send(pack(Hello(id=1, protocol=1, token="correct horse battery staple")))
            assert unpack(socket.recv(), ANSWERS).worlds == ["tiny"]
            create = Create(id=2, env="worldenv/Revisit-v0", num_envs=2)
            for number, kind in ((2, "created"), (3, "failed")):
                socket.send(pack(create))
                assert type(unpack(socket.recv(), ANSWERS)).__name__.lower() == kind, number
            socket.send(b"\0" * 150_000)
            assert "the most are" in unpack(socket.recv(), ANSWERS).why
            ended = unpack(socket.recv(timeout=10), ANSWERS)
            assert (type(ended).__name__, ended.session) == ("Ended", "s1")
            with pytest.raises(ConnectionClosed):
                socket.recv(timeout=10)
        until(lambda: health(where)["connections"] == 0)


def test_settings_that_cannot_be_served_are_refused(tmp_path):
    with pytest.raises(ValueError, match="token_file"):
        ServeConfig(host="0.0.0.0")
    with pytest.raises(ValueError, match="port=99999"):
        ServeConfig(port=99999)
    (tmp_path / "token").write_text("short")
    with pytest.raises(ValueError, match="16 to 256"):
        ServeConfig(host="0.0.0.0", token_file=tmp_path / "token").read_token()
    with pytest.raises(ValueError, match="unknown world 'atlantis'"):
        make_app(ServeConfig(worlds=("maze", "atlantis")))


def test_requests_say_the_token_too_but_for_health_and_files(tmp_path):
    (tmp_path / "token").write_text("correct horse battery staple")
    (tmp_path / "page.html").write_text("page")
    routes = [
        Route("/play/secret", lambda request: PlainTextResponse("secret")),
        Mount("/", StaticFiles(directory=tmp_path)),
    ]
    with running(ServeConfig(port=0, token_file=tmp_path / "token"), routes) as where:

        def status(path: str, *said: str) -> int:
            request = urllib.request.Request(
                f"http://{where}{path}", headers={"Authorization": said[0]} if said else {}
            )
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return answer.status
            except urllib.error.HTTPError as error:
                return error.code

        assert [status(path) for path in ("/healthz", "/page.html", "/nothing.html")] == [200, 200, 404]
        for said in ((), ("Bearer guess",), ("Basic correct horse battery staple",)):
            assert status("/play/secret", *said) == 401
        assert status("/play/secret", "Bearer correct horse battery staple") == 200
