"""What heads read off latent after latent: what episodes earn, whether they end, where an object is.

What the heads remember is kept row by row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..dynamics.signals import Signal, Signals
from ..dynamics.spec import WorldSpec
from ..models.codec import to_pixels
from ..models.heads import EVENTS, READ, EventHead, ObjectHead
from ..models.heads.event import command_codes
from ..world.world import World


class Events:
    """Reads latent after latent of every row; rows begin anew, and are copied, one by one."""

    def __init__(self, world: World, num_envs: int, *, doubts: bool = False) -> None:
        self.doubts = doubts  # whether to note how far each head's members disagree about the newest latent
        found = {name: world.heads.get(name) for name in READ}
        self.heads = {name: head for name, head in found.items() if isinstance(head, EventHead | ObjectHead)}
        self.device = world.vae.latent_mean.device
        self.states = {name: torch.zeros(num_envs, head.config.hidden) for name, head in self.heads.items()}
        self.doubt = {name: torch.zeros(num_envs) for name in self.heads if name in EVENTS} if doubts else {}
        self.present = {
            name: torch.zeros(num_envs, *signal.shape, dtype=getattr(torch, signal.dtype))
            for name, signal in self.gives.items()
        }

    @property
    def gives(self) -> dict[str, Signal]:
        """What there is of each latent."""
        return {name: READ[name] for name in self.heads}

    def begin(self, rows: Tensor) -> None:
        """Forget these rows: nothing was earned, nothing has ended."""
        for tensors in (self.states, self.present, self.doubt):
            for name, part in tensors.items():
                tensors[name] = part.index_fill(0, rows, 0)

    @torch.no_grad()
    def read(
        self,
        rows: Tensor,  # (R,) int64
        before: Tensor,  # (R, H, W, 3) uint8: the frame before
        frames: Tensor,  # (R, T, H, W, 3) uint8: of one latent
        commands: Signals,  # each (R, ...): of that latent
        spec: WorldSpec,
        *,
        start: bool = False,
    ) -> None:
        """Look at a latent of these rows; at a ``start`` view nothing has happened yet, but things lie somewhere."""
        heads = {name: head for name, head in self.heads.items() if not start or name not in EVENTS}
        if not heads:
            return
        pixels = to_pixels(torch.cat([before[:, None], frames], 1)).to(self.device)
        codes = command_codes(commands, spec).to(self.device)
        for name, head in heads.items():
            seen, state = head.see(pixels), self.states[name][rows].to(self.device)
            each = [  # one by one: products of few rows depend on how many there are
                self._read_one(head, seen[i : i + 1], codes[i : i + 1], state[i : i + 1]) for i in range(len(rows))
            ]
            logits, after, doubt = (torch.cat(parts) for parts in zip(*each, strict=True))
            if name in self.doubt:
                self.doubt[name] = self.doubt[name].index_copy(0, rows, doubt.cpu())
            self.states[name] = self.states[name].index_copy(0, rows, after.cpu())
            self.present[name] = self.present[name].index_copy(0, rows, head.decide(logits).cpu())

    def _read_one(
        self,
        head: EventHead | ObjectHead,
        seen: Tensor,  # (1, P)
        codes: Tensor,  # (1, A)
        state: Tensor,  # (1, D)
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, the next state and how far members disagree; 0 where nobody asks."""
        features = head.features(seen, codes)
        logits, after = head.step(features, state)
        if self.doubts and isinstance(head, EventHead):
            return logits, after, head.doubt(features, after)
        return logits, after, logits.new_zeros(1)

    def settle(self, rows: Tensor) -> None:
        """Let nothing be earned or ended yet in rows that begin with what was read: it happened before they did."""
        for name in self.heads.keys() & EVENTS.keys():
            self.present[name] = self.present[name].index_fill(0, rows, 0)

    def clone(self, rows: Tensor) -> dict[str, Tensor]:
        """Copy what is kept of some rows as tensors with a leading row axis."""
        kept = {f"events.{name}.state": part[rows] for name, part in self.states.items()}
        return kept | {f"events.{name}": part[rows] for name, part in self.present.items()}

    def restore(self, rows: Tensor, tensors: dict[str, Tensor]) -> None:
        """Go on with what was cloned in these rows; how far it is to be doubted was not."""
        for name in self.heads:
            self.states[name] = self.states[name].index_copy(0, rows, tensors[f"events.{name}.state"])
            self.present[name] = self.present[name].index_copy(0, rows, tensors[f"events.{name}"])
        for name, part in self.doubt.items():
            self.doubt[name] = part.index_fill(0, rows, 0)

    def fork(self, source: Tensor, rows: Tensor) -> None:
        """Copy what is kept of some rows onto others."""
        doubt = {name: part.index_copy(0, rows, part[source]) for name, part in self.doubt.items()}
        self.restore(rows, self.clone(source))
        self.doubt = doubt
