import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from worldenv.base.checkpoint import load_tensors, save_tensors
from worldenv.models.motion import PoseConfig, PoseNet, correlate, expected_shift, load_pose, save_pose

CONFIG = PoseConfig(
    width=32, height=24, encoder_widths=(3, 4, 6), reach_fine=(3, 1), reach_coarse=(2, 1), hidden=8, dilations=(1, 2)
)


@pytest.fixture(scope="module")
def net() -> PoseNet:
    torch.manual_seed(0)
    return PoseNet(CONFIG).eval().requires_grad_(False)


def maps(seed: int, width: int = 7) -> torch.Tensor:
    return torch.randn(2, 4, 5, width, generator=torch.Generator().manual_seed(seed))


def test_correlation_equals_a_plain_transcription() -> None:
    first, second = maps(0), maps(1)
    found = correlate(first, second, reach=(3, 2)).unflatten(1, (5, 7))
    a, b = ((x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), correction=0, keepdim=True) for x in (first, second))
    for dy in range(-2, 3):
        for dx in range(-3, 4):
            for y in range(5):
                for x in range(7):
                    inside = 0 <= y + dy < 5 and 0 <= x + dx < 7
                    other = b[:, :, y + dy, x + dx] if inside else torch.zeros(2, 4)
                    cosine = F.cosine_similarity(a[:, :, y, x], other)
                    torch.testing.assert_close(found[:, dy + 2, dx + 3, y, x], cosine, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("right", "down"), [(2, 0), (-3, 1), (0, -1), (0, 0)])
def test_a_shifted_map_is_found_where_it_went(right: int, down: int) -> None:
    first = torch.randn(1, 16, 12, 20, generator=torch.Generator().manual_seed(0))
    moved = first.roll((down, right), (2, 3))
    similarity = correlate(first, moved, reach=(3, 1))
    shift = expected_shift(similarity, torch.tensor(100.0), reach=(3, 1))
    inner = shift[:, :, 2:-2, 4:-4]
    torch.testing.assert_close(
        inner, torch.tensor([right, down])[:, None, None].expand_as(inner[0])[None].float(), atol=1e-3, rtol=0
    )


def test_motions_of_a_clip_are_those_of_its_pairs(net: PoseNet) -> None:
    pixels = torch.rand(2, 4, 3, 24, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = net(pixels)
    assert found.shape == (2, 3, 4, 4)
    for i in range(3):
        _, pair = net.compare(net.encode(pixels[:, i]), net.encode(pixels[:, i + 1]))
        torch.testing.assert_close(found[:, i], pair.motion, atol=1e-5, rtol=0)
        assert pair.image.shape == pair.weight.shape == (2, 48, 2)
        assert (pair.inverse_depth > 0).all()
        assert (pair.weight > 0).all()


def test_files_hold_the_network_and_where_it_came_from(net: PoseNet, tmp_path: Path) -> None:
    save_pose(tmp_path / "motion.safetensors", net, provenance={"steps": 3, "data": "test"})
    loaded = load_pose(tmp_path / "motion.safetensors")
    assert loaded.config == CONFIG
    pixels = torch.rand(1, 2, 3, 24, 32)
    assert torch.equal(loaded(pixels), net(pixels))
    tensors, header = load_tensors(tmp_path / "motion.safetensors")
    assert header["provenance"] == {"steps": 3, "data": "test"}
    for told, said in (
        ({"format": 0}, "pose format 0"),
        ({"format": True}, "pose format True"),
        ({"config": 3}, "table"),
    ):
        save_tensors(tmp_path / "old.safetensors", tensors, header={**header, **told})
        with pytest.raises(ValueError, match=rf"old\.safetensors: .*{said}"):
            load_pose(tmp_path / "old.safetensors")
    tensors.pop("coarse.bias")
    save_tensors(tmp_path / "part.safetensors", tensors, header=header)
    with pytest.raises(ValueError, match=r"missing coarse\.bias"):
        load_pose(tmp_path / "part.safetensors")


def test_sizes_have_to_divide_into_cells() -> None:
    with pytest.raises(ValueError, match="cells of 4"):
        dataclasses.replace(CONFIG, width=30)
