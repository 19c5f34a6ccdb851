"""A session: an environment, and what is asked of it, one thing after another, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

import torch

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
from ...envs.vector_env import WorldVectorEnv
from .kept import Kept
from .moving import move, read_state, reseed_row, write_state
from .opening import Opener, about, check_memory, check_prompt, core_of
from .shown import Screening, reset_options
from .telling import observed, tell, with_rows

P = ParamSpec("P")
R = TypeVar("R")
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
        self.begun = self.closed = False
        self.busy = threading.Lock()
        """Held while something is done."""

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
        options = reset_options(ask, core_of(self.env).spec)
        seed = ask.seed if ask.seeds is None else ask.seeds
        obs, info = self._compute(self.env.reset, seed=seed, options=options or None)
        self._begin(ask, send)
        return self._outcome(ask, obs, info)

    def step(self, ask: Step, send: Send) -> Outcome:
        """Advance by a chunk; an episode that has ended may go on where nothing resets it."""
        action = with_rows(ask.action) if self.single else ask.action
        if self.single:
            self.env.go_on()
        screening = self._screening(ask, send)
        with screening:
            obs, reward, terminated, truncated, info = self._compute(self.env.step, action)
        screening.finish()
        self._keep()
        came = (reward, terminated, truncated)
        if self.single:
            came = (float(reward[0]), bool(terminated[0]), bool(truncated[0]))
        return replace(self._outcome(ask, obs, info), reward=came[0], terminated=came[1], truncated=came[2])

    def back(self, ask: Back, send: Send) -> Outcome:
        """Go back to right after a chunk."""
        self._check_begun("back", single=True)
        state = self.kept.state(ask.chunk)
        self._compute(move, state, self.env)
        self.kept.go_back(ask.chunk)
        self._screening(ask, send).view()
        return self._present(ask)

    def fork(self, ask: Fork, name: str, key: str) -> Session:
        """Return a session that goes on from here, or from an earlier chunk, maybe with another memory."""
        self._check_begun("fork", single=True)
        chunk = self.chunk if ask.chunk is None else ask.chunk
        with self.busy:
            state = self.kept.state(chunk) if ask.chunk is not None else self._compute(self.env.clone_state, [0])
        asked = self.asked if ask.memory is None else self._with_memory(ask.memory)
        other = Session(name, key, asked, self.opener, max_kept=self.kept.max_bytes)
        other._take(state, reseed=ask.reseed)
        other.kept = self.kept.copy(chunk)
        return other

    def remember(self, ask: Remember, send: Send) -> Done:
        """Go on with another memory."""
        self._check_begun("remember", single=True)
        asked = self._with_memory(ask.memory)
        state = self._compute(self.env.clone_state, [0])
        other = Session(self.name, self.key, asked, self.opener, max_kept=0)
        other._take(state)
        self.env, other.env, self.asked = other.env, self.env, asked
        other.close()
        return Done(id=ask.id)

    def prompt(self, ask: Prompt, send: Send) -> Done:
        """Describe the world anew."""
        check_prompt(ask.prompt)
        self._check_begun("prompt")
        self._compute(self.env.set_prompt, ask.prompt, ask.rows)
        return Done(id=ask.id)

    def save(self, ask: Save, send: Send) -> Saved:
        """Return the state as a file."""
        self._check_begun("save")
        return Saved(id=ask.id, session=self.name, data=self._compute(write_state, self.env, ask.rows))

    def load(self, ask: Load, send: Send) -> Outcome:
        """Go on from a saved state."""
        self._compute(read_state, self.env, ask.data, ask.rows)
        self._begin(ask, send)
        return self._present(ask)

    def show_again(self, ask: Message, send: Send, *, chunk: bool) -> None:
        """Send again what was shown last: a chunk, or its newest frame alone."""
        with self.busy:
            screening = self._screening(ask, send)
            (screening.again if chunk else screening.view)()

    def close(self) -> None:
        """Give back what it holds."""
        if not self.closed:
            self.closed = True
            self.env.close()
            self.kept.forget()
            self.opener.tidy()

    @property
    def chunk(self) -> int:
        """Chunks since the episode (of the first row) began."""
        return int(core_of(self.env).elapsed[0])

    def _compute(self, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do something with the environment: where worlds are computed, if its engine is its own; pools go there
        themselves, and simulators wait for nobody.
        """
        own = isinstance(core_of(self.env).dynamics, Engine)
        return self.opener.compute(do, *args, **kwargs) if own else do(*args, **kwargs)

    def _take(self, state: dict[str, torch.Tensor], *, reseed: int | None = None) -> None:
        """Go on from a state; where that cannot be, this session ends."""
        try:
            self._compute(move, state, self.env)
            if reseed is not None:
                self._compute(reseed_row, self.env, reseed)
        except BaseException:
            self.close()
            raise
        self.begun = True

    def _begin(self, ask: Message, send: Send) -> None:
        """Take note that another episode goes on from here, and show where."""
        self.begun = True
        self.kept.forget()
        self._keep()
        self._screening(ask, send).view()

    def _with_memory(self, memory: Any) -> Create:
        check_memory(memory)
        return replace(self.asked, options={**self.asked.options, "memory": memory})

    def _check_begun(self, what: str, *, single: bool = False) -> None:
        if not self.begun:
            raise ValueError(f"{what} before the first reset; send reset")
        if single and not self.single:
            raise ValueError(f"{what} is for sessions of one environment; create without num_envs")

    def _keep(self) -> None:
        if self.asked.keep and self.single and isinstance(core_of(self.env).dynamics, Branchable):
            self.kept.keep(self.chunk, self._compute(self.env.clone_state, [0]))

    def _screening(self, ask: Message, send: Send) -> Screening:
        asked = self.asked
        return Screening(self.env, ask.id, self.name, asked.pictures, send, single=self.single, display=asked.display)

    def _present(self, ask: Any) -> Outcome:
        """Return the present moment, where nothing happened."""
        return self._outcome(ask, self._compute(observed, self.env), {})

    def _outcome(self, ask: Any, obs: Any, info: dict[str, Any]) -> Outcome:
        told = tell(self.env, obs, info, single=self.single, explain=getattr(ask, "explain", False))
        if not self.asked.obs:
            told["obs"] = None
        return Outcome(id=ask.id, session=self.name, chunk=self.chunk, kept=sorted(self.kept.moments), **told)
