"""What an agent gains from a world: PPO trained inside it alone, scored in the environment it was recorded from.

Beside it the same PPO on as many real frames as the world was made of, PPO that sees nothing, and chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from worldenv.base.config import check_numbers, to_dict
from worldenv.base.documents import read_table
from worldenv.base.said import check_path

from .comparison import Arm, Comparison, run_comparison
from .comparison_report import write_comparison
from .environments import EnvConfig, make_envs
from .learners import config_class
from .policy import LearnerConfig
from .ppo import PPOConfig
from .scoring import places_of

ArmName = Literal["world", "imagination", "real", "blank", "simulator"]
TEST_SEED = 700_000
"""Of the first episode that policies are scored on; recordings begin at others."""
FEWER_ENVS = 4
"""Envs of the arm ``real``: its frames are few, and in few envs they are enough for some updates."""
PLAN = "gain.json"
SHARED = ("environment", "num_envs", "steps", "gamma", "features", "hidden", "seed", "device")
"""Settings of PPO's that another learner takes over."""
CLAIM = "a policy that was trained inside alone earns more in the environment than each of the others"
MEANS = {
    "world": "PPO trained inside the world alone",
    "imagination": "actor-critic of short imagined episodes, inside alone",
    "real": "PPO on as many real frames as the world was made of",
    "blank": "PPO trained inside, seeing nothing",
    "simulator": "PPO in the environment, as many steps as inside the world",
}
"""What each arm is."""


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
    arms: tuple[ArmName, ...] = ("world", "real", "blank")
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
        counts = ("legs", "leg_episodes", "episodes", *([] if self.real_frames is None else ["real_frames"]))
        check_numbers(self, counts=counts, sizes=("seeds",))
        if not self.arms or len(set(self.arms)) < len(self.arms):
            raise ValueError(f"arms={self.arms}; name one or more, each once")
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
        assert config.learner.environment.world is not None, "every id of a recorded environment has one"
        config = replace(config, real_frames=frames_of(config.learner.environment.world))
    asked = comparison_of(config)
    run_comparison(asked, out, to_dict(config), plan=PLAN, free=("seeds", "arms"))
    return write_gain(asked, out, {"environment": to_dict(config.learner.environment), "config": to_dict(config)})


def write_gain(asked: Comparison, out: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write what it came to, and return the report."""
    return write_comparison(asked, out, about)


def frames_of(world: str) -> int:
    """Return how many frames a world was made of, as ``worldenv make`` noted it.

    Raises:
        ValueError: if it did not.
    """
    path = check_path(Path(world)).parent / "make.json"
    if not path.is_file():
        raise ValueError(f"{path} does not say how many frames {world} was made of; pass --real-frames")
    asked = read_table(path).get("asked")
    frames = asked.get("frames") if isinstance(asked, dict) else None
    if type(frames) is not int or frames < 1:
        raise ValueError(f"{path}: asked.frames is {str(frames)[:40]}, no number of frames; pass --real-frames")
    return frames


def comparison_of(config: GainConfig) -> Comparison:
    """Return what is compared: the arm ``world``, if it is asked for, with the others."""
    learner, names = config.learner, sorted(config.arms, key=lambda name: name != "world")
    place = learner.environment
    with closing(make_envs(replace(place, dynamics="sim"), 1)) as envs:
        chunk_frames = envs.unwrapped.core.spec.chunk_frames  # type: ignore[attr-defined]
    learners = {name: learner_of(config, name, frames=chunk_frames) for name in names}
    return Comparison(
        title=f"What an agent gains from {place.world}",
        claim=CLAIM,
        metric="return",
        arms={
            name: Arm(
                says=MEANS[name],
                learner=one,
                places=places_of(replace(place, blank=one.environment.blank)),
            )
            for name, one in learners.items()
        },
        places=places_of(place),
        seeds=[learner.seed + i for i in range(config.seeds)],
        legs=config.legs,
        leg_episodes=config.leg_episodes,
        episodes=config.episodes,
        first_seed=TEST_SEED,
        num_envs=learner.num_envs,
        horizon=place.horizon,
    )


def learner_of(config: GainConfig, arm: str, *, frames: int) -> LearnerConfig:
    """Return how a policy of an arm is trained, where a step is so many frames."""
    learner = config.learner
    if arm == "world":
        return learner
    if arm == "imagination":
        inside: LearnerConfig = config_class(arm)(**{name: getattr(learner, name) for name in SHARED})
        return inside
    if arm == "blank":
        return replace(learner, environment=replace(learner.environment, blank=True))
    learner = replace(learner, environment=replace(learner.environment, dynamics="sim"))
    if arm == "simulator":
        return learner
    assert config.real_frames is not None
    return replace(learner, num_envs=min(FEWER_ENVS, learner.num_envs), steps=max(1, config.real_frames // frames))
