"""TAEHV's decoder against a transcription of its published layout, run frame by frame."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from worldenv.base.checkpoint import save_tensors
from worldenv.dynamics.signals import Track
from worldenv.engine.engine import Engine
from worldenv.models.causal_conv import VAECache
from worldenv.models.pretrained.tiny_decoder import load_tiny_vae
from worldenv.models.vae import VAE, VAEConfig
from worldenv.world.world import World

CHANNELS, WIDTHS = 4, (16, 12, 8, 8)
BLOCKS, TIMES, OUTS = (3, 4, 5, 9, 10, 11, 15, 16, 17), {7: 1, 13: 2, 19: 2}, (8, 14, 20)


def taehv(patch: int = 2, widths: tuple[int, ...] = WIDTHS) -> dict[str, torch.Tensor]:
    """Random weights under the published names, with an encoder that is to be ignored."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return (
            torch.randn(shape, generator=generator) / shape[1] ** 0.5 / shape[-1]
            if len(shape) > 1
            else (0.1 * torch.randn(shape, generator=generator))
        )

    t = {"1.weight": normal(widths[0], CHANNELS, 3, 3), "1.bias": normal(widths[0])}
    for i in BLOCKS:
        w = widths[(i - 3) // 6]
        for j in (0, 2, 4):
            t |= {f"{i}.conv.{j}.weight": normal(w, 2 * w if j == 0 else w, 3, 3), f"{i}.conv.{j}.bias": normal(w)}
    for k, (i, grow) in enumerate(TIMES.items()):
        t |= {f"{i}.conv.weight": normal(grow * widths[k], widths[k], 1, 1)}
        t |= {f"{i + 1}.weight": normal(widths[k + 1], widths[k], 3, 3)}
    t |= {"22.weight": normal(3 * patch**2, widths[3], 3, 3), "22.bias": normal(3 * patch**2)}
    return {f"decoder.{k}": v for k, v in t.items()} | {"encoder.0.weight": torch.zeros(1)}


def frame_by_frame(t: dict[str, torch.Tensor], latents: torch.Tensor, patch: int = 2) -> torch.Tensor:
    """Decode one clip (F, C, h, w) as the published sequence of layers, one frame after another; (4F, 3, H, W)."""

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        weight = t[f"decoder.{name}.weight"]
        return F.conv2d(x, weight, t.get(f"decoder.{name}.bias"), padding=weight.shape[-1] // 2)

    memory: dict[int, torch.Tensor] = {}

    def run(x: torch.Tensor, i: int) -> list[torch.Tensor]:
        if i == 23:
            return [F.pixel_shuffle(x, patch).clamp(0, 1)]
        if i in BLOCKS:
            hidden = torch.cat([x, memory.get(i, torch.zeros_like(x))], 1)
            memory[i] = x
            for j in (0, 2, 4):
                hidden = conv(f"{i}.conv.{j}", hidden)
                hidden = F.relu(hidden) if j < 4 else hidden
            return run(F.relu(hidden + x), i + 1)
        if i in TIMES:
            return [f for part in conv(f"{i}.conv", x).chunk(TIMES[i], 1) for f in run(part, i + 1)]
        if i in (6, 12, 18):
            return run(x.repeat_interleave(2, -1).repeat_interleave(2, -2), i + 1)
        if i in (2, 21):
            return run(F.relu(x), i + 1)
        return run(torch.tanh(x / 3) * 3 if i == 0 else conv(str(i), x), i + 1)

    return torch.cat([frame for latent in latents for frame in run(latent[None], 0)])


@pytest.fixture
def full() -> nn.Module:
    vae = VAE(VAEConfig(latent_channels=CHANNELS, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8)))
    vae.spatial_factor = 16  # only its channels and size are asked for
    return vae


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_equals_the_published_layers_run_frame_by_frame(full, tmp_path: Path, suffix: str) -> None:
    weights, file = taehv(), tmp_path / f"taew2_2{suffix}"
    torch.save(weights, file) if suffix == ".pth" else save_tensors(file, weights)
    vae = load_tiny_vae(full, file)
    z = 2 * torch.randn(2, 3, CHANNELS, 2, 3, generator=torch.Generator().manual_seed(1))
    wanted = torch.stack([frame_by_frame(weights, row) for row in z])[:, 3:]
    cache = VAECache()
    streamed = torch.cat([vae.decode(latent, cache) for latent in z.split(1, 1)], 1)
    assert streamed.shape == (2, 9, 3, 32, 48)
    assert float(wanted.std()) > 0.05
    torch.testing.assert_close((streamed + 1) / 2, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(vae.decode(z), streamed, atol=1e-5, rtol=1e-5)


def test_files_that_do_not_fit_are_refused(full, tmp_path: Path) -> None:
    def attempt(tensors: dict[str, torch.Tensor]) -> None:
        save_tensors(tmp_path / "w.safetensors", tensors)
        load_tiny_vae(full, tmp_path / "w.safetensors")

    with pytest.raises(ValueError, match="4 channels to 8x"):
        attempt(taehv(patch=1))
    with pytest.raises(ValueError, match=r"decoder.14.weight missing"):
        attempt({k: v for k, v in taehv().items() if k != "decoder.14.weight"})
    with pytest.raises(ValueError, match=r"missing stages.0.blocks.1.conv.2.bias"):
        attempt({k: v for k, v in taehv().items() if k != "decoder.4.conv.2.bias"})
    with pytest.raises(ValueError, match=r"unexpected decoder.30.weight"):
        attempt(taehv() | {"decoder.30.weight": torch.zeros(1)})
    (tmp_path / "broken.pth").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be read"):
        load_tiny_vae(full, tmp_path / "broken.pth")


def test_a_release_steps_with_it(release_dir: Path, tmp_path: Path) -> None:
    save_tensors(tmp_path / "tiny.safetensors", taehv())
    world = World.from_worldplay(release_dir, tiny_decoder=tmp_path / "tiny.safetensors")
    engine = Engine(world, 1)
    engine.set_prompt(torch.zeros(1, 3, world.config.dit.text_dim))
    picture = torch.zeros(1, world.spec.height, world.spec.width, 3, dtype=torch.uint8)
    engine.resume(picture[:, None], {}, seeds=[0])
    still = torch.eye(4, dtype=torch.float64).expand(1, 4, 4, 4)
    chunk = engine.step(Track(keys=torch.zeros(1, 4, 2, dtype=torch.long), c2w=still))
    assert chunk.frames.shape == (1, 16, world.spec.height, world.spec.width, 3)
