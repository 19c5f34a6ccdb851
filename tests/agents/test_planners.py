"""Plans get there, what is imagined changes nothing, and equal beginnings are imagined once."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from worldenv.bodies.camera import Camera, press
from worldenv.dynamics.spec import WorldSpec
from worldenv.engine.engine import Engine
from worldenv.envs.beginning import Beginning
from worldenv.envs.core import CoreConfig, EnvCore
from worldenv.envs.episodes import Episodes
from worldenv.geometry.occupancy import Occupancy, WallsConfig
from worldenv.geometry.pose import look
from worldenv.tasks.navigate import Navigate
from worldenv.world.starts import Starts
from worldenv.world.world import World
from worldenv_agents.planners.cem import CEM
from worldenv_agents.planners.closed_loop import Episode, run_closed_loop
from worldenv_agents.planners.copied import Copied
from worldenv_agents.planners.imagine import Tree
from worldenv_agents.planners.mppi import MPPI
from worldenv_agents.planners.planner import Planner, PlannerConfig
from worldenv_agents.planners.sequences import as_actions, sequences_of

SEEDS = range(6)


def empty_space(num_envs: int, mode: str) -> EnvCore:
    """Return ``Navigate`` in an empty space, with goals all around."""
    angle = torch.arange(64, dtype=torch.float64) * 2.399963
    c2w = torch.eye(4, dtype=torch.float64).repeat(64, 1, 1)
    goals = look(torch.stack([2 * angle.sin(), 0 * angle, 2 * angle.cos()], -1), 0 * angle)
    spec = WorldSpec(width=8, height=8)
    starts = Starts(torch.zeros(64, 8, 8, 3, dtype=torch.uint8), c2w, goals, torch.arange(64))
    config = CoreConfig(action_mode=mode, obs_mode="dict", obs_keys=("goal",), max_episode_steps=12)
    return EnvCore(Copied(num_envs, spec=spec, starts=starts), Camera(), Navigate(), Episodes(starts), config)  # type: ignore[arg-type]


def planned(mode: str, rollouts: int, **how: object) -> list[Episode]:
    config = PlannerConfig(lookahead=4, **how)  # type: ignore[arg-type]
    twin, branches = (empty_space(len(SEEDS) * n, mode) for n in (1, 1 + 4 * rollouts))
    tree = Tree(branches.dynamics, twin, episodes=len(SEEDS), discount=config.discount)  # type: ignore[arg-type]
    return run_closed_loop(twin, tree, Planner(config, twin.action_space, rollouts=rollouts, seeds=SEEDS), SEEDS)


@pytest.mark.parametrize("mode", ["basic5", "keys", "camera"])
@pytest.mark.parametrize("planner", ["cem", "mppi"])
def test_planning_reaches_what_one_draw_does_not(mode: str, planner: str) -> None:
    many = planned(mode, 48, planner=planner, iterations=3)
    one = planned(mode, 1, planner=planner)
    assert np.mean([e.success for e in many]) >= 0.8
    assert np.mean([e.earned for e in many]) > 0.5 + np.mean([e.earned for e in one])
    assert all(e.decisions == e.length and e.chunks > 0 for e in many)


def test_episodes_do_not_depend_on_their_batch() -> None:
    assert [e.earned for e in planned("basic5", 8)] == [e.earned for e in planned("basic5", 8)]
    config = PlannerConfig(lookahead=4)
    twin, branches = (empty_space(n, "basic5") for n in (1, 33))
    tree = Tree(branches.dynamics, twin, episodes=1, discount=config.discount)  # type: ignore[arg-type]
    alone = run_closed_loop(twin, tree, Planner(config, twin.action_space, rollouts=8, seeds=[3]), [3])[0]
    assert alone.earned == planned("basic5", 8)[3].earned


def test_remembered_walls_stop_plans_and_their_branches() -> None:
    walls = Occupancy(2, WallsConfig())
    walls.evidence[1, 16:32] = 1  # of the second episode's floor, from 2 to 4 m ahead
    keeps = SimpleNamespace(num_envs=2, history=SimpleNamespace(walls=walls))
    world = empty_space(4, "keys").dynamics
    assert isinstance(world, Copied)
    world.keeps = keeps  # type: ignore[assignment]
    world.fork([0, 1], [2, 3])
    for _ in range(4):
        ahead = press(torch.ones(2, 4, 2, dtype=torch.long) * torch.tensor([1, 0]), world.c2w[2:], world.spec.steps)
        world.step(ahead, rows=[2, 3])
    free, stopped = world.c2w[2:, 2, 3].tolist()
    assert free == pytest.approx(4.0)
    assert stopped == pytest.approx(2.0 - WallsConfig().radius, abs=0.15)
    assert world.c2w[:2, 2, 3].tolist() == [0, 0]


@pytest.fixture
def branching(tiny_world: World) -> tuple[EnvCore, Engine, Tree]:
    engine = Engine(tiny_world, 2 + 2 * 6)
    config = CoreConfig(action_mode="basic5", obs_mode="dict", obs_keys=("image", "goal"))
    core = EnvCore(engine, Camera(), Navigate(), Episodes(tiny_world.starts), config)
    core.reset(Beginning.drawn(range(14)), torch.ones(14, dtype=torch.bool))
    return core, engine, Tree(engine, core, episodes=2, discount=0.5)


def test_a_tree_foretells_what_the_world_then_does(branching: tuple[EnvCore, Engine, Tree]) -> None:
    core, engine, tree = branching
    before = engine.clone_state([0, 1])
    tree.begin([0, 1], core.state)
    plans = np.array([[[1], [1]], [[1], [3]], [[1], [1]]])[None].repeat(2, 0)
    returns = tree.returns([0, 1], plans)
    assert tree.imagined == 2 * 3  # one beginning and two ends, in each
    assert np.array_equal(returns[:, 0], returns[:, 2])
    after = engine.clone_state([0, 1])
    assert all(torch.equal(part, after[name]) for name, part in before.items())
    first, second = (core.step(torch.full((14,), action)).reward for action in (1, 3))
    np.testing.assert_allclose(returns[:, 1], (first + 0.5 * second)[:2], atol=1e-9)


def test_a_value_counts_behind_the_last_step(branching: tuple[EnvCore, Engine, Tree]) -> None:
    core, engine, _ = branching
    seen: list[tuple[int, ...]] = []

    def value(chunk: object, state: dict[str, Tensor]) -> Tensor:
        seen.append(tuple(state["potential"].shape))
        return torch.full_like(state["potential"], 8.0)

    plans = np.array([[[[0], [0]]], [[[0], [0]]]])
    without, with_value = (Tree(engine, core, episodes=2, discount=0.5, value=v) for v in (None, value))
    returns = []
    for tree in (without, with_value):
        tree.begin([0, 1], core.state)
        returns.append(tree.returns([0, 1], plans))
    np.testing.assert_allclose(returns[1] - returns[0], 0.5**2 * 8.0)  # it is two steps ahead
    assert seen == [(2,)]


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(5), spaces.MultiDiscrete([9, 9]), spaces.Box(-1.0, 1.0, (3,)), spaces.Box(-1.0, 1.0, (4, 7))],
    ids=["one", "some", "box", "chunk"],
)
def test_sequences_move_to_what_weighs(space: spaces.Space[object]) -> None:
    about = sequences_of(space, 4, persistence=0.5, rate=1.0)
    rng = np.random.default_rng(0)
    plans = about.draw(200, rng)
    assert plans.shape[:2] == (200, 4)
    assert space.contains(as_actions(space, plans)[0, 0])
    same = (plans[:, 1:] == plans[:, :-1]).mean() if plans.dtype == np.int64 else 0.5
    assert same > 0.3, "first draws persist"
    weights = np.zeros(200)
    weights[7] = 1.0
    about.fit(plans, weights)
    np.testing.assert_allclose(about.likeliest(), plans[7], atol=1e-6)
    np.testing.assert_allclose(about.draw(5, rng), plans[7][None].repeat(5, 0), atol=1e-6)


def test_solvers_weigh_returns() -> None:
    returns = np.array([0.0, 3.0, 1.0, 2.0])
    assert CEM(elites=0.5).weigh(returns).tolist() == [0, 0.5, 0, 0.5]
    weights = MPPI(temperature=1.0).weigh(returns)
    np.testing.assert_allclose(weights, np.exp(returns) / np.exp(returns).sum())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PlannerConfig(execute=9, lookahead=4), "1 <= execute <= lookahead"),
        (lambda: PlannerConfig(discount=1.5), "discount=1.5 must lie within"),
        (lambda: Planner(PlannerConfig(), spaces.Discrete(5), rollouts=0, seeds=[0]), "rollouts=0"),
        (lambda: sequences_of(spaces.Text(3), 2, persistence=0.5, rate=1.0), "action_mode"),
    ],
)
def test_mistakes_are_explained(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
