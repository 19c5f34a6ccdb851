"""Worlds go to a hub and come back: a stand-in on this machine, asked by the hub's own library."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from worldenv.world.card import env_id, read_reports, write_card, write_env
from worldenv.world.world import World

pytest.importorskip("huggingface_hub")
ROOT = Path(__file__).parents[2]


class StandIn(BaseHTTPRequestHandler):
    """What of the hub's protocol pushing and fetching a model takes."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]
    asked: list[str]

    @property
    def sha(self) -> str:
        return hashlib.sha1(b"".join(name.encode() + data for name, data in sorted(self.files.items()))).hexdigest()

    @property
    def here(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/org/name"

    def log_message(self, text: str, *arguments: Any) -> None:
        """Keep what was asked instead of printing it."""
        self.asked.append(text % arguments)

    def _send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: Any) -> None:
        self._send(json.dumps(value).encode(), Content_Type="application/json")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "/preupload/" in self.path:
            wanted = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            self._json({"files": wanted})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            added = [line["value"] for line in lines if line["key"] == "file"]
            self.files.update({one["path"]: base64.b64decode(one["content"]) for one in added})
            self._json({"success": True, "commitUrl": f"{self.here}/commit/{self.sha}", "commitOid": self.sha})
        else:  # api/repos/create, api/validate-yaml
            self._json({"url": self.here, "errors": [], "warnings": []})

    def do_GET(self) -> None:
        if "/resolve/" in self.path:
            name = self.path.split("/resolve/")[1].partition("/")[2]
            data = self.files.get(name)
            if data is None:
                self._send(b"", 404, X_Error_Code="EntryNotFound")
                return
            self._send(data, ETag=f'"{hashlib.sha256(data).hexdigest()}"', X_Repo_Commit=self.sha)
        elif "/tree/" in self.path:
            listed = [("file", name, len(data), hashlib.sha1(data).hexdigest()) for name, data in self.files.items()]
            self._json([dict(zip(("type", "path", "size", "oid"), file, strict=True)) for file in listed])
        elif "/org/name" in self.path:
            self._json({"id": "org/name", "sha": self.sha, "siblings": [{"rfilename": name} for name in self.files]})
        else:
            self._send(b"", 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET


@pytest.fixture
def hub() -> Iterator[tuple[dict[str, bytes], str, list[str]]]:
    """What it holds, its address, and what it was asked."""
    files: dict[str, bytes] = {}
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (StandIn,), {"files": files, "asked": asked}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield files, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def run(*words: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    own = {"PYTHONPATH": paths, "HF_HOME": str(home), "HF_TOKEN": "nobody", "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, *words], env=os.environ | own, capture_output=True, text=True, timeout=300)


FETCH = """
import runpy, sys
from worldenv.world.world import World
world = World.from_pretrained("hub:org/name", revision="main", sha256=sys.argv[1])
envs = runpy.run_path(sys.argv[2])["make_env"](n_envs=2, world="hub:org/name") if len(sys.argv) > 2 else None
print(world.sha256)
"""


def test_a_world_goes_to_a_hub_and_comes_back(tiny_world_dir: Path, hub: Any, tmp_path: Path) -> None:
    files, address, asked = hub
    (tiny_world_dir / "checkpoint.safetensors").write_bytes(b"not of the world")
    sha = World.load(tiny_world_dir).sha256
    arms = {"worldplay": {"psnr": {"mean": 21.54, "ci95": [20.1, 22.0], "n": 4}}, "none": {}}
    report = {"suite": "revisit", "protocol": "revisit-v1", "world": {"sha256": sha}, "arms": arms}
    (tmp_path / "report.json").write_text(json.dumps(report))
    words = ("-m", "worldenv.cli", "push", str(tiny_world_dir), "org/name", "--reports", str(tmp_path / "report.json"))
    pushed = run(*words, home=tmp_path / "home", HF_ENDPOINT=address)
    assert pushed.returncode == 0, pushed.stderr
    (tiny_world_dir / "checkpoint.safetensors").unlink()
    own = {"world.toml", "vae.safetensors", "dit.safetensors", "starts.safetensors"}
    assert set(files) == {*own, "README.md", "env.py", "reports/00-revisit.json"}
    assert all(files[name] == (tiny_world_dir / name).read_bytes() for name in own)
    assert "| worldplay | 21.5 [20.1, 22] |" in files["README.md"].decode()

    online = {"home": tmp_path / "home", "HF_ENDPOINT": address}
    fetched = run("-c", FETCH, sha, **online)  # type: ignore[arg-type]
    assert fetched.stdout.strip() == sha, fetched.stderr
    before = len(asked)
    again = run("-c", FETCH, sha, home=tmp_path / "home", HF_HUB_OFFLINE="1")
    assert again.stdout.strip() == sha, "a copy is used without a network"
    assert len(asked) == before, "nobody was asked"
    files["vae.safetensors"] = files["vae.safetensors"][:-1] + b"!"  # 1.0 ends with a question mark
    other = run("-c", FETCH, sha, **online)  # type: ignore[arg-type]
    assert "asked for " + sha in other.stderr, "a file that differs"
    nowhere = run("-c", FETCH, sha, home=tmp_path / "empty", HF_HUB_OFFLINE="1")
    assert "`hf download org/name --revision main --local-dir DIR`" in nowhere.stderr.splitlines()[-1]


def test_env_py_makes_the_vector_environment_beside_it(tiny_world: World, tmp_path: Path) -> None:
    tiny_world.save_pretrained(tmp_path)
    text = write_env(tiny_world, "org/name")
    assert text is not None
    (tmp_path / "env.py").write_text(text)
    names: dict[str, Any] = {"__file__": str(tmp_path / "env.py")}
    exec(compile(text, "env.py", "exec"), names)
    envs = names["make_env"](n_envs=2, device="cpu")["worldenv"][0]
    assert (envs.num_envs, envs.spec.id) == (2, env_id(tiny_world))


def test_a_card_says_what_is_known(tiny_world_dir: Path, tmp_path: Path) -> None:
    world = World.load(tiny_world_dir)
    card = write_card(world, "org/name", [])
    for words in ("license: apache-2.0", world.sha256, "Pictures of 64 x 48", "64 start views", "nothing is measured"):
        assert words in card
    (tmp_path / "other.json").write_text(json.dumps({"suite": "x", "world": {"sha256": "0123"}, "arms": {}}))
    with pytest.raises(ValueError, match=r"is of a world with sha256 0123, this one has \w{12}; evaluate this one"):
        read_reports([tmp_path / "other.json"], world)
    with pytest.raises(ValueError, match="no report of a suite"):
        read_reports([tiny_world_dir / "world.toml"], world)
