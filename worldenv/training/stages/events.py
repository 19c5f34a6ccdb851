"""Stage ``heads``, of what happens: reward and end, learned from recorded episodes and from what the VAE makes of them.

Rare events are drawn more often and count more; what a head then says is calibrated, and the threshold from which it
says yes chosen, on clips that it did not learn from, and both are judged on further ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...base.classify import auc, best_threshold, calibration_error, f1_score, platt
from ...base.device import resolve_device
from ...base.log import console
from ...base.rng import derive_seed
from ...data.events import Episode, EventWindows, read_episodes, windows_of
from ...models.codec import to_pixels
from ...models.heads import EventConfig, EventHead
from ...models.heads.event import command_codes, num_codes, symlog
from ...world.world import World
from ..augment import AugmentConfig, degrade, round_trip
from ..loop.optim import OptimConfig

BATCH = 64
"""Episodes that are read together where nothing is learned."""


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
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(untouched=0.5))
    """What else is done to the frames."""


class EventsStage:
    """Trains a world's event heads; everything else of it stays as it is.

    Held-out clips are shared by turns: thresholds are chosen on the even ones, and judged on the others. Without them
    a fifth of the recording is held out.
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
        generator = torch.Generator().manual_seed(derive_seed(optim.seed, "decoded"))
        noisy = partial(round_trip, world.vae, noise=config.latent_noise, generator=generator)
        plain = partial(round_trip, world.vae)
        read = partial(read_episodes, spec=world.spec)
        episodes, decoded = (read(data, max_clips=max_clips, through=through) for through in (None, noisy))
        kept = [heldout is not None or one.clip % 5 < 3 for one in episodes]
        self.pairs = [pair for pair, keep in zip(zip(episodes, decoded, strict=True), kept, strict=True) if keep]
        left = data if heldout is None else heldout
        views = {"truth": read(left, max_clips=max_clips), "vae": read(left, max_clips=max_clips, through=plain)}
        self.splits = {
            (name, part): [one for one in view if (one.clip % 5 == 3 + part if heldout is None else one.clip % 2 == part)]
            for name, view in views.items()
            for part in (0, 1)
        }
        if not all((self.pairs, *self.splits.values())):
            raise ValueError(f"{left} has too few clips to hold some out; record 10 or more, or pass --heldout")
        self.heads = self._make_heads()
        self.module = nn.ModuleDict(self.heads)
        self.rare = {name: self._places(name) for name in self.heads}
        self.weights = {name: self._weight(name) for name in self.heads}

    def _make_heads(self) -> dict[str, EventHead]:
        """Make fresh heads of the sizes that the recording asks for, and give them to the world."""
        largest = max(float(one.reward.abs().max()) for one, _ in self.pairs)
        filled = {"num_codes": num_codes(self.spec), "num_frames": self.spec.frames_per_latent}
        asked = {"reward": self.config.reward, "terminated": self.config.terminated}
        configs = {name: replace(config, **filled) for name, config in asked.items()}
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
        self.world.config = replace(self.world.config, heads=replace(self.world.config.heads, **dict(configs)))

    def _places(self, name: str) -> list[tuple[int, int]]:
        """Return (episode, latent) of every event."""
        return [
            (i, int(at))
            for i, (episode, _) in enumerate(self.pairs)
            for at in _truth(episode, name).nonzero().flatten()
        ]

    def _weight(self, name: str) -> float:
        """Return how much an event counts, where none counts 1."""
        events, total = len(self.rare[name]), sum(len(episode) for episode, _ in self.pairs)
        if not events or events == total:
            return 1.0
        return min(self.config.most_weight, max(1.0, math.sqrt((total - events) / events)))

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the heads' cross-entropies on a batch of windows."""
        places = [self._place(generator) for _ in range(self.optim.batch)]
        decoded = torch.rand(self.optim.batch, generator=generator) < self.config.decoded
        episodes = [self.pairs[i][int(d)] for (i, _), d in zip(places, decoded.tolist(), strict=True)]
        windows = windows_of(episodes, [at for _, at in places], self.config.num_latents)
        pixels = degrade(to_pixels(windows.frames), self.config.augment, generator)
        total, figures = torch.zeros(()), {}
        device = next(self.module.parameters()).device
        seen, codes = _as_read(pixels, windows, self.world)
        there = windows.there.flatten()
        for name, head in self.heads.items():
            logits = head(seen.to(device), codes.to(device)).flatten(0, 1)[there.to(device)]
            truth = windows.events[name].flatten()[there].to(device)
            error = head.error(logits, truth, event_weight=self.weights[name])
            total, figures[f"{name}_loss"] = total.to(device) + error, float(error.detach())
        return total, figures

    def _place(self, generator: torch.Generator) -> tuple[int, int]:
        """Draw an episode and the first latent of a window of it, by its length, or by what happens in it."""
        names = [name for name, places in self.rare.items() if places]
        if names and float(torch.rand((), generator=generator)) < self.config.eventful:
            places = self.rare[names[_draw(len(names), generator)]]
            episode, at = places[_draw(len(places), generator)]
            return episode, max(0, at - _draw(self.config.num_latents, generator))
        lengths = torch.tensor([float(len(episode)) for episode, _ in self.pairs])
        episode = int(torch.multinomial(lengths, 1, generator=generator))
        return episode, _draw(max(1, len(self.pairs[episode][0]) - self.config.num_latents + 1), generator)

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Choose thresholds as at the end, and say how good they are on the other clips, true and decoded."""
        self.choose_thresholds()
        figures: dict[str, float] = {}
        for view in ("truth", "vae"):
            judged = judge(self.heads, self.splits[view, 1], self.world)
            figures |= {f"{key}_{view}": value for key, value in judged.items() if math.isfinite(value)}
        return figures

    @torch.no_grad()
    def choose_thresholds(self) -> None:
        """Calibrate every head and choose its threshold on the clips that are for that, true and decoded."""
        some = [*self.splits["truth", 0], *self.splits["vae", 0]]
        self._note_configs({name: chosen(head, *read_heads({name: head}, some, self.world)[name]) for name, head in self.heads.items()})

    def finish(self) -> None:
        """Choose thresholds for the weights that are kept, and say what they are."""
        self.choose_thresholds()
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


@torch.no_grad()
def read_heads(
    heads: Mapping[str, EventHead], episodes: list[Episode], world: World
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return logits (N, K) and the truth (N,) of every latent of these episodes, each read from its start on."""
    found: dict[str, tuple[list[Tensor], list[Tensor]]] = {name: ([], []) for name in heads}
    device = next(iter(heads.values())).out[0].weight.device
    ordered = sorted(episodes, key=len)
    for first in range(0, len(ordered), BATCH):
        some = ordered[first : first + BATCH]
        windows = windows_of(some, [0] * len(some), len(some[-1]))
        there = windows.there.flatten()
        states = {name: torch.zeros(len(some), head.config.hidden, device=device) for name, head in heads.items()}
        logits: dict[str, list[Tensor]] = {name: [] for name in heads}
        every = world.spec.frames_per_latent
        for i in range(windows.there.shape[1]):  # a latent at a time: whole episodes of pixels are too many
            pixels = to_pixels(windows.frames[:, i * every : (i + 1) * every + 1]).to(device)
            codes = command_codes(windows.track.at((slice(None), i)), world.spec).to(device)
            for name, head in heads.items():
                said, states[name] = head.step(head.features(pixels, codes), states[name])
                logits[name].append(said.cpu())
        for name in heads:
            found[name][0].append(torch.stack(logits[name], 1).flatten(0, 1)[there])
            found[name][1].append(windows.events[name].flatten()[there])
    return {name: (torch.cat(said), torch.cat(truth)) for name, (said, truth) in found.items()}


def chosen(
    head: EventHead,
    logits: Tensor,  # (N, K)
    truth: Tensor,  # (N,)
) -> EventConfig:
    """Return how what a head says is to be read: calibrated, with the threshold of the best F1.

    Rewards that are hardly ever 0 have no events: they are given as expected, without a threshold.
    """
    happened = truth != 0
    if head.config.output != "logit" and bool(happened.float().mean() > 0.5):
        return replace(head.config, scale=1.0, shift=0.0, threshold=0.0)
    scale, shift = platt(head.evidence(logits), happened)
    probability = (scale * head.evidence(logits) + shift).sigmoid().double().numpy()
    return replace(head.config, scale=scale, shift=shift, threshold=best_threshold(probability, happened.numpy()))


def scores(
    head: EventHead,
    logits: Tensor,  # (N, K)
    truth: Tensor,  # (N,)
) -> dict[str, float]:
    """Return F1, AUC and calibration of a head's events, their number, and of rewards the mean error; NaN: undefined."""
    happened, said = (truth != 0).numpy(), head.decide(logits)
    probability = head.probability(logits).double().numpy()
    figures: dict[str, float] = {
        "events": float(happened.sum()),
        "f1": f1_score((said != 0).numpy(), happened),
        "auc": auc(probability, happened),
        "ece": calibration_error(probability, happened),
    }
    if head.config.output != "logit":
        wanted = truth.sign() if head.config.output == "signs" else truth
        figures["error"] = float((said - wanted).abs().mean())
    return figures


def judge(heads: Mapping[str, EventHead], episodes: list[Episode], world: World) -> dict[str, Any]:
    """Return the scores of all heads on some episodes, by ``head_figure``."""
    return {
        f"{name}_{key}": value
        for name, (logits, truth) in read_heads(heads, episodes, world).items()
        for key, value in scores(heads[name], logits, truth).items()
    }
