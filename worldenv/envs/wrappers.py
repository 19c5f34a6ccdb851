"""Wrappers: videos of every generated frame, not only the last of each chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from ..base.media import VideoWriter


def chunk_rows(env: Any) -> Any:
    """Return the newest chunk of each row of an environment, (B, T, H, W, 3)."""
    return env.unwrapped.chunk_frames


def shown(
    env: Any,
    frames: Any,  # (..., H, W, 3) uint8
    *,
    display: bool,
) -> Any:
    """Return frames as an environment's world shows them to people, or as they are."""
    if not display:
        return frames
    return env.unwrapped.core.enlarge(torch.from_numpy(np.ascontiguousarray(frames))).numpy()


def RecordChunkVideo(env: Any, folder: str | Path, **options: Any) -> Any:
    """Write every generated frame of a single or vector environment at the world's fps.

    Args:
        env: what ``gym.make`` or ``gym.make_vec`` gave.
        folder: where the videos go: one per episode of a single env, one for all rows of a vector env.
        options: ``prefix`` of the file names; ``columns`` of the grid of a vector env; ``display=False`` for frames as
            agents see them, where the world has a display decoder. Observations are never larger.
    """
    vector = isinstance(env.unwrapped, gym.vector.VectorEnv)
    return VectorChunkVideo(env, folder, **options) if vector else SingleChunkVideo(env, folder, **options)


class SingleChunkVideo(gym.Wrapper[Any, Any, Any, Any]):
    """Write each episode of a single environment, every frame, at the world's fps: ``<prefix>-<episode>.mp4``."""

    def __init__(
        self, env: gym.Env[Any, Any], folder: str | Path, *, prefix: str = "episode", display: bool = True
    ) -> None:
        super().__init__(env)
        self.display = display
        self.folder, self.prefix, self.episode = Path(folder), prefix, -1
        self.writer: VideoWriter | None = None

    def reset(self, **kwargs: Any) -> Any:
        """Reset and begin a new file with the start view."""
        result = self.env.reset(**kwargs)
        self._finish()
        self.episode += 1
        path = self.folder / f"{self.prefix}-{self.episode:04d}.mp4"
        fps = self.env.unwrapped.core.spec.fps  # type: ignore[attr-defined]
        self.writer = VideoWriter(path, fps=fps, quality=9)
        self.writer.append(shown(self.env, chunk_rows(self.env)[0, -1:], display=self.display))
        return result

    def step(self, action: Any) -> Any:
        """Step and append the chunk."""
        result = self.env.step(action)
        assert self.writer is not None
        self.writer.append(shown(self.env, chunk_rows(self.env)[0], display=self.display))
        return result

    def close(self) -> None:
        """Finish the file and close the environment."""
        self._finish()
        self.env.close()

    def _finish(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


class VectorChunkVideo(gym.vector.VectorWrapper):
    """Write all rows of a vector environment into one video, ``columns`` tiles across: ``<prefix>.mp4``."""

    def __init__(
        self,
        env: gym.vector.VectorEnv[Any, Any, Any],
        folder: str | Path,
        *,
        prefix: str = "envs",
        columns: int = 4,
        display: bool = True,
    ) -> None:
        super().__init__(env)
        self.display = display
        self.path, self.columns = Path(folder) / f"{prefix}.mp4", columns
        fps = env.unwrapped.core.spec.fps  # type: ignore[attr-defined]
        self.writer = VideoWriter(self.path, fps=fps, quality=9)

    def reset(self, **kwargs: Any) -> Any:
        """Reset and append the start views."""
        result = self.env.reset(**kwargs)
        self.writer.append(tile(shown(self.env, chunk_rows(self.env)[:, -1:], display=self.display), self.columns))
        return result

    def step(self, actions: Any) -> Any:
        """Step and append the chunks."""
        result = self.env.step(actions)
        self.writer.append(tile(shown(self.env, chunk_rows(self.env), display=self.display), self.columns))
        return result

    def close(self, **kwargs: Any) -> None:
        """Finish the file and close the environment."""
        self.writer.close()
        self.env.close(**kwargs)


def tile(
    frames: Any,  # (B, T, H, W, 3) uint8
    columns: int,
) -> Any:
    """Lay B videos out in a grid; (T, rows * H, columns * W, 3)."""
    batch, time, height, width, _ = frames.shape
    rows = -(-batch // columns)
    grid = np.zeros((rows * columns, time, height, width, 3), np.uint8)
    grid[:batch] = frames
    grid = grid.reshape(rows, columns, time, height, width, 3).transpose(2, 0, 3, 1, 4, 5)
    return grid.reshape(time, rows * height, columns * width, 3)
