"""What an agent gains from a world: PPO trained inside it alone, scored in the environment it was recorded from.

Beside it the same PPO on as many real frames as the world was made of, PPO that sees nothing, and chance. Every run is
trained leg by leg and scored after each, in the environment and in the world: where what was imagined goes on rising
and what is real does not, the policy lives on the world's mistakes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium.vector import VectorEnv

from worldenv.base.config import check_numbers, difference, to_dict
from worldenv.base.documents import read_table
from worldenv.base.files import save_text
from worldenv.base.lock import in_use
from worldenv.base.log import Stopwatch, console

from .base import Policy
from .environments import Blank, EnvConfig, make_envs
from .evaluate import Scores, evaluate
from .gain_report import CURVE, read_curve, write_gain
from .learners import config_class
from .policy import LearnerConfig, TrainedPolicy, train
from .ppo import PPOConfig
from .random_agent import RandomPolicy

Envs = VectorEnv[Any, Any, Any]
Arm = Literal["world", "imagination", "real", "blank", "simulator"]
TEST_SEED = 700_000
"""Of the first episode that policies are scored on; recordings begin at others."""
FEWER_ENVS = 4
"""Envs of the arm ``real``: its frames are few, and in few envs they are enough for some updates."""
PLAN = "gain.json"
SHARED = ("environment", "num_envs", "steps", "gamma", "features", "hidden", "seed", "device")
"""Settings of PPO's that another learner takes over."""


def default_learner() -> PPOConfig:
    """Return how PPO learns in the world of an environment, unless it is told otherwise."""
    return PPOConfig(
        environment=EnvConfig(env="worldenv/World-v0", obs_mode="stack", horizon=32),
        steps=100_000,
        rollout=64,
        minibatch=256,
        epochs=4,
        gamma=0.99,
        scale_rewards=True,
    )


@dataclass(frozen=True, kw_only=True)
class GainConfig:
    """What is compared with what."""

    learner: PPOConfig = field(default_factory=default_learner)
    """How PPO learns, and where. ``horizon`` is how long an imagined episode is, from a recorded moment on; ``steps``
    are decisions inside the world; policies have the seeds from ``seed`` on."""
    seeds: int = 3
    """Policies of each arm."""
    arms: tuple[Arm, ...] = ("world", "real", "blank")
    """Beside chance: ``world`` (trained inside alone), ``imagination`` (as many decisions there, by the actor-critic of
    short imagined episodes, whose own settings are its defaults), ``real`` (in the environment, on as many frames as
    the world was made of), ``blank`` (as ``world``, seeing nothing), ``simulator`` (in the environment, as many steps
    as ``world``)."""
    real_frames: int | None = None
    """Frames that the world was made of; by default what `worldenv make` noted beside it."""
    legs: int = 5
    """Parts of a training; a policy is scored after each."""
    leg_episodes: int = 8
    """Episodes of such a score."""
    episodes: int = 32
    """Episodes of the last score."""

    def __post_init__(self) -> None:
        check_numbers(self, counts=("seeds", "legs", "leg_episodes", "episodes"))
        if self.learner.environment.env != "worldenv/World-v0" or self.learner.environment.dynamics is not None:
            raise ValueError("gain is of worlds of recorded environments; leave --env and --dynamics out")
        if self.learner.environment.horizon is None:
            raise ValueError("gain compares what is earned in so many steps; pass --horizon")


def gain(config: GainConfig, out: Path) -> dict[str, Any]:
    """Train and score every arm, write report and curves to ``out``, and return the report; what is done stays.

    Raises:
        ValueError: if ``out`` holds another comparison, or the world is of no environment.
    """
    if config.real_frames is None:
        config = replace(config, real_frames=frames_of(config.learner.environment.world))
    seeds = [config.learner.seed + i for i in range(config.seeds)]
    with in_use(out), _scorer(config) as scorer:
        _claim(out, config)
        for seed in seeds:  # every arm's first policy before any second one: a run that is cut short says something
            _chance(out / f"random-{seed}", seed, scorer)
            for arm in config.arms:
                learner = learner_of(config, arm, seed, frames=scorer.chunk_frames)
                _run(learner, config.legs, out / f"{arm}-{seed}", scorer)
    return write_gain(out, to_dict(config), arms=("random", *config.arms), seeds=seeds)


def frames_of(world: str) -> int:
    """Return how many frames a world was made of, as ``worldenv make`` noted it.

    Raises:
        ValueError: if it did not.
    """
    path = Path(world).parent / "make.json"
    if not path.is_file():
        raise ValueError(f"{path} does not say how many frames {world} was made of; pass --real-frames")
    asked = read_table(path).get("asked")
    frames = asked.get("frames") if isinstance(asked, dict) else None
    if type(frames) is not int or frames < 1:
        raise ValueError(f"{path}: asked.frames is {str(frames)[:40]}, no number of frames; pass --real-frames")
    return frames


def learner_of(config: GainConfig, arm: str, seed: int, *, frames: int) -> LearnerConfig:
    """Return how a policy of an arm is trained, where a step is so many frames."""
    learner = replace(config.learner, seed=seed)
    if arm == "world":
        return learner
    if arm == "imagination":
        shared = {name: getattr(learner, name) for name in SHARED}
        inside: LearnerConfig = config_class(arm)(**shared)
        return inside
    if arm == "blank":
        return replace(learner, environment=replace(learner.environment, blank=True))
    learner = replace(learner, environment=replace(learner.environment, dynamics="sim"))
    if arm == "simulator":
        return learner
    assert config.real_frames is not None
    return replace(learner, num_envs=min(FEWER_ENVS, learner.num_envs), steps=max(1, config.real_frames // frames))


def _claim(out: Path, config: GainConfig) -> None:
    """Write what is compared, or check that it is what was; arms and seeds may be more.

    Raises:
        ValueError: if something else was.
    """
    path, wanted = out / PLAN, json.loads(json.dumps(to_dict(config)))
    if path.is_file():
        free = ("seeds", "arms")
        written = read_table(path)
        changed = difference(*({k: v for k, v in one.items() if k not in free} for one in (written, wanted)))
        if changed is not None:
            raise ValueError(f"{out} was begun with another {changed}; use the same, or another --out")
    save_text(path, json.dumps(wanted, indent=1))


class _Scorer:
    """Scores policies in the environment, whole episodes, and in the world, up to the horizon."""

    def __init__(self, config: GainConfig, real: Envs, inside: Envs) -> None:
        self.config, self.real, self.inside = config, real, inside
        self.horizon = config.learner.environment.horizon

    def score(self, policy: Policy, *, blank: bool, last: bool) -> dict[str, Any]:
        """Return returns of episodes: ``real`` of whole ones, ``early`` and ``imagined`` of their first steps."""
        count, watch = self.config.episodes if last else self.config.leg_episodes, Stopwatch()
        real, inside = (Blank(envs) if blank else envs for envs in (self.real, self.inside))
        outside = self._evaluate(policy, real, count)
        imagined = self._evaluate(policy, inside, count)
        lists = {
            "real": outside.returns,
            "length": outside.lengths,
            "early": outside.rewards[:, : self.horizon].sum(1),
            "imagined": imagined.returns,
        }
        return {**{name: np.round(part, 4).tolist() for name, part in lists.items()}, "scored_s": watch.seconds()}

    def _evaluate(self, policy: Policy, envs: Envs, episodes: int) -> Scores:
        return evaluate(policy, envs, episodes=episodes, first_seed=TEST_SEED)

    @property
    def chunk_frames(self) -> int:
        """Frames of a step."""
        return int(self.real.unwrapped.core.spec.chunk_frames)  # type: ignore[attr-defined]


@contextmanager
def _scorer(config: GainConfig) -> Iterator[_Scorer]:
    environment, count = config.learner.environment, config.learner.num_envs
    limit = replace(environment, horizon=None, pessimism=None, max_episode_steps=environment.horizon)
    inside = make_envs(limit, min(count, max(config.leg_episodes, 1)))
    real = make_envs(replace(environment, dynamics="sim"), min(count, config.episodes), autoreset_mode="Disabled")
    if real.unwrapped.core.config.max_episode_steps is None:  # type: ignore[attr-defined]
        console.print("the environment has no time limit: a policy that never ends is scored for ever")
    try:
        yield _Scorer(config, real, inside)
    finally:
        inside.close()
        real.close()


def _chance(folder: Path, seed: int, scorer: _Scorer) -> None:
    """Score random actions, unless that was done."""
    if read_curve(folder / CURVE):
        return
    folder.mkdir(parents=True, exist_ok=True)
    policy = RandomPolicy(scorer.real.single_action_space, seed=seed)
    _append(folder / CURVE, {"step": 0, "trained_s": 0.0, **scorer.score(policy, blank=False, last=True)})


def _run(learner: LearnerConfig, legs: int, folder: Path, scorer: _Scorer) -> None:
    """Train a policy leg by leg; score it after each that was not scored yet."""
    done = {line.get("leg") for line in read_curve(folder / CURVE)}
    for leg in range(1, legs + 1):
        if leg in done:
            continue
        steps, watch = -(-learner.steps * leg // legs), Stopwatch()
        policy = train(replace(learner, steps=steps), out=folder, progress=True, resume=True)
        trained = watch.seconds()
        sampled = TrainedPolicy(policy.network, learner, deterministic=False, seed=learner.seed)
        blank = learner.environment.blank
        line = {"leg": leg, "step": steps, "trained_s": trained, **scorer.score(sampled, blank=blank, last=leg == legs)}
        _append(folder / CURVE, line)
        real, imagined = (float(np.mean(line[name])) for name in ("real", "imagined"))
        console.print(f"{folder.name} after {steps} steps: real {real:.2f}, imagined {imagined:.2f} in its horizon")


def _append(path: Path, line: dict[str, Any]) -> None:
    save_text(path, "".join(json.dumps(one) + "\n" for one in [*read_curve(path), line]))
