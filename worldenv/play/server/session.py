"""A session: an environment, and what is asked of it, one thing after another, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from ...base.rng import derive_seed
from ...dynamics.messages import (
    Back,
    Create,
    Created,
    Done,
    Fork,
    Load,
    Outcome,
    Prompt,
    Remember,
    Reset,
    Save,
    Saved,
    Step,
)
from ...dynamics.protocol import Branchable
from ...dynamics.wire import Message
from ...engine.engine import Engine
from ...envs.env import first_row, plain_info
from ...envs.vector_env import WorldVectorEnv
from .kept import Kept
from .moving import move
from .opening import Opener, about, check_memory, check_prompt, core_of
from .shown import Screening, explained, read_picture

Send = Callable[[Message], None]


class Session:
    """Answers what a client asks of one environment.

    Args:
        name: how clients call it.
        key: what proves that a client may go on with it.
        asked: what it was made of.
        opener: makes environments.
        max_kept: bytes for moments to go back to.
    """

    def __init__(self, name: str, key: str, asked: Create, opener: Opener, *, max_kept: float) -> None:
        self.name, self.key, self.asked, self.opener = name, key, asked, opener
        self.env: WorldVectorEnv = opener.open(asked)
        self.kept = Kept(asked.keep, max_kept)
        self.begun = False
        self.busy = threading.Lock()
        """Held while something is done."""
        self.closed = False

    @property
    def single(self) -> bool:
        """Whether what is said of it has no axis of rows."""
        return self.asked.num_envs is None

    def created(self, number: int) -> Created:
        """Introduce it."""
        return Created(id=number, session=self.name, key=self.key, about=about(self.env))

    def answer(self, ask: Message, send: Send, since: float) -> Message:
        """Do what is asked; pictures are sent at once, the answer is returned.

        Args:
            ask: what.
            send: takes ``Frames``.
            since: when it was asked, on the clock of ``time.monotonic``.

        Raises:
            ValueError: if it cannot be done; then nothing has changed.
        """
        do: dict[type[Message], Callable[..., Message]] = {
            Reset: self.reset,
            Step: self.step,
            Back: self.back,
            Remember: self.remember,
            Prompt: self.prompt,
            Save: self.save,
            Load: self.load,
        }
        with self.busy:
            began = time.monotonic()
            answer = do[type(ask)](ask, send)
        if isinstance(answer, Outcome):
            took, waited = 1000 * (time.monotonic() - began), 1000 * (began - since)
            answer = replace(answer, compute_ms=round(took, 3), waited_ms=round(waited, 3))
        return answer

    def reset(self, ask: Reset, send: Send) -> Outcome:
        """Begin new episodes."""
        options = dict(ask.options)
        check_prompt(options.get("prompt"))
        if ask.picture is not None:
            if "image" in options:
                raise ValueError("picture and options.image are both start views; send one of them")
            options["image"] = read_picture(ask.picture, core_of(self.env).spec)
        if "reset_mask" in options:
            options["reset_mask"] = np.asarray(options["reset_mask"])
        seed = ask.seed if ask.seeds is None else ask.seeds
        with self.computing:
            obs, info = self.env.reset(seed=seed, options=options or None)
        self.begun = True
        self.kept.forget()
        self._keep()
        self._show(ask, send)
        return self._outcome(ask, obs, info)

    def step(self, ask: Step, send: Send) -> Outcome:
        """Advance by a chunk; an episode that has ended may go on where nothing resets it."""
        action = self._batched(ask.action)
        if self.single:
            self.env.go_on()
        screening = self._screening(ask, send)
        with screening, self.computing:
            obs, reward, terminated, truncated, info = self.env.step(action)
        screening.finish()
        self._keep()
        outcome = self._outcome(ask, obs, info)
        signals = (reward, terminated, truncated)
        if self.single:
            signals = (float(reward[0]), bool(terminated[0]), bool(truncated[0]))
        return replace(outcome, reward=signals[0], terminated=signals[1], truncated=signals[2])

    def back(self, ask: Back, send: Send) -> Outcome:
        """Go back to right after a chunk."""
        self._check_single("back")
        state = self.kept.state(ask.chunk)
        with self.computing:
            move(state, self.env)
        self.kept.go_back(ask.chunk)
        self._show(ask, send)
        return self._present(ask)

    def fork(self, ask: Fork, name: str, key: str) -> Session:
        """Return a session that goes on from here, or from an earlier chunk, maybe with another memory."""
        self._check_single("fork")
        chunk = self.chunk if ask.chunk is None else ask.chunk
        with self.busy, self.computing:
            state = self.env.clone_state([0]) if ask.chunk is None else self.kept.state(chunk)
        asked = self.asked if ask.memory is None else self._with_memory(ask.memory)
        other = Session(name, key, asked, self.opener, max_kept=self.kept.max_bytes)
        try:
            other._take(state, reseed=ask.reseed)
        except ValueError:
            other.close()
            raise
        other.kept = self.kept.copy(chunk)
        return other

    def remember(self, ask: Remember, send: Send) -> Done:
        """Go on with another memory."""
        self._check_single("remember")
        asked = self._with_memory(ask.memory)
        with self.computing:
            state = self.env.clone_state([0])
        other = Session(self.name, self.key, asked, self.opener, max_kept=0)
        try:
            other._take(state)
        except ValueError:
            other.close()
            raise
        before, self.env, self.asked = self.env, other.env, asked
        before.close()
        return Done(id=ask.id)

    def prompt(self, ask: Prompt, send: Send) -> Done:
        """Describe the world anew."""
        check_prompt(ask.prompt)
        self._check_begun("prompt")
        with self.computing:
            self.env.set_prompt(ask.prompt, ask.rows)
        return Done(id=ask.id)

    def save(self, ask: Save, send: Send) -> Saved:
        """Return the state as a file."""
        self._check_begun("save")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "state.safetensors"
            with self.computing:
                self.env.save_state(path, ask.rows)
            return Saved(id=ask.id, session=self.name, data=path.read_bytes())

    def load(self, ask: Load, send: Send) -> Outcome:
        """Go on from a saved state."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "state.safetensors"
            path.write_bytes(ask.data)
            try:
                with self.computing:
                    self.env.load_state(path, ask.rows)
            except ValueError as error:
                raise ValueError(str(error).replace(f"{path}: ", "")) from None
        self.begun = True
        self.kept.forget()
        self._keep()
        self._show(ask, send)
        return self._present(ask)

    def close(self) -> None:
        """Give back what it holds."""
        if not self.closed:
            self.closed = True
            self.env.close()
            self.kept.forget()

    @property
    def computing(self) -> AbstractContextManager[Any]:
        """What is held while the environment computes: engines of one's own take turns, pools do so themselves."""
        compute: threading.Lock = self.opener.compute
        return compute if isinstance(core_of(self.env).dynamics, Engine) else nullcontext()

    @property
    def chunk(self) -> int:
        """Chunks since the episode (of the first row) began."""
        return int(core_of(self.env).elapsed[0])

    def _take(self, state: dict[str, torch.Tensor], *, reseed: int | None = None) -> None:
        with self.computing:
            move(state, self.env)
            if reseed is not None:
                self._reseed(reseed)
        self.begun = True

    def _reseed(self, seed: int) -> None:
        """Give the one row new random numbers, by way of its state; see ``Engine.fork``."""
        state = self.env.clone_state([0])
        if "engine.noise" in state:
            raise ValueError("reseed: this world draws its noise ahead; fork without it")
        generator = torch.Generator().manual_seed(derive_seed(seed, "noise"))
        state["engine.generators"], state["engine.seeds"] = generator.get_state()[None], torch.tensor([seed])
        state["row.seed"] = torch.tensor([seed])
        self.env.restore_state(state, [0])

    def _with_memory(self, memory: Any) -> Create:
        check_memory(memory)
        return replace(self.asked, options={**self.asked.options, "memory": memory})

    def _check_single(self, what: str) -> None:
        self._check_begun(what)
        if not self.single:
            raise ValueError(f"{what} is for sessions of one environment; create without num_envs")

    def _check_begun(self, what: str) -> None:
        if not self.begun:
            raise ValueError(f"{what} before the first reset; send reset")

    def _keep(self) -> None:
        if self.asked.keep and self.single and isinstance(core_of(self.env).dynamics, Branchable):
            with self.computing:
                self.kept.keep(self.chunk, self.env.clone_state([0]))

    def _batched(self, action: Any) -> Any:
        """Give an action an axis of rows."""
        if not self.single:
            return action
        if isinstance(action, dict):
            return {name: np.asarray(part)[None] for name, part in action.items()}
        return np.asarray(action)[None]

    def _show(self, ask: Message, send: Send) -> None:
        """Send the newest frame alone."""
        self._screening(ask, send).view()

    def _screening(self, ask: Message, send: Send) -> Screening:
        asked = self.asked
        return Screening(self.env, ask.id, self.name, asked.pictures, send, single=self.single, display=asked.display)

    def _present(self, ask: Any) -> Outcome:
        """Return the present moment, where nothing happened."""
        with self.computing:
            obs = core_of(self.env).observe()
        return self._outcome(ask, {k: v.numpy() for k, v in obs.items()} if isinstance(obs, dict) else obs.numpy(), {})

    def _outcome(self, ask: Any, obs: Any, info: dict[str, Any]) -> Outcome:
        core = core_of(self.env)
        with self.computing:
            told = core.dynamics.present if core.chunk is None else core.chunk.signals
            signals = {
                name: (told[name][0] if core.chunk is not None else told[name][0][None]).cpu().numpy()
                for name, signal in core.spec.gives.items()
                if signal.rate == "latent" and name in told and self.single
            }
            looked = explained(self.env) if getattr(ask, "explain", False) and self.single else None
        n_frames = core.spec.chunk_frames if core.chunk is not None else 1
        if core.chunk is not None and core.chunk.n_frames is not None:
            n_frames = int(core.chunk.n_frames[0])
        return Outcome(
            id=ask.id,
            session=self.name,
            chunk=self.chunk,
            obs=(first_row(obs) if self.single else obs) if self.asked.obs else None,
            info=plain_info(info) if self.single else info,
            signals=signals,
            n_frames=n_frames,
            explained=looked,
            kept=sorted(self.kept.moments),
        )
