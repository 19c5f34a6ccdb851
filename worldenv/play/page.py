"""``worldenv play``: the page that a world is played in, beside the session server; plain files in ``web/``."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from ..base.objects import nearest
from ..base.said import check_path
from ..bodies.registry import make_body
from ..dynamics.wire import Bounds, Message, pack, unpack
from ..envs.arguments import Arguments
from ..envs.make import make_core
from ..ids import environment_ids
from ..models.codec import to_pixels
from ..world.starts import Starts
from ..world.world import World
from .preference import add_votes
from .recording import NAME, read_panes, save_played
from .server.app import PATH
from .server.opening import check_memory

WEB = Path(__file__).parent / "web"
GALLERY = 96
"""Start views that the page shows; by number there are all."""
MOST_BYTES = 256 * 2**20
"""Of a recording that the page sends: twenty minutes of 64 x 48."""
MOST_VOTES = 64 * 2**10
JUDGES = {"reward", "terminated"}
"""Heads of worlds that reward and end episodes themselves."""


class Views(Message):
    """Start views, for the gallery."""

    frames: Any  # (N, H, W, 3) uint8


class Recording(Message):
    """What was played, from the page."""

    panes: list[dict[str, Any]]
    """Of each arm: ``arm``, its name, ``frames``, ``signals`` and ``rewards``; see ``Played``."""
    actions: list[Any]
    seed: Annotated[int, Bounds(0, 2**63 - 1)]


@dataclass(frozen=True, kw_only=True)
class PlayConfig:
    """What is played."""

    world: str = "maze"
    """Packaged name, directory or hub:org/name."""
    env: str = "auto"
    """Id of an environment; by default one that never ends."""
    memory: str = "auto"
    """Memory policy to begin with; auto is the world's own."""
    chunk_latents: int | None = None
    """Latents of a chunk, where the world was trained for others than its own."""
    out: Path = Path("out/play")
    """Folder for recordings and votes."""


class Page:
    """What the page asks beside the sessions: what there is to play, where to begin, and files to write."""

    def __init__(self, config: PlayConfig, world: World) -> None:
        check_memory(config.memory)
        self.config, self.world = config, world
        self.env, self.options = _environment(config, world)
        played = environment_ids()[self.env] | self.options | {"world": world, "memory": config.memory}
        make_core(Arguments(num_envs=1, **played))  # what a session would be refused for is said before a browser opens
        self.mode = str(self.options["action_mode"])
        self.start = None if world.starts is None else open_view(world, world.starts)

    def routes(self) -> list[BaseRoute]:
        """Return them, the page's files last."""
        return [
            Route("/play/config", self._config),
            Route("/play/starts", self._starts),
            Route("/play/recordings", self._record, methods=["POST"]),
            Route("/play/recordings/{name}/video.mp4", self._video),
            Route("/play/votes", self._vote, methods=["POST"]),
            Mount("/", StaticFiles(directory=WEB, html=True)),
        ]

    def describe(self) -> dict[str, Any]:
        """Return what is played and what can stand beside it, as plain values."""
        world = self.world
        return {
            "world": world.config.name,
            "socket": PATH,
            "camera": world.spec.has_camera,
            "text": world.prompts is not None,
            "display": world.display is not None,
            "starts": 0 if world.starts is None else len(world.starts),
            "start": self.start,
            "arms": self._arms(),
            "compare": "none",
        }

    def _arms(self) -> list[dict[str, Any]]:
        """Return memories, and the simulator: what can be played, or compared, under a name."""
        world, own = self.world, self.world.config.memory
        rendered = world.renders(own)
        alone: dict[str, Any] = {} if own.render is None and not rendered else {"render": False}
        kinds: list[tuple[str, str, Any]] = [("memory", "With memory", self.config.memory)]
        kinds.append(("none", "Without memory", {"policy": "none", **alone}))
        if rendered:
            kinds.append(("learned", "Learned memory alone", {"policy": own.policy, **alone}))
        if world.spec.has_camera and not world.config.dit.pose_video and not world.config.dit.camera_rays:
            kinds.append(("worldscape", "WorldScape's memory", "worldscape"))
        kinds.append(("recent", "The recent past alone", {"policy": "recent", **alone}))
        arms = [self._arm(name, title, memory) for name, title, memory in kinds]
        twin = self._twin()
        if twin is not None:
            known = {name: value for name, value in self.options.items() if name != "uncertainty"}  # it is sure
            arms.append({"id": "simulator", "name": "The simulator", "env": twin, "options": known})
        return arms

    def _arm(self, name: str, title: str, memory: Any) -> dict[str, Any]:
        options = self.options | {"memory": memory}
        return {"id": name, "name": title, "env": self.env, "memory": memory, "options": options}

    def _twin(self) -> str | None:
        """Return the id on ground truth, if this world has one and what it runs on is installed."""
        starts, name, _, version = self.world.starts, *self.env.rpartition("-")
        known = starts is not None and starts.map_seeds is not None and importlib.util.find_spec("vizdoom") is not None
        return f"{name}Sim-{version}" if known else None

    async def _config(self, request: Request) -> Response:
        return JSONResponse(self.describe())

    async def _starts(self, request: Request) -> Response:
        spec, starts = self.world.spec, self.world.starts
        none = np.zeros((0, spec.height, spec.width, 3), np.uint8)
        frames = none if starts is None else starts.frames[:GALLERY].numpy()
        return Response(pack(Views(id=0, frames=frames)), media_type="application/msgpack")

    async def _record(self, request: Request) -> Response:
        body = await _read(request, MOST_BYTES)
        try:
            return JSONResponse(await run_in_threadpool(self._save, body))
        except ValueError as error:
            raise HTTPException(400, f"no recording: {error}") from None
        except OSError as error:
            raise HTTPException(507, f"not written: {error}") from None

    def _save(self, body: bytes) -> dict[str, Any]:
        sent = unpack(body, {"recording": Recording})
        name = f"{datetime.now():%Y%m%d-%H%M%S-%f}"
        played = read_panes(sent.panes)
        spec = replace(self.world.spec, chunk_latents=self.config.chunk_latents or self.world.spec.chunk_latents)
        save_played(
            self.config.out / name,
            played,
            sent.actions,
            mode=self.mode,
            spec=spec,
            world=self.world.config.name,
            seed=sent.seed,
        )
        return {
            "video": f"play/recordings/{name}/video.mp4",
            "folder": str(self.config.out / name),
            "frames": len(played[0].frames),
        }

    async def _video(self, request: Request) -> Response:
        name = request.path_params["name"]
        path = self.config.out / name / "video.mp4"
        if not NAME.fullmatch(name):
            raise HTTPException(400, f"name={name!r}: letters, digits and - alone")
        if not path.is_file():
            raise HTTPException(404, "there is no such recording")
        return FileResponse(path)

    async def _vote(self, request: Request) -> Response:
        body = await _read(request, MOST_VOTES)
        try:
            rows = await run_in_threadpool(add_votes, self.config.out, json.loads(body))
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, f"no vote: {error}") from None
        except OSError as error:
            raise HTTPException(507, f"not written: {error}") from None
        return JSONResponse({"rows": rows, "path": str(self.config.out / "preference.csv")})


def _environment(config: PlayConfig, world: World) -> tuple[str, dict[str, Any]]:
    """Return the id that is played and its arguments."""
    folder = check_path(config.world)
    options: dict[str, Any] = {
        "world": folder.name if folder.is_dir() else config.world,
        "max_episode_steps": -1,
        "action_mode": "camera" if world.spec.has_camera else make_body("auto", world.spec).modes[0],
    }
    if config.chunk_latents is not None:
        options["chunk_latents"] = config.chunk_latents
    if world.heads.keys() & JUDGES and not world.config.sampler.rolling:
        options["uncertainty"] = True
    if config.env != "auto":
        known = [name for name, of in environment_ids().items() if of["dynamics"] == "world"]
        if config.env not in known:
            raise ValueError(f"env={config.env!r}; choose one of {', '.join(known)}{nearest(config.env, known)}")
        return config.env, options
    judged = world.spec.environment is not None and world.heads.keys() >= JUDGES
    return ("worldenv/World-v0" if judged else "worldenv/Free-v0"), options


def open_view(world: World, starts: Starts) -> int:
    """Return the start view of the gallery that shows furthest, where a world sees depth; else the first."""
    if world.depth_head is None:
        return 0
    with torch.no_grad():
        depth, _ = world.depth_head(to_pixels(starts.frames[:GALLERY]).to(world.vae.latent_mean.device))
    return int(depth.flatten(1).median(1).values.argmax())


async def _read(request: Request, most: int) -> bytes:
    """Return what was sent, unless it is too much."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise HTTPException(413, f"more than {most} bytes; record a shorter piece")
        parts.append(part)
    return b"".join(parts)
