"""Forks, files and clips of vector environments."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import worldenv  # noqa: F401
from worldenv.base.checkpoint import load_tensors, save_tensors
from worldenv.world.world import World

PROGRAM = """
import sys, gymnasium as gym, numpy as np, worldenv
kwargs = {"world": sys.argv[1], "memory": sys.argv[2], "obs_mode": "chunk"}
envs = gym.make_vec("worldenv/Revisit-v0", num_envs=2, **kwargs).unwrapped
envs.load_state(sys.argv[3])
rng = np.random.default_rng(1)
np.save(sys.argv[4], np.stack([envs.step(rng.integers(0, 4, 2))[0] for _ in range(3)]))
"""


def make(world: World | Path, num_envs: int = 2, **kwargs: Any) -> Any:
    world = str(world) if isinstance(world, Path) else world
    return gym.make_vec("worldenv/Revisit-v0", num_envs=num_envs, world=world, obs_mode="chunk", **kwargs).unwrapped


def walk(envs: Any, steps: int, seed: int = 0, *, same: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    size = 1 if same else envs.num_envs
    return np.stack([envs.step(np.broadcast_to(rng.integers(0, 4, size), envs.num_envs))[0] for _ in range(steps)])


@pytest.mark.parametrize(("memory", "rendered"), [("worldplay", False), ("worldscape", False), ("worldplay", True)])
def test_a_saved_state_continues_in_another_process(
    tiny_world_dir: Path, rendered_world: World, tmp_path: Path, memory: str, rendered: bool
) -> None:
    folder = tmp_path / "rendered" if rendered else tiny_world_dir
    if rendered:
        rendered_world.save_pretrained(folder)
    envs = make(folder, memory=memory, device="cpu")
    envs.reset(seed=3)
    walk(envs, 6)
    envs.save_state(tmp_path / "state.safetensors")
    command = [sys.executable, "-c", PROGRAM, str(folder), memory, str(tmp_path / "state.safetensors")]
    subprocess.run([*command, str(tmp_path / "frames.npy")], check=True, env={"OMP_NUM_THREADS": "1"})
    rng = np.random.default_rng(1)
    wanted = np.stack([envs.step(rng.integers(0, 4, 2))[0] for _ in range(3)])
    assert (np.load(tmp_path / "frames.npy") == wanted).all()


def test_states_of_other_worlds_and_settings_are_refused(
    tiny_world: World, tiny_world_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "state.safetensors"
    envs = make(tiny_world_dir, dtype="float32")
    envs.reset(seed=0)
    envs.save_state(path, [1])
    other = World(tiny_world.config, starts=tiny_world.starts)
    with pytest.raises(ValueError, match="saved with world"):
        make(other).load_state(path)
    with pytest.raises(ValueError, match="saved with memory"):
        make(tiny_world_dir, memory="recent", dtype="float32").load_state(path)
    with pytest.raises(ValueError, match="saved with chunk_latents"):
        make(tiny_world_dir, chunk_latents=1, dtype="float32").load_state(path)
    with pytest.raises(ValueError, match="saved with max_episode_steps"):
        make(tiny_world_dir, max_episode_steps=3, dtype="float32").load_state(path)
    tensors, header = load_tensors(path)
    for other in (1, 2.0):
        save_tensors(tmp_path / "old.safetensors", tensors, header={**header, "format": other})
        with pytest.raises(ValueError, match=f"state format {other}, this version reads 2"):
            envs.load_state(tmp_path / "old.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        envs.load_state(path)
    with pytest.raises(ValueError, match="no such file"):
        envs.load_state(tmp_path / "nothing.safetensors")


def damages(state: dict[str, torch.Tensor]) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Damage a state tensor by tensor."""
    for name, tensor in state.items():
        yield f"without {name}", {k: v for k, v in state.items() if k != name}
        kind = torch.int16 if tensor.dtype == torch.float32 else torch.float32
        for made, other in {
            "of another dtype": tensor.to(kind),
            "of complex numbers": tensor.to(torch.complex64),
            "of flags": tensor.bool() if tensor.dtype != torch.bool else tensor.long(),
            "with one row": tensor[:1],
            "wider": tensor[..., None].expand(*tensor.shape, 2),
            "of no rows": tensor[:0],
            "a number": tensor.flatten()[0],
        }.items():
            yield f"{name} {made}", {**state, name: other.contiguous()}
        if tensor.is_floating_point():
            for number in (torch.nan, torch.inf):
                broken = tensor.clone()
                broken[0] = number
                yield f"{name} of {number}", {**state, name: broken}
        if name.endswith("c2w"):
            yield f"{name} mirrored", {**state, name: -tensor}
    for name in ("length", "track.keys", "origin.keys", "views.given", "store.entry"):
        if (key := f"engine.{name}") in state:
            for number in (-2, 10_000):
                yield f"{name} of {number}", {**state, key: torch.full_like(state[key], number)}
    yield "generators of nonsense", {**state, "engine.generators": torch.full_like(state["engine.generators"], 255)}
    yield "something unknown", {**state, "engine.surprise": torch.zeros(2)}


@pytest.mark.parametrize("memory", ["worldplay", "worldscape", "rendered"])
def test_a_refused_state_changes_nothing(tiny_world: World, rendered_world: World, tmp_path: Path, memory: str) -> None:
    world, policy = (rendered_world, "worldplay") if memory == "rendered" else (tiny_world, memory)
    envs, plain, fresh = (make(world, memory=policy) for _ in range(3))
    for one in (envs, plain):
        one.reset(seed=3)
        walk(one, 3)
    path = tmp_path / "state.safetensors"
    envs.save_state(path)
    state, header = load_tensors(path)
    state = {name: tensor.clone() for name, tensor in state.items()}
    walk(envs, 1)
    walk(plain, 1)
    for _what, damaged in damages(state):
        save_tensors(path, damaged, header=header)
        for one in (envs, fresh):
            with pytest.raises(ValueError, match=r"state\.safetensors: [^\n]*$"):
                one.load_state(path)
    assert (walk(envs, 2) == walk(plain, 2)).all()
    with pytest.raises(gym.error.ResetNeeded):
        fresh.step(np.zeros(2, int))


def test_rows_that_do_not_exist_are_refused_before_anything_changes(tiny_world_dir: Path, tmp_path: Path) -> None:
    many, few, plain = make(tiny_world_dir, 4), make(tiny_world_dir), make(tiny_world_dir)
    for envs in (many, few, plain):
        envs.reset(seed=1)
    many.save_state(tmp_path / "four.safetensors")
    with pytest.raises(ValueError, match="must be different ones of"):
        few.load_state(tmp_path / "four.safetensors")
    state = few.clone_state([0, 1])
    with pytest.raises(ValueError, match="must be different ones of"):
        few.restore_state(state, [1, 1])
    with pytest.raises(ValueError, match="must be different ones of"):
        few.clone_state([2])
    with pytest.raises(ValueError, match="reseed holds 0 seeds"):
        few.fork([0], [1], reseed=[])
    assert (walk(few, 2) == walk(plain, 2)).all()


def test_simulators_have_no_state_to_save(maze_world: World, tmp_path: Path) -> None:
    envs = gym.make_vec("worldenv/RevisitSim-v0", num_envs=1, world=maze_world).unwrapped
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="copies episodes; DoomDynamics does not"):
        envs.save_state(tmp_path / "state.safetensors")  # type: ignore[attr-defined]
    envs.close()


@pytest.mark.parametrize("memory", ["worldplay", "worldscape"])
def test_a_fork_repeats_its_trunk_through_resets_unless_reseeded(tiny_world: World, memory: str) -> None:
    envs = make(tiny_world, 4, memory=memory, max_episode_steps=6)
    envs.reset(seed=0)
    walk(envs, 4)
    envs.fork([0, 1], [2, 3])
    frames = walk(envs, 4, same=True)  # over the time limit into the next episode
    assert (frames[:, :2] == frames[:, 2:]).all()
    envs.fork([0], [1], reseed=[77])
    apart = walk(envs, 1, same=True)
    assert (apart[:, 0] != apart[:, 1]).any()
    with pytest.raises(ValueError, match="cannot fork"):
        envs.fork([0, 1], [1, 2])


def test_video_continuation(tiny_world: World) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (33, 48, 64, 3), dtype=np.uint8)
    c2w = np.tile(np.eye(4), (33, 1, 1))
    c2w[:, 2, 3] = np.linspace(0, 2, 33)
    envs = make(tiny_world, report_memory=True)
    obs, info = envs.reset(seed=0, options={"clip": frames, "c2w": c2w, "K": tiny_world.spec.K})
    assert (obs[:, -1] == frames[-1]).all()
    assert info["memory_chunks"].tolist() == [3, 3], "the start view and two chunks"
    np.testing.assert_allclose(info["c2w"][:, 2, 3], 2)
    sparse, _ = envs.reset(seed=0, options={"clip": frames, "c2w": c2w[::4]})
    assert (sparse == obs).all()
    assert envs.step(np.zeros(2, np.int64))[0].shape == (2, 16, 48, 64, 3)
    single = gym.make("worldenv/Revisit-v0", world=tiny_world)
    assert (single.reset(seed=0, options={"clip": frames, "c2w": c2w})[0] == frames[-1]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c2w": np.eye(4)[None]}, "which is missing"),
        ({"clip": np.zeros((1, 48, 64, 3), np.uint8), "c2w": np.full((1, 4, 4), np.nan)}, "no rigid motions"),
        ({"clip": np.zeros((1, 48, 64, 3), np.uint8), "c2w": 2 * np.eye(4)[None]}, "no rigid motions"),
        ({"clip": np.zeros((17, 48, 64, 3), np.uint8)}, r"needs options\['c2w'\]"),
        ({"clip": np.zeros((17, 48, 64, 3)), "c2w": np.eye(4)[None]}, "expected uint8"),
        ({"clip": np.zeros((16, 48, 64, 3), np.uint8), "c2w": np.tile(np.eye(4), (4, 1, 1))}, r"1 \+ 16 N frames"),
        ({"clip": np.zeros((17, 48, 64, 3), np.uint8), "c2w": np.eye(4)}, "expected"),
        ({"clip": np.zeros((1, 48, 64, 3), np.uint8), "c2w": np.eye(4)[None], "K": np.eye(3)}, "camera"),
        ({"clip": np.zeros((17, 48, 64, 3), np.uint8), "image": np.zeros((48, 64, 3), np.uint8)}, "one of them"),
    ],
)
def test_clips_that_do_not_fit_are_refused(tiny_world: World, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(tiny_world).reset(seed=0, options=options)


def test_info_tells_what_was_remembered(tiny_world: World) -> None:
    for memory in ("worldplay", "worldscape", "recent"):
        envs = make(tiny_world, memory=memory, report_memory=True)
        envs.reset(seed=0)
        for _ in range(7):
            info = envs.step(np.array([0, 2]))[4]
        entries, retrieved = info["memory_entries"], info["memory_retrieved"]
        assert entries.max() == 6, "the newest chunk before this one"
        assert retrieved.shape == info["memory_score"].shape == (2, 1)
        assert info["memory_retrieved_c2w"].shape == (2, 1, 4, 4)
        bank = envs.core.dynamics.history.bank
        for row in range(2):
            found = retrieved[row, 0]
            assert found in entries[row] or found == -1
            if memory == "worldplay":
                assert found >= 0
                assert 0 < info["memory_score"][row, 0] <= 1
            if found >= 0:
                middle = max(0, 4 * found - 1)
                np.testing.assert_array_equal(info["memory_retrieved_c2w"][row, 0], bank.c2w[row, middle])
        info = envs.reset(seed=5, options={"reset_mask": np.array([True, False])})[1]
        assert (info["memory_entries"][0] == -1).all(), "a new episode has attended to nothing yet"
        assert (info["memory_entries"][1] == entries[1]).all()


def test_history_past_its_budget_lies_in_a_file(tiny_world: World) -> None:
    """Latents spill, and nothing changes; the file goes with the environment."""
    plain, spilled = make(tiny_world), make(tiny_world, memory={"bank_bytes": 100_000})
    for envs in (plain, spilled):
        envs.reset(seed=0)
    assert (walk(plain, 36) == walk(spilled, 36)).all()
    bank = spilled.core.dynamics.history.bank
    assert bank.latents.numel() * 4 > 100_000
    parts = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("(deleted)")]
    spans = [[int(end, 16) for end in part[0].split("-")] for part in parts]  # of files without a name
    assert any(first <= bank.latents.data_ptr() < last for first, last in spans)
    assert torch.equal(bank.latents[:, :140], plain.core.dynamics.history.bank.latents[:, :140])


def test_a_full_disk_is_named(tiny_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    envs = make(tiny_world, memory={"bank_bytes": 100_000})
    envs.reset(seed=0)
    with pytest.raises(OSError, match=r"the memory needs .* MiB under .*; point TMPDIR"):
        walk(envs, 36)
