"""One model for mazes and tables: who is not there rests, in recordings and in stepping; its recipe in a few steps."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import worldenv  # noqa: F401
from tests.training.test_stages import record
from worldenv.base.config import load_toml, to_dict
from worldenv.bodies.base import Named
from worldenv.bodies.camera import Camera
from worldenv.bodies.hand import Hand
from worldenv.bodies.registry import bodies_of, make_body, robot_of
from worldenv.data.dataset import clip_track
from worldenv.data.objects import seen_keypoints
from worldenv.data.record import RecordConfig, make_source
from worldenv.data.schema import Clip, read_shard, shard_paths, write_shard
from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.eval.suites.evaluate import run_suite
from worldenv.models.heads import ObjectConfig
from worldenv.models.vae import VAEConfig
from worldenv.sims.mujoco.sim import HAND_SPEC
from worldenv.training.stages.config import TrainConfig
from worldenv.training.stages.registry import train
from worldenv.world.pose_video import PoseVideo
from worldenv.world.world import World

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "universal"
BOTH = load_toml(TrainConfig, FOLDER / "vae.toml").spec
CHAIN = {"vae": "vae", "object": "heads", "causal": "causal", "memory": "memory"}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random pictures of a walk, and true ones of a table."""
    pytest.importorskip("mujoco", reason="the hand's simulator needs pip install worldenv[manip]")
    folder = tmp_path_factory.mktemp("both")
    spec = replace(WorldSpec(), height=64)
    record(folder / "maze", 2, spec=spec)
    config = RecordConfig(env="hand/place", clips=2, num_latents=20, spec=HAND_SPEC)  # as long as walks
    source = make_source(config)
    (folder / "table").mkdir()
    told = {"config": json.dumps(to_dict(config)), "fps": 24}
    write_shard(folder / "table" / "shard-00000.h5", [source.clip(i) for i in range(2)], attributes=told)
    return folder


@pytest.fixture(scope="module")
def chain(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, made = tmp_path_factory.mktemp("runs"), dict[str, Path]()
    for name, stage in CHAIN.items():
        config = load_toml(TrainConfig, FOLDER / f"{name}.toml")
        optim = replace(config.optim, steps=2, batch=4, warmup=1, log_every=1, preview_every=0, optimizer="adamw")
        data = recordings / "table" if name == "object" else recordings
        tiny = replace(config, data=data, heldout=None, init=next(reversed(made.values()), None), optim=optim)
        tiny = replace(tiny, vae=VAEConfig(latent_channels=4, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8)))
        tiny = replace(tiny, object=replace(tiny.object, sizes=ObjectConfig(widths=(8, 8), num_points=4, hidden=8)))
        if name == "causal":
            tiny = replace(tiny, dit=replace(tiny.dit, width=24, num_layers=2, num_heads=1, ffn_dim=24, patch=4))
        train(stage, tiny, folder / name)
        made[name] = folder / name
    return made


def test_each_body_is_a_part_and_the_rest_stays_as_it_is() -> None:
    assert [type(body) for body in bodies_of(BOTH)] == [Camera, Hand]
    assert isinstance(robot_of(BOTH), Hand)
    walking, hand = make_body("auto", BOTH), make_body("auto", BOTH, mode="ee_delta")
    assert walking.modes == Camera.modes
    assert hand.modes == make_body("hand", BOTH).modes == Hand.modes
    assert isinstance(hand, Named)
    assert not isinstance(walking, Named)
    here = torch.eye(4, dtype=torch.float64)[None]
    present = {"c2w": here, "joints": torch.full((1, 26), 0.1)}
    walked = walking.command(torch.tensor([1]), "basic5", present, BOTH)
    assert walked.keys() == BOTH.takes.keys()
    assert (walked["joints"] == present["joints"]).all()
    assert not torch.equal(walked["c2w"][:, -1], here)
    reached = hand.command(torch.ones(1, 4, 7), "ee_delta", present, BOTH)
    assert (reached["c2w"] == here).all()
    assert (reached["keys"] == 0).all()
    assert (reached["joints"][:, 0] != present["joints"]).any()
    assert type(make_body("auto", WorldSpec())) is Camera, "alone it commands all there is"
    with pytest.raises(ValueError, match="commands keys, c2w, and not joints"):
        make_body("camera", replace(HAND_SPEC))


def test_a_recording_of_one_body_lets_the_other_rest(recordings: Path) -> None:
    shards = shard_paths(recordings)
    assert [path.parent.name for path in shards] == ["maze", "table"], "the world has the lens of the first"
    maze, table = (next(iter(read_shard(path))) for path in shards)
    walked, told = clip_track(maze, BOTH), clip_track(table, BOTH)
    assert walked.keys() == told.keys() == BOTH.takes.keys()
    assert not walked["joints"].any()
    assert (told["c2w"] == torch.eye(4)).all()
    assert not told["keys"].any()
    torch.testing.assert_close(told["joints"], torch.from_numpy(table.signals["joints"]).float())
    half = Clip(maze.frames, {"keys": maze.signals["keys"]}, attributes={})
    for clip, spec in ((half, BOTH), (maze, HAND_SPEC)):  # no body is whole, or it is another world's
        with pytest.raises(ValueError, match="this recording has no"):
            clip_track(clip, spec)


def test_the_hand_is_seen_by_its_own_lens(recordings: Path, tiny_world: World) -> None:
    alone = replace(HAND_SPEC, chunk_latents=4)
    points = torch.randn(5, 21, 3, generator=torch.Generator().manual_seed(0)) * 0.1
    torch.testing.assert_close(seen_keypoints(points, BOTH), seen_keypoints(points, alone), rtol=1e-4, atol=1e-4)
    joints = Hand().robot.limits.mean(0).float().expand(1, 2, -1)
    drawn = [PoseVideo(spec, tiny_world.vae).frames(joints[:, 0], joints) for spec in (BOTH, alone)]
    assert drawn[0].any()
    assert (drawn[0].float() - drawn[1].float()).abs().mean() < 1


def test_it_trains_on_both_walks_and_grasps(chain: dict[str, Path], recordings: Path, tmp_path: Path) -> None:
    world = World.load(chain["memory"])
    assert (world.spec.takes, world.spec.fov_deg) == (BOTH.takes, 90.0)
    assert set(world.config.dit.codes) == {"joints"}
    run_suite("manipulation", str(chain["memory"]), tmp_path, recording=recordings / "table", num_worlds=2)
    assert "object_error_mm_24" in json.loads((tmp_path / "report.json").read_text())["arms"]["world"]
    black = {"clip": np.zeros((1, 64, 64, 3), np.uint8), "joints": np.zeros((1, 26)), "c2w": np.eye(4)[None]}
    asked: list[dict[str, Any]] = [{}, {"body": "hand"}, {"action_mode": "ee_delta"}]
    for options, mode in zip(asked, ("basic", "ee_delta", "ee_delta"), strict=True):
        envs = gym.make_vec("worldenv/Free-v0", num_envs=1, world=str(chain["memory"]), **options)
        assert envs.unwrapped.core.config.action_mode == mode  # type: ignore[attr-defined]
        envs.reset(seed=0, options=black)
        assert envs.step(envs.action_space.sample())[0].shape == (1, 64, 64, 3)
    engine = envs.unwrapped.core.dynamics  # type: ignore[attr-defined]
    joints = engine.present["joints"]
    assert joints.any()
    path = torch.eye(4, dtype=torch.float64).repeat(1, 4, 1, 1)
    path[..., 2, 3] = torch.arange(4) * 0.25
    assert engine.follow(path).frames.shape == (1, 16, 64, 64, 3)
    assert torch.equal(engine.present["joints"], joints), "whoever is not told rests"
    with pytest.raises(ValueError, match="commands lack 'keys'"):
        engine.step(Track(c2w=path))


@pytest.mark.usefixtures("sims")
def test_suites_of_mazes_take_it(chain: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("vizdoom", reason="mazes need pip install worldenv[sims]")
    run_suite("short_term", str(chain["memory"]), tmp_path, num_worlds=1)
    report = json.loads((tmp_path / "report.json").read_text())
    assert "seen_psnr" in report["arms"]["worldplay"]
    assert "action_score" in report["skipped"]


def test_start_views_that_could_not_be_loaded_are_not_made(recordings: Path, tmp_path: Path) -> None:
    config = replace(load_toml(TrainConfig, FOLDER / "vae.toml"), data=recordings, heldout=None, num_starts=2)
    with pytest.raises(ValueError, match="num_starts=2: recordings of one body do not say where the others are"):
        train("vae", config, tmp_path)


def test_files_say_what_the_script_does() -> None:
    script = (FOLDER / "run.sh").read_text()
    for name, stage in CHAIN.items():
        first = (FOLDER / f"{name}.toml").read_text().partition("\n")[0]
        assert first.startswith(f"# worldenv train {stage} --config configs/universal/{name}.toml")
        assert re.search(rf'"?{stage}"? "?\$?{name}|for name in .*{name}', script)
    sizes = [load_toml(TrainConfig, FOLDER / f"{name}.toml").memory for name in ("vae", "causal", "memory")]
    assert sizes[0] == sizes[1] == sizes[2]
    for kind in ("maze", "table"):
        for part in ("record", "heldout"):
            load_toml(RecordConfig, FOLDER / f"{part}_{kind}.toml")
