"""The environment core: a world, a task, a clock, for B episodes in lockstep. Shells add Gymnasium's and SB3's
forms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from ..base.config import to_dict
from ..bodies.base import Body, Named
from ..dynamics.protocol import (
    Aimed,
    Branchable,
    Chunk,
    Displayed,
    Doubting,
    Dynamics,
    Explained,
    Latent,
    Prompted,
    Resumable,
    require,
)
from ..dynamics.signals import Signals, Track, check_signals, wide
from ..dynamics.spec import WorldSpec
from ..tasks.base import Commanding, GoalConditioned, Start, Task, TaskState
from .beginning import Beginning, check_beginning
from .copies import CopiedEpisodes
from .episodes import Episodes
from .spaces import given, observation_space


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """What an environment shows and takes."""

    action_mode: str = "basic"
    """A mode of the body."""
    obs_mode: str = "image"
    obs_keys: tuple[str, ...] = ("image", "goal")
    stack: int = 4
    clip_actions: bool = False
    max_episode_steps: int | None = None
    report_memory: bool = False
    prompt: str = ""
    pessimism: float | None = None
    """What a unit of uncertainty costs; with it episodes end where ``limit`` is exceeded."""
    limit: float = 0.0
    """Of uncertainty; 0 is none."""


@dataclass
class Transition:
    """One step of all envs; ``obs`` is a tensor or a dictionary of tensors, each (B, ...)."""

    obs: Any
    reward: Tensor  # (B,)
    terminated: Tensor  # (B,) bool
    truncated: Tensor  # (B,) bool
    info: dict[str, Tensor] = field(default_factory=dict)


class EnvCore(CopiedEpisodes):
    """Steps B episodes; knows nothing of autoreset."""

    def __init__(self, dynamics: Dynamics, body: Body, task: Task, episodes: Episodes, config: CoreConfig) -> None:
        self.dynamics, self.body, self.task, self.episodes, self.config = dynamics, body, task, episodes, config
        self.spec: WorldSpec = dynamics.spec
        self.num_envs = dynamics.num_envs
        if config.report_memory:
            require(dynamics, Explained, "report_memory=True")
        if config.prompt and not self._has_text:
            raise ValueError(f"prompt={config.prompt!r}, but this world takes no prompt; leave it out")
        latent_shape = dynamics.latent_shape if isinstance(dynamics, Latent) else None
        self.action_space: spaces.Space[Any] = body.space(config.action_mode, self.spec.chunk_latents)
        self.action_names = body.names(config.action_mode) if isinstance(body, Named) else ()
        self.observation_space: spaces.Space[Any] = observation_space(
            config.obs_mode,
            self.spec,
            obs_keys=config.obs_keys,
            stack=config.stack,
            latent_shape=latent_shape,
            shows=task.shows,
        )
        self.elapsed = torch.zeros(self.num_envs, dtype=torch.long)
        self.state: TaskState = {}
        self.frames: Tensor | None = None  # (B, T, H, W, 3): newest chunk; after a reset the start view, repeated
        self.latents: Tensor | None = None
        self.chunk: Chunk | None = None  # the newest, as the dynamics gave it; None after a reset
        self.stacked: Tensor | None = None  # (B, stack, H, W, 3)

    def reset(
        self,
        begin: Beginning,
        mask: Tensor,  # (B,) bool
    ) -> tuple[Any, dict[str, Tensor]]:
        """Begin new episodes in the masked rows; return observation and info of all rows.

        In worlds with text a row without a prompt begins with the environment's. Episodes that begin with a clip
        remember it and go on from its end.
        """
        if not mask.any():  # rows of a larger batch, none of which begins anew
            return self.observe(), self._begun()
        if self._has_text:
            wanted = self._prompts(begin.prompts)
            self.set_prompts({row: wanted[row] for row in mask.nonzero()[:, 0].tolist()})
        seeds, starts, clip = begin.seeds, begin.starts, begin.clip
        if begin.images is not None:
            where = self.episodes.begin_at(seeds, starts) if self.spec.has_camera else {}
            clip = begin.images[:, None], {name: part[:, None] for name, part in where.items()}
        if clip is not None:
            chunk = require(self.dynamics, Resumable, "options['clip']").resume(*clip, seeds=seeds, mask=mask)
        else:
            if isinstance(self.dynamics, Aimed):
                self.dynamics.set_goals(begin.goals)
            chunk = self.dynamics.reset(seeds=seeds, starts=starts, mask=mask)
        self.chunk, present = None, self.dynamics.present
        K = self.spec.K if self.spec.has_camera else None
        goal = self.episodes.goal(seeds, starts)
        if clip is not None and begin.goals is not None:
            goal["target"] = F.pad(begin.goals, (0, 1))
        fresh = self.task.reset(Start(chunk.frames[:, -1], present, goal, K, tuple(seeds)))
        self.state = {k: _where(mask, v, self.state[k]) if self.state else v for k, v in fresh.items()}
        self.elapsed[mask] = 0
        view = chunk.frames[:, -1:]
        self.frames = self._fresh(mask, view.expand(-1, self.spec.chunk_frames, -1, -1, -1), self.frames)
        self.stacked = self._fresh(mask, view.expand(-1, self.config.stack, -1, -1, -1), self.stacked)
        self._read_latents(mask)
        return self.observe(), self._begun()

    def _begun(self) -> dict[str, Tensor]:
        """Return the info of a reset."""
        commanded = {name: part for name, part in self.dynamics.present.items() if name in self.spec.takes}
        return self._info(commanded, torch.zeros(self.num_envs, dtype=torch.bool), num_frames=1)

    def set_prompts(self, prompts: Mapping[int, str]) -> None:
        """Describe the worlds of some rows anew, from the next chunk on.

        Raises:
            ValueError: if this world has no text, or a prompt cannot be encoded; then nothing has changed.
        """
        dynamics = require(self.dynamics, Prompted, "a prompt")
        embedded = {prompt: dynamics.encode_prompt(prompt) for prompt in set(prompts.values())}
        for prompt, text in embedded.items():
            dynamics.set_prompt(text, [row for row, wanted in prompts.items() if wanted == prompt])

    @property
    def _has_text(self) -> bool:
        return isinstance(self.dynamics, Prompted) and self.dynamics.takes_prompts

    def _prompts(self, prompts: Sequence[str | None]) -> list[str]:
        wanted = prompts or [None] * self.num_envs
        return [self.config.prompt if prompt is None else prompt for prompt in wanted]

    def check_reset(self, begin: Beginning) -> None:
        """Refuse start views and goals that cannot be, pictures and prompts where none can be used, before anything
        changes.

        Raises:
            ValueError: naming the value and what is possible.
        """
        check_beginning(begin, self.dynamics, self.body, self.episodes)
        if self._has_text or any(prompt is not None for prompt in begin.prompts):
            encode = require(self.dynamics, Prompted, "options['prompt']").encode_prompt
            for prompt in set(self._prompts(begin.prompts)):
                encode(prompt)

    @staticmethod
    def _fresh(mask: Tensor, new: Tensor, old: Tensor | None) -> Tensor:
        return new.clone() if old is None else _where(mask, new, old)

    def _read_latents(self, mask: Tensor | None = None) -> None:
        if self.config.obs_mode == "latent":
            newest = require(self.dynamics, Latent, "obs_mode='latent'").newest_latents()
            self.latents = newest if mask is None else self._fresh(mask, newest, self.latents)

    def step(
        self,
        action: Any,  # (B, ...) checked by the shell; a dictionary of such where the space is one
    ) -> Transition:
        """Advance every env by one chunk."""
        return self.advance(self.body.command(action, self.config.action_mode, self.dynamics.present, self.spec))

    def advance(self, commanded: Track) -> Transition:
        """Advance every env as commanded, each signal (B, F, ...), or as its task commands."""
        if isinstance(self.task, Commanding):
            commanded = self.task.command(self.state, commanded, self.dynamics.present, self.spec)
        chunk = self.dynamics.step(commanded)
        told = {name: signal for name, signal in self.spec.gives.items() if signal.rate == "latent"}
        check_signals(chunk.signals, told, what="a chunk's signals", lead=(self.num_envs, self.spec.chunk_latents))
        outcome = self.task.step(self.state, chunk)
        self.chunk, self.state, self.frames = chunk, outcome.state, chunk.frames
        self.elapsed += 1
        limit = self.config.max_episode_steps
        truncated = (self.elapsed >= limit) if limit else torch.zeros(self.num_envs, dtype=torch.bool)
        if outcome.truncated is not None:
            truncated = truncated | outcome.truncated
        assert self.stacked is not None
        self.stacked = torch.cat([self.stacked, chunk.frames], 1)[:, -self.config.stack :]
        self._read_latents()
        last = commanded.map(lambda part: part[:, -1])
        info = self._info(last, outcome.success, num_frames=chunk.frames.shape[1])
        if chunk.n_frames is not None:
            info["n_frames"] = chunk.n_frames
        reward, terminated = outcome.reward, outcome.terminated
        if self.config.pessimism is not None:
            reward = reward - self.config.pessimism * info["uncertainty"]
            terminated = terminated | ((info["uncertainty"] > self.config.limit) & (self.config.limit > 0))
        return Transition(self.observe(), reward, terminated, truncated & ~terminated, info)

    def identity(self) -> dict[str, object]:
        """Return what a saved state has to be of: world, memory, steps, task and time limit."""
        return {
            **require(self.dynamics, Branchable, "a saved state").identity(),
            "chunk_latents": self.spec.chunk_latents,
            "spec": to_dict(self.spec),
            "task": repr(self.task),
            "max_episode_steps": self.config.max_episode_steps,
        }

    @property
    def goals(self) -> GoalConditioned | None:
        """The task, if it is seen and rewarded by goals: the form of Gymnasium-Robotics' ``GoalEnv``."""
        seen = {"achieved_goal", "desired_goal"} <= set(self.config.obs_keys) and self.config.obs_mode == "dict"
        task: object = self.task
        return task if seen and isinstance(task, GoalConditioned) and task.by_goals else None

    def depth(self) -> Tensor:
        """Return the newest view's depth, (B, H, W) float32 metres along z, where the dynamics know it."""
        return self.dynamics.present["depth"]

    def enlarge(self, frames: Tensor) -> Tensor:
        """Return frames as the world shows them to people; see ``World.enlarge``."""
        return self.dynamics.enlarge(frames) if isinstance(self.dynamics, Displayed) else frames

    def close(self) -> None:
        """Stop the simulators, if any."""
        close = getattr(self.dynamics, "close", None)
        if close is not None:
            close()

    def observe(self) -> Any:
        """Return the observation of the present moment: fresh tensors, never written again."""
        mode = self.config.obs_mode
        assert self.frames is not None
        assert self.stacked is not None
        if mode == "image":
            return self.frames[:, -1].clone()
        if mode == "stack":
            return self.stacked.movedim(1, 3).flatten(3).clone()
        if mode == "chunk":
            return self.frames.clone()
        if mode == "latent":
            assert self.latents is not None
            return self.latents.clone()
        present = self.dynamics.present
        kinds, own = given(self.spec), self.task.observe(self.state, present)
        parts = {"image": self.frames[:, -1].clone(), **own}
        for key in self.config.obs_keys:
            if key not in parts:
                parts[key] = present[key].to(getattr(torch, kinds[key].dtype), copy=True)
        return {key: parts[key] for key in self.config.obs_keys}

    def _info(self, commanded: Signals, success: Tensor, *, num_frames: int) -> dict[str, Tensor]:
        told = {name for name, signal in self.spec.gives.items() if signal.rate == "latent"}
        if "reward" in self.task.defaults.reads:  # what the step returns of the whole chunk
            told -= {"reward", "terminated", "truncated"}
        present = {name: part for name, part in self.dynamics.present.items() if name in told}
        info = {
            **{f"{name}_commanded": commanded[name].clone() for name in present if name in commanded},
            **{name: part.clone() for name, part in present.items()},
            "n_frames": torch.full((self.num_envs,), num_frames),
            "is_success": success.clone(),
        }
        if isinstance(self.dynamics, Doubting):
            known = self.dynamics.known()
            info |= {} if known is None else {"is_known": known}
            info |= {"uncertainty": self.dynamics.uncertainty()} if self.dynamics.doubts else {}
        wanted = self.task.defaults.explains
        if self.config.report_memory or (wanted and isinstance(self.dynamics, Explained)):
            explained = require(self.dynamics, Explained, "report_memory=True").explain()
            told = set(explained) if self.config.report_memory else set(wanted)
            info |= {f"memory_{name}": value for name, value in explained.items() if name in told}
        return info


def _where(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(wide(mask, new), new, old)
