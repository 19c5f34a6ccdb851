"""From what a client asks for to an environment: nothing that it says is imported, or read as a path."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

from ...base.config import from_dict, to_dict
from ...base.objects import nearest
from ...dynamics.messages import Create
from ...dynamics.protocol import Branchable, Displayed, Explained, Prompted, Resumable
from ...engine.engine import Engine
from ...envs.arguments import Arguments
from ...envs.core import EnvCore
from ...envs.described import describe_space
from ...envs.make import make_core
from ...envs.vector_env import WorldVectorEnv
from ...ids import environment_ids
from ...memory.config import POLICIES, MemoryConfig
from ...tasks.registry import SIMULATED, make_task
from .computing import Computing
from .config import ServeConfig
from .pool import Pool
from .share import Share

OPTIONS = (
    "world",
    "memory",
    "action_mode",
    "obs_mode",
    "obs_keys",
    "stack",
    "chunk_latents",
    "num_steps",
    "lookahead_policy",
    "clip_actions",
    "max_episode_steps",
    "report_memory",
    "prompt",
    "depth",
    "horizon",
    "task_options",
    "uncertainty",
    "pictures",
)
"""Arguments of environments that clients may give."""
MAX_STACK = 64
OF_ENGINES = ("world", "memory", "chunk_latents", "num_steps", "lookahead_policy")
"""Those that make a difference to engines."""
OF_ENGINES_ALONE = ("num_steps", "lookahead_policy")
"""And to nothing else."""


class Opener:
    """Opens environments, those that may be batched as shares of engines."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.compute = Computing()
        self.pools: dict[str, list[Pool]] = {}
        self._opening = threading.Lock()

    def open(self, asked: Create) -> WorldVectorEnv:
        """Make an environment.

        Raises:
            ValueError: on what is unknown, may not be asked for, or cannot be.
        """
        arguments = self.arguments(asked)
        num_envs = asked.num_envs or 1
        shares = asked.batch and not arguments.get("uncertainty", False)  # which engines of many do not tell
        if shares and num_envs <= self.config.batch and arguments["dynamics"] == "world":
            share = self._share(arguments, num_envs)
            if share is not None:
                own = {name: value for name, value in arguments.items() if name not in OF_ENGINES_ALONE}
                try:
                    return WorldVectorEnv(num_envs, autoreset_mode=asked.autoreset, **own | {"dynamics": share})
                except BaseException:
                    share.close()  # else its rows would be nobody's, for ever
                    self.tidy()
                    raise
        make = partial(WorldVectorEnv, num_envs, autoreset_mode=asked.autoreset, **arguments)
        return self.compute(make) if arguments["dynamics"] == "world" else make()

    def arguments(self, asked: Create) -> dict[str, Any]:
        """Return the arguments of the environment that is asked for; a ValueError where it may not be."""
        ids, options = environment_ids(), dict(asked.options)
        if asked.env not in ids:
            raise ValueError(
                f"env={asked.env!r} is not served; choose one of {', '.join(ids)}{nearest(asked.env, ids)}"
            )
        for name in options:
            if name not in OPTIONS:
                known = ", ".join(OPTIONS)
                raise ValueError(f"option {name!r} is not for clients; known are {known}{nearest(name, OPTIONS)}")
        check_prompt(options.get("prompt"))
        stack = options.get("stack")
        if isinstance(stack, int) and stack > MAX_STACK:
            raise ValueError(f"stack={stack} is more than a server holds, {MAX_STACK}")
        task, served = ids[asked.env]["task"], self.config.named
        hands = task in SIMULATED and make_task(task).defaults.world in served  # which the first may not show
        world = options.get("world", make_task(task).defaults.world if hands else next(iter(served)))
        if world not in served:
            raise ValueError(f"world={world!r} is not served; choose one of {', '.join(served)}")
        if "memory" in options:
            check_memory(options["memory"])
        arguments = {**ids[asked.env], **options, "device": self.config.device, "dtype": self.config.dtype}
        if task in SIMULATED and ids[asked.env]["dynamics"] == "sim" and "world" not in options:
            return arguments  # these take none
        return arguments | {"world": served[world]}

    def _share(self, arguments: dict[str, Any], num_envs: int) -> Share | None:
        """Return rows of an engine for what is asked, None where rows cannot advance by themselves."""
        if arguments.get("horizon") is not None:
            return None
        options = {name: arguments[name] for name in OF_ENGINES if name in arguments}
        key = json.dumps([arguments["task"], options], sort_keys=True)
        with self._opening:
            for pool in self.pools.get(key, []):
                seat = pool.take(num_envs)
                if seat is not None:
                    return Share(pool, seat)
            wanted = {name: arguments[name] for name in (*OF_ENGINES, "task", "device", "dtype") if name in arguments}
            engine = self.compute(make_core, Arguments(num_envs=self.config.batch, **wanted)).dynamics
            if not isinstance(engine, Engine) or engine.sampler.rolling:
                return None
            pool = Pool(engine, self.compute, wait_s=self.config.wait_ms / 1000)
            self.pools.setdefault(key, []).append(pool)
            seat = pool.take(num_envs)
            assert seat is not None  # a whole engine is free
            return Share(pool, seat)

    def tidy(self) -> None:
        """Forget engines in which nobody has a seat."""
        with self._opening:
            for key, pools in list(self.pools.items()):
                for pool in [pool for pool in pools if not pool.seats]:
                    pools.remove(pool)
                    pool.close()
                if not pools:
                    del self.pools[key]


def check_memory(memory: Any) -> None:
    """Refuse memories that are no policy's name and no table of settings."""
    if isinstance(memory, Mapping):
        from_dict(MemoryConfig, memory, where="memory")
    elif memory != "auto" and memory not in POLICIES:
        known = ("auto", *POLICIES)
        raise ValueError(f"memory={memory!r}; choose one of {', '.join(known)}, or pass a table of settings")


def check_prompt(prompt: Any) -> None:
    """Refuse prompts that name a file of the server's."""
    every = prompt if isinstance(prompt, list) else [prompt]
    if any(isinstance(part, str) and part.strip().endswith(".safetensors") for part in every):
        raise ValueError("a prompt is a text here; files of the server are not read")


def about(env: WorldVectorEnv) -> dict[str, Any]:
    """Describe an environment as plain values."""
    core = core_of(env)
    dynamics, spec, mode = core.dynamics, core.spec, core.config.action_mode
    can = {
        "back": isinstance(dynamics, Branchable),
        "picture": isinstance(dynamics, Resumable),
        "prompt": isinstance(dynamics, Prompted) and dynamics.takes_prompts,
        "memory": isinstance(dynamics, Explained),
        "depth": "depth" in spec.gives,
        "floor": isinstance(dynamics, Engine | Share) and engine_of(dynamics).history.walls is not None,
        "display": isinstance(dynamics, Displayed),
    }
    starts = core.episodes.starts
    return {
        "action_space": describe_space(core.action_space),
        "observation_space": describe_space(core.observation_space),
        "num_envs": env.num_envs,
        "metadata": {name: value for name, value in env.metadata.items() if name in ("render_modes", "render_fps")},
        "action_mode": mode,
        "action_names": list(core.action_names),
        "keyboard": [[list(keys), action] for keys, action in core.body.keyboard(mode).items()],
        "spec": {
            "width": spec.width,
            "height": spec.height,
            "fps": spec.fps,
            "fov_deg": spec.fov_deg,
            "chunk_latents": spec.chunk_latents,
            "chunk_frames": spec.chunk_frames,
            "frames_per_latent": spec.frames_per_latent,
            "steps": to_dict(spec.steps),
            "takes": list(spec.takes),
            "gives": list(spec.gives),
            "K": spec.K.numpy() if spec.has_camera else None,
        },
        "starts": 0 if starts is None else len(starts),
        "max_episode_steps": core.config.max_episode_steps,
        "can": [name for name, able in can.items() if able],
        "batched": isinstance(dynamics, Share),
    }


def core_of(env: WorldVectorEnv) -> EnvCore:
    """Return what steps an environment of this process."""
    assert isinstance(env.core, EnvCore)
    return env.core


def engine_of(dynamics: Engine | Share) -> Engine:
    """Return the engine that computes an environment's world."""
    return dynamics.engine if isinstance(dynamics, Share) else dynamics
