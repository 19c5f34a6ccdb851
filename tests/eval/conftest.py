"""Cases without a simulator: frames of noise along given paths."""

from collections.abc import Callable

import pytest
import torch

from worldenv.dynamics.spec import WorldSpec
from worldenv.eval.suites.cases import Cases, returns
from worldenv.geometry.action import camera_to_c2w, keys_to_camera

MakeCases = Callable[..., Cases]


@pytest.fixture(scope="session")
def noise_cases() -> MakeCases:
    """Frames that are equal where poses are, different everywhere else."""

    def make(kinds: list[str], num_chunks: int, *, size: tuple[int, int] = (8, 8), lap: int = 128) -> Cases:
        spec, generator = WorldSpec(), torch.Generator().manual_seed(0)
        count, num_latents = len(kinds), 4 * num_chunks
        keys = torch.tensor([1, 1]).expand(count, num_latents, 2)
        start = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
        start[:, 0, 3] = torch.arange(count)
        c2w = camera_to_c2w(keys_to_camera(keys), start, spec.steps)
        for row in (i for i, kind in enumerate(kinds) if kind == "out_and_back"):
            whole = torch.cat([start[row : row + 1], c2w[row]])
            c2w[row] = torch.cat([whole[1 : num_latents // 2 + 1], whole[: num_latents // 2].flip(0)])
        frames = torch.randint(0, 256, (count, 1 + 4 * num_latents, *size, 3), dtype=torch.uint8, generator=generator)
        first = torch.stack([returns(kind, frames.shape[1], lap=lap) for kind in kinds])
        for row, index in enumerate(first):
            for frame in (index >= 0).nonzero()[:, 0].tolist():
                frames[row, frame] = frames[row, index[frame]]
        return Cases(list(range(count)), kinds, start, c2w, keys, frames, first)

    return make
