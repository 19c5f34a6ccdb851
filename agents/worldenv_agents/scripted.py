"""Policies without learning: follow a path, go out and come back, walk to a goal, wander."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from worldenv.geometry.action import ActionSteps
from worldenv.geometry.pose import rotation_yaw, wrap_angle, yaw_pitch
from worldenv.geometry.pose_string import parse_pose_string

FORWARD, BACK, RIGHT, LEFT = range(4)
"""The actions of ``action_mode="basic"``."""
UNDO = {FORWARD: BACK, BACK: FORWARD, RIGHT: LEFT, LEFT: RIGHT}
PATIENCE = 3
"""Steps without motion, led into a wall or stopped by one, after which what is to be taken back is given up."""


class FollowKeys:
    """Plays a pose string such as ``w-8, right-8`` in every env, then stands still (``keys_per_latent``)."""

    def __init__(self, text: str, *, num_latents: int) -> None:
        codes = parse_pose_string(text)
        missing = -len(codes) % num_latents
        padded = torch.cat([codes, codes.new_zeros(missing, 2)])
        self.chunks = padded.reshape(-1, 2 * num_latents).numpy()
        self._num_envs = self._step = 0

    def reset(self, num_envs: int) -> None:
        """Begin at the first key."""
        self._num_envs, self._step = num_envs, 0

    def act(self, obs: Any, info: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Return the next chunk of keys, (B, 2 * latents per chunk)."""
        ended = self._step >= len(self.chunks)
        keys = np.zeros_like(self.chunks[0]) if ended else self.chunks[self._step]
        self._step += 1
        return np.tile(keys, (self._num_envs, 1))


class FollowPath:
    """Steers along planned poses, one per latent, from wherever the camera really is (``camera_per_latent``).

    Each chunk starts from the pose that ``info["c2w"]`` reports, so what a wall took away is caught up as far as the
    largest step allows.
    """

    def __init__(
        self,
        c2w: Tensor,  # (B, F, 4, 4), or (F, 4, 4) for all envs
        *,
        steps: ActionSteps,
        num_latents: int,
    ) -> None:
        if c2w.ndim not in (3, 4) or c2w.shape[-3] < 1 or c2w.shape[-2:] != (4, 4):
            raise ValueError(f"c2w has shape {tuple(c2w.shape)}; pass (F, 4, 4) or (B, F, 4, 4), one pose per latent")
        self.c2w, self.steps, self.num_latents = c2w.double(), steps, num_latents
        self._num_envs = self._step = 0

    def reset(self, num_envs: int) -> None:
        """Begin at the first pose."""
        if self.c2w.ndim == 4 and len(self.c2w) != num_envs:
            raise ValueError(f"the path is for {len(self.c2w)} envs, got num_envs={num_envs}; pass one path per env")
        self._num_envs, self._step = num_envs, 0

    def act(self, obs: Any, info: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Return the camera actions towards the chunk's poses, (B, 5 * latents per chunk) float32."""
        index = torch.arange(self.num_latents) + self._step * self.num_latents
        goal = self.c2w[..., index.clamp(max=self.c2w.shape[-3] - 1), :, :].expand(self._num_envs, -1, -1, -1)
        here = torch.as_tensor(info["c2w"], dtype=torch.float64)[:, None]
        self._step += 1
        return camera_between(torch.cat([here, goal[:, :-1]], 1), goal, self.steps).flatten(1).float().numpy()


def camera_between(
    c2w_from: Tensor,  # (..., 4, 4)
    c2w_to: Tensor,  # (..., 4, 4)
    steps: ActionSteps,
) -> Tensor:
    """Return the ``camera`` action that leads from one upright pose to another, (..., 5), cut to -1..1.

    The inverse of ``geometry.action.move_camera`` for ``walk``: rotate first, then translate along the new heading.
    """
    (yaw_from, pitch_from), (yaw_to, pitch_to) = yaw_pitch(c2w_from), yaw_pitch(c2w_to)
    offset = c2w_to[..., :3, 3:] - c2w_from[..., :3, 3:]
    right, down, forward = (rotation_yaw(yaw_to).mT @ offset)[..., 0].unbind(-1)
    delta = torch.stack([forward, right, -down, wrap_angle(yaw_to - yaw_from), pitch_to - pitch_from], -1)
    return (delta / steps.units().to(delta)).clamp(-1, 1)


class OutAndBack:
    """Plays some ``basic`` actions and then takes each of them back: the scripted answer to Revisit.

    By default one step ahead and half a turn, which a start view mostly has room for; where a wall stops the step, the
    way home ends elsewhere.
    """

    def __init__(self, out: tuple[int, ...] = (FORWARD, RIGHT, RIGHT, RIGHT, RIGHT)) -> None:
        self.actions = (*out, *(UNDO[action] for action in reversed(out)))
        self._num_envs = self._step = 0

    def reset(self, num_envs: int) -> None:
        """Begin at the first action."""
        self._num_envs, self._step = num_envs, 0

    def act(self, obs: Any, info: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Return the next action for every env, over and over again."""
        action = self.actions[self._step % len(self.actions)]
        self._step += 1
        return np.full(self._num_envs, action, np.int64)


class SeekGoal:
    """Turns towards the goal and walks, with ``basic`` actions; sees nothing but ``obs["goal"]``.

    When a step forward hardly moved the camera there was a wall: the policy turns aside, walks on a little and tries
    again. In worlds without walls that never happens.
    """

    def __init__(self, *, turn: float, move: float, detour: int = 2, seed: int = 0) -> None:
        """Make a policy for an env whose steps turn by ``turn`` radians and walk ``move`` metres.

        It walks up to ``detour`` steps aside where it was stopped; 0 is pose arithmetic alone, which walks on.
        """
        self.turn, self.move, self.detour, self.seed = turn, move, detour, seed
        self.reset(0)

    def reset(self, num_envs: int) -> None:
        """Forget where the goals were."""
        self.rng = np.random.default_rng(self.seed)
        self._goal: npt.NDArray[Any] | None = None
        self._walked = np.zeros(num_envs, bool)
        self._queues: list[list[int]] = [[] for _ in range(num_envs)]

    def act(self, obs: Any, info: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Return one action per env."""
        goal = np.asarray(obs["goal"], np.float64)
        bearing = np.arctan2(goal[:, 0], goal[:, 2])
        towards = np.where(bearing > 0, RIGHT, LEFT)
        action = np.where(np.abs(bearing) > self.turn / 2, towards, FORWARD)
        if self._goal is not None and self.detour:
            # Walking does not turn, so the goal moves through the camera frame as far as the camera did.
            moved = np.linalg.norm(goal[:, :3] - self._goal[:, :3], axis=1)
            for row in np.flatnonzero(self._walked & (moved < self.move / 2)):
                self._queues[row] = self._way_round()
        for env_idx, queue in enumerate(self._queues):
            if queue:
                action[env_idx] = queue.pop(0)
        self._goal, self._walked = goal, action == FORWARD
        return action

    def _way_round(self) -> list[int]:
        quarter = max(1, round(math.pi / 2 / self.turn))
        side = int(self.rng.choice([RIGHT, LEFT]))
        return [side] * quarter + [FORWARD] * int(self.rng.integers(1, self.detour + 1))


class Wander:
    """Walks on until something stops it, then turns aside by up to half a turn; sees nothing but where it is."""

    def __init__(self, *, turn: float, move: float, seed: int = 0) -> None:
        """Make a policy for an env whose ``basic`` steps turn by ``turn`` radians and walk ``move`` metres."""
        self.most, self.move, self.seed = max(1, round(math.pi / turn)), move, seed
        self.reset(0)

    def reset(self, num_envs: int) -> None:
        """Begin by walking."""
        self.rng = np.random.default_rng(self.seed)
        self._turns = np.zeros(num_envs, int)
        self._side = np.full(num_envs, RIGHT)
        self._where: npt.NDArray[Any] | None = None

    def act(self, obs: Any, info: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Return one action per env."""
        where = np.array(info["c2w"])[:, :3, 3]
        if self._where is not None:
            stopped = (self._turns == 0) & (np.linalg.norm(where - self._where, axis=1) < self.move / 2)
            count, sides = int(stopped.sum()), np.array([RIGHT, LEFT])
            self._turns[stopped] = 1 + self.rng.integers(1, self.most + 1, count)
            self._side[stopped] = self.rng.choice(sides, count)
        self._turns, self._where = np.maximum(self._turns - 1, 0), where
        return np.where(self._turns > 0, self._side, FORWARD)


class Retrace:
    """Takes back, last first, what moved it, whoever did that, and then makes for where it began; it knows its pose.

    The scripted answer to Revisit-v1, whose first steps are not the agent's own.
    """

    def __init__(self, *, turn: float, move: float) -> None:
        """Make a policy for an env whose ``basic`` steps turn by ``turn`` radians and walk ``move`` metres."""
        self.turn, self.move = turn, move
        self.reset(0)

    def reset(self, num_envs: int) -> None:
        """Begin where it is then."""
        self._start: npt.NDArray[Any] | None = None
        self._where: npt.NDArray[Any] | None = None
        self._still = np.zeros(num_envs, int)
        self._back: list[list[int]] = [[] for _ in range(num_envs)]

    def act(self, obs: Any, info: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Return one action per env."""
        where = np.array(info["c2w"])
        if self._start is None or self._where is None:
            self._start = self._where = where
        for row, (before, after) in enumerate(zip(self._where, where, strict=True)):
            self._note(row, np.linalg.inv(before) @ after)
        self._where = where
        return np.array([self._next(row, where[row]) for row in range(len(where))])

    def _note(self, row: int, moved: npt.NDArray[Any]) -> None:
        """Keep what would take a motion back, unless that motion took another one back."""
        yaw, forward, stack = math.atan2(moved[0, 2], moved[2, 2]), moved[2, 3], self._back[row]
        if abs(yaw) > self.turn / 2:
            done = RIGHT if yaw > 0 else LEFT
        elif abs(forward) > self.move / 2:
            done = FORWARD if forward > 0 else BACK
        else:
            self._still[row] += 1
            if stack and self._still[row] > PATIENCE:
                stack.pop()  # a wall is in the way
            return
        self._still[row] = 0
        if stack and stack[-1] == done:
            stack.pop()
        else:
            stack.append(UNDO[done])

    def _next(self, row: int, c2w: npt.NDArray[Any]) -> int:
        if self._back[row]:
            return self._back[row][-1]
        assert self._start is not None
        goal = np.linalg.inv(c2w) @ self._start[row]
        near = math.hypot(goal[0, 3], goal[2, 3]) < self.move / 2
        bearing = math.atan2(goal[0, 2], goal[2, 2]) if near else math.atan2(goal[0, 3], goal[2, 3])
        if near or abs(bearing) > self.turn / 2:
            return RIGHT if bearing > 0 else LEFT
        return FORWARD
