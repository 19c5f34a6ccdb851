import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import TINY_RELEASE
from worldenv.models.dit import WorldDiT
from worldenv.models.pretrained.release import find_release, is_release, weight_files
from worldenv.models.pretrained.worldplay import (
    WORLDPLAY_5B,
    component_order,
    config_from_diffusers,
    load_transformer,
    released_slots,
    released_state,
)

CONFIG = config_from_diffusers(TINY_RELEASE["transformer"])


@pytest.fixture
def weights(release_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(release_dir / "transformer.safetensors", tmp_path))


def test_the_released_sizes() -> None:
    """889 tensors and 5,293,225,152 parameters, and every one of our parameters is filled exactly once."""
    slots = released_slots(WORLDPLAY_5B)
    assert len(slots) == 889
    count = sum(torch.Size(slot.shape).numel() for slot in slots.values())
    assert count == 5_293_225_152
    with torch.device("meta"):
        parameters = dict(WorldDiT(WORLDPLAY_5B).named_parameters())
    assert sum(p.numel() for p in parameters.values()) == count
    filled = dict.fromkeys(parameters, 0)
    for slot in slots.values():
        rows = slot.rows or (0, len(parameters[slot.ours]))
        filled[slot.ours] += (rows[1] - rows[0]) * parameters[slot.ours][0].numel()
    assert filled == {name: p.numel() for name, p in parameters.items()}


def test_released_weights_come_back_bit_for_bit(weights: Path) -> None:
    dit = load_transformer(CONFIG, [weights])
    state, wanted = released_state(dit), load_file(weights)
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in wanted.items())


def test_heads_are_regrouped_by_component() -> None:
    order = component_order(2, 8)
    # The release holds groups of four (a b c d | a b c d), ours quarters (a a b b c c d d), head by head.
    assert order.tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]


def test_shards_and_the_distilled_file_hold_the_same_model(weights: Path, tmp_path: Path) -> None:
    tensors = load_file(weights)
    names = sorted(tensors)
    folder = tmp_path / "wan_transformer"
    folder.mkdir()
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, keys in parts.items():
        save_file({k: tensors[k] for k in keys}, folder / file)
    index = {"weight_map": {k: file for file, keys in parts.items() for k in keys}}
    (folder / "x.safetensors.index.json").write_text(json.dumps(index))
    torch.save({"generator": {f"model._fsdp_wrapped_module.{k}": v for k, v in tensors.items()}}, tmp_path / "model.pt")
    for files in (weight_files(folder), [tmp_path / "model.pt"]):
        state = released_state(load_transformer(CONFIG, files))
        assert all(torch.equal(state[name], tensor) for name, tensor in tensors.items())
    (folder / "b.safetensors").unlink()
    with pytest.raises(ValueError, match=r"b\.safetensors missing.*names it"):
        weight_files(folder)


def test_clean_numerics_keep_embeddings_in_float32(weights: Path) -> None:
    clean = load_transformer(CONFIG, [weights], dtype=torch.bfloat16)
    released = load_transformer(replace(CONFIG, numerics="reference"), [weights], dtype=torch.bfloat16)
    assert clean.time_proj.weight.dtype == clean.blocks[0].scale_shift_table.dtype == torch.float32
    assert clean.proj_out.weight.dtype == torch.bfloat16
    assert {p.dtype for p in released.parameters()} == {torch.bfloat16}


def test_a_checkpoint_that_does_not_fit_is_refused_with_what_is_wrong(weights: Path, tmp_path: Path) -> None:
    tensors = load_file(weights)

    def refused(change: dict[str, torch.Tensor | None], match: str) -> None:
        other = {k: v for k, v in {**tensors, **change}.items() if v is not None}
        save_file(other, tmp_path / "other.safetensors")
        with pytest.raises(ValueError, match=match):
            load_transformer(CONFIG, [tmp_path / "other.safetensors"])

    refused({"proj_out.bias": None}, r"1 missing \(proj_out.bias\); 0 unexpected")
    refused({"lora.weight": torch.zeros(1)}, r"0 missing; 1 unexpected \(lora.weight\)")
    refused({"proj_out.bias": torch.zeros(5)}, r"1 of another shape \(proj_out.bias: \(5,\) for \(16,\)\)")
    refused({"double_blocks.0.img_attn_qkv.weight": torch.zeros(1)}, "HunyuanVideo variant")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_transformer(CONFIG, [weights])


def test_pickled_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("run",)

    torch.save({"generator": Evil()}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="not the distilled checkpoint"):
        load_transformer(CONFIG, [tmp_path / "model.pt"])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"qk_norm": "rms_norm"}, "qk_norm='rms_norm', expected 'rms_norm_across_heads'"),
        ({"image_dim": 1280}, "image_dim=1280"),
        ({"patch_size": [2, 2, 2]}, "patch_size"),
        ({"out_channels": 16}, "in_channels=4 and out_channels=16 differ"),
    ],
)
def test_another_architecture_is_refused(change: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        config_from_diffusers({**TINY_RELEASE["transformer"], **change})


def test_a_missing_size_is_named() -> None:
    values = {k: v for k, v in TINY_RELEASE["transformer"].items() if k != "ffn_dim"}
    with pytest.raises(ValueError, match="ffn_dim is missing"):
        config_from_diffusers(values)


def test_release_directories_are_recognised(release_dir: Path, tmp_path: Path) -> None:
    assert is_release(release_dir)
    assert not is_release(tmp_path)
    with pytest.raises(ValueError, match="no WorldPlay"):
        find_release(tmp_path)
    folder = tmp_path / "wan_transformer"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY_RELEASE["transformer"]))
    assert is_release(tmp_path)
    with pytest.raises(ValueError, match="put the vae folder"):
        find_release(tmp_path)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text(json.dumps(TINY_RELEASE["vae"]))
    with pytest.raises(ValueError, match="no safetensors files"):
        find_release(tmp_path)
    (tmp_path / "wan_distilled_model").mkdir()
    (tmp_path / "wan_distilled_model" / "model.pt").touch()
    assert find_release(tmp_path).weights == [tmp_path / "wan_distilled_model" / "model.pt"]
