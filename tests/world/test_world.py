import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import worldenv
from worldenv.base.config import MOST_LAYERS, dump_toml, merge, read_toml
from worldenv.memory.config import MemoryConfig
from worldenv.world.config import Provenance
from worldenv.world.files import find_world, packaged_worlds, world_sha256
from worldenv.world.info import describe_world
from worldenv.world.world import World, convert_world, shared_world


@pytest.fixture
def folder(tiny_world_dir: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    copy = tmp_path / "world"
    shutil.copytree(tiny_world_dir, copy)
    return copy


def test_saving_and_loading_is_bit_exact(tiny_world: World, tiny_world_dir: Path, tmp_path: Path) -> None:
    world = World.from_pretrained(tiny_world_dir)
    assert world.config == tiny_world.config
    for name in ("vae", "dit"):
        saved, loaded = getattr(tiny_world, name).state_dict(), getattr(world, name).state_dict()
        assert saved.keys() == loaded.keys()
        assert all(torch.equal(saved[k], loaded[k]) and saved[k].dtype == loaded[k].dtype for k in saved)
    assert tiny_world.starts is not None
    assert world.starts is not None
    saved, loaded = tiny_world.starts.tensors(), world.starts.tensors()
    assert saved.keys() == loaded.keys() == {"frames", "c2w", "goals", "map_seeds"}
    assert all(torch.equal(value, loaded[key]) for key, value in saved.items())
    world.save_pretrained(tmp_path)
    for file in tiny_world_dir.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name
    assert len(world.sha256) == 64


def test_loaded_weights_are_frozen(tiny_world_dir: Path) -> None:
    world = World.load(tiny_world_dir)
    assert not any(p.requires_grad for m in (world.vae, world.dit) for p in m.parameters())
    assert not world.dit.training


def test_bfloat16_weights_stay_bfloat16(tiny_world_dir: Path, tmp_path: Path) -> None:
    world = World.load(tiny_world_dir)
    world.dit.to(torch.bfloat16)
    world.save_pretrained(tmp_path)
    again = World.load(tmp_path)
    assert again.dit.dtype == torch.bfloat16
    assert torch.equal(again.dit.proj_out.weight, world.dit.proj_out.weight)
    assert again.vae.dtype == torch.float32


def test_provenance_is_kept_in_order(tiny_world_dir: Path, tmp_path: Path) -> None:
    world = World.load(tiny_world_dir)
    for i in range(12):
        stage = Provenance(stage=f"stage{i}", steps=i, data="d", hardware='a "quoted" CPU', hours=0.5, git="abc+")
        world.config = world.with_stage(stage)
    world.save_pretrained(tmp_path)
    again = World.load(tmp_path)
    assert [p.stage for p in again.config.provenance] == [f"stage{i}" for i in range(12)]
    assert again.config == world.config
    text = describe_world(again)
    assert "stage11" in text
    assert "Apache-2.0" in text


def test_what_lies_beside_a_world_does_not_change_its_identity(folder: Path) -> None:
    before = World.load(folder).sha256
    shutil.copy(folder / "dit.safetensors", folder / "checkpoint.safetensors")
    assert World.load(folder).sha256 == before
    (folder / "starts.safetensors").unlink()
    assert World.load(folder, verify=False).sha256 != before


def test_the_packaged_world_is_the_one_that_was_measured() -> None:
    root = Path(worldenv.__file__).parent
    report = json.loads((root / "worlds" / "maze" / "report.json").read_text())
    assert world_sha256(find_world("maze")) == report["world"]["sha256"]


def flip(path: Path) -> None:
    """Change the last mantissa bit of the last number in a file: what nothing but a checksum shows."""
    data = bytearray(path.read_bytes())
    data[-4] ^= 1
    path.write_bytes(data)


def test_files_that_are_not_those_that_were_written_are_named(folder: Path) -> None:
    assert set(World.load(folder).sums) == {"vae", "dit", "starts", "world"}
    flip(folder / "dit.safetensors")
    with pytest.raises(ValueError, match=r"dit\.safetensors has another sha256, by \[sha256\] in world\.toml"):
        World.from_pretrained(folder)
    assert World.from_pretrained(folder, verify=False).sha256
    flip(folder / "dit.safetensors")
    shutil.copy(folder / "starts.safetensors", folder / "clips.safetensors")
    with pytest.raises(ValueError, match="clips"):
        World.load(folder)
    (folder / "clips.safetensors").unlink()
    (folder / "starts.safetensors").unlink()
    with pytest.raises(ValueError, match=r"starts\.safetensors is missing"):
        World.load(folder)


def test_worlds_of_earlier_versions_open_and_say_that_nothing_was_checked(folder: Path) -> None:
    assert "files as world.toml lists them" in describe_world(World.load(folder))
    values = read_toml(folder / "world.toml")
    sums = values.pop("sha256")
    (folder / "world.toml").write_text(dump_toml(values))
    assert "not checked: world.toml has no [sha256]" in describe_world(World.load(folder))
    (folder / "world.toml").write_text(dump_toml({**values, "sha256": {**sums, "dit": "0" * 63}}))
    with pytest.raises(ValueError, match=r"world\.toml: sha256\.dit: '0+' is no sha256"):
        World.load(folder)


def test_a_world_that_takes_anothers_place_leaves_none_of_its_files(folder: Path, tiny_world: World) -> None:
    (folder / "moments.safetensors").write_bytes(b"of the world before")
    tiny_world.save_pretrained(folder)
    assert World.load(folder).moments is None


@pytest.mark.parametrize("written", range(4))
def test_a_world_whose_writing_was_cut_short_is_none(
    tiny_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Killed half way through any of its files: world.toml, which says that it is there, is the last."""
    replace, done = os.replace, list[str]()

    def killed(partial: Path, path: Path) -> None:
        if len(done) == written:
            os.truncate(partial, partial.stat().st_size // 2)
            raise SystemExit
        replace(partial, path)
        done.append(path.name)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(SystemExit):
        tiny_world.save_pretrained(tmp_path)
    monkeypatch.undo()
    assert done == ["vae.safetensors", "dit.safetensors", "starts.safetensors"][:written]
    with pytest.raises(ValueError, match=r"no world\.toml"):
        find_world(tmp_path)
    tiny_world.save_pretrained(tmp_path)
    assert World.load(tmp_path).config == tiny_world.config


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


def test_unknown_worlds_list_the_packaged_ones() -> None:
    with pytest.raises(ValueError, match="packaged worlds") as error:
        World.from_pretrained("no_such_world")
    assert all(name in str(error.value) for name in packaged_worlds())


@pytest.mark.parametrize("name", ["runs/memry", "org/name", "./runs/memry", "hub/org/name"])
def test_a_mistyped_directory_reaches_no_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: pytest.fail("somebody else's world was fetched"))
    with pytest.raises(ValueError, match=rf"unknown world '{name}': no such directory; .*hub:org/name"):
        World.from_pretrained(name)


def test_the_hub_is_asked_by_its_prefix_for_a_revision(tiny_world_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub, asked = pytest.importorskip("huggingface_hub"), []

    def fetch(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns))
        if name != "org/name":
            raise OSError("404 not found\nrequest id 123")
        return str(tiny_world_dir)

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    world = World.from_pretrained("hub:org/name", revision="v2", sha256=world_sha256(tiny_world_dir))
    assert world.sha256 == world_sha256(tiny_world_dir)
    assert find_world("hub:org/name") == tiny_world_dir
    only = ["*.toml", "*.safetensors"]
    assert asked == [("org/name", "v2", only), ("org/name", None, only)]
    with pytest.raises(ValueError, match=r"unknown world 'hub:org/nam': the hub said 404 not found$"):
        World.from_pretrained("hub:org/nam")
    for name in ("hub:name", "hub:a/b/c", "hub:", "hub:/a"):
        with pytest.raises(ValueError, match=f"unknown world '{name}'; worlds on the Hugging Face hub are named"):
            find_world(name)
    assert len(asked) == 3


def test_another_version_than_was_asked_for_is_refused(tiny_world_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"has sha256 .*, asked for 0123; it is another version"):
        World.from_pretrained(tiny_world_dir, sha256="0123")
    with pytest.raises(ValueError, match="revision='v2' is for worlds on the hub"):
        World.from_pretrained(tiny_world_dir, revision="v2")


def test_a_directory_without_world_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no world\.toml"):
        World.from_pretrained(tmp_path)


def test_weights_are_shared_per_world_device_and_type(tiny_world_dir: Path) -> None:
    cpu = torch.device("cpu")
    one = shared_world(tiny_world_dir, device=cpu, dtype=torch.float32)
    assert shared_world(str(tiny_world_dir), device=cpu, dtype=torch.float32) is one
    assert shared_world(tiny_world_dir, device=cpu, dtype=torch.bfloat16) is not one


def test_the_public_name() -> None:
    assert worldenv.World is World


def test_memory_config_travels_with_the_world(tiny_world_dir: Path, tmp_path: Path) -> None:
    world = World.load(tiny_world_dir)
    import dataclasses

    memory = MemoryConfig(policy="recent", temporal_latents=8, fov_deg=(70.0, 50.0))
    world.config = dataclasses.replace(world.config, memory=memory)
    world.save_pretrained(tmp_path)
    assert World.load(tmp_path).config.memory == memory


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "\udcff", "x" * 201])
def test_a_new_name_is_one_line(name: str, tiny_world_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a world's name is one line of up to 200 characters"):
        convert_world(tiny_world_dir, tmp_path / "out", dtype="float32", name_as=name)
    assert not (tmp_path / "out").exists()


def test_a_new_name_is_no_place(tiny_world_dir: Path, tmp_path: Path) -> None:
    convert_world(tiny_world_dir, tmp_path / "in" / "out", dtype="float32", name_as="../x")
    assert {path.name for path in (*tmp_path.iterdir(), *(tmp_path / "in").iterdir())} == {"in", "out"}
    assert World.load(tmp_path / "in" / "out").config.name == "../x"
