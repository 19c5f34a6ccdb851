"""Several processes that compute one model: each takes a share of a chunk's tokens, and of the heads while they attend.

WorldPlay 3.5, as DeepSpeed-Ulysses does it: projections, norms and feed-forward networks see a token alone and are
computed where it is; before attention, tokens go to the processes of their heads, and what they read comes back. So a
process holds keys and values of its own heads only, those that memory keeps included. What chooses the memory and
draws the noise is computed by all alike.
"""

from __future__ import annotations

import atexit
import math

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from worldenv_kernels import Reframing

from ..base.log import console
from .backend import Backend
from .kv_cache import Cache
from .place import Place
from .types import Conditioning, DiTConfig


class Ranks:
    """This process among those that compute a model together; they do the same things in the same order."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.index, self.count, self._group = dist.get_rank(group), dist.get_world_size(group), group
        self.sent = 0  # bytes that went to other processes

    @classmethod
    def launched(cls, device: torch.device | str) -> Ranks | None:
        """Join the processes that ``torchrun`` has started; None if this is not one of several.

        All but the first say nothing from now on.
        """
        if not dist.is_available() or not dist.is_torchelastic_launched():
            return None
        if not dist.is_initialized():
            on_gpu = torch.device(device).type == "cuda"
            if on_gpu:
                torch.cuda.set_device(dist.get_node_local_rank())
            dist.init_process_group("nccl" if on_gpu else "gloo")
            atexit.register(_part)
        ranks = cls()
        console.quiet = console.quiet or ranks.index > 0
        return ranks if ranks.count > 1 else None

    def check(self, config: DiTConfig, *, tokens: int, rows: int) -> None:
        """Refuse models that cannot be shared among so many, with ``tokens`` and latent ``rows`` of a latent.

        Raises:
            ValueError: naming how many could.
        """
        able = [n for n in range(1, config.num_heads + 1) if not config.num_heads % n and n <= min(tokens, rows)]
        if self.count not in able:
            raise ValueError(
                f"{self.count} processes cannot share {config.num_heads} heads, {tokens} tokens and {rows} rows of a "
                f"latent; start {', '.join(map(str, able))} (torchrun --nproc-per-node)"
            )

    def heads(self, num_heads: int) -> slice:
        """Return the heads that this process attends with."""
        each = num_heads // self.count
        return slice(self.index * each, (self.index + 1) * each)

    def share(
        self,
        x: Tensor,  # (B, F, S, D)
    ) -> Tensor:
        """Return this process's tokens of each latent, (B, F, P, D); zeros fill up where they do not divide."""
        each = math.ceil(x.shape[2] / self.count)
        padded = functional.pad(x, (0, 0, 0, each * self.count - x.shape[2]))
        return padded[:, :, self.index * each : (self.index + 1) * each]

    def whole(
        self,
        x: Tensor,  # (B, F, P, D)
        tokens: int,
    ) -> Tensor:
        """Undo ``share``: return the tokens of all processes, (B, F, S, D)."""
        return torch.cat(self._gather(x), 2)[:, :, :tokens]

    def to_heads(self, parts: tuple[Tensor, ...], tokens: int) -> tuple[Tensor, ...]:
        """Trade all heads of own tokens, (B, F, P, N, D) each, for own heads of all tokens, (B, F, S, N / R, D)."""
        sent = torch.stack(parts).unflatten(4, (self.count, -1)).movedim(4, 0)  # (R, parts, B, F, P, n, D)
        return self._trade(sent).movedim(0, 3).flatten(3, 4)[:, :, :, :tokens].unbind()

    def to_tokens(self, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Undo ``to_heads``."""
        short = -parts[0].shape[2] % self.count
        whole = functional.pad(torch.stack(parts), (0, 0, 0, 0, 0, short))
        sent = whole.unflatten(3, (self.count, -1)).movedim(3, 0)  # (R, parts, B, F, P, n, D)
        return self._trade(sent).movedim(0, 4).flatten(4, 5).unbind()

    def rows(
        self,
        x: Tensor,  # (..., h, w)
    ) -> Tensor:
        """Return this process's rows of pictures."""
        return x.tensor_split(self.count, -2)[self.index].contiguous()

    def whole_rows(
        self,
        x: Tensor,  # (..., h', w)
    ) -> tuple[Tensor, slice]:
        """Undo ``rows``, of pictures that may have grown since: return (..., h, w), and which rows are own."""
        heights = [int(part) for part in self._gather(torch.tensor([x.shape[-2]], device=x.device))]
        parts = self._gather(functional.pad(x, (0, 0, 0, max(heights) - x.shape[-2])))
        whole = torch.cat([part[..., :height, :] for part, height in zip(parts, heights, strict=True)], -2)
        first = sum(heights[: self.index])
        return whole, slice(first, first + heights[self.index])

    def bordered(
        self,
        x: Tensor,  # (..., h, w)
    ) -> Tensor:
        """Return own rows between the nearest one of either neighbour, zeros at the picture's ends; (..., h + 2, w)."""
        ends = self._gather(torch.stack([x[..., :1, :], x[..., -1:, :]]))
        nothing = torch.zeros_like(x[..., :1, :])
        above = ends[self.index - 1][1] if self.index else nothing
        below = ends[self.index + 1][0] if self.index + 1 < self.count else nothing
        return torch.cat([above, x, below], -2)

    def _trade(
        self,
        sent: Tensor,  # (R, ...): one part for each process
    ) -> Tensor:
        sent = sent.contiguous()
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=self._group)
        self.sent += sent.nbytes * (self.count - 1) // self.count
        return received

    def _gather(self, x: Tensor) -> list[Tensor]:
        x = x.contiguous()
        received = [torch.empty_like(x) for _ in range(self.count)]
        dist.all_gather(received, x, group=self._group)
        self.sent += x.nbytes * (self.count - 1)
        return received


class RanksCache(Cache):
    """Attends with own heads in a cache that holds no others."""

    def __init__(self, inner: Cache, ranks: Ranks, tokens: int) -> None:
        super().__init__()
        self._inner, self._ranks, self._tokens = inner, ranks, tokens

    def place(
        self, cond: Conditioning, config: DiTConfig, *, grid: tuple[int, int], dtype: torch.dtype
    ) -> Place | Reframing:
        return self._inner.place(cond, config, grid=grid, dtype=dtype)

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, place: Place | Reframing, backend: Backend
    ) -> tuple[Tensor, ...]:
        q, k, v = self._ranks.to_heads((q, k, v), self._tokens)
        self._note(k, v)
        return self._ranks.to_tokens(self._inner.attend(layer, q, k, v, place, backend))

    def keep(self, layer: int, k: Tensor, v: Tensor, place: Place | Reframing) -> None:
        k, v = self._ranks.to_heads((k, v), self._tokens)
        self._note(k, v)
        self._inner.keep(layer, k, v, place)

    def _note(self, k: Tensor, v: Tensor) -> None:
        if self._inner.record is not None:
            self._inner.record.append((k, v))


def _part() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
