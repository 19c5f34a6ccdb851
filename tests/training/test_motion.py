import dataclasses
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from worldenv.base.checkpoint import load_tensors
from worldenv.base.log import JsonlLog
from worldenv.data.dataset import MotionDataset
from worldenv.data.schema import Clip, write_shard
from worldenv.dynamics.spec import WorldSpec, frame_path
from worldenv.geometry.action import ActionSteps, camera_to_c2w, keys_to_camera
from worldenv.geometry.camera import intrinsics, pixel_rays
from worldenv.models.motion import PoseConfig, load_pose
from worldenv.models.types import DiTConfig
from worldenv.models.vae import VAEConfig
from worldenv.training.augment import AugmentConfig, degrade, round_trip
from worldenv.training.loop.optim import OptimConfig
from worldenv.training.loop.trainer import Trainer
from worldenv.training.stages.motion import (
    PoseLossConfig,
    PoseStage,
    PoseTrainConfig,
    motion_error,
    sideways_windows,
    smooth_norm,
    train_pose,
)
from worldenv.world.config import WorldConfig
from worldenv.world.world import World

SPEC = WorldSpec(width=32, height=24)
LATENTS = 9


def floor_and_sky(c2w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What cameras (F, 4, 4) 1 m above a chequered floor see under a striped sky, and how far it is."""
    rays = pixel_rays(intrinsics(32, 24, fov_deg=90), width=32, height=24).double()
    direction = rays @ c2w[:, None, :3, :3].mT
    distance = (1 / direction[..., 1].clamp(min=0.02)).clamp(max=30)
    point = c2w[:, None, None, :3, 3] + distance[..., None] * direction
    floor = (point[..., 0].floor() + point[..., 2].floor()) % 2
    sky = (8 * torch.atan2(direction[..., 0], direction[..., 2])).sin() / 2 + 0.5
    shown = torch.where(direction[..., 1] > 0.04, floor, sky)
    frames = (255 * torch.stack([shown, shown / 2, 1 - shown], -1)).byte()
    return frames, distance


def record(folder: Path, num_clips: int = 3) -> Path:
    rng, clips = np.random.default_rng(0), []
    for _ in range(num_clips):
        keys = torch.from_numpy(rng.integers(0, 3, (LATENTS - 1, 2)))
        start = torch.eye(4, dtype=torch.float64)
        c2w = camera_to_c2w(keys_to_camera(keys), start, SPEC.steps)
        frames, depth = floor_and_sky(torch.cat([start[None], frame_path(start, c2w)]))
        whole = torch.cat([start[None], c2w])
        clips.append(Clip(frames.numpy(), {"c2w": whole.numpy(), "depth": depth.half().numpy()}))
    folder.mkdir(parents=True)
    config = json.dumps({"env": "test", "clips": num_clips, "first_seed": 0})
    write_shard(folder / "shard-00000.h5", clips, attributes={"config": config})
    return folder


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("data") / "train")


@pytest.fixture(scope="module")
def world_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    vae = VAEConfig(latent_channels=4, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8))
    dit = DiTConfig(latent_channels=4, width=24, num_layers=1, num_heads=1, ffn_dim=32, freq_dim=16)
    folder = tmp_path_factory.mktemp("worlds") / "tiny"
    World(WorldConfig(spec=SPEC, vae=vae, dit=dit)).save_pretrained(folder)
    return folder


def config_for(recording: Path, world_dir: Path | None, **optim: object) -> PoseTrainConfig:
    loop = OptimConfig(steps=4, batch=4, warmup=1, log_every=1, preview_every=100, mixed_precision="no")
    return PoseTrainConfig(
        data=recording,
        heldout=recording,
        init=world_dir,
        optim=dataclasses.replace(loop, **optim),
        pose=PoseConfig(
            width=32,
            height=24,
            encoder_widths=(3, 4, 6),
            reach_fine=(3, 1),
            reach_coarse=(2, 1),
            hidden=8,
            dilations=(1, 2),
        ),
        pose_loss=PoseLossConfig(decoded_clips=1),
    )


@pytest.fixture(scope="module")
def whole(recording: Path, world_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train_pose(config_for(recording, world_dir), folder)
    return folder


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in JsonlLog.read(folder / "log.jsonl") if "loss" in line]


def test_the_stage_trains_and_writes_the_network(whole: Path) -> None:
    assert len(losses(whole)) == 4
    assert np.isfinite(losses(whole)).all()
    assert list((whole / "samples").glob("*.png"))
    figures = {key for line in JsonlLog.read(whole / "log.jsonl") for key in line}
    assert {"truth_deg", "truth_m", "truth_deg_95", "vae_deg", "vae_m_95"} <= figures
    provenance = load_tensors(whole / "motion.safetensors")[1]["provenance"]
    assert (provenance["stage"], provenance["steps"]) == ("pose", 4)
    assert provenance["data"] == "test, 3 clips, map seeds 0..2"
    shadow = load_tensors(whole / "checkpoint.safetensors")[0]
    assert torch.equal(load_pose(whole / "motion.safetensors").coarse.weight, shadow["ema.coarse.weight"]), (
        "EMA is kept"
    )


def test_it_learns(recording: Path, world_dir: Path, tmp_path: Path) -> None:
    train_pose(config_for(recording, world_dir, steps=40, lr=4e-3, batch=8), tmp_path)
    assert np.mean(losses(tmp_path)[-10:]) < 0.7 * np.mean(losses(tmp_path)[:5])


def test_a_resumed_run_equals_an_uninterrupted_one(
    whole: Path, recording: Path, world_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Trainer._update

    def interrupted(self: Trainer) -> dict[str, float]:
        if self.step == 1:
            signal.raise_signal(signal.SIGINT)
        return update(self)

    config = config_for(recording, world_dir)
    monkeypatch.setattr(Trainer, "_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_pose(config, tmp_path)
    monkeypatch.undo()
    train_pose(config, tmp_path, resume=True)
    assert losses(tmp_path) == losses(whole)
    a, b = (load_tensors(folder / "motion.safetensors")[0] for folder in (whole, tmp_path))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_it_says_what_it_needs(recording: Path, world_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--init"):
        train_pose(config_for(recording, None), tmp_path)
    larger = dataclasses.replace(config_for(recording, world_dir), pose=PoseConfig())
    with pytest.raises(ValueError, match="32x24"):
        train_pose(larger, tmp_path)
    write_shard(tmp_path / "shard-00000.h5", [Clip(frames=np.zeros((5, 24, 32, 3), np.uint8))], attributes={})
    with pytest.raises(ValueError, match="no camera poses"):
        MotionDataset.load(tmp_path, cell=4)


def test_mirrored_windows_show_the_mirrored_motion(recording: Path, world_dir: Path) -> None:
    """A window and its mirror image: the same picture flipped, the motion with right and left exchanged."""
    stage = PoseStage(World.load(world_dir).vae, ActionSteps(), config_for(recording, world_dir, batch=64))
    stage.decoded, stage.places = stage.data, [stage.places[0]] * 2
    sides = torch.diag(torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64))
    frames, c2w, near = stage._windows(torch.Generator().manual_seed(0))
    kinds = set()
    for clip, poses, depth in zip(frames, c2w, near, strict=True):
        if torch.equal(poses[0], poses[2]) and torch.equal(clip[0], clip[2]):
            kinds.add("still")
            continue
        for kind, seen, real, d in (
            ("plain", clip, poses, depth),
            ("mirrored", clip.flip(2), sides @ poses @ sides, depth.flip(2)),
        ):
            expected, distance = floor_and_sky(real)
            if torch.equal(expected, seen):
                kinds.add(kind)
                centre = (1 / distance).unflatten(2, (-1, 4)).unflatten(1, (-1, 4))[:, :, 1:3, :, 1:3].mean((2, 4))
                torch.testing.assert_close(d, centre.float(), atol=2e-3, rtol=0)
                break
        else:
            raise AssertionError("a window that no camera saw")
    assert {"plain", "mirrored"} <= kinds


def test_sideways_windows_are_those_with_a_strafe() -> None:
    keys = torch.zeros(2, 8, 2, dtype=torch.long)
    keys[0, :, 0] = 1  # forward, and in the second clip
    keys[1, 3, 0], keys[1, 6, 0] = 4, 6  # left once, forward and left once
    keys[1, 5, 1] = 1  # a turn on the spot is none
    start = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    c2w = torch.cat([start[:, None], camera_to_c2w(keys_to_camera(keys), start, SPEC.steps)], 1)
    assert sideways_windows(c2w).tolist() == [[1, 2], [1, 3], [1, 5], [1, 6]]


def test_degraded_windows_keep_their_shape_and_some_stay_as_they_are() -> None:
    pixels = torch.rand(64, 3, 3, 24, 32) * 2 - 1
    changed = degrade(pixels, AugmentConfig(), torch.Generator().manual_seed(0))
    assert changed.shape == pixels.shape
    assert changed.abs().max() <= 1
    same = (changed == pixels).flatten(1).all(1)
    assert 0.1 < same.float().mean() < 0.4
    again = degrade(pixels, AugmentConfig(), torch.Generator().manual_seed(0))
    assert torch.equal(changed, again)


def test_a_round_trip_is_what_the_codec_shows(world_dir: Path) -> None:
    vae = World.load(world_dir).vae
    frames = torch.randint(0, 256, (9, 24, 32, 3), dtype=torch.uint8)
    plain = round_trip(vae, frames)
    assert plain.shape == frames.shape
    assert torch.equal(plain, round_trip(vae, frames))
    noisy = round_trip(vae, frames, noise=2.0, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(plain, noisy)


def test_errors_are_zero_at_the_truth_and_the_angle_beside_it() -> None:
    a = torch.eye(4, dtype=torch.float64).repeat(5, 1, 1)
    angle = np.linspace(0, 0.3, 5)
    a[:, :3, :3] = torch.from_numpy(Rotation.from_rotvec(angle[:, None] * [0, 0.6, 0.8]).as_matrix())
    a[:, :3, 3] = torch.tensor([3.0, 0, 4])
    rotation, translation = motion_error(torch.eye(4).double().expand(5, 4, 4), a)
    torch.testing.assert_close(rotation.norm(dim=-1).asin(), torch.from_numpy(angle), atol=1e-9, rtol=0)
    assert translation.norm(dim=-1).tolist() == [5] * 5
    assert all(float(e.abs().max()) < 1e-12 for e in motion_error(a, a))
    still = torch.zeros(1, 3, requires_grad=True)
    smooth_norm(still).sum().backward()
    assert still.grad is not None
    assert torch.isfinite(still.grad).all()
