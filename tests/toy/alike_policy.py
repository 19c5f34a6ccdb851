"""A memory policy without poses: the start, and of all that is remembered what was pushed like the coming chunk."""

from __future__ import annotations

import torch

from worldenv.memory.bank import MemoryBank
from worldenv.memory.config import Layout, MemoryConfig, num_slots
from worldenv.memory.select import Query, Selection


class Alike:
    """Looks latents up by their ``push``."""

    def __call__(self, bank: MemoryBank, query: Query, config: MemoryConfig, layout: Layout) -> Selection:
        slots, wanted = num_slots(config, layout.chunk_latents), query.track["push"].mean(1, keepdim=True)
        likeness = -(bank.track["push"] - wanted).square().sum(-1)
        number = torch.arange(likeness.shape[1])
        likeness = likeness.masked_fill(number >= bank.length[:, None], -torch.inf).masked_fill(number == 0, torch.inf)
        score, best = likeness.topk(min(slots, likeness.shape[1]), dim=1)
        index = torch.where(score == -torch.inf, -1, best).sort(1).values
        padded = torch.nn.functional.pad(index, (slots - index.shape[1], 0), value=-1)
        none = torch.full((len(index), 0), -1)
        return Selection(padded, none, none.double())
