"""What clients ask of a session server, and what it answers; ``dynamics.wire`` makes bytes of it.

A connection begins with ``Hello``. It may hold several sessions, each of which is an environment. What is asked of one
session is done in the order in which it was asked. ``-> Name`` is what answers a message where it can be done; where it
cannot, ``Failed`` does.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from .wire import Bounds, Message

PROTOCOL = 1
"""Version of the messages; a server answers clients of its own alone."""

Name = Annotated[str, Bounds(1, 64)]
Seed = Annotated[int, Bounds(0, 2**63 - 1)]
Count = Annotated[int, Bounds(0, 2**31)]
Table = dict[str, Any]


class Hello(Message):
    """The first message of a connection. -> Welcome."""

    protocol: int  # PROTOCOL
    token: Annotated[str, Bounds(0, 256)] = ""  # what the server was started with, where it asks for one


class Ping(Message):
    """Ask whether the server is there. -> Done."""


class Create(Message):
    """Make an environment; ``Reset`` begins an episode. -> Created."""

    env: Name  # its id, such as worldenv/Revisit-v0
    options: Table = field(default_factory=dict)  # of gym.make, those that name nothing to import: memory, ...
    num_envs: Annotated[int, Bounds(1, 1024)] | None = None  # rows, which advance together; None: one, without an axis
    batch: bool = True  # may share model calls with others; False is equal to a local environment to the last bit
    autoreset: Literal["SameStep", "NextStep", "Disabled"] = "Disabled"
    pictures: Literal["none", "raw", "jpeg", "png"] = "none"  # whether Frames come, and how
    display: bool = False  # whether they also come as the world's display decoder shows them, where it has one
    obs: bool = True  # whether observations come
    keep: Annotated[int, Bounds(0, 4096)] = 0  # chunks that Back can return to, within the server's limit of memory
    linger: Annotated[float, Bounds(0, 600)] = 0.0  # s that it outlives its connection, within the server's limit


class OfSession(Message):
    """What is asked or told of one session."""

    session: Name


class Attach(OfSession):
    """Go on with a session whose connection was lost; what was answered may be asked again. -> Attached."""

    key: Name  # from Created


class Reset(OfSession):
    """Begin new episodes. -> Frames of the start view, Outcome."""

    seed: Seed | None = None  # row i gets seed + i; None goes on with each row's stream of episodes
    seeds: list[Seed | None] | None = None  # or one for each row
    options: Table = field(default_factory=dict)  # of the environment's reset: start, image, goal, reset_mask, ...
    picture: bytes | None = None  # a PNG or JPEG in place of options.image, scaled and cropped to the world's size
    explain: bool = False  # whether Outcome tells what is remembered and seen


class Step(OfSession):
    """Advance by a chunk. -> Frames of each latent as they are decoded, Outcome."""

    action: Any  # of the action space, one per row where the session has several; arrays, numbers or lists
    explain: bool = False


class Stream(OfSession):
    """Advance without being asked, a chunk in a chunk's time, by the newest action when it begins. -> Done.

    What then comes carries the id of the message its action came with.
    """

    action: Any
    explain: bool = False


class Act(OfSession):
    """The newest action of a session that streams; what it does answers it."""

    action: Any


class Pause(OfSession):
    """End a stream. -> Done, after the last chunk."""


class Back(OfSession):
    """Go back to right after a chunk of this episode. -> Frames of it, Outcome."""

    chunk: Count  # 0 is just reset
    explain: bool = False


class Fork(OfSession):
    """Let a new session go on from here. -> Created."""

    chunk: Count | None = None  # or from right after this chunk
    reseed: Seed | None = None  # a new seed of its random numbers, so that it goes on differently
    memory: Any = None  # another memory, as of Remember


class Remember(OfSession):
    """Go on with another memory. -> Done."""

    memory: Any  # a policy's name, or a table of its settings


class Prompt(OfSession):
    """Describe a world with text anew. -> Done."""

    prompt: Annotated[str, Bounds(0, 4000)]
    rows: list[Count] | None = None


class Save(OfSession):
    """Ask for the state. -> Saved."""

    rows: list[Count] | None = None


class Load(OfSession):
    """Go on from a saved state, here or on another server. -> Frames of it, Outcome."""

    data: bytes
    rows: list[Count] | None = None


class Close(OfSession):
    """End a session. -> Done."""


class Welcome(Message):
    """What there is here."""

    protocol: int
    version: str  # of the package
    environments: list[str]  # ids that Create takes
    worlds: list[str]  # worlds that its option world takes
    limits: dict[str, float]


class Created(OfSession):
    """A session, and what it looks like, as plain values."""

    key: str  # what Attach takes
    about: Table
    """action_space, observation_space (of one row), num_envs, metadata, keyboard, action_names, spec (width, height,
    fps, chunk_latents, frames_per_latent, steps, takes, gives), starts (how many), can (branch, text, resume, depth,
    memory, floor), batched."""


class Attached(OfSession):
    """A session again."""

    answered: int  # the last message that was answered; all of its answer comes again if it is asked again


class Frames(OfSession):
    """Pictures of one latent."""

    chunk: int  # of the episode, from 1; 0 holds the start view
    latent: int  # of the chunk, from 0
    last: bool  # whether Outcome is next
    pictures: Any  # raw: (T, H, W, 3) uint8, or (B, T, H, W, 3) of several rows; else a list of T JPEG or PNG files
    displayed: list[bytes] | None = None  # the same, larger, as JPEG files, where Create asked for the display decoder


class Outcome(OfSession):
    """The present moment: after a chunk, a reset, or a return; with an axis of rows where Create asked for some."""

    chunk: int  # chunks since the episode began
    obs: Any = None
    reward: Any = None  # of a step, as the next two
    terminated: Any = None
    truncated: Any = None
    info: Table = field(default_factory=dict)
    signals: Table = field(default_factory=dict)  # what the world gave at the end of each latent, (F, ...); of one row
    n_frames: int = 0
    explained: Table | None = None
    """memory (see ``report_memory``), known (h, w), depth (H, W), floor: cells (n, n), corner, cell; what there is."""
    kept: list[int] = field(default_factory=list)  # chunks of this episode that Back can return to
    compute_ms: float = 0.0  # what the world took
    waited_ms: float = 0.0  # what went by before that


class Saved(OfSession):
    """A session's state, a safetensors file."""

    data: bytes


class Done(Message):
    """It is done."""


class Ended(OfSession):
    """A session that the server has ended, unasked; ``id`` is 0."""

    why: str


class Failed(Message):
    """What was asked cannot be; nothing has changed. ``id`` is 0 where it could not be read."""

    kind: Literal["message", "value", "session", "full", "rate", "token", "version", "internal"]  # what is wrong
    field: str  # of the message, or ''
    why: str  # what was wrong, the value, and what to do


def _by_name(*kinds: type[Message]) -> dict[str, type[Message]]:
    return {kind.__name__.lower(): kind for kind in kinds}


ASKS = _by_name(
    *(Hello, Ping, Create, Attach, Reset, Step, Stream, Act, Pause, Back, Fork, Remember, Prompt, Save, Load, Close)
)
"""What a client may send."""
ANSWERS = _by_name(Welcome, Created, Attached, Frames, Outcome, Saved, Done, Ended, Failed)
"""What a server may send."""
