"""What event heads say of recorded episodes, how it is to be read, and how far it is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

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


@torch.no_grad()
def read_heads(
    heads: Mapping[str, EventHead], episodes: Sequence[Episode], world: World
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return logits (N, K) and the truth (N,) of every latent of these episodes, each read from its start on."""
    found: dict[str, tuple[list[Tensor], list[Tensor]]] = {name: ([], []) for name in heads}
    device = next(next(iter(heads.values())).parameters()).device
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
                said, states[name] = head.step(head.features(head.see(pixels), codes), states[name])
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
    """Return number, F1, AUC and calibration of a head's events, and the mean error of rewards; NaN where undefined."""
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


def judge(heads: Mapping[str, EventHead], episodes: Sequence[Episode], world: World) -> dict[str, float]:
    """Return the scores of all heads on some episodes, by ``head_figure``."""
    return {
        f"{name}_{key}": value
        for name, (logits, truth) in read_heads(heads, episodes, world).items()
        for key, value in scores(heads[name], logits, truth).items()
    }
