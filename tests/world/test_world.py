import json
import os
import shutil
from pathlib import Path

import pytest
import torch

import worldenv
from worldenv.base.config import dump_toml, read_toml
from worldenv.memory.config import MemoryConfig
from worldenv.world.config import Provenance
from worldenv.world.files import find_world, packaged_worlds, world_sha256
from worldenv.world.info import describe_world
from worldenv.world.world import World, convert_world, shared_world


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
