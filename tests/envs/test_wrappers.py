from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from worldenv.envs.env import WorldEnv
from worldenv.envs.vector_env import WorldVectorEnv
from worldenv.envs.wrappers import RecordChunkVideo, tile
from worldenv.models.heads import DisplayConfig, DisplayHead, HeadConfigs
from worldenv.world.world import World


def test_every_frame_of_a_single_env_is_written(tiny_world: World, tmp_path: Path) -> None:
    env = RecordChunkVideo(WorldEnv(task="revisit", world=tiny_world, device="cpu"), tmp_path)
    for steps in (2, 1):
        env.reset(seed=0)
        for _ in range(steps):
            env.step(2)
    env.close()
    videos = sorted(tmp_path.glob("*.mp4"))
    assert [v.name for v in videos] == ["episode-0000.mp4", "episode-0001.mp4"]
    assert [iio.imread(v).shape for v in videos] == [(33, 48, 64, 3), (17, 48, 64, 3)]
    assert iio.immeta(videos[0])["fps"] == 24


def test_a_vector_env_becomes_one_tiled_video(tiny_world: World, tmp_path: Path) -> None:
    env = RecordChunkVideo(
        WorldVectorEnv(3, task="revisit", world=tiny_world, device="cpu"), tmp_path, prefix="a", columns=2
    )
    env.reset(seed=0)
    env.step(np.array([0, 1, 2]))
    env.close()
    assert iio.imread(tmp_path / "a.mp4").shape == (17, 96, 128, 3)


def test_videos_are_large_where_a_world_has_a_display_and_observations_small(tiny_world: World, tmp_path: Path) -> None:
    sizes = DisplayConfig(widths=(8, 8, 8), fine=8, num_blocks=1)
    config = replace(tiny_world.config, heads=HeadConfigs(display=sizes))
    parts = {"vae": tiny_world.vae, "dit": tiny_world.dit, "starts": tiny_world.starts}
    world = World(config, heads={"display": DisplayHead(sizes)}, **parts)
    for display, times in ((True, 4), (False, 1)):
        made = WorldVectorEnv(2, task="revisit", world=world, device="cpu")
        env = RecordChunkVideo(made, tmp_path, prefix=f"{display}", columns=2, display=display)
        env.reset(seed=0)
        obs, *_ = env.step(np.array([0, 1]))
        assert obs.shape[-3:] == (48, 64, 3)
        env.close()
        assert iio.imread(tmp_path / f"{display}.mp4").shape == (17, 48 * times, 128 * times, 3)


def test_tiles_lie_in_reading_order() -> None:
    frames = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1, 1) * np.ones((3, 2, 4, 5, 3), np.uint8)
    grid = tile(frames + 1, 2)
    assert grid.shape == (2, 8, 10, 3)
    assert [grid[0, r, c, 0] for r, c in ((0, 0), (0, 5), (4, 0), (4, 5))] == [1, 2, 3, 0]
