"""What the transformer's stages are made of: recorded latents, how they are drawn, noised and rendered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..base.config import check_shares
from ..data.dataset import LatentDataset
from ..dynamics.signals import Track, wide
from ..engine.rollout import Rendered
from ..geometry.camera import normalise_intrinsics
from ..memory.bank import MemoryBank
from ..memory.config import Layout, reach_of
from ..memory.select import BY_POSE
from ..models.dit import WorldDiT
from ..world.world import World
from .renders import RendersConfig
from .renders import drawn as draw_renders


@dataclass(frozen=True, kw_only=True)
class DenoiseConfig:
    """Windows and noise of the transformer stages."""

    num_chunks: int = 4
    """Chunks per window in the stages without memory, and that a teacher denoises jointly (61 frames are 4 chunks)."""
    shift: float = 2.0
    """Shift of the training noise levels; grows with the number of tokens."""
    draws: int = 4
    """Noise draws of a chunk against one encoding of its context (``memory``)."""
    context_noise: tuple[float, float] = (0.016, 0.3)
    """Noise levels of context chunks (``memory``), uniform; the reference uses 0.016 to 0.5."""
    clean_context: float = 0.25
    """Share of samples whose context is clean, labelled as at inference."""
    necessary: float = 0.8
    """Share of samples whose chunk needs memory."""
    need: float = 0.15
    """A chunk needs memory if this share of its surface was seen before the temporal window and not in it, or, where
    objects count more, this share of what is shown of them lies where none lay before the chunk."""
    cached: float = 0.0
    """Share of steps on whole clips, each chunk against the recorded keys and values of its past, as ``worldscape``
    memory keeps them (``memory``)."""
    single: float = 0.0
    """The same in chunks of one latent, so that one world can also be stepped latent by latent."""
    forcing: float = 0.2
    """Share of steps on contiguous windows with a noise level per chunk (diffusion forcing)."""
    policies: tuple[tuple[str, float], ...] = (("worldplay", 0.7), ("recent", 0.12), ("none", 0.08), ("random", 0.1))
    """Memory policies and their shares (context dropout)."""
    teacher_memory: Literal["aligned", "per_latent"] = "aligned"
    """Whether a joint teacher sees what its chunks see, or the single latents that its segment overlaps with most: the
    misaligned context of WorldPlay's figure 8a."""
    render_dropout: float = 0.18
    """Share of samples to which rendered memory shows nothing, where the transformer takes it in."""
    label_dropout: float = 0.1
    """Share of samples in which no keys are held, and every other code is 0."""

    def __post_init__(self) -> None:
        check_shares(self, "clean_context", "necessary", "need", "cached", "single", "forcing")
        check_shares(self, "render_dropout", "label_dropout")
        shares = [share for _, share in self.policies]
        if min(shares, default=0) < 0 or not sum(shares):
            raise ValueError(f"policies={self.policies}: shares are 0 or more, and not all 0")


class Material:
    """A world's transformer, and encoded recordings to train it on."""

    def __init__(
        self,
        world: World,
        config: DenoiseConfig,
        batch: int,
        *,
        data: LatentDataset,
        heldout: LatentDataset | None = None,
        degrade: RendersConfig | None = None,  # what renders of segments bear
    ) -> None:
        self.world, self.config, self.batch = world, config, batch
        self.degrade = RendersConfig() if degrade is None else degrade
        asking = [name for name, _ in config.policies if name in BY_POSE]
        asking += ["worldscape"] if config.cached or config.single else []
        if asking and not world.spec.has_camera:
            raise ValueError(
                f"[denoise] trains with memory policy {asking[0]!r}, which asks where the camera was, and this world "
                f"takes {', '.join(world.spec.takes)}; set policies to recent, none or random, cached and single to 0"
            )
        self.data, self.heldout = data, data if heldout is None else heldout
        spec = world.spec
        self.chunk = spec.chunk_latents
        self.layout = Layout(self.chunk)
        self.reach = reach_of(world.config.memory, self.chunk)
        self.K = normalise_intrinsics(spec.K, width=spec.width, height=spec.height)

    @property
    def module(self) -> WorldDiT:
        """The transformer."""
        return self.world.dit

    @property
    def device(self) -> torch.device:
        """Where the transformer is."""
        return self.module.patch_embedding.weight.device

    def kept(self, first: Tensor) -> Tensor | None:
        """Return what ``gather`` keeps indices by: the first latents' (B,), or nothing where memory is reframed."""
        return None if self.world.config.memory.reframe else first

    @staticmethod
    def bank(data: LatentDataset, clips: Tensor, index: Tensor) -> MemoryBank:
        """Return the latents ``index`` (B, F) of some clips (B,) as what episodes remember."""
        rows = clips[:, None]
        length = torch.full((len(clips),), index.shape[1])
        given = torch.zeros_like(length)
        return MemoryBank(data.latents[rows, index].float(), data.track.at((rows, index)), length, given=given)

    def history(self, clips: Tensor, length: Tensor) -> MemoryBank:
        """Return the first latents (B,) of some clips (B,) to choose from: they stay where they are, in half."""
        given = torch.zeros_like(length)
        return MemoryBank(self.data.latents, self.data.track.at(clips), length, given=given, order=clips)

    def renders(self, clips: Tensor, index: Tensor) -> Tensor | None:
        """Fetch what is rendered of latents ``index`` (B, F) of some clips, (B, R, F, C + 1, h, w)."""
        renders = self.data.renders
        return None if renders is None else renders[clips[:, None], :, index].transpose(1, 2)

    def drawn(self, renders: Tensor | None, generator: torch.Generator) -> Rendered | None:
        """Draw what rendered memory shows of latents, (B, R, F, C + 1, h, w), if the transformer takes it in."""
        if renders is None or not self.module.config.render_input:
            return None
        return draw_renders(renders, dropout=self.config.render_dropout, generator=generator).to(self.device)

    def weight(self, clips: Tensor, index: Tensor) -> Tensor | None:
        """Fetch how much an error of each cell of latents ``index`` (B, F) of some clips counts, (B, F, 1, h, w)."""
        weight = self.data.weight
        return None if weight is None else weight[clips[:, None], index].float()

    def drop_labels(self, track: Track, generator: torch.Generator) -> Track:
        """Let nothing be commanded in a share of the samples, (B, F, ...), wherever their cameras go."""
        return without_codes(
            track, torch.rand(track.num_rows, 1, generator=generator)[:, 0] < self.config.label_dropout
        )


def without_codes(track: Track, rows: Tensor) -> Track:
    """Return the same with all that enters the timestep embedding 0 in these rows, (B,) bool."""
    return Track({n: part if n == "c2w" else part * wide(~rows, part) for n, part in track.items()})
