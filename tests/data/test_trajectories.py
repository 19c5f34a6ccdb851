import dataclasses
import hashlib

import numpy as np

from worldenv.data.trajectories import TrajectoryConfig, plan_clip, random_keys
from worldenv.geometry.action import ActionSteps
from worldenv.geometry.path import FreeSpace

SPACE = FreeSpace(np.pad(np.ones((14, 14), bool), 1), 1.0)
CONFIG = TrajectoryConfig()


def test_kinds_come_up_in_their_shares() -> None:
    plans = [plan_clip(SPACE, ActionSteps(), CONFIG, 8, np.random.default_rng(s)) for s in range(400)]
    counts = {kind: sum(p.kind == kind for p in plans) / 400 for kind in (*CONFIG.shares, "acted")}
    assert abs(counts["acted"] - CONFIG.acted) < 0.05
    for kind, share in CONFIG.shares.items():
        assert abs(counts[kind] - 0.9 * share) < 0.08, kind
    nominal = sum(p.steps == ActionSteps() for p in plans) / 400
    assert abs(nominal - CONFIG.nominal) < 0.08
    assert all(p.camera.shape == (8, 5) for p in plans)
    scales = [p.steps.move / ActionSteps().move for p in plans]
    assert 0.5 <= min(scales) < 0.6 < 1.4 < max(scales) <= 1.6
    assert abs(sum(CONFIG.shares.values()) - 1) < 1e-9


def test_a_plan_follows_from_its_generator() -> None:
    first, again = (plan_clip(SPACE, ActionSteps(), CONFIG, 16, np.random.default_rng([0, 5])) for _ in range(2))
    assert first.start == again.start
    np.testing.assert_array_equal(first.camera, again.camera)


def test_acted_clips_hold_keys() -> None:
    config = dataclasses.replace(CONFIG, acted=1.0)
    plan = plan_clip(SPACE, ActionSteps(), config, 64, np.random.default_rng(0))
    assert plan.acted
    assert plan.kind == "acted"
    keys = random_keys(64, np.random.default_rng(1))
    assert keys.shape == (64, 5)
    assert set(np.unique(keys)) <= {-1, 0, 1}
    changes = (np.abs(np.diff(keys, axis=0)).sum(1) > 0).sum()
    assert 5 < changes < 32


def test_new_kinds_come_up_in_their_shares() -> None:
    config = dataclasses.replace(CONFIG, goals=0.4, walls=0.4, restless=0.4, still=0.5)
    goals = [(5.5, 5.5)]
    plans = [plan_clip(SPACE, ActionSteps(), config, 24, np.random.default_rng(s), goals=goals) for s in range(150)]
    for kind in ("goals", "walls", "restless"):
        share = sum(plan.kind == kind for plan in plans) / len(plans)
        assert abs(share - 0.9 * config.shares[kind]) < 0.1, kind
        assert all(plan.acted == (kind != "goals") for plan in plans if plan.kind == kind)
    assert all(plan.camera.shape == (24, 5) for plan in plans)
    still = [(plan.camera == 0).all(1).any() for plan in plans if plan.kind == "walls"]
    assert 0.2 < np.mean(still) < 0.8
    without = plan_clip(SPACE, ActionSteps(), dataclasses.replace(config, goals=1e6), 24, np.random.default_rng(1))
    assert without.kind == "explore", "a map without goals is explored"


def test_paths_of_a_default_recording_are_what_they_were() -> None:
    digest = hashlib.sha256()
    for seed in range(20):
        plan = plan_clip(SPACE, ActionSteps(), CONFIG, 32, np.random.default_rng([0, seed]))
        digest.update(repr((plan.kind, plan.acted)).encode() + (np.round(plan.camera, 6) + 0.0).tobytes())
    assert digest.hexdigest()[:16] == "44cd694b3abda3d7"
