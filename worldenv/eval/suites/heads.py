"""Suite ``heads``: are reward and end right, on held-out frames as they are, decoded, and as the world makes them?

Every held-out episode is cut into stretches. The world makes each of them from the true history before it, by what was
commanded; heads read the same history and then the stretch: true, decoded, made. What they say of it is compared with
what happened. Where the world itself goes wrong (a goal that is not there) no head can be right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...base.classify import auc, calibration_error, f1_score
from ...base.log import Stopwatch, console, track
from ...base.rng import derive_seed
from ...data.events import Episode, read_episodes
from ...data.schema import shard_config, shard_paths
from ...dynamics.protocol import Chunk
from ...dynamics.signals import Track
from ...engine.engine import Engine
from ...models.heads import EVENTS, EventHead
from ...training.augment import round_trip
from ...training.verdicts import Said, read_heads, wrong_by
from ...world.config import DoubtConfig
from ...world.world import World
from ..image import Array, frame_psnr
from ..report.document import write_report
from ..report.statistics import Estimate, draw_weights
from .doubt import Doubts, picture_error

PROTOCOL = "heads-v1"
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
STRETCH, HISTORY = 32, 64
"""Frames of a stretch, and at most those before it; rounded up to whole chunks."""
NUM_CLIPS, BATCH, NUM_BINS = 32, 16, 256


@dataclass(frozen=True)
class Stretch:
    """A stretch of an episode behind its history."""

    episode: Episode  # both of them
    given: int  # latents of history behind its first frame


def run_heads(
    world: World, out: Path, *, recording: Path, num_worlds: int | None = None, first_seed: int | None = None
) -> None:
    """Judge a world's event heads on ``num_worlds`` clips of a recording, the first of which is ``first_seed``.

    Raises:
        ValueError: if the recording says nothing of rewards, or the world has no such head.
    """
    heads = {name: head for name in EVENTS if isinstance(head := world.heads.get(name), EventHead)}
    if not heads:
        raise ValueError(f"world {world.config.name!r} has no head {' or '.join(EVENTS)}; see `worldenv train heads`")
    first, count = first_seed or 0, num_worlds or NUM_CLIPS
    episodes = [one for one in read_episodes(recording, world.spec, max_clips=first + count) if one.clip >= first]
    cases, watch = [case for one in episodes for case in stretches(one, world)], Stopwatch()
    continued, doubts = made(world, cases)
    views = {"truth": cases, "vae": [_decoded(world, case) for case in cases], "world": continued}
    seeds = [case.episode.clip for case in cases]
    weights = draw_weights([np.asarray(seeds)])
    arms: dict[str, dict[str, Array]] = {}
    figures: dict[str, dict[str, Estimate]] = defaultdict(dict)
    skipped: dict[str, str] = {}
    for arm, view in views.items():
        told = read_heads(heads, [case.episode for case in view], world)
        judged = {name: _Judged.of(heads[name], said, cases) for name, said in told.items()}
        arms[arm] = {f"{name}_error": one.error for name, one in judged.items()}
        arms[arm]["psnr"] = np.asarray([_psnr(a, b, world) for a, b in zip(view, cases, strict=True)])
        for name, one in judged.items():
            for key, figure in one.figures(weights).items():
                if np.isnan(figure.value):
                    skipped[f"{name}_{key}"] = "none of these events happened in the recording"
                else:
                    figures[arm][f"{name}_{key}"] = figure
    if doubts.signals:
        even = doubts.part(np.asarray(seeds)[doubts.case] % 2 == 0)
        reading = even.measured() if len(even.case) else world.config.doubt
        for key, figure in doubts.part(np.asarray(seeds)[doubts.case] % 2 == 1).figures(reading, weights).items():
            if np.isnan(figure.value):
                skipped[key] = "it never changes here"
            else:
                figures["world"][key] = figure
    config = shard_config(shard_paths(recording)[0])
    report = write_report(
        out / "report.json",
        suite="heads",
        protocol=PROTOCOL,
        world=world.identity(),
        seeds=seeds,
        arms=arms,
        figures=figures,
        skipped=skipped,
        timing={"seconds": watch.seconds()},
        recording={"env": config.get("env", ""), "clips": count, "episodes": len(episodes)},
        events={name: sum(int((_truth(c, name) != 0).sum()) for c in cases) for name in heads},
    )
    _print(report)


def stretches(episode: Episode, world: World) -> list[Stretch]:
    """Cut an episode into stretches with their histories; what is left at its end is shorter."""
    chunk, every = world.spec.chunk_latents, world.spec.frames_per_latent
    length, before = (chunk * -(-frames // world.spec.chunk_frames) for frames in (STRETCH, HISTORY))
    found = []
    for start in range(0, len(episode), length):
        begin, end = max(0, start - before), min(start + length, len(episode))
        part = replace(
            episode,
            frames=episode.frames[every * begin : every * end + 1],
            track=episode.track.at(slice(begin, end)),
            reward=episode.reward[begin:end],
            terminated=episode.terminated[begin:end],
        )
        found.append(Stretch(part, start - begin))
    return found


def made(world: World, cases: list[Stretch]) -> tuple[list[Stretch], Doubts]:
    """Return the stretches as the world makes them of their histories, what came before as it was, and its doubts."""
    groups: dict[int, list[int]] = defaultdict(list)
    for i, case in enumerate(cases):
        groups[case.given].append(i)
    batches = [group[i : i + BATCH] for group in groups.values() for i in range(0, len(group), BATCH)]
    result, doubts = list(cases), []
    for batch in track(batches, "stretches", total=len(batches)):
        continued, told = _continued(world, [cases[i] for i in batch])
        for i, frames in zip(batch, continued, strict=True):
            result[i] = replace(cases[i], episode=replace(cases[i].episode, frames=frames))
        doubts += [(batch[row], age, signs, pictures, reward) for row, age, signs, pictures, reward in told]
    return result, Doubts.of(doubts)


def measure_doubt(world: World, recording: Path, *, num_clips: int) -> DoubtConfig:
    """Return what a world's signs of doubt are on the even clips of a held-out recording: how they are to be read."""
    episodes = [one for one in read_episodes(recording, world.spec, max_clips=num_clips) if one.clip % 2 == 0]
    doubts = made(world, [case for one in episodes for case in stretches(one, world)])[1]
    return doubts.measured() if doubts.signals else world.config.doubt


def _continued(
    world: World, cases: list[Stretch]
) -> tuple[list[Tensor], list[tuple[int, int, dict[str, float], float, float]]]:
    """Go on from histories of equal length, (T, H, W, 3) uint8 each, history and stretch; and tell of every chunk its
    row, its age, signs of doubt, and what is wrong with its frames and its reward.
    """
    given, every, chunk = cases[0].given, world.spec.frames_per_latent, world.spec.chunk_latents
    longest = max(len(case.episode) for case in cases) - given
    index = torch.arange(given + chunk * -(-longest // chunk))
    whole = [case.episode.track.at(index.clamp(max=len(case.episode) - 1)) for case in cases]
    commands = Track({name: torch.stack([one[name] for one in whole]) for name in world.spec.takes})
    clips = torch.stack([case.episode.frames[: 1 + every * given] for case in cases])
    engine = Engine(world, len(cases), doubts=not world.config.sampler.rolling)
    still = engine.spec.still(1).at(0)
    led = [case.episode.history(0, given, still) for case in cases]
    before = Track({name: torch.stack([one[name] for one in led]) for name in commands})
    engine.resume(clips, before, seeds=[derive_seed(PROTOCOL, case.episode.clip, given) for case in cases])
    parts, told = [], []
    for age, step in enumerate(commands.part(slice(given, None)).split(chunk)):
        made_now = engine.step(step)
        parts.append(made_now.frames)
        told += _compared(engine, cases, made_now, age)
    frames = torch.cat([clips, *parts], 1)
    return [row[: len(case.episode.frames)] for row, case in zip(frames, cases, strict=True)], told


def _compared(
    engine: Engine, cases: list[Stretch], chunk: Chunk, age: int
) -> list[tuple[int, int, dict[str, float], float, float]]:
    """Compare a chunk with what happened, in the rows whose stretch is so long."""
    spec, signals = engine.spec, engine.doubt_signals() if engine.doubts else {}
    first = cases[0].given + age * spec.chunk_latents
    rows = [i for i, case in enumerate(cases) if first + spec.chunk_latents <= len(case.episode)]
    if not rows:
        return []
    shown = slice(1 + spec.frames_per_latent * first, 1 + spec.frames_per_latent * (first + spec.chunk_latents))
    wrong = picture_error(chunk.frames[rows], torch.stack([cases[i].episode.frames[shown] for i in rows]))
    told = []
    for i, pictures in zip(rows, wrong, strict=True):
        signs = {name: float(part[i]) for name, part in signals.items()}
        earned = float(cases[i].episode.reward[first : first + spec.chunk_latents].sum())
        reward = abs(float(chunk.signals["reward"][i].sum()) - earned) if "reward" in chunk.signals else 0.0
        told.append((i, age, signs, pictures, reward))
    return told


def _decoded(world: World, case: Stretch) -> Stretch:
    return replace(case, episode=replace(case.episode, frames=round_trip(world.vae, case.episode.frames)))


def _psnr(a: Stretch, b: Stretch, world: World) -> float:
    """Return the PSNR of a stretch without its history."""
    some = slice(1 + world.spec.frames_per_latent * a.given, None)
    return float(frame_psnr(a.episode.frames[None, some], b.episode.frames[None, some]).mean())


def _truth(case: Stretch, name: str) -> Tensor:
    """Return what happened in a stretch, (L,)."""
    return (case.episode.reward if name == "reward" else case.episode.terminated)[case.given :]


@dataclass(frozen=True)
class _Judged:
    """What one head said of all stretches, and what was true."""

    error: Array  # (N,) mean error of each stretch
    case: Numbers  # (M,) the stretch of each latent
    probability: Array  # (M,)
    found: Flags  # (M,)
    truth: Flags  # (M,)

    @classmethod
    def of(cls, head: EventHead, said: Said, cases: list[Stretch]) -> _Judged:
        cut = [(logits[c.given :], truth[c.given :]) for (logits, truth), c in zip(said, cases, strict=True)]
        logits, truth = torch.cat([one for one, _ in cut]), torch.cat([one for _, one in cut])
        return cls(
            error=np.asarray([float(wrong_by(head, *one).mean()) for one in cut]),
            case=np.repeat(np.arange(len(cut)), [len(one) for _, one in cut]),
            probability=head.probability(logits).double().numpy(),
            found=(head.decide(logits) != 0).numpy(),
            truth=(truth != 0).numpy(),
        )

    def figures(
        self,
        weights: Array,  # (K, N) how often each stretch counts in each draw
    ) -> dict[str, Estimate]:
        """Return F1, AUC and calibration over all latents, with what they are in resampled sets of stretches."""
        count = weights.shape[1]
        with np.errstate(invalid="ignore", divide="ignore"):  # draws without an event have none of them
            draws = {"f1": self._f1(weights), "auc": self._auc(weights), "ece": self._ece(weights)}
        values = {
            "f1": f1_score(self.found, self.truth),
            "auc": auc(self.probability, self.truth),
            "ece": calibration_error(self.probability, self.truth),
        }
        return {key: Estimate(value, draws[key], count) for key, value in values.items()}

    def _f1(self, weights: Array) -> Array:
        right = self.found & self.truth
        wrong = self.found != self.truth
        a, b = (weights @ np.bincount(self.case, part, len(self.error)) for part in (right, wrong))
        result: Array = 2 * a / (2 * a + b)
        return result

    def _counts(self, place: Numbers, values: Array, bins: int) -> Array:
        """Sum values of latents by stretch and bin, (N, bins)."""
        flat = np.bincount(self.case * bins + place, values, len(self.error) * bins)
        return flat.reshape(-1, bins).astype(np.float64)

    def _auc(self, weights: Array) -> Array:
        """Return areas from histograms over quantiles of the probability: ties within one count half."""
        edges = np.unique(np.quantile(self.probability, np.linspace(0, 1, NUM_BINS + 1)[1:-1]))
        place, bins = np.searchsorted(edges, self.probability, side="right"), len(edges) + 1
        events = weights @ self._counts(place, self.truth.astype(float), bins)
        others = weights @ self._counts(place, (~self.truth).astype(float), bins)
        below = others.cumsum(1) - others / 2
        result: Array = (events * below).sum(1) / (events.sum(1) * others.sum(1))
        return result

    def _ece(self, weights: Array, bins: int = 15) -> Array:
        place = np.minimum((self.probability * bins).astype(int), bins - 1)
        gap = weights @ self._counts(place, self.probability - self.truth, bins)
        result: Array = np.abs(gap).sum(1) / (weights @ self._counts(place, np.ones(len(place)), bins)).sum(1)
        return result


def _print(report: Mapping[str, Any]) -> None:
    """Print a line for each arm."""
    console.print("events: " + ", ".join(f"{count} {name}" for name, count in report["events"].items()))
    for arm, metrics in report["arms"].items():
        console.print(f"{arm:>8}  " + "  ".join(f"{key} {value['mean']:.3f}" for key, value in metrics.items()))
