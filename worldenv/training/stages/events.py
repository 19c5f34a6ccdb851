"""Stage ``heads``, of what happens: reward and end, learned from recorded episodes and from what the VAE makes of them.

Rare events are drawn more often and count more; what a head then says is calibrated, and the threshold from which it
says yes chosen, on clips that it did not learn from, and both are judged on further ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from ...base.device import resolve_device
from ...base.log import console
from ...base.rng import derive_seed
from ...data.events import Episode, EventWindows, read_episodes, windows_of
from ...models.codec import to_pixels
from ...models.heads import EventConfig, EventHead
from ...models.heads.event import command_codes, num_codes, symlog
from ...world.world import World
from ..augment import AugmentConfig, degrade
from ..decoded import Decoded
from ..loop.optim import OptimConfig
from ..moments import draw_moments
from ..verdicts import chosen, judge, pooled, read_heads


@dataclass(frozen=True, kw_only=True)
class EventsConfig:
    """Data and losses of heads that say what happened."""

    reward: EventConfig = field(default_factory=EventConfig)
    """Sizes of the reward head."""
    terminated: EventConfig = field(default_factory=lambda: EventConfig(output="logit"))
    """Sizes of the head that says whether the episode ended."""
    num_latents: int = 16
    """Latents of a window: as far back as a head learns to remember."""
    eventful: float = 0.5
    """Share of windows with a rare event in them, where there are any."""
    most_weight: float = 10.0
    """An event counts at most so much more than none; it counts as the square root of how rare it is."""
    decoded: float = 0.6
    """Share of windows that the VAE has decoded, with noise on their latents."""
    latent_noise: float = 0.15
    """Largest noise on those latents, which generated ones are never free of."""
    num_moments: int = 128
    """Recorded moments that the world keeps, for episodes to begin at."""
    history: int = 8
    """Frames before each of them that are remembered, and shown to the heads; rounded up to whole chunks."""
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(untouched=0.5))
    """What else is done to the frames."""


class EventsStage:
    """Trains a world's event heads; everything else of it stays as it is.

    Held-out clips are shared by turns: thresholds are chosen on the even ones, and judged on the others. Without them
    two fifths of the recording are held out.
    """

    def __init__(
        self,
        world: World,
        config: EventsConfig,
        optim: OptimConfig,
        *,
        data: Path,
        heldout: Path | None,
        max_clips: int | None,
    ) -> None:
        self.world, self.config, self.optim, self.spec = world, config, optim, world.spec
        world.vae.to(resolve_device("auto"))
        every = read_episodes(data, world.spec, max_clips=max_clips)
        self.episodes = [one for one in every if heldout is not None or one.clip % 5 < 3]
        self.decoded = Decoded(world.vae, self.episodes, noise=config.latent_noise, seed=optim.seed)
        left = every if heldout is None else read_episodes(heldout, world.spec, max_clips=max_clips)
        self.held_out = [
            [one for one in left if (one.clip % 5 == 3 + part if heldout is None else one.clip % 2 == part)]
            for part in (0, 1)
        ]
        if not all((self.episodes, *self.held_out)):
            raise ValueError(
                f"{heldout or data} has too few clips to hold some out; record 10 or more, or pass --heldout"
            )
        self.heads = self._make_heads()
        self.module = nn.ModuleDict(self.heads)
        self.rare = {name: self._places(name) for name in self.heads}
        self.weights = {name: self._weight(name) for name in self.heads}

    @cached_property
    def views(self) -> dict[str, list[list[Episode]]]:
        """The held-out episodes as they are, and as the VAE makes them: even clips, and the others."""
        return {"truth": self.held_out, "vae": [Decoded(self.world.vae, some).all() for some in self.held_out]}

    def _make_heads(self) -> dict[str, EventHead]:
        """Make fresh heads of the sizes that the recording asks for, and give them to the world."""
        largest = max(float(one.reward.abs().max()) for one in self.episodes)
        codes, every = num_codes(self.spec), self.spec.frames_per_latent
        asked = {"reward": self.config.reward, "terminated": self.config.terminated}
        configs = {name: replace(config, num_codes=codes, num_frames=every) for name, config in asked.items()}
        configs["reward"] = replace(configs["reward"], reach=symlog(largest) or 1.0)
        torch.manual_seed(derive_seed(self.optim.seed, "events"))
        heads = {name: EventHead(config) for name, config in configs.items()}
        self.world.heads |= heads
        self._note_configs(configs)
        return heads

    def _note_configs(self, configs: Mapping[str, EventConfig]) -> None:
        """Let the heads and the world know how what they say is read."""
        for name, config in configs.items():
            head = self.world.heads[name]
            assert isinstance(head, EventHead)
            head.config = config
        heads = replace(self.world.config.heads, reward=configs["reward"], terminated=configs["terminated"])
        self.world.config = replace(self.world.config, heads=heads)

    def _places(self, name: str) -> list[tuple[int, int]]:
        """Return (episode, latent) of every event."""
        return [
            (i, int(at)) for i, episode in enumerate(self.episodes) for at in _truth(episode, name).nonzero().flatten()
        ]

    def _weight(self, name: str) -> float:
        """Return how much an event counts, where none counts 1."""
        events, total = len(self.rare[name]), sum(len(episode) for episode in self.episodes)
        if not events or events == total:
            return 1.0
        return min(self.config.most_weight, max(1.0, math.sqrt((total - events) / events)))

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the heads' cross-entropies on a batch of windows."""
        places = [self._place(generator) for _ in range(self.optim.batch)]
        decoded = (torch.rand(self.optim.batch, generator=generator) < self.config.decoded).tolist()
        made = iter(self.decoded.of([i for (i, _), one in zip(places, decoded, strict=True) if one]))
        episodes = [next(made) if one else self.episodes[i] for (i, _), one in zip(places, decoded, strict=True)]
        windows = windows_of(episodes, [at for _, at in places], self.config.num_latents)
        pixels = degrade(to_pixels(windows.frames), self.config.augment, generator)
        total, figures = torch.zeros(()), {}
        device = next(self.module.parameters()).device
        seen, codes = _as_read(pixels, windows, self.world)
        there = windows.there.flatten()
        for name, head in self.heads.items():
            said = head.hear(seen.to(device), codes.to(device)).flatten(1, 2)[:, there.to(device)]
            truth = windows.events[name].flatten()[there].to(device)
            error = torch.stack([head.error(one, truth, event_weight=self.weights[name]) for one in said]).mean()
            total, figures[f"{name}_loss"] = total.to(device) + error, float(error.detach())
        return total, figures

    def _place(self, generator: torch.Generator) -> tuple[int, int]:
        """Draw an episode and the first latent of a window of it, by its length, or by what happens in it."""
        names = [name for name, places in self.rare.items() if places]
        if names and float(torch.rand((), generator=generator)) < self.config.eventful:
            places = self.rare[names[_draw(len(names), generator)]]
            episode, at = places[_draw(len(places), generator)]
            return episode, max(0, at - _draw(self.config.num_latents, generator))
        lengths = torch.tensor([float(len(episode)) for episode in self.episodes])
        episode = int(torch.multinomial(lengths, 1, generator=generator))
        return episode, _draw(max(1, len(self.episodes[episode]) - self.config.num_latents + 1), generator)

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Choose thresholds as at the end, and say how good they are on the other clips, true and decoded."""
        self.choose_thresholds()
        figures: dict[str, float] = {}
        for view, (_, others) in self.views.items():
            judged = judge(self.heads, others, self.world)
            figures |= {f"{key}_{view}": value for key, value in judged.items() if math.isfinite(value)}
        return figures

    @torch.no_grad()
    def choose_thresholds(self) -> None:
        """Calibrate every head and choose its threshold on the clips that are for that, true and decoded."""
        said = read_heads(self.heads, [one for even, _ in self.views.values() for one in even], self.world)
        self._note_configs({name: chosen(head, *pooled(said[name])) for name, head in self.heads.items()})

    def finish(self) -> None:
        """Choose thresholds for the weights that are kept, and say what they are; keep moments to begin at."""
        self.choose_thresholds()
        generator = torch.Generator().manual_seed(derive_seed(self.optim.seed, "moments"))
        count, history = self.config.num_moments, self.config.history
        self.world.moments = draw_moments(self.world, self.episodes, count, history=history, generator=generator)
        for name, head in self.heads.items():
            console.print(f"{name}: an event from a probability of {head.config.threshold:.2f} on")


def _draw(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (1,), generator=generator))


def _truth(episode: Episode, name: str) -> Tensor:
    """Return what happened in each latent, (L,): rewards, or ends."""
    return episode.reward if name == "reward" else episode.terminated


def _as_read(pixels: Tensor, windows: EventWindows, world: World) -> tuple[Tensor, Tensor]:
    """Return windows as heads read them: frames of each latent behind the one before (B, F, T + 1, 3, H, W), codes."""
    every, count = world.spec.frames_per_latent, windows.there.shape[1]
    index = every * torch.arange(count)[:, None] + torch.arange(every + 1)
    flat = windows.track.map(lambda part: part.flatten(0, 1))
    codes = command_codes(flat, world.spec).unflatten(0, (-1, count))
    return pixels[:, index], codes
