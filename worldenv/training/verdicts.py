"""What event heads say of recorded episodes, how it is to be read, and how far it is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..base.classify import auc, best_threshold, calibration_error, f1_score, platt
from ..data.events import Episode, windows_of
from ..models.codec import to_pixels
from ..models.heads import EventConfig, EventHead
from ..models.heads.event import command_codes
from ..world.world import World

BATCH = 64
"""Episodes that are read together."""
LEAST_F1, LEAST_GAIN = 0.5, 0.05
"""A head whose best F1 is less, or hardly above that of always yes, cannot tell: it would end every episode at once."""
Said = list[tuple[Tensor, Tensor]]
"""Of every episode logits (L, K) and the truth (L,)."""


@torch.no_grad()
def read_heads(heads: Mapping[str, EventHead], episodes: Sequence[Episode], world: World) -> dict[str, Said]:
    """Return what heads say of every latent of these episodes, each read from its start on, and what is true."""
    found: dict[str, list[tuple[Tensor, Tensor] | None]] = {name: [None] * len(episodes) for name in heads}
    order = sorted(range(len(episodes)), key=lambda i: len(episodes[i]))  # of equal lengths: little is padded
    for first in range(0, len(order), BATCH):
        chosen_ones = order[first : first + BATCH]
        some = [episodes[i] for i in chosen_ones]
        for name, logits in _read(heads, some, world).items():
            for i, episode, row in zip(chosen_ones, some, logits, strict=True):
                truth = episode.reward if name == "reward" else episode.terminated
                found[name][i] = (row[: len(episode)], truth)
    return {name: [one for one in said if one is not None] for name, said in found.items()}


def _read(heads: Mapping[str, EventHead], episodes: list[Episode], world: World) -> dict[str, Tensor]:
    """Return the logits of some episodes, padded to the longest, (N, L, K): latent by latent, to save memory."""
    windows, every = windows_of(episodes, [0] * len(episodes), len(episodes[-1])), world.spec.frames_per_latent
    device = next(next(iter(heads.values())).parameters()).device
    states = {name: torch.zeros(len(episodes), head.config.hidden, device=device) for name, head in heads.items()}
    logits: dict[str, list[Tensor]] = {name: [] for name in heads}
    for i in range(windows.there.shape[1]):
        pixels = to_pixels(windows.frames[:, i * every : (i + 1) * every + 1]).to(device)
        codes = command_codes(windows.track.at((slice(None), i)), world.spec).to(device)
        for name, head in heads.items():
            said, states[name] = head.step(head.features(head.see(pixels), codes), states[name])
            logits[name].append(said.cpu())
    return {name: torch.stack(parts, 1) for name, parts in logits.items()}


def pooled(said: Said) -> tuple[Tensor, Tensor]:
    """Return logits (N, K) and the truth (N,) of all latents of all episodes."""
    return torch.cat([logits for logits, _ in said]), torch.cat([truth for _, truth in said])


def chosen(
    head: EventHead,
    logits: Tensor,  # (N, K)
    truth: Tensor,  # (N,)
) -> EventConfig:
    """Return how what a head says is to be read: calibrated, with the threshold of the best F1.

    Of a head that cannot tell events nothing counts but what it is sure of. Rewards that are hardly ever 0 have no
    events: they are given as expected, without a threshold.
    """
    happened = truth != 0
    if head.config.output != "logit" and bool(happened.float().mean() > 0.5):
        return replace(head.config, scale=1.0, shift=0.0, threshold=0.0)
    scale, shift = platt(head.evidence(logits), happened)
    probability, truly = (scale * head.evidence(logits) + shift).sigmoid().double().numpy(), happened.numpy()
    threshold = best_threshold(probability, truly)
    always = f1_score(np.ones_like(truly), truly)
    tells = f1_score(probability >= threshold, truly) >= max(LEAST_F1, always + LEAST_GAIN)
    return replace(head.config, scale=scale, shift=shift, threshold=threshold if tells else 0.5)


def wrong_by(
    head: EventHead,
    logits: Tensor,  # (N, K)
    truth: Tensor,  # (N,)
) -> Tensor:
    """Return how far each reward is off, or 1 where an end was missed or invented; (N,) float32."""
    wanted = truth.sign() if head.config.output == "signs" else truth.float()
    return (head.decide(logits).float() - wanted).abs()


def scores(
    head: EventHead,
    logits: Tensor,  # (N, K)
    truth: Tensor,  # (N,)
) -> dict[str, float]:
    """Return number, F1, AUC and calibration of a head's events, and its mean error; NaN where undefined."""
    happened, probability = (truth != 0).numpy(), head.probability(logits).double().numpy()
    return {
        "events": float(happened.sum()),
        "f1": f1_score((head.decide(logits) != 0).numpy(), happened),
        "auc": auc(probability, happened),
        "ece": calibration_error(probability, happened),
        "error": float(wrong_by(head, logits, truth).mean()),
    }


def judge(heads: Mapping[str, EventHead], episodes: Sequence[Episode], world: World) -> dict[str, float]:
    """Return the scores of all heads on some episodes, by ``head_figure``."""
    return {
        f"{name}_{key}": value
        for name, said in read_heads(heads, episodes, world).items()
        for key, value in scores(heads[name], *pooled(said)).items()
    }
