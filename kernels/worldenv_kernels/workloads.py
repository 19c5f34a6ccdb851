"""What is timed, and what it costs at least: arithmetic, and bytes that have to move once."""

from __future__ import annotations

from dataclasses import dataclass

from .pages import SCALE_BLOCK

VALUE_BYTES = 2
"""Of a bfloat16."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A chunk that reads its memory."""

    name: str
    num_envs: int
    frames: int
    slots: int
    rows: int
    columns: int
    heads: int
    head_dim: int

    @property
    def tokens(self) -> int:
        """S, tokens of a latent."""
        return self.rows * self.columns

    @property
    def latent(self) -> int:
        """Numbers of a latent's queries, keys or values in one form."""
        return self.tokens * self.heads * self.head_dim


WORKLOADS = (
    Workload(name="maze-256", num_envs=256, frames=4, slots=20, rows=3, columns=4, heads=4, head_dim=64),
    Workload(name="maze-256-fine", num_envs=256, frames=4, slots=20, rows=6, columns=8, heads=4, head_dim=64),
    Workload(name="5b-480p", num_envs=1, frames=4, slots=20, rows=15, columns=26, heads=24, head_dim=128),
    Workload(name="5b-720p", num_envs=1, frames=4, slots=20, rows=22, columns=40, heads=24, head_dim=128),
    Workload(name="5b-480p-4", num_envs=4, frames=4, slots=20, rows=15, columns=26, heads=24, head_dim=128),
)
"""The packaged world with many envs, and WorldPlay's release with few."""


@dataclass(frozen=True)
class Cost:
    """The least that an op takes."""

    flops: float = 0.0
    moved: float = 0.0  # bytes


def page_bytes(work: Workload, *, forms: int, int8: bool = False) -> float:
    """Return the bytes of a latent's page: keys in one or two forms, with mean and scales if int8, and values."""
    keys = forms * work.latent * (1 if int8 else VALUE_BYTES)
    if int8:
        blocks = -(-work.tokens // SCALE_BLOCK)
        keys += forms * work.heads * 4 * (work.head_dim + blocks)
    return keys + work.latent * VALUE_BYTES


def attention_cost(work: Workload, *, forms: int = 2, int8: bool = False) -> Cost:
    """Return the cost of attention of both branches: queries and pages are read, both results are written."""
    flops = 4.0 * work.num_envs * 2 * work.latent * work.tokens * work.frames * work.slots
    queries, results = forms * work.frames * work.latent, 2 * work.frames * work.latent
    pages = work.slots * page_bytes(work, forms=forms, int8=int8)
    return Cost(flops, work.num_envs * ((queries + results) * VALUE_BYTES + pages))


def gather_cost(work: Workload) -> Cost:
    """Return the cost of placed copies of keys and values for both branches."""
    copies = 4 * work.latent * VALUE_BYTES
    return Cost(moved=work.num_envs * work.slots * (page_bytes(work, forms=2) + copies))


def dense_cost(work: Workload) -> Cost:
    """Return the cost of attention to such copies."""
    copies, turned = 4 * work.slots * work.latent, 4 * work.frames * work.latent
    return Cost(attention_cost(work).flops, work.num_envs * (copies + turned) * VALUE_BYTES)
