"""The table and the hand: what is seen agrees with what is there, rows are independent, states can be copied."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from worldenv.bodies.hand_model import HAND, HEAD, NUM_JOINTS
from worldenv.dynamics.protocol import Branchable, Chunk
from worldenv.dynamics.signals import Track
from worldenv.geometry.camera import project, unproject
from worldenv.geometry.pose import invert_se3

pytest.importorskip("mujoco", reason="the hand's simulator needs pip install worldenv[manip]")


from worldenv.bodies.table import TABLE_HIGH, TABLE_LOW
from worldenv.sims.mujoco.row import draw_start
from worldenv.sims.mujoco.scene import COLOURS, SEGMENTS, SHAPES
from worldenv.sims.mujoco.sim import HAND_SPEC, HandDynamics

pytestmark = pytest.mark.manip
OBJECT, TABLE = (1 + SEGMENTS.index(name) for name in ("object", "table"))


def begin(num_envs: int = 1, seed: int = 0, **options: object) -> tuple[HandDynamics, Chunk]:
    dynamics = HandDynamics(num_envs, **options)  # type: ignore[arg-type]
    return dynamics, dynamics.reset(seeds=range(seed, seed + num_envs), starts=[None] * num_envs)


def told(dynamics: HandDynamics, num_latents: int = 1, seed: int = 0) -> Track:
    """Return joints near to where they are, other ones for each row."""
    here = dynamics.present["joints"][:, None].repeat(1, num_latents, 1)
    generator = torch.Generator().manual_seed(seed)
    low, high = HAND.limits
    return Track(joints=(here + 0.05 * torch.randn(here.shape, generator=generator)).clamp(low.float(), high.float()))


def test_a_chunk_has_what_was_declared() -> None:
    dynamics, chunk = begin(2, palm=True)
    assert isinstance(dynamics, Branchable)
    assert chunk.frames.shape == (2, 1, 64, 64, 3)
    chunk = dynamics.step(told(dynamics, 2))
    assert chunk.frames.shape == (2, 8, 64, 64, 3)
    assert chunk.signals["depth"].shape == chunk.signals["segmentation"].shape == (2, 8, 64, 64)
    for name, signal in dynamics.spec.gives.items():
        if -1 not in signal.shape:
            assert chunk.signals[name].shape == (2, 2, *signal.shape), name
            assert torch.equal(dynamics.present[name], chunk.signals[name][:, -1]), name
    assert chunk.signals["palm"].shape == (2, 2, 64, 64, 3)


def test_depth_is_where_things_are() -> None:
    """The table's pixels lie at height 0 and a ball's on its sphere."""
    seed = next(seed for seed in range(99) if draw_start(seed).shape == "ball")
    dynamics, chunk = begin(seed=seed)
    points = unproject(chunk.signals["depth"][0, 0].double(), HEAD, dynamics.spec.K.double())
    kinds = chunk.signals["segmentation"][0, 0]
    assert points[kinds == TABLE][:, 2].abs().max() < 1e-5
    away = (points[kinds == OBJECT] - chunk.signals["object"][0, 0, :3]).norm(dim=-1)
    assert len(away) > 50
    assert (away - SHAPES["ball"][2]).abs().max() < 1e-5


def test_no_keypoint_is_in_front_of_what_is_seen() -> None:
    """More than a thousand keypoints of hands anywhere over the table, in any posture."""
    dynamics, _ = begin()
    K, w2c, generator = HAND_SPEC.K.double(), invert_se3(HEAD), torch.Generator().manual_seed(0)
    low, high = HAND.limits.clone()
    low[:3], high[:3] = torch.tensor([-0.08, -0.08, 0.08]), torch.tensor([0.06, 0.08, 0.2])
    beyond = []
    for seed in range(80):
        joints = low + (high - low) * torch.rand(NUM_JOINTS, generator=generator).double()
        dynamics._rows[0].start(replace(draw_start(seed), joints=joints))
        seen = dynamics._rows[0].view()
        uv, z = project(seen.measured["keypoints"][-1].double(), w2c, K)
        pixel = uv.floor().long()
        inside = ((pixel >= 0) & (pixel < 64)).all(-1)
        beyond.append(z[inside] - seen.depth[-1][pixel[inside][:, 1], pixel[inside][:, 0]])
    assert len(torch.cat(beyond)) > 1000
    assert torch.cat(beyond).min() > -0.005


def test_only_what_may_move_is_cast_again() -> None:
    """The frame that is composed over the still layer is the one that is cast whole, but for softened edges."""
    dynamics, _ = begin()
    row = dynamics._rows[0]
    dynamics.step(told(dynamics))
    view = row._looked(HEAD.numpy())
    composed, whole = row.head.shoot(view, row._still), row.head.shoot(view)
    assert np.array_equal(composed.depth, whole.depth)
    assert np.array_equal(composed.segmentation, whole.segmentation)
    assert (np.abs(composed.frame.astype(int) - whole.frame) > 48).any(-1).mean() < 0.01


def test_rows_are_as_alone() -> None:
    both, _ = begin(2, seed=5, palm=True)
    commands = told(both, 2)
    chunk = both.step(commands)
    for row in range(2):
        alone, _ = begin(1, seed=5 + row, palm=True)
        one = alone.step(commands.at(slice(row, row + 1)))
        assert torch.equal(one.frames[0], chunk.frames[row])
        assert all(torch.equal(one.signals[name][0], chunk.signals[name][row]) for name in chunk.signals)


@pytest.mark.parametrize("goal", ["tray", "mark"])
def test_a_copied_state_goes_on_to_the_last_bit(goal: str) -> None:
    dynamics, _ = begin(3, goal=goal)
    dynamics.step(told(dynamics))
    state, commands = dynamics.clone_state([0]), told(dynamics, 2, seed=1)
    first = dynamics.step(commands)
    dynamics.restore_state(state, [2])
    again = dynamics.step(commands.at(slice(0, 1)), rows=[2])
    assert torch.equal(again.frames[0], first.frames[0])
    assert all(torch.equal(again.signals[name][0], first.signals[name][0]) for name in first.signals)
    dynamics.fork([1], [0])
    assert torch.equal(dynamics.present["object"][0], dynamics.present["object"][1])


def test_what_does_not_fit_is_refused_before_anything_moves() -> None:
    dynamics, _ = begin(2)
    commands, before = told(dynamics), dynamics.clone_state([0, 1])
    bad = commands["joints"].clone()
    bad[1, 0, 7] = 3.0
    for joints, said in (
        (bad, r"joint 'thumb_base' is 3 in row 1; it goes from -0.5 to 0.9"),
        (torch.full_like(bad, torch.nan), "joint 'wrist_x' is nan in row 0"),
        (bad[..., :25], "must hold 26 joints"),
        (bad[0], r"pass \(2, F, 26\)"),
    ):
        with pytest.raises(ValueError, match=said):
            dynamics.step({"joints": joints})
    with pytest.raises(ValueError, match=r"goal \(0.5, 0\) of env 1 is outside the table; x goes from"):
        dynamics.set_goals(torch.tensor([[0.0, 0.0], [0.5, 0.0]]))
    with pytest.raises(ValueError, match="has no start views"):
        dynamics.reset(seeds=[0, 1], starts=[0, None])
    broken = {**before, "kind": before["kind"] + 9}
    with pytest.raises(ValueError, match="names no object"):
        dynamics.restore_state(broken, [0, 1])
    after = dynamics.clone_state([0, 1])
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_starts_follow_from_seeds_and_goals_can_be_set() -> None:
    dynamics, _ = begin(2)
    goals = torch.tensor([[0.1, 0.05], [0.0, -0.1]])
    dynamics.set_goals(goals)
    dynamics.reset(seeds=[3, 4], starts=[None, None])
    torch.testing.assert_close(dynamics.present["target"][:, :2], goals)
    dynamics.check_goals(torch.tensor([TABLE_LOW, TABLE_HIGH], dtype=torch.float64))  # the edges are on it
    drawn = [draw_start(seed) for seed in (*range(200), 5183, 6027)]  # the last ones lie at a joint's limit
    assert {one.shape for one in drawn} == set(SHAPES)
    assert {one.colour for one in drawn} == set(COLOURS)
    again = draw_start(3, (0.1, 0.05))
    assert torch.equal(again.joints, drawn[3].joints)
    assert np.hypot(again.object_xy[0] - 0.1, again.object_xy[1] - 0.05) >= 0.125
    assert all(len(one.joints) == NUM_JOINTS for one in drawn)
    for one in drawn:
        HAND.check(one.joints[None], what="a start's joints")


def test_who_lacks_mujoco_is_told_what_to_install() -> None:
    code = (
        "import sys; sys.modules['mujoco'] = None\n"
        "from worldenv.sims.mujoco.sim import HandDynamics\n"
        "try: HandDynamics(1)\n"
        "except ImportError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'worldenv[manip]'" in result.stdout
