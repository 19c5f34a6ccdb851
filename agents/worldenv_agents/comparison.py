"""Policies that are trained in several places and scored where it counts: leg by leg, going on where they stopped.

A policy is scored in the simulator and in imagination, on the same episodes, after each leg of its training: where what
was imagined goes on rising and what is real does not, it lives on the world's mistakes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from worldenv.base.config import check_counts, check_most, to_dict
from worldenv.base.files import save_text
from worldenv.base.lock import in_use
from worldenv.base.log import JsonlLog, Stopwatch, console

from .evaluate import check_episodes
from .ledger import register
from .policy import CHECKPOINT_FILE, LearnerConfig, TrainedPolicy, train
from .progress import steps_done
from .registry import find_policy
from .scoring import Acting, Places, Scorer

CURVE = "curve.jsonl"
MOST_LEGS = 1024
"""Of a training."""
MOST_NAME = 160
"""Characters of a policy's name, which its folder has, too."""
Metric = Literal["success", "return"]
ALWAYS = ("real", "length", "early", "imagined")
SCORES = (*ALWAYS, "success", "imagined_success")
"""What is kept of every episode; files of earlier versions lack what is not ``ALWAYS`` there."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Policies that are trained alike."""

    says: str
    """What they are, for the report."""
    learner: LearnerConfig
    """How and where they are trained; each has a seed of its own."""
    places: Places
    """Where they are scored."""

    @property
    def inside(self) -> bool:
        """Whether they are trained in what is generated."""
        return self.learner.environment.place != "sim"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared with what, and by what."""

    title: str
    """What it is about."""
    claim: str
    """What is expected of the first arm, said before anything is run."""
    metric: Metric
    """What decides: ``success`` or ``return``, in the simulator."""
    arms: Mapping[str, Arm]
    """By name; the first is compared with each of the others."""
    places: Places
    """Where policies are scored that are not trained."""
    baselines: Mapping[str, str] = field(default_factory=lambda: {"random": "random actions"})
    """Policies of the registry that need no training, ``random`` among them, and what they are."""
    margin: float = 0.0
    """Difference in ``metric`` within which two arms count as equal; 0 does not ask."""
    seeds: Sequence[int]
    """Of the policies of every arm."""
    legs: int
    """Parts of a training; a policy is scored after each."""
    leg_episodes: int
    """Episodes of such a score."""
    episodes: int
    """Episodes of the last score."""
    first_seed: int
    """Of the first episode; the others follow, the same for all."""
    num_envs: int
    """Envs of a score."""
    horizon: int | None = None
    """Steps of an imagined episode, to which a real one's first steps are compared; None is the task's limit."""
    likeliest: bool = False
    """Whether policies that were trained are scored by their likeliest actions, not as they explored."""
    videos: int = 0
    """Episodes that the videos of each arm's first policy show, one real and one imagined; 0 makes none."""


def run_comparison(
    asked: Comparison, out: Path, registered: Mapping[str, Any], *, plan: str, free: Sequence[str]
) -> None:
    """Train and score what was not yet, after ``registered`` has been written to ``plan``; what is ``free`` may grow.

    Raises:
        ValueError: for what cannot be run, before anything is written; or if ``out`` holds another comparison.
    """
    check(asked)
    with in_use(out), closing(Scorer(asked.num_envs, asked.first_seed, asked.horizon)) as scorer:
        register(out / plan, {**registered, "weights": _weights(asked)}, free=free)
        for seed in asked.seeds:  # every arm's first policy before any second one: a run cut short says something
            for name in asked.baselines:
                _score_baseline(asked, name, seed, folder_of(out, name, seed), scorer)
            for name, arm in asked.arms.items():
                _train_policy(asked, arm, seed, folder_of(out, name, seed), scorer)


def _weights(asked: Comparison) -> dict[str, str]:
    """Return the checksums of the worlds that are stepped: what was begun with other weights does not go on."""
    places = [place for arm in asked.arms.values() for place in (arm.learner.environment, *arm.places.all())]
    return {place.world: place.weights() for place in (*places, *asked.places.all()) if place.world is not None}


def check(asked: Comparison) -> None:
    """Refuse what cannot be run, by making each place with a single env.

    Raises:
        ValueError: naming the arm or the policy.
    """
    check_counts(legs=asked.legs, seeds=len(asked.seeds))
    check_most(asked, legs=MOST_LEGS)
    _check_names([*asked.baselines, *asked.arms])
    for count in (asked.leg_episodes, asked.episodes):
        check_episodes(episodes=count, num_envs=asked.num_envs, first_seed=asked.first_seed)
    with closing(Scorer(1, asked.first_seed, asked.horizon)) as scorer:
        for name in asked.baselines:
            with _naming(f"policy {name!r}"):
                acting = _baseline(name, 0)
                for place in asked.places.all():
                    acting.make(scorer.find(acting.adapt(place), 1))
        for name, arm in asked.arms.items():
            with _naming(f"arm {name!r}"):
                for seed in asked.seeds:
                    replace(arm.learner, seed=seed)
                for place in (arm.learner.environment, *arm.places.all()):
                    scorer.find(place, 1)


def _check_names(names: Sequence[str]) -> None:
    """Refuse, by a ValueError, names of policies that cannot have folders of their own."""
    folders: dict[str, str] = {}
    for name in names:
        folder = folder_of(Path(), name, 0).name
        if not 1 <= len(name) <= MOST_NAME or not name.isprintable():
            raise ValueError(f"arm {name[:40]!r}: a name is one line of 1 to {MOST_NAME} characters")
        if folder in folders:
            raise ValueError(f"arm {name!r}: its folder would be that of {folders[folder]!r}; call it something else")
        folders[folder] = name


@contextmanager
def _naming(what: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        said = str(error)
        raise ValueError(said if said.startswith(what) else f"{what}: {said}") from None


def folder_of(out: Path, name: str, seed: int) -> Path:
    """Return a policy's folder; names of policies may hold what names of folders should not."""
    return out / f"{''.join(c if c.isalnum() or c in '-_.' else '_' for c in name)}-{seed}"


def _baseline(name: str, seed: int) -> Acting:
    entry, argument = find_policy(name)
    return Acting(lambda place: entry.adapt(place, argument), lambda envs: entry.factory(envs, argument, seed))


def _score_baseline(asked: Comparison, name: str, seed: int, folder: Path, scorer: Scorer) -> None:
    """Score a policy that needs no training, unless that was done."""
    if read_curve(folder / CURVE):
        return
    with closing(Scorer(asked.num_envs, asked.first_seed, asked.horizon)) as own:  # it may act in other modes
        used = scorer if name == "random" else own
        scores = used.score(_baseline(name, seed), asked.places, asked.episodes, last=True)
    append(folder / CURVE, {"step": 0, "trained_s": 0.0, **scores})
    _tell(f"{name}, seed {seed}", scores)


def _train_policy(asked: Comparison, arm: Arm, seed: int, folder: Path, scorer: Scorer) -> None:
    """Train a policy leg by leg; score it after each that was not scored yet."""
    learner = replace(arm.learner, seed=seed)
    done = {line.get("leg") for line in read_curve(folder / CURVE)}
    for leg in (leg for leg in range(1, asked.legs + 1) if leg not in done):
        steps, last, watch = -(-learner.steps * leg // asked.legs), leg == asked.legs, Stopwatch()
        before = _steps_of(folder, learner)
        policy = train(replace(learner, steps=steps), out=folder, progress=True, resume=True)
        trained = {"trained_s": watch.seconds(), "decisions": _steps_of(folder, learner) - before}
        acting = Acting(lambda place: place, _acting(policy, learner, likeliest=asked.likeliest))
        scores = scorer.score(acting, arm.places, asked.episodes if last else asked.leg_episodes, last=last)
        if last and asked.videos and seed == asked.seeds[0]:
            scorer.film(acting, arm.places, asked.videos, folder)
        append(folder / CURVE, {"leg": leg, "step": steps, **trained, **scores})
        _tell(f"{folder.name} after {steps} steps", scores)


def _acting(policy: TrainedPolicy, learner: LearnerConfig, *, likeliest: bool) -> Callable[[Any], TrainedPolicy]:
    """Return what makes a policy that acts likeliest, or as it explored, its random numbers the same in every place."""
    return lambda envs: TrainedPolicy(policy.network, learner, deterministic=likeliest, seed=learner.seed)


def _steps_of(folder: Path, learner: LearnerConfig) -> int:
    return steps_done(folder / CHECKPOINT_FILE, to_dict(learner), resume=True)


def read_curve(path: Path) -> list[dict[str, Any]]:
    """Read what a policy was scored after each of its legs; nothing if it was not yet.

    Raises:
        ValueError: naming the line that is no score.
    """
    lines = JsonlLog.read(path)
    for number, line in enumerate(lines, 1):
        told = [[line.get("step")], [line.get("trained_s")], *(line.get(name) or [None] for name in ALWAYS)]
        told += [line[name] for name in SCORES if name in line]
        if not all(isinstance(some, list) and all(isinstance(x, int | float) for x in some) for some in told):
            raise ValueError(f"{path}: line {number} is no score of a policy; the file was damaged or edited")
    return lines


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to a file of them, all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_text(path, "".join(json.dumps(one) + "\n" for one in [*read_curve(path), line]))


def _tell(what: str, scores: Mapping[str, Any]) -> None:
    means = {name: float(np.mean(scores[name])) for name in ("real", "success", "imagined", "imagined_success")}
    console.print(
        f"{what}: real {means['real']:.2f}, success {means['success']:.0%}; imagined {means['imagined']:.2f}, "
        f"{means['imagined_success']:.0%}"
    )
