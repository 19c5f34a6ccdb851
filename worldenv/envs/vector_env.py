"""``gymnasium.vector.VectorEnv`` over the core: seeds, options, autoreset, info masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from ..base.checkpoint import Expected, check_tensors
from ..base.rng import derive_seed
from ..base.said import said
from ..dynamics.signals import wide
from ..sims.reopened import Reopened
from .alone import alone
from .arguments import Arguments, check_keywords
from .beginning import Beginning
from .copies import MOST_COUNTED
from .core import EnvCore
from .goals import goal_rewards
from .make import make_core
from .options import (
    check_options,
    read_clip,
    read_goals,
    read_images,
    read_mask,
    read_options,
    read_prompts,
    read_reseed,
    read_seeds,
    read_starts,
)
from .sharded import ShardedCore
from .snapshot import load_snapshot, save_snapshot
from .spaces import check_actions

Core: TypeAlias = EnvCore | ShardedCore
"""What a shell steps: B episodes in this process, or in others."""
RENDER_MODES = ("rgb_array", "depth_array")
KEYWORDS = ("autoreset_mode", "render_mode", "output")
"""What the class takes beside ``Arguments``."""
_ROW: dict[str, Expected] = {
    "row.seed": (torch.int64, ("R",)),
    "row.episode": (torch.int64, ("R",)),
    "row.done": (torch.bool, ("R",)),
}


class WorldVectorEnv(gym.vector.VectorEnv[Any, Any, Any]):
    """B episodes of one world, one batched model call per step.

    Args:
        num_envs: B.
        autoreset_mode: ``SameStep`` (default), ``NextStep`` or ``Disabled``.
        render_mode: ``rgb_array``, ``depth_array`` (worlds with a depth head, and simulators) or None.
        output: ``numpy``, or ``torch`` for tensors.
        kwargs: see ``Arguments``.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": [*RENDER_MODES],  # of one without depth only the first
        "render_fps": 2,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        output: str = "numpy",
        **kwargs: Any,
    ) -> None:
        check_keywords(kwargs, KEYWORDS, {"time_limit": "of gym.make; gym.make_vec takes max_episode_steps"})
        if not isinstance(output, str) or output not in ("numpy", "torch"):
            raise ValueError(f"output={said(output)}; choose 'numpy' or 'torch'")
        if not (render_mode is None or (isinstance(render_mode, str) and render_mode in RENDER_MODES)):
            raise ValueError(f"render_mode={said(render_mode)}; choose {', '.join(map(repr, RENDER_MODES))} or None")
        if render_mode == "depth_array":
            kwargs["depth"] = True
        self.core: Core = self._open(Arguments(num_envs=num_envs, **kwargs))
        modes = [mode for mode in RENDER_MODES if mode != "depth_array" or "depth" in self.core.spec.gives]
        if render_mode is not None and render_mode not in modes:
            raise ValueError("render_mode='depth_array': this world has no depth; a world has it from its depth head")
        self.autoreset_mode = autoreset(autoreset_mode)
        fps = math.ceil(
            self.core.spec.fps / self.core.spec.chunk_frames
        )  # env steps a second: Gymnasium wants integers
        own = {"render_modes": modes, "render_fps": fps, "autoreset_mode": self.autoreset_mode}
        self.metadata = own | ({"torch": True} if output == "torch" else {})
        self.render_mode, self.output = render_mode, output
        self.num_envs = num_envs
        self.single_action_space = self.core.action_space
        self.single_observation_space = self.core.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.inside: dict[str, int] = {}  # which thread is stepping it
        self._seeds: list[int] | None = None
        self._episodes = [0] * num_envs
        self._done = np.zeros(num_envs, bool)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a copy; a simulator is made anew in it, whose episodes begin with a reset."""
        self.__dict__.update(state)
        if isinstance(self.core, EnvCore) and isinstance(self.core.dynamics, Reopened):
            self._seeds = None

    def _open(self, asked: Arguments) -> Core:
        """Make what is stepped."""
        return make_core(asked)

    @alone
    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes.

        Args:
            seed: row i gets seed + i, or seed[i]; None goes on with each row's stream of episodes.
            options: ``start`` (index or one per row), ``goal`` (of the hand's table: x and y of tray or mark,
                metres, shared or per row), ``image`` (uint8 (H, W, 3), shared or per row),
                ``clip`` (uint8 (T, H, W, 3)) with ``c2w`` ((T, 4, 4), every frame's or every fourth's) and ``K``, or
                what else the world takes by its names, to go on from a video, ``prompt`` (text, shared or per row),
                ``reset_mask`` (bool array (B,)); they hold for this reset only.
        """
        self.check_open("reset")
        chosen = read_options(options)
        check_options(chosen, self.core.spec)
        mask = read_mask(chosen.get("reset_mask"), self.num_envs, first=self._seeds is None)
        starts = read_starts(chosen.get("start"), self.num_envs)
        images = read_images(chosen.get("image"), self.core.spec, self.num_envs)
        seeds = read_seeds(seed, self.num_envs)
        prompts = read_prompts(chosen.get("prompt"), self.num_envs)
        clip = read_clip(chosen, self.core.spec, self.num_envs)
        goals = read_goals(chosen.get("goal"), self.num_envs)
        asked = Beginning((), starts, images, prompts, clip, goals)
        self.core.check_reset(asked)
        self._seed(seeds, mask)
        super().reset(seed=self._seeds[0] if seed is not None and self._seeds else None)
        obs, info = self.core.reset(replace(asked, seeds=self._episode_seeds()), torch.from_numpy(mask))
        self._done[mask] = False
        return self._give(obs), self._info(info, mask)

    def check_open(self, what: str) -> None:
        """Refuse ``what`` where the environment is closed."""
        if self.closed:
            raise gym.error.ClosedEnvironmentError(f"{what}() of a closed environment; make another one")

    def _check_begun(self, what: str) -> list[int]:
        """Return the seeds of the rows; refuse ``what`` before the first reset, and where the environment is closed."""
        self.check_open(what)
        if self._seeds is None:
            raise gym.error.ResetNeeded(f"call reset() before {what}()")
        return self._seeds

    def go_on(self) -> None:
        """Let episodes that have ended go on without a reset."""
        self._done[:] = False

    @alone
    def set_prompt(self, prompt: str, rows: Sequence[int] | None = None) -> None:
        """Describe the worlds of some rows (all by default) anew from the next step on (worlds with text)."""
        self.check_open("set_prompt")
        self.core.set_prompts(dict.fromkeys(range(self.num_envs) if rows is None else rows, prompt))

    @alone
    def clone_state(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Copy the episodes of some rows, with their streams of episodes to come."""
        seeds = self._check_begun("clone_state")
        self.core.check_rows(rows)
        own = {"row.seed": seeds, "row.episode": self._episodes, "row.done": self._done.tolist()}
        kept = {key: torch.tensor([values[row] for row in rows]) for key, values in own.items()}
        return self.core.clone_state(rows) | kept

    @alone
    def restore_state(self, state: Mapping[str, Tensor], rows: Sequence[int]) -> None:
        """Continue cloned episodes in these rows: given the same actions they repeat what the clones' rows do.

        Raises:
            ValueError: if the state does not fit this environment, or another number of rows is named; then nothing
                has changed.
        """
        seeds = self._check_begun("restore_state")
        own = {name: state[name] for name in _ROW if name in state}
        check_tensors(own, {name: _ROW[name] for name in own}, where="the state")
        for name, most in (("row.seed", 2**63 - 1), ("row.episode", MOST_COUNTED)):
            if name in state and not bool(((state[name] >= 0) & (state[name] <= most)).all()):
                raise ValueError(f"the state: {name} holds what no episode has; the file was damaged or edited")
        self.core.restore_state(state, rows, shell=_ROW)
        for i, row in enumerate(rows):
            seeds[row], self._episodes[row] = int(state["row.seed"][i]), int(state["row.episode"][i])
            self._done[row] = bool(state["row.done"][i])

    @alone
    def fork(self, source: Sequence[int], rows: Sequence[int], *, reseed: Sequence[int] | None = None) -> None:
        """Let rows continue the episodes of other rows, sharing their memory; given the same actions they repeat them.

        Args:
            source: rows to continue.
            rows: as many other rows.
            reseed: new seeds for the forks' random numbers, so that they go on differently.

        Raises:
            ValueError: if the numbers of rows differ, a row would be both trunk and fork, or a seed is none.
        """
        seeds = self._check_begun("fork")
        fresh = None if reseed is None else read_reseed(reseed)
        self.core.fork(source, rows, fresh)
        for trunk, row in zip(source, rows, strict=True):
            seeds[row], self._episodes[row] = seeds[trunk], self._episodes[trunk]
            self._done[row] = self._done[trunk]
        for row, seed in zip(rows, fresh or (), strict=False):
            seeds[row] = seed

    @property
    def compute_reward(self) -> Callable[[Any, Any, Any], npt.NDArray[np.float64]]:
        """What hindsight replay calls (``HerReplayBuffer`` of Stable-Baselines3): ``compute_reward(achieved_goal,
        desired_goal, info)`` returns the rewards of having achieved one goal where another was desired, (...) of
        (..., D) each; ``info`` says nothing more. By having it an environment says that it is a ``GoalEnv``.

        Raises:
            AttributeError: if it is none.
        """
        goals = self.core.goals if isinstance(self.core, EnvCore) else None
        if goals is None:
            raise AttributeError(
                "compute_reward is of environments that are seen and rewarded by goals: pass a task of hands, "
                "task_options={'reward': 'sparse'} and obs_keys=['observation', 'achieved_goal', 'desired_goal']"
            )
        return partial(goal_rewards, goals)

    def save_state(self, path: str | Path, rows: Sequence[int] | None = None) -> None:
        """Write the episodes of some rows (all by default) to a safetensors file, to continue in another process."""
        chosen = range(self.num_envs) if rows is None else rows
        save_snapshot(Path(path), self.core.identity(), self.clone_state(chosen))

    @alone
    def load_state(self, path: str | Path, rows: Sequence[int] | None = None) -> None:
        """Continue saved episodes in these rows (by default the first ones), bit by bit as they would have gone on.

        Raises:
            ValueError: if the file is broken, or of another world, format or environment; then nothing has changed.
        """
        self.check_open("load_state")
        state, begun = load_snapshot(Path(path), self.core.identity()), self._seeds is not None
        if not begun:
            self.reset(seed=0)
        try:
            saved = state["row.seed"].numel() if "row.seed" in state else 0
            self.restore_state(state, range(saved) if rows is None else rows)
        except ValueError as error:
            if not begun:
                self._seeds = None
            raise ValueError(f"{path}: {error}") from None

    @alone
    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Advance every env by one chunk; rows that ended are reset as ``autoreset_mode`` says."""
        self._check_begun("step")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._done.any():
            rows = np.flatnonzero(self._done).tolist()
            raise gym.error.ResetNeeded(f"rows {rows} have ended; reset them with options={{'reset_mask': mask}}")
        core = self.core
        action = check_actions(
            actions, core.action_space, self.num_envs, clip=core.config.clip_actions, names=core.action_names
        )
        if self.autoreset_mode == AutoresetMode.NEXT_STEP and self._done.any():
            return self._step_next(action)
        result = self.core.step(action)
        obs, info = result.obs, self._info(result.info, np.ones(self.num_envs, bool))
        done = result.terminated | result.truncated
        self._done = done.numpy().copy()
        if self.autoreset_mode == AutoresetMode.SAME_STEP and bool(done.any()):
            obs, info = self._reset_same_step(result.obs, result.info, done)
        return self._give(obs), *self._signals(result.reward, result.terminated, result.truncated), info

    def _reset_same_step(self, obs: Any, info: dict[str, Tensor], done: Tensor) -> tuple[Any, dict[str, Any]]:
        mask = done.numpy()
        final_obs, final_info = self._rows(self._give(obs)), self._info(info, mask)
        new_obs, new_info = self._autoreset(mask)
        merged = self._info(new_info, np.ones(self.num_envs, bool), old=info, mask=done)
        merged["final_obs"] = np.array([None] * self.num_envs, dtype=object)
        for row in np.flatnonzero(mask):
            merged["final_obs"][row] = final_obs[row]
        merged["_final_obs"] = mask.copy()
        merged["final_info"], merged["_final_info"] = final_info, mask.copy()
        self._done[:] = False
        return new_obs, merged

    def _step_next(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Advance every row, then begin new episodes in those that had ended before; their action counts for
        nothing.
        """
        over = torch.from_numpy(self._done.copy())
        result = self.core.step(action)
        obs, new_info = self._autoreset(self._done)
        reward = result.reward.masked_fill(over, 0)
        terminated, truncated = result.terminated & ~over, result.truncated & ~over
        info = self._info(new_info, np.ones(self.num_envs, bool), old=result.info, mask=over)
        self._done = (terminated | truncated).numpy().copy()
        return self._give(obs), *self._signals(reward, terminated, truncated), info

    def _autoreset(self, mask: npt.NDArray[np.bool_]) -> tuple[Any, dict[str, Tensor]]:
        for row in np.flatnonzero(mask):
            self._episodes[row] += 1
        return self.core.reset(Beginning.drawn(self._episode_seeds()), torch.from_numpy(mask))

    def _seed(self, wanted: list[int | None], mask: npt.NDArray[np.bool_]) -> None:
        if self._seeds is None:
            self._seeds = np.random.SeedSequence().generate_state(self.num_envs).tolist()
        for row in np.flatnonzero(mask).tolist():
            new = wanted[row]
            if new is None:
                self._episodes[row] += 1
            else:
                self._seeds[row], self._episodes[row] = int(new), 0

    def _episode_seeds(self) -> list[int]:
        """Episode 0 of a row has the row's seed itself; later ones follow from it and their number."""
        assert self._seeds is not None
        return [s if n == 0 else derive_seed(s, "episode", n) for s, n in zip(self._seeds, self._episodes, strict=True)]

    def _give(self, obs: Any) -> Any:
        """Hand out observations as arrays or tensors."""
        if isinstance(obs, dict):
            return {key: self._give(value) for key, value in obs.items()}
        return obs if self.output == "torch" else obs.cpu().numpy()

    def _signals(self, *signals: Tensor) -> tuple[Any, ...]:
        return tuple(self._give(s) for s in signals)

    def _rows(self, obs: Any) -> list[Any]:
        if isinstance(obs, Mapping):
            return [{key: value[row] for key, value in obs.items()} for row in range(self.num_envs)]
        return [obs[row] for row in range(self.num_envs)]

    def _info(
        self,
        info: dict[str, Tensor],
        valid: npt.NDArray[np.bool_],
        *,
        old: dict[str, Tensor] | None = None,
        mask: Tensor | None = None,
    ) -> dict[str, Any]:
        """Turn info into arrays with Gymnasium's ``_key`` masks; rows outside ``mask`` come from ``old``."""
        result: dict[str, Any] = {}
        for key, value in info.items():
            if old is not None and mask is not None:
                value = torch.where(wide(mask, value), value, old[key])
            result[key] = value.cpu().numpy().copy()
            result[f"_{key}"] = valid.copy()
        return result

    def render(self) -> tuple[npt.NDArray[Any], ...] | None:
        """Return the newest frame of each env, (H, W, 3) uint8, or its depth, (H, W) float32 metres along z."""
        if self.render_mode is None or self.core.frames is None:
            return None
        if self.render_mode == "depth_array":
            return tuple(self.core.depth().cpu().numpy().copy())
        return tuple(self.core.frames[:, -1].numpy().copy())

    @property
    def chunk_frames(self) -> npt.NDArray[np.uint8]:
        """All frames of the newest chunk, (B, T, H, W, 3)."""
        if self.core.frames is None:
            raise gym.error.ResetNeeded("call reset() first")
        return self.core.frames.numpy().copy()

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the simulators, if any."""
        self.core.close()


def autoreset(mode: str | AutoresetMode) -> AutoresetMode:
    """Resolve an autoreset mode from its enum or its name (``SameStep``, ``SAME_STEP``, ...)."""
    if isinstance(mode, AutoresetMode):
        return mode
    if not isinstance(mode, str):
        raise ValueError(f"autoreset_mode={said(mode)}; choose one of {', '.join(m.value for m in AutoresetMode)}")
    known = {m.value.lower(): m for m in AutoresetMode} | {m.name.lower(): m for m in AutoresetMode}
    if mode.lower() not in known:
        raise ValueError(f"autoreset_mode={said(mode)}; choose one of {', '.join(m.value for m in AutoresetMode)}")
    return known[mode.lower()]
