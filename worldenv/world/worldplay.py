"""Tencent's released WorldPlay-5B: what a ``World`` of it is made of. It is stepped as all are, under its own rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..base.config import check_counts
from ..base.log import console
from ..diffusion.schedule import SamplerConfig
from ..dynamics.spec import WorldSpec
from ..geometry.action import ActionSteps
from ..memory.config import MemoryConfig
from ..models.codec import Codec
from ..models.dit import WorldDiT
from ..models.pretrained.release import find_release
from ..models.pretrained.text import PromptEncoder
from ..models.pretrained.tiny_decoder import load_tiny_vae
from ..models.pretrained.wan_vae import WAN22, WanVAE, load_wan_vae
from ..models.pretrained.worldplay import WORLDPLAY_5B, config_from_diffusers, load_transformer
from ..models.ranks import Ranks
from ..models.types import DiTConfig
from .config import WorldConfig

LICENCE = "Tencent HY-WorldPlay Community License"
NOTICE = (
    f"These weights are under the {LICENCE}: the European Union, the United Kingdom and South Korea are excluded, and "
    "outputs must not be used to improve other AI models. Read it before use."
)
FOCAL = (969.6969696969696 / 1920, 969.6969696969696 / 1080)
"""fx / width and fy / height of the release's default camera."""
STEPS = ActionSteps(move=0.08, turn_deg=3.0, pitch_deg=3.0, motion="fly")
"""The release's step per latent: 0.08 units, 3 degrees, in the camera's own axes."""
LATENT = 16
"""Pixels of a latent cell's side."""
SAMPLER = SamplerConfig(num_steps=4, shift=8.0)
"""Timesteps 1000, 960, 888.9, 727.3, 0."""
MEMORY = MemoryConfig(temporal_latents=12, retrieved_chunks=1, fov_deg=(60.0, 35.0), radius=8.0, num_points=50_000)
"""The WAN variant's memory: three recent chunks and one retrieved, no sink."""

Numerics = Literal["clean", "reference"]
_shown: set[str] = set()


@dataclass(frozen=True)
class Release:
    """A release, opened."""

    config: WorldConfig
    vae: Codec
    dit: WorldDiT
    prompts: Callable[[str], Tensor] | None = None
    notice: str = ""


def load_release(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    numerics: Numerics = "clean",
    size: tuple[int, int] = (704, 1280),
    noise_horizon: int = 0,
    tiny_decoder: str | Path | None = None,
    ranks: Ranks | None = None,
) -> Release:
    """Load a release; the licence of its weights is shown once.

    Started by ``torchrun --nproc-per-node N``, N processes compute it together, a GPU each; all do the same things.

    Args:
        folder: see ``find_release``.
        device: where the weights go, tensor by tensor.
        dtype: precision of the transformer and the VAE; bfloat16 on a GPU, float32 on a CPU by default.
        numerics: ``clean`` keeps cameras and embeddings in float32; ``reference`` rounds as the release does.
        size: height and width of the pictures, multiples of 32.
        noise_horizon: latents whose noise is drawn at reset (the release draws 241); 0 draws chunk by chunk.
        tiny_decoder: TAEHV's weights for Wan2.2 (``taew2_2``, .pth or .safetensors), to decode faster with less detail.
        ranks: the processes that compute it together; None is those that a launcher has started.

    Raises:
        ValueError: if files are missing, unreadable or of another model, or it cannot be shared by so many.
    """
    path = Path(folder)
    release = find_release(path, size=size)
    if any(side % 32 for side in release.size):
        raise ValueError(f"height and width {release.size} must be multiples of 32")
    config = replace(config_from_diffusers(release.transformer, where=str(path)), numerics=numerics)
    ranks = ranks or Ranks.launched(device)
    if ranks is not None:
        _check_share(ranks, config, release.size)
    if str(path) not in _shown:
        _shown.add(str(path))
        console.print(NOTICE)
    if dtype is None:
        dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
    dit = load_transformer(config, release.weights, device=device, dtype=dtype)
    full = load_wan_vae(release.vae, release.vae_weights, device=device, dtype=dtype)
    dit.ranks = ranks
    if ranks is not None:
        full.share(ranks)
    vae: Codec = full
    if tiny_decoder is not None:  # which every process runs as a whole: it is 200 times cheaper
        vae = load_tiny_vae(full, Path(tiny_decoder), device=device, dtype=dtype)
    prompts = PromptEncoder(release.text, text_dim=config.text_dim)
    return Release(_config(dit, release.size, noise_horizon), vae, dit, prompts, NOTICE)


def random_release(
    *, num_layers: int, size: tuple[int, int], device: torch.device | str, dtype: torch.dtype
) -> Release:
    """Make a model of the released sizes on random weights, to measure what stepping it takes.

    As with ``load_release``, processes that ``torchrun`` has started compute it together.
    """
    check_counts(num_layers=num_layers)
    side = LATENT * WORLDPLAY_5B.patch
    if any(length < side or length % side for length in size):
        raise ValueError(f"size={size}: height and width must be multiples of {side}")
    config, ranks = replace(WORLDPLAY_5B, num_layers=num_layers), Ranks.launched(device)
    if ranks is not None:
        _check_share(ranks, config, size)
    torch.manual_seed(0)
    with torch.device("meta"):
        dit = WorldDiT(config).to(dtype)
    dit.to_empty(device=device)
    for parameter in dit.parameters():
        parameter.data.uniform_(-0.02, 0.02)
    vae = WanVAE(WAN22).to(device, dtype)
    dit.ranks = ranks
    if ranks is not None:
        vae.share(ranks)
    return Release(_config(dit, size, 0), vae.eval().requires_grad_(False), dit.eval().requires_grad_(False))


def _check_share(ranks: Ranks, config: DiTConfig, size: tuple[int, int]) -> None:
    rows, columns = (side // LATENT for side in size)
    ranks.check(config, tokens=rows * columns // config.patch**2, rows=rows)


def _config(dit: WorldDiT, size: tuple[int, int], noise_horizon: int) -> WorldConfig:
    height, width = size
    return WorldConfig(
        name="worldplay",
        licence=LICENCE,
        spec=WorldSpec(width=width, height=height, fps=16, steps=STEPS, start_in_chunk=True, focal=FOCAL),
        dit=dit.config,
        sampler=replace(SAMPLER, noise_horizon=noise_horizon),
        memory=MEMORY,
    )
