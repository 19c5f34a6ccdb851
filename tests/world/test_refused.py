"""Worlds that are damaged, edited or of another version are refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from worldenv.base.config import MOST_LAYERS, dump_toml, merge, read_toml
from worldenv.world.world import World


@pytest.mark.parametrize("file", ["vae.safetensors", "dit.safetensors", "world.toml"])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(ValueError, match=file):
        World.load(folder)


@pytest.mark.parametrize("file", ["vae.safetensors", "dit.safetensors", "starts.safetensors"])
def test_a_truncated_file_is_named(folder: Path, file: str) -> None:
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=file):
        World.load(folder)


def edit(path: Path, **changes: torch.Tensor | None) -> None:
    tensors = load_file(path)
    for key, value in changes.items():
        if value is None:
            del tensors[key]
        else:
            tensors[key] = value
    save_file(tensors, path)


def test_edited_shapes_are_named(folder: Path) -> None:
    edit(folder / "dit.safetensors", **{"proj_out.bias": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"dit\.safetensors.*proj_out\.bias: \(3,\) for \(16,\)"):
        World.load(folder)


def test_missing_and_unexpected_tensors_are_named(folder: Path) -> None:
    edit(folder / "vae.safetensors", latent_mean=None, surprise=torch.zeros(1))
    with pytest.raises(ValueError, match=r"missing latent_mean; unexpected surprise"):
        World.load(folder)


def test_starts_of_the_wrong_size_are_refused(folder: Path) -> None:
    edit(folder / "starts.safetensors", frames=torch.zeros(64, 24, 32, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"expected torch.uint8 \(64, 48, 64, 3\)"):
        World.load(folder)


def test_starts_without_goals_are_refused(folder: Path) -> None:
    edit(folder / "starts.safetensors", goals=None)
    with pytest.raises(ValueError, match="goals missing"):
        World.load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("c2w", torch.eye(4, dtype=torch.float64).repeat(5, 1, 1)),
        ("goals", torch.zeros(64, 3)),
        ("map_seeds", torch.arange(63)),
        ("frames", torch.zeros(64, 48, 64, 3)),
    ],
)
def test_starts_that_do_not_fit_together_are_refused(folder: Path, key: str, value: torch.Tensor) -> None:
    edit(folder / "starts.safetensors", **{key: value})
    with pytest.raises(ValueError, match=key):
        World.load(folder)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("file", "key"), [("dit", "proj_out.bias"), ("vae", "latent_mean"), ("starts", "c2w"), ("starts", "goals")]
)
def test_numbers_that_are_not_finite_are_refused(folder: Path, file: str, key: str, number: float) -> None:
    path = folder / f"{file}.safetensors"
    tensor = load_file(path)[key]
    tensor.view(-1)[-1] = number
    edit(path, **{key: tensor})
    with pytest.raises(ValueError, match=rf"{file}\.safetensors: {key} not finite"):
        World.load(folder)


def test_starts_that_are_no_poses_or_none_are_refused(folder: Path) -> None:
    path = folder / "starts.safetensors"
    poses = torch.eye(4, dtype=torch.float64).repeat(64, 1, 1)
    mirrored, skewed = poses.clone(), poses.clone()
    mirrored[3, 0, 0], skewed[3, 0, 1] = -1, 0.5
    for wrong in (mirrored, skewed):
        edit(path, goals=wrong)
        with pytest.raises(ValueError, match="goals holds poses that are no rigid motions"):
            World.load(folder)
    edit(path, **{key: tensor[:0] for key, tensor in load_file(path).items()})
    with pytest.raises(ValueError, match="holds no start views"):
        World.load(folder)


def test_weights_that_are_whole_numbers_or_not_there_are_refused(folder: Path) -> None:
    path = folder / "dit.safetensors"
    weights = load_file(path)
    save_file({key: weight.to(torch.int8) for key, weight in weights.items()}, path)
    with pytest.raises(
        ValueError, match=r"dit\.safetensors does not fit.*wrong dtype .*: torch\.int8 for torch\.float32"
    ):
        World.load(folder)
    save_file({}, path)
    with pytest.raises(ValueError, match=r"dit\.safetensors does not fit.*missing action_embedder"):
        World.load(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("spec.fps", 0, "fps=0 must be from 1 to 65536"),
        ("spec.width", -64, "width=-64 must be from 1 to 65536"),
        ("spec.fov_deg", 180.0, "fov_deg=180.0 must be an angle"),
        ("spec.unit", 0.0, "unit=0.0 must be positive"),
        ("spec.focal", [0.5, float("nan")], "expected a finite number, got nan"),
        ("spec.focal", [0.5, -1.0], "focal=.* must be positive"),
        ("spec.steps.turn_deg", float("nan"), "steps.turn_deg: expected a finite number, got nan"),
        ("spec.steps.pitch_deg", float("inf"), "steps.pitch_deg: expected a finite number, got inf"),
        ("spec.steps.move", 0.0, "steps: move=0.0 must be positive"),
        ("sampler.num_steps", 0, "sampler: num_steps=0 must be 1 or more"),
        ("sampler.shift", float("nan"), "sampler.shift: expected a finite number, got nan"),
        ("sampler.shift", 0.0, "sampler: shift=0.0 must be positive"),
        ("dit.rope_theta", float("inf"), "dit.rope_theta: expected a finite number, got inf"),
        ("dit.num_heads", 0, "dit: num_heads=0 must be from 1 to 65536"),
        ("vae.encoder_widths", [8, 0, 8], "vae: encoder_widths=.* must be from 1 to 65536"),
        ("memory.radius", float("inf"), "memory.radius: expected a finite number, got inf"),
    ],
)
def test_settings_that_make_no_sense_are_refused(folder: Path, key: str, value: Any, message: str) -> None:
    path = folder / "world.toml"
    *tables, name = key.split(".")
    values: dict[str, Any] = {name: value}
    for table in reversed(tables):
        values = {table: values}
    path.write_text(dump_toml(merge(read_toml(path), values)))
    with pytest.raises(ValueError, match=rf"world\.toml.*{message}"):
        World.load(folder)


def test_a_world_may_have_no_starts(folder: Path) -> None:
    (folder / "starts.safetensors").unlink()
    world = World.load(folder, verify=False)
    assert world.starts is None
    with pytest.raises(ValueError, match="no start views"):
        world.require_starts()


def test_other_formats_are_refused(folder: Path) -> None:
    text = (folder / "world.toml").read_text()
    for told, said in (("2", "2"), ("true", "True"), ("1.0", "1.0")):
        (folder / "world.toml").write_text(text.replace("format = 1", f"format = {told}"))
        with pytest.raises(ValueError, match=rf"world\.toml: world format {said}, this version reads 1"):
            World.load(folder)


def test_unknown_keys_and_policies_in_world_toml_are_refused(folder: Path) -> None:
    path = folder / "world.toml"
    text = path.read_text()
    path.write_text(text.replace("[dit]", "[dit]\ndepht = 3"))
    with pytest.raises(ValueError, match=r"'depht'.*num_layers"):
        World.load(folder)
    path.write_text(text.replace('policy = "worldplay"', 'policy = "elephant"'))
    with pytest.raises(ValueError, match="elephant"):
        World.load(folder)


def test_more_layers_than_the_files_hold_are_refused_before_they_are_made(folder: Path) -> None:
    path = folder / "world.toml"
    settings = read_toml(path)
    settings["vae"]["num_blocks"] = MOST_LAYERS
    path.write_text(dump_toml(settings))
    with pytest.raises(ValueError, match=r"world\.toml: its sizes ask for more than \d+ weights"):
        World.load(folder, verify=False)


def test_broken_toml_is_named(folder: Path) -> None:
    (folder / "world.toml").write_text("format = ")
    with pytest.raises(ValueError, match=r"world\.toml"):
        World.load(folder)
