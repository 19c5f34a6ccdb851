"""The body protocol: what an agent acts with owns its action modes and turns an action into commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from gymnasium import spaces

from ..dynamics.signals import Signal, Signals, Track
from ..dynamics.spec import WorldSpec


@runtime_checkable
class Named(Protocol):
    """A body whose actions are numbers with names, for errors."""

    def names(self, mode: str) -> tuple[str, ...]:
        """Return what each number of a latent's action is called."""
        ...


@runtime_checkable
class Body(Protocol):
    """Turns actions into the signals that command a world."""

    @property
    def takes(self) -> Mapping[str, Signal]:
        """Signals that it commands; a world that takes these has this body."""
        ...

    modes: ClassVar[tuple[str, ...]]
    """Ways of saying what to do in a chunk, the default first."""

    def space(self, mode: str, num_latents: int) -> spaces.Space[Any]:
        """Return the action space of one env: one action for a chunk of so many latents."""
        ...

    def command(
        self,
        action: Any,  # (B, ...) of the space, checked: a tensor, or a dictionary of them for a Dict
        mode: str,
        present: Signals,  # each (B, ...)
        spec: WorldSpec,
    ) -> Track:
        """Return the commands of a chunk, each (B, F, ...)."""
        ...

    def keyboard(self, mode: str) -> Mapping[tuple[int, ...], Any]:
        """Return actions by the key codes held, for ``gymnasium.utils.play``; empty if there is no sensible mapping."""
        ...
