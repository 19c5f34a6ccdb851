"""Where latents stand in time and space, and what that makes of a query that meets a page.

Inside a page time and camera are constant, so that for row vectors ``<R(tq) q, R(tk) k> = <R(tq - tk) q, k>`` and
``<q P_q, k U_k^T> = <q P_q U_k, k>`` with ``U = P^-1``: the query is placed anew for every page and keys and values
stay as they are. Sums of values stand in the frame of the page last met; at the next page they are multiplied by
``(P_next U_last)^T``, and at the end by ``(P_q U_last)^T``. Only differences of positions and relative cameras enter.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from .heads import pair_frequencies


@dataclass(frozen=True, kw_only=True)
class Places:
    """Latents in time and space, as a model's conditioning has them."""

    positions: Tensor  # (B, F) temporal index
    projection: Tensor | None = None  # (B, F, 4, 4) P, image <- world; None for a model without cameras
    unprojection: Tensor | None = None  # (B, F, 4, 4) its inverse

    def __post_init__(self) -> None:
        if (self.projection is None) != (self.unprojection is None):
            raise ValueError("one of projection and unprojection is missing; pass both or neither")


@dataclass(frozen=True, kw_only=True)
class Reframing:
    """A chunk's view of its context: made once per chunk, used by every layer and step."""

    table: Tensor  # (B, M) int32: the page in each slot, -1 for none
    full: bool  # whether every slot is known to have a page, so that dense attention needs no mask
    queries: Places  # (B, F)
    slots: Places  # (B, M)
    frequencies: Tensor  # (D / 2) float64: of time
    cosine: Tensor  # (B, F, M, D / 2) float32: of the angle from slot to query
    sine: Tensor  # (B, F, M, D / 2)
    relative: Tensor | None  # (B, F, M, 4, 4) float32: P_q U_m
    change: Tensor | None  # (B, M, 4, 4): (P_m U_previous)^T
    last: Tensor | None  # (B, F, 4, 4): (P_q U_last)^T
    space: tuple[Tensor, Tensor] | None = None  # each (S, D / 2): for plain keys, what rows and columns turn on reading

    @property
    def num_branches(self) -> int:
        """R: 2 with cameras, else 1."""
        return 1 if self.relative is None else 2


def reframe(
    queries: Places,  # (B, F)
    slots: Places,  # (B, M)
    table: Tensor,  # (B, M) int32, -1 for an empty slot
    *,
    head_dim: int,
    theta: float,
    space: tuple[Tensor, Tensor] | None = None,  # each (S, D / 2)
    full: bool | None = None,
) -> Reframing:
    """Compute what turns and mixes queries, in float64, and keep it in float32.

    ``space`` (from ``space_table``) is for pages of plain keys: the RoPE branch then turns queries and keys by row and
    column as it reads them. Without it they have been turned when they were written. ``full`` says whether every slot
    has a page; None looks, and waits for the device.

    Raises:
        ValueError: if the table does not fit the slots, or only one side has cameras.
    """
    if table.shape != slots.positions.shape or table.dtype != torch.int32:
        raise ValueError(
            f"table is {tuple(table.shape)} {table.dtype}, slots.positions {tuple(slots.positions.shape)}; "
            "pass an int32 table with one page per slot"
        )
    if (queries.projection is None) != (slots.projection is None):
        raise ValueError("only one of queries and slots has cameras; pass both or neither")
    frequencies = _time_frequencies(head_dim, theta, table.device)
    steps = queries.positions[:, :, None].double() - slots.positions[:, None].double()
    angles = torch.where((table >= 0)[:, None], steps, 0.0)[..., None] * frequencies
    return Reframing(
        table=table.contiguous(),
        full=bool((table >= 0).all()) if full is None else full,
        queries=queries,
        slots=slots,
        frequencies=frequencies,
        cosine=angles.cos().float(),
        sine=angles.sin().float(),
        space=space,
        **_cameras(queries, slots, table >= 0),
    )


@functools.cache
def _time_frequencies(head_dim: int, theta: float, device: torch.device) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():  # made once, and used in training too
        return pair_frequencies(head_dim, theta)[0].to(device)


@functools.cache  # so that it is copied to a device once, before anything is recorded there
def space_table(
    rows: int,
    columns: int,
    *,
    head_dim: int,
    theta: float,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of a token's row and column, each (S, D / 2) float32; pairs of time stay as they are."""
    with torch.inference_mode(False), torch.no_grad():
        _, row, column = pair_frequencies(head_dim, theta)
        angles = torch.arange(rows).double()[:, None, None] * row + torch.arange(columns).double()[:, None] * column
        return angles.cos().flatten(0, 1).float().to(device), angles.sin().flatten(0, 1).float().to(device)


def _cameras(
    queries: Places,
    slots: Places,
    filled: Tensor,  # (B, M) bool
) -> dict[str, Tensor | None]:
    """Return relative, change and last."""
    if queries.projection is None or slots.projection is None or slots.unprojection is None:
        return {"relative": None, "change": None, "last": None}
    eye = torch.eye(4, dtype=torch.float64, device=filled.device)
    there = filled[..., None, None]
    project = torch.where(there, slots.projection.double(), eye)
    unproject = torch.where(there, slots.unprojection.double(), eye)
    query = queries.projection.double()
    each = torch.arange(filled.shape[1], device=filled.device)
    latest = torch.where(filled, each, -1).cummax(1).values  # (B, M): the last filled slot up to here
    previous = torch.nn.functional.pad(latest[:, :-1], (1, 0), value=-1)

    def at(slot: Tensor) -> Tensor:  # (B, n) -> (B, n, 4, 4)
        return unproject.gather(1, slot.clamp(min=0)[..., None, None].expand(-1, -1, 4, 4))

    moved = (there & (previous >= 0)[..., None, None]).expand_as(project)
    return {
        "relative": (query[:, :, None] @ unproject[:, None]).float().contiguous(),
        "change": torch.where(moved, (project @ at(previous)).mT, eye).float().contiguous(),
        "last": (query @ at(latest[:, -1:])).mT.float().contiguous(),
    }
