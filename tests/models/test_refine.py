from dataclasses import replace

import pytest
import torch

from worldenv.models.dit import WorldDiT, patchify, unpatchify
from worldenv.models.refine import with_finer_tokens, with_inputs
from worldenv.models.types import Conditioning, DiTConfig

COARSE = DiTConfig(latent_channels=3, patch=4, width=48, num_layers=1, num_heads=2, ffn_dim=64)


@pytest.fixture
def dit() -> WorldDiT:
    torch.manual_seed(0)
    made = WorldDiT(COARSE)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made


@pytest.mark.parametrize("patch", [1, 2])
def test_even_latents_are_read_as_before_and_the_mean_is_written(dit: WorldDiT, patch: int) -> None:
    fine = with_finer_tokens(dit, patch)
    assert fine.config == replace(COARSE, patch=patch)
    even = torch.randn(1, 2, 3, 1, 2).repeat_interleave(4, 3).repeat_interleave(4, 4)  # one value per old token
    old, new = (model.patch_embedding(patchify(even, model.config.patch)) for model in (dit, fine))
    rows, columns, ratio = 4 // patch, 8 // patch, 4 // patch
    tiled = old.view(1, 2, 1, 2, 48).repeat_interleave(ratio, 2).repeat_interleave(ratio, 3).flatten(2, 3)
    torch.testing.assert_close(new, tiled)
    hidden = torch.randn(1, 2, 2, 48)  # old tokens; new ones carry the same
    spread = hidden.view(1, 2, 1, 2, 48).repeat_interleave(ratio, 2).repeat_interleave(ratio, 3).flatten(2, 3)
    before = unpatchify(dit.proj_out(hidden), 4, rows=1, columns=2)
    after = unpatchify(fine.proj_out(spread), patch, rows=rows, columns=columns)
    torch.testing.assert_close(after.mean((3, 4)), before.mean((3, 4)))
    blocks = {k: v for k, v in dit.state_dict().items() if k.startswith("blocks")}
    assert all(torch.equal(v, fine.state_dict()[k]) for k, v in blocks.items())


@pytest.mark.parametrize(
    ("more", "zero"),
    [("grasp_offsets", "grasp_embedder.linear_2.weight"), ("grasp_branch", "blocks.0.attn.to_out_grasp.weight")],
)
def test_further_inputs_change_nothing_until_they_are_trained(dit: WorldDiT, more: str, zero: str) -> None:
    robots = with_inputs(dit, pose_video=True)
    torch.nn.init.normal_(robots.pose_embedding)
    wider = with_inputs(robots, **{more: True})
    assert wider.config == replace(COARSE, pose_video=True, **{more: True})
    cond = Conditioning(
        torch.full((1, 2), 500.0),
        torch.arange(2)[None],
        labels=torch.zeros(1, 2, dtype=torch.long),
        projection=torch.eye(4).expand(1, 2, 4, 4),
        unprojection=torch.eye(4).expand(1, 2, 4, 4),
        drawn=torch.tensor([[False, True]]),
        grasp=torch.rand(1, 2, 2),
    )
    x = torch.randn(1, 2, 3, 4, 8)
    torch.testing.assert_close(wider(x, cond), robots(x, cond))
    torch.nn.init.normal_(wider.get_parameter(zero))
    assert (wider(x, cond) - robots(x, cond)).abs().max() > 1e-3


@pytest.mark.parametrize("patch", [3, 4, 8])
def test_tokens_must_divide(dit: WorldDiT, patch: int) -> None:
    with pytest.raises(ValueError, match="do not divide"):
        with_finer_tokens(dit, patch)
