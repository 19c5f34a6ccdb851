"""``worldenv/Remote-v0``: an environment that a session server steps, on another machine or in another process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from ..base.documents import read_bytes
from ..base.files import replacing
from ..base.said import said
from ..dynamics.messages import Close, Create, Done, Frames, Load, Outcome, Prompt, Reset, Save, Saved, Step
from .described import read_space
from .link import Link
from .options import read_array, read_options, read_seeds
from .vector_env import RENDER_MODES, autoreset


class Remote:
    """A session, and what both kinds of environment ask of it.

    Args:
        url: ``ws://host:port`` of the server.
        env: an id that it serves, such as ``worldenv/Revisit-v0``.
        num_envs: rows, None for one without an axis.
        batch: whether its model calls may be shared with other clients; False is what a local environment gives.
        token: what the server asks for, or ''.
        linger: seconds for which the server keeps the session when the connection is lost; see ``Link``.
        autoreset_mode: what becomes of episodes that end.
        render_mode: ``rgb_array`` or None.
        options: arguments of that environment: world, memory, action_mode, ...
    """

    def __init__(
        self,
        url: str,
        env: str,
        *,
        num_envs: int | None,
        batch: bool,
        token: str,
        linger: float,
        autoreset_mode: AutoresetMode,
        render_mode: str | None,
        options: Mapping[str, Any],
    ) -> None:
        if not isinstance(env, str) or not env:
            raise ValueError(f"env={said(env)}; pass an id that the server has, such as worldenv/Revisit-v0")
        if not (render_mode is None or (isinstance(render_mode, str) and render_mode == RENDER_MODES[0])):
            raise ValueError(f"render_mode={said(render_mode)}; a remote environment has 'rgb_array', or None")
        self.link = Link(url, token=token, linger=linger)
        self.single, self.newest = num_envs is None, np.zeros(0, np.uint8)
        created = self.link.create(
            Create(
                id=0,
                env=env,
                options=dict(options),
                num_envs=num_envs,
                batch=batch,
                autoreset=autoreset_mode.value,
                pictures="none" if render_mode is None else "raw",
                linger=linger,
            )
        )
        self.session, self.about = created.session, created.about
        try:
            self.action_space, self.observation_space = (
                read_space(self.about[name]) for name in ("action_space", "observation_space")
            )
        except BaseException:
            self.link.close()
            raise
        fps = self.about["metadata"]["render_fps"]
        self.metadata: dict[str, Any] = {"render_modes": [RENDER_MODES[0]], "render_fps": fps}

    def reset(self, seed: int | Sequence[int | None] | None, options: Mapping[str, Any] | None) -> Outcome:
        """Begin new episodes."""
        rows = read_seeds(seed, self.about["num_envs"])
        one = rows[0] if isinstance(seed, int | np.integer) else None
        each = None if seed is None or one is not None else rows
        ask = Reset(id=0, session=self.session, seed=one, seeds=each, options=read_options(options))
        return self.link.ask(ask, Outcome, self._see)

    def step(self, action: Any) -> Outcome:
        """Advance by a chunk."""
        return self.link.ask(Step(id=0, session=self.session, action=_sent(action)), Outcome, self._see)

    def set_prompt(self, prompt: str, rows: Sequence[int] | None = None) -> None:
        """Describe the world anew from the next step on (worlds with text)."""
        chosen = None if rows is None else list(rows)
        self.link.ask(Prompt(id=0, session=self.session, prompt=prompt, rows=chosen), Done)

    def save_state(self, path: str | Path, rows: Sequence[int] | None = None) -> None:
        """Write episodes to a file here, to go on with them on any server of the world, or locally."""
        ask = Save(id=0, session=self.session, rows=None if rows is None else list(rows))
        data = self.link.ask(ask, Saved).data
        with replacing(Path(path)) as partial:
            partial.write_bytes(data)

    def load_state(self, path: str | Path, rows: Sequence[int] | None = None) -> None:
        """Go on with saved episodes; a ValueError if they are of another world or environment."""
        data, chosen = read_bytes(Path(path)), None if rows is None else list(rows)
        self.link.ask(Load(id=0, session=self.session, data=data, rows=chosen), Outcome, self._see)

    def keyboard(self) -> dict[tuple[int, ...], Any]:
        """Return actions by the key codes held."""
        return {tuple(keys): action for keys, action in self.about["keyboard"]}

    def close(self) -> None:
        """End the session and cut the connection."""
        try:
            self.link.ask(Close(id=0, session=self.session), Done)
        except (ConnectionError, ValueError):
            pass  # it has ended
        finally:
            self.link.close()

    def _see(self, frames: Frames) -> None:
        last: npt.NDArray[np.uint8] = frames.pictures[-1] if self.single else frames.pictures[:, -1]
        self.newest = last


class RemoteEnv(gym.Env[Any, Any]):
    """One episode on a server; see ``Remote``."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012

    def __init__(
        self,
        url: str = "",
        env: str = "",
        *,
        batch: bool = True,
        token: str = "",
        linger: float = 10.0,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        self.remote = Remote(
            url,
            env,
            num_envs=None,
            batch=batch,
            token=token,
            linger=linger,
            autoreset_mode=AutoresetMode.DISABLED,
            render_mode=render_mode,
            options=options,
        )
        self.render_mode, self.metadata = render_mode, self.remote.metadata
        self.action_space, self.observation_space = self.remote.action_space, self.remote.observation_space
        self.save_state, self.load_state = self.remote.save_state, self.remote.load_state
        self.set_prompt, self._closed = self.remote.set_prompt, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a new episode; options as of the environment that is served."""
        self._check_open("reset")
        outcome = self.remote.reset(seed, options)
        super().reset(seed=seed)
        return _owned(outcome.obs), _owned(outcome.info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance by one chunk; an episode that has ended may go on."""
        self._check_open("step")
        got = self.remote.step(action)
        return _owned(got.obs), got.reward, got.terminated, got.truncated, _owned(got.info)

    def render(self) -> npt.NDArray[np.uint8] | None:
        """Return the newest frame, (H, W, 3) uint8."""
        return self.remote.newest.copy() if self.render_mode else None

    def get_keys_to_action(self) -> dict[tuple[int, ...], Any]:
        """Return the keyboard mapping for ``gymnasium.utils.play``."""
        keys = self.remote.keyboard()
        if not keys:
            mode = self.remote.about["action_mode"]
            raise ValueError(f"no keyboard mapping for action_mode={mode!r}; for a camera use action_mode='basic5'")
        return keys

    def close(self) -> None:
        """End the session; afterwards nothing can be stepped."""
        if not self._closed:
            self._closed = True
            self.remote.close()

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise gym.error.ClosedEnvironmentError(f"{what}() of a closed environment; make another one")


class RemoteVectorEnv(gym.vector.VectorEnv[Any, Any, Any]):
    """B episodes on a server, one message per step; see ``Remote``."""

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": 2,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }
    output = "numpy"

    def __init__(
        self,
        num_envs: int = 1,
        *,
        url: str = "",
        env: str = "",
        batch: bool = True,
        token: str = "",
        linger: float = 10.0,
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        self.autoreset_mode = autoreset(autoreset_mode)
        self.remote = Remote(
            url,
            env,
            num_envs=num_envs,
            batch=batch,
            token=token,
            linger=linger,
            autoreset_mode=self.autoreset_mode,
            render_mode=render_mode,
            options=options,
        )
        self.num_envs, self.render_mode = num_envs, render_mode
        self.metadata = self.remote.metadata | {"autoreset_mode": self.autoreset_mode}
        self.single_action_space, self.single_observation_space = (
            self.remote.action_space,
            self.remote.observation_space,
        )
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.save_state, self.load_state = self.remote.save_state, self.remote.load_state
        self.set_prompt = self.remote.set_prompt

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes; options as of the environment that is served."""
        self._check_open("reset")
        outcome = self.remote.reset(seed, options)
        return _owned(outcome.obs), self._info(outcome.info)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Advance every env by one chunk; rows that ended are reset as ``autoreset_mode`` says."""
        self._check_open("step")
        got = self.remote.step(actions)
        reward, terminated, truncated = (part.copy() for part in (got.reward, got.terminated, got.truncated))
        return _owned(got.obs), reward, terminated, truncated, self._info(got.info)

    def render(self) -> tuple[npt.NDArray[np.uint8], ...] | None:
        """Return the newest frame of each env, (H, W, 3) uint8."""
        return tuple(self.remote.newest.copy()) if self.render_mode else None

    def close_extras(self, **kwargs: Any) -> None:
        """End the session."""
        self.remote.close()

    def _info(self, told: dict[str, Any]) -> dict[str, Any]:
        """Return info as a local vector environment gives it: what is one per row as arrays of objects."""
        info: dict[str, Any] = _owned(told)
        for name, value in info.items():
            if isinstance(value, list):
                info[name] = np.empty(self.num_envs, object)
                info[name][:] = value
        return info

    def _check_open(self, what: str) -> None:
        if self.closed:
            raise gym.error.ClosedEnvironmentError(f"{what}() of a closed environment; make another one")


def _sent(action: Any) -> Any:
    """Return an action as arrays, which keep their types."""
    if isinstance(action, Mapping):
        return {name: _sent(part) for name, part in action.items()}
    return read_array(action, "action", numbers=True)


def _owned(value: Any) -> Any:
    """Return arrays that may be written to: those of messages are views of what came."""
    if isinstance(value, Mapping):
        return {name: _owned(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_owned(part) for part in value]
    return value.copy() if isinstance(value, np.ndarray) else value
