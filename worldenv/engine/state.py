"""The state of a batch of episodes: what is remembered, decoded, drawn and said, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..base.rng import RowGenerators, derive_seed
from ..dynamics.signals import Track
from ..memory.bank import MemoryBank
from ..models.types import TextCache
from .doubt import Doubt
from .events import Events
from .history import History
from .screen import Screen
from .window import RollingWindow


@dataclass
class EngineState:
    """Everything that B episodes consist of. Rows are independent: each can be begun, copied and put back alone."""

    history: History
    screen: Screen
    events: Events
    generators: RowGenerators
    seeds: list[int]
    origin: Track  # each (B, ...): the moment when the episode began
    noise: Tensor | None = None  # (B, horizon, C, h, w), where noise is drawn ahead
    window: RollingWindow | None = None  # chunks on their way, where several are denoised together
    prompts: list[Tensor | None] = field(default_factory=list)  # (1, L, text_dim) embedding of each env's prompt
    text: list[TextCache | None] = field(default_factory=list)  # the same, as keys and values
    doubt: Doubt | None = None  # how far it is to be trusted, where somebody asks
    stale: set[int] = field(default_factory=set)  # rows whose prompt has changed since the memory kept keys and values

    @classmethod
    def empty(cls, num_envs: int, history: History, screen: Screen, events: Events) -> EngineState:
        """Make the state of B episodes that have not begun."""
        return cls(
            history=history,
            screen=screen,
            events=events,
            generators=RowGenerators(num_envs),
            seeds=[0] * num_envs,
            origin=history.bank.newest(),
            prompts=[None] * num_envs,
            text=[None] * num_envs,
        )

    @property
    def num_envs(self) -> int:
        """B."""
        return len(self.seeds)

    @property
    def bank(self) -> MemoryBank:
        """Latents of every episode, and what led to them."""
        return self.history.bank

    @property
    def present(self) -> Track:
        """What led to every env's newest latent, or the moment when it began; each (B, ...)."""
        return self.bank.newest().where(self.bank.length > 0, self.origin)

    def joints_before(self) -> Tensor:
        """Return the joints that were commanded a latent before the newest, (B, J), or those that began the episode."""
        bank = self.bank
        rows, last = torch.arange(self.num_envs), bank.length - 1
        return torch.where(
            (last > 0)[:, None], bank.track["joints"][rows, (last - 1).clamp(min=0)], self.origin["joints"]
        )

    def begin(
        self,
        rows: Tensor,  # (R,) int64
        origin: Track,  # each (R, ...)
        seeds: Sequence[int],
    ) -> None:
        """Begin episodes in these rows: where, and with which random numbers."""
        for name, part in self.origin.items():
            part[rows] = origin[name]
        self.stale -= set(rows.tolist())
        self.events.begin(rows)
        if self.doubt is not None:
            self.doubt.begin(rows)
        if self.window is not None:
            self.window.drop(rows)
        for row, seed in zip(rows.tolist(), seeds, strict=True):
            self.seeds[row] = seed
            self.generators.seed(row, derive_seed(seed, "noise"))

    def draw_ahead(self, rows: Tensor, shape: tuple[int, int, int], horizon: int) -> None:
        """Draw the noise of a whole horizon for these rows, time inside channels as WorldPlay's release does."""
        channels, height, width = shape
        noise = self.generators.normal(rows.tolist(), (channels, horizon, height, width))
        self.set_noise(rows, noise.transpose(1, 2))

    def set_noise(
        self,
        rows: Tensor,  # (R,) int64
        noise: Tensor,  # (R, horizon, C, h, w)
    ) -> None:
        """Fix the noise of these rows' coming latents."""
        if self.noise is None or self.noise.shape[1] != noise.shape[1]:
            self.noise = noise.new_zeros(self.num_envs, *noise.shape[1:])
        self.noise[rows] = noise

    def take_noise(
        self,
        rows: Tensor,  # (R,) int64
        at: Tensor,  # (R,) int64: index of the chunk's first latent
        shape: tuple[int, int, int, int],  # (F, C, h, w)
    ) -> Tensor:
        """Return the noise of a chunk, (R, F, C, h, w): drawn ahead as far as that goes, else from each generator."""
        parts = []
        for row, start in zip(rows.tolist(), at.tolist(), strict=True):
            ahead = self.noise is not None and start + shape[0] <= self.noise.shape[1]
            drawn = self.noise[row, start : start + shape[0]] if ahead and self.noise is not None else None
            parts.append(self.generators.normal([row], shape)[0] if drawn is None else drawn)
        return torch.stack(parts)

    def draw(
        self,
        rows: Tensor,  # (B,) bool
        shape: tuple[int, ...],
    ) -> Tensor:
        """Draw fresh noise for some rows, zeros for the others; (B, *shape)."""
        noise = torch.zeros(self.num_envs, *shape)
        if rows.any():
            noise[rows] = self.generators.normal(rows.nonzero()[:, 0].tolist(), shape)
        return noise

    def describe(
        self,
        rows: Sequence[int],
        prompt: Tensor,  # (1, L, text_dim)
    ) -> None:
        """Give rows a prompt; its keys and values are computed once for all of them."""
        encoded = self.history.dit.encode_text(prompt)
        for row in rows:
            self.prompts[row], self.text[row] = prompt, encoded

    def text_batch(self, rows: Sequence[int] | None = None) -> TextCache | None:
        """Return the prompts of some rows (default: all) as one batch; rows that share a prompt share its keys."""
        chosen = range(self.num_envs) if rows is None else rows
        text = [self.text[row] for row in chosen]
        if not text or all(p is text[0] for p in text):
            return text[0] if text else None
        silent = [row for row, p in zip(chosen, text, strict=True) if p is None]
        if silent:
            raise ValueError(f"rows {silent} have no prompt and the others have; call set_prompt for all")
        lengths = sorted({int(p[0][0].shape[2]) for p in text if p is not None})
        if len(lengths) > 1:
            raise ValueError(f"prompts of {lengths} tokens cannot share a batch; encode them to one length")
        layers = zip(*(p for p in text if p is not None), strict=True)
        return tuple((torch.cat([k for k, _ in kv]), torch.cat([v for _, v in kv])) for kv in layers)

    def fork(self, source: Sequence[int], rows: Sequence[int], reseed: Sequence[int] | None) -> None:
        """Copy episodes from some rows onto others, sharing what is never written again."""
        a, b = torch.tensor(list(source)), torch.tensor(list(rows))
        self.history.fork(a, b)
        self.screen.fork(a, b)
        self.events.fork(a, b)
        if self.doubt is not None:
            self.doubt.fork(a, b)
        for tensor in (*self.origin.values(), *([] if self.noise is None else [self.noise])):
            tensor[b] = tensor[a]
        if self.window is not None:
            self.window.fork(a, b)
        for i, (trunk, fork) in enumerate(zip(source, rows, strict=True)):
            self.seeds[fork], self.prompts[fork] = self.seeds[trunk], self.prompts[trunk]
            self.text[fork] = self.text[trunk]
            self.generators.restore(fork, self.generators.state(trunk))
            self.stale = (self.stale - {fork}) | ({fork} if trunk in self.stale else set())
            if reseed is not None:
                self.seeds[fork] = reseed[i]
                self.generators.seed(fork, derive_seed(reseed[i], "noise"))
        if reseed is not None and self.noise is not None:
            horizon, *shape = self.noise.shape[1:]
            self.draw_ahead(b, (shape[0], shape[1], shape[2]), horizon)

    def clone(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Copy the episodes of some rows as a dictionary of tensors, each with a leading row axis."""
        index = torch.tensor(list(rows))
        tensors = (
            self.history.clone(index)
            | self.screen.clone(index)
            | self.events.clone(index)
            | {
                "seeds": torch.tensor([self.seeds[r] for r in rows], dtype=torch.long),
                "generators": torch.stack([self.generators.state(r) for r in rows]),
                **{f"origin.{name}": part[index] for name, part in self.origin.items()},
                "stale": torch.tensor([r in self.stale for r in rows]),
            }
        )
        if self.noise is not None:
            tensors["noise"] = self.noise[index]
        if self.window is not None:
            tensors |= self.window.clone(index)
        prompts = [p[0].cpu() for r in rows if (p := self.prompts[r]) is not None]
        if prompts:
            tensors["prompt"] = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True)
            tensors["prompt_length"] = torch.tensor([len(p) for p in prompts])
        return {key: value.clone() for key, value in tensors.items()}

    def restore(self, tensors: dict[str, Tensor], rows: Sequence[int], *, device: torch.device) -> None:
        """Continue cloned episodes in these rows, exactly as they would have gone on."""
        index = torch.tensor(list(rows))
        self.history.restore(index, tensors)
        for i, row in enumerate(rows):
            self.seeds[row] = int(tensors["seeds"][i])
            self.stale = (self.stale - {row}) | ({row} if bool(tensors["stale"][i]) else set())
            self.generators.restore(row, tensors["generators"][i])
        for name, part in self.origin.items():
            part[index] = tensors[f"origin.{name}"]
        self.screen.restore(index, tensors)
        self.events.restore(index, tensors)
        if self.doubt is not None:
            self.doubt.begin(index)  # of a chunk that was made elsewhere nothing is known
        if "noise" in tensors:
            self.set_noise(index, tensors["noise"])
        if self.window is not None:
            self.window.restore(index, tensors)
        for i, row in enumerate(rows if "prompt" in tensors else ()):
            self.describe([row], tensors["prompt"][i, : int(tensors["prompt_length"][i])][None].to(device))
