import pytest
import torch

from worldenv.base.config import from_dict, read_toml
from worldenv.models.dit import WorldDiT
from worldenv.models.presets import PRESETS
from worldenv.models.types import DiTConfig
from worldenv.models.vae import VAE, VAEConfig
from worldenv.world.files import find_world


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_parts_of_a_preset_fit_each_other(name: str) -> None:
    preset = PRESETS[name]
    assert preset.vae.latent_channels == preset.dit.latent_channels
    with torch.device("meta"):
        count = sum(p.numel() for p in WorldDiT(preset.dit).parameters())
    low, high = {"tiny": (1e4, 2e5), "maze": (5e6, 1e7), "worldplay": (5_293_225_152, 5_293_225_152)}[name]
    assert low <= count <= high


def test_the_packaged_world_has_its_preset_s_sizes() -> None:
    values = read_toml(find_world("maze") / "world.toml")
    vae, dit = (from_dict(kind, values[key], where=key) for kind, key in ((VAEConfig, "vae"), (DiTConfig, "dit")))
    assert vae == PRESETS["maze"].vae
    assert dit == PRESETS["maze"].dit
    assert sum(p.numel() for p in VAE(vae).parameters()) < 3_000_000
