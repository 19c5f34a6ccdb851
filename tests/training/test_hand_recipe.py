"""The recipe of a world of hands: every stage a few steps on tiny sizes, then stepped, scored, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import worldenv  # noqa: F401
from worldenv.base.config import load_toml, to_dict
from worldenv.bodies.registry import robot_of
from worldenv.cli.scoring import score
from worldenv.data.objects import seen_keypoints
from worldenv.data.record import RecordConfig, make_source
from worldenv.data.schema import read_shard, shard_paths, write_shard
from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.engine.engine import Engine
from worldenv.eval.learned import METRICS, LearnedMetric, WeightFile, available
from worldenv.eval.learned.distribution import Frechet, split_frames
from worldenv.eval.suites.evaluate import run_suite
from worldenv.models.heads import DepthConfig, ObjectConfig
from worldenv.models.types import DiTConfig
from worldenv.models.vae import VAE, VAEConfig
from worldenv.play.generated import export_lerobot
from worldenv.sims.mujoco.sim import HAND_SPEC
from worldenv.training.encode import encode_recording
from worldenv.training.loop import trainer
from worldenv.training.stages.config import TrainConfig
from worldenv.training.stages.registry import STAGES, train
from worldenv.training.weights import WeightsConfig, carried, cell_weights
from worldenv.world.pose_video import GraspView, PoseVideo
from worldenv.world.world import World, convert_world

pytest.importorskip("mujoco", reason="the hand's simulator needs pip install worldenv[manip]")
pytestmark = pytest.mark.manip
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "hand"
CHAIN = {
    "vae": "vae",
    "object": "heads",
    "causal": "causal",
    "memory": "memory",
    "distil": "consistency_distill",
    "depth": "heads",
}
TINY: dict[str, Any] = {"width": 24, "num_layers": 2, "num_heads": 2, "ffn_dim": 24, "patch": 4}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hands")
    for task in ("place", "push"):  # in this process: a worker would spend most of the time on imports
        config = RecordConfig(env=f"hand/{task}", clips=2, num_latents=8, spec=HAND_SPEC)
        source = make_source(config)
        (folder / task).mkdir()
        clips, told = [source.clip(i) for i in range(2)], {"config": json.dumps(to_dict(config)), "fps": 24}
        write_shard(folder / task / "shard-00000.h5", clips, attributes=told)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """Draw no loss curves, and begin VAEs with the principal components of fewer frames: half of the time otherwise."""
    whole = VAE.init_linear
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "plot_losses", lambda log, path: None)
        patch.setattr(VAE, "init_linear", lambda vae, pixels: whole(vae, pixels[:8]))
        yield


@pytest.fixture(scope="module")
def chain(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return trained("hand", CHAIN, recording, tmp_path_factory.mktemp("runs"))


def trained(recipe: str, chain: dict[str, str], recording: Path, folder: Path) -> dict[str, Path]:
    """Train the stages of a recipe, a few steps of tiny networks each; return their worlds' folders."""
    made: dict[str, Path] = {}
    before = None
    for name, stage in chain.items():
        config = load_toml(TrainConfig, CONFIGS.with_name(recipe) / f"{name}.toml")
        optim = replace(config.optim, steps=2, batch=2, warmup=1, log_every=1, preview_every=0, optimizer="adamw")
        tiny = replace(config, data=recording, heldout=None, init=before, max_clips=4, optim=optim, num_starts=4)
        tiny = replace(tiny, denoise=replace(tiny.denoise, num_chunks=2))
        if name == "vae":
            tiny = replace(tiny, vae=VAEConfig(latent_channels=4, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8)))
            tiny = replace(tiny, vae_loss=replace(tiny.vae_loss, num_frames=5))
        if name == "causal":
            tiny = replace(tiny, dit=replace(tiny.dit, **TINY))
        if name == "object":
            tiny = replace(tiny, object=replace(tiny.object, sizes=ObjectConfig(widths=(8, 8), num_points=4, hidden=8)))
        if name == "depth":
            tiny = replace(tiny, depth=DepthConfig(widths=(8, 8, 8), num_blocks=1))
        train(stage, tiny, folder / name)
        made[name] = before = folder / name
    return made


def test_a_world_of_single_latents_trains_and_steps(recording: Path, tmp_path: Path) -> None:
    few = {name: CHAIN[name] for name in ("vae", "causal")}
    world = World.load(trained("hand1", few, recording, tmp_path)["causal"])
    assert (world.spec.chunk_latents, world.config.name) == (1, "hand1")
    engine = Engine(world, 2)
    engine.reset(seeds=[0, 1], starts=[None, None])
    joints = engine.present["joints"]
    chunk = engine.step(Track(joints=joints[:, None]))
    assert chunk.frames.shape == (2, 4, 64, 64, 3)
    assert torch.equal(engine.present["joints"], joints)
    assert world.starts is not None
    assert world.starts.require_tables() == [0, 1, 0, 1], "of two recordings, by the seeds that laid them"


@pytest.mark.parametrize("recipe", ["hand", "hand1"])
def test_files_say_what_the_script_does(recipe: str) -> None:
    script = (CONFIGS / "train.sh").read_text()
    for name, stage in CHAIN.items():
        assert stage in STAGES
        found = re.search(rf'^ *stage {stage} {name}( --init "\$runs/(\w+)")?', script, re.MULTILINE)
        assert found is not None
        init = f" --init runs/{recipe}/{found[2]}" if found[2] else ""
        path = CONFIGS.with_name(recipe) / f"{name}.toml"
        first = path.read_text().partition("\n")[0]
        assert (
            first == f"# worldenv train {stage} --config configs/{recipe}/{name}.toml{init} --out runs/{recipe}/{name}"
        )
        memory = load_toml(TrainConfig, path).memory
        assert name in ("object", "depth") or memory == load_toml(TrainConfig, CONFIGS / "vae.toml").memory


def test_every_stage_trains_and_the_world_steps(chain: dict[str, Path]) -> None:
    world = World.load(chain["depth"])
    assert [stage.stage for stage in world.config.provenance] == list(CHAIN.values())
    assert world.config.dit.pose_video
    assert set(world.heads) == {"object_read", "depth"}
    moved = [name for name, part in world.dit.state_dict().items() if bool(part.abs().max() > 0)]
    zeros = {"pose_embedding", "grasp_embedder.linear_2.weight", "blocks.0.attn.to_out_grasp.weight"}
    assert zeros <= set(moved), "what begins as zero is learned"
    for env_id, starts in (("worldenv/HandPlace-v0", 2), ("worldenv/HandPush-v0", 2)):
        envs = gym.make_vec(env_id, num_envs=2, world=str(chain["depth"]))
        assert len(envs.unwrapped.core.episodes.starts) == starts  # type: ignore[attr-defined]
        envs.reset(seed=0)
        obs, reward, *_ = envs.step(envs.action_space.sample())
        assert obs["image"].shape == (2, 64, 64, 3)
        assert reward.shape == (2,)


def test_training_goes_on_from_packaged_weights(chain: dict[str, Path], recording: Path, tmp_path: Path) -> None:
    """In bfloat16, in which not every machine computes, by the recipe that does so."""
    convert_world(chain["distil"], tmp_path / "packaged", dtype="bfloat16")
    config = load_toml(TrainConfig, CONFIGS / "more.toml")
    optim = replace(config.optim, steps=1, batch=2, warmup=1, log_every=1, preview_every=0, optimizer="adamw")
    tiny = replace(config, data=recording, heldout=None, init=tmp_path / "packaged", max_clips=4, optim=optim)
    train("memory", tiny, tmp_path / "more")
    world = World.load(tmp_path / "more")
    assert [stage.stage for stage in world.config.provenance][-2:] == ["consistency_distill", "memory"]
    assert {part.dtype for module in world.parts().values() for part in module.parameters()} == {torch.float32}


def test_the_suite_scores_every_arm(chain: dict[str, Path], recording: Path, tmp_path: Path) -> None:
    run_suite("manipulation", str(chain["depth"]), tmp_path, recording=recording, num_worlds=4)
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["arms"]) == {"world", "continued", "copy", "shuffled_actions", "skeleton", "vae", "simulator"}
    names = {"object_error_mm_24", "place_agreement", "changed_psnr", "object_psnr", "keypoint_error_px", "psnr"}
    for metrics in report["arms"].values():
        assert names <= set(metrics)
    arms = report["arms"]
    assert arms["continued"]["psnr"]["mean"] > arms["world"]["psnr"]["mean"], "half of it is the truth"
    assert arms["simulator"]["psnr"]["mean"] == 60 > arms["vae"]["psnr"]["mean"]
    assert "object_error_mm_96" in report["skipped"]
    for name in ("fid", "fvd", "fid_vid"):
        assert name in available(None)[1]
        assert report["skipped"][name] == available(None)[1][name], "the reason that every suite gives"
    assert arms["simulator"]["frechet_vae_features"] == {"mean": 0, "ci95": [0, 0], "n": 4}
    assert arms["simulator"]["frechet_vae_features_halves"]["mean"] > 0
    assert all(arms[arm]["frechet_vae_features"]["mean"] > 0 for arm in ("world", "copy", "skeleton", "vae"))
    assert "frechet_vae_features" in report["differences"]["world - copy"]
    assert "frechet_vae_features" in (tmp_path / "report.md").read_text()
    with pytest.raises(ValueError, match="no head that reads objects"):
        run_suite("manipulation", str(chain["vae"]), tmp_path, recording=recording, num_worlds=2)


def test_the_suite_uses_the_weights_that_it_is_given(
    chain: dict[str, Path], recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of FID's network the mean colour, of as many frames as there are."""
    weights, out = tmp_path / "weights", tmp_path / "out"
    weights.mkdir()
    (weights / "colour.pth").write_bytes(b"weights")

    def colour(path: Path, *, device: object) -> Frechet:
        assert path == weights / "colour.pth"
        return Frechet(lambda frames: frames.double().mean((1, 2)), split_frames, least=2, batch=32)

    files = (WeightFile(name="colour.pth", source="this test"),)
    monkeypatch.setitem(METRICS, "fid", LearnedMetric(per="arm", needs_truth=True, files=files, load=colour))  # type: ignore[arg-type]
    score("manipulation", out=out, world=str(chain["depth"]), recording=recording, worlds=2, weights=weights)
    report = json.loads((out / "report.json").read_text())
    assert set(report["weights"]["fid"]) == {"colour.pth"}
    assert report["arms"]["simulator"]["fid"]["mean"] == 0 < report["arms"]["simulator"]["fid_halves"]["mean"]
    assert all(report["arms"][arm]["fid"]["mean"] > 0 for arm in ("world", "copy", "shuffled_actions", "skeleton"))
    assert "fid" not in report["skipped"]
    assert f"the weights folder {weights}" in report["skipped"]["fvd"]
    options = {"world": str(chain["depth"]), "recording": recording, "weights": tmp_path / "nowhere"}
    with pytest.raises(ValueError, match=r"weights folder .*nowhere does not exist"):
        score("manipulation", out=tmp_path / "other", **options)
    with pytest.raises(ValueError, match="and manipulation; suite open_loop computes no metric that needs them"):
        score("open_loop", out=tmp_path / "other", **options)


def test_hands_are_exported_for_lerobot(chain: dict[str, Path], recording: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pip install worldenv[data]")
    for name, what in (("recorded", {"recording": recording / "place"}), ("generated", {"world": str(chain["depth"])})):
        told: dict[str, Any] = {"world": "", "recording": None, **what}
        export_lerobot(tmp_path / name, episodes=2, chunks=1, seed=0, task="place", **told)
        info = json.loads((tmp_path / name / "meta" / "info.json").read_text())
        assert info["features"]["action"]["shape"] == [26], name
        assert info["features"]["observation.state"]["shape"] == [52], name

    clip = next(clip for path in shard_paths(recording / "place") for clip in read_shard(path))
    rows = parquet.read_table(tmp_path / "recorded" / "data" / "chunk-000" / "file-000.parquet").to_pydict()
    np.testing.assert_allclose(rows["observation.state"][5], clip.signals["proprio"][1], rtol=1e-6)
    np.testing.assert_allclose(rows["action"][5], clip.signals["joints"][2], rtol=1e-6)


def test_the_pose_video_of_training_is_that_of_stepping(
    chain: dict[str, Path], recording: Path, tmp_path: Path
) -> None:
    world = World.load(chain["causal"])
    data = encode_recording(world, recording, tmp_path)
    joints = data.track["joints"][:, 3:5]
    made = PoseVideo(world.spec, world.vae).latents(data.track["joints"][:, 2], joints)
    torch.testing.assert_close(made, data.track["pose_video"][:, 3:5].float(), atol=2e-3, rtol=2e-3)


def test_grasps_are_where_tips_are_in_the_picture(chain: dict[str, Path], recording: Path) -> None:
    world = World.load(chain["causal"])
    clip = next(iter(read_shard(shard_paths(recording / "place")[0])))
    joints = torch.from_numpy(clip.signals["joints"])[None]
    assert world.dit.grasp is not None
    place = world.dit.grasp(joints)
    body = robot_of(world.spec)
    assert body is not None
    tips = body.keypoints(joints.double())[:, :, [4, 8, 12, 16, 20]].mean(2)
    torch.testing.assert_close(place[..., None, :], seen_keypoints(tips[..., None, :], world.spec).float())
    with pytest.raises(ValueError, match="grasp_offsets = true shows a robot, and this world takes keys, c2w"):
        GraspView(WorldSpec())


def test_what_is_carried_stays_where_it_was_seen_from_the_grasp() -> None:
    source = make_source(RecordConfig(env="hand/lift", clips=3, num_latents=16, spec=HAND_SPEC))
    see, ways, offsets = GraspView(HAND_SPEC), [], []
    for clip in (source.clip(i) for i in range(3)):
        thing = torch.from_numpy(clip.signals["object"][:, :3])
        place = seen_keypoints(thing[:, None], HAND_SPEC)[:, 0]
        offset = place - see(torch.from_numpy(clip.signals["joints"]))
        carried = (thing[:-2, 2] > 0.06) & (thing[2:, 2] > 0.06)  # lifted, and still so two latents later
        ways += (place[2:] - place[:-2])[carried].norm(dim=-1).tolist()
        offsets += (offset[2:] - offset[:-2])[carried].norm(dim=-1).tolist()
    assert len(ways) > 5
    assert sum(offsets) < sum(ways) / 4


def test_what_changes_and_objects_count_more(recording: Path) -> None:
    clip = next(iter(read_shard(shard_paths(recording / "place")[0])))
    weight = cell_weights(clip, WeightsConfig(changed=2.0, objects=12.0, segments=(6,)), cell=8)
    thing = torch.from_numpy(clip.signals["segmentation"][0] == 6).float().unflatten(0, (8, 8)).unflatten(2, (8, 8))
    share = thing.mean((1, 3))
    assert weight.shape == (9, 1, 8, 8)
    assert float(weight.mean()) == pytest.approx(1)
    assert float(weight[0, 0][share > 0.3].min()) > 3 * float(weight[0, 0][share == 0].max())
    with pytest.raises(ValueError, match="give both, or neither"):
        WeightsConfig(objects=1.0)


def test_chunks_need_memory_by_what_is_carried(chain: dict[str, Path], recording: Path, tmp_path: Path) -> None:
    world, things = World.load(chain["causal"]), WeightsConfig(objects=1.0, segments=(6,))
    plain, told = (
        encode_recording(world, recording, tmp_path, weights=weights).need for weights in (WeightsConfig(), things)
    )
    clips, chunk = [clip for path in shard_paths(recording) for clip in read_shard(path)], world.spec.chunk_latents
    assert not plain.any(), "the camera stands still"
    torch.testing.assert_close(told, torch.stack([carried(clip, things, chunk_latents=chunk) for clip in clips]))


def test_pose_videos_need_a_robot(tiny_world: World) -> None:
    config = replace(tiny_world.config, dit=replace(tiny_world.config.dit, pose_video=True))
    with pytest.raises(ValueError, match="shows a robot, and this world takes keys, c2w"):
        Engine(World(config, vae=tiny_world.vae, starts=tiny_world.starts), 1)
    with pytest.raises(ValueError, match="exclude each other"):
        DiTConfig(pose_video=True, render_input=True)
