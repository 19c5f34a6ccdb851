"""What clients ask of a session server, and what it answers; ``dynamics.wire`` makes bytes of it.

A connection begins with ``Hello``. It may hold several sessions, each of which is an environment. What is asked of one
session is done in the order in which it was asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from .wire import Bounds, Message

PROTOCOL = 1
"""Version of the messages; a server answers clients of its own alone."""

Name = Annotated[str, Bounds(1, 64)]
Seed = Annotated[int, Bounds(0, 2**63 - 1)]
Count = Annotated[int, Bounds(0, 2**31)]
Text = Annotated[str, Bounds(0, 4000)]


@dataclass(frozen=True, kw_only=True)
class Hello(Message):
    """The first message of a connection; ``Welcome`` answers it."""

    protocol: int
    """``PROTOCOL``."""
    token: Annotated[str, Bounds(0, 256)] = ""
    """What the server was started with, where it asks for one."""


@dataclass(frozen=True, kw_only=True)
class Create(Message):
    """Make an environment; ``Created`` answers it, and ``Reset`` begins an episode."""

    env: Name
    """Its id, such as ``worldenv/Revisit-v0``."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of ``gym.make`` that name nothing to import: world, memory, action_mode, chunk_latents, ..."""
    num_envs: Annotated[int, Bounds(1, 1024)] | None = None
    """Rows, which advance together; None is one, and no axis of rows in what is said of it."""
    batch: bool = True
    """Whether it may share model calls with other sessions; False is equal to a local environment to the last bit."""
    autoreset: Literal["SameStep", "NextStep", "Disabled"] = "Disabled"
    """What becomes of episodes that end."""
    pictures: Literal["none", "raw", "jpeg", "png"] = "none"
    """Whether ``Frames`` come, and how."""
    display: bool = False
    """Whether pictures also come as the world's display decoder shows them, where it has one."""
    obs: bool = True
    """Whether observations come."""
    keep: Annotated[int, Bounds(0, 4096)] = 0
    """Chunks that ``Back`` can return to; within the server's limit of memory."""
    linger: Annotated[float, Bounds(0, 600)] = 0.0
    """Seconds for which it outlives its connection, for ``Attach``; at most the server's limit."""


@dataclass(frozen=True, kw_only=True)
class Attach(Message):
    """Go on with a session whose connection was lost; ``Attached`` answers it."""

    session: Name
    key: Name
    """From ``Created``."""


@dataclass(frozen=True, kw_only=True)
class Reset(Message):
    """Begin new episodes; ``Outcome`` answers it."""

    session: Name
    seed: Seed | None = None
    """Row i gets seed + i; None goes on with each row's stream of episodes."""
    seeds: list[Seed | None] | None = None
    """Or one for each row."""
    options: dict[str, Any] = field(default_factory=dict)
    """As of the environment's ``reset``: start, image, prompt, goal, reset_mask, ..."""
    picture: bytes | None = None
    """A PNG or JPEG file as start view, in place of ``options.image``; scaled and cropped to the world's size."""
    explain: bool = False


@dataclass(frozen=True, kw_only=True)
class Step(Message):
    """Advance by a chunk; ``Frames`` of each latent as they are decoded, then ``Outcome``, answer it."""

    session: Name
    action: Any
    """An element of the action space, one per row where the session has several; arrays, numbers or lists."""
    explain: bool = False
    """Whether ``Outcome`` tells what was remembered."""


@dataclass(frozen=True, kw_only=True)
class Stream(Message):
    """Let a session advance by itself, a chunk in a chunk's time; ``Done`` answers it.

    The newest action counts when a chunk begins; what then comes carries the id of the message it came with.
    """

    session: Name
    action: Any
    explain: bool = False


@dataclass(frozen=True, kw_only=True)
class Act(Message):
    """The newest action of a session that streams; nothing answers it but what it does."""

    session: Name
    action: Any


@dataclass(frozen=True, kw_only=True)
class Pause(Message):
    """End a stream; ``Done`` answers it, after the last chunk."""

    session: Name


@dataclass(frozen=True, kw_only=True)
class Back(Message):
    """Go back to right after a chunk of this episode; ``Outcome`` answers it."""

    session: Name
    chunk: Count
    """0 is just reset."""
    explain: bool = False


@dataclass(frozen=True, kw_only=True)
class Fork(Message):
    """Let a new session go on from here; ``Created`` answers it."""

    session: Name
    chunk: Count | None = None
    """Or from right after this chunk."""
    reseed: Seed | None = None
    """A new seed of its random numbers, so that it goes on differently."""
    memory: Any = None
    """Another memory: a policy's name, or a table of its settings."""


@dataclass(frozen=True, kw_only=True)
class Remember(Message):
    """Go on with another memory, or settings of it; ``Done`` answers it."""

    session: Name
    memory: Any
    """A policy's name, or a table of its settings."""


@dataclass(frozen=True, kw_only=True)
class Prompt(Message):
    """Describe a world with text anew; ``Done`` answers it."""

    session: Name
    prompt: Text
    rows: list[Count] | None = None


@dataclass(frozen=True, kw_only=True)
class Save(Message):
    """Ask for a session's state as a file; ``Saved`` answers it."""

    session: Name
    rows: list[Count] | None = None


@dataclass(frozen=True, kw_only=True)
class Load(Message):
    """Go on from a saved state, here or on another server; ``Outcome`` answers it."""

    session: Name
    data: bytes
    rows: list[Count] | None = None


@dataclass(frozen=True, kw_only=True)
class Close(Message):
    """End a session; ``Done`` answers it."""

    session: Name


@dataclass(frozen=True, kw_only=True)
class Ping(Message):
    """Ask for ``Done``, of the server alone."""


@dataclass(frozen=True, kw_only=True)
class Welcome(Message):
    """The answer to ``Hello``."""

    protocol: int
    version: str
    """Of the package."""
    environments: list[str]
    """Ids that ``Create`` takes."""
    worlds: list[str]
    """Worlds that its option ``world`` takes."""
    limits: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Created(Message):
    """A session: what it looks like, as plain values."""

    session: str
    key: str
    """What ``Attach`` takes."""
    about: dict[str, Any]
    """action_space, observation_space (of one row), num_envs, metadata, keyboard, action_names, spec (width, height,
    fps, chunk_latents, frames_per_latent, steps, takes, gives), starts (how many), can (branch, text, resume, depth,
    memory, floor), batched."""


@dataclass(frozen=True, kw_only=True)
class Attached(Message):
    """A session again."""

    session: str
    answered: int
    """Number of the last message that was answered; its answer comes again if it is asked for again."""


@dataclass(frozen=True, kw_only=True)
class Frames(Message):
    """Pictures of one latent."""

    session: str
    chunk: int
    """Of the episode, from 1; 0 holds the start view."""
    latent: int
    """Of the chunk, from 0."""
    last: bool
    """Whether ``Outcome`` is next."""
    pictures: Any
    """Raw: an array (T, H, W, 3) uint8, or (B, T, H, W, 3) of several rows; else a list of T JPEG or PNG files."""
    displayed: list[bytes] | None = None
    """The same, larger, for people to look at: JPEG files, where ``Create`` asked for the display decoder."""


@dataclass(frozen=True, kw_only=True)
class Outcome(Message):
    """The present moment of a session: after a chunk, a reset, or a return."""

    session: str
    chunk: int
    """Chunks since the episode began."""
    obs: Any = None
    """With an axis of rows where ``Create`` asked for a number of them; so have the others."""
    reward: Any = None
    """Of a step, as ``terminated`` and ``truncated``."""
    terminated: Any = None
    truncated: Any = None
    info: dict[str, Any] = field(default_factory=dict)
    signals: dict[str, Any] = field(default_factory=dict)
    """What the world gave at the end of each latent, (F, ...); of one row."""
    n_frames: int = 0
    explained: dict[str, Any] | None = None
    """memory (see ``report_memory``), known (h, w), depth (H, W), floor: cells (n, n), corner, cell; what there is."""
    kept: list[int] = field(default_factory=list)
    """Chunks of this episode that ``Back`` can return to."""
    compute_ms: float = 0.0
    """What the world took."""
    waited_ms: float = 0.0
    """What went by before that."""


@dataclass(frozen=True, kw_only=True)
class Saved(Message):
    """A session's state, a safetensors file."""

    session: str
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Done(Message):
    """It is done."""


@dataclass(frozen=True, kw_only=True)
class Ended(Message):
    """A session that the server has ended; ``id`` is 0."""

    session: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Failed(Message):
    """What was asked cannot be; nothing has changed. ``id`` is 0 where it could not be read."""

    kind: Literal["message", "value", "session", "full", "rate", "token", "version", "internal"]
    """Which field of a message, or value of an argument, is wrong; or what else stands against it."""
    field: str
    """The field that is wrong, or ''."""
    why: str
    """What was wrong, the value, and what to do."""


ASKS: dict[str, type[Message]] = {
    kind.__name__.lower(): kind
    for kind in (
        Hello,
        Create,
        Attach,
        Reset,
        Step,
        Stream,
        Act,
        Pause,
        Back,
        Fork,
        Remember,
        Prompt,
        Save,
        Load,
        Close,
        Ping,
    )
}
"""What a client may send."""
ANSWERS: dict[str, type[Message]] = {
    kind.__name__.lower(): kind for kind in (Welcome, Created, Attached, Frames, Outcome, Saved, Done, Ended, Failed)
}
"""What a server may send."""
