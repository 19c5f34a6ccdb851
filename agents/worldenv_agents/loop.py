"""Tables of ``configs/loops``: policies trained in the arms that a file declares, scored in the simulator.

Everything is in the file before it is run: the claim, the metric that decides, the task, the arms with the settings of
the environment in which each is trained, the seeds, and the episodes on starts that no policy was trained at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from worldenv.base.config import check_most, check_numbers, from_dict, load_toml, merge, to_dict
from worldenv.base.documents import read_table
from worldenv.base.said import check_path
from worldenv.envs.arguments import MOST

from .comparison import Arm, Comparison, Metric, run_comparison
from .comparison_report import write_comparison
from .environments import EnvConfig, check_env
from .ppo import PPOConfig
from .scoring import Places, places_of

Settings = dict[str, Any]
REGISTERED = "registered.json"
OWN = ("environment", "seed")
"""What the table itself says of PPO."""


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How true the places are in which policies are trained, as a suite has measured it."""

    report: Path
    """The suite's ``report.json``."""
    metric: str
    """One of its metrics."""
    arms: dict[str, str]
    """What an arm of the table is called there."""


@dataclass(frozen=True, kw_only=True)
class LoopTable:
    """The contents of a file of ``configs/loops``."""

    title: str
    """What is asked."""
    claim: str
    """What is expected, fixed before anything is trained."""
    metric: Metric = "success"
    """What decides, in the simulator: ``success`` or ``return``."""
    margin: float = 0.0
    """Difference in ``metric`` within which two arms count as equal, where that is claimed; 0 does not ask."""
    environment: Settings
    """The task, as settings of ``EnvConfig``; ``starts`` are those that policies are trained at."""
    test_starts: tuple[int, int] | None = None
    """Starts that policies are scored at, from the first number to before the second."""
    ppo: Settings = field(default_factory=dict)
    """How PPO learns: settings of ``PPOConfig``."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the policies of each arm; five are needed for a positive verdict."""
    arms: dict[str, Settings]
    """What is trained: a sentence ``says``, the settings of the environment that differ, and ``ppo``, those of the
    learner. The first is compared with each of the others."""
    evaluate: dict[str, Settings] = field(default_factory=dict)
    """Settings under which every policy is also evaluated, at the end of its training."""
    baselines: tuple[str, ...] = ()
    """Policies that need no training, beside ``random``, as ``worldenv-agents eval`` names them."""
    legs: int = 5
    """Parts of a training; a policy is scored after each."""
    leg_episodes: int = 16
    """Episodes of such a score."""
    episodes: int = 64
    """Episodes of the last score."""
    first_seed: int = 700_000
    """Of the first of them."""
    likeliest: bool = False
    """Whether policies are scored by their likeliest actions, not as they explored."""
    videos: int = 4
    """Episodes in the videos of each arm's first policy; 0 makes none."""
    fidelity: Fidelity | None = None
    """What real success is drawn against."""

    def __post_init__(self) -> None:
        check_numbers(self, natural=("margin", "videos"))
        check_most(self, videos=MOST["num_envs"])
        if not self.arms:
            raise ValueError("a table compares arms; name two or more as [arms.NAME]")
        named = self.fidelity.arms if self.fidelity else {}
        for kind, names in (("arm", {*self.arms} & {"random", *self.baselines}), ("fidelity", {*named} - {*self.arms})):
            if names:
                raise ValueError(
                    f"{kind} {min(names)!r}: arms are {', '.join(self.arms)}, none called as a baseline is"
                )
        if len(set(self.seeds)) < max(1, len(self.seeds)):
            raise ValueError(f"seeds={self.seeds}; name one or more, each once")


def run_loop(path: Path, out: Path, *, seeds: Sequence[int] = ()) -> dict[str, Any]:
    """Train and score what a table lacks in ``out``, write its report and return it; ``seeds`` may be more.

    Raises:
        ValueError: if the file says what is not known, or ``out`` holds another table.
    """
    table = load_toml(LoopTable, path)
    table = replace(table, seeds=tuple(seeds) or table.seeds)
    asked, fidelity = comparison_of(table), read_fidelity(table.fidelity) if table.fidelity else None
    registered = to_dict(table)
    run_comparison(asked, out, registered, plan=REGISTERED, free=("seeds",))
    about, name = {"registered": registered}, table.fidelity.metric if table.fidelity else ""
    return write_comparison(asked, out, about, fidelity=fidelity, fidelity_name=name)


def comparison_of(table: LoopTable) -> Comparison:
    """Return what a table compares.

    Raises:
        ValueError: naming the setting, of which arm, that is not known.
    """
    common = from_dict(EnvConfig, table.environment, where="environment")
    check_env(common.env)
    learner = _learner(table.ppo, "ppo")
    return Comparison(
        title=table.title,
        claim=table.claim,
        metric=table.metric,
        margin=table.margin,
        arms={name: _arm(table, name, common) for name in table.arms},
        places=_places(table, common, table.environment, common.dynamics),
        baselines={"random": "random actions", **dict.fromkeys(table.baselines, "not trained")},
        seeds=table.seeds,
        legs=table.legs,
        leg_episodes=table.leg_episodes,
        episodes=table.episodes,
        first_seed=table.first_seed,
        num_envs=learner.num_envs,
        horizon=common.horizon,
        likeliest=table.likeliest,
        videos=table.videos,
    )


def _arm(table: LoopTable, name: str, common: EnvConfig) -> Arm:
    own, where = dict(table.arms[name]), f"arms.{name}"
    says, ppo = own.pop("says", None), own.pop("ppo", {})
    if not isinstance(says, str) or not isinstance(ppo, dict):
        raise ValueError(f"{where}: write a sentence says = '...' for the report, and settings of PPO as ppo.NAME")
    settings = merge(table.environment, own)
    place = from_dict(EnvConfig, settings, where=where)
    check_env(place.env)
    learner = replace(_learner(merge(table.ppo, ppo), f"{where}.ppo"), environment=place)
    generated = common.dynamics if place.place == "sim" else place.dynamics
    return Arm(says=says, learner=learner, places=_places(table, place, settings, generated))


def _places(table: LoopTable, place: EnvConfig, settings: Settings, generated: str | None) -> Places:
    """Return where policies are scored that were trained in a place: what ``evaluate`` says is laid over it."""
    also = {
        name: replace(
            from_dict(EnvConfig, merge(settings, changes), where=f"evaluate.{name}"),
            dynamics=changes.get("dynamics", generated),
        )
        for name, changes in table.evaluate.items()
    }
    return places_of(place, generated=generated, starts=table.test_starts, also=also)


def _learner(settings: Settings, where: str) -> PPOConfig:
    for name in OWN:
        if name in settings:
            raise ValueError(f"{where}.{name}: the table says that itself, as [environment] and seeds")
    return from_dict(PPOConfig, settings, where=where)


def read_fidelity(asked: Fidelity) -> dict[str, dict[str, Any]]:
    """Return the mean and interval of each arm's fidelity.

    Raises:
        ValueError: if the report is not there, or lacks an arm or the metric.
    """
    if not check_path(asked.report).is_file():
        raise ValueError(f"fidelity: {asked.report}: no such file; run that suite first, or leave [fidelity] out")
    try:
        known = read_table(asked.report)["arms"]
        found: dict[str, dict[str, Any]] = {arm: known[name][asked.metric] for arm, name in asked.arms.items()}
    except KeyError as error:
        raise ValueError(f"fidelity: {asked.report} has no {error}; choose an arm and a metric that it has") from None
    return found
