import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from worldenv.base.log import JsonlLog
from worldenv.data.schema import Clip, write_shard
from worldenv.diffusion.schedule import SamplerConfig
from worldenv.dynamics.spec import WorldSpec
from worldenv.engine.engine import Engine
from worldenv.geometry.action import camera_to_c2w, keys_to_camera
from worldenv.memory.config import MemoryConfig
from worldenv.models.heads import DepthConfig, DisplayConfig
from worldenv.models.types import DiTConfig
from worldenv.models.vae import VAEConfig
from worldenv.training.loop.optim import OptimConfig
from worldenv.training.material import DenoiseConfig
from worldenv.training.renders import RendersConfig
from worldenv.training.stages.config import TrainConfig
from worldenv.training.stages.context_forcing import ContextForcingConfig
from worldenv.training.stages.display import DisplayTrainConfig
from worldenv.training.stages.registry import STAGES, train
from worldenv.training.stages.start import start_world
from worldenv.training.stages.vae import VAELossConfig
from worldenv.world.config import Provenance, Trained
from worldenv.world.world import World

SPEC = WorldSpec(width=32, height=32)
LATENTS = 21
OPTIM = OptimConfig(steps=3, batch=2, warmup=1, log_every=1, save_every=100, preview_every=100, mixed_precision="no")


def record(folder: Path, num_clips: int = 4, *, spec: WorldSpec = SPEC) -> Path:
    """Random pictures along random keys, with depth that makes every view see every other."""
    rng, clips = np.random.default_rng(0), []
    for i in range(num_clips):
        keys = rng.integers(0, 9, (LATENTS, 2))
        keys[0] = 0
        camera = keys_to_camera(torch.from_numpy(keys[1:]))
        start = torch.eye(4, dtype=torch.float64)
        c2w = torch.cat([start[None], camera_to_c2w(camera, start, spec.steps)])
        frames = rng.integers(0, 256, (4 * LATENTS - 3, spec.height, spec.width, 3), dtype=np.uint8)
        depth = np.full(frames.shape[:3], 5, np.float16)
        signals = {"K": spec.K.numpy(), "c2w": c2w.numpy(), "depth": depth, "keys": keys}
        clips.append(Clip(frames, signals, attributes={"seed": i}))
    folder.mkdir(parents=True)
    attributes = {"config": json.dumps({"env": "test", "clips": num_clips, "first_seed": 0})}
    write_shard(folder / "shard-00000.h5", clips, attributes=attributes)
    return folder


def config_for(
    recording: Path, init: Path | None = None, teacher: Path | None = None, *, rolling: bool = False, **optim: object
) -> TrainConfig:
    return TrainConfig(
        data=recording,
        init=init,
        teacher=teacher,
        name="tiny",
        spec=SPEC,
        vae=VAEConfig(latent_channels=4, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8)),
        dit=DiTConfig(latent_channels=4, width=24, num_layers=1, num_heads=1, ffn_dim=32, freq_dim=16),
        depth=DepthConfig(widths=(8, 8, 8), num_blocks=1),
        display=DisplayConfig(widths=(8, 8, 8), fine=8, num_blocks=1),
        display_loss=DisplayTrainConfig(crop=16, walks=2, walk_chunks=1, adversarial=0.5, generated=0.5),
        sampler=SamplerConfig(num_steps=2, stochastic=teacher is not None, rolling=rolling),
        memory=MemoryConfig(temporal_latents=8, num_points=2048),
        optim=dataclasses.replace(OPTIM, **optim),
        vae_loss=VAELossConfig(num_frames=9),
        denoise=DenoiseConfig(num_chunks=2, draws=2, forcing=0.3),
        context_forcing=ContextForcingConfig(critic_updates=2, history_steps=2),
    )


BEFORE = {
    "decoder": "vae",
    "bidirectional": "decoder",
    "causal": "bidirectional",
    "memory": "causal",
    "consistency": "memory",
    "teacher": "memory",
    "consistency_distill": "memory",
    "context_forcing": "consistency_distill",
    "rolling": "context_forcing",
    "heads": "memory",
    "display": "heads",
}
"""The stage whose world a stage starts from."""


LARGE = dataclasses.replace(SPEC, width=128, height=128)
"""What the display decoder learns from."""


def config_of(stage: str, recording: Path, chain: dict[str, Path], **optim: object) -> TrainConfig:
    """Configure a stage from the worlds that there are."""
    recording = recording.with_name("large") if stage == "display" else recording
    init = chain[BEFORE[stage]] if stage in BEFORE else None
    few_step = stage in ("consistency_distill", "context_forcing", "rolling")
    return config_for(recording, init, chain["teacher"] if few_step else None, rolling=stage == "rolling", **optim)


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in JsonlLog.read(folder / "log.jsonl") if "loss" in line]


def test_every_stage_trains_and_writes_a_world(chain: dict[str, Path]) -> None:
    assert set(chain) == set(STAGES)
    for folder in chain.values():
        assert len(losses(folder)) == 3
        assert np.isfinite(losses(folder)).all()
        assert (folder / "loss.png").is_file()
        assert list((folder / "samples").glob("*.png"))
    world = World.load(chain["context_forcing"])
    assert [p.stage for p in world.config.provenance][-2:] == ["consistency_distill", "context_forcing"]
    assert world.config.sampler.stochastic
    assert not world.config.sampler.rolling
    world = World.load(chain["rolling"])
    assert world.config.provenance[-1].stage == "rolling"
    assert world.config.sampler.rolling
    world = World.load(chain["memory"])
    assert [p.stage for p in world.config.provenance] == ["vae", "decoder", "bidirectional", "causal", "memory"]
    assert world.config.provenance[0].data == "test, 4 clips, map seeds 0..3"
    assert world.config.memory.temporal_latents == 8


def changed(a: World, b: World) -> list[str]:
    """Names of VAE tensors that differ."""
    return [k for k, v in a.vae.state_dict().items() if not torch.equal(v, b.vae.state_dict()[k])]


def test_each_stage_changes_its_own_module_only(chain: dict[str, Path]) -> None:
    vae, decoder, bidirectional, causal = (World.load(chain[s]) for s in ("vae", "decoder", "bidirectional", "causal"))
    assert {k.split(".")[0] for k in changed(vae, decoder)} == {"decoder"}, "latents keep their meaning"
    assert not changed(decoder, causal)
    for a, b in ((decoder, bidirectional), (bidirectional, causal)):
        assert any(not torch.equal(v, b.dit.state_dict()[k]) for k, v in a.dit.state_dict().items())
    assert not torch.equal(vae.vae.latent_scale, torch.ones(4)), "latents are normalised by the data"


def test_heads_are_trained_beside_a_world_that_stays_as_it_is(
    chain: dict[str, Path], recording: Path, tmp_path: Path
) -> None:
    before, after = World.load(chain["memory"]), World.load(chain["heads"])
    assert before.depth_head is None
    assert after.config.heads.depth == DepthConfig(widths=(8, 8, 8), num_blocks=1)
    for a, b in ((before.vae, after.vae), (before.dit, after.dit)):
        assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    assert (before.config.sampler, after.config.sampler) == (SamplerConfig(num_steps=2), SamplerConfig(num_steps=2))
    names = {key for line in JsonlLog.read(chain["heads"] / "log.jsonl") for key in line}
    assert {"depth_median_truth", "depth_median_vae", "depth_expected_truth"} <= names
    config = dataclasses.replace(config_for(recording, chain["heads"]), depth=DepthConfig(widths=(8, 8, 16)))
    with pytest.raises(ValueError, match=r"has other sizes; leave \[depth\] out"):
        train("heads", config, tmp_path / "other")


def test_a_display_is_trained_beside_a_world_that_shows_agents_the_same(
    chain: dict[str, Path], recording: Path, tmp_path: Path
) -> None:
    worlds = [World.load(chain[stage]) for stage in ("heads", "display")]
    assert worlds[0].display is None
    assert worlds[1].config.heads.display == DisplayConfig(widths=(8, 8, 8), fine=8, num_blocks=1)
    assert bool(worlds[1].require_display().out.weight.any()), "it has learned something"
    seen = []
    for world in worlds:
        engine = Engine(world, 1)
        frames = torch.arange(32 * 32 * 3).view(1, 1, 32, 32, 3).to(torch.uint8)
        engine.resume(frames, {}, seeds=[0])
        keys = torch.zeros(1, world.spec.chunk_latents, 2, dtype=torch.long)
        c2w = engine.c2w[:, None].expand(-1, world.spec.chunk_latents, -1, -1)
        seen.append(engine.step({"keys": keys, "c2w": c2w}).frames)
    assert torch.equal(*seen), "to the bit"
    lines = JsonlLog.read(chain["display"] / "log.jsonl")
    assert {"deceit", "detection", "unfaithful", "psnr_bicubic", "psnr_display"} <= {
        key for one in lines for key in one
    }
    config = config_of("display", recording, chain)
    small = dataclasses.replace(config, data=recording)
    with pytest.raises(ValueError, match="the recording has 32x32 frames, the world 128x128"):
        train("display", small, tmp_path / "small")
    other = dataclasses.replace(config, init=chain["display"], display=DisplayConfig(fine=12))
    with pytest.raises(ValueError, match=r"has other sizes; leave \[display\] out"):
        train("display", other, tmp_path / "other")


def test_a_trained_world_can_go_on_with_rendered_memory_as_input(
    chain: dict[str, Path], recording: Path, tmp_path: Path
) -> None:
    config = config_for(recording, chain["heads"], steps=2)
    config = dataclasses.replace(
        config, dit=dataclasses.replace(config.dit, render_input=True), renders=RendersConfig(generated=0.5)
    )
    assert torch.equal(
        start_world("memory", config).dit.proj_out.weight, World.load(chain["heads"]).dit.proj_out.weight
    )
    train("memory", config, tmp_path / "run")
    world = World.load(tmp_path / "run")
    assert world.dit.render_embedding is not None
    assert bool(world.dit.render_embedding.weight.any()), "it has learned something"
    assert [p.stage for p in world.config.provenance][-2:] == ["heads", "memory"]
    further = dataclasses.replace(config_for(recording, tmp_path / "run", steps=1), dit=DiTConfig())
    train("teacher", further, tmp_path / "teacher")
    few_step = dataclasses.replace(
        config_for(recording, tmp_path / "run", tmp_path / "teacher", steps=2), dit=DiTConfig()
    )
    train("context_forcing", few_step, tmp_path / "few")
    assert np.isfinite(losses(tmp_path / "few")).all()
    assert World.load(tmp_path / "few").config.dit.render_input
    headless = dataclasses.replace(config, init=chain["memory"])
    with pytest.raises(ValueError, match="worldenv train heads"):
        train("memory", headless, tmp_path / "headless")


def test_a_transformer_may_learn_other_mazes_than_the_vae_until_it_is_trained(
    chain: dict[str, Path], recording: Path
) -> None:
    plain = dataclasses.replace(SPEC, maze="plain-objects")
    for stage, maze in (("decoder", "plain-objects"), ("memory", "classic")):
        config = dataclasses.replace(config_for(recording, chain[stage]), spec=plain)
        assert start_world("memory", config).config.spec.maze == maze


def test_previews_report_held_out_figures(chain: dict[str, Path]) -> None:
    names = {key for line in JsonlLog.read(chain["memory"] / "log.jsonl") for key in line}
    assert {"psnr_worldplay", "psnr_recent", "psnr_none"} <= names
    assert "heldout_psnr" in {key for line in JsonlLog.read(chain["vae"] / "log.jsonl") for key in line}


def test_a_trained_world_can_go_on_with_finer_tokens(chain: dict[str, Path], recording: Path, tmp_path: Path) -> None:
    config = config_for(recording, chain["memory"], steps=1)
    train("memory", dataclasses.replace(config, dit=dataclasses.replace(config.dit, patch=1)), tmp_path / "fine")
    before, after = (World.load(folder) for folder in (chain["memory"], tmp_path / "fine"))
    assert (before.config.dit.patch, after.config.dit.patch) == (2, 1)
    assert [p.stage for p in after.config.provenance] == [*(p.stage for p in before.config.provenance), "memory"]


@pytest.mark.parametrize("stage", ["causal", "teacher", "rolling"])
def test_what_any_stage_trained_keeps_its_sizes(tiny_world: World, recording: Path, tmp_path: Path, stage: str) -> None:
    done = Provenance(stage=stage, steps=1, data="", hardware="", hours=0.0, git="")
    World(tiny_world.with_stage(done), vae=tiny_world.vae, dit=tiny_world.dit).save_pretrained(tmp_path)
    config = config_for(recording, tmp_path)
    for same in (DiTConfig(), dataclasses.replace(tiny_world.config.dit, latent_channels=16)):
        world = start_world("memory", dataclasses.replace(config, dit=same))
        assert all(torch.equal(v, world.dit.state_dict()[k]) for k, v in tiny_world.dit.state_dict().items())
    with pytest.raises(ValueError, match=r"width=24, num_layers=1.* leave \[dit\] out"):
        start_world("memory", config)
    coarser = dataclasses.replace(tiny_world.config.dit, patch=4)
    with pytest.raises(ValueError, match=r"patch=4: .* a smaller patch"):
        start_world("memory", dataclasses.replace(config, dit=coarser))


def test_a_world_that_is_a_vae_takes_the_sizes_asked_for(tiny_world: World, recording: Path, tmp_path: Path) -> None:
    done = Provenance(stage="decoder", steps=1, data="", hardware="", hours=0.0, git="")
    World(tiny_world.with_stage(done), vae=tiny_world.vae, dit=tiny_world.dit).save_pretrained(tmp_path)
    config = config_for(recording, tmp_path)
    assert start_world("teacher", config).dit.config == config.dit


@pytest.mark.parametrize(
    ("stage", "single", "further"), [("memory", 0.3, (1,)), ("memory", 0.0, ()), ("causal", 0.3, ())]
)
def test_a_world_says_whether_it_was_trained_latent_by_latent(
    tiny_world: World, recording: Path, tmp_path: Path, stage: str, single: float, further: tuple[int, ...]
) -> None:
    tiny_world.save_pretrained(tmp_path)
    config = config_for(recording, tmp_path)
    denoise = dataclasses.replace(config.denoise, single=single)
    world = start_world(stage, dataclasses.replace(config, denoise=denoise, dit=tiny_world.config.dit))
    assert world.config.trained == Trained(chunk_latents=further)


def test_an_evaluation_decides_which_world_is_written(chain: dict[str, Path], recording: Path, tmp_path: Path) -> None:
    """Judged by how near it is to where it began, nothing beats the beginning."""
    before = World.load(chain["memory"]).dit.state_dict()

    def evaluate(world: World) -> dict[str, float]:
        return {"score": -max(float((v - before[k]).abs().max()) for k, v in world.dit.state_dict().items())}

    config = config_of("teacher", recording, chain, preview_every=1)
    train("teacher", config, tmp_path / "teacher", evaluate=evaluate)
    world = World.load(tmp_path / "teacher")
    assert all(torch.equal(v, before[k]) for k, v in world.dit.state_dict().items())
    assert world.config.provenance[-1].steps == 0


def test_distillation_refuses_what_does_not_fit(chain: dict[str, Path], recording: Path, tmp_path: Path) -> None:
    config = config_of("context_forcing", recording, chain)
    with pytest.raises(ValueError, match="--teacher"):
        train("context_forcing", dataclasses.replace(config, teacher=None), tmp_path / "out")
    for stage in ("consistency_distill", "context_forcing"):
        with pytest.raises(ValueError, match="stochastic = true"):
            train(stage, dataclasses.replace(config, sampler=SamplerConfig()), tmp_path / "out")
    with pytest.raises(ValueError, match="rolling = true"):
        train("rolling", config, tmp_path / "out")
    odd = SamplerConfig(num_steps=5, stochastic=True)
    window = dataclasses.replace(config.sampler, rolling=True)
    with pytest.raises(ValueError, match="belongs to stage 'rolling' and to no other"):
        train("context_forcing", dataclasses.replace(config, sampler=window), tmp_path / "out")
    with pytest.raises(ValueError, match=r"num_steps=5, so .* try 50"):
        train("consistency_distill", dataclasses.replace(config, sampler=odd), tmp_path / "out")
    forgetful = dataclasses.replace(config, memory=dataclasses.replace(config.memory, temporal_latents=4))
    with pytest.raises(ValueError, match="another 'temporal_latents'"):
        train("context_forcing", forgetful, tmp_path / "out")
    train("vae", config_for(recording, steps=1, seed=7), tmp_path / "other")
    with pytest.raises(ValueError, match="its latents are not those"):
        train("context_forcing", dataclasses.replace(config, teacher=tmp_path / "other"), tmp_path / "out")


def test_runs_are_reproducible_and_seeds_differ(recording: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train("vae", config_for(recording, steps=2, seed=seed, preview_every=0), tmp_path / name)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


def test_a_folder_with_a_run_is_not_overwritten(chain: dict[str, Path], recording: Path) -> None:
    before = (chain["vae"] / "checkpoint.safetensors").read_bytes()
    with pytest.raises(ValueError, match="--resume"):
        train("vae", config_for(recording), chain["vae"])
    assert (chain["vae"] / "checkpoint.safetensors").read_bytes() == before


def test_a_run_goes_on_where_its_files_are_taken(chain: dict[str, Path], recording: Path, tmp_path: Path) -> None:
    """What it reads is known by what it holds: from other folders it goes on, with another world it does not."""
    train("causal", config_for(recording, chain["bidirectional"], steps=1), tmp_path / "here" / "causal")
    for path in (recording, chain["bidirectional"], tmp_path / "here" / "causal"):
        shutil.copytree(path, tmp_path / "there" / path.name)
    there = tmp_path / "there"
    config = config_for(there / recording.name, there / "bidirectional", steps=2)
    train("causal", config, there / "causal", resume=True)
    for name in ("dit.safetensors", "world.toml"):
        shutil.copy(chain["causal"] / name, there / "bidirectional" / name)
    with pytest.raises(ValueError, match=r"another 'config\.init'"):
        train("causal", config, there / "causal", resume=True)


def test_resuming_with_another_configuration_is_refused(chain: dict[str, Path], recording: Path) -> None:
    with pytest.raises(ValueError, match="another 'config"):
        train("vae", config_for(recording, lr=0.5), chain["vae"], resume=True)
    with pytest.raises(ValueError, match="another 'stage'"):
        train("causal", config_for(recording, chain["vae"]), chain["bidirectional"], resume=True)


def test_more_steps_continue_a_finished_run(chain: dict[str, Path], recording: Path, tmp_path: Path) -> None:
    train("vae", config_for(recording, preview_every=0), tmp_path)
    train("vae", config_for(recording, preview_every=0, steps=5), tmp_path, resume=True)
    assert len(losses(tmp_path)) == 5


def test_stages_ask_for_what_they_need(recording: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="vae, decoder, bidirectional, causal, memory"):
        train("dream", config_for(recording), tmp_path)
    for stage in ("bidirectional", "causal", "memory"):
        with pytest.raises(ValueError, match="--init"):
            train(stage, config_for(recording), tmp_path)
    with pytest.raises(ValueError, match="shard"):
        train("vae", config_for(tmp_path / "nothing"), tmp_path / "out")
    with pytest.raises(ValueError, match=r"world\.toml"):
        train("causal", config_for(recording, tmp_path / "nowhere"), tmp_path / "out")


def test_a_world_in_training_has_the_size_of_its_recording(recording: Path, tmp_path: Path) -> None:
    """Pictures of another size than the spec's would make a world that cannot be stepped."""
    config = dataclasses.replace(config_for(recording), spec=WorldSpec(width=64, height=48))
    with pytest.raises(ValueError, match="32"):
        train("vae", config, tmp_path)
